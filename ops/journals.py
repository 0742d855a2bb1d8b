"""Whole journals folded in memory: what the tables and Postgres must agree with."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from schemas import registry
from schemas.entry import Entry, counts, journal_entry
from schemas.registry import Fact
from schemas.sending import JournalContinued
from streams.delivery.mind import DeliveryMind
from streams.fleet.mind import FleetMind
from streams.log.kafka import Reader
from streams.log.mind import Mind
from streams.log.position import Position
from streams.log.rows import Rows
from streams.log.stage import fold
from streams.roles import ROLES, Role
from streams.settings import Settings


class Nowhere:
    """A RowStore without rows: everything stays in the fold."""

    def get(self, _key: bytes) -> bytes | None:
        """Nothing is stored."""
        return None

    def items(self, _partition: int) -> Iterable[tuple[bytes, bytes]]:
        """Nothing is stored."""
        return ()

    async def write(self, _partition: int, _rows: Mapping[bytes, bytes]) -> None:
        """Never called: a fold that is not flushed writes nothing."""
        raise AssertionError("a fold in memory was flushed")


@dataclass
class Folded:
    """One partition's journal, folded to its end. `void` counts records that do not count."""

    partition: int
    rows: Rows
    position: Position
    entries: int = 0
    void: int = 0
    facts: list[tuple[Entry, Fact]] = field(default_factory=list)


def mind_of(role: Role) -> Mind:
    """Return a mind of the role."""
    return DeliveryMind() if role == "delivery" else FleetMind()


Hear = Callable[[Role, int, Entry, list[Fact]], None]


async def fold_partition(
    settings: Settings,
    role: Role,
    partition: int,
    reader: Reader,
    *,
    keep_facts: bool = False,
    hear: Hear = lambda _role, _partition, _entry, _facts: None,
) -> Folded:
    """Fold one journal partition from its true start; `hear` is told each entry that counts.

    The position's topic ids are those that the entries name. Raises JournalBroken, LogUnreachable.
    """
    mind = mind_of(role)
    topics = ROLES[role]
    name = settings.topic(topics.journal)
    folded = Folded(partition, Rows(Nowhere(), partition, mind.row_types), Position())
    folded.position.causes = {settings.topic(topics.inputs): -1}
    state = mind.open(folded.rows)
    async for entry, _offset in journal_entries(reader, name, partition, folded.position):
        if entry is None:
            folded.void += 1
            continue
        facts = [registry.fact_in(decided) for decided in entry.decided]
        fold(mind, folded.rows, state, entry, facts)
        for fact in facts:
            mind.track(folded.position.open, fact)
        if entry.cause is not None and entry.cause.topic in folded.position.causes:
            folded.position.topic_ids[entry.cause.topic] = entry.cause.topic_id
        for fact in facts:
            if isinstance(fact, JournalContinued):
                folded.position.continued(fact)
        hear(role, partition, entry, facts)
        folded.entries += 1
        if keep_facts:
            folded.facts += [(entry, fact) for fact in facts]
    return folded


async def journal_entries(
    reader: Reader, name: str, partition: int, position: Position
) -> AsyncGenerator[tuple[Entry | None, int], None]:
    """Yield (entry, offset) of each record of a journal partition from its true start; one that is void has no entry.

    `position` goes along. Raises JournalBroken, LogUnreachable.
    """
    start, end = await reader.bounds(name, partition)
    async for chunk in reader.read(name, partition, start, end):
        for record in chunk:
            where = f"{name}/{partition} offset {record.offset}"
            entry = journal_entry(record.value, where)
            if counts(entry, position.seq, position.last_id, where):
                position.count(entry, record.offset)
                yield entry, record.offset
            else:
                yield None, record.offset
        await asyncio.sleep(0)
