"""A client with thousands of mails a day over fair lists goes on, whatever bounces at night or complains by chance."""

from ops.simulation.engine import Scenario, Wish
from ops.simulation.mail_world import Quality
from schemas.health import AlertRaised, HealthChanged
from schemas.policy import Lists, Policy, Rotation, WarmUp
from tests.scenarios.weather import MONDAY, ONE, fleet, live

RULES = Policy("fair", warm_up=WarmUp(enabled=False), lists=Lists(canary_sends=0), rotation=Rotation(enabled=False))
FAIR = Quality(dead=0.016, complaints=0.0002)


def test_the_late_bounces_of_a_large_day_stop_no_client_and_no_domain() -> None:
    wishes = {ONE: Wish(per_day=4200, quality=FAIR)}
    run = live(Scenario(fleet(150, 1, policy=RULES, warm=True), MONDAY, 5, wishes=wishes))
    late = run.simulation.world.counts["late bounce"]
    assert late >= 80, "ten a night, against the last 200 sends 5 %"
    wide = [fact for fact in run.decided(HealthChanged) if fact.scope != "mailbox"]
    assert not [fact for fact in wide if fact.now != "watched"]
    assert not [fact for fact in run.decided(AlertRaised) if fact.severity == "critical"]
    assert min(run.mails()) >= 3500
