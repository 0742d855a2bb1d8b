"""The archive's round trip: a fleet at work, its archiver killed again and again; Kafka and Postgres wiped; back."""

import asyncio
import gzip
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from ops import receiver
from ops.archive.archiver import Archiver
from ops.archive.logs import ship
from ops.archive.restore import NotEmpty, Restored, restore
from ops.archive.segments import SegmentName, segment_name
from ops.archive.store import archived_topics, open_shelf
from ops.archive.verify import Checked, look
from ops.embedded import EmbeddedPostgres
from ops.site import Site
from projections.migrate import migrate
from schemas.topics import FLEET_INPUTS
from streams.log.topics import check, delete
from streams.roles import all_topics
from tests.adapters.s3_server import S3Server
from tests.faults.story import Story, fleet_text, requests

LATER = int(os.environ.get("MAILFLEET_TEST_SENDS", "100"))  # 500 by command
ASKED, UNREAD, KILLS = max(160, LATER), 20, 10


@pytest.fixture
def s3() -> Iterator[S3Server]:
    """A bucket on loopback that speaks as Backblaze B2 does."""
    with S3Server(conditional=False, page=1000).running() as server:
        yield server


def _with_archive(site: Site, s3: S3Server) -> None:
    site.keep_secret("archive.keys", ":".join(s3.keys))
    site.keep_secret("archive.key", "5a" * 32)
    site.environment |= {
        "ARCHIVE_URL": f"s3://{s3.bucket}/fleet",
        "ARCHIVE_ENDPOINT_URL": s3.url,
        "ARCHIVE_REGION": "us-east-1",
        "ARCHIVE_SEGMENT_S": "1",
        "ARCHIVE_LOGS": str(site.folder / "written"),
        "LOG_FOLDER": str(site.folder / "written"),
        "LOG_LEVEL": "INFO",
    }
    site.stack._environment.update(site.environment)


async def _archive_now(site: Site) -> int:
    topics = archived_topics(site.settings)
    ids = check(site.settings.connection, topics)
    return await Archiver(site.settings.connection.options(), topics, ids, open_shelf(site.settings)).run_to_ends()


async def _checked(site: Site, *, kafka: bool = True) -> Checked:
    topics = archived_topics(site.settings)
    return await look(site.settings.connection, topics, open_shelf(site.settings), kafka=kafka)


def _kill(site: Site, *names: str) -> None:
    """SIGKILL processes for good."""
    for name in names:
        site.stack.members[name].held = True
        site.stack.kill(name)


def _leave_claims_unanswered(story: Story) -> None:
    """Stop the receiver in a moment in which attempts are claimed and wait for its answer."""
    for _ in range(10):
        story.wait(lambda: bool(story.found().get("started")), 20, "a claim")
        story.site.signal_receiver(signal.SIGSTOP)
        story.let_pass(1)
        if story.found().get("started"):
            return
        story.site.signal_receiver(signal.SIGCONT)
    raise AssertionError(f"no claim is left without an answer: {story.found()}")


def _wipe_kafka(site: Site) -> None:
    """Delete all topics and groups of the site: what is made under these names then is another generation."""
    delete(site.settings.connection, all_topics(site.settings))
    admin = AdminClient({"bootstrap.servers": site.settings.connection.bootstrap, "log_level": 0})
    groups = [f"{site.settings.prefix}{name}" for name in ("intake", "delivery", "fleet")]
    deadline = time.monotonic() + 20
    for future in admin.delete_consumer_groups(groups).values():
        try:
            future.result()
        except KafkaException:  # a killed member has not timed out yet; its offsets went with the topics
            assert time.monotonic() < deadline


def _lose_the_end_of(s3: S3Server, topic: str) -> int:
    """Remove the last segments of a topic's partitions, where they have several; return how many records go."""
    named = {key: segment_name(key.removeprefix("fleet/")) for key in s3.objects}
    found: dict[int, list[tuple[str, SegmentName]]] = {}
    for key, name in named.items():
        if name is not None and name.topic == topic:
            found.setdefault(name.partition, []).append((key, name))
    lost = 0
    for segments in found.values():
        if len(segments) > 2:
            key, name = max(segments, key=lambda item: item[1].last)
            del s3.objects[key]
            lost += name.last - name.first + 1
    return lost


def _logged(s3: S3Server) -> list[dict[str, str]]:
    """Return all archived lines of logs."""
    pieces = [gzip.decompress(body) for key, (body, _) in s3.objects.items() if key.startswith("fleet/logs/")]
    return [orjson.loads(line) for piece in pieces for line in piece.splitlines()]


def _restored(site: Site) -> Restored:
    return asyncio.run(restore(site.settings, open_shelf(site.settings), cut=False))


def test_a_fleet_comes_back_from_its_archive_and_goes_on(
    site: Site, database: str, postgres: EmbeddedPostgres, s3: S3Server
) -> None:
    _with_archive(site, s3)
    site.stop_receiver()
    site.start_receiver(dot_delay_s=0.8)  # so that some have claimed and wait for the answer at any time
    story = Story(site, database)
    story.begin(fleet_text(60))
    site.stack.add("archive", "archive")
    story.ask(requests(ASKED))
    for kill in range(KILLS):
        story.wait_done(kill * ASKED // 2 // KILLS + 1)
        site.stack.kill("archive")
        site.stack.tend()
    _leave_claims_unanswered(story)
    _kill(site, "fleet")
    story.ask(requests(UNREAD, first=ASKED))
    story.wait(lambda: sum(story.found().values()) == story.asked, 20, "admissions that the fleet stage has not read")
    _kill(site, *site.stack.members)
    site.signal_receiver(signal.SIGCONT)
    site.stack.stop()
    asyncio.run(_archive_now(site))
    assert asyncio.run(_archive_now(site)) == 0
    checked = asyncio.run(_checked(site))
    assert checked.whole, checked.problems
    assert {state.behind for state in checked.topics} == {0}
    ship(open_shelf(site.settings).store, Path(site.environment["ARCHIVE_LOGS"]), "archive")  # it was killed meanwhile
    logged = _logged(s3)
    assert {line["process"] for line in logged} >= {"intake", "delivery", "fleet", "projector"}
    said = orjson.dumps(logged).decode()
    assert not re.search(r"[\w.+-]+@[\w-]+\.\w+", said), "no address, also of those who may say much"
    assert receiver.PASSWORD not in said
    copies = receiver.copies(site.received)
    assert 0 < sum(copies.values()) < story.asked, "the fleet was killed in the middle of its work"
    lost = _lose_the_end_of(s3, site.settings.topic(FLEET_INPUTS))
    assert lost, "what the delivery stage told the fleet stage last is in the journal alone now"

    _wipe_kafka(site)
    postgres.drop_database(database.rpartition("/")[2])
    postgres.create_database(database.rpartition("/")[2])
    migrate(database)
    done = _restored(site)
    assert done.told_again >= UNREAD
    assert done.open_attempts > 0
    with pytest.raises(NotEmpty, match="has a fleet already"):
        _restored(site)
    assert receiver.copies(site.received) == copies, "a restore sends nothing"

    site.stack.start_all()
    story.check(unknown_allowed=True)
    story.ask(requests(LATER, first=ASKED + UNREAD))
    found = story.check(unknown_allowed=True)
    assert found["accepted"] >= LATER
    site.stack.stop()
    asyncio.run(_archive_now(site))
    again = asyncio.run(_checked(site))
    assert again.whole, again.problems
    assert {state.generations for state in again.topics if state.segments} == {2}
