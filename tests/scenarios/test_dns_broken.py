"""DKIM of a domain breaks over one route: the other route carries until it is mended."""

from datetime import timedelta

import msgspec

from ops.simulation.engine import Scenario, Wish
from schemas.fleet import MailboxDeclared, RouteDeclared
from schemas.ids import RouteId
from schemas.policy import Lists, Policy, Rotation, WarmUp
from schemas.registry import Fact
from tests.scenarios.weather import MONDAY, ONE, fleet, live, look

HOUR = timedelta(hours=1)
RULES = Policy("gate", warm_up=WarmUp(enabled=False), lists=Lists(canary_sends=0), rotation=Rotation(enabled=False))


def with_backup(facts: tuple[Fact, ...]) -> tuple[Fact, ...]:
    """The same fleet with a second route for every mailbox."""
    made: list[Fact] = []
    for fact in facts:
        if isinstance(fact, RouteDeclared):
            made += [fact, msgspec.structs.replace(fact, route=RouteId("backup"))]
        elif isinstance(fact, MailboxDeclared):
            made.append(msgspec.structs.replace(fact, routes=(RouteId("own"), RouteId("backup"))))
        else:
            made.append(fact)
    return tuple(made)


def test_a_broken_dkim_record_moves_the_domains_mail_to_the_other_route_and_a_good_one_back() -> None:
    first, second, mended = (MONDAY + n * HOUR for n in (33, 34, 60))
    story = (
        look("dkim", "broken", first, route="own"),
        look("dkim", "broken", second, route="own"),
        look("dkim", "good", mended, route="own"),
    )
    facts = with_backup(fleet(12, 1, policy=RULES))
    run = live(Scenario(facts, MONDAY, 4, wishes={ONE: Wish(per_day=200)}, story=story))
    assert run.gates() == ["closed d0.client0.test dkim", "opened d0.client0.test dkim"]
    before = run.routes_between(MONDAY, second)
    broken = run.routes_between(second + timedelta(seconds=1), mended)
    after = run.routes_between(mended, MONDAY + 96 * HOUR)
    assert before["own"] > 150
    assert before["backup"] == 0
    assert broken["own"] == 0
    assert broken["backup"] > 150
    assert after["own"] > 150
    assert after["backup"] == 0
