"""Which mailbox carries which send now, over which route. Only a fresh tick asks.

Fair between clients (in turn) and a client's campaigns (the least served first), within a priority. What a
plan takes from the heaps goes back at its end: its entry may not count, and then the same is decided again;
when it counts, the rows change and the entries are stale.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from schemas.fleet import Pace
from schemas.health import Evidence, ListChanged, Scope, WarmUpStepped
from schemas.ids import CampaignId, ClientId, DomainName, MailboxAddress, RouteId
from schemas.policy import Policy
from schemas.registry import Fact
from schemas.sending import (
    BasisType,
    RouteCall,
    SendAssigned,
    Sender,
    SendLapsed,
    SendRequested,
    SendWaits,
    WaitLimit,
)
from streams.fleet import lists
from streams.fleet.company import company_of
from streams.fleet.health import allowed
from streams.fleet.organisation import organisation_of
from streams.fleet.pace import local_day, next_day, window
from streams.fleet.places import rests
from streams.fleet.queues import Boxes, Free, Group, Lane, SendQueue, Waiting
from streams.fleet.quota import quota_left, rolling, rolls_free_at
from streams.fleet.receivers import bucket_of, full_until
from streams.fleet.routes import breaker, who_receives
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
A_MINUTE = timedelta(seconds=60)


def plan(state: FleetState, at: datetime) -> list[Fact]:
    """Return the sends that lapse, the canaries that are over, what is assigned, and what the waiting are told."""
    lapsed = _lapsed(state, at)
    facts: list[Fact] = [*lapsed, *canaries_over(state, at), *_Plan(state, at, {_id(f) for f in lapsed}).assign()]
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


def canaries_over(state: FleetState, at: datetime) -> list[ListChanged]:
    """Return what came of the canaries whose wait is over."""
    found: list[ListChanged] = []
    looked: set[tuple[ClientId, str]] = set()
    again: list[tuple[datetime, ClientId, str]] = []
    while state.canaries and state.canaries[0][0] <= at:
        when, client, list_id = heapq.heappop(state.canaries)
        row = state.list_row(client, list_id)
        if row.state != "canary" or row.until is None or (client, list_id) in looked:
            continue
        looked.add((client, list_id))
        said = lists.verdict(client, list_id, row, state.policy(client), at)
        if said is not None:
            found.append(said)
            again.append((when, client, list_id))  # until the row says otherwise
        else:  # it was out once more meanwhile, or not all of it is
            again.append((row.until if row.until > at else at + LOOK_AGAIN, client, list_id))
    for entry in again:
        heapq.heappush(state.canaries, entry)
    return found


# ── assigning ────────────────────────────────────────────────────────────────────────────────────


class Able(NamedTuple):
    """A mailbox that nothing but its gap holds back, and what its quota and its domain's (None: no bound) leave."""

    client: ClientId
    mailbox: MailboxAddress
    domain: DomainName
    left: int
    domain_left: int | None


def offered(state: FleetState, client: ClientId, at: datetime) -> list[MailboxAddress]:
    """Offer the client's mailboxes that are free again; return them."""
    boxes, found = state.boxes(client), []
    for entry in boxes.wake(at):
        row = state.mailbox(entry.mailbox)
        if row is not None:
            boxes.put_free(_group(row), Free(entry.wake_at, entry.mailbox, entry.version))
            found.append(entry.mailbox)
    return found


class _Plan:
    """One tick's assignments, with what they already use lying over the rows."""

    def __init__(self, state: FleetState, at: datetime, taken: set[str]) -> None:
        self._state = state
        self._at = at
        self._taken = taken
        self._boxes_taken: set[MailboxAddress] = set()
        self._domain_held: Counter[str] = Counter()
        self._domain_most: dict[tuple[ClientId, DomainName], tuple[int, WaitLimit | None]] = {}
        self._route_held: Counter[tuple[ClientId, RouteId]] = Counter()
        self._route_free_at: dict[tuple[ClientId, RouteId], datetime] = {}
        self._company_free_at: dict[tuple[ClientId, DomainName], datetime] = {}
        self._days: dict[ClientId, tuple[datetime, datetime, str, datetime]] = {}
        self._wide: dict[tuple[ClientId, DomainName], list[tuple[SenderRow, WaitLimit]]] = {}
        self._receiver_held: Counter[tuple[ClientId, str]] = Counter()
        self._out_to: dict[tuple[ClientId, RouteId, str], int] = {}  # of receivers that are bounded over a route
        self._served: dict[ClientId, Counter[CampaignId]] = defaultdict(Counter)
        self._list_held: Counter[tuple[ClientId, str]] = Counter()
        self._canaries: dict[tuple[ClientId, str], ListChanged] = {}  # of lists that wait from now on
        self._barred: dict[ClientId, set[Lane]] = defaultdict(set)  # lanes that no send leaves in this tick
        self._told: set[tuple[Scope, str]] = set()
        self._steps: dict[tuple[Scope, str], WarmUpStepped] = {}  # what those looked at are allowed from now on
        self._back: list[tuple[list[Any], Any]] = []

    def assign(self) -> list[Fact]:
        """Go round the clients until nobody has both a send and a mailbox."""
        state = self._state
        found: list[Fact] = []
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
                    self._list_bars(client, assignment.list_id)
                if len(found) >= MOST_PER_TICK:
                    break
        for heap, entry in self._back:
            heapq.heappush(heap, entry)
        return [*found, *self._canaries.values()]

    def _can_go(self, client: ClientId) -> bool:
        row = self._state.client(client)
        if row is None or not row.declared.active or self._state.stopped("client", client):
            return False
        return self._state.sender("client", client, "").state != "unhealthy"

    def _come_due(self, client: ClientId) -> None:
        queue = self._state.sends(client)
        queue.drop_empty()
        for place in queue.come_due(self._at):
            row = self._state.waits(place.id)
            if row is None or row.request is None or row.attempt != place.attempt:
                continue
            stay = self._state.must_carry(row)
            if stay:
                queue.put_sticky(stay, place)
            else:
                queue.put_due(self._lane(client, row.request), place)

    def _lane(self, client: ClientId, request: SendRequested) -> Lane:
        receiver = who_receives(request)
        bounded = receiver in self._policy(client).receivers.ceilings_24h or self._state.rests(client, receiver)
        return Lane(request.campaign, lists.list_of(request), receiver if bounded else "")

    def _wake(self, client: ClientId) -> None:
        boxes, queue = self._state.boxes(client), self._state.sends(client)
        for mailbox in offered(self._state, client, self._at):
            if queue.sticky.get(mailbox):
                queue.ready[mailbox] = None
        boxes.line_up()

    def _one(self, client: ClientId) -> SendAssigned | None:
        queue, boxes = self._state.sends(client), self._state.boxes(client)
        for mailbox in list(queue.ready):
            found = self._sticky(client, queue, mailbox)
            if found is not None:
                return found
        for lane in queue.lanes(self._served[client], self._is_gone):
            if self._is_barred(client, lane):
                continue
            heap = queue.due[lane]
            while (place := self._head(client, queue, heap)) is not None:
                chosen = self._free_box(client, boxes, place)
                if chosen is not None:
                    self._back.append((heap, heapq.heappop(heap)))
                    self._served[client][lane.campaign] += 1
                    return self._assignment(client, place, *chosen, rule="round robin: free the longest")
                if not self._any_route(client, boxes):
                    return None  # no mailbox is free, or no route of those that are takes anything now
                if self._receiver_waits(client, boxes, self._request(place)):
                    if lane.receiver:
                        self._bar(client, queue, lane)
                        break
                    self._park(queue, heap, self._at + LOOK_AGAIN)  # its ceiling or rest is newer than the lane
                else:
                    self._park(queue, heap, self._at + A_MINUTE)  # no route takes this one
        return None

    def _is_barred(self, client: ClientId, lane: Lane) -> bool:
        if lane in self._barred[client] or self._state.stopped("campaign", f"{client}/{lane.campaign}"):
            return True
        if self._state.swept(client, lane.campaign) or self._list_bars(client, lane.list_id):
            self._bar(client, self._state.sends(client), lane)
            return True
        return False

    def _bar(self, client: ClientId, queue: SendQueue, lane: Lane) -> None:
        """Pass the lane by in this tick; a campaign that is held altogether earns no turns by it."""
        barred = self._barred[client]
        barred.add(lane)
        if queue.all_in(lane.campaign, barred):
            queue.level(lane.campaign)

    def _list_bars(self, client: ClientId, list_id: str) -> bool:
        """Whether the list's sends must wait; one whose canary is out, or out again, waits from now on."""
        row, policy, planned = self._state.list_row(client, list_id), self._policy(client), self._list_held
        barred = bool(list_id) and lists.bars(row, policy.lists, planned[client, list_id])
        if barred and (row.state == "new" or (row.state == "canary" and planned[client, list_id])):
            self._canaries[client, list_id] = lists.canary_out(client, list_id, row, policy, self._at)
        return barred

    def _any_route(self, client: ClientId, boxes: Boxes) -> bool:
        """Whether some route of the free mailboxes could carry any send now."""
        return any(self._route(client, group, None) is not None for group in boxes.groups())

    def _receiver_waits(self, client: ClientId, boxes: Boxes, request: SendRequested) -> bool:
        """Whether only the receiver's ceiling or rest is between the send and the free mailboxes."""
        able = [g for g in boxes.groups() if self._route(client, g, request.basis.type) is not None]
        return bool(able) and all(self._is_closed_to(client, group, request) for group in able)

    def _is_closed_to(self, client: ClientId, group: Group, request: SendRequested) -> bool:
        if self._full_until(client, group.domain, request.receiver) is not None:
            return True
        return self._route(client, group, request.basis.type, who_receives(request)) is None

    def _full_until(self, client: ClientId, domain: DomainName, receiver: str) -> datetime | None:
        """Until when the domain's organisation may send nothing more to the receiver, None when it may."""
        rules = self._policy(client).receivers
        ceiling = rules.ceilings_24h.get(receiver, 0)
        if not ceiling:
            return None
        bucket = bucket_of(domain, receiver, rules)
        row = self._state.receiver(client, bucket)
        return full_until(row.hours, ceiling, self._at, self._receiver_held[client, bucket])

    def _sticky(self, client: ClientId, queue: SendQueue, mailbox: MailboxAddress) -> SendAssigned | None:
        if mailbox in self._boxes_taken:
            return None
        row = self._state.mailbox(mailbox)
        heap = queue.sticky.get(mailbox, [])
        place = self._head(client, queue, heap)
        if row is None or place is None or not self._is_idle(row):
            queue.ready.pop(mailbox, None)  # it is ready again when it wakes
            return None
        held = self._held_by(row, in_thread=True)
        if held is not None:
            queue.ready.pop(mailbox, None)
            boxes = self._state.boxes(client)
            boxes.touch(mailbox)
            boxes.put_asleep(held[0], mailbox, held[1])
            return None
        while (wait := self._list_or_receiver_waits(client, row, self._request(place))) is not None:
            self._park(queue, heap, wait)
            place = self._head(client, queue, heap)
            if place is None:
                return None
        request = self._request(place)
        if self._state.stopped("campaign", f"{client}/{request.campaign}"):
            return None
        route = self._route(client, _group(row), request.basis.type, who_receives(request))
        if route is None:
            return None
        self._back.append((heap, heapq.heappop(heap)))
        return self._assignment(client, place, row, route, rule="same mailbox again")

    def _list_or_receiver_waits(self, client: ClientId, box: MailboxRow, request: SendRequested) -> datetime | None:
        """When to look again at a send that one mailbox must carry, None when neither bound holds it."""
        again = self._at + LOOK_AGAIN
        if self._list_bars(client, lists.list_of(request)):
            return again
        until = self._full_until(client, domain_of(box.declared.mailbox), request.receiver)
        if until is not None:
            return min(until, again)
        group, basis = _group(box), request.basis.type
        if not self._state.rests(client, who_receives(request)) or self._route(client, group, basis) is None:
            return None
        return self._at + A_MINUTE if self._route(client, group, basis, who_receives(request)) is None else None

    def _is_idle(self, row: MailboxRow) -> bool:
        return row.declared.active and not row.open and row.free_at <= self._at

    def _head(self, client: ClientId, queue: SendQueue, heap: list[Waiting]) -> Waiting | None:
        """The first send of the heap that waits and whose company may be written to."""
        while heap:
            row = self._state.waits(heap[0].id)
            if self._is_gone(heap[0]):
                heapq.heappop(heap)
            elif heap[0].id in self._taken:
                self._back.append((heap, heapq.heappop(heap)))
            else:
                assert row is not None
                assert row.request is not None
                if self._state.swept(client, row.request.campaign, row.request.thread_id):
                    self._park(queue, heap, self._at + A_MINUTE)
                    continue
                free_at = self._company_free(client, row)
                if free_at is None:
                    return heap[0]
                company = company_of(row.request.recipient_domain)
                gap = timedelta(seconds=self._pace(client).company_gap_seconds)
                slot = max(free_at, queue.spread.get(company, free_at))
                queue.spread[company] = slot + gap
                self._park(queue, heap, slot)
        return None

    def _is_gone(self, place: Waiting) -> bool:
        """Whether the send waits no more at this place, or lapses, though perhaps not at this tick."""
        row = self._state.waits(place.id)
        return row is None or row.request is None or row.attempt != place.attempt or row.request.expires_at <= self._at

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

    def _request(self, place: Waiting) -> SendRequested:
        row = self._state.waits(place.id)
        assert row is not None
        assert row.request is not None
        return row.request

    def _free_box(self, client: ClientId, boxes: Boxes, place: Waiting) -> tuple[MailboxRow, RouteRow] | None:
        """The mailbox that has been free the longest and may send now, with the first route that takes the send."""
        request = self._request(place)
        aside: list[Group] = []
        chosen: tuple[MailboxRow, RouteRow] | None = None
        while chosen is None and (group := boxes.next_in_line()) is not None:
            full = self._full_until(client, group.domain, request.receiver)
            route = self._route(client, group, request.basis.type, who_receives(request)) if full is None else None
            if route is None:
                aside.append(group)
                continue
            row = self._first_of(boxes, group)
            boxes.back_in_line(group)
            chosen = None if row is None else (row, route)
        for group in aside:
            boxes.back_in_line(group)
        return chosen

    def _first_of(self, boxes: Boxes, group: Group) -> MailboxRow | None:
        """The group's first mailbox, if it may send now; it stands in the group no more in this tick."""
        heap = boxes.free[group]
        entry = heapq.heappop(heap)
        row = self._state.mailbox(entry.mailbox)
        if row is None or boxes.version.get(entry.mailbox) != entry.version:
            return None
        held = None if entry.mailbox in self._boxes_taken else self._held_by(row)
        if held is not None:
            boxes.put_asleep(held[0], entry.mailbox, held[1])
            return None
        self._back.append((heap, entry))
        return None if entry.mailbox in self._boxes_taken else row

    def _held_by(self, row: MailboxRow, *, in_thread: bool = False) -> tuple[datetime, WaitLimit] | None:
        """What holds a free mailbox back now: (when to look again, the limit). At rest it finishes its threads."""
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
        bounding = [pair for pair in self._senders(row) if _bounds(pair[0])]
        for sender, limit in bounding:
            if sender.state == "unhealthy":
                return max(sender.until or at + LOOK_AGAIN, at + A_SECOND), limit
            if not in_thread and sender.rests_until is not None and rests(sender, at):
                return sender.rests_until, "resting"
        held = self._domain_held[f"{declared.client}/{name}"]
        quota, why = self._of_domain(domain, day)
        if quota and quota_left(quota, domain.used, day) <= held:
            return min(tomorrow, at + LOOK_AGAIN), why or "domain_quota"
        quota, why = self._of_mailbox(row, bounding, day)
        if quota_left(quota, row.used, day) <= 0:
            return tomorrow, why or "daily_quota"
        return None

    def able(self, client: ClientId) -> list[Able]:
        """The client's mailboxes that nothing but their gap holds back, over a route that is not closed."""
        rows = [row for row in self._state.mailboxes_of(client) if self._held_by(row) is None]
        return [
            self._able(row) for row in rows if any(self._is_open(client, row, name) for name in row.declared.routes)
        ]

    def _able(self, row: MailboxRow) -> Able:
        client, mailbox = row.declared.client, row.declared.mailbox
        day, bounding = self._today(client)[2], [pair for pair in self._senders(row) if _bounds(pair[0])]
        left = quota_left(self._of_mailbox(row, bounding, day)[0], row.used, day)
        domain = self._state.domain(client, domain_of(mailbox))
        quota = self._of_domain(domain, day)[0] if domain is not None else 0
        domain_left = quota_left(quota, domain.used, day) if domain is not None and quota else None
        return Able(client, mailbox, domain_of(mailbox), left, domain_left)

    def _is_open(self, client: ClientId, box: MailboxRow, name: RouteId) -> bool:
        """Whether the mailbox may use the route now; busy connections close none, a trial does."""
        row, domain = self._state.route(client, name), domain_of(box.declared.mailbox)
        if row is None or not row.declared.active:
            return False
        if row.declared.ceiling_per_second or self._state.gated(client, domain):
            return False  # a ceiling a second is a plan of its own
        sender = self._state.sender("route", client, name)
        return not self._state.gated(client, domain, name) and route_limit(row, sender, self._at, out=1) is None

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
        in_reserve = any(sender.reserve for sender, _ in bounding)  # of a mailbox alone
        if in_reserve and policy.reserve.trickle_per_day < most:
            most, why = policy.reserve.trickle_per_day, "reserve"
        return most, why

    def _of_domain(self, row: DomainRow, day: str) -> tuple[int, WaitLimit | None]:
        """The same of a domain; 0 is no bound. Within a tick its mailboxes ask once."""
        name = row.declared.client, row.declared.domain
        found = self._domain_most.get(name)
        if found is None:
            found = self._domain_most[name] = self._most_of_domain(row, day)
        return found

    def _most_of_domain(self, row: DomainRow, day: str) -> tuple[int, WaitLimit | None]:
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

    def _route(self, client: ClientId, group: Group, basis: BasisType | None, receiver: str = "") -> RouteRow | None:
        """The first route in the mailboxes' order that takes a send of this basis (None: any) to a receiver now.

        Only where the domain's records are good for it. A receiver that throttles is not gone round by a backup.
        """
        if self._state.gated(client, group.domain):
            return None
        for name in group.routes:
            row = self._state.route(client, name)
            if row is None or (basis is not None and basis not in row.declared.accepts_basis):
                continue
            if self._state.gated(client, group.domain, name):
                continue
            if self._route_held_by(client, row) is None:
                return None if receiver and self._rests(client, row, receiver) else row
        return None

    def again(self, given: SendAssigned) -> "Again":
        """Judge an assignment that was made before."""
        client, limit = given.ref.client, self._limit_of_again(given)
        if limit is not None:
            return Again(limit, [*self._canaries.values()])
        row = self._state.waits(f"{client}/{given.ref.send_id}")
        assert row is not None
        assert row.request is not None
        domain, list_id = domain_of(given.sender.mailbox), self._canary_list(client, row.request)
        bucket = bucket_of(domain, row.request.receiver, self._policy(client).receivers)
        self._list_held[client, list_id] += 1
        self._list_bars(client, list_id)
        made = msgspec.structs.replace(given, bucket=bucket, list_id=list_id, policy=self._policy(client).version)
        return Again(None, [*self._steps_of(made), made, *self._canaries.values()])

    def _limit_of_again(self, given: SendAssigned) -> WaitLimit | None:
        client, mailbox, state = given.ref.client, given.sender.mailbox, self._state
        send, box = state.waits(f"{client}/{given.ref.send_id}"), state.mailbox(mailbox)
        if send is None or send.request is None or box is None:
            return "turn"
        held = self._held_by(box, in_thread=state.must_carry(send) == mailbox)
        if held is not None:
            return held[1]
        if self._list_bars(client, lists.list_of(send.request)):
            return "list_canary"
        if self._full_until(client, domain_of(mailbox), send.request.receiver) is not None:
            return "receiver_ceiling"
        route = state.route(client, given.call.route)
        if route is None:
            return "route_out"
        if state.gated(client, domain_of(mailbox)) or state.gated(client, domain_of(mailbox), given.call.route):
            return "dns"
        if self._rests(client, route, who_receives(send.request)):
            return "receiver_throttles"
        held = self._route_held_by(client, route)
        return None if held is None else held[1]

    def _rests(self, client: ClientId, row: RouteRow, receiver: str) -> bool:
        """Whether the receiver takes no more over the route for now."""
        rest = row.rests.get(receiver)
        if rest is None:
            return False
        most, key = rest.most_out(self._at), (client, row.declared.route, receiver)
        if most and key not in self._out_to:
            self._out_to[key] = self._state.out_to(*key)
        return not most or self._out_to[key] >= most

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
        bucket = bucket_of(domain_of(row.declared.mailbox), send.request.receiver, self._policy(client).receivers)
        self._receiver_held[client, bucket] += 1
        bounded = (client, way.route, who_receives(send.request))
        if bounded in self._out_to:
            self._out_to[bounded] += 1
        list_id = self._canary_list(client, send.request)
        self._list_held[client, list_id] += 1
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
                bounce_domain=bounce_domain_of(row, route),
                unsubscribe_mailto=owner.declared.unsubscribe_mailto,
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
            bucket=bucket,
            list_id=list_id,
            policy=self._policy(client).version,
        )

    def _canary_list(self, client: ClientId, request: SendRequested) -> str:
        """The list whose canary the send is of, "" when it has none any more."""
        list_id = lists.list_of(request)
        cleared = self._state.list_row(client, list_id).state == "cleared"
        return "" if cleared or not self._policy(client).lists.canary_sends else list_id


def able(state: FleetState, client: ClientId, at: datetime) -> list[Able]:
    """Return the client's mailboxes that may send now, whether they are at work, in their gap or free."""
    return _Plan(state, at, set()).able(client)


class Again(NamedTuple):
    """What the rules say of an assignment that was made before: what holds it (None: nothing), what is decided."""

    limit: WaitLimit | None
    facts: list[Fact]


def again(state: FleetState, given: SendAssigned, at: datetime) -> Again:
    """Return whether the rules let the same mailbox carry the same send over the same route now, as a plan would say.

    When they do, the facts are the assignment with what it rests on. "turn" is said of a send that waits no more.
    """
    return _Plan(state, at, set()).again(given)


def _group(row: MailboxRow) -> Group:
    return Group(domain_of(row.declared.mailbox), row.declared.routes)


def _way(row: MailboxRow, route: RouteRow, at: datetime) -> str:
    """How the route came to carry a send, "" when it is the mailbox's first and whole."""
    name, ways = route.declared.route, row.declared.routes
    if breaker(route.out_until, route.trips, at) == "half_open":
        return f"; probes route {name}"
    return f"; over route {name}, no. {ways.index(name) + 1} of its mailbox" if name != ways[0] else ""


def _bounds(sender: SenderRow) -> bool:
    """Whether a sender may be held back by more than its quota."""
    return sender.state != "active" or sender.reserve or sender.rests_until is not None


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


def bounce_domain_of(row: MailboxRow, route: RouteRow) -> str:
    """Return the domain of the return path over this route; "" when the mailbox itself is the envelope sender."""
    return route.declared.options.get("bounce_domain", "").replace("{domain}", domain_of(row.declared.mailbox))


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
    row_of_list = state.list_row(client, lists.list_of(request))
    if lists.bars(row_of_list, state.policy(client).lists):
        return "list_canary", row_of_list.until if row_of_list.state == "canary" else None
    box = state.mailbox(state.must_carry(row))
    if box is not None:
        return _limit_of_mailbox(state, box, request, at)
    return _limit_of_client(state, request, at)


def _limit_of_mailbox(
    state: FleetState, box: MailboxRow, request: SendRequested, at: datetime
) -> tuple[WaitLimit, datetime | None]:
    client, group = request.ref.client, _group(box)
    full = _full_until(state, client, group.domain, request.receiver, at)
    if full is not None:
        return "receiver_ceiling", full
    for row in filter(None, (state.route(client, name) for name in group.routes)):
        rest = _rest_of(row, request, at)
        if rest is not None:
            return rest[1], rest[0]
    if _all_gated(state, client, group):
        return "dns", None
    sender = state.sender("mailbox", client, box.declared.mailbox)
    return "thread_mailbox", max(box.free_at, sender.until or box.free_at)


def _limit_of_client(state: FleetState, request: SendRequested, at: datetime) -> tuple[WaitLimit, datetime | None]:
    client, boxes = request.ref.client, state.boxes(request.ref.client)
    groups = boxes.groups()
    held: list[tuple[datetime, WaitLimit]] = []
    for group in groups:
        limits = _limits_of_group(state, group, request, at)
        if limits is None:
            return "turn", None
        held += limits
    if held:
        when, why = min(held)
        return why, when
    gated = bool(groups) and all(_all_gated(state, client, group) for group in groups)
    if groups and not gated:
        return "basis", None
    asleep = boxes.next_awake()
    if asleep is not None:
        return asleep.why, asleep.wake_at
    if gated:
        return "dns", None
    return ("turn" if boxes.version else "no_mailbox"), None


def _limits_of_group(
    state: FleetState, group: Group, request: SendRequested, at: datetime
) -> list[tuple[datetime, WaitLimit]] | None:
    """What holds a send from the group's mailboxes until when; [] what no time ends, None when nothing does."""
    client = request.ref.client
    if state.gated(client, group.domain):
        return []
    full = _full_until(state, client, group.domain, request.receiver, at)
    held: list[tuple[datetime, WaitLimit]] = []
    for name in group.routes:
        row = state.route(client, name)
        if (
            row is None
            or request.basis.type not in row.declared.accepts_basis
            or state.gated(client, group.domain, name)
        ):
            continue
        limit = route_limit(row, state.sender("route", client, name), at, out=state.at_work(client, name))
        limit = limit or _rest_of(row, request, at)
        if limit is None and full is None:
            return None
        held.append(limit if limit is not None else (full or at, "receiver_ceiling"))
    return held


def _rest_of(row: RouteRow, request: SendRequested, at: datetime) -> tuple[datetime, WaitLimit] | None:
    """Until when the receiver rests over the route; one that is getting used to us again takes mail one by one."""
    rest = row.rests.get(who_receives(request))
    return None if rest is None else (max(rest.until, at + A_SECOND), "receiver_throttles")


def _all_gated(state: FleetState, client: ClientId, group: Group) -> bool:
    return state.gated(client, group.domain) or all(state.gated(client, group.domain, r) for r in group.routes)


def _full_until(
    state: FleetState, client: ClientId, domain: DomainName, receiver: str, at: datetime
) -> datetime | None:
    rules = state.policy(client).receivers
    ceiling = rules.ceilings_24h.get(receiver, 0)
    return (
        full_until(state.receiver(client, bucket_of(domain, receiver, rules)).hours, ceiling, at) if ceiling else None
    )
