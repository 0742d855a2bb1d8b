"""The resolver answers nobody for a day: what could not be checked is not broken, nothing is gated."""

from datetime import timedelta

from ops.simulation.engine import Scenario, Wish
from schemas.dns import Check
from schemas.health import AlertRaised
from schemas.policy import Lists, Policy, Rotation, WarmUp
from tests.scenarios.weather import MONDAY, ONE, fleet, live, look

HOUR = timedelta(hours=1)
CHECKS: tuple[tuple[Check, str], ...] = (
    ("spf", "own"),
    ("dkim", "own"),
    ("dmarc", "own"),
    ("mx", ""),
    ("blocklist", ""),
)
RULES = Policy("gate", warm_up=WarmUp(enabled=False), lists=Lists(canary_sends=0), rotation=Rotation(enabled=False))


def test_a_day_without_answers_gates_nothing_and_costs_no_mail() -> None:
    looks = [
        look(
            check, "could_not_be_checked" if 24 <= hour < 48 else "good", MONDAY + hour * HOUR, domain=domain, route=way
        )
        for hour in range(72)
        for domain in ("d0.client0.test", "d1.client0.test")
        for check, way in CHECKS
    ]
    scenario = Scenario(fleet(10, 2, policy=RULES), MONDAY, 3, wishes={ONE: Wish(per_day=200)})
    calm, run = live(scenario), live(Scenario(scenario.fleet, MONDAY, 3, wishes=scenario.wishes, story=tuple(looks)))
    assert run.gates() == []
    assert run.decided(AlertRaised) == []
    assert run.mails() == calm.mails()
    assert min(run.mails()) > 150
