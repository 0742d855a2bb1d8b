"""Reads the fleet's journal from its true start into a study. It reads by offset alone: no group, nothing written."""

import asyncio
from collections.abc import AsyncGenerator, Callable

from ops.what_if.study import Past, Study
from schemas.entry import counts, journal_entry
from streams.log.kafka import Reader
from streams.log.position import Position
from streams.roles import ROLES
from streams.settings import Settings


class NothingRecorded(Exception):
    """The journal has no mail in the period; the text says what it has."""


async def read_into(study: Study, settings: Settings, step: Callable[[int, int], None]) -> None:
    """Fill the study; `step` is told how many records of how many are read.

    Raises NothingRecorded, JournalBroken, LogUnreachable.
    """
    journal = ROLES["fleet"].journal
    topic, reader = settings.topic(journal), Reader(settings.connection)
    places = [(topic, partition) for partition in range(journal.partitions)]
    try:
        starts, ends = await reader.starts(places), await reader.ends(places)
        total, done = sum(ends[place] - starts[place] for place in places), 0
        for place in places:
            async for read in _partition(study, reader, topic, place[1], starts[place], ends[place]):
                step(done + read, total)
            done += ends[place] - starts[place]
            step(done, total)
    finally:
        await reader.close()
    if not study.recorded:
        raise NothingRecorded(_nothing(study))


async def _partition(
    study: Study, reader: Reader, topic: str, partition: int, start: int, end: int
) -> AsyncGenerator[int, None]:
    """Read one partition and yield how much of it is read; what is past the period is left unread."""
    past, position = Past(study, partition), Position()
    async for chunk in reader.read(topic, partition, start, end):
        for record in chunk:
            where = f"{topic}/{partition} offset {record.offset}"
            entry = journal_entry(record.value, where)
            if not counts(entry, position.seq, position.last_id, where):
                continue
            position.count(entry, record.offset)
            if not past.entry(entry):
                past.close()
                return
        if chunk:
            yield chunk[-1].offset + 1 - start
        await asyncio.sleep(0)
    past.close()


def _nothing(study: Study) -> str:
    if study.first is None or study.last is None:
        return (
            "the fleet's journal is empty: nothing was sent by this fleet yet. Is KAFKA_BROKERS (and MAILFLEET_PREFIX) "
            "that of the fleet you mean?"
        )
    until = f"to {study.end:%Y-%m-%d %H:%M}" if study.end else "on"
    return (
        f"no mail was assigned from {study.begin:%Y-%m-%d %H:%M} {until} (UTC). The journal begins at "
        f"{study.first:%Y-%m-%d %H:%M} and was read to {study.last:%Y-%m-%d %H:%M}: choose --from and --to in there"
    )
