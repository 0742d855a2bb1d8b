"""What a stage asks of its mind. Minds are pure: they see facts, rows and the time of the entry."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import msgspec

from schemas.registry import Fact
from schemas.topics import Topic
from streams.log.rows import RowKey, Rows


@dataclass(frozen=True)
class Outgoing:
    """A fact to forward: to which topic, under which key."""

    topic: Topic
    key: bytes
    fact: Fact


class Mind(Protocol):
    """Decisions and folds of one stage. Implemented by streams.delivery.mind and streams.fleet.mind."""

    row_types: Mapping[str, type[msgspec.Struct]]

    def open(self, rows: Rows) -> Any:
        """Return the state object that `decide` reads; rebuilt on resume."""

    def decide(self, state: Any, seen: Fact, at: datetime) -> list[Fact]:
        """Return what follows from `seen`; an empty list is a decision too."""

    def rows_of(self, fact: Fact, at: datetime) -> Iterable[RowKey]:
        """Return the rows that a decided fact changes."""

    def evolve(self, key: RowKey, row: msgspec.Struct | None, fact: Fact, at: datetime) -> msgspec.Struct:
        """Return the row after the fact. Reads only that row and the fact."""

    def changed(self, state: Any, key: RowKey, row: msgspec.Struct) -> None:
        """Keep the state's indexes after a row changed."""

    def track(self, open_attempts: dict[str, bool], fact: Fact) -> None:
        """Keep the open attempts: assigned (False), started (True), or gone."""

    def forwards(self, fact: Fact, at: datetime) -> list[Outgoing]:
        """Return what others must hear of a decided fact, in order."""
