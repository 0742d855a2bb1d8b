"""DKIM signatures (RFC 6376, rsa-sha256, relaxed/relaxed) for MTAs that do not sign by themselves.

Canonical forms are dkimpy's. Its RSA is pure Python (9 ms a mail), so the signature itself is OpenSSL's (under 2 ms).
Options of a route: `dkim_domain`, `dkim_selector`, `dkim_key_ref` (a secret: the private key in PEM, RSA of 2048 bits).
"""

import base64
import hashlib
import re
import textwrap
from datetime import UTC, datetime
from functools import lru_cache

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from dkim.canonicalization import Relaxed

from adapters.secrets import Secrets
from schemas.sending import RouteCall

SIGNED = (
    *("from", "to", "cc", "reply-to", "subject", "date", "message-id", "in-reply-to", "references"),
    *("mime-version", "content-type", "content-transfer-encoding"),
    *("list-id", "list-unsubscribe", "list-unsubscribe-post", "feedback-id"),
)
"""Headers that are signed where they stand; RFC 8058 wants both of List-Unsubscribe."""
SEALED = ("from", "to", "subject", "date", "message-id", "list-unsubscribe", "list-unsubscribe-post")
"""Headers that nobody can add one more of: named once more than they stand (RFC 6376 8.15)."""
FOLD = "\r\n\t"
LEAST_BITS = 1024  # receivers refuse less (RFC 8301 3.2)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


class CannotSign(Exception):
    """A mail cannot be signed as its route asks; the text says why, without the key."""


class Signer:
    """Signs what the route's options ask for; keys are read anew for each mail."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    def sign(self, raw: bytes, call: RouteCall) -> bytes:
        """Return the mail as it shall leave. Raises CannotSign and SecretMissing."""
        domain = call.options.get("dkim_domain", "")
        if not domain:
            return raw
        missing = [name for name in ("dkim_selector", "dkim_key_ref") if not call.options.get(name)]
        if missing:
            raise CannotSign(f"route {call.route} names dkim_domain but not {' and '.join(missing)}")
        key = self._secrets.resolve(call.options["dkim_key_ref"])
        return signed(raw, domain, call.options["dkim_selector"], key, datetime.now(UTC))


def signed(raw: bytes, domain: str, selector: str, key: str, at: datetime) -> bytes:
    """Return the mail (CRLF line ends) with a DKIM-Signature of `domain` before it. Raises CannotSign."""
    if not (_NAME.fullmatch(domain) and _NAME.fullmatch(selector)):
        raise CannotSign("dkim_domain and dkim_selector are host names")
    head, _, body = raw.partition(b"\r\n\r\n")
    headers = _headers(head + b"\r\n")
    names = _names(headers)
    digest = base64.b64encode(hashlib.sha256(Relaxed.canonicalize_body(body)).digest()).decode()
    tags = [
        f"v=1; a=rsa-sha256; c=relaxed/relaxed; d={domain}; s={selector};",
        f"t={int(at.timestamp())}; bh={digest};",
        *textwrap.wrap(f"h={': '.join(names)};", 76, break_on_hyphens=False),
        "b=",
    ]
    unsigned = FOLD.join(tags)
    ((_, own),) = Relaxed.canonicalize_headers([(b"DKIM-Signature", f"{unsigned}\r\n".encode())])
    text = b"".join(f"{name}:".encode() + value for name, value in _chosen(headers, names))
    text += b"dkim-signature:" + own.removesuffix(b"\r\n")
    signature = base64.b64encode(_key(key).sign(text, padding.PKCS1v15(), hashes.SHA256())).decode()
    return f"DKIM-Signature: {unsigned}{FOLD.join(textwrap.wrap(signature, 72))}\r\n".encode() + raw


def _headers(head: bytes) -> list[tuple[str, bytes]]:
    """Return (name in lower case, canonical value) in their order."""
    found = re.findall(rb"^([!-9;-~]+):((?:[^\r]*\r\n)(?:[ \t][^\r]*\r\n)*)", head, re.MULTILINE)
    return [(name.decode(), value) for name, value in Relaxed.canonicalize_headers(found)]


def _names(headers: list[tuple[str, bytes]]) -> list[str]:
    """Return h=: each signed header as often as it stands, a sealed one once more."""
    there = [name for name, _ in headers]
    return [name for name in SIGNED for _ in range(there.count(name) + (name in SEALED))]


def _chosen(headers: list[tuple[str, bytes]], names: list[str]) -> list[tuple[str, bytes]]:
    """Return the headers behind h=, the last of a name first (RFC 6376 5.4.2)."""
    left = list(reversed(headers))
    chosen = []
    for name in names:
        at = next((n for n, (there, _) in enumerate(left) if there == name), None)
        if at is not None:
            chosen.append(left.pop(at))
    return chosen


@lru_cache(maxsize=64)
def _key(pem: str) -> rsa.RSAPrivateKey:
    """Return the key; reading one takes longer than signing with it."""
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CannotSign("the DKIM key is no private key in PEM without a password") from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < LEAST_BITS:
        raise CannotSign(f"the DKIM key is not RSA of at least {LEAST_BITS} bits")
    return key
