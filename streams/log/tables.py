"""The Faust table that a zombie's late write cannot turn back, and rows stored in it."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

import faust

from streams.log.rows import RowNotStored, key_parts, mark_of


class MarkedTable(faust.Table):
    """A Faust table of raw bytes that drops changelog records with a lower mark than the row held."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self.sent: list[Awaitable[Any]] = []

    def apply_changelog_batch(self, batch: Any) -> None:
        """Recovery: apply what is not older than what is held."""
        for event in batch:
            partition, _ = key_parts(event.message.key)
            if partition != event.message.partition or event.message.topic != self.changelog_topic_name:
                raise RuntimeError(
                    f"changelog record of {event.message.topic}/{event.message.partition} has the key of another "
                    f"partition: {event.message.key!r}; stop the worker and run `mailfleet verify`."
                )
        best: dict[bytes, Any] = {}
        for event in batch:
            key, value = event.message.key, event.message.value
            held = best[key].message.value if key in best else self._held(key, event.message.partition)
            if held is None or mark_of(value) >= mark_of(held):
                best[key] = event
        keep = {id(event) for event in best.values()}
        super().apply_changelog_batch([event for event in batch if id(event) in keep])

    def _held(self, key: bytes, partition: int) -> bytes | None:
        value = self.data.get(key)
        return value if isinstance(value, bytes) else None

    def send_changelog(self, *args: Any, **options: Any) -> Any:
        """Keep the future of each write, so that its acknowledgement can be looked at."""
        future = super().send_changelog(*args, **options)
        self.sent.append(future)
        return future


class FaustRows:
    """A RowStore on a MarkedTable. `write` must be called inside the agent's loop for that partition."""

    def __init__(self, table: MarkedTable, *, timeout_s: float = 20.0) -> None:
        self._table = table
        self._timeout_s = timeout_s

    def get(self, key: bytes) -> bytes | None:
        """Return the stored row."""
        value = self._table.get(key)
        return value if isinstance(value, bytes) else None

    def items(self, partition: int) -> list[tuple[bytes, bytes]]:
        """Return all rows of a partition."""
        prefix = f"{partition}|".encode()
        return [(key, value) for key, value in self._table.items() if key.startswith(prefix)]

    async def write(self, partition: int, rows: Mapping[bytes, bytes]) -> None:
        """Store rows and look at each acknowledgement. Raises RowNotStored."""
        self._table.sent.clear()
        for key, value in rows.items():
            self._table[key] = value
        sent, self._table.sent = self._table.sent, []
        try:
            async with asyncio.timeout(self._timeout_s):
                for future in sent:
                    await future
        except Exception as error:
            raise RowNotStored(f"partition {partition}: a row write failed: {error!r}") from error
