"""The fleet's mind once more over what it saw, under a policy: it decides anew, only the sends are those of then.

It plans nothing: each recorded assignment is put to the rules, and one that they hold back takes its outcome with it.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import msgspec

from schemas.fleet import ClientDeclared, ReceiverThrottled, RouteTripped
from schemas.health import (
    GateClosed,
    GateOpened,
    HealthChanged,
    ListChanged,
    ReserveChanged,
    RestBegan,
    WarmUpStepped,
)
from schemas.ids import ClientId, SendId
from schemas.policy import Policy, PolicyApplied
from schemas.registry import Fact
from schemas.sending import SendAssigned, SendLapsed, SendRequeued, Ticked, WaitLimit
from streams.fleet.choose import again, canaries_over, offered
from streams.fleet.decide import DECISIONS
from streams.fleet.health import due
from streams.fleet.lists import list_of
from streams.fleet.mind import FleetMind
from streams.fleet.roster import roster
from streams.fleet.speed import speed
from streams.fleet.state import FleetState
from streams.log.rows import Rows

AttemptName = tuple[ClientId, SendId, int]
TOLD = (
    HealthChanged,
    ListChanged,
    WarmUpStepped,
    RestBegan,
    ReserveChanged,
    GateClosed,
    GateOpened,
    RouteTripped,
    ReceiverThrottled,
)
"""Decisions about senders and lists: what two policies are compared by."""
LOOKED_AT_EVERY = timedelta(minutes=15)
"""What time alone changes hangs on hours (rosters) and quarters of them (speed); all else names its time."""
TICK_FOLLOWS = timedelta(seconds=20)
"""A time that has just come is left to the recorded tick that follows it: it was decided at that one."""
A_SECOND = timedelta(seconds=1)


class Rerun:
    """One partition under one policy: `decided` is what it decided, `held` the recorded attempts that it held back."""

    def __init__(self, rows: Rows, begin: datetime, other: Callable[[ClientId], Policy] | None = None) -> None:
        self._mind = FleetMind()
        self._other = other
        self.state = FleetState(rows)
        self.decided: list[tuple[datetime, Fact]] = []
        self.held: dict[AttemptName, WaitLimit] = {}
        self.limits: Counter[tuple[ClientId, WaitLimit]] = Counter()
        self._now = begin
        self._look_at = _next_look(begin)
        for (kind, name), _ in rows.all():
            if kind == "client":
                self._lead(ClientId(name), begin)

    def see(self, at: datetime, seen: Fact, decided: Iterable[Fact]) -> None:
        """Take the next recorded entry: what was seen, and the assignments and lapses that were decided then."""
        self.pass_time(at - TICK_FOLLOWS)
        self._now = max(self._now, at)
        match seen:
            case Ticked():
                self._tick(at, decided)
            case PolicyApplied() if self._other is not None:
                pass
            case _ if name_of(seen) not in self.held:
                decision = DECISIONS.get(type(seen))
                for fact in [] if decision is None else decision(self.state, seen, at):
                    self._take(fact, at)
        if isinstance(seen, ClientDeclared):
            self._lead(seen.client, at)

    def pass_time(self, until: datetime) -> None:
        """Decide what the passing of time alone brings up to then, at its own times."""
        while (when := max(self._next(), self._now + A_SECOND)) < until:
            self._now = when
            self._tick(when, ())

    def _next(self) -> datetime:
        """When time changes something next, or when it did and nobody has looked since."""
        heaps = (self.state.look_at, self.state.canaries)
        return min([self._look_at, *(heap[0][0] for heap in heaps if heap)])

    def _tick(self, at: datetime, recorded: Iterable[Fact]) -> None:
        """Decide everything on the same rows, as a tick does, then fold it."""
        state = self.state
        if at >= self._look_at:
            self._look_at = _next_look(at)
            for client in state.clients():
                offered(state, client, at)
            if at.minute < LOOKED_AT_EVERY.total_seconds() / 60:
                _tidy(state)
        looked = [*roster(state, at), *speed(state, at)]
        if looked:  # they look once more, until nothing follows
            self._look_at = at + A_SECOND
        made = [*due(state, at), *canaries_over(state, at), *looked]
        for fact in recorded:
            if isinstance(fact, SendAssigned):
                self._assigned(fact, at)
            elif isinstance(fact, SendLapsed) and state.waits(f"{fact.ref.client}/{fact.ref.send_id}") is not None:
                self._take(fact, at)
        for fact in made:
            self._take(fact, at)

    def _assigned(self, given: SendAssigned, at: datetime) -> None:
        limit, facts = again(self.state, given, at)
        for fact in facts:
            self._take(fact, at)
        if limit is None:
            return
        self.held[given.ref.client, given.ref.send_id, given.attempt] = limit
        self.limits[given.ref.client, limit] += 1
        row = self.state.waits(f"{given.ref.client}/{given.ref.send_id}")
        if row is not None and row.request is not None:  # it is given to nobody else, and asked for no more
            end = row.request.expires_at
            self._take(SendRequeued(given.ref, row.attempt, end, f"held: {limit}", False, None, row.stay_with), at)
            self._keep_its_place(given.ref.client, list_of(row.request))

    def _keep_its_place(self, client: ClientId, list_id: str) -> None:
        """Count it in its list's canary: another mailbox would have carried it, and the canary waits for none."""
        row = self.state.list_row(client, list_id)
        if list_id and row.state == "new" and self.state.policy(client).lists.canary_sends:
            self.state.put(("list", f"{client}/{list_id}"), msgspec.structs.replace(row, held=row.held + 1))

    def _take(self, fact: Fact, at: datetime) -> None:
        mind, state = self._mind, self.state
        for key in mind.rows_of(fact, at):
            mind.changed(state, key, mind.evolve(key, state.get(key), fact, at))
        if isinstance(fact, TOLD):
            self.decided.append((at, fact))

    def _lead(self, client: ClientId, at: datetime) -> None:
        """Have the client led by the other policy, whatever was applied then."""
        if self._other is not None and self.state.policy(client) != (policy := self._other(client)):
            self._take(PolicyApplied(client, policy, "what-if"), at)


def name_of(fact: Fact) -> AttemptName | None:
    """Return which attempt a fact is about, None for none."""
    ref, attempt = getattr(fact, "ref", None), getattr(fact, "attempt", None)
    return None if ref is None or attempt is None else (ref.client, ref.send_id, attempt)


def _next_look(at: datetime) -> datetime:
    seconds = LOOKED_AT_EVERY.total_seconds()
    return datetime.fromtimestamp((at.timestamp() // seconds + 1) * seconds, at.tzinfo)


def _tidy(state: FleetState) -> None:
    """Drop from the indexes what a plan would have taken out."""
    state.tell.clear()
    state.lapse.clear()
    for client in state.clients():
        queue = state.sends(client)
        queue.later = [
            (when, place)
            for when, place in queue.later
            if (row := state.waits(place.id)) is not None and (row.attempt, row.not_before) == (place.attempt, when)
        ]
        heapq.heapify(queue.later)
