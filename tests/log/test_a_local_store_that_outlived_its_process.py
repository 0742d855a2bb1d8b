"""A killed process leaves rows in its local store that never reached the changelog: they are written again."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import msgspec

from schemas.entry import Entry, Seen
from schemas.ids import ClientId, SendId
from schemas.registry import Fact
from schemas.sending import CancelNoted
from streams.fleet.mind import FleetMind
from streams.log.rows import Rows
from streams.log.stage import fold

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


class LocalStore:
    """Keeps rows; `changelog` is what a write was acknowledged for."""

    def __init__(self) -> None:
        self.local: dict[bytes, bytes] = {}
        self.changelog: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        """Return the local row."""
        return self.local.get(key)

    def items(self, _partition: int) -> Iterable[tuple[bytes, bytes]]:
        """Return the local rows."""
        return list(self.local.items())

    async def write(self, _partition: int, rows: Mapping[bytes, bytes]) -> None:
        """Write both."""
        self.local.update(rows)
        self.changelog.update(rows)


def _fold(store: LocalStore) -> Rows:
    """Fold the journal's one entry over the store, as a resume does."""
    mind = FleetMind()
    rows = Rows(store, 0, mind.row_types)
    facts: list[Fact] = [CancelNoted(ClientId("acme"), SendId("s1"), "upstream")]
    entry = Entry(id="a", by="w", seq=1, prev="", at=AT, cause=None, seen=Seen("x", 1, {}, "", None), decided=())
    fold(mind, rows, mind.open(rows), entry, facts)
    return rows


async def test_a_row_that_is_only_in_the_local_store_is_written_to_the_changelog_by_the_next_resume() -> None:
    store = LocalStore()
    await _fold(store).flush()
    store.changelog.clear()  # killed between the local write and the changelog's acknowledgement
    rows = _fold(store)
    assert rows.unstored == 1
    await rows.flush()
    assert store.changelog == store.local
    assert msgspec.json.decode(store.changelog[b"0|cancel|acme/s1"])["m"] == 1
