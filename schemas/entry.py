"""A journal entry: what a stage saw and what it decided, as one Kafka record (design section 2)."""

from datetime import datetime
from typing import Any

import msgspec

from schemas.envelope import Cause, Origin, Unreadable, json_object


class Seen(msgspec.Struct, frozen=True, omit_defaults=True):
    """The input fact as the stage read it; with it the journal alone explains every decision."""

    type: str
    v: int
    data: dict[str, Any]
    id: str = ""
    origin: Origin | None = None


class Decided(msgspec.Struct, frozen=True):
    """One decided fact."""

    type: str
    v: int
    data: dict[str, Any]


class Entry(msgspec.Struct, frozen=True):
    """One append. It counts only if `seq` is the last counted + 1 and `prev` is that entry's id.

    `cause` is None when the input is no Kafka record: a hand's claim or outcome, or a resume.
    """

    id: str
    by: str
    seq: int
    prev: str
    at: datetime
    cause: Cause | None
    seen: Seen
    decided: tuple[Decided, ...]


def entry_from_wire(raw: bytes | None) -> Entry:
    """Return the entry in `raw`. Raises Unreadable."""
    try:
        return msgspec.convert(json_object(raw), Entry)
    except msgspec.ValidationError as error:
        raise Unreadable(f"not a journal entry: {error}") from error
