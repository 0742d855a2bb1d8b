"""How the fleet stage's rows follow from decided facts. Each function reads one row and one fact."""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from schemas.dns import DomainObserved
from schemas.fleet import (
    ClientDeclared,
    CostDeclared,
    DomainDeclared,
    DomainLeftOut,
    MailboxDeclared,
    MailboxLeftOut,
    MailboxWarmed,
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
    CapacityPlanned,
    GateClosed,
    GateOpened,
    HealthChanged,
    ListChanged,
    ListSignCounted,
    ReserveChanged,
    RestBegan,
    SignCounted,
    WarmUpStepped,
)
from schemas.ids import ClientId, MailboxAddress, RouteId
from schemas.policy import PolicyApplied
from schemas.registry import Fact
from schemas.reputation import DmarcReported, ReputationChanged, SpamRatesTold
from schemas.sending import (
    CancelNoted,
    CancelOrdered,
    CancelSweepBegan,
    CancelSweepEnded,
    Release,
    SendAssigned,
    SendEnded,
    SendLapsed,
    SendQueued,
    SendRequeued,
    SendWaits,
)
from streams.fleet import dns_gate, reputation, routes
from streams.fleet.decide import declared_key
from streams.fleet.dns_gate import GateRow
from streams.fleet.health import in_state, senders_of, with_sign
from streams.fleet.lists import ListRow
from streams.fleet.quota import give_back, hold, hold_hour, hour_of
from streams.fleet.receivers import ReceiverRow
from streams.fleet.reputation import ReputationRow
from streams.fleet.state import (
    BacklogRow,
    CancelRow,
    ClientRow,
    CompanyRow,
    CostRow,
    DomainRow,
    MailboxRow,
    PolicyRow,
    RosterRow,
    RouteRow,
    SenderRow,
    StopRow,
    SweepRow,
    ThreadRow,
    backlog_key,
    domain_of,
    sender_key,
    sweep_key,
)
from streams.fleet.windows import Counts
from streams.log.rows import RowKey


def rows_of(fact: Fact, _at: datetime) -> Iterable[RowKey]:
    """Return the rows that a decided fact changes; what comes most often stands first."""
    match fact:
        case SignCounted():
            for scope, name in senders_of(fact):
                yield sender_key(scope, fact.client, name)
        case SendQueued(request):
            yield backlog_key(request.ref.client, request.ref.send_id)
        case SendAssigned():
            yield from _rows_of_assignment(fact)
        case SendRequeued() | SendEnded():
            yield backlog_key(fact.ref.client, fact.ref.send_id)
            if fact.release is not None:
                yield from _rows_of_release(fact.ref.client, fact.release)
        case (
            ClientDeclared() | PolicyApplied() | DomainDeclared() | RouteDeclared() | MailboxDeclared() | CostDeclared()
        ):
            yield declared_key(fact)
        case SendLapsed() | SendWaits():
            yield backlog_key(fact.ref.client, fact.ref.send_id)
        case CancelNoted():
            yield "cancel", f"{fact.client}/{fact.send_id}"
        case CancelOrdered():
            if fact.sweep:
                yield backlog_key(fact.ref.client, fact.ref.send_id)
        case CancelSweepBegan() | CancelSweepEnded():
            yield sweep_key(fact.client, fact.campaign, fact.thread_id)
        case StopOrdered() | StartOrdered():
            yield "stop", f"{fact.scope}/{fact.name}"
        case MailboxLeftOut():
            yield sender_key("mailbox", fact.client, fact.mailbox)
        case MailboxWarmed():
            yield "mailbox", fact.mailbox
            yield sender_key("mailbox", fact.client, fact.mailbox)
        case WarmUpStepped() | HealthChanged() | RestBegan():
            yield sender_key(fact.scope, fact.client, fact.name)
        case ReserveChanged():
            yield sender_key("mailbox", fact.client, fact.mailbox)
            yield "roster", fact.client
        case CapacityPlanned():
            yield "roster", fact.client
        case DomainLeftOut():
            yield sender_key("domain", fact.client, fact.domain)
        case DomainObserved() | GateClosed() | GateOpened():
            yield "gate", f"{fact.client}/{fact.domain}/{fact.route}"
        case SpamRatesTold() | DmarcReported() | ReputationChanged():
            yield "reputation", f"{fact.client}/{fact.domain}"
        case ListChanged() | ListSignCounted():
            yield "list", f"{fact.client}/{fact.list_id}"
        case RouteFailed() | RouteTripped() | RouteRecovered() | RouteProven() | ReceiverThrottled() | ReceiverEased():
            yield "route", f"{fact.client}/{fact.route}"
        case _:
            return


def _rows_of_release(client: ClientId, release: Release) -> Iterable[RowKey]:
    yield "mailbox", release.mailbox
    if release.gave_back:
        yield "domain", f"{client}/{domain_of(release.mailbox)}"
        yield "route", f"{client}/{release.route}"
        if release.bucket:
            yield "receiver", f"{client}/{release.bucket}"
        if release.list_id:
            yield "list", f"{client}/{release.list_id}"


def _rows_of_assignment(fact: SendAssigned) -> Iterable[RowKey]:
    client = fact.ref.client
    yield backlog_key(client, fact.ref.send_id)
    yield "mailbox", fact.sender.mailbox
    yield "domain", f"{client}/{domain_of(fact.sender.mailbox)}"
    yield "route", f"{client}/{fact.call.route}"
    if fact.thread_id:
        yield "thread", f"{client}/{fact.thread_id}"
    if fact.company_free_at is not None:
        yield "company", f"{client}/{fact.company}"
    if fact.bucket:
        yield "receiver", f"{client}/{fact.bucket}"
    if fact.list_id:
        yield "list", f"{client}/{fact.list_id}"


def evolve(key: RowKey, row: msgspec.Struct | None, fact: Fact, at: datetime) -> msgspec.Struct:
    """Return the row after the fact; what comes most often stands first."""
    match key[0]:
        case "sender":
            return _sender(key[1].partition("/")[0], row if isinstance(row, SenderRow) else SenderRow(), fact, at)
        case "backlog":
            return _backlog(row if isinstance(row, BacklogRow) else None, fact, at)
        case "mailbox":
            return _mailbox(row if isinstance(row, MailboxRow) else None, fact)
        case "domain":
            return _domain(row if isinstance(row, DomainRow) else None, fact)
        case "route":
            return _route(row if isinstance(row, RouteRow) else None, fact, at)
        case "receiver":
            return _receiver(row if isinstance(row, ReceiverRow) else ReceiverRow(), fact, at)
        case "client":
            assert isinstance(fact, ClientDeclared)
            return ClientRow(fact)
        case "policy":
            assert isinstance(fact, PolicyApplied)
            return PolicyRow(fact)
        case "roster":
            return _roster(row if isinstance(row, RosterRow) else RosterRow(), fact, at)
        case "cost":
            assert isinstance(fact, CostDeclared)
            return CostRow(fact)
        case "thread":
            assert isinstance(fact, SendAssigned)
            return ThreadRow(fact.sender.mailbox)
        case "company":
            assert isinstance(fact, SendAssigned)
            assert fact.company_free_at is not None
            return CompanyRow(fact.company_free_at)
        case "stop":
            assert isinstance(fact, StopOrdered | StartOrdered)
            return StopRow(isinstance(fact, StopOrdered), fact.by)
        case "cancel":
            assert isinstance(fact, CancelNoted)
            return CancelRow(fact.by)
        case "sweep":
            return _sweep(row if isinstance(row, SweepRow) else None, fact)
        case "list":
            return _list(row if isinstance(row, ListRow) else ListRow(), fact)
        case "gate":
            return _gate(row if isinstance(row, GateRow) else GateRow(), fact)
        case "reputation":
            return reputation.folded(row if isinstance(row, ReputationRow) else ReputationRow(), fact, at)
        case kind:
            raise ValueError(f"no such row kind: {kind}")


def _sweep(row: SweepRow | None, fact: Fact) -> SweepRow:
    if isinstance(fact, CancelSweepBegan):
        return SweepRow(fact, under_way=True)
    if row is None:
        raise ValueError(f"{type(fact).__name__} of a sweep that never began")
    return msgspec.structs.replace(row, under_way=False)


def _gone_back(fact: Fact) -> Release:
    assert isinstance(fact, SendRequeued | SendEnded)
    assert fact.release is not None
    return fact.release


def _roster(row: RosterRow, fact: Fact, at: datetime) -> RosterRow:
    match fact:
        case CapacityPlanned():
            return msgspec.structs.replace(row, day=fact.day, reserve=fact.reserve, in_reserve=fact.in_reserve)
        case ReserveChanged(now="in_use"):
            day = f"{at:%Y-%m-%d}"
            joined = {**row.joined, day: row.joined.get(day, 0) + 1}
            kept = dict(sorted(joined.items())[-8:])
            return msgspec.structs.replace(row, joined=kept, in_reserve=max(0, row.in_reserve - 1))
        case _:
            return msgspec.structs.replace(row, in_reserve=row.in_reserve + 1)


def _sender(scope: str, row: SenderRow, fact: Fact, at: datetime) -> SenderRow:
    match fact:
        case SignCounted():
            return with_sign(row, scope, fact, at)
        case HealthChanged():
            return in_state(row, fact, at)
        case MailboxLeftOut() | DomainLeftOut():  # of journals from before there were states
            return msgspec.structs.replace(
                row, state="unhealthy", since=at, until=fact.until, then="active", rule=fact.rule
            )
        case WarmUpStepped():
            return msgspec.structs.replace(
                row,
                cap=fact.now,
                cap_day=fact.day,
                ramp_from=fact.day if fact.anew else row.ramp_from,
                since_step=Counts(),
            )
        case MailboxWarmed():
            return msgspec.structs.replace(row, warmed=True, cap=0)
        case RestBegan():
            return msgspec.structs.replace(row, rests_until=fact.until)
        case ReserveChanged():
            return msgspec.structs.replace(row, reserve=fact.now == "reserve")
        case _:
            raise ValueError(f"{type(fact).__name__} changes no sender")


def _domain(row: DomainRow | None, fact: Fact) -> DomainRow:
    if isinstance(fact, DomainDeclared):
        return DomainRow(fact) if row is None else msgspec.structs.replace(row, declared=fact)
    if row is None:
        raise ValueError(f"{type(fact).__name__} of a domain that was never declared")
    match fact:
        case SendAssigned():
            return msgspec.structs.replace(row, used=hold(row.used, fact.quota_day))
        case _:
            return msgspec.structs.replace(row, used=give_back(row.used, _gone_back(fact).quota_day))


def _route(row: RouteRow | None, fact: Fact, at: datetime) -> RouteRow:
    if isinstance(fact, RouteDeclared):
        return RouteRow(fact) if row is None else msgspec.structs.replace(row, declared=fact)
    if row is None:
        raise ValueError(f"{type(fact).__name__} of a route that was never declared")
    match fact:
        case SendAssigned():
            free_at = row.free_at if fact.route_free_at is None else fact.route_free_at
            return msgspec.structs.replace(row, hours=hold_hour(row.hours, at), free_at=free_at)
        case RouteFailed():
            return msgspec.structs.replace(row, failures=row.failures + 1)
        case RouteTripped():
            return msgspec.structs.replace(row, failures=0, trips=row.trips + 1, out_until=fact.until)
        case RouteRecovered():
            return msgspec.structs.replace(row, failures=0, trips=0, out_until=None, against=())
        case ReceiverThrottled():
            against = tuple(dict.fromkeys((*row.against, fact.receiver)))[-routes.SEVERAL :]
            return msgspec.structs.replace(row, rests=routes.throttled(row.rests, fact, at), against=against)
        case RouteProven():
            return msgspec.structs.replace(row, against=())
        case ReceiverEased():
            return msgspec.structs.replace(row, rests=routes.eased(row.rests, fact), against=())
        case _:
            return msgspec.structs.replace(row, hours=give_back(row.hours, _gone_back(fact).hour))


def _receiver(row: ReceiverRow, fact: Fact, at: datetime) -> ReceiverRow:
    if isinstance(fact, SendAssigned):
        return ReceiverRow(hold_hour(row.hours, at))
    return ReceiverRow(give_back(row.hours, _gone_back(fact).hour))


def _list(row: ListRow, fact: Fact) -> ListRow:
    match fact:
        case SendAssigned():
            return msgspec.structs.replace(row, held=row.held + 1)
        case ListSignCounted(sign="hard_bounce"):
            return msgspec.structs.replace(row, bounced=row.bounced + 1)
        case ListSignCounted():
            return msgspec.structs.replace(row, complained=row.complained + 1)
        case ListChanged():
            return msgspec.structs.replace(row, state=fact.now, until=fact.until)
        case SendEnded(state="failed"):
            return row  # the canary has tried it: its refusal is what it is for
        case _:
            return msgspec.structs.replace(row, held=max(0, row.held - 1))


def _gate(row: GateRow, fact: Fact) -> GateRow:
    match fact:
        case DomainObserved():
            return dns_gate.looked(row, fact)
        case GateClosed():
            return dns_gate.closed(row, fact)
        case GateOpened():
            return dns_gate.opened(row, fact)
        case _:
            raise ValueError(f"{type(fact).__name__} changes no gate")


def _mailbox(row: MailboxRow | None, fact: Fact) -> MailboxRow:
    if isinstance(fact, MailboxDeclared):
        return MailboxRow(fact) if row is None else msgspec.structs.replace(row, declared=fact)
    if row is None:
        raise ValueError(f"{type(fact).__name__} of a mailbox that was never declared")
    match fact:
        case SendAssigned():
            name = f"{fact.ref.client}/{fact.ref.send_id}/{fact.attempt}"
            used = hold(row.used, fact.quota_day)
            return msgspec.structs.replace(row, open=name, open_route=fact.call.route, used=used)
        case MailboxWarmed():
            return msgspec.structs.replace(row, warmed_since=fact.since)
    release = _gone_back(fact)
    assert isinstance(fact, SendRequeued | SendEnded)
    mine = row.open == f"{fact.ref.client}/{fact.ref.send_id}/{fact.attempt}"
    return msgspec.structs.replace(
        row,
        open="" if mine else row.open,
        free_at=max(row.free_at, release.free_at) if mine else row.free_at,
        used=give_back(row.used, release.quota_day) if release.gave_back else row.used,
    )


def _backlog(row: BacklogRow | None, fact: Fact, at: datetime) -> BacklogRow:
    if isinstance(fact, SendQueued):
        request = fact.request
        soonest = request.not_before or request.requested_at
        if row is not None:  # it ended as accepted and was returned: attempts go on counting
            return msgspec.structs.replace(row, state="admitted", request=request, not_before=soonest, sweep=fact.sweep)
        return BacklogRow(
            request.ref.recipient,
            "admitted",
            request=request,
            not_before=soonest,
            sweep=fact.sweep,
            test=request.test,
        )
    if row is None:
        raise ValueError(f"{type(fact).__name__} of a send that was never queued")
    match fact:
        case SendAssigned():
            return msgspec.structs.replace(
                row,
                state="assigned",
                attempt=fact.attempt,
                mailbox=fact.sender.mailbox,
                route=fact.call.route,
                quota_day=fact.quota_day,
                hour=hour_of(at),
                bucket=fact.bucket,
                list_id=fact.list_id,
                limit=None,
                earliest=None,
            )
        case SendRequeued():
            return msgspec.structs.replace(
                row,
                state="admitted",
                tries=row.tries + (1 if fact.counts else 0),
                not_before=fact.not_before,
                stay_with=fact.stay_with,
                deferred=row.deferred or fact.deferred,
                mailbox=MailboxAddress(""),
                route=RouteId(""),
            )
        case CancelOrdered():
            return msgspec.structs.replace(row, sweep=fact.sweep)
        case SendWaits():
            return msgspec.structs.replace(row, limit=fact.limit, earliest=fact.earliest)
        case SendEnded(state="unknown"):
            return msgspec.structs.replace(row, state="unknown")
        case SendEnded():
            return BacklogRow(row.recipient, fact.state, row.attempt, row.tries, list_id=row.list_id, test=row.test)
        case SendLapsed():
            return BacklogRow(row.recipient, "expired", row.attempt, row.tries, test=row.test)
        case _:
            raise ValueError(f"{type(fact).__name__} changes no send")
