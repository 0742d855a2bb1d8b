"""The archiver: copies what the catalogue says from Kafka to the store, nothing lost, nothing doubled.

It can restart anywhere: where it goes on follows from what the store holds, never from a committed offset. A segment
is written once, under a name that says its offsets; a killed archiver leaves either the segment or nothing.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from adapters.objects import Stored, StoreFailed
from ops.archive.segments import (
    ArchiveBroken,
    Header,
    Kept,
    SegmentName,
    chained,
    encode,
    line_of,
    segment_name,
)
from ops.archive.shelf import MANIFEST_SEGMENTS, Generation, Partition, Shelf
from schemas.entry import JournalBroken
from schemas.metrics import ARCHIVE_LOST, ARCHIVE_OLDEST, ARCHIVE_WAITS, ARCHIVED
from schemas.topics import Topic

log = logging.getLogger(__name__)

MOST_RECORDS = 5_000
MOST_BYTES = 4_000_000
WRITES_AT_ONCE = 8
RETRY_S = 5.0
PRUNE_EVERY_S = 3600.0
SEALED_SPAN_MS = 3_600_000
"""A sealed segment holds records of one hour at most: it is deleted as a whole, when the last of them is due."""


@dataclass
class _Hand:
    """One partition in hand: where its next segment begins and the lines that wait for it."""

    generation: Generation
    number: int
    sealed: bool
    next: int
    chain: str
    kept: Partition
    lines: list[bytes] = field(default_factory=list)
    size: int = 0
    last: int = -1
    times: tuple[int, int] = (0, 0)
    since: float = 0.0  # monotonic
    lost: int = 0  # offsets that Kafka had deleted before the next segment

    def take(self, record: Kept) -> None:
        if not self.lines:
            self.since, self.times = time.monotonic(), (record.at_ms, record.at_ms)
        line = line_of(record)
        self.lines.append(line)
        self.size += len(line)
        self.last = record.offset
        self.times = min(self.times[0], record.at_ms), max(self.times[1], record.at_ms)

    def spans_enough(self, at_ms: int) -> bool:
        """Whether a record of this time belongs into another segment."""
        return self.sealed and bool(self.lines) and abs(at_ms - self.times[0]) > SEALED_SPAN_MS

    def is_due(self, most_records: int, patience_s: float) -> bool:
        full = len(self.lines) >= most_records or self.size >= MOST_BYTES
        return bool(self.lines) and (full or time.monotonic() - self.since >= patience_s)

    @property
    def place(self) -> str:
        return f"{self.generation.topic}/{self.generation.folder}/{self.number:05d}"


class Archiver:
    """One archiver. Two at once write some records twice over, and do no other harm."""

    def __init__(
        self,
        kafka: Mapping[str, Any],
        topics: Mapping[str, Topic],
        topic_ids: Mapping[str, str],
        shelf: Shelf,
        *,
        most_records: int = MOST_RECORDS,
    ) -> None:
        self._kafka = dict(kafka)
        self._topics = topics
        self._ids = topic_ids
        self._shelf = shelf
        self._most_records = most_records
        self._hands: dict[TopicPartition, _Hand] = {}
        self._stopping = asyncio.Event()
        self._pruned_at = float("-inf")

    def stop(self) -> None:
        """Write what is in hand and end."""
        self._stopping.set()

    async def run(self, patience_s: float) -> None:
        """Archive until stopped. A store or a Kafka that does not answer is waited for. Raises JournalBroken."""
        while not self._stopping.is_set():
            try:
                await self._session(patience_s, None)
            except (StoreFailed, KafkaError, OSError) as error:
                log.warning("the archiver waits and begins anew where the store ends: %s", error)
                ARCHIVE_WAITS.inc()
                await _pause(self._stopping, RETRY_S)

    async def run_to_ends(self) -> int:
        """Archive all that Kafka holds now; return how many records. Raises StoreFailed, KafkaError, JournalBroken."""
        return await self._session(float("inf"), {})

    async def _session(self, patience_s: float, ends: dict[TopicPartition, int] | None) -> int:
        consumer = AIOKafkaConsumer(
            **self._kafka, enable_auto_commit=False, auto_offset_reset="none", max_partition_fetch_bytes=4_194_304
        )
        await consumer.start()
        try:
            await self._take_up(consumer)
            if ends is not None:
                ends.update(await consumer.end_offsets(list(self._hands)))
            return await self._copy(consumer, patience_s, ends)
        finally:
            await consumer.stop()

    async def _copy(self, consumer: Any, patience_s: float, ends: dict[TopicPartition, int] | None) -> int:
        count = 0
        while not self._stopping.is_set():
            for place, messages in (
                await consumer.getmany(timeout_ms=200, max_records=min(2000, self._most_records))
            ).items():
                hand = self._hands[place]
                for message in messages:
                    if hand.spans_enough(message.timestamp):
                        await self._write([hand])
                    hand.take(kept_of(message))
                count += len(messages)
            await self._write(hand for hand in self._hands.values() if hand.is_due(self._most_records, patience_s))
            if ends is not None and all([await consumer.position(place) >= end for place, end in ends.items()]):
                break
            self._say_age()
            await self._prune()
        await self._write(hand for hand in self._hands.values() if hand.lines)
        return count

    # ── where it goes on ─────────────────────────────────────────────────────────────────────────

    async def _take_up(self, consumer: Any) -> None:
        """Assign everything and go to where the store ends."""
        places = [TopicPartition(name, n) for name, topic in self._topics.items() for n in range(topic.partitions)]
        consumer.assign(places)
        starts = await consumer.beginning_offsets(places)
        hands = await asyncio.to_thread(self._look, starts)
        self._hands = {}
        for place in places:
            hand = self._hands[place] = hands[place]
            self._check_start(place, hand, starts[place])
            consumer.seek(place, max(hand.next, starts[place]))

    def _look(self, starts: Mapping[TopicPartition, int]) -> dict[TopicPartition, _Hand]:
        """Look up every partition's end in the store."""
        hands: dict[TopicPartition, _Hand] = {}
        for name, topic in self._topics.items():
            begin = tuple(starts[TopicPartition(name, n)] for n in range(topic.partitions))
            generation = self._shelf.open_generation(name, self._ids[name], begin)
            kept = self._shelf.partitions(generation)
            for n in range(topic.partitions):
                at, chain, part = generation.starts[n], generation.chains[n], kept.get(n, Partition())
                hands[TopicPartition(name, n)] = _Hand(generation, n, topic.archive == "sealed", at, chain, part)
        newest = {max(h.kept.segments, key=lambda s: s.last): h for h in hands.values() if h.kept.segments}
        for segment, (header, _, _) in self._shelf.read_ahead(newest):
            newest[segment].next, newest[segment].chain = header.last + 1, header.after
        return hands

    def _check_start(self, place: TopicPartition, hand: _Hand, start: int) -> None:
        if start <= hand.next:
            return
        if hand.sealed and not hand.kept.segments:  # all deleted after their time, here as in Kafka
            hand.next = start
            return
        name = f"{place.topic}/{place.partition}"
        if self._topics[place.topic].journal:
            raise JournalBroken(
                f"{name} begins at {start}, but the archive ends before {hand.next}: entries are in neither. Find out "
                "what deleted them; journals must be kept without limit."
            )
        log.critical("%s: records %d..%d were deleted before they were archived", name, hand.next, start - 1)
        hand.lost = start - hand.next
        ARCHIVE_LOST.labels(place.topic).inc(hand.lost)

    # ── writing ──────────────────────────────────────────────────────────────────────────────────

    async def _write(self, hands: Iterable[_Hand]) -> None:
        bound = asyncio.Semaphore(WRITES_AT_ONCE)

        async def one(hand: _Hand) -> None:
            async with bound:
                await asyncio.to_thread(self._put, hand)

        results = await asyncio.gather(*(one(hand) for hand in hands), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _put(self, hand: _Hand) -> None:
        """Write the lines in hand as one segment; one that stands there already under this name is the same."""
        generation, key = hand.generation, self._shelf.key if hand.sealed else None
        name = SegmentName(
            generation.topic, generation.folder, hand.number, hand.next, hand.last, sealed=key is not None
        )
        after = chained(hand.chain, hand.lines, key)
        header = Header(
            topic=generation.topic,
            topic_id=generation.folder,
            partition=hand.number,
            first=hand.next,
            last=hand.last,
            records=len(hand.lines),
            from_ms=hand.times[0],
            to_ms=hand.times[1],
            before=hand.chain,
            after=after,
            lost=hand.lost,
        )
        body = encode(header, hand.lines, key, str(name))
        self._shelf.store.put_new(str(name), body)
        hand.kept.segments[name] = len(body)
        ARCHIVED.labels(generation.topic).inc(len(hand.lines))
        hand.next, hand.chain, hand.lines, hand.size, hand.lost = hand.last + 1, after, [], 0, 0
        self._put_manifest(hand)

    def _put_manifest(self, hand: _Hand) -> None:
        """Write the hashes of the last 64 segments down, once there are so many."""
        told = max((last for _, last, _ in hand.kept.manifests), default=-1)
        new = sorted((s for s in hand.kept.segments if s.first > told), key=lambda s: (s.first, s.last))
        if len(new) < MANIFEST_SEGMENTS:
            return
        previous = self._shelf.manifest(hand.kept.manifests[-1][2])[1] if hand.kept.manifests else ""
        block = new[:MANIFEST_SEGMENTS]
        self._shelf.write_manifest(hand.place, previous, (self._shelf.read(name)[2] for name in block))
        first, last = block[0].first, block[-1].last
        hand.kept.manifests.append((first, last, f"{hand.place}/manifest-{first:020d}-{last:020d}.json"))

    # ── upkeep ───────────────────────────────────────────────────────────────────────────────────

    def _say_age(self) -> None:
        oldest = min((hand.times[0] for hand in self._hands.values() if hand.lines), default=None)
        ARCHIVE_OLDEST.set(0 if oldest is None else max(0.0, time.time() - oldest / 1000))

    async def _prune(self) -> None:
        """Once an hour, delete what is private and past its time."""
        if time.monotonic() - self._pruned_at >= PRUNE_EVERY_S:
            self._pruned_at = time.monotonic()
            deleted = await asyncio.to_thread(prune, self._shelf, self._topics, datetime.now(UTC))
            for hand in self._hands.values():
                for name in deleted & hand.kept.segments.keys():
                    del hand.kept.segments[name]
            if deleted:
                log.info("%d sealed segments were past their time and are deleted", len(deleted))


def prune(shelf: Shelf, topics: Mapping[str, Topic], now: datetime) -> set[SegmentName]:
    """Delete sealed segments whose records are all older than their topic's retention; return which.

    The records' own time counts, not when they were archived. Raises StoreFailed.
    """
    deleted: set[SegmentName] = set()
    for name, topic in topics.items():
        if topic.archive != "sealed" or topic.retention_ms is None:
            continue
        latest = now - timedelta(milliseconds=topic.retention_ms)
        partitions = defaultdict(list)
        for stored in shelf.store.list(f"{name}/"):
            if segment := segment_name(stored.name):
                partitions[segment.topic_id, segment.partition].append((segment, stored))
        for kept in partitions.values():
            for segment in _past(shelf, kept, latest):
                shelf.store.delete(str(segment))
                deleted.add(segment)
    return deleted


def _past(shelf: Shelf, kept: Iterable[tuple[SegmentName, Stored]], latest: datetime) -> Iterator[SegmentName]:
    """Yield a partition's segments, oldest first, until one has a record that is not past its time."""
    for segment, stored in kept:
        if stored.modified >= latest:
            try:
                header = shelf.read(segment)[0]
            except ArchiveBroken as error:
                log.warning("it stays, and what is after it, until it is as old as its records may be: %s", error)
                return
            if header.to_ms >= latest.timestamp() * 1000:
                return
        yield segment


def kept_of(message: Any) -> Kept:
    """Return what the archive keeps of an aiokafka record."""
    return Kept(message.offset, message.timestamp, message.key, message.value, tuple(message.headers))


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return
