"""What Mailgun's events say, of a webhook or of its Logs API: both have the same shape.

Of Mailgun's user manual (event structure, webhooks) and OpenAPI 3.0.0, 2026-11. `id` is unique within a day only.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from email.utils import parseaddr
from typing import Any

import orjson

from adapters.interface import reply_of
from adapters.reports.provider_event import (
    ATTEMPT_TAG,
    TOKEN_TAG,
    NotAnEvent,
    ProviderEvent,
    Told,
    attempt_in,
    moment,
    text,
    token_in,
    within,
)
from adapters.reports.quoted import UNSAID, provider_of
from schemas.reports import ReportKind
from schemas.sending import Reply

KINDS: Mapping[str, ReportKind] = {
    "accepted": "accepted",
    "delivered": "delivered",
    "failed": "bounce",
    "rejected": "bounce",
    "complained": "complaint",
    "unsubscribed": "unsubscribe",
}
IGNORED = ("opened", "clicked", "stored")
"""Openings and clicks are machines' as often as people's, and mail is sent without tracking."""
LISTED: Mapping[str, int] = {"suppress-bounce": 605, "suppress-unsubscribe": 606, "suppress-complaint": 607}
"""The code of a mail that Mailgun did not try, for a reason of its own lists (user manual, tracking failures)."""
WISHES: Mapping[int, ReportKind] = {606: "unsubscribe", 607: "complaint"}
"""What such a mail tells of the person, as the event itself would have told it: no address is dead."""
NEEDS_TOKEN = ("accepted", "delivered")
"""Events that say nothing of a person: without our token they are of other programs' mail over the same domain."""


def parse(entry: object) -> Told:
    """Return what an event or log entry says. Raises NotAnEvent."""
    name = text(entry, "event").lower()
    if not name:
        raise NotAnEvent("no name of an event")
    if name not in KINDS:
        return Told(name if name in IGNORED else "other")
    at = moment(within(entry, "timestamp")) or moment(within(entry, "@timestamp"))
    if at is None:
        raise NotAnEvent("no time of the event")
    variables = _variables(entry)
    message_id = text(entry, "message", "headers", "message-id").strip("<> ")
    token = token_in(text(variables, TOKEN_TAG), message_id)
    if not token and name in NEEDS_TOKEN:
        return Told(name)
    permanent = name != "failed" or text(entry, "severity") != "temporary"
    reply = _reply(entry, name)
    wish = WISHES.get(reply.code) if name == "failed" and reply is not None else None
    kind = wish or KINDS[name]
    event = ProviderEvent(
        kind=kind,
        provider="mailgun",
        event_id=_event_id(entry, name, at, message_id),
        at=at,
        recipient=_recipient(entry),
        token=token,
        attempt=attempt_in(text(variables, ATTEMPT_TAG)),
        provider_id=message_id,
        reported_by="" if within(entry, "flags", "is-delayed-bounce") is True else "mailgun",
        action="" if kind != "bounce" else "failed" if permanent else "delayed",
        reply=None if wish else reply,
    )
    return Told(name, (event,))


def domain_of(entry: object) -> str:
    """Return the sending domain that an event names, "" when it names none."""
    named = text(entry, "domain", "name") or text(entry, "envelope", "sender").rpartition("@")[2]
    return named.lower()


def _variables(entry: object) -> Any:
    """Our variables; as a JSON text too, seen 2026-11 in Ghost's client."""
    found = within(entry, "user-variables")
    if isinstance(found, str):
        try:
            return orjson.loads(found)
        except ValueError:
            return None
    return found


def _event_id(entry: object, name: str, at: datetime, message_id: str) -> str:
    known = text(entry, "id")[:200]
    if not known:
        known = hashlib.sha256(f"{name}\0{at.isoformat()}\0{message_id}".encode()).hexdigest()[:32]
    return f"mailgun/{at:%Y-%m-%d}/{''.join(c for c in known if c.isprintable())}"


def _recipient(entry: object) -> str:
    """The recipient; of `rejected` only the header tells it."""
    return text(entry, "recipient") or parseaddr(text(entry, "message", "headers", "to"))[1]


def _reply(entry: object, name: str) -> Reply | None:
    """Return what was said: by the receiving server, or by Mailgun where it asked none."""
    if name == "rejected":
        words = text(entry, "reject", "reason") or text(entry, "reject", "description") or text(entry, "reason")
        return reply_of("mailgun", "request", 0, words or "rejected")
    if name not in ("failed", "delivered"):
        return None
    status, reason = within(entry, "delivery-status"), text(entry, "reason")
    words = text(status, "message") or text(status, "description") or reason or name
    said = text(status, "code")
    code = int(said) if said.isascii() and said.isdecimal() and len(said) == 3 else LISTED.get(reason, 0)
    enhanced = text(status, "enhanced-code") or (said if said.count(".") == 2 else "")
    provider = provider_of(words, text(status, "mx-host")) or "mailgun"
    reply = reply_of(provider, UNSAID, code, words)
    return reply if reply.enhanced or not enhanced else reply_of(provider, UNSAID, code, f"{enhanced} {words}")
