"""Speed: a client that sends less than half of what it could is watched and told, once, and let go by itself."""

from datetime import UTC, datetime, timedelta

from schemas.fleet import Pace, StartOrdered, StopOrdered
from schemas.health import AlertRaised, AlertResolved, HealthChanged
from schemas.ids import ClientId
from schemas.registry import Fact
from streams.fleet.health import SLOWER
from streams.fleet.speed import speed
from tests.decisions.fleet_story import FleetStory

NINE = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PACE = Pace(gap_seconds=60, gap_jitter_seconds=0, company_gap_seconds=0, slot_seconds=7200)


def story(sends: int = 900, *, boxes: int = 4, daily_quota: int = 1000) -> FleetStory:
    made = FleetStory(now=NINE)
    made.fleet("acme", boxes, pace=PACE, daily_quota=daily_quota)
    for number in range(sends):
        made.ask("acme", f"s{number}")
    return made


def minutes(made: FleetStory, count: int) -> None:
    """Let minutes pass, a tick each five seconds."""
    for _ in range(count * 12):
        made.now += timedelta(seconds=4)
        made.tick()


def told(made: FleetStory) -> list[str]:
    """The changes of state, in order."""
    return [f"{f.now}: {f.evidence.rule}" for f in made.decided(HealthChanged) if isinstance(f, HealthChanged)]


def slow_server(made: FleetStory) -> None:
    made.latency_s = 1200.0


def test_a_slow_client_is_told_once_and_resolved_once() -> None:
    made = story()
    minutes(made, 31)
    assert told(made) == []
    slow_server(made)
    minutes(made, 90)
    assert told(made) == [f"watched: {SLOWER}"]
    made.latency_s = 1.0
    minutes(made, 90)
    assert told(made) == [f"watched: {SLOWER}", "active: as fast as planned again"]
    assert [type(f) for _, f in made.journal if isinstance(f, AlertRaised | AlertResolved)] == [
        AlertRaised,
        AlertResolved,
    ]


def test_the_evidence_has_the_numbers_and_the_oldest_due_send_and_lowers_no_quota() -> None:
    made = story()
    slow_server(made)
    minutes(made, 60)
    (found,) = made.decided(HealthChanged)
    assert isinstance(found, HealthChanged)
    why = found.evidence
    assert (why.threshold, found.share, found.scope) == (0.5, 1.0, "client")
    assert why.numerator < 0.5 * why.denominator
    assert 40 <= why.denominator <= 100  # four mailboxes, a mail in 65 s each, 15 to 25 minutes
    assert why.said.startswith("the oldest due send has waited ")
    (raised,) = made.decided(AlertRaised)
    assert isinstance(raised, AlertRaised)
    assert "the oldest due send has waited" in raised.detail


def test_outside_of_sending_hours_nobody_is_slow() -> None:
    made = story()
    made.now = NINE.replace(hour=17)
    minutes(made, 60)
    assert told(made) == []


def test_when_nothing_waits_nobody_is_slow() -> None:
    made = story(sends=4)
    slow_server(made)
    minutes(made, 60)
    assert told(made) == []


def test_a_quota_that_is_used_up_is_no_slowness() -> None:
    made = story(daily_quota=20)
    minutes(made, 120)
    assert told(made) == []
    assert len(made.assigned) == 80


def test_a_stop_is_no_slowness_and_neither_is_its_end() -> None:
    made = story()
    made.sees(StopOrdered("client", "acme", "lena"))
    minutes(made, 44)
    made.sees(StartOrdered("client", "acme", "lena"))
    minutes(made, 40)
    assert told(made) == []


def test_between_looks_a_tick_looks_at_nothing() -> None:
    made = story(sends=50)
    made.now = NINE + timedelta(minutes=45)
    made.tick()
    looks = dict(made.state.speed_looks)
    assert list(looks) == [ClientId("acme")]
    made.state.due_rows = None  # type: ignore[assignment,method-assign]  # a look would need it
    facts: list[Fact] = []
    for second in range(1, 800):
        facts += speed(made.state, made.now + timedelta(seconds=second))
    assert facts == []
    assert made.state.speed_looks == looks
