"""Fetches the bodies of sends from send-requests, by position; what came along is kept for the sends next to it."""

import asyncio
from collections import OrderedDict, defaultdict
from contextlib import aclosing

from streams.log.kafka import Reader, Record

KEPT_BYTES = 32_000_000


class Bodies:
    """Reads records of one topic by position, through a bounded memory of those read last."""

    def __init__(self, reader: Reader, topic: str, kept_bytes: int = KEPT_BYTES) -> None:
        self._reader = reader
        self._topic = topic
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[tuple[int, int], Record] = OrderedDict()
        self._size = 0
        self._reading: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def one(self, partition: int, offset: int) -> Record | None:
        """Return the record, or None when it is gone. Raises LogUnreachable."""
        async with self._reading[partition]:
            if (partition, offset) not in self._kept:
                await self._read(partition, offset)
            return self._kept.get((partition, offset))

    async def _read(self, partition: int, offset: int) -> None:
        first, end = await self._reader.bounds(self._topic, partition)
        if not first <= offset < end:
            return
        async with aclosing(self._reader.read(self._topic, partition, offset, end)) as chunks:
            async for chunk in chunks:
                for record in reversed(chunk):  # the one that is asked for is kept last
                    self._keep(record)
                if chunk:
                    return

    def _keep(self, record: Record) -> None:
        place = record.partition, record.offset
        if place in self._kept:
            return
        self._kept[place] = record
        self._size += len(record.value or b"")
        while self._size > self._kept_bytes and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._size -= len(dropped.value or b"")

    async def close(self) -> None:
        """Stop reading."""
        await self._reader.close()
