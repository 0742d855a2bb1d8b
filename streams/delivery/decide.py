"""What the delivery stage decides: fact → function, as a table at the end."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from schemas.fleet import StartOrdered, StopOrdered, StopScope
from schemas.registry import Fact
from schemas.reports import (
    DomainSuppressOrdered,
    MtaLineSeen,
    ReportForged,
    ReportSeen,
    ReportUncorrelated,
    SuppressOrdered,
    UnsuppressOrdered,
)
from schemas.sending import (
    PROCESS_GONE,
    Accepted,
    AttemptAssigned,
    AttemptMissed,
    AttemptNotSent,
    AttemptUnknown,
    CancelCameTooLate,
    CancelOrdered,
    ClaimAsked,
    EvidenceSeen,
    EvidenceWanted,
    HourDone,
    NotSent,
    OutcomeReported,
    OutcomeSeen,
    PartitionResumed,
    Refused,
    RefusedReason,
    RequestRejected,
    SendAdmitted,
    SendAssigned,
    SendAssumedSent,
    SendCancelled,
    SendDelivered,
    SendExpired,
    SendFailed,
    SendGivenUp,
    SendLapsed,
    SendRef,
    SendRefused,
    SendRequested,
    SendTurnedAway,
    SendWithdrawn,
    SubmissionStarted,
    SuppressionImported,
    Ticked,
    Unknown,
)
from streams.delivery import reports, suppression
from streams.delivery.attempt import answered
from streams.delivery.state import (
    DUE_SHARDS,
    MOST_WAITING,
    REMEMBERED,
    WAITING,
    DeliveryState,
    Due,
    hour_text,
)
from streams.delivery.suppression import suppressed

PERHAPS_SENT = "perhaps_sent"
"""The rule of a send that a restore without the last decisions found open: it may have left, and does not go again."""
UNSETTLED = ("assigned", "started", "unknown")


# ── admission ────────────────────────────────────────────────────────────────────────────────────


def requested(state: DeliveryState, fact: SendRequested, at: datetime) -> list[Fact]:
    """Admit a request or refuse it; a refusal does not touch an earlier send of that send_id."""
    why = refusal(state, fact, at)
    if why is None:
        begins = [] if state.cursor() is not None else [_hour_before(at)]  # what comes due later is looked at
        return [SendAdmitted(fact), *begins]
    reason, detail = why
    where = f"{fact.content.partition}/{fact.content.offset}"
    return [SendRefused(fact.ref.client, fact.ref.send_id, reason, detail, where, fact.ref.recipient)]


def _hour_before(at: datetime) -> HourDone:
    return HourDone(hour_text(at - timedelta(hours=1)), DUE_SHARDS - 1)


def refusal(state: DeliveryState, fact: SendRequested, at: datetime) -> tuple[RefusedReason, str] | None:
    """Return (reason, detail) when the request must be refused."""
    known = state.send(fact.ref)
    if known is not None and known.request.ref.recipient != fact.ref.recipient:
        return "invalid", "this send_id was used for another recipient"
    if known is not None:
        same = known.request.content_sha256 == fact.content_sha256
        return "duplicate", "the same request again" if same else "this send_id was used with other content"
    if fact.requested_at < at - REMEMBERED:
        return (
            "too_old",
            f"requested {fact.requested_at:%Y-%m-%d}; a send_id is remembered {REMEMBERED.days} days",
        )
    if fact.expires_at <= at:
        return "expired", f"expires_at {fact.expires_at:%Y-%m-%dT%H:%M:%SZ} has passed"
    held = suppressed(state, fact)
    if held:
        return "suppressed", held
    if len(state.recipient(fact.ref.recipient).waiting) >= MOST_WAITING:
        return "policy", f"{MOST_WAITING} sends wait for this recipient already"
    return None


def rejected(_state: DeliveryState, fact: RequestRejected, _at: datetime) -> list[Fact]:
    """Answer a request that intake could not make a send of."""
    return [SendRefused(fact.client, fact.send_id, fact.reason, fact.detail)]


# ── assignment and claim ─────────────────────────────────────────────────────────────────────────


def assigned(state: DeliveryState, fact: SendAssigned, at: datetime) -> list[Fact]:
    """Take an assignment for a send that waits for exactly this attempt."""
    row = state.send(fact.ref)
    if row is None or row.state != "admitted" or fact.attempt != row.attempt + 1:
        return []
    if state.perhaps_sent(row.request):
        return [SendExpired(fact.ref, PERHAPS_SENT)]
    first = row.first_mailbox or fact.sender.mailbox
    taken = AttemptAssigned(fact.ref, fact, row.request.content, first)
    if at >= fact.not_after:
        return [taken, _missed(fact.ref, fact)]
    return [taken]


def _missed(ref: SendRef, assignment: SendAssigned) -> AttemptMissed:
    return AttemptMissed(ref, assignment.attempt, assignment.sender.mailbox, assignment.call.route)


def claimed(state: DeliveryState, fact: ClaimAsked, _at: datetime) -> list[Fact]:
    """Say yes (SubmissionStarted) only if the attempt is still wanted now, by the hand's own clock."""
    row = state.send(fact.ref)
    if row is None or row.state != "assigned" or row.attempt != fact.attempt or row.assignment is None:
        return []
    if suppressed(state, row.request):
        return [SendCancelled(fact.ref, "suppression")]
    if state.perhaps_sent(row.request):
        return [SendExpired(fact.ref, PERHAPS_SENT)]
    if fact.clock >= row.request.expires_at:
        return [SendExpired(fact.ref, "expires_at")]
    stop = stopped(state, row.assignment, row.request)
    if stop:
        box, route = row.assignment.sender.mailbox, row.assignment.call.route
        return [AttemptNotSent(fact.ref, fact.attempt, box, route, "claim", stop)]
    if fact.clock >= row.assignment.not_after:
        return [_missed(fact.ref, row.assignment)]
    if fact.clock < row.assignment.not_before:
        return []
    return [SubmissionStarted(fact.ref, fact.attempt, fact.clock, fact.hand)]


def stopped(state: DeliveryState, assignment: SendAssigned, request: SendRequested) -> str:
    """Return which operator's stop forbids the claim, "" when none does."""
    client = request.ref.client
    scopes: tuple[tuple[StopScope, str], ...] = (
        ("all", ""),
        ("client", client),
        ("campaign", f"{client}/{request.campaign}"),
        ("domain", assignment.sender.mailbox.rpartition("@")[2]),
    )
    for scope, name in scopes:
        by = state.stopped_by(scope, name)
        if by:
            return f"{scope} {name} is stopped by {by}".replace("  ", " ")
    return ""


def ordered(state: DeliveryState, fact: StopOrdered | StartOrdered, _at: datetime) -> list[Fact]:
    """Take an operator's stop, or take it back: from the next claim on."""
    return [] if bool(state.stopped_by(fact.scope, fact.name)) is isinstance(fact, StopOrdered) else [fact]


# ── outcomes ─────────────────────────────────────────────────────────────────────────────────────


def outcome(state: DeliveryState, fact: OutcomeSeen | OutcomeReported, _at: datetime) -> list[Fact]:
    """Settle an attempt, once: a second outcome, or one of an older attempt, changes nothing.

    Two hands may hold one attempt (its partition moved): once one has claimed, only that one knows the end.
    """
    row = state.send(fact.ref)
    if row is None or row.assignment is None or row.attempt != fact.attempt or row.state not in UNSETTLED:
        return []
    if row.hand not in ("", fact.hand):
        return []
    box, route = row.assignment.sender.mailbox, row.assignment.call.route
    match fact.outcome:
        case Accepted() | Refused():
            return answered(state, row, row.assignment, fact.outcome)
        case NotSent(stage, what):
            if row.state == "assigned" and what == "content_gone":
                return [
                    AttemptNotSent(fact.ref, fact.attempt, box, route, stage, what),
                    SendExpired(fact.ref, "content_gone"),
                ]
            return [AttemptNotSent(fact.ref, fact.attempt, box, route, stage, what)]
        case Unknown(what):
            if row.state == "unknown":
                return []
            return [AttemptUnknown(fact.ref, fact.attempt, box, route, what)]


def evidence(state: DeliveryState, fact: EvidenceSeen, _at: datetime) -> list[Fact]:
    """Settle an unknown attempt by the provider's own record of it."""
    row = state.send(fact.ref)
    if row is None or row.assignment is None or row.attempt != fact.attempt or row.state != "unknown":
        return []
    return answered(state, row, row.assignment, fact.said)


def resumed(state: DeliveryState, fact: PartitionResumed, _at: datetime) -> list[Fact]:
    """Attempts that were started and that nobody here holds may have left: unknown."""
    found: list[Fact] = []
    for key in fact.open_elsewhere:
        name, _, attempt = key.rpartition("/")
        row = state.send_named(name)
        if row is None or row.state != "started" or row.attempt != int(attempt) or row.assignment is None:
            continue
        box, route = row.assignment.sender.mailbox, row.assignment.call.route
        found.append(AttemptUnknown(row.request.ref, row.attempt, box, route, PROCESS_GONE))
    return found


# ── ends that others decide ──────────────────────────────────────────────────────────────────────


def cancel_ordered(state: DeliveryState, fact: CancelOrdered, _at: datetime) -> list[Fact]:
    """Cancel what has not started."""
    row = state.send(fact.ref)
    if row is None:
        return []
    if row.state in WAITING:
        return [SendCancelled(fact.ref, fact.by)]
    return [CancelCameTooLate(fact.ref, fact.by, row.state)]


def turned_away(state: DeliveryState, fact: SendTurnedAway, _at: datetime) -> list[Fact]:
    """The fleet stage does not take it."""
    row = state.send(fact.ref)
    if row is None or row.state != "admitted" or row.request.content != fact.content:
        return []
    return [SendWithdrawn(fact.ref, fact.reason, fact.detail)]


def given_up(state: DeliveryState, fact: SendGivenUp, _at: datetime) -> list[Fact]:
    """Patience is over."""
    row = state.send(fact.ref)
    return [SendFailed(fact.ref, fact.rule)] if row is not None and row.state == "admitted" else []


def lapsed(state: DeliveryState, fact: SendLapsed, _at: datetime) -> list[Fact]:
    """Its time is over."""
    row = state.send(fact.ref)
    return [SendExpired(fact.ref, "expires_at")] if row is not None and row.state == "admitted" else []


# ── time ─────────────────────────────────────────────────────────────────────────────────────────


def ticked(state: DeliveryState, _fact: Ticked, at: datetime) -> list[Fact]:
    """Decide one shard of one past hour (what stayed unknown, what had no bounce) and a step of a sweep."""
    return [*suppression.swept(state), *_next_hour(state, at)]


def _next_hour(state: DeliveryState, at: datetime) -> list[Fact]:
    cursor = state.cursor()
    if cursor is None:
        return [_hour_before(at)]
    hour, shard = cursor.hour, cursor.shard + 1
    if shard == DUE_SHARDS:
        hour, shard = hour_text(datetime.fromisoformat(hour + ":00:00+00:00") + timedelta(hours=1)), 0
    if hour >= hour_text(at):
        return []
    due: list[Fact] = [f for item in state.due(hour, shard) for f in _come_due(state, item)]
    return [*due, HourDone(hour, shard)]


def _come_due(state: DeliveryState, due: Due) -> list[Fact]:
    row = state.send(due.ref)
    if row is None or row.attempt != due.attempt:
        return []
    if due.what == "look_up" and row.state == "unknown" and row.assignment is not None:
        return [EvidenceWanted(due.ref, due.attempt)]
    if due.what == "assume_sent" and row.state == "unknown":
        return [SendAssumedSent(due.ref, due.attempt)]
    if due.what == "assume_delivered" and row.state == "accepted":
        return [SendDelivered(due.ref, due.attempt, "no bounce in 48 h", reports.carried(row))]
    return []


Decision = Callable[[DeliveryState, Any, datetime], list[Fact]]
DECISIONS: Mapping[type[Fact], Decision] = {
    SendRequested: requested,
    RequestRejected: rejected,
    SendAssigned: assigned,
    ClaimAsked: claimed,
    OutcomeSeen: outcome,
    OutcomeReported: outcome,
    EvidenceSeen: evidence,
    MtaLineSeen: reports.mta_line,
    ReportSeen: reports.seen,
    ReportForged: reports.noted,
    ReportUncorrelated: reports.noted,
    PartitionResumed: resumed,
    CancelOrdered: cancel_ordered,
    SendTurnedAway: turned_away,
    SendGivenUp: given_up,
    SendLapsed: lapsed,
    SuppressOrdered: suppression.ordered,
    UnsuppressOrdered: suppression.taken_back,
    DomainSuppressOrdered: suppression.domain_ordered,
    SuppressionImported: suppression.imported,
    StopOrdered: ordered,
    StartOrdered: ordered,
    Ticked: ticked,
}
