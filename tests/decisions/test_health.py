"""Health: who goes out of rotation by which evidence, for how long, and how it comes back."""

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ops
from schemas.fleet import DomainLeftOut, MailboxLeftOut
from schemas.health import (
    AlertRaised,
    AlertResolved,
    Evidence,
    HealthChanged,
    PauseOrdered,
    ResumeOrdered,
    Scope,
    Sign,
    SignCounted,
)
from schemas.ids import ClientId, DomainName, MailboxAddress, RouteId
from schemas.policy import Health, Policy, PolicyApplied, WarmUp
from schemas.reports import SendComplained
from schemas.sending import Carried, Reply, SendAdmitted, SendAssigned, SendBounced, SendDelivered
from schemas.topics import ALERTS
from streams.delivery.verdict import verdict
from streams.fleet.alerting import alerts
from streams.fleet.evolve import evolve
from streams.fleet.health import allowed, judge, moved, with_sign
from streams.fleet.mind import FleetMind
from streams.fleet.organisation import organisation_of
from streams.fleet.state import MailboxRow, SenderRow, sender_key
from streams.fleet.windows import Counts, counted, last_handed, since
from streams.log.rows import encode_row
from tests.decisions.bounds import bounded
from tests.decisions.fleet_story import FleetStory, accept, miss, refuse
from tests.decisions.world import (
    ACME,
    ANNA,
    BERT,
    DAY,
    HOUR,
    MINUTE,
    NOW,
    OWN,
    SECOND,
    Ledger,
    client,
    domain,
    mailbox,
    ref_of,
    request,
    route,
)

RULES = Health()
POLICY = Policy(version="test", warm_up=WarmUp(enabled=False))
UNUSUAL = Reply("zoho", "dot", 554, "5.4.6", "Unusual sending activity detected. Please try after sometime")
BLOCKED = Reply("memory", "rcpt", 550, "5.7.1", "Service unavailable; client host blocked using zen.spamhaus.org")


def bucket(at: datetime = NOW, **counts: int) -> dict[str, Counts]:
    """Return buckets with these counts, an hour or a day before `at` as one likes."""
    return counted({}, Counts(**counts), at)


def found(scope: Scope, at: datetime = NOW, **counts: int) -> tuple[str, str] | None:
    """Return what the rules say against counts of just now."""
    against = judge(scope, bucket(at, **counts), RULES, NOW)
    return None if against is None else (against.state, against.rule)


# ── the rules ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("scope", "sends", "bounces", "says"),
    [
        ("mailbox", 49, 10, None),  # no sample
        ("mailbox", 60, 2, None),  # 3.3 %, but two alone prove nothing
        ("mailbox", 100, 3, "unhealthy"),
        ("mailbox", 140, 3, "watched"),  # 2.1 %
        ("mailbox", 160, 3, None),
        ("domain", 100, 4, "watched"),
        ("domain", 100, 5, "unhealthy"),
        ("client", 1000, 50, "unhealthy"),
        ("route", 1000, 49, "watched"),
    ],
)
def test_a_hard_bounce_rate_needs_a_sample_and_an_absolute_number(
    scope: Scope, sends: int, bounces: int, says: str | None
) -> None:
    told = found(scope, handed=sends, hard_bounces=bounces)
    assert told == (None if says is None else (says, "hard bounce rate"))


def test_what_goes_bad_now_is_seen_in_the_last_sends_though_the_week_looks_well() -> None:
    buckets = counted(bucket(NOW - 3 * DAY, handed=5000), Counts(handed=200, hard_bounces=12), NOW)
    against = judge("domain", buckets, RULES, NOW)
    assert against is not None
    assert (against.state, against.window, against.numerator, against.denominator) == (
        "unhealthy",
        "last 200 sends",
        12,
        200,
    )


@pytest.mark.parametrize(
    ("scope", "delivered", "told", "complaints", "says"),
    [
        ("mailbox", 50, 0, 1, None),
        ("mailbox", 50, 0, 2, "unhealthy"),
        ("domain", 999, 999, 50, None),  # no sample yet
        ("domain", 5000, 0, 50, None),  # its providers report none: no data, not 0 %
        ("domain", 1000, 1000, 3, "unhealthy"),
        ("client", 3000, 3000, 3, "watched"),
        ("client", 4000, 4000, 3, None),
        ("route", 2000, 2000, 2, None),  # 0.1 %, but two alone prove nothing
    ],
)
def test_complaints_count_one_by_one_for_a_mailbox_and_as_a_rate_only_where_somebody_reports_them(
    scope: Scope, delivered: int, told: int, complaints: int, says: str | None
) -> None:
    counts = Counts(delivered, 0, delivered, 0, complaints, 0, 0, told, complaints if told else 0)
    seen = judge(scope, counted({}, counts, NOW), RULES, NOW)
    assert (seen and seen.state) == says


@pytest.mark.parametrize(
    ("scope", "blocks", "ago", "says"),
    [
        ("mailbox", 1, MINUTE, "watched"),
        ("mailbox", 2, MINUTE, "unhealthy"),
        ("mailbox", 2, 80 * MINUTE, None),
        ("domain", 2, MINUTE, None),
        ("domain", 3, MINUTE, "unhealthy"),
        ("client", 9, MINUTE, None),
    ],
)
def test_blocks_count_for_an_hour(scope: Scope, blocks: int, ago: timedelta, says: str | None) -> None:
    seen = found(scope, NOW - ago, handed=20, blocks=blocks)
    assert (None if seen is None else seen[0]) == says


@pytest.mark.parametrize(
    ("scope", "asked", "deferred", "says", "share"),
    [
        ("mailbox", 9, 9, None, 1.0),
        ("mailbox", 20, 2, None, 1.0),
        ("mailbox", 30, 3, "watched", 1.0),
        ("mailbox", 12, 3, "watched", 0.5),
        ("domain", 12, 6, "unhealthy", 1.0),
        ("route", 12, 12, "watched", 0.5),
    ],
)
def test_deferrals_slow_a_sender_down(scope: Scope, asked: int, deferred: int, says: str | None, share: float) -> None:
    against = judge(scope, bucket(handed=asked, deferrals=deferred), RULES, NOW)
    assert (against and against.state) == says
    assert against is None or against.share == share


def test_the_gravest_finding_counts_and_what_a_person_must_end_is_the_gravest() -> None:
    against = judge("mailbox", bucket(handed=100, hard_bounces=50, complaints=2, blocks=5), RULES, NOW)
    assert against is not None
    assert (against.rule, against.hours) == ("complaints", 0)


# ── a client's story ─────────────────────────────────────────────────────────────────────────────


def led_by(policy: Policy = POLICY) -> Ledger:
    """A client with two mailboxes, warm."""
    made = Ledger(FleetMind()).given(client(), PolicyApplied(ACME, policy, "lena"), route(), domain())
    return made.given(mailbox(), mailbox(BERT))


def complaint(box: MailboxAddress = ANNA) -> SendComplained:
    return SendComplained(ref_of(), 1, "webhook", carried=Carried(box, OWN))


def bounce(reply: Reply, box: MailboxAddress = ANNA) -> SendBounced:
    return SendBounced(ref_of(), 1, reply, verdict(reply), Carried(box, OWN))


def changes(led: Ledger, name: str = ANNA) -> list[tuple[str, str, str]]:
    """The changes of a sender's state: (was, now, rule)."""
    return [(f.was, f.now, f.evidence.rule) for _, f in led.facts() if isinstance(f, HealthChanged) and f.name == name]


def senders(led: Ledger, count: int = 6) -> Counter[str]:
    """Who gets sends that are asked now."""
    for n in range(count):
        led.sees(SendAdmitted(request(f"x{led.seq}-{n}", at=led.at)))
    return Counter(f.sender.mailbox for f in led.ticks(led.at + SECOND) if isinstance(f, SendAssigned))


def test_two_complaints_take_a_mailbox_out_until_a_person_lets_it_back_into_probation() -> None:
    led = led_by().given(complaint())
    assert senders(led) == {ANNA: 1, BERT: 1}
    led = led_by().given(complaint(), complaint())
    (change,) = [f for _, f in led.facts() if isinstance(f, HealthChanged)]
    assert (change.scope, change.now, change.until) == ("mailbox", "unhealthy", None)
    assert (change.evidence.policy, change.evidence.numerator, change.evidence.threshold) == ("test", 2, 2)
    assert senders(led) == {BERT: 1}
    led.ticks(NOW + 30 * DAY)
    assert led.row(*sender_key("mailbox", ACME, ANNA)).state == "unhealthy"
    led.given(ResumeOrdered(ACME, "mailbox", ANNA, "lena", "the list is gone"))
    assert changes(led)[-1] == ("unhealthy", "probation", "resumed by an operator")
    assert ANNA in senders(led)


def test_a_resume_does_not_blind_the_rules_and_old_evidence_does_not_trip_again() -> None:
    led = led_by().given(complaint(), complaint())
    led.given(ResumeOrdered(ACME, "mailbox", ANNA, "lena", "looked at"))
    led.given(SendDelivered(ref_of(), 1, "event", Carried(ANNA, OWN)))
    assert led.row(*sender_key("mailbox", ACME, ANNA)).state == "probation"
    led.given(complaint())
    assert changes(led)[-1] == ("probation", "unhealthy", "complaint in probation")
    assert BERT in senders(led)


def test_a_probation_lets_few_mails_go_and_ends_with_enough_that_arrived() -> None:
    row = SenderRow(state="probation")
    assert allowed(50, row, RULES) == 3
    for accepted, delivered, goes_on in ((6, 5, True), (0, 60, True), (6, 6, False)):
        counts = Counts(accepted, accepted=accepted, delivered=delivered)
        tried = msgspec.structs.replace(row, buckets=counted({}, counts, NOW))
        change = moved(ACME, "mailbox", ANNA, tried, POLICY, NOW)
        assert (change is None) is goes_on, "what arrives now may have left long before"
        assert change is None or (change.now, change.evidence.rule) == ("active", "probation passed")


def test_a_trip_word_acts_at_once_and_waits_for_a_person() -> None:
    led = led_by().given(bounce(UNUSUAL))
    row = led.row(*sender_key("mailbox", ACME, ANNA))
    assert (row.state, row.until, row.rule) == ("unhealthy", None, verdict(UNUSUAL).rule)
    assert senders(led) == {BERT: 1}
    before = led.seq
    led.given(bounce(UNUSUAL))
    assert len(changes(led)) == 1, "it is out already"
    assert led.seq == before + 1


def test_blocks_of_an_hour_end_by_themselves_in_probation() -> None:
    led = led_by().given(bounce(BLOCKED), bounce(BLOCKED))
    assert changes(led) == [("active", "watched", "blocks"), ("watched", "unhealthy", "blocks")]
    assert senders(led) == {BERT: 1}
    led.ticks(NOW + 25 * HOUR)
    assert changes(led)[-1] == ("unhealthy", "probation", "time is over")


def test_a_watched_sender_is_active_again_when_no_rule_stands_against_it() -> None:
    led = led_by().given(bounce(BLOCKED))
    assert allowed(50, led.row(*sender_key("mailbox", ACME, ANNA)), RULES) == 25
    at = NOW
    while at < NOW + 2 * HOUR:
        led.ticks(at)
        at += MINUTE
    assert changes(led)[-1][:2] == ("watched", "active")


def test_a_sick_domain_takes_all_its_mailboxes_with_it_and_its_sub_domains_share_its_totals() -> None:
    led = led_by().given(domain(domain="mail.acme.test"), mailbox(MailboxAddress("cara@mail.acme.test")))
    for box in (ANNA, BERT, MailboxAddress("cara@mail.acme.test")):
        led.given(bounce(BLOCKED, box))
    assert changes(led, "acme.test") == [("active", "unhealthy", "blocks")]
    assert senders(led) == {}


def test_an_operators_pause_holds_until_the_resume_and_both_bear_names() -> None:
    led = led_by().given(PauseOrdered(ACME, "client", "", "lena", "holiday"))
    assert senders(led) == {}
    assert led.sees(PauseOrdered(ACME, "client", "", "ola", "again")) == []
    led.given(ResumeOrdered(ACME, "client", "", "ola", "back"))
    assert changes(led, "") == [
        ("active", "unhealthy", "paused by an operator"),
        ("unhealthy", "active", "resumed by an operator"),
    ]
    assert [f.evidence.said for _, f in led.facts() if isinstance(f, HealthChanged)] == ["lena: holiday", "ola: back"]
    assert senders(led)
    assert led.sees(ResumeOrdered(ACME, "client", "", "ola", "again")) == []


def test_a_route_that_is_out_of_rotation_carries_nothing() -> None:
    led = led_by().given(PauseOrdered(ACME, "route", OWN, "lena", "bill"))
    assert senders(led) == {}


def test_what_was_left_out_before_there_were_states_is_out_until_its_time() -> None:
    mind = FleetMind()
    for fact, scope, name in (
        (MailboxLeftOut(ACME, ANNA, NOW + HOUR, "login-refused", "535"), "mailbox", ANNA),
        (DomainLeftOut(ACME, DomainName("acme.test"), NOW + HOUR, "dkim", "550"), "domain", "acme.test"),
    ):
        (key,) = mind.rows_of(fact, NOW)
        assert key == sender_key(scope, ACME, name)  # type: ignore[arg-type]  # a Scope
        row = evolve(key, None, fact, NOW)
        assert isinstance(row, SenderRow)
        assert (row.state, row.until, row.then) == ("unhealthy", NOW + HOUR, "active")


def test_a_bad_list_spread_over_a_hundred_mailboxes_trips_the_totals_though_no_mailbox_looks_bad() -> None:
    bad, good = refuse("recipient", "hard", "suppress"), accept
    count = iter(range(10**6))
    story = FleetStory(settle=lambda a: bad(a) if next(count) % 10 == 0 else good(a))
    story.fleet("acme", 100)
    story.fleet("birch", 100)
    for n in range(400):
        story.ask("acme", f"a-{n}")
    story.tick(4)
    out = {(f.scope, f.name) for f in story.decided(HealthChanged) if isinstance(f, HealthChanged)}
    assert {("domain", "acme.test"), ("client", ""), ("route", "own")} <= out
    assert not any(scope == "mailbox" for scope, _ in out)
    sent = len(story.assigned)
    assert sent < 300, "the rest of the list stays here"
    story.settle = good
    story.ask("birch", "b-1")
    story.tick(5)
    assert [a.ref.client for _, a in story.assigned[sent:]] == ["birch"]


# ── what comes late, and what is tried again ─────────────────────────────────────────────────────


def after_a_day(scope: Scope, bounced_at_once: int = 0) -> SenderRow:
    """A sender that had 100 mails an hour taken from 9 to 17 o'clock."""
    row = SenderRow()
    for hour in range(8):
        at = NOW.replace(hour=9, minute=5) + hour * HOUR
        for n in range(100):
            sign: Sign = "hard_bounce" if n < bounced_at_once else "accepted"
            row = with_sign(row, scope, SignCounted(ACME, ANNA, OWN, sign), at)
    return row


def late_bounces(row: SenderRow, count: int, hours: int, at: datetime) -> tuple[SenderRow, list[str]]:
    """Let mails that left in the first so many hours of the day bounce at `at`; return what followed."""
    said: list[str] = []
    for n in range(count):
        sent_at = NOW.replace(hour=9 + n % hours, minute=5)
        sign = SignCounted(ACME, ANNA, OWN, "hard_bounce", late=True, sent_at=sent_at)
        row = with_sign(row, "client", sign, at)
        change = moved(ACME, "client", "", row, POLICY, at, sent_at)
        said += [] if change is None else [f"{change.now}: {change.evidence.window}"]
    return row, said


def test_bounces_that_come_at_night_are_those_of_a_days_mail_and_not_of_its_last_sends() -> None:
    night = NOW.replace(hour=21, minute=30)
    row, said = late_bounces(after_a_day("client"), 15, 8, night)  # 1.9 % of 800
    assert said == []
    assert judge("client", row.buckets, RULES, night + 12 * HOUR) is None
    counted_anew = [sum(c.hard_bounces for k, c in row.buckets.items() if k[11:13] == f"{h:02}") for h in (9, 16, 21)]
    assert counted_anew == [2, 1, 0]


def test_a_bad_list_whose_bounces_all_come_late_is_seen_in_the_sends_that_it_was() -> None:
    _, said = late_bounces(after_a_day("client"), 12, 2, NOW.replace(hour=18, minute=30))  # 6 % of 200, 1.5 % of all
    assert said[0].startswith("unhealthy: last 200 sends until 2026-03-02 ")


def test_what_was_sent_before_a_probation_says_nothing_in_it_or_after_it() -> None:
    row = SenderRow(state="probation", since=NOW, counts_from=NOW)
    for sign in ("complaint", "hard_bounce"):
        old = SignCounted(ACME, ANNA, OWN, sign, late=True, sent_at=NOW - HOUR)  # a Sign
        assert with_sign(row, "mailbox", old, NOW + HOUR).buckets == {}
        back = msgspec.structs.replace(row, state="active", since=NOW + DAY)
        assert with_sign(back, "mailbox", old, NOW + 2 * DAY).buckets == {}
        new = msgspec.structs.replace(old, sent_at=NOW + HOUR)
        assert with_sign(row, "mailbox", new, NOW + 2 * HOUR).buckets


@pytest.mark.parametrize(
    ("scope", "counts", "now"),
    [
        ("mailbox", {"handed": 3, "complaints": 1}, "unhealthy"),
        ("mailbox", {"handed": 3, "blocks": 1}, "unhealthy"),
        ("mailbox", {"handed": 3, "hard_bounces": 2}, "unhealthy"),
        ("client", {"handed": 400, "complaints": 2, "blocks": 2, "hard_bounces": 2}, None),
        ("client", {"handed": 400, "complaints": 3}, "unhealthy"),
        ("domain", {"handed": 400, "blocks": 3}, "unhealthy"),
        ("client", {"handed": 400, "hard_bounces": 20}, None),
        ("client", {"handed": 400, "hard_bounces": 21}, "unhealthy"),
        ("client", {"handed": 30, "hard_bounces": 3}, "unhealthy"),
    ],
)
def test_what_is_many_mailboxes_bears_a_little_in_its_probation(
    scope: Scope, counts: dict[str, int], now: str | None
) -> None:
    row = SenderRow(state="probation", since=NOW, counts_from=NOW, buckets=bucket(NOW, **counts))
    change = moved(ACME, scope, "", row, POLICY, NOW + HOUR)
    assert (change and change.now) == now


def test_a_send_that_is_deferred_five_times_counts_once_in_the_rate_of_deferrals() -> None:
    row = SenderRow()
    for n, sign in enumerate(["deferral"] * 5 + ["accepted"]):
        row = with_sign(row, "mailbox", SignCounted(ACME, ANNA, OWN, sign, again=n > 0), NOW)  # type: ignore[arg-type]
    counts = since(row.buckets, NOW - HOUR)
    assert (counts.deferrals, counts.handed - counts.again, counts.handed - counts.deferrals) == (1, 1, 1)
    against = judge("mailbox", bucket(handed=15, deferrals=3, again=3), RULES, NOW)  # 12 sends, 3 of them tried twice
    assert against is not None
    assert (against.numerator, against.denominator, against.share) == (3, 12, 0.5)


def test_the_rate_of_deferrals_is_one_of_sends_whatever_their_first_attempts_came_to() -> None:
    tries: Counter[str] = Counter()
    later, missed = refuse("network", "soft", "retry", 450), miss

    def settle(given: SendAssigned) -> Any:
        tries[given.ref.send_id] += 1
        if given.ref.send_id == "a-0":
            return missed(given) if tries["a-0"] == 1 else later(given)
        return accept(given)

    story = FleetStory(settle=settle)
    story.fleet("acme", 20)
    for n in range(20):
        story.ask("acme", f"a-{n}")
    story.tick(120)
    assert tries["a-0"] == 6
    row = story.state.sender("client", ClientId("acme"), "")
    counts = since(row.buckets, story.now - HOUR)
    assert (counts.deferrals, counts.handed - counts.again) == (1, 20)
    assert not [f for f in story.decided(HealthChanged) if f.scope != "mailbox"]  # type: ignore[attr-defined]


# ── alerts ───────────────────────────────────────────────────────────────────────────────────────


def test_a_change_that_matters_wakes_a_person_and_its_end_is_told() -> None:
    led = led_by().given(complaint(), complaint())
    led.given(ResumeOrdered(ACME, "mailbox", ANNA, "lena", "looked at"))
    well = HealthChanged(ACME, "mailbox", ANNA, "probation", "active", Evidence("probation passed", "test"))
    (raised,) = [f for _, f in led.facts() if isinstance(f, AlertRaised | AlertResolved)]
    (resolved,) = alerts(led.state, [well])
    assert isinstance(raised, AlertRaised)
    assert isinstance(resolved, AlertResolved)
    assert raised.alert == resolved.alert == f"mailbox_health/{ANNA}"
    assert (raised.severity, raised.title) == ("warning", f"mailbox {ANNA} is out of rotation: complaints")
    assert raised.detail == (
        f"2 in 7 days, against 2. (policy test) It comes back by `mailfleet resume mailbox {ANNA}`."
    )
    assert (Path(ops.__file__).parent / "runbooks" / f"{raised.runbook}.md").exists()
    (out,) = led.mind.forwards(raised, NOW)
    assert (out.topic, out.key, out.fact) == (ALERTS, b"acme", raised)


def test_a_watched_mailbox_wakes_nobody() -> None:
    led = led_by().given(bounce(BLOCKED))
    assert changes(led) == [("active", "watched", "blocks")]
    assert not [f for _, f in led.facts() if isinstance(f, AlertRaised | AlertResolved)]


# ── windows ──────────────────────────────────────────────────────────────────────────────────────


def test_an_organisational_domain_is_that_of_the_registry() -> None:
    names = {"acme.com": "acme.com", "mail.acme.com": "acme.com", "a.b.acme.co.uk": "acme.co.uk", "acme.de": "acme.de"}
    assert {name: organisation_of(DomainName(name)) for name in names} == names
    assert organisation_of(DomainName("co.de")) == "co.de"


@bounded(60)
@given(st.lists(st.tuples(st.integers(0, 7 * 24 * 60), st.integers(1, 9)), max_size=80))
def test_buckets_lose_nothing_of_a_week_and_stay_few(steps: list[tuple[int, int]]) -> None:
    buckets: dict[str, Counts] = {}
    at, told = NOW, list[tuple[datetime, int]]()
    for minutes, handed in steps:
        at += timedelta(minutes=minutes)
        buckets = counted(buckets, Counts(handed=handed), at)
        told.append((at, handed))
        for window in (HOUR, 7 * DAY):
            exact = sum(n for when, n in told if when >= at - window)
            slack = sum(n for when, n in told if when >= at - window - (10 * MINUTE if window == HOUR else DAY))
            assert exact <= since(buckets, at - window).handed <= slack
        assert last_handed(buckets, at - 7 * DAY, 1).handed >= handed
        assert len(buckets) <= 9 + 26 + 15


def test_a_row_that_counts_every_minute_for_weeks_stays_small() -> None:
    row, at = SenderRow(rule="x" * 100), NOW
    sign = SignCounted(ACME, ANNA, RouteId("own"), "deferral")
    for _ in range(9 * 24 * 30):
        at += 2 * MINUTE
        row = with_sign(row, "mailbox", sign, at)
    assert len(encode_row(10**9, row)) < 4_000


# ── whatever happens ─────────────────────────────────────────────────────────────────────────────

SIGNS: tuple[Sign, ...] = ("accepted", "delivered", "hard_bounce", "complaint", "block", "deferral", "refusal")
GRAVE: tuple[Any, ...] = (complaint, lambda box: bounce(UNUSUAL, box), lambda box: bounce(BLOCKED, box))


def hard_life(seed: int, length: int) -> tuple[FleetStory, list[str]]:
    """A fleet of two domains in which everything happens; nobody who is out may be assigned, no cap be passed."""
    chance, story = Random(seed), FleetStory()
    client_, wrong = ClientId("acme"), list[str]()
    rules = WarmUp(start_per_day=2, target_per_day=6, domain_start_per_day=8)
    story.fleet("acme", 4, daily_quota=6)
    story.domain("acme", "two.test")
    story.boxes("acme", "two.test", 3, daily_quota=6)
    story.sees(PolicyApplied(client_, Policy(version="p", warm_up=rules), "lena"))
    boxes = [MailboxAddress(f"box{n}@acme.test") for n in range(4)] + [
        MailboxAddress(f"box{n}@two.test") for n in range(3)
    ]
    settles = (
        accept,
        accept,
        accept,
        refuse("recipient", "hard", "suppress"),
        refuse("mailbox", "auth", "pause"),
        refuse("network", "block", "retry"),
        refuse("network", "soft", "retry"),
    )
    for n in range(length):
        box = chance.choice(boxes)
        match chance.randrange(12):
            case 0:
                story.sees(
                    msgspec.structs.replace(
                        chance.choice(GRAVE)(box), ref=msgspec.structs.replace(ref_of(), client=client_)
                    )
                )
            case 1:
                scope, name = chance.choice(
                    (("mailbox", box), ("domain", "two.test"), ("client", ""), ("route", "own"))
                )
                order = chance.choice((PauseOrdered, ResumeOrdered, ResumeOrdered))
                story.sees(order(client_, scope, name, "lena", "so"))  # type: ignore[arg-type]  # a Scope
            case 2:
                story.now += chance.choice((HOUR, 5 * HOUR, DAY, 8 * DAY))
            case 3:
                story.reopen()
            case 4 | 5:
                story.sees(
                    SendDelivered(msgspec.structs.replace(ref_of(), client=client_), 1, "event", Carried(box, OWN))
                )
            case _:
                story.ask("acme", f"s-{n}")
        story.settle = chance.choice(settles)
        already = len(story.assigned)
        story.tick()
        wrong += _passed(story, already)
    return story, wrong


def _passed(story: FleetStory, already: int) -> list[str]:
    """Return what was done against a state or a quota since; a state that came in at this second is too new."""
    wrong = []
    for _, given_ in story.assigned[already:]:
        box = given_.sender.mailbox
        names: tuple[tuple[Scope, str], ...] = (
            *(("mailbox", box), ("domain", box.rpartition("@")[2])),
            *(("client", ""), ("route", given_.call.route)),
        )
        for scope, name in names:
            sender = story.state.sender(scope, ClientId("acme"), name)
            if sender.state == "unhealthy" and sender.since is not None and sender.since < story.now:
                wrong.append(f"{name} is {sender.state} and was assigned")
            if scope == "mailbox" and sender.cap and sender.since != story.now:
                most = allowed(min(sender.cap, 6), sender, RULES)
                box_row = story.state.mailbox(box)
                if box_row is not None and box_row.used[given_.quota_day] > most:
                    wrong.append(f"{box} sent {box_row.used[given_.quota_day]} of {most}")
            domain_row = story.state.domain(ClientId("acme"), DomainName(name)) if scope == "domain" else None
            if domain_row is not None and sender.cap and domain_row.used[given_.quota_day] > sender.cap:
                wrong.append(f"{name} passed its cap")
    for (_, id_), row in story.rows.all():
        if isinstance(row, MailboxRow) and max(row.used.values(), default=0) > 6:
            wrong.append(f"{id_} passed its quota: {row.used}")
        if len(encode_row(1, row)) > 20_000:
            wrong.append(f"{id_} is large")
    return wrong


@bounded(25)
@given(st.integers(0, 2**32), st.integers(20, 90))
def test_no_suspended_sender_is_assigned_and_no_cap_is_passed_whatever_happens(seed: int, length: int) -> None:
    _, wrong = hard_life(seed, length)
    assert wrong == []


@bounded(15)
@given(st.integers(0, 2**32), st.integers(20, 60))
def test_a_fold_of_the_facts_gives_the_same_senders(seed: int, length: int) -> None:
    story, _ = hard_life(seed, length)
    again: dict[Any, Any] = {}
    for at, fact in story.journal:
        for key in story.mind.rows_of(fact, at):
            again[key] = story.mind.evolve(key, again.get(key), fact, at)
    assert again == dict(story.rows.all())


def test_moving_is_decided_by_the_row_alone_and_a_move_moves() -> None:
    chance = Random(7)
    for _ in range(2_000):
        row, at = SenderRow(), NOW
        for _ in range(chance.randrange(12)):
            at += chance.choice((MINUTE, HOUR, DAY))
            sign = SignCounted(ACME, ANNA, OWN, chance.choice(SIGNS), late=bool(chance.randrange(2)))
            row = with_sign(row, "mailbox", sign, at)
        change = moved(ACME, "mailbox", ANNA, row, POLICY, at)
        assert change is None or change.now != change.was


# ── a way back blinds no rule ────────────────────────────────────────────────────────────────────


def test_what_came_in_during_a_pause_counts_at_the_resume() -> None:
    led = led_by().given(PauseOrdered(ACME, "mailbox", ANNA, "lena", "new password"))
    led.given(complaint(), complaint(), complaint())
    assert len(changes(led)) == 1, "it is out already, until a person lets it back"
    led.given(ResumeOrdered(ACME, "mailbox", ANNA, "lena", "new password is set"))
    (change,) = [f for _, f in led.facts() if isinstance(f, HealthChanged)][1:]
    assert (change.was, change.now) == ("unhealthy", "probation")
    assert (change.evidence.rule, change.evidence.numerator, change.evidence.threshold) == ("complaints", 3, 2)
    assert change.evidence.said == "resumed by an operator, lena: new password is set"


def test_a_pause_and_a_resume_do_not_let_a_watched_sender_off() -> None:
    led = led_by().given(bounce(BLOCKED))
    assert changes(led) == [("active", "watched", "blocks")]
    led.given(PauseOrdered(ACME, "mailbox", ANNA, "lena", "so"), ResumeOrdered(ACME, "mailbox", ANNA, "lena", "so"))
    row = led.row(*sender_key("mailbox", ACME, ANNA))
    assert (row.state, row.share) == ("watched", 0.5)
    at = NOW
    while at < NOW + 2 * HOUR:
        led.ticks(at)
        at += MINUTE
    assert changes(led)[-1][:2] == ("watched", "active")


def test_a_time_out_that_ends_by_itself_does_not_forget_what_came_in_meanwhile() -> None:
    row = SenderRow(
        state="unhealthy",
        since=NOW,
        until=NOW + HOUR,
        then="active",
        rule="login refused",
        buckets=counted({}, Counts(100, accepted=90, hard_bounces=10), NOW),
    )
    change = moved(ACME, "mailbox", ANNA, row, POLICY, NOW + HOUR)
    assert change is not None
    assert (change.now, change.evidence.rule, change.evidence.numerator) == ("probation", "hard bounce rate", 10)
    assert change.evidence.said.startswith("time is over, out since")
