"""A stage: reader of inputs, only writer of one journal. See, decide, append, fold, forward, resume.

Each partition does all of it under one lock. Faust (or a test) calls `take`, `tick`, `assigned` and
`revoked`; hands call `ask`. What Faust drops or repeats is healed here (design section 2).
"""

import asyncio
import hashlib
import logging
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from schemas import registry
from schemas.entry import Entry, JournalBroken, Seen, counts, journal_entry
from schemas.envelope import Cause, Origin, Unreadable, from_wire, to_wire
from schemas.metrics import ENTRIES, INPUTS_BEHIND, PARTITIONS
from schemas.registry import Fact
from schemas.sending import InputsLost, JournalContinued, LetterDied, PartitionResumed, Ticked
from schemas.topics import DEAD_LETTERS, partition_of
from streams.log.kafka import AppendUncertain, LogUnreachable, Reader, Record, Writer
from streams.log.mind import Mind, Outgoing
from streams.log.position import BEGINNING, Position
from streams.log.rows import POSITION, RowNotStored, Rows, RowStore, RowTooLarge, key_text, mark_of

log = logging.getLogger(__name__)

TICK_MAX_AGE = timedelta(seconds=10)
LAG_PATIENCE_S = 30.0
SCRUB_EVERY_S = 24 * 3600.0
POSITION_EVERY_S = 30.0
POSITION_EVERY_ENTRIES = 500
RETRY_S = 0.5


class NotRecovered(Exception):
    """The engine gave a partition whose table it has not recovered; a fresh process cures that."""


class StopLoudly(Exception):
    """The partition cannot go on without a person. The text says what happened and what to do."""


LOUD = (StopLoudly, JournalBroken, RowTooLarge)
"""What halts a partition until a person has looked."""
CURED_BY_RESTART = (RowNotStored, NotRecovered)


@dataclass(frozen=True)
class Places:
    """The topics of one stage as the cluster names them, with their generations."""

    journal: str
    inputs: str
    ticks: str
    changelog: str
    topic_ids: dict[str, str]
    prefix: str = ""


@dataclass(frozen=True)
class Doors:
    """Everything of a stage that is not a decision."""

    reader: Reader
    writer: Writer
    rows: RowStore
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    new_id: Callable[[], str] = lambda: uuid.uuid4().hex
    by: str = "worker"


CountedHook = Callable[["Partition", Fact], None]


class Stage:
    """All partitions of one stage that this process owns."""

    def __init__(self, mind: Mind, places: Places, doors: Doors, on_counted: CountedHook | None = None) -> None:
        self.mind = mind
        self.places = places
        self.doors = doors
        self.on_counted = on_counted
        self.on_resumed: Callable[[Partition], None] | None = None
        self.holds: Callable[[Partition, str], bool] = lambda _partition, _attempt: False
        self.partitions: dict[int, Partition] = {}
        self._away: set[int] = set()  # taken away and not given back: what the engine still had in hand is not ours

    def assigned(self, numbers: Iterable[int]) -> None:
        """The engine gave these partitions to this process: each resumes before its first input."""
        now = set(numbers)
        self._away -= now
        for number in [n for n in self.partitions if n not in now]:
            self.partitions.pop(number).gone = True
        for number in now:
            if number in self.partitions:
                self.partitions[number].stale = True
            else:
                self.partitions[number] = Partition(self, number)

    def revoked(self, numbers: Iterable[int]) -> None:
        """The engine took these partitions away; a stage that gets them back resumes."""
        for number in numbers:
            self._away.add(number)
            if number in self.partitions:
                self.partitions[number].stale = True

    async def take(self, record: Record) -> None:
        """Decide one input record, and before it those that the engine dropped."""
        if record.partition not in self._away:
            await self._partition(record.partition).take(record)

    async def tick(self, record: Record) -> None:
        """Let a second pass."""
        if record.partition not in self._away:
            await self._partition(record.partition).tick(record)

    def _partition(self, number: int) -> "Partition":
        if number not in self.partitions:
            self.partitions[number] = Partition(self, number)
        return self.partitions[number]

    async def send_ticks(self) -> None:
        """Write one tick for each owned partition, all at once: one after the other, each would wait for a disk.

        A tick that gets lost is no loss.
        """
        numbers = list(self.partitions)
        ticks = (self.doors.writer.append(self.places.ticks, number, None, b"{}") for number in numbers)
        for number, said in zip(numbers, await asyncio.gather(*ticks, return_exceptions=True), strict=True):
            if isinstance(said, AppendUncertain):
                log.warning("no tick for partition %d: %s", number, said)
            elif isinstance(said, BaseException):
                raise said

    async def watch_lag(self) -> None:
        """Catch up partitions whose inputs or own journal have stood unread for 30 s."""
        numbers = [n for n, p in self.partitions.items() if p.ready]
        stopped = sum(bool(p.stopped) for p in self.partitions.values())
        for state, count in (
            ("ready", len(numbers)),
            ("stopped", stopped),
            ("waiting", len(self.partitions) - len(numbers) - stopped),
        ):
            PARTITIONS.labels(state).set(count)
        places = [(t, n) for n in numbers for t in (self.places.inputs, self.places.journal)]
        if not places:
            return
        try:
            ends = await self.doors.reader.ends(places)
            held = {n: self.partitions[n] for n in numbers if n in self.partitions}  # some may have gone meanwhile
            behind = (ends[self.places.inputs, n] - partition.decided for n, partition in held.items())
            INPUTS_BEHIND.set(sum(max(0, count) for count in behind))
            for n, partition in held.items():
                await partition.look_behind(ends[self.places.inputs, n], ends[self.places.journal, n])
        except LogUnreachable as error:
            log.warning("lag could not be looked at: %s", error)


class Partition:
    """One partition of a stage in this process, from one assignment to the next."""

    def __init__(self, stage: Stage, number: int) -> None:
        self.stage = stage
        self.number = number
        self.lock = asyncio.Lock()
        self.rows = Rows(stage.doors.rows, number, stage.mind.row_types)
        self.position = Position()
        self.state: Any = None
        self.causes: dict[str, int] = {}  # ahead of the position by inputs that decided to nothing
        self.at = self.position.at
        self.stale = True
        self.gone = False
        self.stopped = ""
        self.restart = False  # whether a fresh process cures the stop
        self._last_tick_at = BEGINNING
        self._loaded = False
        self._unforwarded: list[tuple[Entry, list[Fact]]] = []  # a cancelled agent leaves some
        self._entries_since_position = 0
        self._position_written_at = 0.0
        self._lagging_since: float | None = None
        self._scrub: asyncio.Task[dict[bytes, int]] | None = None
        self._scrubbed_at = 0.0

    # ── entrances ────────────────────────────────────────────────────────────────────────────────

    @property
    def ready(self) -> bool:
        """Whether the partition has resumed and goes on."""
        return self._loaded and not (self.stale or self.gone or self.stopped)

    @property
    def decided(self) -> int:
        """The offset of the next input to decide."""
        return self.causes.get(self.stage.places.inputs, -1) + 1

    async def take(self, record: Record) -> None:
        """Decide `record`, after all before it. Called inside the engine's loop for this partition."""
        async with self.lock:
            if not await self._resumed():
                return
            await self._guarded(self._catch_up(record.topic, record.offset, record))

    async def tick(self, record: Record) -> None:
        """Store rows, write the position when due, and decide what time alone decides."""
        async with self.lock:
            if not await self._resumed():
                return
            await self._guarded(self._tick(record))

    async def ask(self, seen: Fact) -> Entry | None:
        """Decide a fact that a hand brings; return the entry that counted, None for nothing decided.

        Raises StopLoudly when the partition stands, LogUnreachable when this object lost its partition.
        """
        async with self.lock:
            if self.stopped:
                raise StopLoudly(self.stopped)
            if self.gone or not self._loaded:
                raise LogUnreachable(f"partition {self.number} is not held here any more")
            try:
                return await self._decide(seen, max(self.at, self.position.at), None, None, "")
            except JournalBroken as broken:
                self._stop(str(broken))
                raise StopLoudly(str(broken)) from broken

    async def send_report(self, out: Outgoing) -> None:
        """Tell the partition's new owner what was seen here; sent until acknowledged."""
        await self._send(out, None, self.at)

    async def look_behind(self, inputs_end: int, journal_end: int) -> None:
        """Catch up when inputs or the own journal stand ahead of us for 30 s."""
        behind = self.decided < inputs_end or self.position.offset < journal_end
        now = asyncio.get_running_loop().time()
        if not behind:
            self._lagging_since = None
        elif self._lagging_since is None:
            self._lagging_since = now
        elif now - self._lagging_since >= LAG_PATIENCE_S:
            async with self.lock:
                if self.ready:
                    await self._guarded(self._look_behind(inputs_end, journal_end))
            self._lagging_since = None

    async def _look_behind(self, inputs_end: int, journal_end: int) -> None:
        if self.position.offset < journal_end:
            await self._read_back(journal_end)
        await self._catch_up(self.stage.places.inputs, inputs_end, None)

    async def _guarded(self, work: Any) -> None:
        """Run one step; a loud stop halts this partition and lets the others go on."""
        try:
            await work
        except LOUD as stop:
            self._stop(str(stop))
        except CURED_BY_RESTART as error:
            self._stop(str(error), restart=True)
        except LogUnreachable:
            if not self.gone:
                raise
            log.info("partition %d went in the middle of a step: its new owner goes on", self.number)

    def _stop(self, reason: str, *, restart: bool = False) -> None:
        self.stopped, self.restart = reason, restart
        log.critical("partition %d of %s stands: %s", self.number, self.stage.places.journal, reason)

    # ── resume ───────────────────────────────────────────────────────────────────────────────────

    async def _resumed(self) -> bool:
        while self.stale and not self.gone and not self.stopped:
            try:
                if not self._loaded:
                    await self._load()
                else:
                    _, end = await self.stage.doors.reader.bounds(self.stage.places.journal, self.number)
                    await self._read_back(end)
                self.stale = False
                await self._after_resume()
            except LOUD as stop:
                self._stop(str(stop))
            except CURED_BY_RESTART as error:
                self._stop(str(error), restart=True)
            except LogUnreachable as error:
                log.warning("partition %d waits to resume: %s", self.number, error)
                await asyncio.sleep(RETRY_S)
        return self.ready

    async def _load(self) -> None:
        """Take the position row, check it against the cluster, fold and forward the journal behind it."""
        reader, places = self.stage.doors.reader, self.stage.places
        start, end = await reader.bounds(places.journal, self.number)
        stored = self.stage.doors.rows.get(key_text(self.number, POSITION))
        if stored is None:
            await self._first_position(end)
        else:
            self.position = msgspec.json.decode(stored, type=_StoredPosition).r
            self._check_journal(start, end)
            await self._check_inputs()
        self.causes = dict(self.position.causes)
        self.at = self.position.at
        self.state = self.stage.mind.open(self.rows)
        self._loaded = True
        await self._read_back(end)

    async def _first_position(self, journal_end: int) -> None:
        places = self.stage.places
        if journal_end > 0:
            if key_text(self.number, POSITION) in await self._last_marks():
                raise NotRecovered(f"{places.journal}/{self.number}: the changelog has a position that the table lacks")
            raise StopLoudly(
                f"{places.journal}/{self.number} has {journal_end} records but no position row is stored: the "
                "tables are lost or another app id is used. Check MAILFLEET_PREFIX, or run `mailfleet replay`."
            )
        start, _ = await self.stage.doors.reader.bounds(places.inputs, self.number)
        self.position = Position(causes={places.inputs: start - 1}, topic_ids=dict(places.topic_ids))
        await self._store_position()

    def _check_journal(self, start: int, end: int) -> None:
        name = f"{self.stage.places.journal}/{self.number}"
        for topic, known in self.position.topic_ids.items():
            found = self.stage.places.topic_ids.get(topic)
            if found != known:
                raise StopLoudly(
                    f"topic {topic} was deleted and made again (id {found}, known {known}): its offsets mean "
                    "something else now. Restore it, or begin a new fleet with a new prefix."
                )
        if end < self.position.offset:
            raise StopLoudly(
                f"{name} ends at {end}, but {self.position.offset} records were folded: the journal was cut "
                "short. Restore it from the archive before this partition goes on."
            )
        if start > self.position.offset:
            raise StopLoudly(
                f"{name} begins at {start}, after the position {self.position.offset}: entries are missing. "
                "Restore them from the archive; journals must be kept without limit."
            )

    async def _check_inputs(self) -> None:
        for topic, last in self.position.causes.items():
            _, end = await self.stage.doors.reader.bounds(topic, self.number)
            if last >= end:
                raise StopLoudly(
                    f"{topic}/{self.number} ends at {end}, but offset {last} was decided: the topic was cut "
                    "short. Restore it, or begin a new fleet with a new prefix."
                )

    async def _after_resume(self) -> None:
        held = self.stage.holds
        elsewhere = tuple(a for a, started in self.position.open.items() if started and not held(self, a))
        if elsewhere:
            await self._decide(PartitionResumed(elsewhere), self.at, None, None, "")
        if self.stage.on_resumed is not None:
            self.stage.on_resumed(self)
        self._begin_scrub()

    def _begin_scrub(self) -> None:
        loop = asyncio.get_running_loop()
        self._scrub, self._scrubbed_at = loop.create_task(self._last_marks()), loop.time()

    # ── inputs ───────────────────────────────────────────────────────────────────────────────────

    async def _catch_up(self, topic: str, upto: int, record: Record | None) -> None:
        """Decide every input before offset `upto`, then `record`, which stands there."""
        if upto <= self.causes[topic]:
            return
        await self._fill(topic, upto)
        if record is not None and record.offset == self.causes[topic] + 1:
            await self._decide_record(record)

    async def _fill(self, topic: str, end: int) -> None:
        """Fetch and decide the inputs that the engine dropped, in chunks; markers are legal gaps."""
        while (first := self.causes[topic] + 1) < end and not self.gone:
            start, _ = await self._patiently(lambda: self.stage.doors.reader.bounds(topic, self.number))
            if start > first:
                await self._inputs_lost(topic, first, min(start, end))
                continue
            try:
                async for chunk in self.stage.doors.reader.read(topic, self.number, first, end):
                    for record in chunk:
                        await self._decide_record(record)
                self.causes[topic] = max(self.causes[topic], end - 1)
            except LogUnreachable as error:
                log.warning("inputs of partition %d wait: %s", self.number, error)
                await asyncio.sleep(RETRY_S)

    async def _inputs_lost(self, topic: str, first: int, end: int) -> None:
        log.critical("%s/%d: inputs %d..%d were deleted before they were decided", topic, self.number, first, end - 1)
        lost = InputsLost(topic, self.number, first, end)
        await self._append_until_counted(lost, [lost], self.at, self._cause(topic, end - 1), None, "")
        self.causes[topic] = max(self.causes[topic], end - 1)

    async def _decide_record(self, record: Record) -> None:
        if record.offset <= self.causes[record.topic]:
            return
        self.at = max(self.at, record.at)
        cause = self._cause(record.topic, record.offset)
        try:
            envelope = from_wire(record.value)
            fact = registry.fact_of(envelope.type, envelope.v, envelope.data)
        except Unreadable as error:
            await self._dead_letter(record, str(error))
        else:
            await self._decide(fact, self.at, cause, envelope.origin, envelope.id)
        self.causes[record.topic] = max(self.causes[record.topic], record.offset)

    async def _dead_letter(self, record: Record, reason: str) -> None:
        """Put the record's position aside. May be repeated by a crash; readers go by its position."""
        value = record.value or b""
        letter = LetterDied(
            record.topic,
            record.partition,
            record.offset,
            hashlib.sha256(value).hexdigest(),
            reason,
            len(value),
        )
        await self._send(Outgoing(DEAD_LETTERS, record.topic.encode(), letter), None, self.at)

    def _cause(self, topic: str, offset: int) -> Cause:
        return Cause(topic, self.stage.places.topic_ids.get(topic, ""), self.number, offset)

    async def _tick(self, record: Record) -> None:
        await self._housekeeping()
        newer = record.at > self._last_tick_at
        if newer and self.stage.doors.clock() - record.at <= TICK_MAX_AGE:
            self._last_tick_at = record.at
            self.at = max(self.at, record.at)  # an input of the same moment may have been quicker
            await self._decide(Ticked(), self.at, self._cause(record.topic, record.offset), None, "")

    # ── decide, append, fold ─────────────────────────────────────────────────────────────────────

    async def _decide(
        self, seen: Fact, at: datetime, cause: Cause | None, origin: Origin | None, seen_id: str
    ) -> Entry | None:
        """Decide until the decision counts or is not wanted any more."""
        while True:
            if self.gone:
                raise LogUnreachable(f"partition {self.number} is not held here any more")
            if cause is not None and cause.offset <= self.position.causes.get(cause.topic, -1):
                return None  # another owner's entry, just read back, decided this input
            if origin is not None and (origin.seq, origin.n) <= self.position.origin(origin.source):
                return None
            facts = self.stage.mind.decide(self.state, seen, at)
            if not facts:
                return None
            entry = self._entry(seen, facts, at, cause, origin, seen_id)
            if await self._append(entry):
                return entry

    async def _append_until_counted(
        self, seen: Fact, facts: list[Fact], at: datetime, cause: Cause, origin: Origin | None, seen_id: str
    ) -> None:
        while cause.offset > self.position.causes.get(cause.topic, -1):
            if await self._append(self._entry(seen, facts, at, cause, origin, seen_id)):
                return

    def _entry(
        self,
        seen: Fact,
        facts: list[Fact],
        at: datetime,
        cause: Cause | None,
        origin: Origin | None,
        seen_id: str,
    ) -> Entry:
        name = registry.TYPE_OF[type(seen)]
        return Entry(
            id=self.stage.doors.new_id(),
            by=self.stage.doors.by,
            seq=self.position.seq + 1,
            prev=self.position.last_id,
            at=max(at, self.position.at),
            cause=cause,
            seen=Seen(name, registry.VERSION_OF[name], registry.data_of(seen), seen_id, origin),
            decided=tuple(registry.decided(fact) for fact in facts),
        )

    async def _append(self, entry: Entry) -> bool:
        """Append; return whether this very entry counts. Whatever else counted meanwhile is folded."""
        expected = self.position.offset
        key = str(self.number).encode()
        journal = self.stage.places.journal
        try:
            answered = await self.stage.doors.writer.append(journal, self.number, key, to_wire(entry))
        except AppendUncertain as error:
            ENTRIES.labels(journal, "uncertain").inc()
            log.warning("append to partition %d uncertain, reading back: %s", self.number, error)
            _, end = await self._patiently(
                lambda: self.stage.doors.reader.bounds(self.stage.places.journal, self.number)
            )
            return entry.id in await self._read_back(end)
        if answered == expected:
            ENTRIES.labels(journal, "counted").inc()
            await self._count(entry, expected)
            return True
        ENTRIES.labels(journal, "void").inc()
        return entry.id in await self._read_back(answered + 1)

    async def _read_back(self, end: int) -> set[str]:
        """Fold and forward what counts up to `end`; return the ids that counted. Raises JournalBroken."""
        counted: set[str] = set()
        while self.position.offset < end:
            try:
                async for chunk in self.stage.doors.reader.read(
                    self.stage.places.journal, self.number, self.position.offset, end
                ):
                    for record in chunk:
                        if record.offset >= self.position.offset and await self._weigh(record):
                            counted.add(self.position.last_id)
                self.position.offset = max(self.position.offset, end)
            except LogUnreachable as error:
                log.warning("journal of partition %d waits: %s", self.number, error)
                await asyncio.sleep(RETRY_S)
        return counted

    async def _weigh(self, record: Record) -> bool:
        """The journal rule: the next seq counts, an old one is void, a hole or a fork stops loudly."""
        where = f"{record.topic}/{record.partition} offset {record.offset}"
        entry = journal_entry(record.value, where)
        if not counts(entry, self.position.seq, self.position.last_id, where):
            self.position.offset = record.offset + 1
            return False
        await self._count(entry, record.offset)
        return True

    async def _count(self, entry: Entry, offset: int) -> None:
        try:
            facts = [registry.fact_in(d) for d in entry.decided]
        except Unreadable as error:
            raise JournalBroken(
                f"{self.stage.places.journal}/{self.number} offset {offset}: a fact that this release cannot read "
                f"({error}): a newer one wrote it. Start that release again."
            ) from error
        fold(self.stage.mind, self.rows, self.state, entry, facts)
        for fact in facts:
            self.stage.mind.track(self.position.open, fact)
        self.position.count(entry, offset)
        for fact in facts:
            if isinstance(fact, JournalContinued):
                self.position.continued(fact)
        for topic, last in self.position.causes.items():
            self.causes[topic] = max(self.causes.get(topic, -1), last)
        self.at = max(self.at, entry.at)
        self._entries_since_position += 1
        self._unforwarded.append((entry, facts))
        await self._forward_all()
        if self.stage.on_counted is not None and not self.stale:
            for fact in facts:
                self.stage.on_counted(self, fact)

    # ── forwarding ───────────────────────────────────────────────────────────────────────────────

    async def _forward_all(self) -> None:
        """Tell others, in (seq, n) order, each acknowledged before the next; first what a cancelled agent left."""
        while self._unforwarded:
            await self._forward(*self._unforwarded[0])
            del self._unforwarded[0]

    async def _forward(self, entry: Entry, facts: list[Fact]) -> None:
        for n, out in enumerate(forwards(self.stage.mind, entry, facts)):
            await self._send(out, Origin(self.stage.places.journal, self.number, entry.seq, n), entry.at)

    async def _send(self, out: Outgoing, origin: Origin | None, at: datetime) -> None:
        doors = self.stage.doors
        envelope = registry.enveloped(
            out.fact, id=doors.new_id(), at=at, key=out.key.decode(), by=doors.by, origin=origin
        )
        topic = self.stage.places.prefix + out.topic.name
        to = partition_of(out.key, out.topic.partitions)
        raw = to_wire(envelope)
        while True:
            try:
                await self.stage.doors.writer.append(topic, to, out.key, raw)
            except AppendUncertain as error:  # sending again is safe: the receiver goes by the origin
                log.warning("forwarding from partition %d waits: %s", self.number, error)
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _patiently(self, question: Callable[[], Any]) -> Any:
        """Ask Kafka until it answers: while it is down, everything waits where it was."""
        while True:
            try:
                return await question()
            except LogUnreachable as error:
                log.warning("partition %d waits for Kafka: %s", self.number, error)
                await asyncio.sleep(RETRY_S)

    # ── rows, position, scrub ────────────────────────────────────────────────────────────────────

    async def _housekeeping(self) -> None:
        await self._forward_all()
        if self._scrub is not None and self._scrub.done():
            task, self._scrub = self._scrub, None
            if task.exception() is None:
                self.rows.again(task.result())
            else:
                log.warning("changelog of partition %d could not be scrubbed: %r", self.number, task.exception())
        if self._scrub is None and asyncio.get_running_loop().time() - self._scrubbed_at > SCRUB_EVERY_S:
            self._begin_scrub()
        await self.rows.flush()
        elapsed = asyncio.get_running_loop().time() - self._position_written_at
        if self._entries_since_position and (
            self._entries_since_position >= POSITION_EVERY_ENTRIES or elapsed >= POSITION_EVERY_S
        ):
            await self._store_position()

    async def _store_position(self) -> None:
        """Rows first, each acknowledgement looked at; forwards were acknowledged when they were sent."""
        await self.rows.flush()
        raw = b'{"m":%d,"r":%b}' % (self.position.seq, to_wire(self.position))
        await self.stage.doors.rows.write(self.number, {key_text(self.number, POSITION): raw})
        self._entries_since_position = 0
        self._position_written_at = asyncio.get_running_loop().time()

    async def _last_marks(self) -> dict[bytes, int]:
        """Read the changelog: the mark of each key's last record, where it is not the highest seen."""
        topic = self.stage.places.changelog
        start, end = await self.stage.doors.reader.bounds(topic, self.number)
        last: dict[bytes, int] = {}
        async for chunk in self.stage.doors.reader.read(topic, self.number, start, end):
            last.update((r.key, mark_of(r.value)) for r in chunk if r.key and r.value)
        return last


class _StoredPosition(msgspec.Struct):
    m: int
    r: Position


def forwards(mind: Mind, entry: Entry, facts: list[Fact]) -> list[Outgoing]:
    """Return what others must hear of an entry, in order: the n-th goes out with origin n."""
    return [out for fact in facts for out in mind.forwards(fact, entry.at)]


def fold(mind: Mind, rows: Rows, state: Any, entry: Entry, facts: list[Fact]) -> None:
    """Fold an entry into its rows; a row at or past the entry's seq is left as it is, but stored again.

    Such a row comes from a local store that outlived its process: it may be there without ever having
    reached the changelog, and the position row must not pass it by.
    """
    touched: dict[Any, list[Fact]] = {}
    for fact in facts:
        for key in mind.rows_of(fact, entry.at):
            touched.setdefault(key, []).append(fact)
    for key, changes in touched.items():
        mark, row = rows.held(key)
        if mark >= entry.seq:
            rows.keep(key)
            continue
        for fact in changes:
            row = mind.evolve(key, row, fact, entry.at)
        if row is not None:
            rows.put(key, entry.seq, row)
            mind.changed(state, key, row)
