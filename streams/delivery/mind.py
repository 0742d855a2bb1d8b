"""The delivery stage's mind in one piece, as streams.log.stage wants it: decide, evolve, forward."""

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from schemas.ids import MailboxAddress
from schemas.registry import Fact
from schemas.reports import SendComplained, SendReplied, SendUnsubscribed
from schemas.sending import (
    AttemptAccepted,
    AttemptAssigned,
    AttemptMissed,
    AttemptNotSent,
    AttemptRefused,
    AttemptUnknown,
    CancelCameTooLate,
    CancelRequested,
    Reply,
    SendAdmitted,
    SendAssumedSent,
    SendBounced,
    SendCancelled,
    SendDelivered,
    SendExpired,
    SendFailed,
    SendRef,
    SendRefused,
    SendResult,
    SendReturned,
    SendState,
    SendWithdrawn,
    SubmissionStarted,
)
from schemas.topics import FLEET_INPUTS, SEND_RESULTS
from streams.delivery import evolve as folds
from streams.delivery.decide import DECISIONS
from streams.delivery.state import ROW_TYPES, DeliveryState, attempt_key
from streams.log.mind import Outgoing
from streams.log.rows import RowKey, Rows

SETTLES = (AttemptAccepted, AttemptRefused, AttemptNotSent, AttemptUnknown, AttemptMissed)
COMES_BACK = (SendDelivered, SendBounced, SendReturned, SendReplied, SendUnsubscribed, SendComplained)
TO_FLEET = (SendAdmitted, *SETTLES, SendCancelled, SendAssumedSent, SendWithdrawn, SendExpired, *COMES_BACK)


class DeliveryMind:
    """Implements streams.log.mind.Mind."""

    row_types: Mapping[str, type[msgspec.Struct]] = ROW_TYPES

    def open(self, rows: Rows) -> DeliveryState:
        """One recipient's and one send's rows are read as they are needed."""
        return DeliveryState(rows)

    def decide(self, state: DeliveryState, seen: Fact, at: datetime) -> list[Fact]:
        """Return what follows; a fact that this stage does not know decides nothing."""
        decision = DECISIONS.get(type(seen))
        return [] if decision is None else decision(state, seen, at)

    def rows_of(self, fact: Fact, at: datetime) -> Iterable[RowKey]:
        """Return the rows that the fact changes."""
        return folds.rows_of(fact, at)

    def evolve(self, key: RowKey, row: msgspec.Struct | None, fact: Fact, at: datetime) -> msgspec.Struct:
        """Return the row after the fact."""
        return folds.evolve(key, row, fact, at)

    def changed(self, state: DeliveryState, key: RowKey, row: msgspec.Struct) -> None:
        """No indexes here."""

    def track(self, open_attempts: dict[str, bool], fact: Fact) -> None:
        """Keep the open attempts."""
        match fact:
            case AttemptAssigned():
                open_attempts[attempt_key(fact.ref, fact.assignment.attempt)] = False
            case SubmissionStarted():
                open_attempts[attempt_key(fact.ref, fact.attempt)] = True
            case AttemptAccepted() | AttemptRefused() | AttemptNotSent() | AttemptUnknown() | AttemptMissed():
                open_attempts.pop(attempt_key(fact.ref, fact.attempt), None)
            case SendCancelled() | SendFailed() | SendExpired() | SendWithdrawn():
                for key in [
                    k for k in open_attempts if k.rpartition("/")[0] == f"{fact.ref.client}/{fact.ref.send_id}"
                ]:
                    del open_attempts[key]

    def forwards(self, fact: Fact, at: datetime) -> list[Outgoing]:
        """The fleet stage hears of admissions and settled attempts, upstream of every change of state."""
        out: list[Outgoing] = []
        if isinstance(fact, TO_FLEET):
            ref: SendRef = fact.request.ref if isinstance(fact, SendAdmitted) else fact.ref
            out.append(Outgoing(FLEET_INPUTS, ref.client.encode(), fact))
        if isinstance(fact, SendReplied) and fact.thread_id:
            stop = CancelRequested(fact.ref.client, thread_id=fact.thread_id, by="reply")
            out.append(Outgoing(FLEET_INPUTS, fact.ref.client.encode(), stop))
        result = result_of(fact, at)
        if result is not None:
            key = f"{result.client}/{result.send_id}".encode()
            out.append(Outgoing(SEND_RESULTS, key, result))
        return out


def result_of(fact: Fact, at: datetime) -> SendResult | None:
    """Return what upstream hears of a fact."""
    match fact:
        case SendRefused():
            return SendResult(fact.client, fact.send_id, "refused", at, fact.reason, fact.detail, request=fact.request)
        case SendAdmitted(request):
            where = f"{request.content.partition}/{request.content.offset}"
            return SendResult(request.ref.client, request.ref.send_id, "admitted", at, request=where)
        case SendWithdrawn():
            return SendResult(fact.ref.client, fact.ref.send_id, "refused", at, fact.reason, fact.detail)
        case AttemptAssigned():
            box = fact.assignment.sender.mailbox
            return SendResult(
                fact.ref.client,
                fact.ref.send_id,
                "assigned",
                at,
                fact.assignment.rule,
                attempt=fact.assignment.attempt,
                mailbox=box,
            )
        case AttemptAccepted():
            return SendResult(
                fact.ref.client, fact.ref.send_id, "accepted", at, attempt=fact.attempt, mailbox=fact.mailbox
            )
        case AttemptUnknown():
            return SendResult(
                fact.ref.client,
                fact.ref.send_id,
                "unknown",
                at,
                fact.what,
                attempt=fact.attempt,
                mailbox=fact.mailbox,
            )
        case AttemptRefused():
            return SendResult(
                fact.ref.client,
                fact.ref.send_id,
                "admitted",
                at,
                f"refused: {fact.verdict.rule}",
                _said(fact.reply),
                fact.attempt,
                fact.mailbox,
            )
        case AttemptNotSent() | AttemptMissed():
            why = f"not sent at {fact.stage}" if isinstance(fact, AttemptNotSent) else "missed its slot"
            what = fact.what if isinstance(fact, AttemptNotSent) else ""
            return SendResult(
                fact.ref.client, fact.ref.send_id, "admitted", at, why, what, attempt=fact.attempt, mailbox=fact.mailbox
            )
        case SendFailed():
            return SendResult(fact.ref.client, fact.ref.send_id, "failed", at, fact.rule)
        case SendCancelled():
            return SendResult(fact.ref.client, fact.ref.send_id, "cancelled", at, fact.by)
        case CancelCameTooLate():
            return SendResult(fact.ref.client, fact.ref.send_id, fact.state, at, "too_late", "the cancel came too late")
        case SendExpired():
            return SendResult(fact.ref.client, fact.ref.send_id, "expired", at, fact.rule)
        case SendAssumedSent():
            return SendResult(fact.ref.client, fact.ref.send_id, "assumed_sent", at, "no evidence in 24 h")
        case SendBounced():
            return _came_back(fact, "bounced", fact.verdict.rule, _said(fact.reply), at)
        case SendReturned():
            return _came_back(fact, "admitted", f"returned: {fact.verdict.rule}", _said(fact.reply), at)
        case SendComplained():
            return _came_back(fact, "complained", fact.feedback, f"told by {fact.source}", at)
        case SendUnsubscribed():
            return _came_back(fact, "unsubscribed", fact.source, "", at)
        case SendReplied():
            answer = _came_back(fact, "replied", "a person wrote back", "", at)
            return msgspec.structs.replace(answer, letter=fact.letter)
        case SendDelivered():
            return SendResult(fact.ref.client, fact.ref.send_id, "delivered", at, fact.rule)
        case _:
            return None


def _came_back(
    fact: SendBounced | SendReturned | SendComplained | SendUnsubscribed | SendReplied,
    state: SendState,
    reason: str,
    detail: str,
    at: datetime,
) -> SendResult:
    box = MailboxAddress("") if fact.carried is None else fact.carried.mailbox
    return SendResult(fact.ref.client, fact.ref.send_id, state, at, reason, detail, fact.attempt, box)


def _said(reply: Reply) -> str:
    return f"{reply.code} {reply.enhanced} {reply.text}"[:300]
