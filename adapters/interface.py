"""The contract of every way out: what an adapter is given, what it may say, where the claim stands.

Before `claim()` says yes nothing may have left; after it the adapter goes on at once, and whatever it
cannot tell for sure is Unknown. An adapter says what was said; it never says what it means.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from schemas.sending import Accepted, NotSent, Outcome, Refused, Reply, RouteCall, Stage

Claim = Callable[[], Awaitable[bool]]
"""Asked once, directly before the point of no return. False: hang up, send nothing, say NotSent("claim")."""

_ENHANCED = re.compile(r"^([245]\.\d{1,3}\.\d{1,3})[ \t]*")
_ADDRESS = re.compile(r"<?[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9.-]+>?")
MAX_REPLY_TEXT = 500
LONGEST_LOOK = 4_000
"""Characters looked at: the search for addresses is quadratic, and a server may say megabytes."""


@dataclass(frozen=True)
class Mail:
    """One message to one recipient, ready to leave. `raw` is RFC 5322 with CRLF, 7-bit safe."""

    envelope_from: str
    recipient: str
    raw: bytes
    token: str = ""  # the send's, 39 characters: for tags and variables of APIs
    attempt: int = 0  # from 1: stands beside the token; 0 is one that is never sought


@dataclass(frozen=True)
class Sought:
    """An attempt whose outcome is unknown: what a provider's own records may know it by."""

    mailbox: str
    token: str
    message_id: str
    claimed_at: datetime
    attempt: int = 0  # as in Mail; a record that names another attempt says nothing of this one


class RouteUnfit(Exception):
    """A route cannot be used as it is; the text says what is wrong and what to do, without secrets or addresses."""


class RecordsUnavailable(Exception):
    """A provider's log or list cannot be read now; the text says why, without secrets or addresses."""

    def __init__(self, why: str, retry_after_s: int | None = None) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


class MailAdapter(Protocol):
    """One way out. `submit` returns an outcome for everything that servers and networks do."""

    async def submit(self, call: RouteCall, mail: Mail, claim: Claim) -> Outcome:
        """Hand `mail` to the server of `call`; ask `claim` directly before the point of no return."""

    async def find(self, call: RouteCall, sought: Sought) -> Accepted | Refused | None:
        """Look into the provider's own records for what became of this attempt, and of no other of its send.

        None proves nothing, also when records cannot be had; only a recorded refusal is Refused.
        """

    async def check(self, call: RouteCall) -> str:
        """Try the route without sending mail (connect, TLS, login, account state); return a sentence.

        Raises RouteUnfit with a sentence that says what is wrong and what to do.
        """

    async def close(self) -> None:
        """Hang up all idle connections."""


def beyond_ascii(mail: Mail) -> NotSent | None:
    """Return the end of a mail whose envelope needs SMTPUTF8 (RFC 6531); None for all others.

    No adapter asks for it: one server on the way without it and the mail comes back.
    """
    if mail.recipient.isascii() and mail.envelope_from.isascii():
        return None
    return NotSent("rcpt", "an address of the envelope has letters beyond ASCII, which needs SMTPUTF8: not supported")


def reply_of(provider: str, stage: Stage, code: int, text: str) -> Reply:
    """Return what was said, with its enhanced code apart and every address replaced by <recipient>."""
    flat = _one_line(text[:LONGEST_LOOK])
    found = _ENHANCED.match(flat)
    enhanced = found[1] if found else ""
    rest = flat[found.end() :] if found else flat
    return Reply(provider, stage, code, enhanced, _ADDRESS.sub("<recipient>", rest)[:MAX_REPLY_TEXT])


def without_addresses(text: str) -> str:
    """Return `text` fit for a fact: one printable line, no addresses."""
    return _ADDRESS.sub("<recipient>", _one_line(text[:LONGEST_LOOK]))[:MAX_REPLY_TEXT]


def _one_line(text: str) -> str:
    """Servers send any octets: neither JSON takes a lone surrogate nor Postgres a NUL."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
