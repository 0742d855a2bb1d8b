"""The projector: applies journals and dead letters to Postgres, exactly once, restart anywhere.

Offsets, seqs and entry ids are written in the transaction that writes the rows. It obeys the journal rule
like every reader, and begins only at a journal's true start or where it left off.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from psycopg import sql

from projections import (
    attempts,
    costs,
    daily_mail,
    dead_letters,
    decisions,
    domains,
    gates,
    health,
    mailbox_reading,
    mailboxes,
    policies,
    reports,
    reputation,
    roster,
    routes,
    sends,
    suppressions,
    waiting,
)
from projections.read_model import Place, Project, Statement
from schemas import registry
from schemas.entry import JournalBroken, counts, journal_entry
from schemas.envelope import Unreadable, from_wire
from schemas.metrics import PROJECTED, PROJECTOR_WAITS

log = logging.getLogger(__name__)

READ_MODELS: tuple[Project, ...] = (
    sends.project,
    attempts.project,
    dead_letters.project,
    mailboxes.project,
    mailbox_reading.project,
    domains.project,
    routes.project,
    decisions.project,
    health.project,
    gates.project,
    roster.project,
    waiting.project,
    reports.project,
    reputation.project,
    suppressions.project,
    daily_mail.project,
    costs.project,
    policies.project,
)
RETRY_S = 1.0
LEARN_AT = (1_000, 10_000, 100_000, 1_000_000)
"""After so many records Postgres looks at the tables: what it planned while they were empty may read them whole."""

_TABLES = "select tablename from pg_tables where schemaname = current_schema() and tableowner = current_user"
_POSITION = """
insert into applied (topic, partition, topic_id, next_offset, seq, entry_id)
values (%(topic)s, %(partition)s, %(topic_id)s, %(next_offset)s, %(seq)s, %(entry_id)s)
on conflict (topic, partition) do update set next_offset = excluded.next_offset, seq = excluded.seq,
    entry_id = excluded.entry_id
where applied.next_offset = %(before)s
"""


class Overtaken(Exception):
    """Another projector moved the position on; what is in hand here is old."""


@dataclass
class Position:
    """How far a partition is applied."""

    next_offset: int = 0
    seq: int = 0
    entry_id: str = ""


@dataclass(frozen=True)
class Source:
    """A topic that the projector reads: its generation, its partition count, whether it is a journal."""

    topic: str
    topic_id: str
    partitions: int
    journal: bool


class Projector:
    """One projector. Two at once do not double: a transaction counts only if it moves the position it started at."""

    batch = 1000
    """Records that one transaction applies at most."""
    options = ""
    """Settings of the Postgres session, as libpq writes them."""

    def __init__(self, kafka: Mapping[str, Any], database_url: str, sources: Iterable[Source]) -> None:
        self._kafka = dict(kafka)
        self._database_url = database_url
        self._sources = {source.topic: source for source in sources}
        self._positions: dict[TopicPartition, Position] = {}
        self._stopping = asyncio.Event()
        self.applied = 0  # records

    def stop(self) -> None:
        """End after the batch in hand."""
        self._stopping.set()

    async def run(self) -> None:
        """Apply until stopped. Postgres or Kafka being down is waited for. Raises JournalBroken."""
        while not self._stopping.is_set():
            try:
                await self._session()
            except (psycopg.OperationalError, KafkaError, OSError, Overtaken) as error:
                log.warning("projector waits and begins anew where it was: %s", error)
                PROJECTOR_WAITS.inc()
                await asyncio.sleep(RETRY_S)

    async def _session(self) -> None:
        connection = await psycopg.AsyncConnection.connect(self._database_url, options=self.options)
        consumer = AIOKafkaConsumer(
            **self._kafka,
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=4_194_304,
        )
        async with connection:
            await consumer.start()
            try:
                await self._take_up(connection, consumer)
                while not self._stopping.is_set():
                    batches = await consumer.getmany(timeout_ms=200, max_records=self.batch)
                    if batches:
                        await self._apply(connection, batches)
                    await self._between(connection, consumer)
            finally:
                await consumer.stop()

    async def _between(self, connection: Any, consumer: Any) -> None:
        """What else is to be done after a batch; a rebuild looks whether it has caught up."""

    async def _take_up(self, connection: Any, consumer: Any) -> None:
        """Assign everything and go to where each partition left off."""
        places = [TopicPartition(s.topic, n) for s in self._sources.values() for n in range(s.partitions)]
        consumer.assign(places)
        stored = await self._stored(connection)  # before the ends: another projector may be going on
        starts = await consumer.beginning_offsets(places)
        ends = await consumer.end_offsets(places)
        for place in places:
            position = stored.get(place, Position())
            self._check(place, position, starts[place], ends[place], known=place in stored)
            if not self._sources[place.topic].journal:
                position.next_offset = max(position.next_offset, starts[place])
            self._positions[place] = position
            consumer.seek(place, position.next_offset)

    async def _stored(self, connection: Any) -> dict[TopicPartition, Position]:
        found: dict[TopicPartition, Position] = {}
        rows = await connection.execute("select topic, partition, topic_id, next_offset, seq, entry_id from applied")
        async for topic, partition, topic_id, next_offset, seq, entry_id in rows:
            source = self._sources.get(topic)
            if source is None:
                continue
            if source.topic_id != topic_id:
                raise JournalBroken(
                    f"topic {topic} was deleted and made again since it was applied: use a fresh database for it."
                )
            found[TopicPartition(topic, partition)] = Position(next_offset, seq, entry_id)
        await connection.commit()
        return found

    def _check(self, place: TopicPartition, position: Position, start: int, end: int, *, known: bool) -> None:
        name = f"{place.topic}/{place.partition}"
        if position.next_offset > end:
            raise JournalBroken(f"{name} ends at {end}, but {position.next_offset} was applied: it was cut short.")
        if self._sources[place.topic].journal and start > position.next_offset:
            what = "the position" if known else "a fresh reader's place, its true start 0"
            raise JournalBroken(f"{name} begins at {start}, after {what}: restore the entries from the archive.")

    async def _apply(self, connection: Any, batches: Mapping[TopicPartition, list[Any]]) -> None:
        moved: dict[TopicPartition, Position] = {}
        statements: list[Statement] = []
        for place, messages in sorted(batches.items()):  # in one order, so that two cannot lock each other out
            position = Position(**vars(self._positions[place]))
            for message in messages:
                statements.extend(self._record(place, message, position))
            moved[place] = position
        async with connection.transaction(), connection.pipeline() as pipeline:
            moves = [await connection.execute(_POSITION, self._row(place, to)) for place, to in moved.items()]
            await pipeline.sync()
            if any(move.rowcount != 1 for move in moves):
                raise Overtaken("another projector has applied this already")
            cursor = connection.cursor()  # one for all: thousands would cost more than what they carry
            for statement, values in statements:
                await cursor.execute(statement, _storable(values))
        self._positions.update(moved)
        before = self.applied
        for place, messages in batches.items():
            PROJECTED.labels(place.topic).inc(len(messages))
            self.applied += len(messages)
        if any(before < count <= self.applied for count in LEARN_AT):
            await analyze(connection)

    def _row(self, place: TopicPartition, position: Position) -> dict[str, Any]:
        return {
            "topic": place.topic,
            "partition": place.partition,
            "topic_id": self._sources[place.topic].topic_id,
            "before": self._positions[place].next_offset,
            **vars(position),
        }

    def _record(self, place: TopicPartition, message: Any, position: Position) -> list[Statement]:
        position.next_offset = message.offset + 1
        if self._sources[place.topic].journal:
            return self._entry(place, message, position)
        if message.value is None:
            return []  # a tombstone, or what a restore wrote where nothing stood
        at = datetime.fromtimestamp(message.timestamp / 1000, UTC)
        try:
            envelope = from_wire(message.value)
            fact = registry.fact_of(envelope.type, envelope.v, envelope.data)
        except Unreadable as error:
            log.error("%s/%d offset %d cannot be read: %s", place.topic, place.partition, message.offset, error)
            return []
        return _project(fact, Place(place.topic, place.partition, 0, 0, at))

    def _entry(self, place: TopicPartition, message: Any, position: Position) -> list[Statement]:
        where = f"{place.topic}/{place.partition} offset {message.offset}"
        entry = journal_entry(message.value, where)
        if not counts(entry, position.seq, position.entry_id, where):
            return []
        position.seq, position.entry_id = entry.seq, entry.id
        found: list[Statement] = []
        for n, decided in enumerate(entry.decided):
            try:
                fact = registry.fact_in(decided)
            except Unreadable as error:
                raise JournalBroken(f"{where}: {error}: a newer mailfleet wrote it; update this one.") from error
            found += _project(fact, Place(place.topic, place.partition, entry.seq, n, entry.at))
        return found


async def analyze(connection: Any) -> None:
    """Have Postgres count what stands in the read models: statements that are prepared already are planned anew."""
    async with connection.transaction():
        tables = await (await connection.execute(_TABLES)).fetchall()
    for (table,) in tables:
        async with connection.transaction():
            await connection.execute(sql.SQL("analyze {}").format(sql.Identifier(table)))


def _storable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as Postgres can hold them: a text there has no NUL, a stranger's text may have one."""
    return {name: v.replace("\0", "\ufffd") if isinstance(v, str) else v for name, v in values.items()}


def _project(fact: registry.Fact, place: Place) -> list[Statement]:
    return [statement for model in READ_MODELS for statement in model(fact, place)]
