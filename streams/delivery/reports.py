"""What comes back after a 250: which send a report is about, and what follows from it.

A report settles the attempt that it is about and no later one; what it says of the person counts whichever it was.
"""

import re
from datetime import datetime, timedelta
from typing import assert_never, cast

from schemas.ids import ClientId, Recipient
from schemas.registry import Fact
from schemas.reports import (
    Letter,
    MtaLineSeen,
    ReportForged,
    ReportKind,
    ReportSeen,
    ReportTaken,
    ReportUncorrelated,
    SendAnsweredByMachine,
    SendComplained,
    SendReplied,
    SendUnsubscribed,
)
from schemas.sending import (
    Carried,
    Reply,
    ReplyClass,
    SendAssigned,
    SendBounced,
    SendCancelled,
    SendDelivered,
    SendReturned,
    Verdict,
)
from streams.delivery.attempt import FOR_ALL, accepted
from streams.delivery.state import AFTER_250, MOST_RETURNS, DeliveryState, SendRow
from streams.delivery.suppression import suppress, suppressed, waiting
from streams.delivery.verdict import Meaning, meaning

LATEST = timedelta(days=14)
"""How long after a send a report without a token is still taken for its own."""
CLOCKS_DIFFER = timedelta(hours=1)
NOT_THE_RECIPIENTS = ("mailbox", "domain", "route", "network")
AGAIN = ("retry", "retry_same_mailbox", "pause")


# ── which send ───────────────────────────────────────────────────────────────────────────────────


def send_of(state: DeliveryState, fact: ReportSeen) -> SendRow | None:
    """Return the send: by its token, by the provider's id, else the mailbox's last one to the recipient."""
    by_token = state.send_of_token(fact.token)
    if by_token is not None:
        return by_token
    names = (n for r in (fact.recipient, fact.recipient_loose) for n in state.recipient(r).recent)
    rows = [row for n in dict.fromkeys(names) if (row := state.send_named(n)) is not None and has_left(row)]
    rows = [row for row in rows if fact.client in ("", row.request.ref.client)]
    by_id = [row for row in rows if row.provider_id and row.provider_id == fact.provider_id]
    near = [row for row in rows if _is_near(row, fact)]
    return max(by_id or near, key=_began, default=None)


def has_left(row: SendRow) -> bool:
    """Whether a mail of this send has, or may have, gone out: else nothing can come back."""
    return row.assignment is not None and (row.state in ("started", "unknown", *AFTER_250) or bool(row.returned))


def _began(row: SendRow) -> datetime:
    assert row.assignment is not None
    return row.assignment.not_before


def _is_near(row: SendRow, fact: ReportSeen) -> bool:
    assert row.assignment is not None
    after = fact.at - _began(row)
    return row.assignment.sender.mailbox == fact.mailbox and -CLOCKS_DIFFER <= after <= LATEST


def _is_older(row: SendRow, fact: ReportSeen) -> bool:
    """Whether a report is about an attempt before the row's; without an attempt in it, its time says so."""
    if fact.attempt not in (0, row.attempt) or any(fact.at <= before for before in row.returned):
        return True
    return fact.attempt == 0 and row.attempt > 1 and fact.at < _began(row)


# ── what follows ─────────────────────────────────────────────────────────────────────────────────


def seen(state: DeliveryState, fact: ReportSeen, at: datetime) -> list[Fact]:
    """Decide a report; a message that was decided changes nothing when it is read again, from wherever it lies."""
    row = send_of(state, fact)
    whose = row.request.recipient_loose if row is not None else fact.recipient_loose or fact.recipient
    if not fact.letter_id or not whose:
        return _follows(state, row, fact, at)
    if fact.letter_id in state.recipient(whose).letters:
        return []
    return [*_follows(state, row, fact, at), ReportTaken(whose, fact.letter_id)]


def _follows(state: DeliveryState, row: SendRow | None, fact: ReportSeen, at: datetime) -> list[Fact]:
    """What finds no send is counted, and a wish for no more mail is obeyed all the same."""
    if row is None or row.assignment is None or not has_left(row):
        why = "no send to the recipient was found" if row is None else "the send that it names never left"
        return [_uncorrelated(fact, why), *_wish(state, fact)]
    match fact.kind:
        case "bounce":
            return _bounced(state, row, row.assignment, fact, at)
        case "accepted":
            return _arrived(row, row.assignment, fact)
        case "delivered":
            return _delivered(row, row.assignment, fact)
        case "complaint":
            return _complained(state, row, row.assignment, fact)
        case "unsubscribe":
            return _unsubscribed(state, row, row.assignment, fact)
        case "reply":
            return _replied(state, row, row.assignment, fact)
        case "auto_reply" | "challenge":
            return _answered_by_machine(row, row.assignment, fact)
        case other:
            assert_never(other)


def noted(_state: DeliveryState, fact: ReportForged | ReportUncorrelated, _at: datetime) -> list[Fact]:
    """Count what is forged, or what its reader could give to nobody."""
    return [fact]


def mta_line(state: DeliveryState, fact: MtaLineSeen, at: datetime) -> list[Fact]:
    """Take what an agency's own MTA logged: the receiver's answer to a send that the MTA had accepted."""
    row = state.send_of_token(fact.token)
    if fact.status == "deferred" or row is None or not has_left(row):
        return []
    code = re.search(r"\b([245]\d\d)\b", fact.text)
    reply = Reply("mta", "dot", int(code[1]) if code else 0, fact.dsn, fact.text)
    kind: ReportKind = "delivered" if fact.status == "sent" else "bounce"
    report = ReportSeen(kind, "mta_log", "", fact.at, fact.token, provider_id=fact.queue_id, reply=reply)
    return seen(state, report, at)


def _uncorrelated(fact: ReportSeen, why: str) -> ReportUncorrelated:
    return ReportUncorrelated(
        fact.kind, fact.source, fact.event_id, fact.at, why, fact.client, fact.mailbox, fact.letter
    )


def _wish(state: DeliveryState, fact: ReportSeen) -> list[Fact]:
    """Suppress who complains or unsubscribes about a mail that nobody finds, if we know who it is."""
    if not fact.recipient:
        return []
    who = (fact.recipient, fact.recipient_loose)
    if fact.kind == "complaint" and _complaint(fact).action == "suppress":
        return suppress(state, who, FOR_ALL, "complaint", _complaint(fact).rule)
    if fact.kind == "unsubscribe":
        return suppress(state, who, fact.client, "unsubscribe", fact.source)
    return []


def _attempt(row: SendRow, fact: ReportSeen) -> int:
    return fact.attempt or row.attempt


def _carried(row: SendRow, assignment: SendAssigned) -> Carried:
    request = row.request
    box, route = assignment.sender.mailbox, assignment.call.route
    return Carried(box, route, request.receiver, request.list_id, assignment.not_before)


def carried(row: SendRow) -> Carried | None:
    """Who carried the last attempt and to whom."""
    return None if row.assignment is None else _carried(row, row.assignment)


def _who(row: SendRow) -> tuple[Recipient, Recipient]:
    return row.request.ref.recipient, row.request.recipient_loose


# ── it arrived ───────────────────────────────────────────────────────────────────────────────────


def _arrived(row: SendRow, assignment: SendAssigned, fact: ReportSeen) -> list[Fact]:
    """The report proves that the provider has the mail: an open attempt is settled, a returned send stays."""
    if _is_older(row, fact):
        return []
    if row.state == "admitted":  # it was returned, and now somebody has it
        return [SendCancelled(row.request.ref, "it arrived after all")]
    if row.state == "unknown" or (row.state == "started" and _is_sure(row, fact)):
        reply = fact.reply or Reply(assignment.call.provider, "dot", 0, "", f"{fact.kind} by {fact.source}")
        return [accepted(assignment, fact.provider_id or row.provider_id, reply)]
    return []


def _is_sure(row: SendRow, fact: ReportSeen) -> bool:
    """Whether a report about a send whose hand is still at work can only be about this attempt."""
    return fact.attempt == row.attempt or row.attempt == 1


def _delivered(row: SendRow, assignment: SendAssigned, fact: ReportSeen) -> list[Fact]:
    if _is_older(row, fact):
        return []
    found = _arrived(row, assignment, fact)
    if row.state in ("accepted", "assumed_sent", "unknown") or (found and row.state == "started"):
        rule = f"{fact.source} says so"
        found.append(SendDelivered(row.request.ref, row.attempt, rule, _carried(row, assignment)))
    return found


# ── it came back ─────────────────────────────────────────────────────────────────────────────────


def _bounced(
    state: DeliveryState, row: SendRow, assignment: SendAssigned, fact: ReportSeen, at: datetime
) -> list[Fact]:
    if fact.action == "delayed":
        return []
    reply = fact.reply or Reply(fact.reported_by, "dot", 0)
    said = meaning("bounce", fact.action, reply)
    means = _verdict(said)
    ref = row.request.ref
    found: list[Fact] = []
    if not _is_older(row, fact):
        proof = _arrived(row, assignment, fact) if row.state in ("unknown", "started") else []
        if row.state in ("accepted", "unknown") and _may_return(state, row, assignment, fact, means, at):
            box, route, who = assignment.sender.mailbox, assignment.call.route, _carried(row, assignment)
            return [*proof, SendReturned(ref, row.request, row.attempt, box, route, reply, means, fact.at, who)]
        if proof or (row.state in AFTER_250 and "bounced" not in row.heard):
            found = [*proof, SendBounced(ref, row.attempt, reply, means, _carried(row, assignment))]
    if said.hard:
        found += suppress(state, _who(row), FOR_ALL, "hard_bounce", means.rule)
    return found


def _verdict(said: Meaning) -> Verdict:
    assert said.action != "ignore"  # what a bounce means comes from the rules of replies
    return Verdict(cast("ReplyClass", said.report_class), said.fault, said.scope, said.action, said.rule)


def _may_return(
    state: DeliveryState, row: SendRow, assignment: SendAssigned, fact: ReportSeen, means: Verdict, at: datetime
) -> bool:
    """Whether the mail is to go again, at most twice: only on the word of the provider itself that nobody got it.

    Others may be behind a forwarder whose first reader has the mail. What was accepted for sure goes again only by
    no fault of the recipient; an attempt that stayed unknown, whenever time may heal the refusal.
    """
    says = fact.reply.provider if fact.reply is not None else ""
    ours = fact.source == "mta_log" or assignment.call.provider in (fact.reported_by, says)
    return (
        ours
        and (row.state == "unknown" or means.fault in NOT_THE_RECIPIENTS)
        and means.action in AGAIN
        and len(row.returned) < MOST_RETURNS
        and at < row.request.expires_at
        and not suppressed(state, row.request)
    )


# ── the person answered ──────────────────────────────────────────────────────────────────────────


def _complaint(fact: ReportSeen) -> Meaning:
    return meaning("complaint", fact.action, fact.reply or Reply("", "dot", 0))


def _complained(state: DeliveryState, row: SendRow, assignment: SendAssigned, fact: ReportSeen) -> list[Fact]:
    means = _complaint(fact)
    if means.action != "suppress":
        return []
    found = _arrived(row, assignment, fact)
    if "complained" not in row.heard:
        who = _carried(row, assignment)
        found.append(SendComplained(row.request.ref, _attempt(row, fact), fact.source, fact.action, who))
    return _once(found + suppress(state, _who(row), FOR_ALL, "complaint", means.rule))


def _unsubscribed(state: DeliveryState, row: SendRow, assignment: SendAssigned, fact: ReportSeen) -> list[Fact]:
    client = ClientId("") if assignment.sender.unsubscribe_from_all else row.request.ref.client
    found = _arrived(row, assignment, fact)
    if "unsubscribed" not in row.heard:
        who = _carried(row, assignment)
        found.append(SendUnsubscribed(row.request.ref, _attempt(row, fact), fact.source, who))
    return _once(found + suppress(state, _who(row), client, "unsubscribe", fact.source))


def _replied(state: DeliveryState, row: SendRow, assignment: SendAssigned, fact: ReportSeen) -> list[Fact]:
    """A person wrote back: what waits of the same thread is not sent any more."""
    letter = fact.letter or Letter(fact.mailbox, "", 0, 0, "")
    if place_of(letter) in row.heard:
        return []
    ref, thread = row.request.ref, row.request.thread_id
    follow_ups = [
        SendCancelled(later.request.ref, "reply")
        for later in waiting(state, dict.fromkeys(_who(row)))
        if thread and later.request.thread_id == thread and later.request.ref.client == ref.client
    ]
    # the cancels go first: else the fleet stage, told to cancel the thread, would order them once more
    reply = SendReplied(ref, _attempt(row, fact), letter, _carried(row, assignment), thread)
    return _once([*_arrived(row, assignment, fact), *follow_ups, reply])


def _answered_by_machine(row: SendRow, assignment: SendAssigned, fact: ReportSeen) -> list[Fact]:
    found = _arrived(row, assignment, fact)
    if fact.kind not in row.heard:
        found.append(SendAnsweredByMachine(row.request.ref, _attempt(row, fact), fact.kind))
    return found


def place_of(letter: Letter) -> str:
    """Where a letter lies, in one word."""
    return f"{letter.mailbox}/{letter.folder}/{letter.uid_validity}/{letter.uid}"


def _once(facts: list[Fact]) -> list[Fact]:
    """Return the facts with no send cancelled twice."""
    cancelled: set[str] = set()
    found: list[Fact] = []
    for fact in facts:
        if isinstance(fact, SendCancelled):
            name = f"{fact.ref.client}/{fact.ref.send_id}"
            if name in cancelled:
                continue
            cancelled.add(name)
        found.append(fact)
    return found
