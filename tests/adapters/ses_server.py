"""Amazon SES, API v2, on real sockets: SendEmail, GetAccount, GetEmailIdentity, GetConfigurationSet,
ListSuppressedDestinations.

Requests and answers are held against botocore's own service model, signatures are checked, what SES does to a mail
is done, and the events that it would publish are kept. A script makes it misbehave at any step.
"""

import asyncio
import base64
import json
import re
import socket
import ssl
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.utils import format_datetime, parseaddr
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel, Shape
from botocore.validate import ParamValidator

from tests.adapters.scripted_smtp import Cut, Raw, Silence

Step = Literal["handshake", "head", "body", "request", "answer"]
"""`request`: it is there whole and nothing was done; `answer`: it was done and only the answer is left."""

MODEL = ServiceModel(Loader().load_service_model("sesv2", "service-2"))
OPERATIONS = {
    name: MODEL.operation_model(name)
    for name in (
        *("SendEmail", "GetAccount", "GetEmailIdentity", "GetConfigurationSet"),
        "ListSuppressedDestinations",
    )
}
COMMON_ERRORS: Mapping[str, int] = {
    "AccessDeniedException": 403,
    "ExpiredTokenException": 403,
    "IncompleteSignatureException": 403,
    "InternalFailure": 500,
    "InvalidSignatureException": 403,
    "MissingAuthenticationTokenException": 403,
    "OptInRequired": 403,
    "RequestExpired": 400,
    "ServiceUnavailable": 503,
    "ThrottlingException": 400,
    "UnrecognizedClientException": 403,
    "UnknownOperationException": 404,
    "ValidationError": 400,
}
"""Errors of every AWS service, in no service's model (SES API reference, Common Errors, 2026-11)."""
TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")
SET_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([a-z0-9-]+)/ses/aws4_request, "
    r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})"
)
EICAR = b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE"
SIMULATOR = "simulator.amazonses.com"
MAX_RECIPIENTS = 50
MAX_LINE = 1000
CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True)
class Fault:
    """Answer with this error: of the model, of every AWS service, or with a status of its own."""

    name: str
    message: str = ""
    status: int = 0  # 0: what the model says
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Drip:
    """Answer octet by octet, with this pause between them."""

    pause_s: float


Behaviour = Fault | Drip | Raw | Cut | Silence


@dataclass
class Account:
    """The account of the region, as GetAccount shows it."""

    sending: bool = True
    suspended: bool = False
    enforcement: str = "HEALTHY"
    production: bool = True
    max_24_hours: float = 50_000.0
    per_second: float = 14.0
    sent_24_hours: float = 0.0


@dataclass
class Identity:
    """A domain or an address that the account may send as."""

    verified: bool = True
    dkim: str = "SUCCESS"
    signs: bool = True
    mail_from: str = ""
    mail_from_status: str = "SUCCESS"


@dataclass(frozen=True)
class Taken:
    """One mail that SendEmail took: as it was asked for, and as SES would deliver it."""

    message_id: str
    feedback_to: str
    recipients: tuple[str, ...]
    raw: bytes
    tags: Mapping[str, str]
    configuration_set: str
    delivered: bytes


class ApiError(Exception):
    """The API says no."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name, self.message = name, message


class _HungUp(Exception):
    """The script ended the connection."""


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class SesServer:
    """One region of one account. Without a script it does what SES does."""

    region = "eu-west-1"

    def __init__(self, context: ssl.SSLContext | None, keys: dict[str, str]) -> None:
        self.keys = keys  # access key id → secret; an access key with a session token stands in `session_tokens`
        self.session_tokens: dict[str, str] = {}
        self.account = Account()
        self.identities: dict[str, Identity] = {}
        self.configuration_sets: dict[str, bool] = {}
        self.script: dict[Step, Behaviour] = {}
        self.taken: list[Taken] = []
        self.suppressed: list[tuple[str, str]] = []  # address and BOUNCE or COMPLAINT
        self.records: list[dict[str, Any]] = []  # the events that configuration sets publish, in order
        self.log: list[str] = []
        self.connections = 0
        self.port = 0
        self._context = context
        self._listener: socket.socket | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"{'http' if self._context is None else 'https'}://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen on a free port of loopback."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._begin(self._accept(self._listener))

    async def stop(self) -> None:
        """Close everything."""
        self.stop_listening()
        self.hang_up()
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stop_listening(self) -> None:
        """Refuse further connections."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def is_connected(self) -> bool:
        """Whether anybody is."""
        return bool(self._open)

    def hang_up(self, *, politely: bool = False) -> None:
        """Break every open connection off, or end it in order."""
        for writer in self._open:
            if politely:
                writer.close()
            else:
                writer.transport.abort()

    # ── connections ──────────────────────────────────────────────────────────────────────────────

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                accepted, _ = await asyncio.get_running_loop().sock_accept(listener)
            except OSError:
                return  # it listens no more
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else an end in order waits for an ACK
            self.connections += 1
            self._begin(self._serve(accepted))

    async def _serve(self, accepted: socket.socket) -> None:
        writer: asyncio.StreamWriter | None = None
        try:
            secured = "handshake" not in self.script
            reader, writer = await self._streams(accepted, self._context if secured else None)
            self._open.add(writer)
            if not secured:
                await self._act(self.script["handshake"], reader, writer)
            while (request := await self._read(reader, writer)) is not None:
                await self._answer(request, reader, writer)
        except (_HungUp, OSError, asyncio.IncompleteReadError):
            pass  # a broken conversation is what most scripts are about
        finally:
            if writer is None:
                accepted.close()
            else:
                self._open.discard(writer)
                writer.close()

    async def _streams(
        self, accepted: socket.socket, context: ssl.SSLContext | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=2**20)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted, ssl=context)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> _Request | None:
        first = await reader.readline()
        if not first:
            return None
        self.log.append(" ".join(first.decode("latin-1").split(" ")[:2]))
        method, path, _version = first.decode("latin-1").split(" ")
        headers: dict[str, str] = {}
        while (line := (await reader.readline()).decode("latin-1")) != "\r\n":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        await self._act_at("head", reader, writer)
        length = int(headers.get("content-length", "0"))
        half = await reader.readexactly(length // 2)
        await self._act_at("body", reader, writer)
        return _Request(method, path, headers, half + await reader.readexactly(length - len(half)))

    async def _answer(self, request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        operation: OperationModel | None = None
        try:
            if isinstance(fault := self.script.get("request"), Fault):
                operation = OPERATIONS["SendEmail"]
                octets = _error(operation, fault.name, fault.message, fault.status, fault.headers)
            else:
                await self._act_at("request", reader, writer)
                operation, named = _route(request)
                self._check_signature(request)
                octets = _answer(200, _shaped(self._do(operation, _params(operation, request.body, named)), operation))
        except ApiError as error:
            octets = _error(operation or OPERATIONS["SendEmail"], error.name, error.message)
        behaviour = self.script.get("answer")
        if isinstance(behaviour, Fault):
            octets = _error(OPERATIONS["SendEmail"], behaviour.name, behaviour.message, behaviour.status)
        elif isinstance(behaviour, Drip):
            for octet in octets:
                writer.write(bytes([octet]))
                await writer.drain()
                await asyncio.sleep(behaviour.pause_s)
            return
        elif behaviour is not None:
            await self._act(behaviour, reader, writer)
            return
        writer.write(octets)
        await writer.drain()

    async def _act_at(self, step: Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if step in self.script:
            await self._act(self.script[step], reader, writer)

    async def _act(self, behaviour: Behaviour, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match behaviour:
            case Raw(octets):
                writer.write(octets)
                await writer.drain()
                writer.close()
            case Cut(politely=True):
                writer.close()
            case Cut():
                writer.transport.abort()
            case Silence():
                while await reader.read(2**16):
                    pass
            case Fault() | Drip():
                raise AssertionError("an answer has its place at `request` and `answer`")
        raise _HungUp

    # ── the API ──────────────────────────────────────────────────────────────────────────────────

    def _check_signature(self, request: _Request) -> None:
        """Check it as AWS does (Signature Version 4), with botocore's own arithmetic."""
        said = AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
        if said is None:
            raise ApiError("MissingAuthenticationTokenException", "Missing Authentication Token")
        access_key, _day, region, names, signature = said.groups()
        secret = self.keys.get(access_key)
        if secret is None or request.headers.get("x-amz-security-token") != self.session_tokens.get(access_key):
            raise ApiError("UnrecognizedClientException", "The security token included in the request is invalid.")
        at = request.headers["x-amz-date"]
        signed = AWSRequest(
            request.method,
            f"https://{request.headers['host']}{request.path}",
            {name: request.headers[name] for name in names.split(";")},
            request.body,
        )
        signed.context["timestamp"] = at
        auth = SigV4Auth(Credentials(access_key, secret), "ses", self.region)
        right = auth.signature(auth.string_to_sign(signed, auth.canonical_request(signed)), signed)
        age = abs(datetime.now(UTC) - datetime.strptime(at, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC))
        if region != self.region or signature != right or age > CLOCK_SKEW:
            text = "The request signature we calculated does not match the signature you provided."
            raise ApiError("InvalidSignatureException", text)

    def _do(self, operation: OperationModel, params: Mapping[str, Any]) -> dict[str, Any]:
        match operation.name:
            case "SendEmail":
                return self._send_email(params)
            case "GetAccount":
                return self._get_account()
            case "GetEmailIdentity":
                return self._get_email_identity(params["EmailIdentity"])
            case "ListSuppressedDestinations":
                return self._list(int(params.get("NextToken", "0")), params.get("PageSize", 1000))
            case "GetConfigurationSet":
                name = params["ConfigurationSetName"]
                return {"ConfigurationSetName": name, "SendingOptions": {"SendingEnabled": self._is_on(name)}}
        raise AssertionError(operation.name)

    def _send_email(self, params: Mapping[str, Any]) -> dict[str, Any]:
        raw: bytes = params["Content"]["Raw"]["Data"]
        recipients = tuple(a for kind in ("To", "Cc", "Bcc") for a in params["Destination"].get(f"{kind}Addresses", ()))
        feedback_to = params.get("FeedbackForwardingEmailAddress", "")
        self._check_mail(raw, recipients)
        tags = {tag["Name"]: tag["Value"] for tag in params.get("EmailTags", ())}
        for text in (*tags, *tags.values()):
            if not TAG.fullmatch(text):
                raise ApiError("BadRequestException", f"Invalid message tag: {text}.")
        name = params.get("ConfigurationSetName", "")
        if name and not SET_NAME.fullmatch(name):
            raise ApiError("BadRequestException", f"Invalid configuration set name <{name}>.")
        self._check_account(name)
        sender = parseaddr(str(message_from_bytes(raw)["From"]))[1]
        self._check_identities([sender, *([feedback_to] if feedback_to else [])], recipients)
        self.account.sent_24_hours += len(recipients)
        message_id = f"0102{uuid.uuid4().hex[:12]}-{uuid.uuid4()}-000000"
        delivered = _rewritten(raw, message_id, self.region)
        taken = Taken(message_id, feedback_to, recipients, raw, tags, name, delivered)
        self.taken.append(taken)
        if name:
            self.records += records_of(taken, sender, self.region)
        return {"MessageId": message_id}

    def _check_mail(self, raw: bytes, recipients: tuple[str, ...]) -> None:
        if not 1 <= len(recipients) <= MAX_RECIPIENTS:
            raise ApiError("MessageRejected", "Recipient count exceeds 50." if recipients else "No recipients.")
        for address in recipients:
            if not re.fullmatch(r"[^@\s]+@[^@\s]+", address):
                raise ApiError("BadRequestException", "Missing final '@domain'")
            if not address.isascii():
                raise ApiError("BadRequestException", "Domain contains illegal character")
        head, separator, _body = raw.partition(b"\r\n\r\n")
        if not separator or not re.search(rb"^From:", head, re.MULTILINE | re.IGNORECASE):
            raise ApiError("BadRequestException", "Missing required header 'From'.")
        if max(map(len, raw.split(b"\r\n"))) > MAX_LINE:
            raise ApiError("BadRequestException", "A line of the message is longer than 1000 characters.")

    def _check_account(self, configuration_set: str) -> None:
        if self.account.suspended:
            raise ApiError("AccountSuspendedException", "Your account's ability to send email has been suspended.")
        if not self.account.sending or (configuration_set and not self._is_on(configuration_set)):
            raise ApiError("SendingPausedException", "Email sending is paused.")
        if 0 <= self.account.max_24_hours <= self.account.sent_24_hours:
            raise ApiError("TooManyRequestsException", "Daily message quota exceeded.")

    def _check_identities(self, senders: list[str], recipients: tuple[str, ...]) -> None:
        asked = senders if self.account.production else [*senders, *recipients]
        failed = [address for address in asked if not self._is_verified(address) and not address.endswith(SIMULATOR)]
        if failed:
            where = f"The following identities failed the check in region {self.region.upper()}: {', '.join(failed)}"
            raise ApiError("MessageRejected", f"Email address is not verified. {where}")
        for address in senders:
            found = self.identities.get(address.rpartition("@")[2])
            if found is not None and found.mail_from and found.mail_from_status != "SUCCESS":
                text = f"The MAIL FROM domain {found.mail_from} is not verified."
                raise ApiError("MailFromDomainNotVerifiedException", text)

    def _is_verified(self, address: str) -> bool:
        """Whether the address, its domain or a parent domain is a verified identity."""
        labels = address.rpartition("@")[2].split(".")
        names = [address, *(".".join(labels[n:]) for n in range(len(labels)))]
        return any(name in self.identities and self.identities[name].verified for name in names)

    def _is_on(self, configuration_set: str) -> bool:
        if configuration_set not in self.configuration_sets:
            raise ApiError("NotFoundException", f"Configuration set <{configuration_set}> does not exist.")
        return self.configuration_sets[configuration_set]

    def _get_account(self) -> dict[str, Any]:
        account = self.account
        return {
            "DedicatedIpAutoWarmupEnabled": True,
            "EnforcementStatus": account.enforcement,
            "ProductionAccessEnabled": account.production,
            "SendQuota": {
                "Max24HourSend": account.max_24_hours,
                "MaxSendRate": account.per_second,
                "SentLast24Hours": account.sent_24_hours,
            },
            "SendingEnabled": account.sending,
            "SuppressionAttributes": {"SuppressedReasons": ["BOUNCE", "COMPLAINT"]},
        }

    def _list(self, skip: int, size: int) -> dict[str, Any]:
        found = [
            {"EmailAddress": address, "Reason": reason, "LastUpdateTime": datetime.now(UTC)}
            for address, reason in self.suppressed[skip : skip + size]
        ]
        more = {"NextToken": str(skip + size)} if skip + size < len(self.suppressed) else {}
        return {"SuppressedDestinationSummaries": found, **more}

    def _get_email_identity(self, name: str) -> dict[str, Any]:
        found = self.identities.get(name)
        if found is None:
            raise ApiError("NotFoundException", f"Email identity {name} does not exist.")
        said: dict[str, Any] = {
            "IdentityType": "EMAIL_ADDRESS" if "@" in name else "DOMAIN",
            "FeedbackForwardingStatus": True,
            "VerifiedForSendingStatus": found.verified,
            "VerificationStatus": "SUCCESS" if found.verified else "PENDING",
            "DkimAttributes": {"SigningEnabled": found.signs, "Status": found.dkim, "Tokens": ["a", "b", "c"]},
        }
        if found.mail_from:
            said["MailFromAttributes"] = {
                "MailFromDomain": found.mail_from,
                "MailFromDomainStatus": found.mail_from_status,
                "BehaviorOnMxFailure": "REJECT_MESSAGE",
            }
        return said


# ── the wire: rest-json as botocore's model describes it ─────────────────────────────────────────


def _asked(operation: OperationModel, query: str) -> dict[str, Any]:
    """Return the members that stand in the query string, as the model's types."""
    members = operation.input_shape.members if query else {}
    named = {
        shape.serialization["name"]: (name, shape) for name, shape in members.items() if "name" in shape.serialization
    }
    pairs = [(*named[key], value) for key, value in parse_qsl(query)]
    return {name: int(value) if shape.type_name == "integer" else value for name, shape, value in pairs}


def _route(request: _Request) -> tuple[OperationModel, dict[str, Any]]:
    """Return the operation that method and path name, and the members that stand in the path."""
    path, _, query = request.path.partition("?")
    for operation in OPERATIONS.values():
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", operation.http["requestUri"])
        found = re.fullmatch(pattern, path)
        if found is not None and operation.http["method"] == request.method:
            return operation, {name: unquote(value) for name, value in found.groupdict().items()} | _asked(
                operation, query
            )
    raise ApiError("UnknownOperationException", "")


def _params(operation: OperationModel, body: bytes, named: dict[str, Any]) -> Mapping[str, Any]:
    """Return the members of a request. Raises ApiError for what the model does not have."""
    shape: Shape | None = operation.input_shape
    try:
        params: dict[str, Any] = _unpacked(json.loads(body), shape) if body else {}
    except ValueError as error:
        raise ApiError("BadRequestException", f"not JSON, or not base64: {error}") from None
    params.update(named)
    report = ParamValidator().validate(params, shape)
    if report.has_errors():
        raise ApiError("BadRequestException", report.generate_report())
    return params


def _unpacked(value: Any, shape: Any) -> Any:
    """Return JSON as the model's types: blobs travel in base64."""
    if shape is None:
        return value
    if shape.type_name == "structure" and isinstance(value, dict):
        return {name: _unpacked(member, shape.members.get(name)) for name, member in value.items()}
    if shape.type_name == "list" and isinstance(value, list):
        return [_unpacked(member, shape.member) for member in value]
    if shape.type_name == "blob":
        return base64.b64decode(value, validate=True)
    return value


def _shaped(said: dict[str, Any], operation: OperationModel) -> bytes:
    report = ParamValidator().validate(said, operation.output_shape)
    assert not report.has_errors(), report.generate_report()
    return json.dumps(said, default=lambda moment: moment.timestamp()).encode()


def _error(
    operation: OperationModel, name: str, message: str, status: int = 0, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return an error on the wire: its name in a header, its message in the body (rest-json 1)."""
    if not status:
        modelled = {shape.name: shape.metadata["error"]["httpStatusCode"] for shape in operation.error_shapes}
        status = {**COMMON_ERRORS, **modelled}[name]
    named = {"x-amzn-ErrorType": name} if name else {}
    body = json.dumps({"message": message}, ensure_ascii=False).encode("utf-8", "surrogateescape")
    return _answer(status, body, {**named, **(headers or {})})


def _answer(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    named = {
        "Date": format_datetime(datetime.now(UTC), usegmt=True),
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "keep-alive",
        "x-amzn-RequestId": str(uuid.uuid4()),
        **(headers or {}),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status} \r\n{head}\r\n".encode("latin-1") + body


# ── what SES does to a mail, and what it says of it ──────────────────────────────────────────────


def _rewritten(raw: bytes, message_id: str, region: str) -> bytes:
    """Return the mail with SES's own Message-ID and Date (developer guide, header fields)."""
    head, separator, body = raw.partition(b"\r\n\r\n")
    kept = [
        line for line in re.split(rb"\r\n(?![ \t])", head) if not re.match(rb"(message-id|date):", line, re.IGNORECASE)
    ]
    named = f"Message-ID: <{message_id}@{region}.amazonses.com>".encode()
    dated = f"Date: {format_datetime(datetime.now(UTC))}".encode()
    return b"\r\n".join([*kept, named, dated]) + separator + body


def records_of(taken: Taken, sender: str, region: str) -> list[dict[str, Any]]:
    """Return the events of a mail as SES publishes them: Send, then what becomes of it at each recipient.

    Shapes: developer guide, "Examples of event data", 2026-11. The mailbox simulator's addresses behave as theirs.
    """
    at = datetime.now(UTC)
    message = message_from_bytes(taken.delivered)
    mail = {
        "timestamp": _stamp(at),
        "messageId": taken.message_id,
        "source": sender,
        "sourceArn": f"arn:aws:ses:{region}:123456789012:identity/{sender.rpartition('@')[2]}",
        "sendingAccountId": "123456789012",
        "destination": list(taken.recipients),
        "headersTruncated": False,
        "headers": [{"name": name, "value": str(value)} for name, value in message.items()],
        "commonHeaders": {
            "from": [str(message["From"])],
            "to": [str(message["To"])],
            "messageId": taken.message_id,
            "subject": str(message["Subject"]),
        },
        "tags": {
            "ses:operation": ["SendEmail"],
            "ses:configuration-set": [taken.configuration_set],
            "ses:from-domain": [sender.rpartition("@")[2]],
            "ses:caller-identity": ["mailfleet"],
            **{name: [value] for name, value in taken.tags.items()},
        },
    }
    told = [{"eventType": "Send", "mail": mail, "send": {}}]
    if EICAR in taken.raw:
        return [*told, {"eventType": "Reject", "mail": mail, "reject": {"reason": "Bad content"}}]
    return told + [{**event, "mail": mail} for recipient in taken.recipients for event in _fate(recipient, at)]


def _fate(recipient: str, at: datetime) -> list[dict[str, Any]]:
    name = recipient.partition("@")[0].partition("+")[0] if recipient.endswith(f"@{SIMULATOR}") else ""
    later = _stamp(at + timedelta(seconds=1))
    delivery = {
        "eventType": "Delivery",
        "delivery": {
            "timestamp": later,
            "processingTimeMillis": 546,
            "recipients": [recipient],
            "smtpResponse": "250 2.6.0 Message received",
            "reportingMTA": "a7-30.smtp-out.eu-west-1.amazonses.com",
        },
    }
    said = {"emailAddress": recipient, "action": "failed", "status": "5.1.1"}
    bounce = {"bounceType": "Permanent", "timestamp": later, "feedbackId": str(uuid.uuid4())}
    match name:
        case "bounce":
            diagnostic = "smtp; 550 5.1.1 user unknown"
            bounce |= {"bounceSubType": "General", "reportingMTA": "dns; a7-30.smtp-out.eu-west-1.amazonses.com"}
            return [
                {
                    "eventType": "Bounce",
                    "bounce": {**bounce, "bouncedRecipients": [said | {"diagnosticCode": diagnostic}]},
                }
            ]
        case "suppressionlist":
            bounce |= {"bounceSubType": "OnAccountSuppressionList"}
            return [{"eventType": "Bounce", "bounce": {**bounce, "bouncedRecipients": [said]}}]
        case "complaint":
            complaint = {
                "complainedRecipients": [{"emailAddress": recipient}],
                "timestamp": later,
                "feedbackId": str(uuid.uuid4()),
                "complaintSubType": None,
                "userAgent": "Amazon SES Mailbox Simulator",
                "complaintFeedbackType": "abuse",
                "arrivalDate": later,
            }
            return [delivery, {"eventType": "Complaint", "complaint": complaint}]
        case _:
            return [delivery]


def _stamp(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
