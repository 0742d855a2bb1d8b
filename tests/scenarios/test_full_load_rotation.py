"""Weekly rests at full load: they are staggered, and the capacity never falls below the floor."""

from ops.simulation.engine import Scenario, Wish
from schemas.health import CapacityPlanned, RestBegan
from schemas.policy import Lists, Policy, Rotation, WarmUp
from tests.scenarios.weather import MONDAY, ONE, fleet, live

FLOOR = 0.8
RULES = Policy(
    "rest",
    warm_up=WarmUp(target_per_day=30, domain_start_per_day=5000),
    lists=Lists(canary_sends=0),
    rotation=Rotation(rest_share=0.25, rest_days=3, capacity_floor_share=FLOOR),
)


def test_at_full_load_mailboxes_rest_in_turn_and_the_floor_is_kept() -> None:
    run = live(Scenario(fleet(40, 4, policy=RULES, warm=True), MONDAY, 15, wishes={ONE: Wish(share_of_quota=1.0)}))
    rests = [rest for rest in run.decided(RestBegan) if rest.scope == "mailbox"]
    planned = run.decided(CapacityPlanned)
    assert len({p.day for p in planned}) == 15
    assert min(p.capacity for p in planned) >= FLOOR * 40 * 30
    assert 12 <= len(rests) <= 24
    assert len({rest.name for rest in rests}) == len(rests), "another one each week"
    assert min(run.mails()[1:]) >= FLOOR * 40 * 30 * 0.9
