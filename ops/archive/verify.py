"""`mailfleet archive verify` and `status`: is the archive whole, and does it meet what Kafka holds?"""

import asyncio
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from adapters.objects import ObjectMissing
from ops.archive.segments import ArchiveBroken, SegmentName, chained, record_in
from ops.archive.shelf import Generation, Partition, Shelf, Sum
from schemas.entry import JournalBroken, counts, journal_entry
from schemas.topics import Topic
from streams.log.kafka import Connection, LogUnreachable, Reader
from streams.log.topics import describe


class TopicState(msgspec.Struct):
    """What the archive has of one topic; `behind` counts records in Kafka that are not archived yet."""

    topic: str
    topic_id: str = ""
    generations: int = 0
    partitions: int = 0
    segments: int = 0
    records: int = 0
    size_bytes: int = 0
    behind: int = 0
    lost: int = 0

    def add(self, part: "TopicState") -> None:
        """Take in what one of its partitions has."""
        self.segments += part.segments
        self.records += part.records
        self.size_bytes += part.size_bytes
        self.lost += part.lost


@dataclass
class Checked:
    """What was looked at and what is wrong; `problems` is empty for a whole archive."""

    topics: list[TopicState] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


PARTITIONS_AT_ONCE = 4
Step = Callable[[str, int], None]


async def look(
    connection: Connection,
    topics: Mapping[str, Topic],
    shelf: Shelf,
    *,
    content: bool = True,
    kafka: bool = True,
    step: Step = lambda _topic, _partition: None,
) -> Checked:
    """Check names, sizes, hashes, chains, the journal rule, and the seam to Kafka.

    Without `content` no segment is fetched: listings, manifests and offsets alone. Raises StoreFailed, LogUnreachable.
    """
    checked = Checked()
    for name, topic in topics.items():
        state = TopicState(name, partitions=topic.partitions)
        checked.topics.append(state)
        lineage = await asyncio.to_thread(shelf.lineage, name)
        if not lineage:
            continue
        state.topic_id, state.generations = lineage[-1].topic_id, len(lineage)
        for generation in lineage:
            await asyncio.to_thread(shelf.partitions_of, generation)
        bound = asyncio.Semaphore(PARTITIONS_AT_ONCE)

        async def one(number: int, looking: _Look, bound: asyncio.Semaphore = bound, name: str = name) -> list[str]:
            async with bound:
                found = await asyncio.to_thread(list, looking.problems(content))
            step(name, number + 1)
            return found

        looks = [_Look(shelf, topic, lineage, n, TopicState(name)) for n in range(topic.partitions)]
        for found in await asyncio.gather(*(one(n, look) for n, look in enumerate(looks))):
            checked.problems += found
        for looked in looks:
            state.add(looked.state)
        if kafka:
            checked.problems += await _seam(connection, shelf, topic, lineage[-1], state)
    return checked


async def _seam(
    connection: Connection, shelf: Shelf, topic: Topic, generation: Generation, state: TopicState
) -> list[str]:
    """Compare the archive's ends with Kafka's bounds: no offset may be in neither."""
    name = generation.topic
    found = (await asyncio.to_thread(describe, connection, [name]))[name]
    if found is None:
        return [f"{name} is not in Kafka: `mailfleet restore` makes it anew from the archive"]
    if found.topic_id != generation.topic_id:
        return [f"{name} was made again in Kafka: the archiver has not run since, or another fleet is meant"]
    problems: list[str] = []
    reader = Reader(connection)
    try:
        for number in range(len(generation.starts)):
            start, end = await reader.bounds(name, number)
            kept = shelf.partitions_of(generation).get(number, Partition())
            archived = max(kept.end, generation.starts[number])
            state.behind += max(0, end - max(archived, start))
            if start > archived and (topic.archive == "kept" or kept.segments):  # else past its time in both
                problems.append(f"{name}/{number}: offsets {archived}..{start - 1} are neither in Kafka nor archived")
            if archived > end:
                problems.append(f"{name}/{number}: Kafka ends at {end}, the archive at {archived}: Kafka was cut short")
    except LogUnreachable as error:
        problems.append(str(error))
    finally:
        await reader.close()
    return problems


@dataclass
class _Look:
    """The check of one partition."""

    shelf: Shelf
    topic: Topic
    lineage: list[Generation]
    number: int
    state: TopicState
    seq: int = 0
    last_id: str = ""

    def problems(self, content: bool) -> Iterator[str]:
        """Yield a sentence for each thing that is wrong."""
        for n, generation in enumerate(self.lineage):
            kept = self.shelf.partitions_of(generation).get(self.number, Partition())
            self._count(kept)
            try:
                sums, told = self._manifests(kept, generation.topic)
                yield from told
                yield from self._path(generation, kept, sums, content)
                yield from self._joint(n, generation, kept)
            except (ArchiveBroken, ObjectMissing, JournalBroken) as error:
                yield str(error)

    def _count(self, kept: Partition) -> None:
        self.state.segments += len(kept.segments)
        self.state.size_bytes += sum(kept.segments.values())

    def _manifests(self, kept: Partition, topic: str) -> tuple[dict[str, Sum], list[str]]:
        """Return {segment: its sum} of all manifests, and what is wrong with them."""
        sums: dict[str, Sum] = {}
        problems: list[str] = []
        before = ""
        sizes = {str(name): size for name, size in kept.segments.items()}
        for _, _, name in kept.manifests:
            manifest, digest = self.shelf.manifest(name)
            if manifest.previous != before:
                problems.append(f"{name} does not follow the manifest before it: one is missing or was changed")
            before = digest
            for told in manifest.segments:
                sums[told.name] = told
                if self.topic.archive == "kept" and sizes.get(told.name) != told.size_bytes:
                    what = "is missing" if told.name not in sizes else f"has {sizes[told.name]} bytes"
                    problems.append(f"{told.name} {what}, the manifest says {told.size_bytes} bytes")
        return sums, problems

    def _path(self, generation: Generation, kept: Partition, sums: dict[str, Sum], content: bool) -> Iterator[str]:
        """Walk the segments in order: no gap, every hash and chain as it was written."""
        place = f"{generation.topic}/{self.number}"
        first = min((s.first for s in kept.segments), default=generation.starts[self.number])
        if self.topic.archive == "kept" and first != generation.starts[self.number]:
            yield f"{place}: the archive begins at {first}, its first segment was at {generation.starts[self.number]}"
        at, chain = first, generation.chains[self.number] if first == generation.starts[self.number] else None
        for name in kept.path(first):
            chain = chain if name.first == at else None  # cut by another archiver
            at = name.last + 1
            if content:
                chain = yield from self._segment(name, chain, sums.get(str(name)))
        if kept.end > at:
            after = min(s.first for s in kept.segments if s.first > at)
            yield f"{place}: offsets {at}..{after - 1} are missing in the archive"

    def _segment(self, name: SegmentName, chain: str | None, told: Sum | None) -> Generator[str, None, str]:
        header, lines, is_ = self.shelf.read(name)
        if told is not None and told.sha256 != is_.sha256:
            yield f"{name} is not what its manifest says: it was changed"
        if chain is not None and header.before != chain:
            yield f"{name} does not continue the records before it"
        key = self.shelf.key if name.sealed else None
        if chained(header.before, lines, key) != header.after:
            yield f"{name}: its records are not those it was written with"
        self.state.records += header.records
        self.state.lost += header.lost
        if header.lost:
            begin = f"{header.topic}/{header.partition}: {header.lost} records before {name.last}"
            yield f"{begin} were deleted by Kafka before they were archived"
        if self.topic.journal:
            for line in lines:
                record = record_in(line)
                where = f"{name} offset {record.offset}"
                entry = journal_entry(record.value, where)
                if counts(entry, self.seq, self.last_id, where):
                    self.seq, self.last_id = entry.seq, entry.id
        return header.after

    def _joint(self, n: int, generation: Generation, kept: Partition) -> Iterator[str]:
        """A journal's next generation must begin where this one ends."""
        if not self.topic.journal or n + 1 == len(self.lineage):
            return
        end, begins = max(kept.end, generation.starts[self.number]), self.lineage[n + 1].starts[self.number]
        if begins > end:
            yield f"{generation.topic}/{self.number}: offsets {end}..{begins - 1} are missing between two generations"
