"""A journal of a test's own on the run's broker, and the projector as a task or as a process that can be killed."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from projections.projector import Projector, Source
from schemas import registry
from schemas.entry import Entry, Seen
from schemas.envelope import Envelope, to_wire
from schemas.sending import SendAdmitted
from streams.log.kafka import Connection, Writer
from streams.log.topics import create, delete, describe
from tests.projections.facts import AT, admitted, rows

SEEN = Seen("ticked", 1, {})
PROCESS = """
import asyncio, sys
from projections.projector import Projector, Source
bootstrap, database, topic, topic_id = sys.argv[1:]
asyncio.run(Projector({"bootstrap_servers": bootstrap}, database, [Source(topic, topic_id, 1, True)]).run())
"""


def entry(seq: int, *facts: registry.Fact, name: str = "e", prev: str | None = None) -> Entry:
    """Return entry `seq` of a journal whose entries are called e1, e2, ..."""
    before = (f"e{seq - 1}" if seq > 1 else "") if prev is None else prev
    decided = tuple(registry.decided(fact) for fact in facts)
    return Entry(f"{name}{seq}", "test", seq, before, AT, None, SEEN, decided)


def sends(first: int, end: int) -> list[Entry]:
    """Return entries first..end-1, each of which admits one send."""
    return [entry(seq, admitted(f"s{seq}")) for seq in range(first, end)]


@dataclass
class Journal:
    """One topic with one partition."""

    bootstrap: str
    database: str
    topic: str
    journal: bool = True
    topic_id: str = field(init=False)
    tasks: "list[asyncio.Task[None]]" = field(default_factory=list)

    def __post_init__(self) -> None:
        self.make()

    @property
    def connection(self) -> Connection:
        """How to reach the broker."""
        return Connection(self.bootstrap)

    def make(self) -> None:
        """Make the topic and look its id up."""
        create(self.connection, {self.topic: (1, {})})
        found = describe(self.connection, [self.topic])[self.topic]
        assert found is not None
        self.topic_id = found.topic_id

    def make_again(self) -> None:
        """Delete the topic and make it again."""
        delete(self.connection, [self.topic])
        self.make()

    async def append(self, *records: Entry | Envelope | bytes) -> None:
        """Append entries, envelopes or whatever bytes."""
        writer = Writer(self.connection)
        try:
            for record in records:
                raw = record if isinstance(record, bytes) else to_wire(record)
                await writer.append(self.topic, 0, None, raw)
        finally:
            await writer.close()

    def projector(self, database: str | None = None) -> Projector:
        """Return a projector of this topic."""
        source = Source(self.topic, self.topic_id, 1, self.journal)
        return Projector(self.connection.options(), database or self.database, [source])

    @asynccontextmanager
    async def running(self, database: str | None = None) -> AsyncIterator["asyncio.Task[None]"]:
        """Run a projector; at the end stop it, unless it has ended by itself."""
        projector = self.projector(database)
        task = asyncio.create_task(projector.run())
        self.tasks.append(task)
        try:
            yield task
        finally:
            if not task.done():
                projector.stop()
                async with asyncio.timeout(20):
                    await task

    async def broken(self) -> str:
        """Run a projector until it stops by itself; return its last words."""
        async with asyncio.timeout(20):
            try:
                await self.projector().run()
            except Exception as error:  # noqa: BLE001 - the test looks at what it was
                return f"{type(error).__name__}: {error}"
        raise AssertionError("the projector ended without a word")

    async def process(self) -> asyncio.subprocess.Process:
        """Start a projector as a process of its own."""
        arguments = (self.bootstrap, self.database, self.topic, self.topic_id)
        return await asyncio.create_subprocess_exec(sys.executable, "-c", PROCESS, *arguments)

    def position(self, database: str | None = None) -> tuple[int, int, str] | None:
        """Return (next offset, seq, entry id) as Postgres has it."""
        sql = "select next_offset, seq, entry_id from applied where topic = %s"
        found = rows(database or self.database, sql, self.topic)
        return (found[0][0], found[0][1], found[0][2]) if found else None

    async def applied(self, offset: int, database: str | None = None) -> None:
        """Wait until everything before `offset` is applied, or a projector's error is there."""

        def reached() -> bool:
            for task in self.tasks:
                if task.done():
                    task.result()
            return (self.position(database) or (0,))[0] >= offset

        await until(reached, f"offset {offset}")

    def count(self) -> int:
        """Return how many sends stand in Postgres."""
        return int(rows(self.database, "select count(*) from sends")[0][0])


async def until(ready: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Wait until `ready`."""
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(ready):  # noqa: ASYNC110 - what is awaited stands in Postgres
            await asyncio.sleep(0.02)


def row_version(database: str, send_id: str) -> str:
    """Return what changes when anybody writes the row of a send again."""
    return str(rows(database, "select xmin::text from sends where send_id = %s", send_id)[0][0])


def ids_of(entries: Sequence[Entry]) -> list[str]:
    """Return the send_ids that entries admit."""
    facts = [registry.fact_in(decided) for each in entries for decided in each.decided]
    return [fact.request.ref.send_id for fact in facts if isinstance(fact, SendAdmitted)]
