"""A segment gives back every record bit for bit, and whatever was changed in it is found."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.archive.segments import (
    ArchiveBroken,
    Header,
    Kept,
    SegmentName,
    chain_begin,
    chained,
    decode,
    encode,
    line_of,
    record_in,
    segment_name,
)

KEY = bytes(range(32))
NAME = SegmentName("t", "id", 3, 10, 11)
RECORDS = [Kept(10, 1_700_000_000_000, b"k", b'{"a":1}'), Kept(11, 1_700_000_000_001, None, None, (("h", b"\xff"),))]
LINES = [line_of(record) for record in RECORDS]


def _header(name: SegmentName, lines: list[bytes], key: bytes | None) -> Header:
    before = chain_begin("t", "id", 3)
    return Header("t", "id", 3, name.first, name.last, len(lines), 1, 2, before, chained(before, lines, key))


@given(
    st.lists(
        st.builds(
            Kept,
            st.integers(0, 2**60),
            st.integers(0, 2**50),
            st.none() | st.binary(),
            st.none() | st.binary(),
            st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.binary())).map(tuple),
        )
    ),
    st.booleans(),
)
def test_every_record_comes_back_bit_for_bit(records: list[Kept], sealed: bool) -> None:
    key = KEY if sealed else None
    name = dataclasses.replace(NAME, sealed=sealed)
    lines = [line_of(record) for record in records]
    header, found = decode(encode(_header(name, lines, key), lines, key, str(name)), key, str(name))
    assert [record_in(line) for line in found] == records
    assert header == _header(name, lines, key)


def test_a_name_says_its_place_and_offsets() -> None:
    for name in (NAME, dataclasses.replace(NAME, sealed=True)):
        assert segment_name(str(name)) == name
    assert segment_name("t/id/00003/manifest-00000000000000000010-00000000000000000011.json") is None


def test_the_same_records_have_the_same_bytes() -> None:
    header = _header(NAME, LINES, None)
    assert encode(header, LINES, None, str(NAME)) == encode(header, LINES, None, str(NAME))


def test_the_chain_depends_on_the_records_alone_not_on_where_they_are_cut() -> None:
    begin = chain_begin("t", "id", 3)
    assert chained(chained(begin, LINES[:1], None), LINES[1:], None) == chained(begin, LINES, None)
    assert chained(begin, LINES[::-1], None) != chained(begin, LINES, None)


def test_what_is_sealed_shows_nothing_and_opens_with_its_key_and_name_alone() -> None:
    name = dataclasses.replace(NAME, sealed=True)
    raw = encode(_header(name, LINES, KEY), LINES, KEY, str(name))
    assert raw[:1] != b"t"
    assert b'"a":1' not in raw
    for key, called, words in (
        (None, str(name), "ARCHIVE_KEY"),
        (bytes(32), str(name), "another key"),
        (KEY, str(name).replace("00003", "00004"), "was changed"),
    ):
        with pytest.raises(ArchiveBroken, match=words):
            decode(raw, key, called)
    with pytest.raises(ArchiveBroken, match="was changed"):
        decode(raw[:-1] + bytes([raw[-1] ^ 1]), KEY, str(name))


@pytest.mark.parametrize("cut", [0, 5, -3])
def test_a_cut_segment_is_broken(cut: int) -> None:
    raw = encode(_header(NAME, LINES, None), LINES, None, str(NAME))
    with pytest.raises(ArchiveBroken, match="cannot be read"):
        decode(raw[:cut], None, str(NAME))
