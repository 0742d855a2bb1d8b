"""The archiver on the real broker: nothing lost or doubled, whatever happens to it; and what is wrong is found."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.folder import FolderStore
from adapters.objects import StoreFailed
from ops.archive.archiver import Archiver, prune
from ops.archive.segments import Kept, encode
from ops.archive.shelf import Shelf
from ops.embedded import EmbeddedKafka
from schemas.entry import JournalBroken
from schemas.metrics import ARCHIVE_LOST
from streams.log.kafka import Reader
from streams.log.topics import delete, delete_records
from tests.archive.fleet_topics import KEY, Ground, ground, journal_entries


@pytest.fixture
def place(kafka: EmbeddedKafka, tmp_path: Path) -> Ground:
    """Topics of this test's own."""
    made = ground(kafka.bootstrap, tmp_path / "archive")
    made.make()
    return made


def _names(place: Ground) -> tuple[str, str, str]:
    journal, inputs, requests = place.topics
    return journal, inputs, requests


async def test_the_archive_holds_every_record_as_kafka_has_it(place: Ground) -> None:
    _, inputs, requests = _names(place)
    async with place.producer() as producer:
        for n in range(10):
            at = 1_700_000_000_000 + n
            await producer.send_and_wait(inputs, b"%d" % n, key=None, partition=0, timestamp_ms=at)
        await producer.send_and_wait(inputs, None, key=b"\xff\x00", partition=1, headers=[("h", b"\xfe")])
        await producer.send_and_wait(requests, b"anna@firm.test", partition=0)
    assert await place.archiver().run_to_ends() == 12
    assert place.held(inputs, 0) == [Kept(n, 1_700_000_000_000 + n, None, b"%d" % n) for n in range(10)]
    (odd,) = place.held(inputs, 1)
    assert (odd.key, odd.value, odd.headers) == (b"\xff\x00", None, (("h", b"\xfe"),))
    assert place.held(requests, 0)[0].value == b"anna@firm.test"
    assert not [p for p in place.folder.rglob("*") if p.is_file() and b"anna" in p.read_bytes()]
    assert await place.problems() == ""


async def test_a_second_run_writes_only_what_is_new(place: Ground) -> None:
    journal, _, _ = _names(place)
    await place.append(journal, 0, *journal_entries(1, 8))
    assert await place.archiver().run_to_ends() == 7
    before = {p: p.stat().st_mtime_ns for p in place.folder.rglob("*")}
    assert await place.archiver().run_to_ends() == 0
    assert {p: p.stat().st_mtime_ns for p in place.folder.rglob("*")} == before
    await place.append(journal, 0, *journal_entries(8, 10))
    assert await place.archiver().run_to_ends() == 2
    assert [r.offset for r in place.held(journal, 0)] == list(range(9))


async def test_two_archivers_at_once_do_no_harm(place: Ground) -> None:
    journal, inputs, _ = _names(place)
    await place.append(journal, 0, *journal_entries(1, 30))
    await place.append(inputs, 1, *(b"%d" % n for n in range(30)))
    await asyncio.gather(place.archiver(most_records=3).run_to_ends(), place.archiver(most_records=4).run_to_ends())
    await place.append(journal, 0, *journal_entries(30, 40))
    await place.archiver().run_to_ends()
    assert [r.offset for r in place.held(journal, 0)] == list(range(39))
    assert [r.value for r in place.held(inputs, 1)] == [b"%d" % n for n in range(30)]
    assert await place.problems() == ""


class _Refusing(FolderStore):
    """A folder that is full after some writes."""

    left = 5

    def put_new(self, name: str, body: bytes) -> bool:
        self.left -= 1
        if self.left < 0:
            raise StoreFailed("No space left on device")
        return super().put_new(name, body)


async def test_a_store_that_fails_in_the_middle_costs_nothing(place: Ground) -> None:
    journal, inputs, _ = _names(place)
    await place.append(journal, 0, *journal_entries(1, 20))
    await place.append(inputs, 0, *(b"%d" % n for n in range(20)))
    store = _Refusing(place.folder)
    for _ in range(2):
        store.left = 5
        with pytest.raises(StoreFailed):
            await place.archiver(Shelf(store, KEY)).run_to_ends()
    await place.archiver().run_to_ends()
    assert [r.offset for r in place.held(journal, 0)] == list(range(19))
    assert [r.offset for r in place.held(inputs, 0)] == list(range(20))
    assert await place.problems() == ""


async def test_manifests_chain_the_hashes_and_are_written_once(place: Ground) -> None:
    journal, _, _ = _names(place)
    await place.append(journal, 0, *journal_entries(1, 141))
    await place.archiver(most_records=1).run_to_ends()
    shelf = place.shelf()
    (kept,) = shelf.partitions_of(shelf.lineage(journal)[0]).values()
    assert [(first, last) for first, last, _ in kept.manifests] == [(0, 63), (64, 127)]
    (first, digest), (second, _) = (shelf.manifest(name) for _, _, name in kept.manifests)
    assert (first.previous, second.previous) == ("", digest)
    assert await place.problems() == ""
    place.folder.joinpath(kept.manifests[0][2]).unlink()
    await place.archiver(most_records=1).run_to_ends()
    assert "does not follow the manifest before it" in await place.problems()


async def test_verify_finds_what_is_missing_changed_or_moved(place: Ground) -> None:
    journal, _, _ = _names(place)
    await place.append(journal, 0, *journal_entries(1, 10))
    await place.archiver().run_to_ends()
    first, middle, last = sorted(place.folder.rglob("*.gz"))
    kept = middle.read_bytes()
    middle.unlink()
    assert f"{journal}/0: offsets 3..5 are missing in the archive" in await place.problems()
    middle.write_bytes(first.read_bytes())
    assert "it was moved" in await place.problems()
    middle.write_bytes(kept[:-9] + bytes([kept[-9] ^ 1]) + kept[-8:])
    assert "cannot be read" in await place.problems()
    middle.write_bytes(kept)
    first.unlink()
    assert "its first segment was at 0" in await place.problems()
    assert last.exists()


async def test_verify_finds_records_that_are_not_those_it_was_written_with(place: Ground) -> None:
    journal, _, _ = _names(place)
    await place.append(journal, 0, *journal_entries(1, 7))
    await place.archiver().run_to_ends()
    shelf = place.shelf()
    (kept,) = shelf.partitions_of(shelf.lineage(journal)[0]).values()
    name = sorted(kept.segments, key=lambda s: s.first)[0]
    header, lines, _ = shelf.read(name)
    forged = [lines[0].replace(b'"s1', b'"sX'), *lines[1:]]
    (place.folder / str(name)).write_bytes(encode(header, forged, None, str(name)))
    assert "its records are not those it was written with" in await place.problems()


async def test_verify_finds_a_hole_between_the_archive_and_kafka(place: Ground) -> None:
    journal, inputs, _ = _names(place)
    await place.append(journal, 0, *journal_entries(1, 7))
    await place.append(inputs, 0, *(b"%d" % n for n in range(6)))
    await place.archiver().run_to_ends()
    await place.append(inputs, 0, *(b"%d" % n for n in range(6, 20)))
    delete_records(place.connection, {(inputs, 0): 12})
    assert f"{inputs}/0: offsets 6..11 are neither in Kafka nor archived" in await place.problems()
    await place.archiver().run_to_ends()
    assert f"{inputs}/0: 6 records before 14 were deleted by Kafka before they were archived" in await place.problems()
    assert [r.offset for r in place.held(inputs, 0)] == [*range(6), *range(12, 20)]
    await place.append(journal, 0, *journal_entries(7, 20))
    delete_records(place.connection, {(journal, 0): 9})
    with pytest.raises(JournalBroken, match="entries are in neither"):
        await place.archiver().run_to_ends()


async def test_a_topic_that_was_made_again_is_another_generation(place: Ground) -> None:
    _, inputs, _ = _names(place)
    await place.append(inputs, 0, b"old")
    await place.archiver().run_to_ends()
    await asyncio.to_thread(delete, place.connection, list(place.topics))
    place.make()
    assert "was made again in Kafka" in await place.problems()
    await place.append(inputs, 0, b"new")
    await place.archiver().run_to_ends()
    assert [r.value for r in place.held(inputs, 0)] == [b"new"]
    assert [g.number for g in place.shelf().generations(inputs)] == [1, 2]
    assert await place.problems() == ""


async def test_what_is_private_is_deleted_after_its_time_and_nothing_else(place: Ground) -> None:
    journal, _, requests = _names(place)
    await place.append(journal, 0, *journal_entries(1, 4))
    await place.append(requests, 0, *(b"%d" % n for n in range(6)))
    await place.archiver().run_to_ends()
    shelf, now = place.shelf(), datetime.now(UTC)
    assert prune(shelf, place.topics, now + timedelta(days=13, hours=23)) == set()
    assert len(prune(shelf, place.topics, now + timedelta(days=14, hours=1))) == 2
    assert place.held(requests, 0) == []
    assert len(place.held(journal, 0)) == 3
    assert await place.problems() == ""
    await place.append(requests, 0, b"6")
    await place.archiver().run_to_ends()
    assert len([r.value for r in place.held(requests, 0)]) == 7, "Kafka still had them"


async def _backlog(place: Ground, *days_ago: float) -> datetime:
    """Publish a request for each of these days and archive them all now; return now."""
    now = datetime.now(UTC)
    async with place.producer() as producer:
        for ago in days_ago:
            at = int((now - timedelta(days=ago)).timestamp() * 1000)
            await producer.send_and_wait(_names(place)[2], b"%.2f" % ago, partition=0, timestamp_ms=at)
    await place.archiver(most_records=1000).run_to_ends()
    return now


async def test_what_is_private_is_deleted_by_its_own_age_however_late_it_was_archived(place: Ground) -> None:
    _, _, requests = _names(place)
    now = await _backlog(place, 6, 5.99, 3, 0)
    assert prune(place.shelf(), place.topics, now + timedelta(days=7, hours=23)) == set()
    assert len(prune(place.shelf(), place.topics, now + timedelta(days=8, hours=1))) == 1
    assert [r.value for r in place.held(requests, 0)] == [b"3.00", b"0.00"], "written as long ago as those before"
    assert await place.problems() == ""
    assert len(prune(place.shelf(), place.topics, now + timedelta(days=11, hours=1))) == 1
    assert [r.value for r in place.held(requests, 0)] == [b"0.00"]


async def test_what_is_sealed_with_another_key_is_deleted_when_it_is_as_old_itself(
    place: Ground,
) -> None:
    _, _, requests = _names(place)
    now = await _backlog(place, 6, 0)
    other = Shelf(FolderStore(place.folder), bytes(32))
    assert prune(other, place.topics, now + timedelta(days=8, hours=1)) == set()
    assert len(place.held(requests, 0)) == 2
    assert len(prune(other, place.topics, now + timedelta(days=15))) == 2


async def test_an_archiver_does_not_look_for_what_it_has_deleted_itself(place: Ground) -> None:
    """The first of the segments that its next manifest would name is gone by then."""
    old = int((datetime.now(UTC) - timedelta(days=15)).timestamp() * 1000)
    async with place.producer() as producer:
        for n in range(70):
            await producer.send_and_wait(_names(place)[2], b"%d" % n, partition=0, timestamp_ms=old)
    assert await place.archiver(most_records=1).run_to_ends() == 70
    assert await place.problems() == ""


async def test_requests_that_are_past_their_time_in_kafka_and_here_are_not_said_to_be_lost(place: Ground) -> None:
    _, _, requests = _names(place)
    lost = ARCHIVE_LOST.labels(requests)._value
    await place.append(requests, 0, *(b"%d" % n for n in range(6)))
    await place.archiver().run_to_ends()
    assert len(prune(place.shelf(), place.topics, datetime.now(UTC) + timedelta(days=15))) == 2
    delete_records(place.connection, {(requests, 0): 6})
    assert await place.problems() == ""
    await place.append(requests, 0, b"6")
    await place.archiver().run_to_ends()
    assert [r.value for r in place.held(requests, 0)] == [b"6"]
    assert lost.get() == 0
    assert await place.problems() == ""


async def test_a_running_archiver_writes_when_its_patience_ends_and_once_more_at_its_end(place: Ground) -> None:
    _, inputs, _ = _names(place)
    archiver: Archiver = place.archiver(most_records=1000)
    running = asyncio.create_task(archiver.run(0.1))
    await place.append(inputs, 0, b"0")
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(lambda: list(place.folder.rglob("*.gz"))):  # noqa: ASYNC110 - a folder
            await asyncio.sleep(0.05)
    archiver.stop()
    await running
    assert [r.value for r in place.held(inputs, 0)] == [b"0"]
    reader = Reader(place.connection)
    assert await reader.bounds(inputs, 0) == (0, 1)
    await reader.close()
