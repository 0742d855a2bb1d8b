"""Rows and their marks, apart from any engine.

A stored row is `{"m": mark, "r": row}`; the mark is the seq of the last entry folded into it. Row keys
are `partition|kind|id`, because Faust's memory store keeps all partitions in one dict.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import msgspec
import orjson

from schemas.envelope import to_wire

RowKey = tuple[str, str]
"""(kind, id) within one partition."""
POSITION: RowKey = ("position", "")
MAX_ROW_BYTES = 100_000


class RowTooLarge(Exception):
    """A row grew past 100 kB; the stage's rows must be cut smaller."""


class RowNotStored(Exception):
    """A changelog write was not acknowledged; no position may be written over it."""


def key_text(partition: int, key: RowKey) -> bytes:
    """Return the key under which a row is stored."""
    return f"{partition}|{key[0]}|{key[1]}".encode()


def key_parts(raw: bytes) -> tuple[int, RowKey]:
    """Return (partition, (kind, id)) of a stored key."""
    partition, kind, id_ = raw.decode().split("|", 2)
    return int(partition), (kind, id_)


def mark_of(stored: bytes) -> int:
    """Return the mark of a stored row."""
    return int(orjson.loads(stored)["m"])


def encode_row(mark: int, row: msgspec.Struct) -> bytes:
    """Return the stored form. Raises RowTooLarge."""
    raw = b'{"m":%d,"r":%b}' % (mark, to_wire(row))
    if len(raw) > MAX_ROW_BYTES:
        raise RowTooLarge(f"a {type(row).__name__} row has {len(raw)} bytes")
    return raw


class RowStore(Protocol):
    """Where rows stand between entries: a Faust table, or a dict in tests of the mind."""

    def get(self, key: bytes) -> bytes | None:
        """Return the stored row."""

    def items(self, partition: int) -> Iterable[tuple[bytes, bytes]]:
        """Return all rows of a partition."""

    async def write(self, partition: int, rows: Mapping[bytes, bytes]) -> None:
        """Store rows; return after each acknowledgement was looked at. Raises RowNotStored."""


class Rows:
    """One partition's rows: what was folded but not yet stored lies over the store."""

    def __init__(self, store: RowStore, partition: int, types: Mapping[str, type[msgspec.Struct]]) -> None:
        self._store = store
        self._partition = partition
        self._types = types
        self._unstored: dict[RowKey, tuple[int, msgspec.Struct]] = {}

    def held(self, key: RowKey) -> tuple[int, msgspec.Struct | None]:
        """Return (mark, row); (0, None) when there is none."""
        if key in self._unstored:
            return self._unstored[key]
        raw = self._store.get(key_text(self._partition, key))
        return (0, None) if raw is None else self._decode(key, raw)

    def get(self, key: RowKey) -> msgspec.Struct | None:
        """Return the row."""
        return self.held(key)[1]

    def put(self, key: RowKey, mark: int, row: msgspec.Struct) -> None:
        """Take a folded row; `flush` stores it later."""
        self._unstored[key] = (mark, row)

    def keep(self, key: RowKey) -> None:
        """Have the row as it is held stored again by the next `flush`."""
        mark, row = self.held(key)
        if row is not None:
            self._unstored.setdefault(key, (mark, row))

    def all(self) -> Iterator[tuple[RowKey, msgspec.Struct]]:
        """Yield every row of the partition."""
        for raw_key, raw in self._store.items(self._partition):
            _, key = key_parts(raw_key)
            if key not in self._unstored and key[0] in self._types:
                yield key, self._decode(key, raw)[1]
        for key, (_, row) in self._unstored.items():
            yield key, row

    def again(self, lower: Mapping[bytes, int]) -> None:
        """Have those rows written once more whose last changelog record has a lower mark than the row held."""
        for raw_key, mark in lower.items():
            _, key = key_parts(raw_key)
            if key[0] in self._types and self.held(key)[0] > mark:
                self.keep(key)

    async def flush(self) -> None:
        """Store all that is not stored. Must run inside the agent's loop. Raises RowNotStored."""
        if not self._unstored:
            return
        going = dict(self._unstored)
        await self._store.write(
            self._partition,
            {key_text(self._partition, key): encode_row(mark, row) for key, (mark, row) in going.items()},
        )
        for key, value in going.items():
            if self._unstored.get(key) is value:
                del self._unstored[key]

    @property
    def unstored(self) -> int:
        """How many rows wait to be stored."""
        return len(self._unstored)

    def _decode(self, key: RowKey, raw: bytes) -> tuple[int, msgspec.Struct]:
        stored = orjson.loads(raw)
        return stored["m"], msgspec.convert(stored["r"], self._types[key[0]])
