"""Facts in topics, for processes that are no stage: one is appended, and what an earlier life appended is read back."""

import logging
import uuid
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

from schemas import registry
from schemas.envelope import Unreadable, from_wire, to_wire
from schemas.registry import Fact
from schemas.topics import Topic, partition_of
from streams.log.kafka import Reader, Record, Writer
from streams.settings import Settings

log = logging.getLogger(__name__)


async def append(
    writer: Writer,
    settings: Settings,
    topic: Topic,
    fact: Fact,
    key: bytes,
    by: str,
    *,
    at: datetime | None = None,
    partition: int | None = None,
) -> int:
    """Append one fact, to its key's partition if none is named; return its offset. Raises AppendUncertain."""
    now = datetime.now(UTC) if at is None else at
    envelope = registry.enveloped(fact, id=uuid.uuid4().hex, at=now, key=key.decode(), by=by)
    place = partition_of(key, topic.partitions) if partition is None else partition
    return await writer.append(settings.topic(topic), place, key, to_wire(envelope))


async def remembered(
    reader: Reader, settings: Settings, topic: Topic, newest: int | None = None
) -> AsyncGenerator[Fact, None]:
    """Yield the facts of a topic, of each partition the `newest` records or all. Raises LogUnreachable."""
    name = settings.topic(topic)
    for partition in range(topic.partitions):
        first, end = await reader.bounds(name, partition)
        async for chunk in reader.read(name, partition, first if newest is None else max(first, end - newest), end):
            for record in chunk:
                fact = fact_of(topic, record)
                if fact is not None:
                    yield fact


def fact_of(topic: Topic, record: Record) -> Fact | None:
    """Return a record's fact; one that cannot be read is passed over, and said."""
    try:
        envelope = from_wire(record.value)
        return registry.fact_of(envelope.type, envelope.v, envelope.data)
    except Unreadable as error:
        log.warning("%s offset %d cannot be read and is passed over: %s", topic.name, record.offset, error)
        return None
