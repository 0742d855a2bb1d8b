"""A week without mail: the caps are halved when work begins again, and come back by evidence."""

from ops.simulation.engine import Scenario, Wish
from schemas.health import WarmUpStepped
from schemas.policy import Lists, Policy, Rotation, WarmUp
from tests.scenarios.weather import MONDAY, ONE, fleet, live

RULES = Policy(
    "rest",
    warm_up=WarmUp(target_per_day=30, domain_start_per_day=5000),
    lists=Lists(canary_sends=0),
    rotation=Rotation(enabled=False),
)


def test_after_an_idle_week_caps_are_halved_once_and_grow_back() -> None:
    scenario = Scenario(fleet(16, 2, policy=RULES, warm=True), MONDAY, 22, wishes={ONE: Wish(off=((5, 12),))})
    run = live(scenario)
    medians = [evening.caps[len(evening.caps) // 2] for evening in run.tally.evenings]
    halved = [
        s for s in run.decided(WarmUpStepped) if s.scope == "mailbox" and s.evidence.rule == "halved after idle days"
    ]
    assert set(run.mails()[6:12]) == {0}
    assert len(halved) == 16
    assert {(s.was, s.now) for s in halved} == {(30, 15)}
    assert max(n for (_, day), n in run.tally.per_box_day.items() if day == "2026-03-14") <= 15
    assert medians[-1] == 30
