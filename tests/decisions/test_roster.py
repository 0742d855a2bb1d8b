"""Who rests, who waits in reserve, who joins: staggered by the calendar, above the floor, best evidence first."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.simulation.engine import Scenario, Simulation, Wish, declared_fleet
from schemas.fleet import MailboxDeclared, MailboxWarmed, StopOrdered
from schemas.health import (
    AlertRaised,
    AlertResolved,
    CapacityPlanned,
    Evidence,
    HealthChanged,
    ReserveChanged,
    RestBegan,
    Scope,
)
from schemas.ids import ClientId, DomainName, MailboxAddress
from schemas.policy import Lists, Policy, PolicyApplied, Reserve, Rotation, WarmUp
from schemas.registry import Fact
from schemas.sending import Reply, SendBounced, Verdict
from streams.fleet import reserve, rotation
from streams.fleet.alerting import alerts
from streams.fleet.places import Place
from streams.fleet.state import RosterRow, SenderRow, sender_key
from streams.fleet.warmup import days_between, days_to_target, ramp_of_mailbox
from streams.fleet.windows import Counts
from tests.decisions.fleet_story import FleetStory

ACME = ClientId("acme")
NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
DAY = date(2026, 3, 2)
NOBODY = Verdict("hard", "recipient", "recipient", "suppress", "no-such-user")
REPLY = Reply("smtp", "rcpt", 550, "5.1.1", "no such user")


def place(name: str, domain: str = "one.test", **changes: object) -> Place:
    made = Place(
        MailboxAddress(f"{name}@{domain}"),
        DomainName(domain),
        usual=30,
        today=30,
        warm=True,
        well=True,
        worked=True,
        resting=False,
        in_reserve=False,
        at=NOW,
        buckets={},
    )
    return made._replace(**changes)  # type: ignore[arg-type]  # one field of its own type


def fleet(domains: int, boxes: int) -> list[Place]:
    return [place(f"box{n:03}", f"d{d}.test") for d in range(domains) for n in range(boxes)]


def policy(**rotation_: object) -> Policy:
    return Policy(version="p", rotation=Rotation(**rotation_))  # type: ignore[arg-type]


# ── rotation ─────────────────────────────────────────────────────────────────────────────────────


def test_every_mailbox_rests_once_in_ten_weeks_and_a_tenth_of_a_domain_at_a_time() -> None:
    places, rules = fleet(4, 50), policy()
    rested: Counter[str] = Counter()
    for n in range(70):
        found = rotation.rests(ACME, places, rules, DAY + timedelta(days=n), NOW)
        rested.update(rest.name for rest in found)
        by_domain = Counter(rest.name.partition("@")[2] for rest in found)
        assert all(count == 5 for count in by_domain.values())
    assert set(rested.values()) == {1}
    assert len(rested) == 200


def test_the_domains_do_not_rest_on_the_same_day() -> None:
    places = fleet(7, 10)
    days = [rotation.rests(ACME, places, policy(), DAY + timedelta(days=n), NOW) for n in range(7)]
    assert [len({rest.name.partition("@")[2] for rest in found}) for found in days] == [1] * 7


def test_a_rest_is_never_longer_than_three_days() -> None:
    rules = policy(rest_days=9, rest_every_days=1)
    found = rotation.rests(ACME, fleet(1, 20), rules, DAY, NOW)
    assert {rest.until for rest in found} == {NOW + timedelta(days=3)}


@pytest.mark.parametrize(
    "changes",
    [{"warm": False}, {"well": False}, {"worked": False}, {"in_reserve": True}, {"resting": True, "today": 0}],
    ids=lambda changes: next(iter(changes)),
)
def test_what_is_new_sick_idle_waiting_or_at_rest_does_not_rest(changes: dict[str, object]) -> None:
    places = [*fleet(1, 50), *(place(f"zz{n}", "d1.test", **changes) for n in range(50))]
    for n in range(70):
        found = rotation.rests(ACME, places, policy(), DAY + timedelta(days=n), NOW)
        assert not [rest for rest in found if rest.name.startswith("zz")]


@given(
    st.integers(1, 6),
    st.integers(1, 30),
    st.floats(0.05, 1.0),
    st.floats(0.0, 1.0),
    st.integers(0, 200),
    st.integers(0, 5),
)
def test_no_rest_takes_the_capacity_below_the_floor(
    domains: int, boxes: int, share: float, floor: float, day: int, cool_down: int
) -> None:
    places = fleet(domains, boxes)
    places[0] = places[0]._replace(today=0, well=False)
    rules = policy(rest_share=share, capacity_floor_share=floor, domain_cool_down_every_days=cool_down * 10)
    found = rotation.rests(ACME, places, rules, DAY + timedelta(days=day), NOW)
    names = {rest.name for rest in found}
    left = sum(p.today for p in places if not names & {p.mailbox, p.domain})
    assert not found or left >= floor * sum(p.usual for p in places)
    assert len(names) == len(found)


def test_a_domain_that_cools_down_takes_its_sub_domains_with_it_and_the_floor_counts_them() -> None:
    places = [place(f"box{n}", domain) for domain in ("one.test", "mail.one.test", "two.test") for n in range(10)]
    rules = policy(domain_cool_down_every_days=3, capacity_floor_share=0.5, rest_share=0.0)
    for n in range(3):
        found = rotation.rests(ACME, places, rules, DAY + timedelta(days=n), NOW)
        assert "one.test" not in {rest.name for rest in found}, "both are 600 of 900 mails"
    rules = policy(domain_cool_down_every_days=3, capacity_floor_share=0.3, rest_share=0.0)
    cooled = [r for n in range(3) for r in rotation.rests(ACME, places, rules, DAY + timedelta(days=n), NOW)]
    (of_both,) = [rest for rest in cooled if rest.name == "one.test"]
    assert of_both.evidence.said.startswith("20 mailboxes")


def test_a_domain_that_cools_down_says_what_that_costs() -> None:
    rules = policy(domain_cool_down_every_days=30, domain_cool_down_days=7, capacity_floor_share=0.5)
    found: list[RestBegan] = []
    for n in range(30):
        found += rotation.rests(ACME, fleet(3, 10), rules, DAY + timedelta(days=n), NOW)
    cooled = [rest for rest in found if rest.scope == "domain"]
    assert [rest.name for rest in cooled] != []
    assert len(cooled) == 3
    assert cooled[0].evidence.said == "10 mailboxes; their caps are halved: 4 days of warm-up"
    assert rotation.cost_of_idleness(6, rules) == "it costs no warm-up"
    assert "begins anew" in rotation.cost_of_idleness(30, rules)


# ── reserve ──────────────────────────────────────────────────────────────────────────────────────

WITH_RESERVE = Policy(version="p", reserve=Reserve(share=0.2, trickle_per_day=4, low_share=0.04, forecast_days=5))


def waiting(name: str, **week: int) -> Place:
    return place(name, in_reserve=True, today=4, buckets={f"{NOW:%Y-%m-%dT%H}": Counts(**week)})


def test_those_with_the_best_evidence_join_first_and_no_more_than_are_needed() -> None:
    places = [
        place("work", today=30),
        waiting("soso", delivered=40, hard_bounces=1),
        waiting("good", delivered=40),
        waiting("best", delivered=90),
        place("sick", in_reserve=True, well=False, today=0, buckets={f"{NOW:%Y-%m-%dT%H}": Counts(delivered=500)}),
    ]
    found = reserve.changes(ACME, places, WITH_RESERVE, demand=80, new_day=False)
    assert [change.mailbox.partition("@")[0] for change in found] == ["best", "good"]
    assert all(change.now == "in_use" for change in found)
    assert found[0].evidence.said == "its week: 90 delivered, 0 hard bounces, 0 complaints"


def test_the_reserve_is_filled_gently_and_only_beside_enough_capacity() -> None:
    places = fleet(1, 100)
    first = reserve.changes(ACME, places, WITH_RESERVE, demand=2000, new_day=True)
    assert len(first) == 4, "a fifth of the twenty that are wanted"
    assert reserve.changes(ACME, places, WITH_RESERVE, demand=2000, new_day=False) == []
    assert reserve.changes(ACME, places, WITH_RESERVE, demand=2900, new_day=True) == [], "no room beside the demand"
    full = [p._replace(in_reserve=n < 20, today=4 if n < 20 else 30) for n, p in enumerate(places)]
    assert reserve.changes(ACME, full, WITH_RESERVE, demand=1000, new_day=True) == []


def test_a_domain_at_its_bound_is_no_capacity_and_calls_those_who_can_carry_more() -> None:
    bounds = {DomainName("one.test"): 100}
    busy = [place(f"box{n}") for n in range(20)]
    same, other = waiting("same", delivered=90), place("r", "two.test", in_reserve=True, today=4)
    places = [*busy, same, other]
    assert planned(places, 120).capacity == 20 * 30 + 4 + 4
    told = reserve.capacity(ACME, places, WITH_RESERVE, 120, "2026-03-02", RosterRow(), bounds)
    assert told.capacity == 104
    found = reserve.changes(ACME, places, WITH_RESERVE, 120, new_day=False, bounds=bounds)
    assert [change.mailbox for change in found] == [other.mailbox], "the other's domain can carry no more"
    assert (found[0].evidence.numerator, found[0].evidence.threshold) == (104, 120)


def test_what_a_domains_warm_up_allows_bounds_what_is_planned() -> None:
    story = FleetStory()
    story.fleet("acme", 10, daily_quota=30)
    for n in range(10):
        story.sees(MailboxWarmed(ACME, MailboxAddress(f"box{n}@acme.test"), NOW, "before"))
    story.policy("acme", warm_up=WarmUp(target_per_day=30, domain_start_per_day=50), reserve=Reserve(share=0.2))
    story.tick(2)
    (planned_,) = story.decided(CapacityPlanned)
    assert isinstance(planned_, CapacityPlanned)
    assert planned_.capacity == 50


def test_without_a_share_all_come_back() -> None:
    places = [waiting("one"), place("sick", in_reserve=True, well=False, today=0), place("work")]
    found = reserve.changes(ACME, places, Policy(version="p"), demand=0, new_day=False)
    assert {change.mailbox.partition("@")[0] for change in found} == {"one", "sick"}


def planned(places: list[Place], demand: int, **joined: int) -> CapacityPlanned:
    row = RosterRow(joined={day.replace("_", "-")[1:]: n for day, n in joined.items()})
    return reserve.capacity(ACME, places, WITH_RESERVE, demand, "2026-03-02", row)


def test_a_person_is_told_days_before_the_reserve_is_gone_and_when_the_next_are_warm() -> None:
    growing = [place(f"new{n}", warm=False, usual=20, today=20, ready_in=4 + n) for n in range(3)]
    places = [*fleet(1, 80), *(waiting(f"r{n}") for n in range(10)), *growing]
    assert planned(places, 100).reserve == "enough"
    low = planned(places, 100, d2026_02_27=10, d2026_02_28=10)
    assert low.reserve == "low"
    assert low.evidence.rule == "at the pace of the last week it lasts 3.5 days"
    assert low.evidence.said == "3 mailboxes warm up, the first is ready in about 4 days"
    assert planned(fleet(1, 80), 100_000).reserve == "exhausted"


def test_in_reserve_a_mailbox_carries_a_trickle_of_real_mail_and_nothing_beyond_it() -> None:
    story = FleetStory()
    story.fleet("acme", 2, daily_quota=30)
    story.policy("acme", reserve=Reserve(share=0.5, trickle_per_day=4), rotation=Rotation(enabled=False))
    into = ReserveChanged(ACME, MailboxAddress("box0@acme.test"), "reserve", Evidence("the reserve is filled", "test"))
    for key in story.mind.rows_of(into, story.now):
        row = story.mind.evolve(key, story.rows.get(key), into, story.now)
        story.rows.put(key, 1_000, row)
        story.mind.changed(story.state, key, row)
    for day in range(3):
        for n in range(14):
            story.ask("acme", f"d{day}-{n}")
        story.tick(60)
        story.now += timedelta(days=1)
    assert story.decided(ReserveChanged) == [], "what is wanted can be carried without it"
    of_box = {box: sorted(days.values()) for box, days in story.per_day().items()}
    assert of_box == {"box0@acme.test": [4, 4, 4], "box1@acme.test": [10, 10, 10]}


@pytest.mark.parametrize(("scope", "name"), [("mailbox", "box0@acme.test"), ("domain", "acme.test")])
def test_a_resting_mailbox_finishes_its_threads_and_begins_none(scope: Scope, name: str) -> None:
    story = FleetStory()
    story.fleet("acme", 1)
    story.policy("acme", rotation=Rotation(enabled=False))
    story.ask("acme", "first", thread_id="talk")
    story.tick(3)
    rest = RestBegan(ACME, scope, name, story.now + timedelta(days=2), Evidence("weekly rest", "test"))
    for key in story.mind.rows_of(rest, story.now):
        row = story.mind.evolve(key, story.rows.get(key), rest, story.now)
        story.rows.put(key, 1_000, row)
        story.mind.changed(story.state, key, row)
    story.ask("acme", "new")
    story.tick(3)
    story.ask("acme", "second", thread_id="talk")
    story.tick(3)
    assert [given_.ref.send_id for _, given_ in story.assigned] == ["first", "second"]
    story.now += timedelta(days=2)
    story.tick(3)
    assert [given_.ref.send_id for _, given_ in story.assigned][2:] == ["new"], "moved, not lost"


def test_the_forecast_is_that_of_the_ramp() -> None:
    ramp = ramp_of_mailbox(WarmUp(), 50)
    new, begun = SenderRow(), SenderRow(cap=20, ramp_from="2026-02-20")
    assert days_to_target(new, ramp, "2026-03-02") == 14, "growth alone takes eleven days, the ramp fourteen"
    assert days_to_target(begun, ramp, "2026-03-02") == 4
    assert days_between(20, 40, 1.0) == 20, "one more a day"
    rules = Policy(version="p", warm_up=WarmUp(growth=1.0))
    assert rotation.cost_of_idleness(7, rules) == "their caps are halved: 20 days of warm-up"


def test_a_client_in_warm_up_is_told_when_its_first_mailboxes_are_warm() -> None:
    story = FleetStory()
    story.fleet("acme", 4, daily_quota=50)
    story.policy("acme", warm_up=WarmUp(growth=1.0), reserve=Reserve(share=0.2))
    story.tick(2)
    (planned_,) = story.decided(CapacityPlanned)
    assert isinstance(planned_, CapacityPlanned)
    assert planned_.evidence.said == "4 mailboxes warm up, the first is ready in about 35 days"


# ── over days, with the whole mind ───────────────────────────────────────────────────────────────


def test_over_a_month_rests_reserve_and_alerts_are_decided_once_each_and_kept() -> None:
    client = ClientId("client0")
    facts: list[Fact] = list(declared_fleet(60, 3, 1))
    facts += [MailboxWarmed(client, f.mailbox, NOW, "before") for f in facts if isinstance(f, MailboxDeclared)]
    warm_up = WarmUp(target_per_day=30, domain_start_per_day=2000)
    rules = Policy(
        "p",
        warm_up=warm_up,
        rotation=Rotation(rest_share=0.2, capacity_floor_share=0.6),
        reserve=Reserve(share=0.1, trickle_per_day=4),
        lists=Lists(canary_sends=0),
    )
    facts.insert(1, PolicyApplied(client, rules, "lena"))
    monday = datetime(2026, 3, 2, tzinfo=UTC)
    simulation = Simulation(Scenario(tuple(facts), monday, 14, wishes={client: Wish(share_of_quota=0.6)}))
    for _ in simulation.run():
        pass
    rests = [(at, fact) for at, fact in simulation.decided if isinstance(fact, RestBegan)]
    assert len(rests) == len({(at.date(), fact.name) for at, fact in rests})
    assert len(rests) >= 8
    days = [fact for _, fact in simulation.decided if isinstance(fact, CapacityPlanned)]
    assert len({fact.day for fact in days}) == 14
    assert all(fact.evidence.numerator >= fact.evidence.threshold >= 972 for _, fact in rests), "0.6 of 54 × 30"
    moves = Counter(fact.now for _, fact in simulation.decided if isinstance(fact, ReserveChanged))
    assert moves["reserve"] >= 6
    assert not [fact for _, fact in simulation.decided if isinstance(fact, HealthChanged) and fact.scope == "client"]


def test_what_a_held_list_or_a_stopped_campaign_asks_for_calls_nobody_from_the_reserve() -> None:
    story = FleetStory()
    story.fleet("acme", 10, daily_quota=30, campaigns=("all", "other"))
    story.policy("acme", reserve=Reserve(share=0.3), lists=Lists(canary_sends=4), rotation=Rotation(enabled=False))
    waits = MailboxAddress("box0@acme.test")
    row = SenderRow(reserve=True)
    story.rows.put(sender_key("mailbox", ACME, waits), 1, row)
    story.state.put(sender_key("mailbox", ACME, waits), row)
    story.sees(StopOrdered("campaign", "acme/other", "lena"))
    for n in range(600):
        story.ask("acme", f"bought-{n}", list_id="bought")
        story.ask("acme", f"stopped-{n}", "other")
    story.tick(5)
    for _, given_ in story.assigned[:4]:
        story.sees(SendBounced(given_.ref, given_.attempt, REPLY, NOBODY))
    story.now += timedelta(hours=2)
    story.tick(2)
    assert story.state.list_row(ACME, "bought").state == "held"
    assert story.decided(ReserveChanged) == []
    planned_ = [f for f in story.decided(CapacityPlanned) if isinstance(f, CapacityPlanned)]
    assert {f.demand for f in planned_[1:]} <= {0, 4}
    assert not [f for f in planned_ if f.reserve == "exhausted"]


def test_the_same_state_of_the_reserve_wakes_nobody_twice() -> None:
    story = FleetStory()
    story.fleet("acme", 1)
    low = planned(fleet(1, 1), 100_000)
    first = alerts(story.state, [low])
    assert [type(fact) for fact in first] == [AlertRaised]
    for key in story.mind.rows_of(low, NOW):
        story.mind.changed(story.state, key, story.mind.evolve(key, None, low, NOW))
    assert alerts(story.state, [low]) == []
    calm = planned([*fleet(1, 9), waiting("r")], 1)
    assert [type(fact) for fact in alerts(story.state, [calm])] == [AlertResolved]
