"""Reads the fleet's journal from its true start into a study. It reads by offset alone: no group, nothing written."""

from collections.abc import Callable
from contextlib import aclosing

from ops.journals import journal_entries
from ops.what_if.study import Past, Study
from streams.log.kafka import Reader
from streams.log.position import Position
from streams.roles import ROLES
from streams.settings import Settings

SHOWN_EVERY = 500  # records


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
            past = Past(study, place[1])
            async with aclosing(journal_entries(reader, *place, Position())) as entries:
                async for entry, offset in entries:
                    if entry is not None and not past.entry(entry):
                        break  # what is past the period is left unread
                    if offset % SHOWN_EVERY == 0:
                        step(done + offset - starts[place], total)
            past.close()
            done += ends[place] - starts[place]
            step(done, total)
    finally:
        await reader.close()
    if not study.recorded:
        raise NothingRecorded(_nothing(study))


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
