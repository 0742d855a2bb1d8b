"""What `mailfleet rebuild` costs: both journals of a simulated fleet in a Kafka of its own, put into fresh tables."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from ops.bench_what_if import Recording, entry_of, made_up
from ops.bulk import Bulk
from ops.embedded import EmbeddedKafka, EmbeddedPostgres
from ops.simulation.engine import Scenario
from ops.site import Site
from ops.sources import read_model_sources
from projections.migrate import migrate
from projections.rebuild import Rebuild, prepare
from schemas.envelope import to_wire
from schemas.registry import Fact
from schemas.sending import (
    AttemptAccepted,
    AttemptAssigned,
    AttemptNotSent,
    AttemptRefused,
    SendAdmitted,
    SendAssigned,
    SendBounced,
    SendDelivered,
    SendRef,
    SubmissionStarted,
)
from schemas.topics import DELIVERY_JOURNAL, FLEET_JOURNAL
from streams.fleet.state import FleetState
from streams.settings import Settings

OUTCOMES = (AttemptAccepted, AttemptNotSent, AttemptRefused, SendBounced, SendDelivered)


class Both(Recording):
    """A recording that notes what the delivery stage decides meanwhile, too: `steps`, by partition of its journal."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__(scenario)
        self.steps: defaultdict[int, list[tuple[datetime, Fact]]] = defaultdict(list)
        self.listeners.append(self._heard)
        self.watchers.append(self._planned)

    def _see(self, fact: Fact) -> None:
        if isinstance(fact, SendAdmitted):
            self._note(fact.request.ref, self.now, fact)
        super()._see(fact)

    def _planned(self, state: FleetState, at: datetime, fact: Fact) -> None:
        if not isinstance(fact, SendAssigned):
            return
        row = state.backlog(f"{fact.ref.client}/{fact.ref.send_id}")
        assert row is not None
        assert row.request is not None
        self._note(fact.ref, at, AttemptAssigned(fact.ref, fact, row.request.content, fact.sender.mailbox))
        self._note(fact.ref, at, SubmissionStarted(fact.ref, fact.attempt, at, "bench"))

    def _heard(self, at: datetime, fact: Fact) -> None:
        if isinstance(fact, OUTCOMES):
            self._note(fact.ref, at, fact)

    def _note(self, ref: SendRef, at: datetime, fact: Fact) -> None:
        self.steps[int(ref.send_id[1:]) % DELIVERY_JOURNAL.partitions].append((at, fact))


def lived(mailboxes: int, days: int) -> Both:
    """Return a made-up fleet's days."""
    run = Both(made_up(mailboxes, days))
    for _ in run.run():
        pass
    return run


def records_of(run: Both) -> Iterator[tuple[str, int, bytes]]:
    """Yield (topic, partition, record) of both journals, in order within each partition."""
    for entry in run.entries:
        yield FLEET_JOURNAL.name, 0, to_wire(entry)
    for partition, steps in run.steps.items():
        for number, (at, fact) in enumerate(steps, 1):
            yield DELIVERY_JOURNAL.name, partition, to_wire(entry_of(number, at, fact, [fact]))


def written(settings: Settings, run: Both) -> int:
    """Write both journals to Kafka; return the number of entries."""
    bulk, count = Bulk(settings.connection), 0
    for topic, partition, record in records_of(run):
        bulk.put(settings.prefix + topic, partition, b"bench", record)
        count += 1
    bulk.flush()
    return count


def rebuild_rate(folder: Path, run: Both, step: Callable[[int, int], None]) -> tuple[int, float]:
    """Return the entries and how many a second were put into fresh tables, by a Kafka and a Postgres below `folder`."""
    kafka, postgres = EmbeddedKafka(folder / "kafka"), EmbeddedPostgres(folder / "postgres")
    try:
        kafka.start()
        postgres.start()
        site = Site(folder / "site", kafka.bootstrap, postgres.url)
        site.prepare()
        entries = written(site.settings, run)
        migrate(postgres.url)
        prepare(postgres.url)
        begun = time.monotonic()
        work = Rebuild(
            site.settings.connection.options(),
            postgres.url,
            read_model_sources(site.settings),
            step=step,
        )
        asyncio.run(work.run())
        return entries, entries / (time.monotonic() - begun)
    finally:
        postgres.stop()
        kafka.stop()
