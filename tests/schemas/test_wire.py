"""The envelope and the entry on the wire: they come back equal, and garbage is Unreadable, never another error."""

import contextlib
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import registry
from schemas.entry import Decided, Entry, JournalBroken, Seen, counts, entry_from_wire, journal_entry
from schemas.envelope import Cause, Envelope, Origin, Unreadable, from_wire, to_wire
from tests.schemas.samples import ENTRIES, ENVELOPES

WORDS = st.text(st.characters(codec="utf-8"), max_size=20)
NUMBERS = st.integers(-(2**53), 2**53)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(WORDS, JSON, max_size=5)
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=ZONES)
CAUSES = st.none() | st.builds(Cause, WORDS, WORDS, NUMBERS, NUMBERS)
ORIGINS = st.none() | st.builds(Origin, WORDS, NUMBERS, NUMBERS, NUMBERS)
FACTS = st.builds(Decided, WORDS, NUMBERS, OBJECTS)


@given(st.builds(Envelope, WORDS, WORDS, NUMBERS, TIMES, WORDS, WORDS, OBJECTS, CAUSES, ORIGINS))
def test_an_envelope_comes_back_equal(envelope: Envelope) -> None:
    assert from_wire(to_wire(envelope)) == envelope


@given(
    st.builds(
        Entry,
        WORDS,
        WORDS,
        NUMBERS,
        WORDS,
        TIMES,
        CAUSES,
        st.builds(Seen, WORDS, NUMBERS, OBJECTS, WORDS, ORIGINS),
        st.lists(FACTS, max_size=3).map(tuple),
    )
)
def test_an_entry_comes_back_equal(entry: Entry) -> None:
    assert entry_from_wire(to_wire(entry)) == entry


def test_a_time_goes_out_with_its_offset_and_utc_as_z() -> None:
    east = datetime(2026, 3, 2, 9, 0, tzinfo=timezone(timedelta(hours=1)))
    for at, text in ((east, "2026-03-02T09:00:00+01:00"), (east.astimezone(UTC), "2026-03-02T08:00:00Z")):
        raw = to_wire(Envelope("i", "ticked", 1, at, "k", "b", {}))
        assert orjson.loads(raw)["at"] == text
        assert from_wire(raw).at == east


@given(st.binary(max_size=60) | JSON.map(orjson.dumps))
def test_garbage_is_unreadable(raw: bytes) -> None:
    for read in (from_wire, entry_from_wire):
        with pytest.raises(Unreadable):
            read(raw)


@pytest.mark.parametrize("raw", [None, b"", b"null", b"[]", b'"text"', b"{", b"\xff\xfe", b'{"a": NaN}', b"[" * 5000])
def test_what_is_no_object_is_unreadable(raw: bytes | None) -> None:
    with pytest.raises(Unreadable):
        from_wire(raw)
    with pytest.raises(Unreadable):
        entry_from_wire(raw)


@given(st.data())
def test_one_wrong_field_makes_a_record_unreadable_or_harmless(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(ENVELOPES + ENTRIES))
    value = orjson.loads(path.read_bytes())
    value[data.draw(st.sampled_from(sorted(value)))] = data.draw(JSON)
    read = from_wire if path in ENVELOPES else entry_from_wire
    with contextlib.suppress(Unreadable):
        read(orjson.dumps(value))


@given(st.sampled_from(sorted(registry.CLASS_OF)), OBJECTS)
def test_any_data_is_a_fact_or_unreadable(name: str, data: dict[str, Any]) -> None:
    with contextlib.suppress(Unreadable):
        assert isinstance(registry.fact_of(name, 1, data), registry.CLASS_OF[name])


@pytest.mark.parametrize(("name", "version"), [("mailbox.painted", 1), ("SendRequested", 1), ("", 1)])
def test_an_unknown_type_is_unreadable(name: str, version: int) -> None:
    with pytest.raises(Unreadable, match="unknown type"):
        registry.fact_of(name, version, {})


@pytest.mark.parametrize("version", [0, -1, 2, 99])
def test_an_unknown_version_is_unreadable_and_names_the_newest(version: int) -> None:
    with pytest.raises(Unreadable, match=f"version {version} is not known here .newest: 1."):
        registry.fact_of("ticked", version, {})


def _entry(seq: int, prev: str) -> Entry:
    return Entry("e", "b", seq, prev, datetime(2026, 1, 1, tzinfo=UTC), None, Seen("ticked", 1, {}), ())


def test_the_next_seq_counts_and_an_old_one_is_void() -> None:
    assert counts(_entry(4, "c"), 3, "c", "j/0")
    assert not counts(_entry(3, "x"), 3, "c", "j/0")
    assert not counts(_entry(1, ""), 3, "c", "j/0")


def test_a_hole_and_a_fork_are_told_apart_and_say_what_to_do() -> None:
    with pytest.raises(JournalBroken, match=r"j/0: entry 5 follows 3: a hole\. Restore"):
        counts(_entry(5, "c"), 3, "c", "j/0")
    with pytest.raises(JournalBroken, match="builds on x, not on c: a fork"):
        counts(_entry(4, "x"), 3, "c", "j/0")
    with pytest.raises(JournalBroken, match="builds on nothing, not on c"):
        counts(_entry(4, ""), 3, "c", "j/0")


def test_what_is_no_entry_breaks_a_journal() -> None:
    with pytest.raises(JournalBroken, match=r"j/0 offset 7: no entry \(not JSON.*something else writes"):
        journal_entry(b"hello", "j/0 offset 7")
