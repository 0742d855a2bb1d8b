"""Makes facts of a message that was read: one for each recipient that it reports of, at least one, never an error.

Addresses become keyed hashes here; neither subject nor text of a letter goes on.
"""

import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from adapters.interface import reply_of
from adapters.reports.dmarc import looks_like_report
from adapters.reports.finding import Finding, Kind
from adapters.reports.mime import read
from adapters.reports.parse import parse, tokens
from adapters.reports.quoted import provider_of
from adapters.reports.report import Report, cut
from schemas.ids import ClientId, MailboxAddress
from schemas.reports import Letter, ReportForged, ReportKind, ReportSeen, ReportUncorrelated, StrayKind
from schemas.sending import Reply
from streams.delivery.identity import delivery_key, key_in, key_of_nobody, recipients_named, token_is_ours

log = logging.getLogger(__name__)

AnyReport = ReportSeen | ReportForged | ReportUncorrelated
KINDS: Mapping[Kind, StrayKind] = {
    "bounce": "bounce",
    "success": "delivered",
    "complaint": "complaint",
    "auto_reply": "auto_reply",
    "challenge": "challenge",
    "reply": "reply",
    "unknown": "unknown",
}
BOUNCES = "b"
"""The local part before the token of a return path (adapters/message.py); before another stands an unsubscribe."""
_TO = ("delivered-to", "x-original-to", "envelope-to", "x-envelope-to", "apparently-to", "to", "cc")
_PLUS = re.compile(r"(?<![\w.+-])([\w.-]{1,60})\+([a-z2-7]{39})@([\w.-]{1,253})", re.IGNORECASE)
_ID = re.compile(r"<([a-z2-7]{39})@([\w.-]{1,253})>", re.IGNORECASE)
_NAMED = re.compile(r"<[^<>\s]{3,}>")
_MACHINE = re.compile(r"mailer-?daemon|postmaster|no-?reply|do-?not-?reply|bounce", re.IGNORECASE)
ODD = (ArithmeticError, LookupError, ValueError, TypeError, AttributeError, RecursionError)
PROVIDERS = ("zoho", "ses", "mailgun")


@dataclass(frozen=True)
class Place:
    """Where a message was read, and when it came there. `event` names it among all messages."""

    event: str
    mailbox: MailboxAddress
    client: ClientId
    at: datetime
    folder: str = ""
    uid_validity: int = 0
    uid: int = 0


@dataclass(frozen=True)
class Found:
    """A fact for delivery-inputs and its key."""

    key: bytes
    fact: AnyReport


def reports_in(raw: bytes, place: Place, fleet_key: bytes) -> list[Found]:
    """Return what a message says of each recipient; a DMARC report is one of nobody here: it must not be a bounce."""
    found = reports_but_dmarc(raw, place, fleet_key)
    return [_stray("unknown", place, 0, "a DMARC report: `mailfleet read-dmarc` counts it")] if found is None else found


def reports_but_dmarc(raw: bytes, place: Place, fleet_key: bytes) -> list[Found] | None:
    """Return what a message says of each recipient, None for a DMARC report, which is counted elsewhere.

    A message that ends its reading is a report of nobody.
    """
    try:
        letter = read(raw)
        return None if looks_like_report(raw, letter) else _reports(cut(letter), raw, place, fleet_key)
    except ODD as error:  # the readers bear all that was ever tried on them; the messages behind must not wait
        log.error("%s: a message could not be understood: %s", place.event, type(error).__name__)
        return [_stray("unknown", place, 0, f"the message could not be understood ({type(error).__name__})")]


def is_for_a_person(fact: AnyReport) -> bool:
    """Whether somebody should open the message: it is to stay as new as it came."""
    return not isinstance(fact, ReportForged) and fact.kind in ("reply", "unknown")


def not_taken(place: Place, why: str) -> Found:
    """Return what is recorded of a DMARC report that cannot be counted."""
    return _stray("unknown", place, 0, f"a DMARC report that does not count: {why}")


def not_given(place: Place) -> Found:
    """Return what is recorded of a message that its server does not give, however often it is asked."""
    return _stray("unknown", place, 0, "the server does not give this message")


def _reports(report: Report, raw: bytes, place: Place, fleet_key: bytes) -> list[Found]:
    named = [word for name in _TO for value in report.letter.headers.get(name, ()) for word in _PLUS.findall(value)]
    ours = next((token for token in tokens(report) if token_is_ours(token, fleet_key)), "")
    if not ours and _claims(named, report, place):
        event = _event(place, 0)
        return [Found(key_of_nobody(event), ReportForged("bounce_mail", event, place.at, place.mailbox))]
    wishes = [token.lower() for local, token, _ in named if local.lower() != BOUNCES]
    if ours in wishes:
        wish = Finding(kind="unknown", recipient="", family="none")
        return [_report("unsubscribe", wish, ours, report, place, 0, fleet_key)]
    return [
        _report(_kind(finding, ours, report), finding, ours, report, place, index, fleet_key)
        for index, finding in enumerate(parse(raw))
    ]


def _claims(named: list[tuple[str, str, str]], report: Report, place: Place) -> bool:
    """Whether the message says that it is about a mail of ours: it came to an address, or answers a Message-ID, that
    only we give. Others have tokens too, at other places."""
    domain = place.mailbox.rpartition("@")[2]
    if any(local.lower() == BOUNCES or host.lower() == domain for local, _, host in named):
        return True
    answered = (v for name in ("in-reply-to", "references") for v in report.letter.headers.get(name, ()))
    return any(host.lower() == domain for value in answered for _, host in _ID.findall(value))


def _kind(finding: Finding, token: str, report: Report) -> StrayKind:
    """A letter of a person that quotes our mail, without the marks of a reply, is one."""
    if finding.kind == "unknown" and token and finding.recipient and not _MACHINE.search(finding.recipient):
        returned_to_nobody = [value.strip() for value in report.letter.headers.get("return-path", ())] == ["<>"]
        return "unknown" if returned_to_nobody else "reply"
    return KINDS[finding.kind]


def _report(
    kind: StrayKind, finding: Finding, token: str, report: Report, place: Place, index: int, fleet_key: bytes
) -> Found:
    who, who_loosely = recipients_named(finding.recipient, fleet_key)
    letter = _letter(place, _message_id(report))
    name = _name(report, index)
    if kind == "unknown":
        return _stray(kind, place, index, "the message says nothing that is known", letter, name)
    if not token and not who:
        why = "the message names neither a send of ours nor a recipient"
        return _stray(kind, place, index, why, letter, name)
    fact = ReportSeen(
        kind=kind,
        source="bounce_mail",
        event_id=_event(place, index),
        at=place.at,
        token=token,
        recipient=who,
        recipient_loose=who_loosely,
        client=place.client,
        mailbox=place.mailbox,
        reported_by=_reporter(finding),
        action=finding.action,
        reply=_reply(kind, finding),
        letter=letter if kind == "reply" else _letter(place, ""),  # only a person's is looked for by its Message-ID
        letter_id=name,
    )
    return Found(key_in(token) if token else delivery_key(who), fact)


def _reply(kind: ReportKind, finding: Finding) -> Reply | None:
    if kind not in ("bounce", "delivered"):
        return None
    return reply_of(finding.provider or "smtp", finding.stage, finding.code, f"{finding.status} {finding.text}")


def _reporter(finding: Finding) -> str:
    named = provider_of(finding.reporting_mta)
    return named if named in PROVIDERS else ""


def _stray(kind: StrayKind, place: Place, index: int, why: str, letter: Letter | None = None, name: str = "") -> Found:
    """A message with a name of its own is one report of nobody, however often and wherever it is read."""
    event = f"letter/{name}" if name else _event(place, index)
    lies = letter or _letter(place, "")
    fact = ReportUncorrelated(kind, "bounce_mail", event, place.at, why, place.client, place.mailbox, lies)
    return Found(key_of_nobody(event), fact)


def _message_id(report: Report) -> str:
    found = (report.letter.headers.get("message-id") or [""])[0]
    return "".join(c for c in found[:400] if c.isprintable())


def _name(report: Report, index: int) -> str:
    """Return what names a finding of this message in every mailbox, folder and UIDVALIDITY, "" when nothing does.

    Some servers bounce under the Message-ID of the mail that they bounce, some programs give all they write the same:
    an id of ours names no other message, and the date is part of the name.
    """
    message_id = _message_id(report).strip()
    if not _NAMED.fullmatch(message_id) or _ID.fullmatch(message_id):
        return ""
    written = report.letter.header("date")
    return f"{hashlib.sha256(f'{message_id} {written}'.encode()).hexdigest()[:32]}/{index}"


def _letter(place: Place, message_id: str) -> Letter:
    return Letter(place.mailbox, place.folder, place.uid_validity, place.uid, message_id)


def _event(place: Place, index: int) -> str:
    return f"{place.event}/{index}"
