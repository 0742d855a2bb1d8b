"""Every receiver throttles for seven hours: the route is only probed, no mail is lost, all goes afterwards."""

from datetime import timedelta

from ops.simulation.engine import Scenario, Wish
from ops.simulation.mail_world import Outage
from schemas.fleet import RouteTripped
from schemas.health import HealthChanged
from schemas.policy import Lists, Policy, Rotation, WarmUp
from tests.scenarios.weather import MONDAY, ONE, fleet, live

HOUR = timedelta(hours=1)
RULES = Policy("slow", warm_up=WarmUp(enabled=False), lists=Lists(canary_sends=0), rotation=Rotation(enabled=False))


def test_throttling_by_everyone_is_probed_not_hammered_and_costs_time_but_no_mail() -> None:
    begin, end = MONDAY + 34 * HOUR, MONDAY + 41 * HOUR  # from ten o'clock to the end of Tuesday's window
    wishes = {ONE: Wish(per_day=400)}
    run = live(
        Scenario(fleet(30, 3, policy=RULES), MONDAY, 6, wishes=wishes, outages=(Outage(begin, end, throttles=True),))
    )
    changes = run.decided(HealthChanged)
    throttled = run.simulation.world.counts["throttled"]
    assert 5 <= throttled == sum(run.routes_between(begin, end).values()) <= 60, "50 an hour were wanted"
    assert run.decided(RouteTripped)
    assert sum(day.counts["given up"] + day.counts["expired"] for day in run.simulation.days) == 0
    assert not [f for f in changes if f.now == "unhealthy" and f.until is None], "nobody waits for a person"
    assert run.mails()[-1] >= 380
    last = {(f.scope, f.name): f.now for f in changes if f.scope != "mailbox"}
    assert set(last.values()) <= {"active"}
