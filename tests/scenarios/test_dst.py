"""Berlin's clocks change: the day of 23 hours and the day of 25 each have one quota, the hour that comes twice too."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest

from ops.simulation.engine import Scenario, Wish
from schemas.fleet import ClientDeclared, Pace
from schemas.policy import Lists, Policy, Rotation, WarmUp
from schemas.registry import Fact
from tests.scenarios.weather import ONE, Run, fleet, live

BERLIN = ZoneInfo("Europe/Berlin")
RULES = Policy("dst", warm_up=WarmUp(enabled=False), lists=Lists(canary_sends=0), rotation=Rotation(enabled=False))
CHANGES = [
    pytest.param(datetime(2026, 3, 28, tzinfo=UTC), id="spring"),
    pytest.param(datetime(2026, 10, 24, tzinfo=UTC), id="autumn"),
]
BOXES = 6


def in_berlin(begin: datetime, hour_from: int, hour_to: int) -> Run:
    """Three days around a change, in these local hours, with more wanted than the quotas allow."""
    pace = Pace(time_zone="Europe/Berlin", hour_from=hour_from, hour_to=hour_to, gap_seconds=30, gap_jitter_seconds=10)
    facts: list[Fact] = [
        msgspec.structs.replace(f, pace=pace) if isinstance(f, ClientDeclared) else f
        for f in fleet(BOXES, 1, policy=RULES)
    ]
    return live(Scenario(tuple(facts), begin, 3, wishes={ONE: Wish(per_day=BOXES * 60)}))


def per_box_and_day(run: Run) -> Counter[tuple[str, str]]:
    """What servers took from each mailbox on each local day, by the clock on the wall."""
    return Counter((said.mailbox, f"{at.astimezone(BERLIN):%Y-%m-%d}") for at, said in run.accepted)


@pytest.mark.parametrize("begin", CHANGES)
def test_each_local_day_has_one_quota_whatever_its_hours(begin: datetime) -> None:
    run = in_berlin(begin, 0, 24)
    sent = per_box_and_day(run)
    changed = f"{begin + timedelta(days=1):%Y-%m-%d}"
    assert max(sent.values()) == 30
    assert sum(n for (_, day), n in sent.items() if day == changed) >= BOXES * 30 - 3, (
        "a late refusal may cost its place"
    )
    assert all(f"{a.not_before.astimezone(BERLIN):%Y-%m-%d}" == a.quota_day for _, a in run.assigned)


@pytest.mark.parametrize("begin", CHANGES)
def test_hours_of_night_at_the_change_are_sent_in_once_or_not_at_all(begin: datetime) -> None:
    run = in_berlin(begin, 2, 3)
    hours = {a.not_before.astimezone(BERLIN).hour for _, a in run.assigned}
    sent = per_box_and_day(run)
    assert hours == {2}
    assert max(sent.values()) == 30
