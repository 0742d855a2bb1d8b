"""Builds the RFC 5322 message of a send, by the standard library: 7-bit safe, no header can be injected."""

import re
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
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
_BREAK = re.compile(r"[\r\n\x00]")


class HeaderInvalid(ValueError):
    """A header cannot be set; the text names it."""


@dataclass(frozen=True)
class Identity:
    """What stays the same for every attempt of a send."""

    token: str
    message_id: str


def identity(token: str, mailbox: str) -> Identity:
    """Return the fixed Message-ID of a send: its token at the sender's domain."""
    return Identity(token, f"<{token}@{mailbox.rpartition('@')[2]}>")


def check_headers(subject: str, names: tuple[str, ...], headers: dict[str, str]) -> None:
    """Raise HeaderInvalid for an empty subject, a line break anywhere, or a header that is not upstream's."""
    if not subject.strip():
        raise HeaderInvalid("subject is empty")
    for what, value in (("subject", subject), *(("a display name", name) for name in names)):
        if _BREAK.search(value):
            raise HeaderInvalid(f"{what} has a line break")
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise HeaderInvalid(f"header name {name!r} is not allowed")
        if name.lower() in OWN_HEADERS:
            raise HeaderInvalid(f"header {name} is set by mailfleet")
        if _BREAK.search(value):
            raise HeaderInvalid(f"header {name} has a line break")
        if len(value) > 900:
            raise HeaderInvalid(f"header {name} is longer than 900 characters")


def build(request: SendRequest, sender: Sender, who: Identity, date: datetime) -> bytes:
    """Return the message with CRLF line ends. Raises HeaderInvalid."""
    check_headers(request.subject, (request.to_name, request.from_name, sender.name), request.headers)
    url = f"{sender.unsubscribe_url}{who.token}" if sender.unsubscribe_url else ""
    message = EmailMessage(policy=POLICY)
    message["From"] = _address(request.from_name or sender.name, sender.mailbox)
    message["To"] = _address(request.to_name, request.to.strip())
    message["Subject"] = request.subject
    message["Date"] = format_datetime(date)
    message["Message-ID"] = who.message_id
    if url:
        message["List-Unsubscribe"] = f"<{url}>"
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    for name, value in request.headers.items():
        message[name] = value
    message.set_content(_filled(request.text, url, sender.postal_address))
    if request.html:
        message.add_alternative(_filled(request.html, url, sender.postal_address), subtype="html")
    return message.as_bytes()


def envelope_sender(sender: Sender, token: str) -> str:
    """Return the envelope sender: VERP with the token where a bounce domain is ours, else the mailbox."""
    return f"b+{token}@{sender.bounce_domain}" if sender.bounce_domain else sender.mailbox


def _address(name: str, address: str) -> Address:
    local, _, domain = address.rpartition("@")
    return Address(name, local, domain.encode("idna").decode("ascii"))


def _filled(text: str, url: str, postal_address: str) -> str:
    return text.replace("{{unsubscribe_url}}", url).replace("{{postal_address}}", postal_address)
