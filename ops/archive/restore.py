"""`mailfleet restore`: fills an empty Kafka from the archive, so that the fleet goes on where the archive ends.

Every record gets the offset and the time that it had: what is older than what is needed is filled up and deleted at
once. So positions, causes and content references hold as they are; only the topic ids are new. One opening entry per
journal partition says which generation it continues. The topics of the ticks are made last: no worker starts before.
"""

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ops.archive.segments import ArchiveBroken, Kept, chain_begin
from ops.archive.shelf import Generation, Partition, Shelf
from ops.archive.store import archived_topics
from ops.bulk import Bulk
from ops.journals import mind_of
from ops.replay import replay
from schemas import registry
from schemas.entry import Entry, Seen, counts, entry_from_wire, journal_entry
from schemas.envelope import Origin, Unreadable, from_wire, to_wire
from schemas.registry import Fact
from schemas.sending import JournalContinued
from schemas.topics import CATALOGUE, FILLER, Topic, partition_of
from streams.log.kafka import Reader, Record
from streams.log.position import Position
from streams.log.stage import forwards
from streams.log.topics import check, configure, create, delete_records, describe
from streams.roles import ROLES, Role, all_topics, make_topics
from streams.settings import Settings

Step = Callable[[str, int, int], None]
"""Told: what is done, how much of it, of how much."""


class NotEmpty(Exception):
    """Kafka holds a fleet, or something else, under these names. The text says what to do."""


@dataclass
class Restored:
    """What came back. `newest` is the time of the last record of each topic; `told_again` counts facts sent on."""

    records: dict[str, int] = field(default_factory=dict)
    newest: dict[str, datetime] = field(default_factory=dict)
    rows: int = 0
    told_again: int = 0
    open_attempts: int = 0


@dataclass
class _Place:
    """One topic partition on its way back: it begins at `base` and the archive ends before `end`."""

    topic: Topic
    name: str
    number: int
    lineage: list[Generation]
    kept: Partition
    base: int = 0
    end: int = 0


async def restore(
    settings: Settings,
    shelf: Shelf,
    *,
    cut: bool,
    replicas: int = 1,
    flush_each_append: bool = True,
    step: Step = lambda _what, _done, _all: None,
) -> Restored:
    """Fill Kafka; return what came back. One that was stopped in the middle goes on where it stood.

    `cut`: decisions after the archive's last may be lost, so that an open send may have left. Raises NotEmpty,
    ArchiveBroken, JournalBroken, StoreFailed, OffsetTaken, AppendUncertain, LogUnreachable.
    """
    work = _Restore(settings, shelf, datetime.now(UTC), cut, step)
    try:
        return await work.run(replicas, flush_each_append)
    finally:
        await work.reader.close()


class _Restore:
    def __init__(self, settings: Settings, shelf: Shelf, now: datetime, cut: bool, step: Step) -> None:
        self.settings = settings
        self.shelf = shelf
        self.now = now
        self.cut = cut
        self.step = step
        self.reader = Reader(settings.connection)
        self.bulk = Bulk(settings.connection)
        self.done = Restored()
        self.topics = archived_topics(settings)
        self.lineages = {name: shelf.lineage(name) for name in self.topics}
        self.positions: dict[tuple[Role, int], Position] = {}
        self.places: list[_Place] = []
        self.ids: dict[str, str] = {}
        self.bounds: dict[tuple[str, int], tuple[int, int]] = {}
        self.waiting: dict[str, int] = {}  # source → the last seq of it in inputs that are not decided yet
        self.fillers: dict[tuple[str, int], int] = {}  # before which offset they end

    async def run(self, replicas: int, flush_each_append: bool) -> Restored:
        self._check_empty()
        made = all_topics(self.settings, flush_each_append=flush_each_append, replicas=replicas)
        self._make(made, replicas)
        self.ids = check(self.settings.connection, self.topics)
        self.bounds = await self._bounds()
        for role in ROLES:
            await self._journals(role)
        for name, topic in sorted(self.topics.items(), key=lambda named: named[1].archive == "sealed"):
            if not topic.journal:
                await self._others(name, topic)
        self.bulk.flush()
        delete_records(self.settings.connection, self.fillers)
        await self._opening_entries()
        configure(self.settings.connection, {name: made[name][1] for name in self.topics})
        await self._rows_and_forwards()
        self._generations()
        make_topics(self.settings, flush_each_append=flush_each_append, replicas=replicas)
        return self.done

    # ── before ───────────────────────────────────────────────────────────────────────────────────

    def _check_empty(self) -> None:
        for role in ROLES.values():
            name = self.settings.topic(role.journal)
            if not self.lineages[name]:
                raise ArchiveBroken(f"the archive has nothing of {name}: check ARCHIVE_URL and MAILFLEET_PREFIX.")
        ticks = [self.settings.topic(role.ticks) for role in ROLES.values()]
        found = [name for name, topic in describe(self.settings.connection, ticks).items() if topic is not None]
        if found:
            raise NotEmpty(
                f"Kafka has a fleet already (topic {found[0]} is there): restore fills an empty Kafka alone. Use a "
                "fresh cluster, or delete this fleet's topics if they are truly worth nothing."
            )

    def _make(self, made: dict[str, tuple[int, dict[str, str]]], replicas: int) -> None:
        """Make all topics but the ticks, such that records keep their times and nothing is flushed one by one."""
        names = [*self.topics, *(name for name in made if name.endswith("-changelog"))]
        wanted = {}
        for name in names:
            count, config = made[name]
            config = {n: v for n, v in config.items() if n != "flush.messages"}
            wanted[name] = count, {**config, "message.timestamp.type": "CreateTime"}
        create(self.settings.connection, wanted, replicas)

    async def _bounds(self) -> dict[tuple[str, int], tuple[int, int]]:
        """Return what stands already, as a restore that was stopped left it: (first offset, end) of each partition."""
        places = [(name, n) for name, topic in self.topics.items() for n in range(topic.partitions)]
        starts, ends = await self.reader.starts(places), await self.reader.ends(places)
        return {place: (starts[place], ends[place]) for place in places}

    # ── records ──────────────────────────────────────────────────────────────────────────────────

    def _place(self, name: str, number: int) -> _Place:
        lineage = self.lineages[name]
        kept = self.shelf.partitions_of(lineage[-1]).get(number, Partition()) if lineage else Partition()
        end = max(kept.end, lineage[-1].starts[number]) if lineage else 0
        if self.topics[name].archive == "sealed":
            end = max(end, self._taken(self.topics[name], number))
        place = _Place(self.topics[name], name, number, lineage, kept, end=end)
        self.places.append(place)
        return place

    def _taken(self, topic: Topic, number: int) -> int:
        """The offset before which what was read of it is known: a new record there would pass for one decided before.

        What is private is deleted after its time, or was not archived yet: its own end says too little.
        """
        source = Origin(topic.name, number, 0, 0).source
        known = (position.origin(source)[0] for position in self.positions.values())
        return 1 + max(self.waiting.get(source, -1), *known)

    async def _journals(self, role: Role) -> None:
        """Write the journals as they were, void entries too, and learn where each stands."""
        topic = ROLES[role].journal
        name, inputs = self.settings.topic(topic), self.settings.topic(ROLES[role].inputs)
        for number in range(topic.partitions):
            place = self._place(name, number)
            position = self.positions[role, number] = Position(causes={inputs: -1})
            await self._fill(place, self._weighed(place, position))
            self.step(name, number + 1, topic.partitions)

    def _weighed(self, place: _Place, position: Position) -> Iterator[Kept]:
        """Yield the journal's records while the position follows them. Raises JournalBroken."""
        for record in self.shelf.records(place.lineage, place.number):
            if record.offset != position.offset:
                raise ArchiveBroken(f"{place.name}/{place.number}: offset {position.offset} is missing in the archive.")
            self._weigh(place, position, record.offset, record.value)
            yield record

    def _weigh(self, place: _Place, position: Position, offset: int, value: bytes | None) -> None:
        where = f"{place.name}/{place.number} offset {offset}"
        entry = journal_entry(value, where)
        if counts(entry, position.seq, position.last_id, where):
            position.count(entry, offset)
            for decided in entry.decided:
                if decided.type == CONTINUED:
                    position.continued(_continued(entry))
        position.offset = offset + 1

    async def _others(self, name: str, topic: Topic) -> None:
        """Write the inputs that were not decided yet, and of other topics what is not past its time."""
        role = next((r for r, t in ROLES.items() if self.settings.topic(t.inputs) == name), None)
        oldest = None if topic.retention_ms is None else self.now - timedelta(milliseconds=topic.retention_ms)
        for number in range(topic.partitions):
            place = self._place(name, number)
            position = self.positions[role, number] if role is not None else None
            begin = position.causes[name] + 1 if position is not None else 0
            await self._fill(place, self._wanted(place, begin, None if role is not None else oldest), begin)
            if position is not None and position.seq == 0:
                position.causes[name] = place.base - 1
            self.step(name, number + 1, topic.partitions)

    def _wanted(self, place: _Place, begin: int, oldest: datetime | None) -> Iterator[Kept]:
        if not place.lineage:
            return
        for record in self.shelf.records(place.lineage, place.number, begin):
            if oldest is None or record.at_ms >= oldest.timestamp() * 1000:
                yield record

    async def _fill(self, place: _Place, records: Iterator[Kept], begin: int = 0) -> None:
        """Write the records at their offsets, whatever stands there already left as it is."""
        start, at = self.bounds[place.name, place.number]
        first = next(records, None)
        journal = place.topic.journal
        place.base = 0 if journal else first.offset if first is not None else max(begin, place.end)
        place.end = max(place.end, place.base)
        at = self._fill_up(place, at, place.base)
        if start < place.base and not place.topic.compacted:  # there, compaction removes fillers: they are tombstones
            self.fillers[place.name, place.number] = place.base
        last = first
        while last is not None:
            if last.offset >= at:
                at = self._fill_up(place, at, last.offset)
                self.bulk.put(
                    *(place.name, place.number, last.key, last.value),
                    at_ms=last.at_ms,
                    headers=last.headers,
                    expect=last.offset,
                )
                at += 1
            elif last.offset == at - 1:
                await self._compare(place, last)
            self._note(place, last)
            last = next(records, None)
        self._fill_up(place, at, place.end)

    def _fill_up(self, place: _Place, at: int, until: int) -> int:
        """Write fillers up to offset `until`: what stood there is not needed, or was a transaction's marker."""
        for offset in range(at, until):
            self.bulk.put(place.name, place.number, FILLER, None, expect=offset)
        return max(at, until)

    async def _compare(self, place: _Place, kept: Kept) -> None:
        """What a restore that was stopped has written last must be what the archive has there."""
        held = await self.reader.one(place.name, place.number, kept.offset)
        if held is not None and held.value != kept.value:
            raise NotEmpty(
                f"{place.name}/{place.number} holds something else at offset {kept.offset} than the archive: restore "
                "fills an empty Kafka alone. Use a fresh cluster."
            )

    def _note(self, place: _Place, record: Kept) -> None:
        name = place.name
        if place.topic in [role.inputs for role in ROLES.values()]:
            origin = _origin_in(record)
            if origin is not None:
                self.waiting[origin.source] = max(origin.seq, self.waiting.get(origin.source, -1))
        self.done.records[name] = self.done.records.get(name, 0) + 1
        at = datetime.fromtimestamp(record.at_ms / 1000, UTC)
        self.done.newest[name] = max(at, self.done.newest.get(name, at))

    # ── the opening entries ──────────────────────────────────────────────────────────────────────

    async def _opening_entries(self) -> None:
        for (role, number), position in self.positions.items():
            topics = ROLES[role]
            journal, inputs = self.settings.topic(topics.journal), self.settings.topic(topics.inputs)
            place = next(p for p in self.places if p.name == journal and p.number == number)
            stands = self.bounds[journal, number][1] > place.end
            held = await self.reader.one(journal, number, place.end) if stands else None
            if held is not None:
                self._check_opened(place, position, held)
                continue
            ids = {name: self.ids[name] for name in self._known_to(role)}
            fact = JournalContinued(
                topic_ids=ids,
                continues={name: line[-1].topic_id for name in ids if (line := self.lineages[name])},
                causes={inputs: position.causes[inputs]},
                perhaps_sent_before=self.now if self.cut else None,
            )
            entry = _opening_entry(position, fact, self.now)
            self.bulk.put(journal, number, str(number).encode(), to_wire(entry), expect=place.end)
            self._weigh(place, position, place.end, to_wire(entry))
        self.bulk.flush()

    def _known_to(self, role: Role) -> list[str]:
        """The topics whose generations a stage's position carries."""
        topics = ROLES[role]
        return [self.settings.topic(t) for t in (topics.journal, topics.inputs, CATALOGUE["send-requests"])]

    def _check_opened(self, place: _Place, position: Position, held: Record) -> None:
        """A restore that was stopped has written the opening entry already."""
        try:
            entry = entry_from_wire(held.value)
        except Unreadable as error:
            raise NotEmpty(f"{place.name}/{place.number} holds no entry at offset {held.offset}: {error}") from error
        if not entry.decided or entry.decided[0].type != CONTINUED:
            raise NotEmpty(f"{place.name}/{place.number} goes on after the archive's end: a fleet has run on it.")
        self._weigh(place, position, held.offset, held.value)

    # ── rows and what others must hear ───────────────────────────────────────────────────────────

    async def _rows_and_forwards(self) -> None:
        """Fold the journals into the tables, and tell others what the archive does not show that they have heard."""
        told = await self._told()
        minds = {role: mind_of(role) for role in ROLES}
        attempts: dict[Role, dict[str, bool]] = {role: {} for role in ROLES}

        def hear(role: Role, number: int, entry: Entry, facts: list[Fact]) -> None:
            journal = self.settings.topic(ROLES[role].journal)
            for fact in facts:
                minds[role].track(attempts[role], fact)
            for n, out in enumerate(forwards(minds[role], entry, facts)):
                topic = self.settings.topic(out.topic)
                to = partition_of(out.key, out.topic.partitions)
                origin = Origin(journal, number, entry.seq, n)
                if self._is_news(out.topic, entry) and (entry.seq, n) > told[topic, to].get(origin.source, (-1, -1)):
                    self._tell(topic, to, out.key, out.fact, origin, entry.at)

        for role in ROLES:
            ids = {name: self.ids[name] for name in self._known_to(role)}
            total = ROLES[role].journal.partitions
            self.done.rows += await replay(
                self.settings,
                role,
                lambda n, role=role, total=total: self.step(f"{role} tables", n, total),  # type: ignore[misc]
                topic_ids=ids,
                hear=hear,
            )
        self.done.open_attempts = len(attempts["delivery"])
        self.bulk.flush()

    def _is_news(self, topic: Topic, entry: Entry) -> bool:
        """Whether a fact is young enough to be told outside; stages go by their own marks."""
        if topic in [t.inputs for t in ROLES.values()] or topic.retention_ms is None:
            return True
        return entry.at > self.now - timedelta(milliseconds=topic.retention_ms)

    def _tell(self, topic: str, to: int, key: bytes, fact: Fact, origin: Origin, at: datetime) -> None:
        envelope = registry.enveloped(fact, id=uuid.uuid4().hex, at=at, key=key.decode(), by="restore", origin=origin)
        self.bulk.put(topic, to, key, to_wire(envelope))
        self.done.told_again += 1

    async def _told(self) -> dict[tuple[str, int], dict[str, tuple[int, int]]]:
        """Return the last (seq, n) of each origin that stands in each partition, decided or waiting."""
        told: dict[tuple[str, int], dict[str, tuple[int, int]]] = defaultdict(dict)
        for (role, number), position in self.positions.items():
            told[self.settings.topic(ROLES[role].inputs), number] = dict(position.origins)
        bounds = await self._bounds()
        for place in self.places:
            if place.topic.journal or place.topic.archive == "sealed":
                continue
            marks = told[place.name, place.number]
            start, end = bounds[place.name, place.number]
            async for chunk in self.reader.read(place.name, place.number, start, end):
                for record in chunk:
                    origin = _origin_in(record)
                    if origin is not None:
                        marks[origin.source] = max(marks.get(origin.source, (-1, -1)), (origin.seq, origin.n))
        return told

    # ── the archive goes on ──────────────────────────────────────────────────────────────────────

    def _generations(self) -> None:
        """Tell the archive what the new topics continue, so that it goes on where it ended."""
        for name, lineage in self.lineages.items():
            known = self.shelf.generations(name)
            if not lineage or self.ids[name] in [g.topic_id for g in known]:
                continue
            places = sorted((p for p in self.places if p.name == name), key=lambda p: p.number)
            self.shelf.add(
                Generation(
                    topic=name,
                    number=max(g.number for g in known) + 1,
                    topic_id=self.ids[name],
                    starts=tuple(p.end for p in places),
                    chains=tuple(self._chain(p) for p in places),
                    continues=lineage[-1].number,
                )
            )

    def _chain(self, place: _Place) -> str:
        """The chain after what is kept; a new one where fillers stand between."""
        if place.kept.end == place.end:
            return self.shelf.read(max(place.kept.segments, key=lambda s: s.last))[0].after
        if place.end == place.lineage[-1].starts[place.number]:
            return place.lineage[-1].chains[place.number]
        return chain_begin(place.name, self.ids[place.name], place.number)


CONTINUED = registry.TYPE_OF[JournalContinued]


def _continued(entry: Entry) -> JournalContinued:
    fact = registry.fact_in(entry.decided[0])
    assert isinstance(fact, JournalContinued)
    return fact


def _opening_entry(position: Position, fact: JournalContinued, now: datetime) -> Entry:
    return Entry(
        id=uuid.uuid4().hex,
        by="restore",
        seq=position.seq + 1,
        prev=position.last_id,
        at=max(now, position.at),
        cause=None,
        seen=Seen(CONTINUED, registry.VERSION_OF[CONTINUED], registry.data_of(fact)),
        decided=(registry.decided(fact),),
    )


def _origin_in(record: Record | Kept) -> Origin | None:
    try:
        return from_wire(record.value).origin
    except Unreadable:
        return None  # a filler, or what went to dead-letters
