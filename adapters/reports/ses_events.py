"""What Amazon SES's events say, as SNS carries them: of event publishing, and of the older identity notifications.

Of the SES developer guide (contents of event data that SES publishes to SNS, notification contents), 2026-11. Tags
come with event publishing alone; our Message-ID, which has the token too, stands among the mail's headers.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
import orjson

from adapters.interface import reply_of
from adapters.reports.dsn import MAX_RECIPIENTS
from adapters.reports.finding import Kind
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
from adapters.reports.ses import finding
from schemas.reports import ReportKind
from schemas.sending import Reply

VALIDATED = b"Successfully validated SNS topic"
IGNORED = ("Open", "Click", "AmazonSnsSubscriptionSucceeded")

_ABOUT: Mapping[str, tuple[str, str]] = {
    "Bounce": ("bounce", "bouncedRecipients"),
    "Complaint": ("complaint", "complainedRecipients"),
    "Delivery": ("delivery", "recipients"),
    "DeliveryDelay": ("deliveryDelay", "delayedRecipients"),
    "Send": ("send", ""),
    "Reject": ("reject", ""),
    "Rendering Failure": ("failure", ""),
    "Subscription": ("subscription", ""),
}
"""Event → where it tells of itself, and which recipients; without such a list all of the mail's are meant."""
_KINDS: Mapping[str, ReportKind] = {
    "Bounce": "bounce",
    "Complaint": "complaint",
    "Delivery": "delivered",
    "DeliveryDelay": "bounce",
    "Send": "accepted",
    "Reject": "bounce",
    "Rendering Failure": "bounce",
    "Subscription": "unsubscribe",
}


def parse(raw: bytes) -> Told:
    """Return what the message of a notification says. Raises NotAnEvent."""
    if raw.lstrip().startswith(VALIDATED):
        return Told("validated")
    try:
        told = orjson.loads(raw)
    except ValueError:
        raise NotAnEvent("no JSON") from None  # the error holds the text
    name = text(told, "eventType") or text(told, "notificationType")
    if not name:
        raise NotAnEvent("no name of an event")
    if name not in _ABOUT:
        return Told(name if name in IGNORED else "other")
    return Told(name, tuple(_events(told, name)))


def _events(told: Any, name: str) -> list[ProviderEvent]:
    key, listed = _ABOUT[name]
    about, mail = within(told, key), within(told, "mail")
    at = moment(within(about, "timestamp")) or moment(within(mail, "timestamp"))
    if not isinstance(about, dict) or not isinstance(mail, dict) or at is None:
        raise NotAnEvent(f"{name} without its parts")
    if name == "Subscription" and not _leaves(about):
        return []
    recipients = within(about, listed) if listed else within(mail, "destination")
    if not isinstance(recipients, list) or not recipients:
        raise NotAnEvent(f"{name} of nobody")
    token = _token(mail)
    meant = recipients[:1] if token else recipients[:MAX_RECIPIENTS]  # our mail has one recipient
    return [_event(name, about, mail, one, at, token, index) for index, one in enumerate(meant)]


def _event(
    name: str, about: dict[str, Any], mail: Any, one: object, at: datetime, token: str, index: int
) -> ProviderEvent:
    subtype = text(about, "bounceSubType") if name == "Bounce" else text(about, "complaintSubType")
    left = name == "Bounce" and subtype == "UnsubscribedRecipient"  # SES's own list management turned it away
    kind = "unsubscribe" if left else _KINDS[name]
    own = (
        name != "Bounce"
        or _is_ses(text(about, "reportingMTA"))
        or subtype in ("Suppressed", "OnAccountSuppressionList")
    )
    return ProviderEvent(
        kind=kind,
        provider="ses",
        event_id=_event_id(name, about, mail, at, index),
        at=at,
        recipient=(text(one, "emailAddress") if isinstance(one, dict) else one if isinstance(one, str) else "")[:320],
        token=token,
        attempt=attempt_in(_tag(mail, ATTEMPT_TAG)),
        provider_id=text(mail, "messageId")[:200],
        reported_by="ses" if own else "",
        action=_action(name, about, subtype) if not left else "",
        reply=None if left else _reply(name, about, one),
    )


def _event_id(name: str, about: object, mail: object, at: datetime, index: int) -> str:
    """SES gives no id to each event: the feedback's, else the mail's with its time."""
    parts = (text(mail, "messageId"), name, text(about, "feedbackId") or at.isoformat(), str(index))
    return f"ses/{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:32]}"


def _tag(mail: object, name: str) -> str:
    found = within(mail, "tags", name)
    return found[0] if isinstance(found, list) and found and isinstance(found[0], str) else ""


def _token(mail: object) -> str:
    headers = within(mail, "headers")
    ids = [
        text(header, "value")
        for header in (headers if isinstance(headers, list) else [])
        if text(header, "name").lower() == "message-id"
    ]
    return token_in(_tag(mail, TOKEN_TAG), *ids, text(mail, "commonHeaders", "messageId"))


def _leaves(about: object) -> bool:
    """Whether a change of preferences is a wish for no more mail, of all or of any topic."""
    new = within(about, "newTopicPreferences")
    topics = within(new, "topicSubscriptionStatus")
    out = [text(t, "subscriptionStatus") == "OptOut" for t in topics] if isinstance(topics, list) else []
    return within(new, "unsubscribeAll") is True or any(out)


def _action(name: str, about: object, subtype: str) -> str:
    """A complaint of the account's list is an old one: the mail was not tried. It is told apart by its action."""
    if name == "Complaint":
        listed = subtype == "OnAccountSuppressionList"
        return "on-account-suppression-list" if listed else text(about, "complaintFeedbackType")[:40]
    return {"Bounce": "failed", "DeliveryDelay": "delayed", "Reject": "failed", "Rendering Failure": "failed"}.get(
        name, ""
    )


def _is_ses(reporting_mta: str) -> bool:
    return reporting_mta.rstrip(" .").lower().endswith((".amazonses.com", ".amazonaws.com"))


def _reply(name: str, about: dict[str, Any], one: object) -> Reply | None:
    match name:
        case "Reject":
            return reply_of("ses", "request", 0, text(about, "reason") or "rejected")
        case "Rendering Failure":
            return reply_of("ses", "request", 0, f"Rendering Failure: {text(about, 'errorMessage')}")
        case "Bounce" | "DeliveryDelay" | "Delivery":
            return _quoted(name, about, one)
        case _:
            return None


def _quoted(name: str, about: dict[str, Any], one: object) -> Reply:
    """Return the receiving server's reply; where none is quoted, the type and subtype stand in its place."""
    kind: Kind = "success" if name == "Delivery" else "bounce"
    found = finding(kind, about, one)
    if name == "Delivery" and not found.code:
        found = msgspec.structs.replace(found, code=250)
    if name == "DeliveryDelay":
        said = found.text or text(about, "delayType")
        found = msgspec.structs.replace(found, code=found.code or 450, text=said)
    return reply_of(found.provider or "ses", found.stage, found.code, f"{found.status} {found.text}".strip())
