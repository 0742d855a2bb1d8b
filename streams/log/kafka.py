"""Plain Kafka under the stages: reading by offset and appending one record at a time.

The writer is idempotent and replaced after any error, because aiokafka keeps a burnt sequence number.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.metrics import APPEND_SECONDS
from schemas.topics import MAX_RECORD_BYTES


class AppendUncertain(Exception):
    """Kafka gave no usable answer to an append: it may have landed, may land later, or never."""


class LogUnreachable(Exception):
    """Kafka could not be read; nothing was decided on it."""


@dataclass(frozen=True)
class Record:
    """One Kafka record. `at` is the broker's time where the topic says LogAppendTime."""

    topic: str
    partition: int
    offset: int
    at: datetime
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True)
class Connection:
    """How to reach Kafka, as aiokafka names it; empty `security` means plaintext."""

    bootstrap: str
    security: dict[str, Any] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        """Return the client options."""
        tls = self.security.get("security_protocol", "").endswith("SSL")
        extra = {"ssl_context": ssl.create_default_context()} if tls else {}
        return {"bootstrap_servers": self.bootstrap, **self.security, **extra}


def record_of(message: Any) -> Record:
    """Return our record for an aiokafka one."""
    at = datetime.fromtimestamp(message.timestamp / 1000, UTC)
    return Record(message.topic, message.partition, message.offset, at, message.key, message.value)


class Reader:
    """Reads any partition by offset, outside of any group. A few consumers, one reading at a time each."""

    def __init__(self, connection: Connection, *, lanes: int = 4, max_fetch_bytes: int = 1_048_576) -> None:
        self._connection = connection
        self._lanes = lanes
        self._max_fetch_bytes = max_fetch_bytes
        self._free: asyncio.Queue[Any] = asyncio.Queue()
        self._made: list[Any] = []

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[Any]:
        if self._free.empty() and len(self._made) < self._lanes:
            consumer = AIOKafkaConsumer(
                **self._connection.options(),
                enable_auto_commit=False,
                auto_offset_reset="none",
                max_partition_fetch_bytes=self._max_fetch_bytes,
                fetch_max_wait_ms=50,
                metadata_max_age_ms=30_000,
                request_timeout_ms=10_000,
            )
            self._made.append(consumer)
            try:
                await consumer.start()
            except (KafkaError, OSError) as error:
                self._made.remove(consumer)
                await consumer.stop()
                raise LogUnreachable(f"Kafka at {self._connection.bootstrap} does not answer: {error}") from error
        else:
            consumer = await self._free.get()
        try:
            yield consumer
        except (KafkaError, OSError) as error:
            raise LogUnreachable(f"Kafka could not be read: {error!r}") from error
        finally:
            consumer.unsubscribe()
            self._free.put_nowait(consumer)

    async def ends(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return the end offset (exclusive) of each (topic, partition). Raises LogUnreachable."""
        async with self._consumer() as consumer:
            found = await consumer.end_offsets([TopicPartition(t, p) for t, p in places])
        return {(tp.topic, tp.partition): offset for tp, offset in found.items()}

    async def starts(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return the first offset of each (topic, partition). Raises LogUnreachable."""
        async with self._consumer() as consumer:
            found = await consumer.beginning_offsets([TopicPartition(t, p) for t, p in places])
        return {(tp.topic, tp.partition): offset for tp, offset in found.items()}

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Return (first offset, end offset exclusive). Raises LogUnreachable."""
        place = TopicPartition(topic, partition)
        async with self._consumer() as consumer:
            starts = await consumer.beginning_offsets([place])
            ends = await consumer.end_offsets([place])
        return starts[place], ends[place]

    async def read(self, topic: str, partition: int, start: int, end: int) -> AsyncGenerator[list[Record], None]:
        """Yield the records with start <= offset < end in chunks; control markers are legal gaps.

        Raises LogUnreachable, also when nothing comes for 30 s.
        """
        if start >= end:
            return
        place, position = TopicPartition(topic, partition), start
        while position < end:
            async with self._consumer() as consumer:  # given back before the yield: working on a chunk may read too
                consumer.assign([place])
                consumer.seek(place, position)
                batch = await self._chunk(consumer, place, position)
                position = await consumer.position(place)
            yield [record_of(m) for m in batch if m.offset < end]

    async def _chunk(self, consumer: Any, place: Any, position: int) -> list[Any]:
        """One chunk, or an empty one when only control markers were passed."""
        deadline = asyncio.get_running_loop().time() + 30
        while asyncio.get_running_loop().time() < deadline:
            got = await consumer.getmany(place, timeout_ms=200, max_records=500)
            if got.get(place):
                return list(got[place])
            if await consumer.position(place) > position:
                return []
        raise LogUnreachable(f"{place.topic}/{place.partition} gave nothing at offset {position} for 30 s")

    async def one(self, topic: str, partition: int, offset: int) -> Record | None:
        """Return the record at `offset`, or None when it is gone. Raises LogUnreachable."""
        first, end = await self.bounds(topic, partition)
        if not first <= offset < end:
            return None
        async for chunk in self.read(topic, partition, offset, offset + 1):
            if chunk:
                return chunk[0]
        return None

    async def close(self) -> None:
        """Stop all consumers."""
        for consumer in self._made:
            await consumer.stop()
        self._made.clear()


class Writer:
    """Appends records, each acknowledged by all in-sync replicas."""

    def __init__(self, connection: Connection, *, timeout_s: float = 10.0) -> None:
        self._connection = connection
        self._timeout_s = timeout_s
        self._producer: Any = None
        self._starting = asyncio.Lock()
        self._retired: set[asyncio.Task[None]] = set()

    async def _current(self) -> Any:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **self._connection.options(),
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=0,
                    request_timeout_ms=int(self._timeout_s * 1000),
                    max_request_size=MAX_RECORD_BYTES,
                    metadata_max_age_ms=30_000,
                )
                try:
                    await producer.start()
                except (KafkaError, OSError) as error:
                    await producer.stop()
                    raise AppendUncertain(f"Kafka at {self._connection.bootstrap} does not answer") from error
                self._producer = producer
            return self._producer

    def retire(self, producer: Any) -> None:
        """Take `producer` out of use; the next append starts a new one."""
        if producer is self._producer:
            self._producer = None
            task = asyncio.get_running_loop().create_task(_stop(producer))
            self._retired.add(task)
            task.add_done_callback(self._retired.discard)

    async def append(self, topic: str, partition: int, key: bytes | None, value: bytes) -> int:
        """Append and return the offset that Kafka answered. Raises AppendUncertain."""
        producer = await self._current()
        try:
            async with asyncio.timeout(self._timeout_s):
                with APPEND_SECONDS.labels(topic).time():
                    answer = await producer.send_and_wait(topic, value, key=key, partition=partition)
        except (KafkaError, TimeoutError, OSError) as error:
            self.retire(producer)
            raise AppendUncertain(f"{topic}/{partition}: {error!r}") from error
        if answer.offset < 0:
            raise AppendUncertain(f"{topic}/{partition}: acknowledged without an offset")
        return int(answer.offset)

    async def close(self) -> None:
        """Flush and stop."""
        if self._producer is not None:
            self.retire(self._producer)
        if self._retired:
            await asyncio.wait(self._retired, timeout=5)


async def _stop(producer: Any) -> None:
    try:
        async with asyncio.timeout(30):
            await producer.stop()
    except (KafkaError, TimeoutError, OSError):
        return  # its unanswered appends were already told to their callers as uncertain
