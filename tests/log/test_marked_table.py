"""The Faust table that a late write cannot turn back, and rows stored in it."""

import asyncio
import gc
from collections.abc import Awaitable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from streams.log.kafka import Record
from streams.log.rows import RowNotStored
from streams.log.tables import FaustRows, MarkedTable
from tests.log.harness import event, marked_table

AT = datetime(2026, 3, 2, tzinfo=UTC)
CHANGELOG = "small-rows-changelog"


@pytest.fixture(params=["memory", "rocksdb"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MarkedTable]:
    """A table on each store that a role uses."""
    made = marked_table("small", tmp_path if request.param == "rocksdb" else None)
    yield made
    del made
    gc.collect()


def _row(mark: int, key: bytes = b"0|tally|k", *, partition: int = 0, topic: str = CHANGELOG, offset: int = 0) -> Any:
    return event(Record(topic, partition, offset, AT, key, b'{"m":%d,"r":{}}' % mark))


def _mark(table: MarkedTable, key: bytes = b"0|tally|k") -> bytes:
    value = table.data[key]
    assert isinstance(value, bytes)
    return value


def test_recovery_keeps_the_highest_mark_within_a_batch(table: MarkedTable) -> None:
    table.apply_changelog_batch([_row(1), _row(7), _row(3), _row(2)])
    assert _mark(table) == b'{"m":7,"r":{}}'


def test_recovery_keeps_the_highest_mark_over_batches(table: MarkedTable) -> None:
    for mark in (7, 3):
        table.apply_changelog_batch([_row(mark)])
    assert _mark(table) == b'{"m":7,"r":{}}'
    table.apply_changelog_batch([_row(8)])
    assert _mark(table) == b'{"m":8,"r":{}}'


def test_of_two_records_with_one_mark_the_later_counts(table: MarkedTable) -> None:
    later = _row(7)
    later.message.value = later.value = b'{"m":7,"r":{"offset":9}}'
    table.apply_changelog_batch([_row(7), later])
    assert _mark(table) == b'{"m":7,"r":{"offset":9}}'


def test_other_keys_of_a_batch_are_applied_beside_a_stale_one(table: MarkedTable) -> None:
    table.apply_changelog_batch([_row(7)])
    table.apply_changelog_batch([_row(3), _row(2, b"0|tally|other")])
    assert (_mark(table), _mark(table, b"0|tally|other")) == (b'{"m":7,"r":{}}', b'{"m":2,"r":{}}')


@pytest.mark.parametrize("stray", [{"partition": 1}, {"topic": "another-changelog"}])
def test_a_record_of_another_partition_or_topic_raises_and_nothing_is_applied(
    table: MarkedTable, stray: dict[str, Any]
) -> None:
    with pytest.raises(RuntimeError, match="stop the worker"):
        table.apply_changelog_batch([_row(1, b"0|tally|fine"), _row(7, **stray)])
    assert table.data.get(b"0|tally|fine") is None


class Engine:
    """Faust's door as FaustRows sees it: a dict whose writes answer later, or not."""

    def __init__(self, *answers: BaseException | None) -> None:
        self.sent: list[Awaitable[Any]] = []
        self.held: dict[bytes, bytes] = {}
        self._answers = list(answers)

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self.held[key] = value
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answer = self._answers.pop(0)
        if isinstance(answer, TimeoutError):
            pass
        elif answer is None:
            future.set_result(None)
        else:
            future.set_exception(answer)
        self.sent.append(future)


async def test_a_write_returns_when_every_row_is_acknowledged() -> None:
    engine = Engine(None, None)
    await FaustRows(engine).write(0, {b"0|tally|a": b"1", b"0|tally|b": b"2"})  # type: ignore[arg-type]
    assert engine.held == {b"0|tally|a": b"1", b"0|tally|b": b"2"}
    assert engine.sent == []


@pytest.mark.parametrize("fault", [OSError("the broker is gone"), TimeoutError()])
async def test_one_row_without_an_acknowledgement_is_a_failed_write(fault: Exception) -> None:
    rows = FaustRows(Engine(None, fault, None), timeout_s=0.1)  # type: ignore[arg-type]
    with pytest.raises(RowNotStored, match="partition 0: a row write failed"):
        await rows.write(0, {b"0|tally|a": b"1", b"0|tally|b": b"2", b"0|tally|c": b"3"})


def test_the_rows_of_a_partition_are_those_whose_key_begins_with_it() -> None:
    table = marked_table("small")
    table.apply_changelog_batch([_row(1, b"1|tally|k", partition=1)])
    table.apply_changelog_batch([_row(2, b"11|tally|k", partition=11)])
    rows = FaustRows(table)
    assert rows.items(1) == [(b"1|tally|k", b'{"m":1,"r":{}}')]
    assert rows.get(b"11|tally|k") == b'{"m":2,"r":{}}'
    assert rows.get(b"2|tally|k") is None
