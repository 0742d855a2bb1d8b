"""What the fleet file declares, followed along the fleet's journal by processes that are no stage."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from schemas import registry
from schemas.entry import counts, journal_entry
from schemas.fleet import ClientDeclared, DomainDeclared, MailboxDeclared, RouteDeclared
from schemas.registry import Fact
from schemas.topics import FLEET_JOURNAL
from streams.log.kafka import AppendUncertain, LogUnreachable, Reader

log = logging.getLogger(__name__)


@dataclass
class _Place:
    """How far one partition of the fleet's journal is read."""

    offset: int = 0
    seq: int = 0
    last_id: str = ""


@dataclass
class Declarations:
    """What is declared, followed along the fleet's journal."""

    topic: str
    reader: Reader
    held: dict[tuple[str, ...], Fact] = field(default_factory=dict)
    _places: list[_Place] = field(default_factory=lambda: [_Place() for _ in range(FLEET_JOURNAL.partitions)])

    async def refresh(self) -> None:
        """Read on to the journal's end. Raises LogUnreachable, JournalBroken."""
        ends = await self.reader.ends((self.topic, p) for p in range(len(self._places)))
        for number, place in enumerate(self._places):
            end = ends[self.topic, number]
            async for chunk in self.reader.read(self.topic, number, place.offset, end):
                for record in chunk:
                    self._take(place, record.value, f"{self.topic}/{number} offset {record.offset}")
                    place.offset = record.offset + 1
            place.offset = end

    def _take(self, place: _Place, raw: bytes | None, where: str) -> None:
        entry = journal_entry(raw, where)
        if not counts(entry, place.seq, place.last_id, where):
            return
        place.seq, place.last_id = entry.seq, entry.id
        for record in entry.decided:
            if not record.type.endswith(".declared"):
                continue
            match fact := registry.fact_in(record):
                case DomainDeclared():
                    self.held["domain", fact.client, fact.domain] = fact
                case RouteDeclared():
                    self.held["route", fact.client, fact.route] = fact
                case MailboxDeclared():
                    self.held["mailbox", fact.mailbox] = fact
                case ClientDeclared():
                    self.held["client", fact.client] = fact
                case _:
                    pass  # nothing that is followed


async def round_after_round(
    declared: Declarations,
    remember: Callable[[], Awaitable[None]],
    one_round: Callable[[], Awaitable[None]],
    pause_s: float,
    who: str,
) -> None:
    """Remember once, then go round over what is declared, for ever; without Kafka it is tried again.

    Raises JournalBroken.
    """
    remembered = False
    while True:
        try:
            if not remembered:
                await remember()
                remembered = True
            await declared.refresh()
            await one_round()
        except (LogUnreachable, AppendUncertain) as error:
            log.warning("%s tries again in %s s: %s", who, pause_s, error)
        await asyncio.sleep(pause_s)
