"""The envelope: the wire shape of every record that is not a journal entry (design section 6)."""

from datetime import datetime
from typing import Any

import msgspec
import orjson


class Unreadable(ValueError):
    """A record that no reader can understand; it goes to dead-letters with this text as its reason."""


class Cause(msgspec.Struct, frozen=True):
    """Where an input stood: `offset` counts within one generation (`topic_id`) of the topic."""

    topic: str
    topic_id: str
    partition: int
    offset: int


class Origin(msgspec.Struct, frozen=True):
    """Who said a fact first: the n-th fact of entry `seq`, or for requests `seq` = Kafka offset, n = 0.

    A receiver keeps the last (seq, n) per (log, partition) and ignores what is not newer.
    """

    log: str
    partition: int
    seq: int
    n: int

    @property
    def source(self) -> str:
        """The key under which a receiver keeps its mark."""
        return f"{self.log}/{self.partition}"


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True):
    """One fact on the wire. `data` is the fact's own shape under (`type`, `v`); see registry.py."""

    id: str
    type: str
    v: int
    at: datetime
    key: str
    by: str
    data: dict[str, Any]
    cause: Cause | None = None
    origin: Origin | None = None


def to_wire(value: msgspec.Struct) -> bytes:
    """Return JSON bytes: ids as text, times as RFC 3339; UTC goes out as Z, another offset stays."""
    return orjson.dumps(msgspec.to_builtins(value, builtin_types=(datetime,)), option=orjson.OPT_UTC_Z)


def json_object(raw: bytes | None) -> dict[str, Any]:
    """Return the JSON object in `raw`. Raises Unreadable for anything else."""
    if raw is None:
        raise Unreadable("empty record")
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Unreadable(f"not JSON: {error.msg} at byte {error.pos}") from error
    if not isinstance(value, dict):
        raise Unreadable(f"a JSON {type(value).__name__}, not an object")
    return value


def from_wire(raw: bytes | None) -> Envelope:
    """Return the envelope in `raw`. Raises Unreadable."""
    try:
        return msgspec.convert(json_object(raw), Envelope)
    except msgspec.ValidationError as error:
        raise Unreadable(f"not an envelope: {error}") from error
