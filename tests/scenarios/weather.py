"""What every story needs: a small fleet, a policy, a run in the modelled mail world, and what is counted of it."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from ops.simulation.engine import Scenario, Simulation, declared_fleet
from ops.simulation.tally import Tally
from schemas.dns import Check, DomainObserved, Finding, Verdict
from schemas.fleet import ClientDeclared, MailboxDeclared, MailboxWarmed
from schemas.health import GateClosed, GateOpened
from schemas.ids import ClientId, DomainName, RouteId
from schemas.policy import Policy, PolicyApplied
from schemas.registry import Fact
from schemas.sending import AttemptAccepted, SendAssigned, SendQueued
from streams.fleet.state import FleetState, domain_of

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
F = TypeVar("F")
ONE, OTHER = ClientId("client0"), ClientId("client1")


def fleet(mailboxes: int, domains: int, clients: int = 1, *, policy: Policy, warm: bool = False) -> tuple[Fact, ...]:
    """Return a fleet that this policy leads; `warm`: its mailboxes were warmed up before."""
    facts = declared_fleet(mailboxes, domains, clients)
    led: list[Fact] = [PolicyApplied(f.client, policy, "lena") for f in facts if isinstance(f, ClientDeclared)]
    boxes = [f for f in facts if isinstance(f, MailboxDeclared)] if warm else []
    return (*facts, *led, *(MailboxWarmed(box.client, box.mailbox, MONDAY, "before") for box in boxes))


@dataclass
class Run:
    """One story that was lived through."""

    simulation: Simulation
    tally: Tally = field(default_factory=Tally)
    assigned: list[tuple[datetime, SendAssigned]] = field(default_factory=list)
    queued: list[tuple[datetime, SendQueued]] = field(default_factory=list)
    accepted: list[tuple[datetime, AttemptAccepted]] = field(default_factory=list)

    def saw(self, _state: FleetState, at: datetime, fact: Fact) -> None:
        """Keep the requests and the assignments."""
        if isinstance(fact, SendQueued):
            self.queued.append((at, fact))
        if isinstance(fact, SendAssigned):
            self.assigned.append((at, fact))

    def heard(self, at: datetime, fact: Fact) -> None:
        """Keep what servers took."""
        self.tally.heard(at, fact)
        if isinstance(fact, AttemptAccepted):
            self.accepted.append((at, fact))

    def decided(self, kind: type[F], client: str = "") -> list[F]:
        """Return all decisions of a kind, of one client or all, in order."""
        found = [fact for _, fact in self.simulation.decided if isinstance(fact, kind)]
        return [fact for fact in found if not client or getattr(fact, "client", "") == client]

    def mails(self, client: ClientId = ONE) -> list[int]:
        """Return the mails of each day."""
        return [evening.assigned[client] for evening in self.tally.evenings]

    def mails_between(self, begin: datetime, end: datetime) -> Counter[str]:
        """Return what the domains carried from `begin` to `end`."""
        return Counter(str(domain_of(a.sender.mailbox)) for at, a in self.assigned if begin <= at < end)

    def routes_between(self, begin: datetime, end: datetime) -> Counter[str]:
        """Return what the routes carried from `begin` to `end`."""
        return Counter(str(a.call.route) for at, a in self.assigned if begin <= at < end)

    def gates(self) -> list[str]:
        """Return what was closed and opened, in order."""
        said = [fact for _, fact in self.simulation.decided if isinstance(fact, GateClosed | GateOpened)]
        return [f"{'closed' if isinstance(f, GateClosed) else 'opened'} {f.domain} {f.check}" for f in said]

    def of_list(self, list_id: str, client: ClientId = ONE) -> int:
        """Return how many of a list's recipients were written to."""
        mine = (a for _, a in self.assigned if a.ref.client == client and a.list_id == list_id)
        return len({a.ref.send_id for a in mine})


def live(scenario: Scenario) -> Run:
    """Live through the scenario; no send may be lost on the way."""
    run = Run(Simulation(scenario))
    run.simulation.watchers += [run.tally.saw, run.saw]
    run.simulation.listeners.append(run.heard)
    for day in run.simulation.run():
        run.tally.close_day(day.day, run.simulation.now)
    assert_nothing_is_lost(run.simulation)
    return run


def assert_nothing_is_lost(simulation: Simulation) -> None:
    """Every send that was asked for has ended or is still in the backlog."""
    state = simulation.state
    waiting = sum(1 for client in state.clients() for _ in state.backlog_of(client))
    ended = sum(n for day in simulation.days for how, n in day.counts.items() if how.startswith(("ended", "expired")))
    assert ended + waiting == sum(simulation.asked.values()) > 0


def look(
    check: Check, verdict: Verdict, at: datetime, *, domain: str = "d0.client0.test", route: str = ""
) -> tuple[datetime, DomainObserved]:
    """Return one look at a domain's DNS, at its time."""
    finding = Finding(check, verdict, f"it is {verdict}", "" if verdict == "good" else f"mend {check}")
    return at, DomainObserved(ONE, DomainName(domain), at, "10.0.0.53", (finding,), RouteId(route))
