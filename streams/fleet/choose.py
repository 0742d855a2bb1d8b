"""Which mailbox carries which send now, over which route. Only a fresh tick asks.

Fair between clients (in turn) and a client's campaigns (the least served first), within a priority. What a
plan takes from the heaps goes back at its end: its entry may not count, and then the same is decided again;
when it counts, the rows change and the entries are stale.
"""

import heapq
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from schemas.fleet import Pace
from schemas.health import Evidence, Scope, WarmUpStepped
from schemas.ids import ClientId, DomainName, MailboxAddress, RouteId
from schemas.policy import Policy
from schemas.registry import Fact
from schemas.sending import BasisType, RouteCall, SendAssigned, Sender, SendLapsed, SendWaits, WaitLimit
from streams.fleet.company import company_of
from streams.fleet.health import allowed
from streams.fleet.organisation import organisation_of
from streams.fleet.pace import local_day, next_day, window
from streams.fleet.queues import Boxes, Free, SendQueue, Waiting
from streams.fleet.quota import quota_left, rolling, rolls_free_at
from streams.fleet.routes import breaker
from streams.fleet.state import (
    TELL_AGAIN_AFTER,
    BacklogRow,
    DomainRow,
    FleetState,
    MailboxRow,
    RouteRow,
    SenderRow,
    domain_of,
)
from streams.fleet.warmup import Ramp, cap_of, ramp_of_domain, ramp_of_mailbox, step

MOST_PER_TICK = 200
"""Facts in one entry; the rest waits for the next second."""
PER_CONNECTION = 20
"""Attempts that may be out over one connection of a route: more would only wait for it and miss their slots."""
LOOK_AGAIN = timedelta(minutes=15)
"""A mailbox held by something that others may give back is looked at again no later."""
A_SECOND = timedelta(seconds=1)


def plan(state: FleetState, at: datetime) -> list[Fact]:
    """Return the sends that lapse, those that are assigned, and what the waiting are told."""
    lapsed = _lapsed(state, at)
    facts: list[Fact] = [*lapsed, *_Plan(state, at, {_id(f) for f in lapsed}).assign()]
    taken = {_id(f) for f in facts if isinstance(f, SendAssigned | SendLapsed)}
    return [*facts, *_tell(state, at, taken)]


def _id(fact: SendAssigned | SendLapsed) -> str:
    return f"{fact.ref.client}/{fact.ref.send_id}"


def _lapsed(state: FleetState, at: datetime) -> list[SendLapsed]:
    found: list[SendLapsed] = []
    keep: list[tuple[datetime, str]] = []
    while state.lapse and state.lapse[0][0] <= at and len(found) < MOST_PER_TICK // 2:
        entry = heapq.heappop(state.lapse)
        row = state.waits(entry[1])
        if row is not None and row.request is not None:
            keep.append(entry)
            if entry[1] not in {_id(f) for f in found}:
                found.append(SendLapsed(row.request.ref))
    for entry in keep:
        heapq.heappush(state.lapse, entry)
    return found


# ── assigning ────────────────────────────────────────────────────────────────────────────────────


class _Plan:
    """One tick's assignments, with what they already use lying over the rows."""

    def __init__(self, state: FleetState, at: datetime, taken: set[str]) -> None:
        self._state = state
        self._at = at
        self._taken = taken
        self._boxes_taken: set[MailboxAddress] = set()
        self._domain_held: Counter[str] = Counter()
        self._route_held: Counter[tuple[ClientId, RouteId]] = Counter()
        self._route_free_at: dict[tuple[ClientId, RouteId], datetime] = {}
        self._company_free_at: dict[tuple[ClientId, DomainName], datetime] = {}
        self._days: dict[ClientId, tuple[datetime, datetime, str, datetime]] = {}
        self._wide: dict[tuple[ClientId, DomainName], list[tuple[SenderRow, WaitLimit]]] = {}
        self._told: set[tuple[Scope, str]] = set()
        self._steps: dict[tuple[Scope, str], WarmUpStepped] = {}  # what those looked at are allowed from now on
        self._back: list[tuple[list[Any], Any]] = []

    def assign(self) -> list[SendAssigned | WarmUpStepped]:
        """Go round the clients until nobody has both a send and a mailbox."""
        state = self._state
        found: list[SendAssigned | WarmUpStepped] = []
        if state.stopped("all", ""):
            return found
        going = [c for c in state.clients() if self._can_go(c)]
        state.turn += 1
        for client in going:
            self._come_due(client)
            self._wake(client)
        while going and len(found) < MOST_PER_TICK:
            for client in list(going):
                assignment = self._one(client)
                if assignment is None:
                    going.remove(client)
                else:
                    found += [*self._steps_of(assignment), assignment]
                if len(found) >= MOST_PER_TICK:
                    break
        for heap, entry in self._back:
            heapq.heappush(heap, entry)
        return found

    def _can_go(self, client: ClientId) -> bool:
        row = self._state.client(client)
        if row is None or not row.declared.active or self._state.stopped("client", client):
            return False
        return self._state.sender("client", client, "").state != "unhealthy"

    def _come_due(self, client: ClientId) -> None:
        queue = self._state.sends(client)
        for place in queue.come_due(self._at):
            row = self._state.waits(place.id)
            if row is None or row.request is None or row.attempt != place.attempt:
                continue
            stay = self._state.must_carry(row)
            if stay:
                queue.put_sticky(stay, place)
            else:
                queue.put_due(row.request.campaign, place)

    def _wake(self, client: ClientId) -> None:
        boxes, queue = self._state.boxes(client), self._state.sends(client)
        for entry in boxes.wake(self._at):
            row = self._state.mailbox(entry.mailbox)
            if row is not None:
                boxes.put_free(row.declared.routes, Free(entry.wake_at, entry.mailbox, entry.version))
                if queue.sticky.get(entry.mailbox):
                    queue.ready[entry.mailbox] = None

    def _one(self, client: ClientId) -> SendAssigned | None:
        queue, boxes = self._state.sends(client), self._state.boxes(client)
        for mailbox in list(queue.ready):
            found = self._sticky(client, queue, mailbox)
            if found is not None:
                return found
        for campaign in queue.campaigns():
            if self._state.stopped("campaign", f"{client}/{campaign}"):
                continue
            while (place := self._head(client, queue, queue.due[campaign])) is not None:
                chosen = self._free_box(client, boxes, place)
                if chosen is None and not boxes.groups():
                    return None
                if chosen is None:  # mailboxes are free, but no route of theirs takes this send now
                    if self._any_route(client, boxes):
                        self._park(queue, queue.due[campaign], self._at + timedelta(seconds=60))
                        continue
                    return None
                self._back.append((queue.due[campaign], heapq.heappop(queue.due[campaign])))
                queue.served[campaign] = queue.served.get(campaign, 0) + 1
                return self._assignment(client, place, *chosen, rule="round robin: free the longest")
        return None

    def _any_route(self, client: ClientId, boxes: Boxes) -> bool:
        """Whether some route of the free mailboxes could carry any send now."""
        return any(self._route(client, routes, None) is not None for routes in boxes.groups())

    def _sticky(self, client: ClientId, queue: SendQueue, mailbox: MailboxAddress) -> SendAssigned | None:
        if mailbox in self._boxes_taken:
            return None
        row = self._state.mailbox(mailbox)
        heap = queue.sticky.get(mailbox, [])
        place = self._head(client, queue, heap)
        if row is None or place is None or not self._is_idle(row):
            queue.ready.pop(mailbox, None)  # it is ready again when it wakes
            return None
        held = self._held_by(row)
        if held is not None:
            queue.ready.pop(mailbox, None)
            boxes = self._state.boxes(client)
            boxes.touch(mailbox)
            boxes.put_asleep(held[0], mailbox, held[1])
            return None
        request = self._request(place)
        if self._state.stopped("campaign", f"{client}/{request.campaign}"):
            return None
        route = self._route(client, row.declared.routes, request.basis.type)
        if route is None:
            return None
        self._back.append((heap, heapq.heappop(heap)))
        return self._assignment(client, place, row, route, rule="same mailbox again")

    def _is_idle(self, row: MailboxRow) -> bool:
        return row.declared.active and not row.open and row.free_at <= self._at

    def _head(self, client: ClientId, queue: SendQueue, heap: list[Waiting]) -> Waiting | None:
        """The first send of the heap that waits and whose company may be written to."""
        while heap:
            row = self._state.waits(heap[0].id)
            if row is None or row.request is None or row.attempt != heap[0].attempt:
                heapq.heappop(heap)
            elif row.request.expires_at <= self._at:
                heapq.heappop(heap)  # it lapses, though perhaps not at this tick
            elif heap[0].id in self._taken:
                self._back.append((heap, heapq.heappop(heap)))
            else:
                free_at = self._company_free(client, row)
                if free_at is None:
                    return heap[0]
                company = company_of(row.request.recipient_domain)
                gap = timedelta(seconds=self._pace(client).company_gap_seconds)
                slot = max(free_at, queue.spread.get(company, free_at))
                queue.spread[company] = slot + gap
                self._park(queue, heap, slot)
        return None

    def _company_free(self, client: ClientId, row: BacklogRow) -> datetime | None:
        """When the send's company is free again, None when it is; a send that was tried has had its place."""
        assert row.request is not None
        if row.attempt:
            return None
        company = company_of(row.request.recipient_domain)
        if not company or self._pace(client).company_gap_seconds <= 0:
            return None
        free_at = self._company_free_at.get((client, company), self._state.company_free_at(client, company))
        return free_at if free_at > self._at else None

    def _park(self, queue: SendQueue, heap: list[Waiting], until: datetime) -> None:
        queue.put_later(until, heapq.heappop(heap))

    def _pace(self, client: ClientId) -> Pace:
        row = self._state.client(client)
        return Pace() if row is None else row.declared.pace

    def _today(self, client: ClientId) -> tuple[datetime, datetime, str, datetime]:
        """The client's local day: its window (opens, closes), its name, when the next begins."""
        found = self._days.get(client)
        if found is None:
            pace = self._pace(client)
            found = (*window(self._at, pace), local_day(self._at, pace), next_day(self._at, pace))
            self._days[client] = found
        return found

    def _request(self, place: Waiting) -> Any:
        row = self._state.waits(place.id)
        assert row is not None
        return row.request

    def _free_box(self, client: ClientId, boxes: Boxes, place: Waiting) -> tuple[MailboxRow, RouteRow] | None:
        """The mailbox that has been free the longest and may send now, with the first route that takes the send."""
        basis = self._request(place).basis.type
        for routes in boxes.groups():
            route = self._route(client, routes, basis)
            heap = boxes.free[routes]
            while route is not None and heap:
                entry = heapq.heappop(heap)
                row = self._state.mailbox(entry.mailbox)
                if row is None or boxes.version.get(entry.mailbox) != entry.version:
                    continue
                if entry.mailbox in self._boxes_taken:
                    self._back.append((heap, entry))
                    continue
                held = self._held_by(row)
                if held is not None:
                    boxes.put_asleep(held[0], entry.mailbox, held[1])
                    continue
                self._back.append((heap, entry))
                return row, route
        return None

    def _held_by(self, row: MailboxRow) -> tuple[datetime, WaitLimit] | None:
        """What holds a free mailbox back now: (when to look again, the limit)."""
        state, at, declared = self._state, self._at, row.declared
        opens, _, day, tomorrow = self._today(declared.client)
        if at < opens:
            return opens, "hours"
        name = domain_of(declared.mailbox)
        if state.stopped("domain", name):
            return at + LOOK_AGAIN, "stopped"
        domain = state.domain(declared.client, name)
        if domain is None or not domain.declared.active:
            return at + LOOK_AGAIN, "domain_out"
        bounding = [pair for pair in self._senders(row) if pair[0].state != "active"]
        for sender, limit in bounding:
            if sender.state == "unhealthy":
                return max(sender.until or at + LOOK_AGAIN, at + A_SECOND), limit
        held = self._domain_held[f"{declared.client}/{name}"]
        quota, why = self._of_domain(domain, day)
        if quota and quota_left(quota, domain.used, day) <= held:
            return min(tomorrow, at + LOOK_AGAIN), why or "domain_quota"
        quota, why = self._of_mailbox(row, bounding, day)
        if quota_left(quota, row.used, day) <= 0:
            return tomorrow, why or "daily_quota"
        return None

    def _senders(self, row: MailboxRow) -> list[tuple[SenderRow, WaitLimit]]:
        """Whose states hold for the mailbox: its own, its domain's, its client's."""
        client, domain = row.declared.client, domain_of(row.declared.mailbox)
        own = self._state.sender("mailbox", client, row.declared.mailbox)
        if (client, domain) not in self._wide:
            names = dict.fromkeys((domain, organisation_of(domain)))
            self._wide[client, domain] = [
                *((self._state.sender("domain", client, name), "domain_out") for name in names),
                (self._state.sender("client", client, ""), "client_out"),
            ]
        return [(own, "mailbox_out"), *self._wide[client, domain]]

    def _of_mailbox(
        self, row: MailboxRow, bounding: list[tuple[SenderRow, WaitLimit]], day: str
    ) -> tuple[int, WaitLimit | None]:
        """What the mailbox may send on the local day, and what bounds it when that is not its quota."""
        declared, policy = row.declared, self._policy(row.declared.client)
        most = declared.daily_quota
        why: WaitLimit | None = None
        if policy.warm_up.enabled and most > 0:
            ramp = ramp_of_mailbox(policy.warm_up, most)
            cap = self._cap("mailbox", declared.client, declared.mailbox, row.used, ramp, day)
            most, why = cap, "warm_up" if cap < most else None
        for sender, limit in bounding:
            less = allowed(most, sender, policy.health)
            if less < most:
                most, why = less, limit
        return most, why

    def _of_domain(self, row: DomainRow, day: str) -> tuple[int, WaitLimit | None]:
        """The same of a domain; 0 is no bound."""
        declared = row.declared
        rules = self._policy(declared.client).warm_up
        most = declared.daily_quota
        why: WaitLimit | None = None
        if rules.enabled:
            cap = self._cap("domain", declared.client, declared.domain, row.used, ramp_of_domain(rules, most), day)
            most, why = cap, "warm_up" if not most or cap < most else None
        share = self._state.sender("domain", declared.client, declared.domain).share
        return (max(1, int(most * share)), "domain_out") if most and share < 1 else (most, why)

    def _cap(self, scope: Scope, client: ClientId, name: str, used: Mapping[str, int], ramp: Ramp, day: str) -> int:
        """The warm-up cap of the day; a step is kept until something is assigned by it."""
        known = self._steps.get((scope, name))
        if known is not None:
            return known.now
        sender, policy = self._state.sender(scope, client, name), self._policy(client)
        made = step(sender, used, ramp, policy.warm_up, day)
        if made is None:
            return cap_of(sender, ramp)
        window_ = f"since {sender.cap_day}" if sender.cap_day else ""
        evidence = Evidence(made.rule, policy.version, window_, made.numerator, made.denominator, made.threshold)
        self._steps[scope, name] = WarmUpStepped(
            client, scope, name, day, cap_of(sender, ramp), made.cap, evidence, made.anew
        )
        return made.cap

    def _steps_of(self, given: SendAssigned) -> list[WarmUpStepped]:
        """The steps that an assignment rests on and that were not said before."""
        box = given.sender.mailbox
        names: tuple[tuple[Scope, str], ...] = (("domain", domain_of(box)), ("mailbox", box))
        told = [self._steps[name] for name in names if name in self._steps and name not in self._told]
        self._told.update(names)
        return told

    def _policy(self, client: ClientId) -> Policy:
        return self._state.policy(client)

    def _route(self, client: ClientId, routes: tuple[RouteId, ...], basis: BasisType | None) -> RouteRow | None:
        """The first route in the mailbox's order that takes a send of this basis (None: any) now."""
        for name in routes:
            row = self._state.route(client, name)
            if row is None or (basis is not None and basis not in row.declared.accepts_basis):
                continue
            if self._route_held_by(client, row) is None:
                return row
        return None

    def _route_held_by(self, client: ClientId, row: RouteRow) -> tuple[datetime, WaitLimit] | None:
        way, at = row.declared, self._at
        held = self._route_held[client, way.route]
        out = self._state.at_work(client, way.route) + held
        if out >= way.max_connections * PER_CONNECTION:
            return at + A_SECOND, "turn"
        limit = route_limit(row, self._state.sender("route", client, way.route), at, out=out, held=held)
        if limit is not None:
            return limit
        free_at = self._route_free_at.get((client, way.route), row.free_at)
        return (free_at, "route_ceiling") if way.ceiling_per_second and free_at >= at + A_SECOND else None

    def _assignment(
        self, client: ClientId, place: Waiting, row: MailboxRow, route: RouteRow, *, rule: str
    ) -> SendAssigned:
        state, at, way = self._state, self._at, route.declared
        send = state.waits(place.id)
        owner = state.client(client)
        assert send is not None
        assert send.request is not None
        assert owner is not None
        pace = owner.declared.pace
        not_before, route_free_at = at, None
        if way.ceiling_per_second:
            not_before = max(at, self._route_free_at.get((client, way.route), route.free_at))
            route_free_at = not_before + timedelta(seconds=1 / way.ceiling_per_second)
            self._route_free_at[client, way.route] = route_free_at
        company = company_of(send.request.recipient_domain) if pace.company_gap_seconds else DomainName("")
        company_free_at = at + timedelta(seconds=pace.company_gap_seconds) if company else None
        if company_free_at is not None:
            self._company_free_at[client, company] = company_free_at
        self._taken.add(place.id)
        self._boxes_taken.add(row.declared.mailbox)
        self._domain_held[f"{client}/{domain_of(row.declared.mailbox)}"] += 1
        self._route_held[client, way.route] += 1
        _, closes, day, tomorrow = self._today(client)
        return SendAssigned(
            ref=send.request.ref,
            attempt=send.attempt + 1,
            sender=Sender(
                row.declared.mailbox,
                row.declared.name,
                owner.declared.postal_address,
                owner.declared.unsubscribe_url,
                unsubscribe_from_all=owner.declared.unsubscribe_from_all,
            ),
            call=call_of(row, route),
            not_before=not_before,
            not_after=min(at + timedelta(seconds=pace.slot_seconds), closes, tomorrow, send.request.expires_at),
            quota_day=day,
            rule=rule + _way(row, route, at),
            thread_id=send.request.thread_id,
            company=company,
            company_free_at=company_free_at,
            route_free_at=route_free_at,
        )


def _way(row: MailboxRow, route: RouteRow, at: datetime) -> str:
    """How the route came to carry a send, "" when it is the mailbox's first and whole."""
    name, ways = route.declared.route, row.declared.routes
    if breaker(route.out_until, route.trips, at) == "half_open":
        return f"; probes route {name}"
    return f"; over route {name}, no. {ways.index(name) + 1} of its mailbox" if name != ways[0] else ""


def route_limit(
    row: RouteRow, sender: SenderRow, at: datetime, *, out: int, held: int = 0
) -> tuple[datetime, WaitLimit] | None:
    """What holds a route back for longer than a second, with `out` attempts at work and `held` not yet in its row."""
    way = row.declared
    if not way.active:
        return at + LOOK_AGAIN, "route_out"
    if sender.state == "unhealthy":
        return max(sender.until or at + LOOK_AGAIN, at + A_SECOND), "route_out"
    if sender.state == "probation" and out:  # one at a time
        return at + A_SECOND, "route_out"
    match breaker(row.out_until, row.trips, at):
        case "open":
            assert row.out_until is not None
            return row.out_until, "route_out"
        case "half_open":
            if out:
                return at + A_SECOND, "route_out"
    if way.ceiling_24h and rolling(row.hours, at) + held >= way.ceiling_24h * sender.share:
        return rolls_free_at(row.hours, at), "route_ceiling"
    return None


def call_of(row: MailboxRow, route: RouteRow) -> RouteCall:
    """All that a hand needs to send from this mailbox over this route."""
    way = route.declared
    return RouteCall(
        route=way.route,
        provider=way.provider,
        host=way.host,
        port=way.port,
        tls=way.tls,
        username=row.declared.username or row.declared.mailbox,
        secret_ref=row.declared.secret_ref,
        ca_file_ref=way.ca_file_ref,
        max_connections=way.max_connections,
        options={name: value for name, value in way.options.items() if not name.startswith("dns_")},
    )


# ── why a send waits ─────────────────────────────────────────────────────────────────────────────


def _tell(state: FleetState, at: datetime, taken: set[str]) -> list[SendWaits]:
    """Tell upstream what holds back those who have waited a while, and again when that changed."""
    found: list[SendWaits] = []
    again: list[tuple[datetime, str]] = []
    looked = 0
    while state.tell and state.tell[0][0] <= at and looked < MOST_PER_TICK // 2:
        looked += 1
        when, id_ = heapq.heappop(state.tell)
        row = state.waits(id_)
        if row is None or row.request is None:
            continue
        limit, earliest = limit_of(state, row, at)
        if limit == row.limit:
            again.append((at + TELL_AGAIN_AFTER, id_))
            continue
        again.append((when, id_))  # looked at again until it is told or gone
        if id_ not in taken:
            found.append(SendWaits(row.request.ref, limit, earliest))
    for entry in again:
        heapq.heappush(state.tell, entry)
    return found


def limit_of(state: FleetState, row: BacklogRow, at: datetime) -> tuple[WaitLimit, datetime | None]:
    """Return the limit that holds a waiting send back, and the earliest time at which that may change."""
    request = row.request
    assert request is not None
    client = request.ref.client
    stops = (("all", ""), ("client", client), ("campaign", f"{client}/{request.campaign}"))
    if any(state.stopped(scope, name) for scope, name in stops):
        return "stopped", None
    totals = state.sender("client", client, "")
    if totals.state == "unhealthy":
        return "client_out", totals.until
    if row.not_before > at:
        return ("retry" if row.attempt else "not_before"), row.not_before
    company = company_of(request.recipient_domain)
    free_at = state.company_free_at(client, company) if company else at
    if free_at > at:
        return "company_spread", free_at
    box = state.mailbox(state.must_carry(row))
    if box is not None:
        sender = state.sender("mailbox", client, box.declared.mailbox)
        return "thread_mailbox", max(box.free_at, sender.until or box.free_at)
    return _limit_of_client(state, client, request.basis.type, at)


def _limit_of_client(
    state: FleetState, client: ClientId, basis: BasisType, at: datetime
) -> tuple[WaitLimit, datetime | None]:
    boxes = state.boxes(client)
    groups = boxes.groups()
    held: list[tuple[datetime, WaitLimit]] = []
    takes_basis = False
    for name in {name for routes in groups for name in routes}:
        row = state.route(client, name)
        if row is None or basis not in row.declared.accepts_basis:
            continue
        takes_basis = True
        limit = route_limit(row, state.sender("route", client, name), at, out=state.at_work(client, name))
        if limit is None:
            return "turn", None
        held.append(limit)
    if groups and not takes_basis:
        return "basis", None
    if held:
        when, why = min(held)
        return why, when
    asleep = boxes.next_awake()
    if asleep is not None:
        return asleep.why, asleep.wake_at
    return ("turn" if boxes.version else "no_mailbox"), None
