"""Warm-up: a new mailbox begins small and grows on evidence alone, never faster than its bound."""

from collections import Counter
from datetime import date, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.fleet import MailboxWarmed
from schemas.health import SignCounted, WarmUpStepped
from schemas.ids import MailboxAddress
from schemas.policy import Lists, Policy, PolicyApplied, Rotation, WarmUp
from schemas.sending import (
    Carried,
    SendAdmitted,
    SendAssigned,
    SendBounced,
    SendCancelled,
    SendDelivered,
    SendWaits,
    Ticked,
)
from streams.delivery.verdict import verdict
from streams.fleet.mind import FleetMind
from streams.fleet.state import SenderRow
from streams.fleet.warmup import Ramp, ramp_of_domain, ramp_of_mailbox, step
from streams.fleet.windows import Counts
from tests.decisions.bounds import bounded
from tests.decisions.world import (
    ACME,
    ANNA,
    BERT,
    DAY,
    HOUR,
    MINUTE,
    NO_SUCH_USER,
    NOW,
    OWN,
    Ledger,
    client,
    domain,
    mailbox,
    request,
    route,
    was_accepted,
)

RULES = WarmUp(target_per_day=30)
CARRIED = Carried(ANNA, OWN)


def new_fleet(*boxes: MailboxAddress, rules: WarmUp = RULES, quota: int = 50) -> Ledger:
    """A client led by a policy, with mailboxes of whom nothing is known."""
    policy = Policy(version="test", warm_up=rules, rotation=Rotation(enabled=False), lists=Lists(canary_sends=0))
    led = Ledger(FleetMind()).given(client(), PolicyApplied(ACME, policy, "lena"), route(), domain())
    return led.given(*(mailbox(box, quota) for box in boxes or (ANNA,)))


def ask(led: Ledger, count: int, day: int) -> None:
    """Queue sends of a day."""
    at = max(led.at, NOW + day * DAY)
    for n in range(count):
        assert led.sees(SendAdmitted(request(f"d{day}-{n}", f"p{day}-{n}", at=at)), at)


def a_day(led: Ledger, day: int, *, asked: int = 60, deliver: bool = True) -> int:
    """Let a local day pass in which everything is accepted, and delivered at once; return how many left."""
    ask(led, asked, day)
    left, at = 0, max(led.at, NOW - 9 * HOUR + day * DAY)
    while at < NOW + 15 * HOUR + day * DAY:
        for fact in led.ticks(at):
            if isinstance(fact, SendAssigned):
                left += 1
                led.given(was_accepted(fact))
                carried = Carried(fact.sender.mailbox, OWN)
                if deliver:
                    led.given(SendDelivered(fact.ref, fact.attempt, "provider event", carried))
        at += 5 * MINUTE
    for key, row in list(led.rows.all()):
        if key[0] == "backlog" and getattr(row, "request", None) is not None:
            led.given(SendCancelled(row.request.ref, "test"))  # type: ignore[attr-defined]  # a BacklogRow that waits
    return left


def caps(led: Ledger, name: str = ANNA) -> list[int]:
    """The caps that were decided for a sender, in order."""
    return [f.now for _, f in led.facts() if isinstance(f, WarmUpStepped) and f.name == name]


def rules_of(led: Ledger, name: str = ANNA) -> list[str]:
    """Why they were decided."""
    return [f.evidence.rule for _, f in led.facts() if isinstance(f, WarmUpStepped) and f.name == name]


def test_a_new_mailbox_begins_at_five_and_comes_to_its_target_no_sooner_than_after_fourteen_days() -> None:
    led = new_fleet()
    sent = [a_day(led, day) for day in range(17)]
    assert sent == [5, 6, 7, 8, 10, 12, 15, 17, 19, 21, 22, 24, 26, 28, 30, 30, 30]
    assert caps(led)[:3] == [5, 6, 7]
    (first, second) = [f for _, f in led.facts() if isinstance(f, WarmUpStepped) and f.name == ANNA][:2]
    assert (first.was, first.anew, first.evidence.policy) == (0, True, "test")
    assert (second.day, second.evidence.numerator, second.evidence.denominator) == ("2026-03-03", 5, 5)


def test_a_mailbox_that_nobody_asks_to_send_does_not_grow() -> None:
    led = new_fleet()
    assert [a_day(led, day, asked=2) for day in range(5)] == [2] * 5
    assert caps(led) == [5]


def test_what_was_accepted_and_not_yet_delivered_proves_nothing() -> None:
    led = new_fleet()
    assert [a_day(led, day, deliver=False) for day in range(4)] == [5] * 4


def test_upstream_hears_that_warm_up_holds_a_send_back_until_the_next_day() -> None:
    led = new_fleet()
    ask(led, 8, 0)
    told: list[SendWaits] = []
    for minute in range(60):
        for fact in led.ticks(NOW + minute * MINUTE):
            if isinstance(fact, SendAssigned):
                led.given(was_accepted(fact))
            elif isinstance(fact, SendWaits):
                told.append(fact)
    assert ("warm_up", NOW + 15 * HOUR) in {(f.limit, f.earliest) for f in told}


def test_a_warmed_mailbox_begins_at_its_target() -> None:
    led = new_fleet()
    led.given(MailboxWarmed(ACME, ANNA, NOW - 90 * DAY, "import"))
    assert a_day(led, 0) == 30


def test_the_word_of_a_person_in_mid_warm_up_lifts_the_mailbox_to_its_target() -> None:
    led = new_fleet()
    assert a_day(led, 0) == 5
    led.given(MailboxWarmed(ACME, ANNA, NOW - 90 * DAY, "import"))
    assert a_day(led, 1) == 30


def test_a_mailbox_that_was_in_use_before_there_was_a_policy_goes_on_where_it_was() -> None:
    led = Ledger(FleetMind()).given(client(), route(), domain(), mailbox(quota=20))
    assert a_day(led, 0) == 20
    led.given(PolicyApplied(ACME, Policy(version="first", warm_up=RULES), "lena"))
    assert a_day(led, 1) == 20


def test_a_quota_below_the_target_is_the_target_and_a_switched_off_warm_up_bounds_nothing() -> None:
    led = new_fleet(quota=4)
    assert [a_day(led, day) for day in range(3)] == [4, 4, 4]
    assert a_day(new_fleet(rules=WarmUp(enabled=False), quota=50), 0) == 50


@pytest.mark.parametrize("sign", ["complaints", "blocks"])
def test_a_bad_sign_takes_the_cap_a_step_back(sign: str) -> None:
    counts = msgspec.structs.replace(Counts(15, 15, 15), **{sign: 1})
    row = SenderRow(cap=15, cap_day="2026-03-08", ramp_from="2026-03-02", since_step=counts)
    made = step(row, {"2026-03-08": 15}, ramp_of_mailbox(RULES, 50), RULES, "2026-03-09")
    assert made is not None
    assert (made.cap, made.rule) == (12, f"{sign.removesuffix('s')} during warm-up")


def test_one_hard_bounce_is_borne_and_two_are_not() -> None:
    led = new_fleet()
    a_day(led, 0)
    bounce = SendBounced(request().ref, 1, NO_SUCH_USER, verdict(NO_SUCH_USER), CARRIED)
    led.given(bounce)
    assert a_day(led, 1) == 6
    led.given(bounce, bounce)
    assert a_day(led, 2) == 5
    assert rules_of(led)[-1] == "hard bounces during warm-up"


@pytest.mark.parametrize(("bounces", "grows"), [(2, True), (3, False)])
def test_from_a_hundred_mails_on_two_percent_of_hard_bounces_are_borne(bounces: int, grows: bool) -> None:
    counts = Counts(120, 120, 110, bounces)
    row = SenderRow(cap=100, cap_day="2026-03-20", ramp_from="2026-03-02", since_step=counts)
    made = step(row, {"2026-03-20": 100}, ramp_of_domain(RULES, 0), RULES, "2026-03-21")
    assert made is not None
    assert (made.cap > row.cap) is grows


@pytest.mark.parametrize(("idle", "cap"), [(1, 30), (6, 30), (7, 15), (8, 15), (29, 15), (30, 5), (90, 5)])
def test_idleness_halves_after_seven_days_and_begins_anew_after_thirty(idle: int, cap: int) -> None:
    last = date(2026, 3, 2)
    row = SenderRow(cap=30, cap_day="2026-02-20", ramp_from="2026-02-01")
    for days in range(1, idle + 1) if idle < 40 else (idle,):  # looked at daily, or once at the end
        day = (last + timedelta(days=days)).isoformat()
        made = step(row, {"2026-03-02": 30}, ramp_of_mailbox(RULES, 50), RULES, day)
        if made is not None:
            ramp_from = day if made.anew else row.ramp_from
            row = msgspec.structs.replace(row, cap=made.cap, cap_day=day, ramp_from=ramp_from)
    assert row.cap == cap


def test_a_domain_has_a_cap_of_its_own() -> None:
    boxes = [MailboxAddress(f"m{n}@acme.test") for n in range(6)]
    led = new_fleet(*boxes, rules=WarmUp(domain_start_per_day=12))
    assert [a_day(led, day, asked=80) for day in range(3)] == [12, 15, 18]
    assert caps(led, "acme.test") == [12, 15, 18]


def test_a_step_is_said_once_and_only_with_what_rests_on_it() -> None:
    led = new_fleet(ANNA, BERT)
    ask(led, 1, 0)
    first = led.decides(Ticked(), NOW)
    assert led.ticks(NOW) == first
    assert [type(f).__name__ for f in first] == ["WarmUpStepped", "WarmUpStepped", "SendAssigned"]
    assert Counter(f.name for f in first if isinstance(f, WarmUpStepped)) == {"acme.test": 1, ANNA: 1}


# ── whatever happens ─────────────────────────────────────────────────────────────────────────────

DAYS = st.lists(
    st.tuples(st.integers(0, 40), st.builds(Counts, *(st.integers(0, n) for n in (60, 60, 60, 3, 1, 1)))), max_size=60
)


@bounded(200)
@given(DAYS, st.integers(1, 60), st.sampled_from([1.0, 1.1, 1.25, 2.0]))
def test_growth_never_exceeds_its_bound_and_never_passes_the_target(
    days: list[tuple[int, Counts]], quota: int, growth: float
) -> None:
    rules = msgspec.structs.replace(RULES, growth=growth)
    ramp: Ramp = ramp_of_mailbox(rules, quota)
    row, day, used = SenderRow(), date(2026, 3, 2), dict[str, int]()
    for pause, counts in days:
        day += timedelta(days=pause)
        made = step(row, used, ramp, rules, day.isoformat())
        if made is not None:
            assert 1 <= made.cap <= min(quota, rules.target_per_day)
            began = date.fromisoformat(row.ramp_from) if row.ramp_from else day
            if made.cap > row.cap and row.cap:
                assert row.cap_day < day.isoformat(), "once a day"
                assert made.cap <= max(row.cap + 1, int(row.cap * growth))
                assert row.since_step.complaints == row.since_step.blocks == 0
                assert row.since_step.delivered * 2 >= row.cap
                if (day - began).days < rules.days_at_least and ramp.target > ramp.start:
                    assert made.cap < ramp.target
            row = msgspec.structs.replace(
                row,
                cap=made.cap,
                cap_day=day.isoformat(),
                ramp_from=day.isoformat() if made.anew else row.ramp_from,
                since_step=Counts(),
            )
        row = msgspec.structs.replace(row, since_step=row.since_step.plus(counts))
        used = {day.isoformat(): counts.handed}


def test_signs_are_counted_for_all_who_sent() -> None:
    led = new_fleet()
    a_day(led, 0)
    for scope, name in (("mailbox", ANNA), ("domain", "acme.test"), ("route", OWN), ("client", "")):
        (bucketed,) = [led.row("sender", f"{scope}/acme/{name}")]
        total = Counts()
        for counts in bucketed.buckets.values():
            total = total.plus(counts)
        assert (total.handed, total.accepted, total.delivered) == (5, 5, 5)
    assert sum(isinstance(f, SignCounted) for _, f in led.facts()) == 10
