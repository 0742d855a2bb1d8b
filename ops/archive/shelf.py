"""The archive as one object store: which generations of a topic it has, and the segments of each partition.

TOPIC/generation-0001.json                                   which topic id, and what it continues
TOPIC/TOPIC_ID/PARTITION/FIRST-LAST.jsonl.gz[.aes]           a segment
TOPIC/TOPIC_ID/PARTITION/manifest-FIRST-LAST.json            the hashes of 64 segments, chained
"""

import hashlib
import re
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec

from adapters.objects import ObjectStore
from ops.archive.segments import (
    ArchiveBroken,
    Header,
    Kept,
    SegmentName,
    chain_begin,
    decode,
    record_in,
    segment_name,
)

MANIFEST_SEGMENTS = 64
AHEAD = 4
_MANIFEST = re.compile(r".*/(\d{5})/manifest-(\d{20})-(\d{20})\.json")


class Generation(msgspec.Struct, frozen=True):
    """One topic generation. `starts[p]` is the first offset kept of partition p and `chains[p]` the chain before it.

    `continues`: the generation before, whose records below `starts` belong to this one too (a restored Kafka).
    """

    topic: str
    number: int
    topic_id: str
    starts: tuple[int, ...]
    chains: tuple[str, ...]
    continues: int = 0

    @property
    def folder(self) -> str:
        """The topic id as names carry it: Kafka's clients write it in base64, with / and +."""
        return self.topic_id.replace("/", "_").replace("+", "-")


class Sum(msgspec.Struct, frozen=True):
    """One segment in a manifest."""

    name: str
    size_bytes: int
    sha256: str
    header: Header


class Manifest(msgspec.Struct, frozen=True):
    """What up to 64 segments are; `previous` is the hash of the manifest before, "" of the first."""

    previous: str
    segments: tuple[Sum, ...]


@dataclass
class Partition:
    """What the store has of one partition of one generation."""

    segments: dict[SegmentName, int] = field(default_factory=dict)  # → size in bytes
    manifests: list[tuple[int, int, str]] = field(default_factory=list)  # first, last, name

    @property
    def end(self) -> int:
        """The offset after the last one kept, -1 when nothing is."""
        return max((s.last + 1 for s in self.segments), default=-1)

    def path(self, start: int) -> Iterator[SegmentName]:
        """Yield segments that cover all from `start` on, until one is missing.

        Two archivers at once cut alike records differently: of those that hold the next offset, the longest is taken.
        """
        waiting = sorted(self.segments, key=lambda s: s.first, reverse=True)
        best: SegmentName | None = None
        while True:
            while waiting and waiting[-1].first <= start:
                name = waiting.pop()
                best = name if best is None or name.last > best.last else best
            if best is None or best.last < start:
                return
            yield best
            start = best.last + 1


class Shelf:
    """The archive's objects by meaning. `key` opens and seals what is private."""

    def __init__(self, store: ObjectStore, key: bytes | None) -> None:
        self.store = store
        self.key = key
        self._listed: dict[str, dict[int, Partition]] = {}

    def generations(self, topic: str) -> list[Generation]:
        """Return the topic's generations, oldest first."""
        found = [self.store.get(stored.name) for stored in self.store.list(f"{topic}/generation-")]
        return [msgspec.json.decode(raw, type=Generation) for raw in found]

    def lineage(self, topic: str) -> list[Generation]:
        """Return the newest generation and those that it continues, oldest first; [] when there is none."""
        known = {g.number: g for g in self.generations(topic)}
        line: list[Generation] = []
        number = max(known, default=0)
        while number:
            line.insert(0, known[number])
            number = known[number].continues
        return line

    def open_generation(self, topic: str, topic_id: str, starts: tuple[int, ...]) -> Generation:
        """Return the generation of this topic id; one that is not there yet begins at `starts`."""
        while True:
            known = self.generations(topic)
            for generation in known:
                if generation.topic_id == topic_id:
                    return generation
            chains = tuple(chain_begin(topic, topic_id, p) for p in range(len(starts)))
            self.add(Generation(topic, len(known) + 1, topic_id, starts, chains))

    def add(self, generation: Generation) -> bool:
        """Write a generation's file; return False when its number is taken."""
        name = f"{generation.topic}/generation-{generation.number:04d}.json"
        return self.store.put_new(name, msgspec.json.encode(generation))

    def partitions(self, generation: Generation) -> dict[int, Partition]:
        """Return what is kept of each partition that has something."""
        found: dict[int, Partition] = defaultdict(Partition)
        for stored in self.store.list(f"{generation.topic}/{generation.folder}/"):
            name = segment_name(stored.name)
            if name is not None:
                found[name.partition].segments[name] = stored.size_bytes
            elif manifest := _MANIFEST.fullmatch(stored.name):
                number, first, last = map(int, manifest.groups())
                found[number].manifests.append((first, last, stored.name))
        for partition in found.values():
            partition.manifests.sort()
        return found

    def read(self, name: SegmentName) -> tuple[Header, list[bytes], Sum]:
        """Return a segment with its sum. Raises ArchiveBroken, StoreFailed."""
        raw = self.store.get(str(name))
        header, lines = decode(raw, self.key, str(name))
        said = SegmentName(
            header.topic, header.topic_id, header.partition, header.first, header.last, sealed=name.sealed
        )
        if said != name:
            raise ArchiveBroken(f"{name} holds {said}: it was moved. Put it back under that name.")
        return header, lines, Sum(str(name), len(raw), hashlib.sha256(raw).hexdigest(), header)

    def read_ahead(self, names: Iterable[SegmentName]) -> Iterator[tuple[SegmentName, tuple[Header, list[bytes], Sum]]]:
        """Yield each segment with what `read` returns, while the next few are on their way."""
        with ThreadPoolExecutor(AHEAD) as threads:
            coming: deque[tuple[SegmentName, Future[tuple[Header, list[bytes], Sum]]]] = deque()
            for name in names:
                coming.append((name, threads.submit(self.read, name)))
                if len(coming) > AHEAD:
                    first, future = coming.popleft()
                    yield first, future.result()
            for first, future in coming:
                yield first, future.result()

    def manifest(self, name: str) -> tuple[Manifest, str]:
        """Return a manifest and its hash. Raises ArchiveBroken, StoreFailed."""
        raw = self.store.get(name)
        try:
            return msgspec.json.decode(raw, type=Manifest), hashlib.sha256(raw).hexdigest()
        except msgspec.DecodeError as error:
            raise ArchiveBroken(f"{name} is no manifest ({error}): fetch an older version of it.") from error

    def write_manifest(self, place: str, previous: str, sums: Iterable[Sum]) -> str:
        """Write the manifest of these segments; return its hash."""
        segments = tuple(sums)
        raw = msgspec.json.encode(Manifest(previous, segments))
        first, last = segments[0].header.first, segments[-1].header.last
        name = f"{place}/manifest-{first:020d}-{last:020d}.json"
        if not self.store.put_new(name, raw):  # a killed archiver had written it
            return self.manifest(name)[1]
        return hashlib.sha256(raw).hexdigest()

    def records(self, lineage: list[Generation], partition: int, start: int = 0) -> Iterator[Kept]:
        """Yield a partition's records from offset `start` on, through all generations of the lineage.

        Raises ArchiveBroken where offsets are missing between those kept.
        """
        for n, generation in enumerate(lineage):
            until = lineage[n + 1].starts[partition] if n + 1 < len(lineage) else None
            kept = self.partitions_of(generation).get(partition, Partition())
            firsts = [s.first for s in kept.segments]
            at = max(generation.starts[partition], min(firsts, default=0))
            for name, (_, lines, _) in self.read_ahead(
                name for name in kept.path(at) if name.last >= start and (until is None or name.first < until)
            ):
                begin, at = max(at, start), name.last + 1
                for line in lines:
                    record = record_in(line)
                    if record.offset >= begin and (until is None or record.offset < until):
                        yield record
            whole = max((name.last + 1 for name in kept.path(at)), default=at)
            if kept.end > whole:
                raise ArchiveBroken(
                    f"{generation.topic}/{partition}: offsets from {whole} on are missing in the archive."
                )

    def partitions_of(self, generation: Generation) -> dict[int, Partition]:
        """Return what is kept of a generation, listed once per shelf."""
        held = self._listed.get(generation.topic_id)
        if held is None:
            held = self._listed[generation.topic_id] = self.partitions(generation)
        return held

    def forget(self) -> None:
        """List anew from now on."""
        self._listed.clear()
