"""Builds the RFC 5322 message of a send: 7-bit safe, no header can be injected.

The standard library makes the body; the header lines are written here. Its own folding (CPython 3.11) lets an
encoded word break out of its header, drops the quotes of long names and encodes long URLs and message ids.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from email.header import Header
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from schemas.requests import SendRequest
from schemas.sending import Sender

POLICY = SMTP.clone(cte_type="7bit")
OWN_HEADERS = frozenset(
    {
        "from",
        "to",
        "cc",
        "bcc",
        "sender",
        "date",
        "message-id",
        "subject",
        "mime-version",
        "content-type",
        "content-transfer-encoding",
        "content-disposition",
        "return-path",
        "received",
        "dkim-signature",
        "list-unsubscribe",
        "list-unsubscribe-post",
        "auto-submitted",
        "resent-from",
        "resent-to",
        "resent-cc",
        "resent-bcc",
    }
)
"""Headers that mailfleet alone sets; a request that names one is invalid."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,75}")
_BREAK = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/?^_`{|}~ -]*")
_FOREIGN_WORD = r"[^ ]*(?:[^ -~]|=\?)[^ ]*"
_FOREIGN = re.compile(rf"{_FOREIGN_WORD}(?: +{_FOREIGN_WORD})*")
_TOKEN = re.compile(r" *[^ ]+")
MAX_HEADER = 900
MAX_NAME = 200
FOLD_AT = 78


class HeaderInvalid(ValueError):
    """A header cannot be set; the text names it."""


@dataclass(frozen=True)
class Identity:
    """What stays the same for every attempt of a send."""

    token: str
    message_id: str


def identity(token: str, mailbox: str) -> Identity:
    """Return the fixed Message-ID of a send: its token at the sender's domain."""
    return Identity(token, f"<{token}@{_domain(mailbox)}>")


def check_headers(subject: str, names: tuple[str, ...], headers: dict[str, str]) -> None:
    """Raise HeaderInvalid for an empty subject, a line break anywhere, or a header that is not upstream's."""
    if not subject.strip():
        raise HeaderInvalid("subject is empty")
    _check("subject", subject, MAX_HEADER)
    for name in names:
        _check("a display name", name, MAX_NAME)
    if len({name.lower() for name in headers}) < len(headers):
        raise HeaderInvalid("a header is named twice")
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise HeaderInvalid(f"header name {name!r} is not allowed")
        if name.lower() in OWN_HEADERS:
            raise HeaderInvalid(f"header {name} is set by mailfleet")
        _check(f"header {name}", value, MAX_HEADER)


def _check(what: str, value: str, longest: int) -> None:
    if _BREAK.search(value):
        raise HeaderInvalid(f"{what} has a line break or a control character")
    if len(value) > longest:
        raise HeaderInvalid(f"{what} is longer than {longest} characters")


def build(request: SendRequest, sender: Sender, who: Identity, date: datetime) -> bytes:
    """Return the message with CRLF line ends. Raises HeaderInvalid."""
    check_headers(request.subject, (request.to_name, request.from_name, sender.name), request.headers)
    url = f"{sender.unsubscribe_url}{who.token}" if sender.unsubscribe_url else ""
    headers = [
        ("From", _mailbox(request.from_name or sender.name, sender.mailbox)),
        ("To", _mailbox(request.to_name, request.to)),
        ("Subject", _words(request.subject)),
        ("Date", format_datetime(date)),
        ("Message-ID", who.message_id),
    ]
    ways = [url, unsubscribe_mailto(sender, who.token)]
    if any(ways):
        headers.append(("List-Unsubscribe", ", ".join(f"<{way}>" for way in ways if way)))
    if url:
        headers.append(("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"))
    headers.extend((name, _words(value)) for name, value in request.headers.items())
    body = EmailMessage(policy=POLICY)
    body.set_content(_filled(request.text, url, sender.postal_address))
    if request.html:
        body.add_alternative(_filled(request.html, url, sender.postal_address), subtype="html")
    return b"".join(_line(name, value) for name, value in headers) + body.as_bytes()


def envelope_sender(sender: Sender, token: str) -> str:
    """Return the envelope sender: VERP with the token where a bounce domain is ours, else the mailbox."""
    return f"b+{token}@{sender.bounce_domain}" if sender.bounce_domain else sender.mailbox


def unsubscribe_mailto(sender: Sender, token: str) -> str:
    """Return the mailto URI that unsubscribes (RFC 2369 3.2), or "" when nobody reads such mail."""
    local, _, domain = sender.unsubscribe_mailto.rpartition("@")
    return f"mailto:{local}+{token}@{domain}?subject=unsubscribe" if local else ""


def envelope_recipient(address: str) -> str:
    """Return the address as SMTP takes it: its domain in IDNA. Raises HeaderInvalid."""
    return f"{address.strip().rpartition('@')[0]}@{_domain(address)}"


def _domain(address: str) -> str:
    try:
        return address.strip().rpartition("@")[2].encode("idna").decode("ascii")
    except UnicodeError as error:
        raise HeaderInvalid("the domain of an address is not valid") from error


def _mailbox(name: str, address: str) -> str:
    """Return `name <address>`, the name quoted or in encoded-words where it needs that (RFC 5322 3.2.5)."""
    name = " ".join(name.split())
    if not name:
        return envelope_recipient(address)
    if not name.isascii() or "=?" in name:
        phrase = _encoded(name)
    elif _ATOMS.fullmatch(name):
        phrase = name
    else:
        phrase = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{phrase} <{envelope_recipient(address)}>"


def _words(text: str) -> str:
    """Return ASCII words as they are and runs of other words, or of what looks encoded, in encoded-words."""
    return _FOREIGN.sub(lambda run: _encoded(run[0]), text.replace("\t", " ").strip())


def _encoded(text: str) -> str:
    return " ".join(Header(text, "utf-8", maxlinelen=75).encode().split())


def _line(name: str, value: str) -> bytes:
    """Return the header, folded at spaces only; no continuation is blank. Raises HeaderInvalid."""
    if _BREAK.search(value) or not value.isascii():
        raise HeaderInvalid(f"header {name} has a line break or is not ASCII")
    lines = [f"{name}:"]
    for token in _TOKEN.findall(f" {value}"):
        if len(lines[-1]) + len(token) > FOLD_AT and lines[-1] != f"{name}:":
            lines.append(token)
        else:
            lines[-1] += token
    return "\r\n".join([*lines, ""]).encode("ascii")


def _filled(text: str, url: str, postal_address: str) -> str:
    return text.replace("{{unsubscribe_url}}", url).replace("{{postal_address}}", postal_address)
