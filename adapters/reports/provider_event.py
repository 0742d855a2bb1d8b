"""One recipient of one event, as a provider's own system tells it by webhook or in its log.

Events are read defensively: providers add fields and values at any time, and only what a report needs is looked at.
"""

import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from schemas.reports import ReportKind
from schemas.sending import Reply

TOKEN_TAG = "mailfleet-token"
ATTEMPT_TAG = "mailfleet-attempt"
"""The tags (SES) and variables (Mailgun) that the mail adapters put on each mail."""

_TOKEN = re.compile(r"(?<![a-z0-9])[a-z2-7]{39}(?![a-z0-9])", re.IGNORECASE)
_EARLIEST = datetime(2009, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)
MAX_TEXT = 2_000


class NotAnEvent(ValueError):
    """What came is no event of this provider and never will be; the text says why, without a word of it."""


class ProviderEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a mail to one recipient. Carries an address: it never becomes a fact as it is.

    `event_id` is the same whichever way the event came; `reported_by` is "" where another system refused, later, what
    the provider had handed over.
    """

    kind: ReportKind
    provider: str
    event_id: str
    at: datetime
    recipient: str = ""
    token: str = ""
    attempt: int = 0
    provider_id: str = ""
    reported_by: str = ""
    action: str = ""
    reply: Reply | None = None


class Told(msgspec.Struct, frozen=True):
    """An event by its provider's name, "other" when it is none that we know, and what it reports of, if anything."""

    name: str
    events: tuple[ProviderEvent, ...] = ()


def within(value: object, *names: str) -> Any:
    """Return what stands under these names, one inside the other; None when it is not there."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def text(value: object, *names: str) -> str:
    """Return the text under these names, bounded; "" when there is none."""
    found = within(value, *names)
    if isinstance(found, bool) or not isinstance(found, str | int):
        return ""
    return (found if isinstance(found, str) else f"{found:.0f}" if abs(found) < 10**15 else "")[:MAX_TEXT]


def token_in(*texts: str) -> str:
    """Return the first send's token that stands in the texts, whoever made it; "" when none does."""
    for one in texts:
        found = _TOKEN.search(one)
        if found is not None:
            return found[0].lower()
    return ""


def attempt_in(said: str) -> int:
    """Return the attempt's number, 0 when it is none."""
    return int(said) if said.isascii() and said.isdecimal() and len(said) <= 4 else 0


def moment(value: object) -> datetime | None:
    """Return the moment that is meant by seconds since 1970 or by RFC 3339; None when it is neither, or absurd."""
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found = datetime.fromtimestamp(value, UTC)
        else:
            return None
        found = found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return found if _EARLIEST <= found <= _LATEST else None
