"""How the delivery stage's rows follow from decided facts. Each function reads one row and one fact."""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from schemas.fleet import StartOrdered, StopOrdered
from schemas.registry import Fact
from schemas.sending import (
    AttemptAccepted,
    AttemptAssigned,
    AttemptMissed,
    AttemptNotSent,
    AttemptRefused,
    AttemptUnknown,
    HourDone,
    RecipientSuppressed,
    SendAdmitted,
    SendAssumedSent,
    SendBounced,
    SendCancelled,
    SendDelivered,
    SendExpired,
    SendFailed,
    SendRef,
    SendState,
    SendWithdrawn,
    SubmissionStarted,
)
from streams.delivery.state import (
    ASSUMED_SENT_AFTER,
    CURSOR,
    DELIVERED_AFTER,
    LOOKED_UP_AFTER,
    CursorRow,
    Due,
    DueRow,
    RecipientRow,
    SendRow,
    StopRow,
    Suppression,
    TokenRow,
    due_key,
    recipient_key,
    send_key,
)
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
    SendDelivered: "delivered",
    SendBounced: "bounced",
}
"""The state that a send's row takes after a fact."""
STOPS_WAITING = (SendFailed, SendCancelled, SendExpired, SendWithdrawn, AttemptAccepted, SendAssumedSent)


def rows_of(fact: Fact, at: datetime) -> Iterable[RowKey]:
    """Return the rows that a decided fact changes."""
    if isinstance(fact, SendAdmitted):
        yield send_key(fact.request.ref)
        if fact.request.token:
            yield "token", fact.request.token
        yield recipient_key(fact.request.ref.recipient)
    elif isinstance(fact, RecipientSuppressed):
        yield recipient_key(fact.recipient)
    elif isinstance(fact, StopOrdered | StartOrdered):
        yield "stop", f"{fact.scope}/{fact.name}"
    elif isinstance(fact, HourDone):
        yield CURSOR
        yield "due", f"{fact.hour}/{fact.shard}"
    elif type(fact) in NEW_STATE:
        ref: SendRef = fact.ref  # type: ignore[attr-defined]  # every fact in NEW_STATE has one
        yield send_key(ref)
        if isinstance(fact, STOPS_WAITING):
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
            return _recipient(row if isinstance(row, RecipientRow) else RecipientRow(), fact)
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
        case kind:
            raise ValueError(f"no such row kind: {kind}")


def _send(row: SendRow | None, fact: Fact) -> SendRow:
    if isinstance(fact, SendAdmitted):
        return SendRow(fact.request, "admitted")
    if row is None:
        raise ValueError(f"{type(fact).__name__} of a send that was never admitted")
    state = NEW_STATE[type(fact)]
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


def _recipient(row: RecipientRow, fact: Fact) -> RecipientRow:
    if isinstance(fact, RecipientSuppressed):
        new = Suppression(fact.client, fact.reason, fact.rule)
        return msgspec.structs.replace(row, suppressions=(*row.suppressions, new))
    if isinstance(fact, SendAdmitted):
        name = f"{fact.request.ref.client}/{fact.request.ref.send_id}"
        return msgspec.structs.replace(row, waiting=(*row.waiting, name))
    ref: SendRef = fact.ref  # type: ignore[attr-defined]  # rows_of sends only facts of STOPS_WAITING here
    gone = f"{ref.client}/{ref.send_id}"
    return msgspec.structs.replace(row, waiting=tuple(w for w in row.waiting if w != gone))


def _due(key: RowKey, row: DueRow, fact: Fact, at: datetime) -> DueRow:
    match fact:
        case AttemptUnknown():
            end = key == due_key(at + ASSUMED_SENT_AFTER, fact.ref.recipient)
            return DueRow((*row.due, Due(fact.ref, fact.attempt, "assume_sent" if end else "look_up")))
        case AttemptAccepted():
            return DueRow((*row.due, Due(fact.ref, fact.attempt, "assume_delivered")))
        case _:
            return DueRow()
