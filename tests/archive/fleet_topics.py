"""Small topics on the run's broker, an archive in a folder, and what both hold."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaProducer

from adapters.folder import FolderStore
from ops.archive.archiver import Archiver
from ops.archive.segments import Kept
from ops.archive.shelf import Shelf
from ops.archive.verify import Checked, look
from schemas.entry import Entry
from schemas.envelope import to_wire
from schemas.topics import DAY_MS, Topic
from streams.log.kafka import Connection
from streams.log.topics import check, create
from tests.projections.journal import sends

KEY = bytes(range(32))


def small_topic(name: str, partitions: int = 2, *, journal: bool = False, sealed: bool = False) -> Topic:
    """Return a topic of a test."""
    return Topic(
        name,
        "of a test",
        "any",
        partitions,
        14 * DAY_MS if sealed else None,
        ("test",),
        ("test",),
        journal=journal,
        archive="sealed" if sealed else "kept",
    )


@dataclass
class Ground:
    """Topics of one test and their archive."""

    bootstrap: str
    folder: Path
    topics: dict[str, Topic]
    ids: dict[str, str] = field(default_factory=dict)

    @property
    def connection(self) -> Connection:
        """How to reach the broker."""
        return Connection(self.bootstrap)

    def make(self) -> None:
        """Make the topics."""
        create(self.connection, {name: (topic.partitions, {}) for name, topic in self.topics.items()})
        self.ids = check(self.connection, self.topics)

    def shelf(self) -> Shelf:
        """Open the archive anew."""
        return Shelf(FolderStore(self.folder), KEY)

    def archiver(self, shelf: Shelf | None = None, most_records: int = 3) -> Archiver:
        """Return a fresh archiver."""
        options = self.connection.options()
        return Archiver(options, self.topics, self.ids, shelf or self.shelf(), most_records=most_records)

    async def checked(self, *, content: bool = True) -> Checked:
        """Check the archive."""
        return await look(self.connection, self.topics, self.shelf(), content=content)

    async def problems(self) -> str:
        """Return what is wrong with the archive."""
        return "\n".join((await self.checked()).problems)

    def held(self, topic: str, partition: int) -> list[Kept]:
        """Return what the archive holds of a partition."""
        shelf = self.shelf()
        return list(shelf.records(shelf.lineage(topic), partition))

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[AIOKafkaProducer]:
        """A producer."""
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, linger_ms=5)
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    async def append(self, topic: str, partition: int, *values: Entry | bytes) -> None:
        """Append records."""
        async with self.producer() as producer:
            for value in values:
                raw = value if isinstance(value, bytes) else to_wire(value)
                await producer.send_and_wait(topic, raw, key=b"k", partition=partition)


def ground(bootstrap: str, folder: Path) -> Ground:
    """Return a ground with a journal, inputs and private requests; nothing is made yet."""
    name = f"t{uuid.uuid4().hex[:8]}"
    topics = (
        small_topic(f"{name}-journal", 1, journal=True),
        small_topic(f"{name}-inputs"),
        small_topic(f"{name}-requests", sealed=True),
    )
    return Ground(bootstrap, folder, {topic.name: topic for topic in topics})


def journal_entries(first: int, end: int) -> list[Entry]:
    """Return entries of a journal."""
    return sends(first, end)
