"""Read models `bounces`, `complaints`, `replies` and `stray_reports`: what came back of mail that was sent."""

from collections.abc import Iterable

from projections.read_model import Place, Statement
from schemas.registry import Fact
from schemas.reports import (
    ReportForged,
    ReportUncorrelated,
    SendAnsweredByMachine,
    SendComplained,
    SendReplied,
    SendUnsubscribed,
)
from schemas.sending import Carried, Letter, SendBounced, SendRef, SendReturned

_BOUNCE = """
insert into bounces (journal, partition, seq, n, client, send_id, recipient, attempt, mailbox, route, receiver, list_id,
    bounce_class, hard, fault, action, rule, status, reply_code, reply_text, sent_again, bounced_at)
values (%(journal)s, %(partition)s, %(seq)s, %(n)s, %(client)s, %(send_id)s, %(recipient)s, %(attempt)s, %(mailbox)s,
    %(route)s, %(receiver)s, %(list_id)s, %(class)s, %(hard)s, %(fault)s, %(action)s, %(rule)s, %(status)s, %(code)s,
    %(text)s, %(again)s, %(at)s)
"""
_COMPLAINT = """
insert into complaints (journal, partition, seq, n, client, send_id, recipient, attempt, mailbox, route, receiver,
    list_id, kind, source, feedback, complained_at)
values (%(journal)s, %(partition)s, %(seq)s, %(n)s, %(client)s, %(send_id)s, %(recipient)s, %(attempt)s, %(mailbox)s,
    %(route)s, %(receiver)s, %(list_id)s, %(kind)s, %(source)s, %(feedback)s, %(at)s)
"""
_REPLY = """
insert into replies (journal, partition, seq, n, client, send_id, recipient, attempt, kind, mailbox, folder,
    uid_validity, uid, message_id, replied_at)
values (%(journal)s, %(partition)s, %(seq)s, %(n)s, %(client)s, %(send_id)s, %(recipient)s, %(attempt)s, %(kind)s,
    %(mailbox)s, %(folder)s, %(uid_validity)s, %(uid)s, %(message_id)s, %(at)s)
"""
_STRAY = """
insert into stray_reports (source, event_id, what, kind, why, client, mailbox, folder, uid_validity, uid, reported_at,
    seen_at)
values (%(source)s, %(event_id)s, %(what)s, %(kind)s, %(why)s, %(client)s, %(mailbox)s, %(folder)s, %(uid_validity)s,
    %(uid)s, %(reported_at)s, %(at)s)
on conflict (source, event_id, what) do nothing
"""


def project(fact: Fact, place: Place) -> Iterable[Statement]:
    """Yield what the fact changes."""
    match fact:
        case SendBounced() | SendReturned():
            yield _BOUNCE, _about(fact.ref, fact.attempt, place) | _carried(fact.carried) | _said(fact)
        case SendComplained():
            told = {"kind": "complaint", "source": fact.source, "feedback": fact.feedback}
            yield _COMPLAINT, _about(fact.ref, fact.attempt, place) | _carried(fact.carried) | told
        case SendUnsubscribed():
            told = {"kind": "unsubscribe", "source": fact.source, "feedback": ""}
            yield _COMPLAINT, _about(fact.ref, fact.attempt, place) | _carried(fact.carried) | told
        case SendReplied():
            yield _REPLY, _about(fact.ref, fact.attempt, place) | {"kind": "reply"} | _letter(fact.letter)
        case SendAnsweredByMachine():
            yield _REPLY, _about(fact.ref, fact.attempt, place) | {"kind": fact.kind} | _letter(None)
        case ReportUncorrelated():
            stray = {"what": "uncorrelated", "kind": fact.kind, "why": fact.why, "client": fact.client}
            yield _STRAY, _letter(fact.letter) | _stray(fact, place) | stray
        case ReportForged():
            stray = {"what": "forged", "kind": "", "why": "its token is not ours", "client": ""}
            yield _STRAY, _letter(None) | _stray(fact, place) | stray


def _place(place: Place) -> dict[str, object]:
    where = {"journal": place.journal, "partition": place.partition, "seq": place.seq, "n": place.n}
    return {**where, "at": place.at}


def _about(ref: SendRef, attempt: int, place: Place) -> dict[str, object]:
    named = {"client": ref.client, "send_id": ref.send_id, "recipient": ref.recipient, "attempt": attempt}
    return {**_place(place), **named}


def _carried(by: Carried | None) -> dict[str, object]:
    if by is None:
        return {"mailbox": "", "route": "", "receiver": "", "list_id": ""}
    return {"mailbox": by.mailbox, "route": by.route, "receiver": by.receiver, "list_id": by.list_id}


def _said(fact: SendBounced | SendReturned) -> dict[str, object]:
    means, reply = fact.verdict, fact.reply
    return {
        "class": means.reply_class,
        "hard": means.action == "suppress",
        "fault": means.fault,
        "action": means.action,
        "rule": means.rule,
        "status": reply.enhanced,
        "code": reply.code,
        "text": reply.text,
        "again": isinstance(fact, SendReturned),
    }


def _letter(letter: Letter | None) -> dict[str, object]:
    lies = letter or Letter(mailbox="", folder="", uid_validity=0, uid=0, message_id="")  # type: ignore[arg-type]  # nowhere
    names = ("mailbox", "folder", "uid_validity", "uid", "message_id")
    return {name: getattr(lies, name) for name in names}


def _stray(fact: ReportUncorrelated | ReportForged, place: Place) -> dict[str, object]:
    told = {"source": fact.source, "event_id": fact.event_id, "reported_at": fact.at, "at": place.at}
    return {**told, "mailbox": fact.mailbox}
