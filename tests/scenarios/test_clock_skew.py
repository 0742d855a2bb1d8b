"""Clocks that jump: the same second twice, an hour at once, a day at once. Nothing is doubled, no quota passed."""

from collections import Counter
from datetime import timedelta

from schemas.sending import Ticked
from tests.decisions.fleet_story import FleetStory


def test_the_same_second_twice_and_hours_that_are_left_out_double_nothing() -> None:
    story = FleetStory()
    story.fleet("acme", 3, daily_quota=10)
    for number in range(60):
        story.ask("acme", f"s-{number}")
    for jump in (1, 0, 0, 3600, 0, 1, 1, 0, 86_400, 0, 0, *(1,) * 20, 86_400, *(0, 1) * 20):
        story.now += timedelta(seconds=jump)
        story.sees(Ticked())
        story.sees(Ticked())
        story.tick(2)
    sends = Counter(assigned.ref.send_id for _, assigned in story.assigned)
    quotas = [count for days in story.per_day().values() for count in days.values()]
    assert len(sends) == 60
    assert set(sends.values()) == {1}
    assert max(quotas) == 10
    assert len(quotas) >= 6
