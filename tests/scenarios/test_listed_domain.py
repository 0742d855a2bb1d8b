"""One domain stands on a blocklist: seen twice it sends nothing, the other carries, repaired it is back."""

from datetime import timedelta

from ops.simulation.engine import Scenario, Wish
from schemas.health import AlertRaised, AlertResolved
from schemas.policy import Lists, Policy, Rotation, WarmUp
from tests.scenarios.weather import MONDAY, ONE, fleet, live, look

HOUR = timedelta(hours=1)
RULES = Policy("gate", warm_up=WarmUp(enabled=False), lists=Lists(canary_sends=0), rotation=Rotation(enabled=False))


def test_a_listed_domain_is_closed_at_the_second_look_and_open_when_it_is_delisted() -> None:
    first, second, clean = (MONDAY + n * HOUR for n in (34, 35, 34 + 24))
    story = (look("blocklist", "broken", first), look("blocklist", "broken", second), look("blocklist", "good", clean))
    run = live(Scenario(fleet(20, 2, policy=RULES), MONDAY, 4, wishes={ONE: Wish(per_day=250)}, story=story))
    assert run.gates() == ["closed d0.client0.test blocklist", "opened d0.client0.test blocklist"]
    between = run.mails_between(first, second)
    closed = run.mails_between(second + timedelta(seconds=1), clean)
    after = run.mails_between(clean, MONDAY + 96 * HOUR)
    assert between["d0.client0.test"] > 0, "one look closes nothing"
    assert closed["d0.client0.test"] == 0
    assert closed["d1.client0.test"] > 150
    assert after["d0.client0.test"] > 100
    assert [a.alert for a in run.decided(AlertRaised)] == ["dns_gate/client0/d0.client0.test/blocklist"]
    assert [a.alert for a in run.decided(AlertResolved)] == ["dns_gate/client0/d0.client0.test/blocklist"]
