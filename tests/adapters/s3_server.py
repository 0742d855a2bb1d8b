"""S3's protocol on real sockets: PutObject, GetObject, HeadObject, DeleteObject, ListObjectsV2, If-None-Match.

Signatures are checked with botocore's own signer. `conditional` off makes it answer as Backblaze B2 does; `down`
makes it answer 503, as any store does at times. Pages are short, so that paging is tried.
"""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

PAGE = 7
"""A page of a listing; `page` of a server for tests that are not about listings."""
STATUS = {"PreconditionFailed": 412, "NotImplemented": 501, "NoSuchKey": 404, "NoSuchBucket": 404, "SlowDown": 503}
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([a-z0-9-]+)/s3/aws4_request, "
    r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})"
)


@dataclass
class S3Server:
    """One bucket. `objects` maps a key to (body, when it was written)."""

    bucket: str = "bucket"
    keys: tuple[str, str] = ("key-id", "secret")
    conditional: bool = True
    down: bool = False
    page: int = PAGE
    objects: dict[str, tuple[bytes, datetime]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    headers: set[str] = field(default_factory=set)
    port: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator["S3Server"]:
        """Answer on a loopback port."""
        server = self

        class Handler(_Handler):
            s3 = server

        listening = _Quiet(("127.0.0.1", self.port), Handler)
        listening.daemon_threads = True
        self.port = listening.server_address[1]
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            listening.shutdown()
            listening.server_close()
            thread.join()


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed hangs up; whatever else is wrong it sees as no answer."""


class _Handler(BaseHTTPRequestHandler):
    s3: S3Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_PUT(self) -> None:
        self._do("PutObject")

    def do_GET(self) -> None:
        self._do("GetObject")

    def do_HEAD(self) -> None:
        self._do("HeadObject")

    def do_DELETE(self) -> None:
        self._do("DeleteObject")

    def _do(self, operation: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        path = unquote(urlsplit(self.path).path).lstrip("/")
        bucket, _, key = path.partition("/")
        if operation == "GetObject" and not key:
            operation = "ListObjectsV2"
        with self.s3.lock:
            self.s3.calls.append(f"{operation} {key}")
            self.s3.headers.update(name.lower() for name in self.headers)
            if self.s3.down:
                return self._error("SlowDown")
            if not self._signed(body):
                return self._error("SignatureDoesNotMatch")
            if bucket != self.s3.bucket:
                return self._error("NoSuchBucket")
            return self._answer(operation, key, body)

    def _answer(self, operation: str, key: str, body: bytes) -> None:
        held = self.s3.objects
        if operation == "ListObjectsV2":
            return self._list()
        if operation == "PutObject":
            return self._put(key, body)
        if operation == "DeleteObject":
            held.pop(key, None)
            return self._send(204, b"")
        if key not in held:
            return self._error("NoSuchKey")
        return self._send(200, held[key][0], etag=hashlib.md5(held[key][0]).hexdigest())

    def _put(self, key: str, body: bytes) -> None:
        condition = self.headers.get("If-None-Match")
        if condition is not None and not self.s3.conditional:
            return self._error("NotImplemented")
        if condition == "*" and key in self.s3.objects:
            return self._error("PreconditionFailed")
        self.s3.objects[key] = body, datetime.now(UTC)
        return self._send(200, b"", etag=hashlib.md5(body).hexdigest())

    def _list(self) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        assert query["list-type"] == "2"
        after = query.get("continuation-token", "")
        names = sorted(k for k in self.s3.objects if k.startswith(query.get("prefix", "")) and k > after)
        page, more = names[: self.s3.page], len(names) > self.s3.page
        items = "".join(
            f"<Contents><Key>{escape(k)}</Key><LastModified>{self.s3.objects[k][1]:%Y-%m-%dT%H:%M:%S.000Z}"
            f"</LastModified><Size>{len(self.s3.objects[k][0])}</Size></Contents>"
            for k in page
        )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        text = (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{items}</ListBucketResult>"
        )
        self._send(200, text.encode())

    def _signed(self, body: bytes) -> bool:
        found = _AUTHORIZATION.fullmatch(self.headers.get("Authorization", ""))
        if found is None or found[1] != self.s3.keys[0]:
            return False
        if self.headers["x-amz-content-sha256"] not in (hashlib.sha256(body).hexdigest(), "UNSIGNED-PAYLOAD"):
            return False
        parts = urlsplit(self.path)
        request = AWSRequest(self.command, f"{self.s3.url}{parts.path}", data=body)
        request.params = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        for name in found[3].split(";"):
            request.headers[name] = self.headers[name]
        request.context["timestamp"] = self.headers["X-Amz-Date"]
        signer = S3SigV4Auth(Credentials(*self.s3.keys), "s3", found[2])
        text = signer.string_to_sign(request, signer.canonical_request(request))
        return bool(signer.signature(text, request) == found[4])

    def _error(self, code: str) -> None:
        body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'.encode()
        self._send(STATUS.get(code, 403), body)

    def _send(self, status: int, body: bytes, etag: str = "") -> None:
        self.send_response(status)
        if etag:
            self.send_header("ETag", f'"{etag}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
