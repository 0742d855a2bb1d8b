"""A receiving provider throttles everyone for half a day: mail waits, nobody is judged for it, all of it goes."""

from datetime import timedelta

from ops.simulation.engine import Scenario, Wish
from ops.simulation.mail_world import Outage
from schemas.health import HealthChanged
from schemas.policy import Lists, Policy, Rotation, WarmUp
from tests.scenarios.weather import MONDAY, ONE, fleet, live

RULES = Policy("slow", warm_up=WarmUp(enabled=False), lists=Lists(canary_sends=0), rotation=Rotation(enabled=False))


def test_a_receiver_that_throttles_everyone_delays_its_mail_and_takes_nobody_out() -> None:
    begin, end = MONDAY + timedelta(hours=33), MONDAY + timedelta(hours=40)
    run = live(
        Scenario(
            fleet(30, 3, policy=RULES),
            MONDAY,
            5,
            wishes={ONE: Wish(per_day=400)},
            outages=(Outage(begin, end, receiver="gmail", throttles=True),),
        )
    )
    changes = run.decided(HealthChanged)
    counts = [dict(day.counts) for day in run.simulation.days]
    print(
        counts,
        [
            (f.scope, f.name, f.now, f.evidence.rule, f.evidence.numerator, f.evidence.denominator, f.share)
            for f in changes
        ],
    )
    assert run.simulation.world.counts["throttled"] > 30
    assert not [f for f in changes if f.now == "unhealthy"]
    assert sum(day.counts["given up"] + day.counts["expired"] for day in run.simulation.days) == 0
    assert {f.now for f in changes if f.scope == "domain"} <= {"watched", "active"}
