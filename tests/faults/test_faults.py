"""Whole sends under harm: processes killed, frozen, moved; servers restarted; a day that ends; a dead route."""

import signal
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from ops.embedded import EmbeddedKafka, EmbeddedPostgres
from ops.site import Site
from tests.faults.story import Story, fleet_text, requests

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def story(site: Site, database: str) -> Story:
    """A fleet that is ready to begin."""
    return Story(site, database)


def test_a_delivery_worker_killed_at_any_moment_loses_and_repeats_nothing(story: Story) -> None:
    story.site.stop_receiver()
    story.site.start_receiver(dot_delay_s=0.3)  # many sends stand between claim and outcome
    story.begin(fleet_text())
    story.ask(requests(200))
    for count in (20, 60, 100, 140):
        story.wait_done(count)
        story.site.stack.kill("delivery")
    found = story.check(unknown_allowed=True)
    assert found["unknown"] > 0, "a kill between claim and outcome leaves an unknown, never a second copy"


def test_every_other_process_killed_at_any_moment_loses_and_repeats_nothing(story: Story) -> None:
    story.begin(fleet_text())
    story.ask(requests(100))
    for count, name in ((5, "intake"), (20, "fleet"), (40, "projector"), (60, "fleet")):
        story.wait_done(count)
        story.site.stack.kill(name)
    story.ask(requests(50, first=100))
    story.site.stack.kill("intake")
    found = story.check(unknown_allowed=False)
    assert found["accepted"] == 150


def test_workers_that_join_and_leave_under_backlog_lose_and_repeat_nothing(story: Story) -> None:
    story.begin(fleet_text())
    story.ask(requests(240))
    story.wait_done(20)
    story.site.stack.add("delivery", "delivery-2")
    story.site.stack.add("fleet", "fleet-2")
    story.wait_done(90)
    story.site.stack.end("delivery-2")
    story.wait_done(130)
    story.site.stack.kill("fleet-2")
    story.site.stack.members["fleet-2"].held = True
    story.check(unknown_allowed=True)


def test_a_worker_frozen_past_its_session_and_continued_sends_nothing_twice(story: Story) -> None:
    story.site.stop_receiver()
    story.site.start_receiver(dot_delay_s=0.5)
    story.begin(fleet_text())
    story.site.stack.add("delivery", "delivery-2")
    story.ask(requests(200))
    for count in (30, 90):
        story.wait_done(count)
        story.site.stack.signal("delivery", signal.SIGSTOP)
        story.let_pass(9)  # the session lasts 6 s
        story.site.stack.signal("delivery", signal.SIGCONT)
    story.check(unknown_allowed=True)


def test_a_fleet_worker_frozen_and_continued_assigns_nothing_twice(story: Story) -> None:
    story.begin(fleet_text())
    story.site.stack.add("fleet", "fleet-2")
    story.ask(requests(150))
    story.wait_done(20)
    story.site.stack.signal("fleet", signal.SIGSTOP)
    story.let_pass(9)
    story.site.stack.signal("fleet", signal.SIGCONT)
    found = story.check(unknown_allowed=False)
    assert found["accepted"] == 150


def test_kafka_killed_and_started_again_stops_nothing_for_good(story: Story, kafka: EmbeddedKafka) -> None:
    story.begin(fleet_text())
    story.ask(requests(120))
    story.wait_done(30)
    kafka.kill()
    kafka.start()
    story.check(unknown_allowed=True)


def test_mail_goes_on_while_postgres_is_down(story: Story, postgres: EmbeddedPostgres) -> None:
    story.begin(fleet_text())
    story.ask(requests(120))
    story.wait_done(20)
    before = len((story.site.received / "received.jsonl").read_bytes().splitlines())
    postgres.stop()
    deadline = time.monotonic() + 60
    while len((story.site.received / "received.jsonl").read_bytes().splitlines()) < before + 40:
        assert time.monotonic() < deadline, "mail stood still while Postgres was down"
        time.sleep(0.1)
    postgres.start()
    found = story.check(unknown_allowed=False)
    assert found["accepted"] == 120


def _zone_with_midnight_in(seconds: float) -> tuple[str, datetime]:
    """Return (a fixed-offset zone, its midnight): at a whole minute, at least so many seconds from now."""
    then = (datetime.now(UTC) + timedelta(seconds=seconds + 60)).replace(second=0, microsecond=0)
    minutes = 24 * 60 - (then.hour * 60 + then.minute)
    sign, minutes = ("+", minutes) if minutes <= 12 * 60 else ("-", 24 * 60 - minutes)
    return f"UTC{sign}{minutes // 60:02d}:{minutes % 60:02d}", then


def test_the_quotas_of_both_days_hold_when_delivery_is_down_over_midnight(story: Story) -> None:
    time_zone, midnight = _zone_with_midnight_in(25)
    story.begin(fleet_text(10, quota=3, time_zone=time_zone))
    story.ask(requests(50))
    story.wait_done(15)
    story.site.stack.end("delivery")
    days = story.query("select distinct quota_day from attempts")
    assert len(days) == 1, "the story must begin before midnight"
    story.wait(lambda: datetime.now(UTC) > midnight, 120, "midnight")
    story.site.stack.add("delivery", "delivery")
    story.wait_done(45, 120)
    per_day = story.query(
        "select mailbox, quota_day, count(*) from attempts where outcome in ('accepted', 'unknown') group by 1, 2"
    )
    assert max(count for _, _, count in per_day) <= 3
    assert len({day for _, day, _ in per_day}) == 2


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that accepts TCP and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(100)
        yield server.getsockname()[1]


def test_a_route_that_never_answers_leaves_the_others_their_rate(story: Story, silent_port: int) -> None:
    clients = ("acme", "birch", "mute")
    story.begin(fleet_text(120, clients=clients, routes={"mute": silent_port}, connections=5))
    story.ask(requests(40, clients=("acme", "birch")))
    story.wait_done(40)
    began = time.monotonic()
    story.ask(requests(80, clients=("acme", "birch"), first=1000))
    story.wait_done(120)
    alone = 80 / (time.monotonic() - began)
    story.ask(requests(30, clients=("mute",), first=3000))
    began = time.monotonic()
    story.ask(requests(80, clients=("acme", "birch"), first=2000))
    story.wait_done(200)
    beside = 80 / (time.monotonic() - began)
    # What else runs on the machine moves either rate by a quarter; a route that held up the others would leave a tenth.
    assert beside >= 0.6 * alone, f"{beside:.1f}/s beside a silent route, {alone:.1f}/s alone"
    began = time.monotonic()
    story.ask([{"type": "cancel", "v": 1, "data": {"client": "mute", "send_id": "s3005"}}])
    story.asked -= 1
    story.wait(lambda: story.found().get("cancelled", 0) == 1, 20, "the cancel")
    assert time.monotonic() - began < 8
