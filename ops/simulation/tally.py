"""Counts what a simulated fleet looks like at the end of each day, from its decisions alone."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from schemas.fleet import MailboxDeclared
from schemas.health import (
    GateClosed,
    GateOpened,
    HealthChanged,
    ListChanged,
    ReserveChanged,
    RestBegan,
    SignCounted,
    WarmUpStepped,
)
from schemas.ids import ClientId, MailboxAddress
from schemas.policy import PolicyApplied
from schemas.registry import Fact
from schemas.reports import SendComplained
from schemas.sending import (
    AttemptAccepted,
    AttemptRefused,
    SendAssigned,
    SendBounced,
    SendDelivered,
    SendEnded,
    SendQueued,
)
from streams.fleet.state import FleetState

STATES = ("active", "watched", "probation", "unhealthy", "resting", "reserve")


@dataclass(frozen=True)
class Evening:
    """One day's end: mailboxes by state, their caps in order, what was carried and what came back, by client."""

    day: str
    states: Counter[str]
    caps: tuple[int, ...]
    assigned: Counter[ClientId]
    bounced: Counter[ClientId]
    complained: Counter[ClientId]


@dataclass
class Tally:
    """Watches a simulation; `close_day` takes the snapshot."""

    quota: dict[MailboxAddress, int] = field(default_factory=dict)
    client_of: dict[MailboxAddress, ClientId] = field(default_factory=dict)
    warming: set[ClientId] = field(
        default_factory=set
    )  # whose policy warms up: a mailbox without a step has no cap yet
    health: dict[tuple[str, str], str] = field(default_factory=dict)  # (scope, name) → state
    caps: dict[str, int] = field(default_factory=dict)
    resting: dict[str, datetime] = field(default_factory=dict)
    reserve: set[str] = field(default_factory=set)
    gates: set[tuple[str, str, str]] = field(default_factory=set)
    lists: dict[tuple[ClientId, str], str] = field(default_factory=dict)
    per_box_day: Counter[tuple[str, str]] = field(default_factory=Counter)
    evenings: list[Evening] = field(default_factory=list)
    _assigned: Counter[ClientId] = field(default_factory=Counter)
    _bounced: Counter[ClientId] = field(default_factory=Counter)
    _complained: Counter[ClientId] = field(default_factory=Counter)

    def saw(self, _state: FleetState, _at: datetime, fact: Fact) -> None:
        """Take a decision."""
        match fact:
            case SignCounted() | SendQueued() | SendEnded():  # the most there are
                pass
            case SendAssigned():
                self._assigned[fact.ref.client] += 1
            case MailboxDeclared():
                self.quota[fact.mailbox] = fact.daily_quota
                self.client_of[fact.mailbox] = fact.client
            case PolicyApplied():
                (self.warming.add if fact.policy.warm_up.enabled else self.warming.discard)(fact.client)
            case HealthChanged():
                self.health[fact.scope, fact.name or fact.client] = fact.now
            case WarmUpStepped(scope="mailbox"):
                self.caps[fact.name] = fact.now
            case RestBegan(scope="mailbox"):
                self.resting[fact.name] = fact.until
            case ReserveChanged():
                (self.reserve.add if fact.now == "reserve" else self.reserve.discard)(fact.mailbox)
            case GateClosed():
                self.gates.add((fact.domain, fact.route, fact.check))
            case GateOpened():
                self.gates.discard((fact.domain, fact.route, fact.check))
            case ListChanged():
                self.lists[fact.client, fact.list_id] = fact.now
            case _:
                pass

    def heard(self, at: datetime, fact: Fact) -> None:
        """Take what the mail world said."""
        match fact:
            case SendDelivered():  # the most there are
                pass
            case AttemptAccepted():
                self.per_box_day[fact.mailbox, f"{at:%Y-%m-%d}"] += 1
            case AttemptRefused() if fact.verdict.action == "suppress":
                self._bounced[fact.ref.client] += 1
            case SendBounced():
                self._bounced[fact.ref.client] += 1
            case SendComplained():
                self._complained[fact.ref.client] += 1
            case _:
                pass

    def state_of(self, box: str, at: datetime) -> str:
        """The one word for a mailbox."""
        if box in self.reserve:
            return "reserve"
        if self.resting.get(box, at) > at:
            return "resting"
        return self.health.get(("mailbox", box), "active")

    def _cap(self, box: MailboxAddress, quota: int) -> int:
        return min(self.caps.get(box, 0 if self.client_of[box] in self.warming else quota), quota)

    def close_day(self, day: str, at: datetime) -> None:
        """Take the snapshot of a day's end."""
        states = Counter(self.state_of(box, at) for box in self.quota)
        caps = tuple(sorted(self._cap(box, quota) for box, quota in self.quota.items()))
        self.evenings.append(Evening(day, states, caps, self._assigned, self._bounced, self._complained))
        self._assigned, self._bounced, self._complained = Counter(), Counter(), Counter()
