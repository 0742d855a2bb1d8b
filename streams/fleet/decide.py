"""What the fleet stage decides: fact → function, as a table at the end."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, assert_never

import msgspec

from schemas.dns import DomainObserved
from schemas.fleet import (
    AccountTripped,
    ClientDeclared,
    CostDeclared,
    DomainDeclared,
    MailboxDeclared,
    MailboxWarmed,
    Pace,
    ReceiverEased,
    ReceiverThrottled,
    RouteDeclared,
    RouteFailed,
    RouteProven,
    RouteRecovered,
    RouteTripped,
    StartOrdered,
    StopOrdered,
)
from schemas.health import (
    Evidence,
    HealthChanged,
    ListChanged,
    ListReleaseOrdered,
    ListSignCounted,
    PauseOrdered,
    ResumeOrdered,
    Scope,
    Sign,
    SignCounted,
)
from schemas.ids import ClientId, MailboxAddress
from schemas.policy import PolicyApplied
from schemas.registry import Fact
from schemas.reports import SendComplained, SendReplied, SendUnsubscribed
from schemas.reputation import DmarcReported, SpamRatesTold
from schemas.sending import (
    PROCESS_GONE,
    AttemptAccepted,
    AttemptMissed,
    AttemptNotSent,
    AttemptRefused,
    AttemptUnknown,
    CancelOrdered,
    CancelRequested,
    Release,
    SendAdmitted,
    SendAssumedSent,
    SendBounced,
    SendCancelled,
    SendDelivered,
    SendEnded,
    SendExpired,
    SendGivenUp,
    SendRef,
    SendRequested,
    SendRequeued,
    SendReturned,
    SendState,
    SendTurnedAway,
    SendWithdrawn,
    Ticked,
    Verdict,
)
from streams.fleet import cancels
from streams.fleet.choose import plan
from streams.fleet.compliance import objection
from streams.fleet.dns_gate import judge
from streams.fleet.feeds import counted_anew, dmarc_reported, spam_rates_told
from streams.fleet.health import due, follows, paused, resumed, sign_of, tripped
from streams.fleet.lists import verdict
from streams.fleet.pace import gap
from streams.fleet.retry import again_at
from streams.fleet.roster import roster
from streams.fleet.routes import EASED_AFTER, SEVERAL, is_its_own, pause_after, rest_after, trip_evidence, who_receives
from streams.fleet.speed import speed
from streams.fleet.state import BacklogRow, FleetState, domain_of

FINAL_ACTIONS = ("suppress", "fail")
OURS = ("mailbox", "domain", "route")
NO_LOGIN = Verdict("auth", "mailbox", "mailbox", "pause", "no login")


# ── the fleet file ───────────────────────────────────────────────────────────────────────────────


def declared(
    state: FleetState,
    fact: ClientDeclared | PolicyApplied | DomainDeclared | RouteDeclared | MailboxDeclared | CostDeclared,
    _at: datetime,
) -> list[Fact]:
    """Take a declaration that differs from what is known."""
    row = state.get(declared_key(fact))
    return [] if row is not None and getattr(row, "declared", None) == fact else [fact]


def declared_key(
    fact: ClientDeclared | PolicyApplied | DomainDeclared | RouteDeclared | MailboxDeclared | CostDeclared,
) -> tuple[str, str]:
    """The row that a declaration stands in."""
    match fact:
        case ClientDeclared():
            return "client", fact.client
        case PolicyApplied():
            return "policy", fact.client
        case DomainDeclared():
            return "domain", f"{fact.client}/{fact.domain}"
        case RouteDeclared():
            return "route", f"{fact.client}/{fact.route}"
        case MailboxDeclared():
            return "mailbox", fact.mailbox
        case CostDeclared():
            return "cost", f"{fact.client}/{fact.item}"


# ── the backlog ──────────────────────────────────────────────────────────────────────────────────


def admitted(state: FleetState, fact: SendAdmitted, _at: datetime) -> list[Fact]:
    """Queue an admitted send, or turn it away."""
    request = fact.request
    ref = request.ref
    known = state.backlog(_id(ref))
    if known is not None:
        if known.recipient == ref.recipient:
            return []
        return [SendTurnedAway(ref, request.content, "invalid", "this send_id was used for another recipient")]
    client = state.client(ref.client)
    if client is None:
        return [SendTurnedAway(ref, request.content, "unknown_client", f"no client {ref.client} is declared")]
    if request.campaign not in client.declared.campaigns:
        return [SendTurnedAway(ref, request.content, "unknown_campaign", f"no campaign {request.campaign}")]
    box = state.mailbox(request.mailbox) if request.mailbox else None
    if request.mailbox and (box is None or box.declared.client != ref.client or not box.declared.active):
        return [SendTurnedAway(ref, request.content, "invalid", f"{request.mailbox} is no mailbox of the client's")]
    against = objection(client.declared, state.accepted_bases(ref.client), request)
    if against:
        return [SendTurnedAway(ref, request.content, "policy", against)]
    early = state.cancelled_early(_id(ref))
    queued = cancels.queued(state, request)
    return [queued] if early is None else [queued, CancelOrdered(ref, early.by)]


def _id(ref: SendRef) -> str:
    return f"{ref.client}/{ref.send_id}"


def _pace(state: FleetState, ref: SendRef) -> Pace:
    client = state.client(ref.client)
    return Pace() if client is None else client.declared.pace


def _open_row(state: FleetState, ref: SendRef, attempt: int) -> BacklogRow | None:
    """The send's row if this attempt is the one that is out (or unknown)."""
    row = state.backlog(_id(ref))
    if row is None or row.recipient != ref.recipient or row.attempt != attempt:
        return None
    return row if row.state in ("assigned", "unknown") else None


def _release(state: FleetState, row: BacklogRow, ref: SendRef, at: datetime, *, gave_back: bool) -> Release | None:
    """Free the mailbox of the attempt that is out; an unknown one was freed already and only gives back."""
    if not row.mailbox:
        return None
    free_at = at + gap(_pace(state, ref), ref.send_id)
    return Release(row.mailbox, row.quota_day, gave_back, free_at, row.route, row.hour, row.bucket, row.list_id)


def accepted(state: FleetState, fact: AttemptAccepted, at: datetime) -> list[Fact]:
    """The attempt succeeded: its quota is spent."""
    row = _open_row(state, fact.ref, fact.attempt)
    if row is None:
        return []
    ended = _end(state, row, fact.ref, "accepted", at, gave_back=False)
    sign = SignCounted(fact.ref.client, fact.mailbox, fact.route, "accepted", again=row.deferred)
    eased = _eased(state, fact, row, at)
    recovered = _recovered(state, fact, proven=bool(eased))
    return [ended, *_counted(state, fact.ref, sign, at), *eased, *recovered]


def unknown(state: FleetState, fact: AttemptUnknown, at: datetime) -> list[Fact]:
    """The attempt may have left: its quota is kept, its mailbox goes on."""
    row = _open_row(state, fact.ref, fact.attempt)
    if row is None or row.state == "unknown":
        return []
    ended = _end(state, row, fact.ref, "unknown", at, gave_back=False)
    if fact.what == PROCESS_GONE:  # our own crash says nothing about the route
        return [ended]
    return [ended, *_failed(state, fact, "no answer after the claim", fact.what, at)]


def _end(
    state: FleetState, row: BacklogRow, ref: SendRef, end: SendState, at: datetime, *, gave_back: bool
) -> SendEnded:
    return SendEnded(ref, row.attempt, end, _release(state, row, ref, at, gave_back=gave_back))


def refused(state: FleetState, fact: AttemptRefused, at: datetime) -> list[Fact]:
    """A definite no: ended for good, or again later while patience lasts."""
    row = _open_row(state, fact.ref, fact.attempt)
    if row is None:
        return []
    blamed = _blamed(state, fact, row.request, at)
    if fact.verdict.action in FINAL_ACTIONS:
        signs = _list_sign(state, fact.ref, sign_of(fact.verdict), at)
        return [_end(state, row, fact.ref, "failed", at, gave_back=True), *signs, *blamed]
    ours = fact.verdict.fault in OURS  # a refusal of us says nothing about the recipient: patience is not touched
    tries = row.tries + (0 if ours else 1)
    when = again_at(_pace(state, fact.ref), max(tries, 1), at)
    if when is None:
        ended = _end(state, row, fact.ref, "failed", at, gave_back=True)
        return [ended, SendGivenUp(fact.ref, fact.attempt, f"patience over after {tries} refusals"), *blamed]
    release = _release(state, row, fact.ref, at, gave_back=True)
    same = fact.verdict.action == "retry_same_mailbox"
    stay_with = fact.mailbox if same else MailboxAddress("")
    rule = f"refused: {fact.verdict.rule}"
    deferred = sign_of(fact.verdict) == "deferral"
    return [SendRequeued(fact.ref, fact.attempt, when, rule, not ours, release, stay_with, deferred), *blamed]


def _blamed(state: FleetState, fact: AttemptRefused, request: SendRequested | None, at: datetime) -> list[Fact]:
    """Count the refusal, take out at once whose fault it is; a route that said anything else works."""
    client, said = fact.ref.client, fact.verdict
    evidence = f"{fact.reply.code} {fact.reply.enhanced} {fact.reply.text}"[:300]
    send = state.backlog(_id(fact.ref))
    again = send is not None and send.deferred
    sign = SignCounted(client, fact.mailbox, fact.route, sign_of(said), again=again)
    match said.fault:
        case "mailbox":
            return _counted(
                state, fact.ref, sign, at, _tripped(state, client, "mailbox", fact.mailbox, said, evidence, at)
            )
        case "domain":
            name = domain_of(fact.mailbox)
            return _counted(state, fact.ref, sign, at, _tripped(state, client, "domain", name, said, evidence, at))
        case "route":
            receiver = who_receives(request) if said.scope == "receiver" and request is not None else ""
            if receiver and _rests(state, fact, receiver, at):
                return []  # begun before the rest: it says nothing new of anybody
            counted = _counted(state, fact.ref, sign, at)
            if receiver:
                return [*counted, *_throttled(state, fact, receiver, evidence, at)]
            return [*counted, *_failed(state, fact, said.rule, evidence, at)]
        case "recipient" | "message" | "network":
            return [*_counted(state, fact.ref, sign, at), *_recovered(state, fact)]
        case other:
            assert_never(other)


def _counted(
    state: FleetState, ref: SendRef, sign: SignCounted, at: datetime, said: HealthChanged | None = None
) -> list[Fact]:
    """Count a sign with what follows from it; of an operator's test, only what a server said at once follows."""
    send = state.backlog(_id(ref))
    if send is not None and send.test and send.recipient == ref.recipient:
        return [] if said is None else [said]
    return follows(state, sign, at, said)


def _tripped(
    state: FleetState, client: ClientId, scope: Scope, name: str, said: Verdict, evidence: str, at: datetime
) -> HealthChanged | None:
    row, policy = state.sender(scope, client, name), state.policy(client)
    return tripped(client, scope, name, row, said, evidence, policy, at)


def _recovered(
    state: FleetState, fact: AttemptAccepted | AttemptRefused, *, proven: bool = False
) -> list[RouteRecovered | RouteProven]:
    """The route answered as it should; what a receiver says for now is no proof that others take our mail.

    `proven`: that somebody takes it is said already.
    """
    row = state.route(fact.ref.client, fact.route)
    if row is None:
        return []
    if row.failures or row.trips:
        return [RouteRecovered(fact.ref.client, fact.route, _what_was_said(fact))]
    taken = isinstance(fact, AttemptAccepted) or fact.verdict.fault != "network"
    if not row.against or not taken or proven:
        return []
    return [RouteProven(fact.ref.client, fact.route, _what_was_said(fact))]


def _what_was_said(fact: AttemptAccepted | AttemptRefused) -> str:
    which = f"{fact.ref.client}/{fact.ref.send_id}/{fact.attempt}"
    return f"{which}: {fact.reply.code} {fact.reply.enhanced} {fact.reply.text}"[:300]


def _rests(state: FleetState, fact: AttemptRefused, receiver: str, at: datetime) -> bool:
    row = state.route(fact.ref.client, fact.route)
    rest = row.rests.get(receiver) if row is not None else None
    return rest is not None and at < rest.until


def _throttled(state: FleetState, fact: AttemptRefused, receiver: str, evidence: str, at: datetime) -> list[Fact]:
    """Rest one receiver over the route; when several in a row say the same, it is the route's own trouble."""
    client, route, rule = fact.ref.client, fact.route, fact.verdict.rule
    row = state.route(client, route)
    if row is None:
        return []
    pause, times = rest_after(row.rests.get(receiver), fact.reply.retry_after_seconds)
    version = state.policy(client).version
    why = Evidence(rule, version, "a row", times, 0, 1)
    found: list[Fact] = [ReceiverThrottled(client, route, receiver, at + pause, times, rule, evidence, why)]
    against = dict.fromkeys((*row.against, receiver))
    if len(against) >= SEVERAL:
        everybody = f"{len(against)} receivers in a row throttle: {', '.join(against)}"
        together = Evidence(everybody, version, "a row", len(against), 0, SEVERAL)
        found += _failed(state, fact, everybody, evidence, at, together)
    return found


def _eased(state: FleetState, fact: AttemptAccepted, send: BacklogRow, at: datetime) -> list[Fact]:
    """A receiver that rested took a mail again."""
    client, route = fact.ref.client, fact.route
    row = state.route(client, route)
    if row is None or not row.rests or send.request is None:
        return []
    receiver = who_receives(send.request)
    rest = row.rests.get(receiver)
    if rest is None or at < rest.until:  # what was out when it throttled says nothing of now
        return []
    passed = rest.passed + 1
    return [ReceiverEased(client, route, receiver, passed, _what_was_said(fact), passed >= EASED_AFTER)]


def _failed(
    state: FleetState,
    fact: AttemptRefused | AttemptNotSent | AttemptUnknown,
    rule: str,
    evidence: str,
    at: datetime,
    why: Evidence | None = None,
) -> list[Fact]:
    """Count a failure of the route's own, and trip its breaker when it is one too many; `why`: if not for its count."""
    client, route = fact.ref.client, fact.route
    row = state.route(client, route)
    if row is None or (row.out_until is not None and at < row.out_until):
        return []  # it is out already: this attempt had begun before
    pause = pause_after(fact, row.failures, row.trips, timedelta(seconds=row.declared.pause_seconds))
    if pause is None:
        return [RouteFailed(client, route, rule)]
    way, why = row.declared, why or trip_evidence(fact, row.failures, row.trips, rule, state.policy(client).version)
    return [RouteTripped(client, route, at + pause, rule, evidence, way.account, way.shared_with, why)]


def account_tripped(state: FleetState, fact: AccountTripped, at: datetime) -> list[Fact]:
    """Another client's route on a shared account tripped: ours is out too."""
    return [
        RouteTripped(
            fact.client,
            row.declared.route,
            fact.until,
            fact.rule,
            fact.evidence,
            fact.account,
            why=Evidence(fact.rule, state.policy(fact.client).version, said=f"on the shared account {fact.account}"),
        )
        for row in state.routes_of(fact.client)
        if row.declared.account == fact.account and fact.until > max(at, row.out_until or at)
    ]


def ordered(state: FleetState, fact: StopOrdered | StartOrdered, _at: datetime) -> list[Fact]:
    """Take an operator's stop, or take it back."""
    return [] if state.stopped(fact.scope, fact.name) is isinstance(fact, StopOrdered) else [fact]


def not_sent(state: FleetState, fact: AttemptNotSent | AttemptMissed, at: datetime) -> list[Fact]:
    """Provably nothing left: planned anew, the quota given back, patience untouched."""
    row = _open_row(state, fact.ref, fact.attempt)
    if row is None:
        return []
    release = _release(state, row, fact.ref, at, gave_back=True)
    if isinstance(fact, AttemptMissed):
        return [SendRequeued(fact.ref, fact.attempt, at, "missed its slot", False, release, row.stay_with)]
    pause = timedelta(seconds=_pace(state, fact.ref).first_retry_seconds)
    rule = f"not sent at {fact.stage}: {fact.what}"[:200]
    again = SendRequeued(fact.ref, fact.attempt, at + pause, rule, False, release, row.stay_with)
    if is_its_own(fact):
        return [again, *_failed(state, fact, f"no answer at {fact.stage}", fact.what, at)]
    if fact.stage == "auth":
        change = _tripped(state, fact.ref.client, "mailbox", fact.mailbox, NO_LOGIN, fact.what, at)
        return [again] if change is None else [again, change]
    return [again]


# ── what becomes of accepted mail ────────────────────────────────────────────────────────────────


def returned(state: FleetState, fact: SendReturned, at: datetime) -> list[Fact]:
    """The provider took it and gave it back: it waits again; its quota is spent, whose fault it is pays now."""
    row = state.backlog(_id(fact.ref))
    if row is None or row.request is not None or row.recipient != fact.ref.recipient or row.attempt != fact.attempt:
        return []
    when = at + timedelta(seconds=_pace(state, fact.ref).first_retry_seconds)
    rule = f"returned: {fact.verdict.rule}"
    again: list[Fact] = [
        cancels.queued(state, fact.request),
        SendRequeued(fact.ref, fact.attempt, when, rule, counts=False),
    ]
    refused = AttemptRefused(fact.ref, fact.attempt, fact.mailbox, fact.route, fact.reply, fact.verdict)
    return again + _blamed(state, refused, fact.request, at)


def told(_state: FleetState, _fact: SendReplied | SendUnsubscribed, _at: datetime) -> list[Fact]:
    """Nothing follows here: the delivery stage has ended what was to end."""
    return []


def delivered(state: FleetState, fact: SendDelivered, at: datetime) -> list[Fact]:
    """The mail arrived, as far as anybody tells."""
    return _late_sign(state, fact, "delivered", at)


def bounced(state: FleetState, fact: SendBounced, at: datetime) -> list[Fact]:
    """An accepted mail came back: counted, and whose own fault it is goes out at once."""
    carried, said = fact.carried, fact.verdict
    sign = sign_of(said)
    of_list = _list_sign(state, fact.ref, sign, at)
    if carried is None or said.fault not in ("mailbox", "domain"):
        return [*_late_sign(state, fact, sign, at), *of_list]
    scope: Scope = "mailbox" if said.fault == "mailbox" else "domain"
    name = carried.mailbox if scope == "mailbox" else domain_of(carried.mailbox)
    evidence = f"{fact.reply.code} {fact.reply.enhanced} {fact.reply.text}"[:300]
    change = _tripped(state, fact.ref.client, scope, name, said, evidence, at)
    return [*_late_sign(state, fact, sign, at, change), *of_list]


def complained(state: FleetState, fact: SendComplained, at: datetime) -> list[Fact]:
    """The recipient called it spam."""
    return [*_late_sign(state, fact, "complaint", at), *_list_sign(state, fact.ref, "complaint", at)]


def _list_sign(state: FleetState, ref: SendRef, sign: Sign, at: datetime) -> list[Fact]:
    """Count a bad sign of a list's canary, and hold the list as soon as there are too many."""
    send = state.backlog(_id(ref))
    if send is None or not send.list_id or send.recipient != ref.recipient:
        return []
    row, client, list_id = state.list_row(ref.client, send.list_id), ref.client, send.list_id
    if row.state not in ("new", "canary"):
        return []
    if sign == "hard_bounce":
        row = msgspec.structs.replace(row, bounced=row.bounced + 1)
    elif sign == "complaint":
        row = msgspec.structs.replace(row, complained=row.complained + 1)
    else:
        return []
    counted: list[Fact] = [ListSignCounted(client, list_id, sign)]
    held = verdict(client, list_id, row, state.policy(client), at)
    return counted if held is None else [*counted, held]


def list_released(state: FleetState, fact: ListReleaseOrdered, _at: datetime) -> list[Fact]:
    """Take the word of a person that a list is good."""
    row = state.list_row(fact.client, fact.list_id)
    if state.client(fact.client) is None or row.state == "cleared":
        return []
    evidence = Evidence("released by a person", state.policy(fact.client).version, said=f"{fact.by}: {fact.reason}")
    return [ListChanged(fact.client, fact.list_id, row.state, "cleared", evidence)]


def _late_sign(
    state: FleetState,
    fact: SendDelivered | SendBounced | SendComplained,
    sign: Sign,
    at: datetime,
    said: HealthChanged | None = None,
) -> list[Fact]:
    client, carried = fact.ref.client, fact.carried
    if carried is None:  # of a send from before it was told who carried it
        return []
    way = state.route(client, carried.route)
    told = way is not None and way.declared.provider in state.policy(client).health.complaints_reported_by
    sent_at = carried.sent_at if sign in ("hard_bounce", "complaint") else None
    made = SignCounted(client, carried.mailbox, carried.route, sign, late=True, told=told, sent_at=sent_at)
    return _counted(state, fact.ref, made, at, said)


def sender_ordered(state: FleetState, fact: PauseOrdered | ResumeOrdered, at: datetime) -> list[Fact]:
    """An operator takes a sender out, or lets it back."""
    row, policy = state.sender(fact.scope, fact.client, fact.name), state.policy(fact.client)
    by = f"{fact.by}: {fact.reason}"
    if isinstance(fact, PauseOrdered):
        change = paused(fact.client, fact.scope, fact.name, row, by, policy)
        return [] if change is None else [change]
    change = resumed(fact.client, fact.scope, fact.name, row, by, policy, at)
    return [] if change is None else [change, *counted_anew(state, fact)]


def ended_elsewhere(
    state: FleetState, fact: SendCancelled | SendExpired | SendWithdrawn | SendAssumedSent, at: datetime
) -> list[Fact]:
    """The delivery stage ended it."""
    row = state.backlog(_id(fact.ref))
    if row is None or row.request is None or row.recipient != fact.ref.recipient:
        return []
    states: dict[type[Fact], SendState] = {
        SendCancelled: "cancelled",
        SendExpired: "expired",
        SendWithdrawn: "refused",
        SendAssumedSent: "assumed_sent",
    }
    end = states[type(fact)]
    if row.state == "assigned":
        return [_end(state, row, fact.ref, end, at, gave_back=True)]
    return [SendEnded(fact.ref, row.attempt, end)]


def ticked(state: FleetState, _fact: Ticked, at: datetime) -> list[Fact]:
    """Change the states whose time has come, and assign what is due to who is free."""
    return [*due(state, at), *cancels.step(state), *roster(state, at), *plan(state, at), *speed(state, at)]


def warmed(state: FleetState, fact: MailboxWarmed, _at: datetime) -> list[Fact]:
    """Take the word of a person that a mailbox was warmed elsewhere."""
    row = state.mailbox(fact.mailbox)
    return [] if row is None or row.warmed_since == fact.since else [fact]


def observed(state: FleetState, fact: DomainObserved, _at: datetime) -> list[Fact]:
    """Close or open the gates of a domain by what its DNS says."""
    if state.domain(fact.client, fact.domain) is None:
        return []
    return judge(state.gate(fact.client, fact.domain, fact.route), fact, state.policy(fact.client))


Decision = Callable[[FleetState, Any, datetime], list[Fact]]
DECISIONS: Mapping[type[Fact], Decision] = {
    ClientDeclared: declared,
    PolicyApplied: declared,
    DomainDeclared: declared,
    RouteDeclared: declared,
    MailboxDeclared: declared,
    CostDeclared: declared,
    SendAdmitted: admitted,
    AttemptAccepted: accepted,
    AttemptRefused: refused,
    AttemptNotSent: not_sent,
    AttemptMissed: not_sent,
    AttemptUnknown: unknown,
    SendCancelled: ended_elsewhere,
    SendExpired: ended_elsewhere,
    SendWithdrawn: ended_elsewhere,
    SendAssumedSent: ended_elsewhere,
    SendDelivered: delivered,
    SendBounced: bounced,
    SendComplained: complained,
    PauseOrdered: sender_ordered,
    ResumeOrdered: sender_ordered,
    SendReturned: returned,
    SendReplied: told,
    SendUnsubscribed: told,
    CancelRequested: cancels.requested,
    AccountTripped: account_tripped,
    MailboxWarmed: warmed,
    DomainObserved: observed,
    SpamRatesTold: spam_rates_told,
    DmarcReported: dmarc_reported,
    ListReleaseOrdered: list_released,
    StopOrdered: ordered,
    StartOrdered: ordered,
    Ticked: ticked,
}
