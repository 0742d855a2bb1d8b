"""A healthy start from zero: five mails a day grow to the target in two weeks at the soonest, on evidence only."""

from collections import Counter, defaultdict
from datetime import timedelta
from time import process_time

from ops.simulation.engine import Scenario
from schemas.health import HealthChanged, WarmUpStepped
from schemas.policy import Lists, Policy
from tests.scenarios.weather import MONDAY, fleet, live


def test_a_new_fleet_grows_to_its_target_in_two_weeks_at_the_soonest() -> None:
    rules = Policy("start", lists=Lists(canary_sends=0))
    began = process_time()
    run = live(Scenario(fleet(120, 4, policy=rules), MONDAY, 24))
    assert process_time() - began < 60, "seconds of one core, whatever runs beside it"
    medians = [evening.caps[len(evening.caps) // 2] for evening in run.tally.evenings]
    assert medians[0] == 5
    assert medians[:14] == sorted(medians[:14])
    assert max(medians[:13]) < 30, "no mailbox is at its target before the fourteenth day"
    assert medians[-1] == 30
    first_day = Counter(fact.mailbox for at, fact in run.accepted if at < MONDAY + timedelta(days=1))
    assert max(first_day.values()) == 5
    assert run.mails()[-1] > 120 * 30 * 0.7
    steps: dict[str, list[WarmUpStepped]] = defaultdict(list)
    for step in run.decided(WarmUpStepped):
        steps[step.name].append(step)
    assert all(s.now <= max(s.was + 1, s.was * 1.25) for own in steps.values() for s in own if not s.anew)
    assert not [h for h in run.decided(HealthChanged) if h.scope in ("client", "domain") and h.now == "unhealthy"]
