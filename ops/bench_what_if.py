"""What `mailfleet what-if` costs: a journal made by the simulation, gone through under two policies on one core."""

import time
from datetime import UTC, datetime

from ops.journals import Nowhere
from ops.simulation.engine import Scenario, Simulation, declared_fleet
from ops.what_if.policy_file import OtherPolicy
from ops.what_if.study import Past, Study
from schemas import registry
from schemas.entry import Entry, Seen, journal_entry
from schemas.envelope import to_wire
from schemas.fleet import ClientDeclared
from schemas.policy import Policy, PolicyApplied
from schemas.registry import Fact
from schemas.sending import Ticked
from streams.fleet.state import FleetState
from streams.log.rows import RowKey, Rows

BEGIN = datetime(2026, 3, 2, tzinfo=UTC)
STRICTER = {"health": {"bounce_rate_mailbox": 0.02, "out_hours": 48}}


class _Whole(FleetState):
    """A state that keeps what has ended, as the fleet stage does."""

    def forget(self, key: RowKey) -> None:
        """Keep it."""


class Recording(Simulation):
    """A simulation that keeps its journal: `entries`, as the fleet stage would have written them."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.state = _Whole(Rows(Nowhere(), 0, self.mind.row_types))
        self.entries: list[Entry] = []
        self._made: list[Fact] = []
        self.watchers.append(lambda _state, _at, fact: self._made.append(fact))

    def _see(self, fact: Fact) -> None:
        self._made = []
        super()._see(fact)
        if self._made or not isinstance(fact, Ticked):
            self.entries.append(entry_of(len(self.entries) + 1, self.now, fact, self._made))


def entry_of(seq: int, at: datetime, seen: Fact, decided: list[Fact]) -> Entry:
    """Return an entry of a journal whose entries are called e1, e2, ..."""
    said = registry.decided(seen)
    before = f"e{seq - 1}" if seq > 1 else ""
    facts = tuple(registry.decided(fact) for fact in decided)
    return Entry(f"e{seq}", "made-up", seq, before, at, None, Seen(said.type, said.v, said.data), facts)


def made_up(mailboxes: int, days: int) -> Scenario:
    """Return the days of a made-up fleet with 12 domains and 3 clients, which a policy leads."""
    declared = declared_fleet(mailboxes, 12, 3)
    led = [PolicyApplied(f.client, Policy("bench"), "bench") for f in declared if isinstance(f, ClientDeclared)]
    return Scenario((*declared, *led), BEGIN, days)


def recorded(mailboxes: int, days: int) -> list[bytes]:
    """Return the journal of a made-up fleet, as Kafka would hold it."""
    run = Recording(made_up(mailboxes, days))
    for _ in run.run():
        pass
    return [to_wire(entry) for entry in run.entries]


def what_if_rate(journal: list[bytes]) -> float:
    """Return the entries a second of processor time that are read from their bytes and decided under two policies."""
    study = Study(BEGIN, None, OtherPolicy(STRICTER, {}))
    past, begun = Past(study), time.process_time()
    for number, raw in enumerate(journal):
        past.entry(journal_entry(raw, f"entry {number}"))
    past.close()
    return len(journal) / (time.process_time() - begun)
