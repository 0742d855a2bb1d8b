"""A small stage on the real broker: its mind tallies labels, its owners are processes that can be harmed.

An input is a CancelOrdered with a label; each part of "a+b" is decided to one CancelNoted, "nothing" to none,
and "claim" only once a key. Rows, position and forwards go through the owner's FaultyWriter, so that every step
of a stage can be held or lost.
"""

import asyncio
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import faust
import msgspec
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from schemas import registry
from schemas.entry import Entry, entry_from_wire
from schemas.envelope import Envelope, Origin, from_wire, to_wire
from schemas.ids import ClientId, Recipient, SendId
from schemas.registry import Fact
from schemas.sending import CancelNoted, CancelOrdered, SendRef, Ticked
from schemas.topics import DEAD_LETTERS, Topic
from streams.log.kafka import AppendUncertain, Connection, Reader, Record, Writer
from streams.log.mind import Outgoing
from streams.log.position import Position
from streams.log.rows import POSITION, RowKey, RowNotStored, Rows, key_text
from streams.log.stage import Doors, Partition, Places, Stage
from streams.log.tables import MarkedTable
from streams.log.topics import CHANGELOG_CONFIG, create, delete, describe

CLIENT = ClientId("acme")
OTHERS = Topic(
    "others", "What the small stage forwards.", "send", 1, None, ("small stage",), ("tests",), broker_time=True
)
BROKER_TIME = {"message.timestamp.type": "LogAppendTime"}


def order(label: str, key: str = "k") -> CancelOrdered:
    """Return an input fact."""
    return CancelOrdered(SendRef(CLIENT, SendId(key), Recipient("r")), label)


def wire(fact: Fact, origin: Origin | None = None) -> bytes:
    """Return the fact as an input record's value."""
    name = registry.TYPE_OF[type(fact)]
    now = datetime.now(UTC)
    return to_wire(
        Envelope("i", name, registry.VERSION_OF[name], now, "k", "test", registry.data_of(fact), None, origin)
    )


# ── the mind ─────────────────────────────────────────────────────────────────────────────────────


class Tally(msgspec.Struct, frozen=True):
    """A row: the labels that one key has seen, in order."""

    labels: tuple[str, ...] = ()


class TallyMind:
    """Pure; `tick_label` is what a tick decides, "" for nothing."""

    row_types: Mapping[str, type[msgspec.Struct]] = {"tally": Tally}

    def __init__(self, tick_label: str = "", *, forwarding: bool = True) -> None:
        self.tick_label = tick_label
        self.forwarding = forwarding

    def open(self, rows: Rows) -> dict[str, Tally]:
        """Return {key: tally}."""
        return {key[1]: row for key, row in rows.all() if isinstance(row, Tally)}

    def decide(self, state: dict[str, Tally], seen: Fact, at: datetime) -> list[Fact]:
        """Return one CancelNoted for each part of the label."""
        match seen:
            case CancelOrdered(ref=ref, by="claim"):
                claimed = "claim" in state.get(ref.send_id, Tally()).labels
                return [] if claimed else [CancelNoted(CLIENT, ref.send_id, "claim")]
            case CancelOrdered(by="nothing"):
                return []
            case CancelOrdered(ref=ref, by=label):
                return [CancelNoted(CLIENT, ref.send_id, part) for part in label.split("+")]
            case CancelNoted():
                return [seen]
            case Ticked() if self.tick_label:
                return [CancelNoted(CLIENT, SendId("ticks"), self.tick_label)]
            case _:
                return []

    def rows_of(self, fact: Fact, at: datetime) -> Iterable[RowKey]:
        """Return the tally's key."""
        return [("tally", fact.send_id)] if isinstance(fact, CancelNoted) else []

    def evolve(self, key: RowKey, row: msgspec.Struct | None, fact: Fact, at: datetime) -> Tally:
        """Return the tally with the label."""
        assert isinstance(fact, CancelNoted)
        before = row.labels if isinstance(row, Tally) else ()
        return Tally((*before, fact.by))

    def changed(self, state: dict[str, Tally], key: RowKey, row: msgspec.Struct) -> None:
        """Keep the state."""
        assert isinstance(row, Tally)
        state[key[1]] = row

    def track(self, open_attempts: dict[str, bool], fact: Fact) -> None:
        """There are no attempts."""

    def forwards(self, fact: Fact, at: datetime) -> list[Outgoing]:
        """Return the noted cancel for OTHERS."""
        if self.forwarding and isinstance(fact, CancelNoted):
            return [Outgoing(OTHERS, fact.send_id.encode(), fact)]
        return []


# ── faults ───────────────────────────────────────────────────────────────────────────────────────

Lands = Literal["at once", "before the next", "after the next", "never"]


@dataclass
class Hold:
    """A step that stands still: `reached` when it does, until `go`."""

    when: Literal["before", "after"]
    topic: str
    key: bytes
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Loss:
    """An append whose answer is lost."""

    lands: Lands
    topic: str
    key: bytes
    record: tuple[str, int, bytes | None, bytes] | None = None


class FaultyWriter(Writer):
    """A writer that can stand still before or after an append, or lose its answer."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, timeout_s=10.0)
        self._holds: list[Hold] = []
        self._losses: list[Loss] = []
        self._late: list[Loss] = []

    def hold(self, when: Literal["before", "after"], topic: str, key: bytes = b"") -> Hold:
        """Have the next append to `topic` whose key holds `key` stand still."""
        hold = Hold(when, topic, key)
        self._holds.append(hold)
        return hold

    def lose(self, lands: Lands, topic: str, key: bytes = b"") -> None:
        """Have the next such append end in AppendUncertain; its record lands as said."""
        self._losses.append(Loss(lands, topic, key))

    async def append(self, topic: str, partition: int, key: bytes | None, value: bytes) -> int:
        """Append, with the faults that were asked for."""
        await self._stand("before", topic, key)
        late = next((x for x in self._late if x.topic == topic), None)
        if late is not None and late.record is not None:
            self._late.remove(late)
            if late.lands == "before the next":
                await super().append(*late.record)
        loss = next((x for x in self._losses if x.topic == topic and x.key in (key or b"")), None)
        if loss is not None:
            self._losses.remove(loss)
            if loss.lands == "at once":
                await super().append(topic, partition, key, value)
            elif loss.lands != "never":
                loss.record = (topic, partition, key, value)
                self._late.append(loss)
            raise AppendUncertain("the answer was lost by the test")
        offset = await super().append(topic, partition, key, value)
        if late is not None and late.record is not None and late.lands == "after the next":
            await super().append(*late.record)
        await self._stand("after", topic, key)
        return offset

    async def _stand(self, when: str, topic: str, key: bytes | None) -> None:
        for hold in [h for h in self._holds if h.when == when and h.topic == topic and h.key in (key or b"")]:
            self._holds.remove(hold)
            hold.reached.set()
            await hold.go.wait()


# ── the table's door ─────────────────────────────────────────────────────────────────────────────


def marked_table(app_id: str, datadir: Path | None = None) -> MarkedTable:
    """Return a real table of a fresh app; with `datadir` its store is RocksDB, as delivery's is."""
    store = "memory://" if datadir is None else "rocksdb://"
    app = faust.App(app_id, store=store, datadir=str(datadir or "."), Table=MarkedTable, loghandlers=[])
    options = None if datadir is None else {"driver": "rocksdict"}
    table = app.Table("rows", partitions=8, key_type=bytes, value_type=bytes, options=options)
    assert isinstance(table, MarkedTable)
    return table


def event(record: Record) -> Any:
    """Return a changelog record as Faust's recovery hands it to a table."""
    place = faust.types.TP(record.topic, record.partition)
    message = SimpleNamespace(
        key=record.key,
        value=record.value,
        partition=record.partition,
        topic=record.topic,
        tp=place,
        offset=record.offset,
    )
    return SimpleNamespace(key=record.key, value=record.value, message=message)


class ChangelogRows:
    """A RowStore as a Faust table is one: local rows, a real changelog, recovery by MarkedTable."""

    def __init__(self, world: "World", writer: Writer) -> None:
        self._world = world
        self._writer = writer
        self.local: dict[bytes, bytes] = {}

    async def recover(self) -> None:
        """Replace the local rows by what recovery makes of the changelog."""
        self.local = {}
        for number in range(self._world.partitions):
            self.recover_from(await self._world.records(self._world.places.changelog, number))

    def recover_from(self, records: list[Record]) -> None:
        """Apply changelog records in small batches, as recovery does."""
        table = marked_table(self._world.app_id)
        for first in range(0, len(records), 3):
            table.apply_changelog_batch([event(record) for record in records[first : first + 3]])
        self.local.update(table.items())

    def get(self, key: bytes) -> bytes | None:
        """Return the stored row."""
        return self.local.get(key)

    def items(self, partition: int) -> list[tuple[bytes, bytes]]:
        """Return the rows of a partition."""
        return [(k, v) for k, v in self.local.items() if k.startswith(f"{partition}|".encode())]

    async def write(self, partition: int, rows: Mapping[bytes, bytes]) -> None:
        """Store locally, then in the changelog, each acknowledged. Raises RowNotStored."""
        self.local.update(rows)
        for key, value in rows.items():
            try:
                await self._writer.append(self._world.places.changelog, partition, key, value)
            except AppendUncertain as error:
                raise RowNotStored(f"partition {partition}: a row write failed: {error!r}") from error


# ── owners and their world ───────────────────────────────────────────────────────────────────────


class Owner:
    """One process that believes it owns the stage's partitions."""

    def __init__(self, world: "World", name: str, mind: TallyMind, places: Places, lanes: int) -> None:
        self.world = world
        self.name = name
        self.writer = FaultyWriter(world.connection)
        self.reader = Reader(world.connection, lanes=lanes)
        self.rows = ChangelogRows(world, self.writer)
        self.now: datetime | None = None
        ids = itertools.count(1)
        doors = Doors(
            self.reader,
            self.writer,
            self.rows,
            clock=lambda: self.now or datetime.now(UTC),
            new_id=lambda: f"{name}-{next(ids)}",
            by=name,
        )
        self.stage = Stage(mind, places, doors)

    async def begin(self) -> "Owner":
        """Recover the rows and take all partitions."""
        await self.rows.recover()
        self.assigned()
        return self

    async def begin_fleet(self) -> "Owner":
        """Begin as the very first owner: with the first position row stored."""
        await self.begin()
        for number in range(self.world.partitions):
            await self.tick(partition=number)
        return self

    def assigned(self) -> None:
        """Have the engine give all partitions (again)."""
        self.stage.assigned(range(self.world.partitions))

    def partition(self, number: int = 0) -> Partition:
        """Return the partition."""
        return self.stage.partitions[number]

    async def take(self, *offsets: int, partition: int = 0) -> None:
        """Have the engine deliver these inputs."""
        records = {r.offset: r for r in await self.world.records(self.stage.places.inputs, partition)}
        for offset in offsets:
            await self.stage.take(records[offset])

    async def tick(self, at: datetime | None = None, *, offset: int = 0, partition: int = 0) -> None:
        """Have the engine deliver a tick."""
        when = at or self.now or datetime.now(UTC)
        await self.stage.tick(Record(self.stage.places.ticks, partition, offset, when, None, b"{}"))

    async def settle(self, partition: int = 0) -> None:
        """Read the journal to its end and store everything."""
        self.assigned()
        await self.tick(partition=partition)

    def tallies(self, partition: int = 0) -> dict[str, tuple[str, ...]]:
        """Return {key: labels} as the rows stand."""
        rows = self.partition(partition).rows.all()
        return {key[1]: row.labels for key, row in rows if isinstance(row, Tally)}

    def stopped(self, number: int = 0) -> str:
        """Return why the partition stands, "" when it does not."""
        return self.partition(number).stopped

    async def close(self) -> None:
        """Hang up."""
        await self.reader.close()
        await self.writer.close()


class World:
    """The topics of one small stage and what they hold."""

    def __init__(self, bootstrap: str, prefix: str, partitions: int = 1) -> None:
        self.connection = Connection(bootstrap)
        self.prefix = prefix
        self.partitions = partitions
        self.app_id = f"{prefix}small"
        self.given: dict[int, list[str]] = {n: [] for n in range(partitions)}
        self._owners: list[Owner] = []
        self.reader = Reader(self.connection)
        self.writer = Writer(self.connection)
        names = {name: f"{prefix}{name}" for name in ("journal", "inputs", "ticks")}
        changelog = f"{self.app_id}-rows-changelog"
        made: dict[str, tuple[int, dict[str, str]]] = dict.fromkeys(names.values(), (partitions, BROKER_TIME))
        made[changelog] = (partitions, CHANGELOG_CONFIG)
        made |= {prefix + t.name: (1, BROKER_TIME) for t in (OTHERS, DEAD_LETTERS)}
        create(self.connection, made)
        self.places = Places(**names, changelog=changelog, topic_ids={}, prefix=prefix)
        self.look_up()

    def look_up(self) -> None:
        """Take the topics' ids from the cluster, as a process does at its start."""
        found = describe(self.connection, [self.places.journal, self.places.inputs])
        ids = {name: topic.topic_id for name, topic in found.items() if topic is not None}
        self.places = replace(self.places, topic_ids=ids)

    def owner(self, name: str, mind: TallyMind | None = None, *, places: Places | None = None, lanes: int = 3) -> Owner:
        """Return a new process; it has nothing yet."""
        owner = Owner(self, name, mind or TallyMind(), places or self.places, lanes)
        self._owners.append(owner)
        return owner

    async def put(self, *labels: str, key: str = "k", partition: int = 0) -> None:
        """Write one input for each label."""
        for label in labels:
            await self.put_raw(wire(order(label, key)), partition)
            self.given[partition] += [] if label == "nothing" else label.split("+")

    async def put_raw(self, value: bytes, partition: int = 0) -> None:
        """Write an input as it is."""
        await self.writer.append(self.places.inputs, partition, None, value)

    async def records(self, topic: str, partition: int = 0) -> list[Record]:
        """Return all records of a partition."""
        start, end = await self.reader.bounds(topic, partition)
        return [record async for chunk in self.reader.read(topic, partition, start, end) for record in chunk]

    async def entries(self, partition: int = 0) -> list[Entry]:
        """Return all journal records, those that do not count too."""
        return [entry_from_wire(r.value) for r in await self.records(self.places.journal, partition)]

    async def journal(self, partition: int = 0) -> list[Entry]:
        """Return the entries that count: the next seq does, any other is void."""
        counted: list[Entry] = []
        for entry in await self.entries(partition):
            if entry.seq == len(counted) + 1:
                assert entry.prev == (counted[-1].id if counted else "")
                counted.append(entry)
        return counted

    async def facts(self, partition: int = 0) -> list[CancelNoted]:
        """Return the noted cancels of the journal, in order."""
        facts = [registry.fact_in(decided) for e in await self.journal(partition) for decided in e.decided]
        return [fact for fact in facts if isinstance(fact, CancelNoted)]

    async def envelopes(self, topic: str) -> list[Envelope]:
        """Return what was written to a topic beside the stage."""
        return [from_wire(r.value) for r in await self.records(self.prefix + topic)]

    async def heard(self, partition: int = 0) -> list[str]:
        """Return the forwarded labels as a receiver counts them: by origin, only what is newer."""
        heard, last = [], (-1, -1)
        for envelope in await self.envelopes(OTHERS.name):
            origin = envelope.origin
            assert origin is not None
            if origin.source == f"{self.places.journal}/{partition}" and (origin.seq, origin.n) > last:
                last = (origin.seq, origin.n)
                heard.append(str(envelope.data["by"]))
        return heard

    async def agrees(self, *owners: Owner, partition: int = 0, ticks: int = 0) -> None:
        """The promises: inputs decided once, rows (of a fresh owner too) as the journal says, all facts forwarded."""
        facts = await self.facts(partition)
        decided = [f.by for f in facts if f.send_id != "ticks"]
        assert sorted(decided) == sorted(self.given[partition])
        assert len(facts) - len(decided) == ticks
        tallies: dict[str, tuple[str, ...]] = {}
        for fact in facts:
            tallies[fact.send_id] = (*tallies.get(fact.send_id, ()), fact.by)
        for owner in owners:
            await owner.settle(partition)
            assert (owner.name, owner.stopped(partition)) == (owner.name, "")
            assert (owner.name, owner.tallies(partition)) == (owner.name, tallies)
        fresh = await self.owner("fresh").begin()
        assert await self._stored(fresh, partition) == tallies
        assert await self.heard(partition) == [fact.by for fact in facts]

    async def _stored(self, fresh: Owner, partition: int) -> dict[str, tuple[str, ...]]:
        """Return the rows of a new owner after its resume."""
        await fresh.stage.partitions[partition].tick(
            Record(self.places.ticks, partition, 0, datetime(2000, 1, 1, tzinfo=UTC), None, b"{}")
        )
        assert fresh.stopped(partition) == ""
        return fresh.tallies(partition)

    async def stored_position(self, partition: int = 0) -> Position | None:
        """Return the position row as recovery would find it."""
        rows = ChangelogRows(self, self.writer)
        await rows.recover()
        raw = rows.get(key_text(partition, POSITION))
        return None if raw is None else msgspec.convert(msgspec.json.decode(raw)["r"], Position)

    def cut(self, topic: str, before: int, partition: int = 0) -> None:
        """Delete the records before an offset, as retention does. Blocks."""
        admin = AdminClient({"bootstrap.servers": self.connection.bootstrap, "log_level": 0})
        for future in admin.delete_records([TopicPartition(topic, partition, before)]).values():
            future.result()

    def make_again(self, topic: str) -> None:
        """Delete the topic and make it again. Blocks."""
        delete(self.connection, [topic])
        create(self.connection, {topic: (self.partitions, BROKER_TIME)})

    async def close(self) -> None:
        """Hang up, owners too."""
        for owner in self._owners:
            await owner.close()
        await self.reader.close()
        await self.writer.close()
