"""Half of the fleet goes out while all is wanted: the reserve joins, is used up, and a person is told."""

from datetime import timedelta

from ops.simulation.engine import Scenario, Wish
from schemas.health import AlertRaised, PauseOrdered, ReserveChanged
from schemas.policy import Lists, Policy, Reserve, Rotation, WarmUp
from tests.scenarios.weather import MONDAY, ONE, fleet, live

RULES = Policy(
    "reserve",
    warm_up=WarmUp(target_per_day=30, domain_start_per_day=5000),
    lists=Lists(canary_sends=0),
    rotation=Rotation(enabled=False),
    reserve=Reserve(share=0.2),
)


def test_a_reserve_that_is_used_up_joins_wholly_and_wakes_a_person_once() -> None:
    out = [
        (
            MONDAY + timedelta(days=7, hours=8),
            PauseOrdered(ONE, "mailbox", f"box{n}@d{n % 2}.client0.test", "lena", "sick"),
        )
        for n in range(25)
    ]
    run = live(
        Scenario(fleet(40, 2, policy=RULES, warm=True), MONDAY, 11, wishes={ONE: Wish(per_day=700)}, story=tuple(out))
    )
    moves = run.decided(ReserveChanged)
    went, joined = ([m.mailbox for m in moves if m.now == now] for now in ("reserve", "in_use"))
    alerts = [a for a in run.decided(AlertRaised) if a.alert == "reserve/client0"]
    sick = {order.name for _, order in out}
    assert len(went) == 8
    assert set(joined) == set(went) - sick != set()
    assert [a.severity for a in alerts][-1] == "critical"
    assert "exhausted" in alerts[-1].title
    assert len(alerts) <= 2
    assert max(run.tally.per_box_day.values()) <= 30
