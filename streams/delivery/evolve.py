"""How the delivery stage's rows follow from decided facts. Each function reads one row and one fact."""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from schemas.fleet import StartOrdered, StopOrdered
from schemas.registry import Fact
from schemas.reports import (
    DomainSuppressOrdered,
    DomainSwept,
    RecipientUnsuppressed,
    ReportTaken,
    SendAnsweredByMachine,
    SendComplained,
    SendReplied,
    SendUnsubscribed,
)
from schemas.sending import (
    AttemptAccepted,
    AttemptAssigned,
    AttemptMissed,
    AttemptNotSent,
    AttemptRefused,
    AttemptUnknown,
    HourDone,
    JournalContinued,
    RecipientSuppressed,
    SendAdmitted,
    SendAssumedSent,
    SendBounced,
    SendCancelled,
    SendDelivered,
    SendExpired,
    SendFailed,
    SendRef,
    SendReturned,
    SendState,
    SendWithdrawn,
    SubmissionStarted,
)
from streams.delivery.reports import place_of
from streams.delivery.state import (
    AFTER_250,
    ASSUMED_SENT_AFTER,
    CURSOR,
    CUT,
    DELIVERED_AFTER,
    LOOKED_UP_AFTER,
    MOST_ANSWERS,
    MOST_LETTERS,
    MOST_QUEUED,
    QUEUED_FOR,
    RECENT,
    SWEEP,
    CursorRow,
    CutRow,
    DomainRow,
    Due,
    DueRow,
    QueueRow,
    RecipientRow,
    SendRow,
    StopRow,
    Suppression,
    Sweep,
    SweepRow,
    TokenRow,
    due_key,
    hour_text,
    queue_key,
    recipient_key,
    send_key,
)
from streams.delivery.suppression import FOR_EVER
from streams.log.rows import RowKey

NEW_STATE: dict[type[Fact], SendState] = {
    AttemptAssigned: "assigned",
    SubmissionStarted: "started",
    AttemptAccepted: "accepted",
    AttemptRefused: "admitted",
    AttemptNotSent: "admitted",
    AttemptMissed: "admitted",
    AttemptUnknown: "unknown",
    SendFailed: "failed",
    SendCancelled: "cancelled",
    SendExpired: "expired",
    SendWithdrawn: "refused",
    SendAssumedSent: "assumed_sent",
    SendReturned: "admitted",
}
"""The state that a send's row takes after a fact."""
COMES_BACK: dict[type[Fact], SendState] = {
    SendDelivered: "delivered",
    SendBounced: "bounced",
    SendReplied: "replied",
    SendUnsubscribed: "unsubscribed",
    SendComplained: "complained",
}
"""The state after a fact that may come in any order: the one that outweighs the others stays (AFTER_250)."""
STOPS_WAITING = (SendFailed, SendCancelled, SendExpired, SendWithdrawn, AttemptAccepted, SendAssumedSent)


def rows_of(fact: Fact, at: datetime) -> Iterable[RowKey]:
    """Return the rows that a decided fact changes."""
    if isinstance(fact, SendAdmitted):
        yield send_key(fact.request.ref)
        if fact.request.token:
            yield "token", fact.request.token
        yield recipient_key(fact.request.ref.recipient)
        if fact.request.recipient_loose != fact.request.ref.recipient:
            yield recipient_key(fact.request.recipient_loose)
        yield queue_key(at, fact.request.ref.recipient)
    elif isinstance(fact, RecipientSuppressed | RecipientUnsuppressed | ReportTaken):
        yield recipient_key(fact.recipient)
    elif isinstance(fact, DomainSuppressOrdered):
        yield "domain", f"{fact.client}/{fact.domain}"
        yield SWEEP
    elif isinstance(fact, DomainSwept):
        yield SWEEP
    elif isinstance(fact, StopOrdered | StartOrdered):
        yield "stop", f"{fact.scope}/{fact.name}"
    elif isinstance(fact, HourDone):
        yield CURSOR
        yield "due", f"{fact.hour}/{fact.shard}"
    elif type(fact) in COMES_BACK or isinstance(fact, SendAnsweredByMachine):
        yield send_key(fact.ref)  # type: ignore[attr-defined]  # each of them has one
    elif isinstance(fact, JournalContinued):
        if fact.perhaps_sent_before is not None:
            yield CUT
    elif type(fact) in NEW_STATE:
        ref: SendRef = fact.ref  # type: ignore[attr-defined]  # every fact in NEW_STATE has one
        yield send_key(ref)
        if isinstance(fact, (*STOPS_WAITING, SendReturned)):
            yield recipient_key(ref.recipient)
        if isinstance(fact, AttemptUnknown):
            for after in (*LOOKED_UP_AFTER, ASSUMED_SENT_AFTER):
                yield due_key(at + after, ref.recipient)
        if isinstance(fact, AttemptAccepted):
            yield due_key(at + DELIVERED_AFTER, ref.recipient)


def evolve(key: RowKey, row: msgspec.Struct | None, fact: Fact, at: datetime) -> msgspec.Struct:
    """Return the row after the fact."""
    match key[0]:
        case "send":
            return _send(row if isinstance(row, SendRow) else None, fact)
        case "recipient":
            return _recipient(key[1], row if isinstance(row, RecipientRow) else RecipientRow(), fact)
        case "due":
            return _due(key, row if isinstance(row, DueRow) else DueRow(), fact, at)
        case "cursor":
            assert isinstance(fact, HourDone)
            return CursorRow(fact.hour, fact.shard)
        case "token":
            assert isinstance(fact, SendAdmitted)
            return TokenRow(f"{fact.request.ref.client}/{fact.request.ref.send_id}")
        case "stop":
            assert isinstance(fact, StopOrdered | StartOrdered)
            return StopRow(isinstance(fact, StopOrdered), fact.by)
        case "domain":
            assert isinstance(fact, DomainSuppressOrdered)
            return DomainRow(fact.suppressed, fact.reason, fact.by)
        case "sweep":
            return _sweep(row if isinstance(row, SweepRow) else SweepRow(), fact, at)
        case "queue":
            return _queue(row if isinstance(row, QueueRow) else QueueRow(), fact)
        case "cut":
            assert isinstance(fact, JournalContinued)
            assert fact.perhaps_sent_before is not None
            return CutRow(fact.perhaps_sent_before)
        case kind:
            raise ValueError(f"no such row kind: {kind}")


def _send(row: SendRow | None, fact: Fact) -> SendRow:
    if isinstance(fact, SendAdmitted):
        return SendRow(fact.request, "admitted")
    if row is None:
        raise ValueError(f"{type(fact).__name__} of a send that was never admitted")
    if type(fact) in COMES_BACK or isinstance(fact, SendAnsweredByMachine):
        return _came_back(row, fact)
    state = NEW_STATE[type(fact)]
    if isinstance(fact, SendReturned):
        return msgspec.structs.replace(row, state=state, returned=(*row.returned, fact.reported_at))
    if isinstance(fact, AttemptAssigned):
        new = fact.assignment
        first = row.first_mailbox or new.sender.mailbox
        return msgspec.structs.replace(
            row, state=state, attempt=new.attempt, assignment=new, hand="", first_mailbox=first
        )
    if isinstance(fact, SubmissionStarted):
        return msgspec.structs.replace(row, state=state, hand=fact.hand)
    if isinstance(fact, AttemptAccepted):
        return msgspec.structs.replace(row, state=state, provider_id=fact.provider_id)
    return msgspec.structs.replace(row, state=state)


def _came_back(row: SendRow, fact: Fact) -> SendRow:
    new = COMES_BACK.get(type(fact))
    later = new in AFTER_250 and row.state in AFTER_250 and AFTER_250.index(new) > AFTER_250.index(row.state)
    match fact:
        case SendReplied():
            word = place_of(fact.letter)
        case SendAnsweredByMachine():
            word = fact.kind
        case _:
            word = str(new)
    return msgspec.structs.replace(
        row, state=new if later and new is not None else row.state, heard=(*row.heard, word)[-MOST_ANSWERS:]
    )


def _recipient(recipient: str, row: RecipientRow, fact: Fact) -> RecipientRow:
    if isinstance(fact, RecipientSuppressed):
        new = Suppression(fact.client, fact.reason, fact.rule)
        return msgspec.structs.replace(row, suppressions=(*row.suppressions, new))
    if isinstance(fact, RecipientUnsuppressed):
        kept = tuple(s for s in row.suppressions if s.client != fact.client or s.reason in FOR_EVER)
        return msgspec.structs.replace(row, suppressions=kept)
    if isinstance(fact, ReportTaken):
        return msgspec.structs.replace(row, letters=(*row.letters, fact.letter_id)[-MOST_LETTERS:])
    ref: SendRef = fact.request.ref if isinstance(fact, SendAdmitted) else fact.ref  # type: ignore[attr-defined]  # rows_of sends only facts of a send here
    name = f"{ref.client}/{ref.send_id}"
    if isinstance(fact, SendAdmitted):
        row = msgspec.structs.replace(row, recent=(*row.recent, name)[-RECENT:])
    if isinstance(fact, SendAdmitted | SendReturned):
        return msgspec.structs.replace(row, waiting=(*row.waiting, name)) if ref.recipient == recipient else row
    return msgspec.structs.replace(row, waiting=tuple(w for w in row.waiting if w != name))


def _queue(row: QueueRow, fact: Fact) -> QueueRow:
    assert isinstance(fact, SendAdmitted)
    if len(row.sends) >= MOST_QUEUED:
        return row
    return QueueRow((*row.sends, f"{fact.request.ref.client}/{fact.request.ref.send_id}"))


def _sweep(row: SweepRow, fact: Fact, at: datetime) -> SweepRow:
    assert isinstance(fact, DomainSuppressOrdered | DomainSwept)
    others = tuple(s for s in row.sweeps if (s.domain, s.client) != (fact.domain, fact.client))
    if isinstance(fact, DomainSuppressOrdered):
        new = Sweep(fact.domain, fact.client, hour_text(at - QUEUED_FOR), hour_text(at))
        return SweepRow((*others, new) if fact.suppressed else others)
    mine = next(s for s in row.sweeps if s not in others)
    left = msgspec.structs.replace(mine, since=fact.upto)
    return SweepRow((left, *others) if left.since <= left.until else others)


def _due(key: RowKey, row: DueRow, fact: Fact, at: datetime) -> DueRow:
    match fact:
        case AttemptUnknown():
            end = key == due_key(at + ASSUMED_SENT_AFTER, fact.ref.recipient)
            return DueRow((*row.due, Due(fact.ref, fact.attempt, "assume_sent" if end else "look_up")))
        case AttemptAccepted():
            return DueRow((*row.due, Due(fact.ref, fact.attempt, "assume_delivered")))
        case _:
            return DueRow()
