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


class JournalBroken(Exception):
    """A journal cannot be read on: a hole, a fork, or something that is no entry. The text says what to do."""


def counts(entry: Entry, last_seq: int, last_id: str, where: str) -> bool:
    """The journal rule (design section 2): the next seq counts, an old one is void.

    Raises JournalBroken at a hole (a seq is missing) or a fork (the next seq builds on another entry).
    """
    if entry.seq <= last_seq:
        return False
    if entry.seq > last_seq + 1:
        raise JournalBroken(
            f"{where}: entry {entry.seq} follows {last_seq}: a hole. Restore the missing entries from the archive."
        )
    if entry.prev != last_id:
        raise JournalBroken(
            f"{where}: entry {entry.seq} builds on {entry.prev or 'nothing'}, not on {last_id or 'nothing'}: a "
            "fork. Two clusters or a restored copy write to one journal; keep only one."
        )
    return True


def journal_entry(raw: bytes | None, where: str) -> Entry:
    """Return the entry in a journal record. Raises JournalBroken: a journal has one writer and one shape."""
    try:
        return entry_from_wire(raw)
    except Unreadable as error:
        raise JournalBroken(
            f"{where}: no entry ({error}): something else writes to the journal. Stop it; restore the journal "
            "from the archive."
        ) from error


def entry_from_wire(raw: bytes | None) -> Entry:
    """Return the entry in `raw`. Raises Unreadable."""
    try:
        return msgspec.convert(json_object(raw), Entry)
    except msgspec.ValidationError as error:
        raise Unreadable(f"not a journal entry: {error}") from error
