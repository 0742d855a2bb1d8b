"""Gmail throttles for seven hours: its mail is probed and waits, all other mail goes on, and all goes afterwards."""

from datetime import timedelta

from ops.simulation.engine import Scenario, Wish
from ops.simulation.mail_world import Outage
from schemas.fleet import ReceiverThrottled, RouteTripped
from schemas.health import HealthChanged
from schemas.policy import Lists, Policy, Rotation, WarmUp
from tests.scenarios.weather import MONDAY, ONE, fleet, live

HOUR = timedelta(hours=1)
RULES = Policy("one", warm_up=WarmUp(enabled=False), lists=Lists(canary_sends=0), rotation=Rotation(enabled=False))


def test_one_receivers_throttle_costs_its_own_mail_time_and_no_other_mail_anything() -> None:
    begin, end = MONDAY + 34 * HOUR, MONDAY + 41 * HOUR  # from ten o'clock to the end of Tuesday's window
    gmail = Outage(begin, end, receiver="gmail", throttles=True)
    run = live(Scenario(fleet(30, 3, policy=RULES), MONDAY, 6, wishes={ONE: Wish(per_day=400)}, outages=(gmail,)))
    to_gmail = [at for at, given in run.assigned if given.bucket.endswith("/gmail")]
    others = [at for at, given in run.assigned if not given.bucket.endswith("/gmail")]
    throttled = run.simulation.world.counts["throttled"]
    assert 4 <= throttled == sum(begin <= at < end for at in to_gmail) <= 12, "70 were wanted"
    asked = [at for at, queued in run.queued if queued.request.receiver != "gmail"]
    wanted = sum(begin <= at < end for at in asked)
    assert wanted > 100
    assert sum(begin <= at < end for at in others) >= 0.95 * wanted, "it went as it came"
    assert not run.decided(RouteTripped)
    assert {fact.receiver for fact in run.decided(ReceiverThrottled)} == {"gmail"}
    bounces = "hard bounce rate"  # of which the world has its share every day
    assert not [f for f in run.decided(HealthChanged) if f.evidence.rule != bounces], "nobody else pays for it"
    assert sum(day.counts["given up"] + day.counts["expired"] for day in run.simulation.days) == 0
    assert run.mails()[-1] >= 380
