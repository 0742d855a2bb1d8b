"""Kafka filled from the archive: the same records at the same offsets and times, however often it is stopped."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from adapters.dns.receivers import KnownReceivers
from ops.archive.archiver import Archiver, prune
from ops.archive.restore import NotEmpty, Step, restore
from ops.archive.segments import SegmentName
from ops.archive.shelf import Partition
from ops.archive.store import archived_topics, open_shelf
from ops.embedded import EmbeddedKafka
from ops.replay import replay
from ops.site import Site
from schemas import registry
from schemas.entry import Entry, Seen, entry_from_wire
from schemas.envelope import Cause, Origin, to_wire
from schemas.sending import JournalContinued
from schemas.topics import DELIVERY_INPUTS, DELIVERY_JOURNAL, FILLER, SEND_REQUESTS
from streams.agents.intake import Intake
from streams.log.kafka import Reader, Record
from streams.log.topics import TopicsWrong, check, create, delete, delete_records
from streams.roles import all_topics
from tests.projections.facts import admitted

NOW = datetime.now(UTC)


@pytest.fixture
def site(kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path) -> Iterator[Site]:
    """Topics and an archive in a folder; no process, no Postgres."""
    made = Site(tmp_path, kafka.bootstrap, "", topic_prefix)
    made.prepare()
    made.keep_secret("archive.key", "5a" * 32)
    made.environment["ARCHIVE_URL"] = f"file://{tmp_path}/archive"
    yield made
    made.close()


async def _archive(site: Site) -> None:
    topics = archived_topics(site.settings)
    ids = check(site.settings.connection, topics)
    await Archiver(site.settings.connection.options(), topics, ids, open_shelf(site.settings)).run_to_ends()


def _entries(site: Site) -> list[Entry]:
    """Two entries that count and between them one that does not; the second decided the input at offset 5."""
    cause = Cause(site.settings.topic(DELIVERY_INPUTS), "", 0, 5)
    seen = Seen("ticked", 1, {})

    def entry(name: str, seq: int, prev: str, cause: Cause | None = None) -> Entry:
        return Entry(name, "w", seq, prev, NOW, cause, seen, (registry.decided(admitted(name)),))

    return [entry("e1", 1, ""), entry("late", 1, ""), entry("e2", 2, "e1", cause)]


async def _history(site: Site) -> dict[str, list[Record]]:
    """A journal, inputs of which some are decided, requests with a transaction's marker between and a start past 0."""
    names = {topic.name: site.settings.topic(topic) for topic in (DELIVERY_JOURNAL, DELIVERY_INPUTS, SEND_REQUESTS)}
    plain = AIOKafkaProducer(bootstrap_servers=site.settings.connection.bootstrap)
    unit = AIOKafkaProducer(
        bootstrap_servers=site.settings.connection.bootstrap, transactional_id=f"{site.settings.prefix}upstream"
    )
    await plain.start()
    await unit.start()
    for entry in _entries(site):
        await plain.send_and_wait(names["delivery-journal"], to_wire(entry), key=b"0", partition=0)
    for n in range(9):
        await plain.send_and_wait(names["delivery-inputs"], b"input %d" % n, partition=0)
    for n in range(3):
        async with unit.transaction():
            await unit.send_and_wait(names["send-requests"], b"request %d" % n, partition=0)
    await plain.send_and_wait(names["send-requests"], b"request 3", partition=0)
    await plain.stop()
    await unit.stop()
    delete_records(site.settings.connection, {(names["send-requests"], 0): 2})
    return {name: await _records(site, topic) for name, topic in names.items()}


async def _records(site: Site, topic: str) -> list[Record]:
    reader = Reader(site.settings.connection)
    start, end = await reader.bounds(topic, 0)
    found = [r async for chunk in reader.read(topic, 0, start, end) for r in chunk]
    await reader.close()
    return found


async def test_records_come_back_at_their_offsets_and_times_and_what_was_decided_does_not(site: Site) -> None:
    before = await _history(site)
    await _archive(site)
    names = {name: site.settings.topic(t) for name, t in (("j", DELIVERY_JOURNAL), ("i", DELIVERY_INPUTS))}
    old = check(site.settings.connection, {names["j"]: DELIVERY_JOURNAL})[names["j"]]
    await asyncio.to_thread(delete, site.settings.connection, all_topics(site.settings))

    for stopped_at in (1, 8):
        with pytest.raises(RuntimeError, match="stopped"):
            await restore(site.settings, open_shelf(site.settings), cut=False, step=_stopping(site, stopped_at))
    done = await restore(site.settings, open_shelf(site.settings), cut=False)
    assert done.rows > 0

    *journal, opening = await _records(site, names["j"])
    assert journal == before["delivery-journal"], "void entries too"
    entry = entry_from_wire(opening.value)
    fact = registry.fact_in(entry.decided[0])
    assert (entry.seq, entry.prev) == (3, "e2")
    assert isinstance(fact, JournalContinued)
    assert fact.continues[names["j"]] == old
    assert (fact.causes, fact.perhaps_sent_before) == ({names["i"]: 5}, None)
    assert await _records(site, names["i"]) == before["delivery-inputs"][6:], "what waits to be decided, that alone"
    requests = await _records(site, site.settings.topic(SEND_REQUESTS))
    assert [r for r in requests if r.key != FILLER] == before["send-requests"]
    held = [r.offset for r in before["send-requests"]]
    gaps = sorted(set(range(held[0], held[-1])) - set(held))
    assert gaps
    assert [r.offset for r in requests if r.key == FILLER] == gaps, "where a transaction's marker stood"

    with pytest.raises(NotEmpty, match="has a fleet already"):
        await restore(site.settings, open_shelf(site.settings), cut=False)
    await asyncio.to_thread(delete, site.settings.connection, [names["i"]])
    create(site.settings.connection, {names["i"]: all_topics(site.settings)[names["i"]]})
    with pytest.raises(TopicsWrong, match="was deleted and made again"):
        await replay(site.settings, "delivery")


@pytest.mark.parametrize("pruned", [False, True])
async def test_no_new_request_gets_an_offset_that_was_decided_already(site: Site, pruned: bool) -> None:
    """Bodies are deleted after their time, or were archived later than the journal that decided on them."""
    await _history(site)
    name, inputs = site.settings.topic(SEND_REQUESTS), site.settings.topic(DELIVERY_INPUTS)
    read = registry.enveloped(admitted("s"), id="i", at=NOW, key="r", by="intake", origin=_request(11))
    seen = Seen("send.requested", 1, {}, "s", _request(9))
    entry = Entry("e3", "w", 3, "e2", NOW, Cause(inputs, "", 0, 6), seen, ())
    producer = AIOKafkaProducer(bootstrap_servers=site.settings.connection.bootstrap)
    await producer.start()
    await producer.send_and_wait(site.settings.topic(DELIVERY_JOURNAL), to_wire(entry), key=b"0", partition=0)
    await producer.send_and_wait(inputs, to_wire(read), partition=1)
    await producer.stop()
    await _archive(site)
    if pruned:
        assert prune(open_shelf(site.settings), archived_topics(site.settings), NOW + timedelta(days=15))
    await asyncio.to_thread(delete, site.settings.connection, all_topics(site.settings))
    await restore(site.settings, open_shelf(site.settings), cut=True)
    reader = Reader(site.settings.connection)
    start, end = await reader.bounds(name, 0)
    await reader.close()
    assert (start, end) == (12 if pruned else 2, 12)
    generation = open_shelf(site.settings).lineage(name)[-1]
    assert generation.starts[0] == 12, "the archive goes on there"


def _request(offset: int) -> Origin:
    return Origin(SEND_REQUESTS.name, 0, offset, 0)


def _stopping(site: Site, partition: int) -> Step:
    """Return a step that stops a restore after that partition of send-requests."""

    def step(what: str, done: int, _total: int) -> None:
        if (what, done) == (site.settings.topic(SEND_REQUESTS), partition):
            raise RuntimeError("stopped")

    return step


async def test_a_kafka_with_something_else_in_it_is_left_as_it_is(site: Site) -> None:
    await _history(site)
    await _archive(site)
    await asyncio.to_thread(delete, site.settings.connection, all_topics(site.settings))
    name = site.settings.topic(DELIVERY_JOURNAL)
    create(site.settings.connection, {name: (DELIVERY_JOURNAL.partitions, {})})
    producer = AIOKafkaProducer(bootstrap_servers=site.settings.connection.bootstrap)
    await producer.start()
    await producer.send_and_wait(name, b"of another fleet", partition=0)
    await producer.stop()
    with pytest.raises(NotEmpty, match="holds something else at offset 0"):
        await restore(site.settings, open_shelf(site.settings), cut=False)


async def test_intake_passes_by_what_a_restore_wrote_where_nothing_stood(site: Site) -> None:
    intake = Intake(site.settings, "id", KnownReceivers())
    commits: list[object] = []

    async def commit(offsets: object) -> None:
        commits.append(offsets)

    place = TopicPartition(site.settings.topic(SEND_REQUESTS), 0)
    at = int((NOW - timedelta(days=1)).timestamp() * 1000)
    filler = SimpleNamespace(topic=place.topic, partition=0, offset=3, timestamp=at, key=FILLER, value=None)
    letters = site.settings.topic(SEND_REQUESTS).replace("send-requests", "dead-letters")
    await intake._pass_on(SimpleNamespace(commit=commit), place, [filler])
    assert commits == [{place: 4}]
    assert await _records(site, letters) == []
    broken = SimpleNamespace(**{**vars(filler), "key": None})
    await intake._pass_on(SimpleNamespace(commit=commit), place, [broken])
    assert len(await _records(site, letters)) == 1, "an empty record of anybody else is a dead letter"
    await intake._writer.close()


def test_what_two_archivers_cut_differently_is_one_path() -> None:
    def kept(*bounds: tuple[int, int]) -> Partition:
        return Partition({SegmentName("t", "i", 0, first, last): 1 for first, last in bounds})

    def path(part: Partition) -> list[tuple[int, int]]:
        return [(s.first, s.last) for s in part.path(0)]

    assert path(kept((0, 2), (0, 3), (3, 5), (4, 4), (6, 8))) == [(0, 3), (3, 5), (6, 8)]
    assert path(kept((0, 2), (1, 1), (3, 9), (2, 4))) == [(0, 2), (3, 9)]
    assert path(kept((0, 2), (4, 9))) == [(0, 2)]
    begun = time.monotonic()
    assert len(path(kept(*((n, n) for n in range(20_000))))) == 20_000
    assert time.monotonic() - begun < 5
