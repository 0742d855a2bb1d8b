"""What the fleet stage decides: who sends what, when, and why not yet. Facts in, facts and rows out."""

from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest

from schemas.fleet import (
    ClientDeclared,
    CostDeclared,
    DomainDeclared,
    MailboxDeclared,
    Pace,
    RouteFailed,
    RouteRecovered,
)
from schemas.health import AlertRaised, AlertResolved, HealthChanged, SignCounted
from schemas.ids import CampaignId, ClientId, DomainName, MailboxAddress, RouteId, SendId
from schemas.registry import Fact
from schemas.sending import (
    CancelNoted,
    CancelOrdered,
    CancelRequested,
    Reply,
    SendAdmitted,
    SendAssigned,
    SendAssumedSent,
    SendCancelled,
    SendEnded,
    SendExpired,
    SendGivenUp,
    SendLapsed,
    SendQueued,
    SendRequested,
    SendRequeued,
    SendTurnedAway,
    SendWaits,
    SendWithdrawn,
    Ticked,
)
from schemas.topics import DELIVERY_INPUTS
from streams.fleet.mind import FleetMind
from streams.fleet.pace import gap, local_day
from tests.decisions.world import (
    ACME,
    ALL_DAY,
    ANNA,
    BERT,
    DAY,
    GREYLISTED,
    HOUR,
    LOGIN_REFUSED,
    MINUTE,
    NO_SUCH_USER,
    NOW,
    OWN,
    POLICY,
    SECOND,
    TRY_LATER,
    Ledger,
    client,
    domain,
    is_unknown,
    mailbox,
    ref_of,
    request,
    route,
    was_accepted,
    was_missed,
    was_not_sent,
    was_refused,
)

Settle = Callable[[SendAssigned], Fact]
CARA = MailboxAddress("cara@acme.test")
GAP = timedelta(seconds=ALL_DAY.gap_seconds)
ASIDE = (SendWaits, HealthChanged, AlertRaised, AlertResolved)
BACK_OFF = timedelta(seconds=ALL_DAY.first_retry_seconds)


def fleet(*boxes: MailboxDeclared, pace: Pace = ALL_DAY, at: datetime = NOW) -> Ledger:
    """A client with these mailboxes, by default Anna's alone."""
    return Ledger(FleetMind(), at).given(client(pace), route(), domain(), *(boxes or (mailbox(),)))


def admit(led: Ledger, *requests: SendRequested) -> None:
    """Queue requests, by default "s1"."""
    for asked in requests or (request(),):
        assert led.sees(SendAdmitted(asked), asked.requested_at) == [SendQueued(asked)]


def plan(led: Ledger, at: datetime) -> list[SendAssigned]:
    """Let a second pass and return what is assigned; nothing else may come of it."""
    given = [fact for fact in led.ticks(at) if not isinstance(fact, ASIDE)]
    assert all(isinstance(fact, SendAssigned) for fact in given), given
    return [fact for fact in given if isinstance(fact, SendAssigned)]


def one(led: Ledger, at: datetime) -> SendAssigned:
    """Let a second pass and return the one assignment."""
    (given,) = plan(led, at)
    return given


def quiet(led: Ledger, start: datetime, end: datetime, step: timedelta = MINUTE) -> None:
    """Let time pass; nothing may be assigned."""
    at = start
    while at < end:
        assert plan(led, at) == [], at
        at += step


def follows(led: Ledger, fact: Fact, at: datetime | None = None) -> list[Fact]:
    """See a fact and return what is decided of sends and routes; what is counted of senders is another matter."""
    return [made for made in led.sees(fact, at) if not isinstance(made, SignCounted | AlertRaised | AlertResolved)]


def used(led: Ledger, box: MailboxAddress = ANNA) -> dict[str, int]:
    """The mailbox's quota, held or spent, per local day."""
    counts: dict[str, int] = led.row("mailbox", box).used
    return {day: count for day, count in counts.items() if count}


def names(given: Iterable[SendAssigned]) -> list[tuple[str, str]]:
    return [(g.ref.send_id, g.sender.mailbox) for g in given]


# ── the fleet file ───────────────────────────────────────────────────────────────────────────────

DECLARATIONS: list[Fact] = [
    *(client(), route(), mailbox(), DomainDeclared(ACME, DomainName("acme.test"))),
    CostDeclared(ACME, "domains", 3.5, "a price list", date(2026, 11, 1)),
]


@pytest.mark.parametrize("fact", DECLARATIONS)
def test_a_declaration_is_taken_once(fact: Fact) -> None:
    led = Ledger(FleetMind())
    assert led.sees(fact) == [fact]
    assert led.sees(fact) == []


def test_a_declaration_that_differs_replaces_the_old_one_and_keeps_what_a_mailbox_has_used() -> None:
    led = fleet()
    admit(led)
    first = one(led, NOW)
    assert led.sees(mailbox(quota=7)) == [mailbox(quota=7)]
    row = led.row("mailbox", ANNA)
    assert row.declared.daily_quota == 7
    assert row.used == {"2026-03-02": 1}
    assert follows(led, was_accepted(first))


def test_a_mailbox_that_is_switched_off_gets_no_more_and_one_that_is_switched_on_does() -> None:
    led = fleet(mailbox(active=False))
    admit(led)
    quiet(led, NOW, NOW + 5 * MINUTE)
    led.given(mailbox(active=True))
    assert names([one(led, NOW + 5 * MINUTE)]) == [("s1", ANNA)]


def test_a_send_waits_until_its_mailboxes_route_is_declared() -> None:
    led = Ledger(FleetMind()).given(client(), domain(), mailbox())
    admit(led)
    quiet(led, NOW, NOW + 5 * MINUTE)
    led.given(route())
    when, given = NOW + 5 * MINUTE, list[SendAssigned]()
    while not given and when < NOW + 8 * MINUTE:
        when += SECOND
        given = plan(led, when)
    assert names(given) == [("s1", ANNA)]


# ── admission to the backlog ─────────────────────────────────────────────────────────────────────


def test_an_admitted_send_is_queued_once() -> None:
    led = fleet()
    assert led.sees(SendAdmitted(request())) == [SendQueued(request())]
    assert led.sees(SendAdmitted(request())) == []
    assert led.row("backlog", "acme/s1").state == "admitted"


def test_a_send_of_an_unknown_client_is_turned_away() -> None:
    (away,) = Ledger(FleetMind()).sees(SendAdmitted(request()))
    assert isinstance(away, SendTurnedAway)
    assert (away.reason, away.content) == ("unknown_client", request().content)


def test_a_send_of_an_unknown_campaign_is_turned_away() -> None:
    (away,) = fleet().sees(SendAdmitted(request(campaign=CampaignId("other"))))
    assert isinstance(away, SendTurnedAway)
    assert away.reason == "unknown_campaign"


@pytest.mark.parametrize("ended", [False, True])
def test_a_send_id_that_was_used_for_another_recipient_is_turned_away_also_after_its_end(ended: bool) -> None:
    led = fleet()
    admit(led)
    if ended:
        led.given(was_accepted(one(led, NOW)))
    (away,) = led.sees(SendAdmitted(request(recipient="rolf")))
    assert isinstance(away, SendTurnedAway)
    assert (away.reason, away.ref.recipient) == ("invalid", ref_of(recipient="rolf").recipient)
    assert led.row("backlog", "acme/s1").recipient == ref_of().recipient


def test_the_end_of_a_send_that_was_turned_away_does_not_end_the_other_recipients_send() -> None:
    led = fleet()
    admit(led)
    assert led.sees(SendWithdrawn(ref_of(recipient="rolf"), "invalid", "")) == []
    assert names([one(led, NOW)]) == [("s1", ANNA)]


# ── assignment ───────────────────────────────────────────────────────────────────────────────────


def test_an_assignment_carries_all_that_a_hand_needs() -> None:
    led = fleet(msgspec.structs.replace(mailbox(secret_ref="file:anna"), name="Anna A"))
    admit(led)
    given = one(led, NOW + SECOND)
    assert (given.ref, given.attempt, given.quota_day) == (ref_of(), 1, "2026-03-02")
    assert (given.sender.mailbox, given.sender.name) == (ANNA, "Anna A")
    assert given.sender.postal_address == client().postal_address
    assert (given.call.route, given.call.provider, given.call.host, given.call.port) == (
        OWN,
        "memory",
        "mx.acme.test",
        587,
    )
    assert (given.call.username, given.call.secret_ref) == (ANNA, "file:anna")
    assert (given.not_before, given.not_after) == (NOW + SECOND, NOW + SECOND + 3 * MINUTE)


def test_a_send_is_assigned_once_however_often_the_clock_ticks() -> None:
    led = fleet(mailbox(), mailbox(BERT))
    admit(led)
    assert len(plan(led, NOW)) == 1
    quiet(led, NOW + SECOND, NOW + 2 * HOUR)


def test_only_a_tick_assigns() -> None:
    led = fleet()
    admit(led, request(), request("s2"))
    given = one(led, NOW)
    assert [type(fact) for fact in follows(led, was_accepted(given), NOW + HOUR)] == [SendEnded]


def test_a_mailbox_has_one_attempt_open_at_a_time() -> None:
    led = fleet()
    admit(led, *(request(f"s{n}") for n in range(3)))
    assert len(plan(led, NOW)) == 1
    quiet(led, NOW + SECOND, NOW + 2 * HOUR)


def test_sends_go_round_the_mailboxes_free_the_longest_first() -> None:
    led = fleet(mailbox(ANNA), mailbox(BERT), mailbox(CARA))
    admit(led, *(request(f"s{n}") for n in range(9)))
    at, order = NOW, list[str]()
    while len(order) < 9:
        given = plan(led, at)
        for nth, assignment in enumerate(given):
            order.append(assignment.sender.mailbox)
            led.given_at(at + (nth + 1) * SECOND, was_accepted(assignment))
        at += 10 * SECOND
    assert order[:3] == order[3:6] == order[6:9]
    assert set(order[:3]) == {ANNA, BERT, CARA}


def test_the_mailbox_that_is_free_the_longest_goes_first() -> None:
    led = fleet(mailbox(ANNA), mailbox(BERT), mailbox(CARA))
    admit(led, *(request(f"s{n}") for n in range(3)))
    given = {g.sender.mailbox: g for g in plan(led, NOW)}
    for nth, box in enumerate((CARA, ANNA, BERT)):
        led.given_at(NOW + nth * SECOND, was_accepted(given[box]))
    admit(led, *(request(f"t{n}", at=led.at) for n in range(3)))
    assert names(plan(led, NOW + GAP + 5 * SECOND)) == [("t0", CARA), ("t1", ANNA), ("t2", BERT)]


def test_a_mailbox_that_sent_goes_behind_those_that_did_not_also_after_quiet_hours() -> None:
    led = fleet(mailbox(ANNA), mailbox(BERT), mailbox(CARA))
    turns = list[str]()
    for n in range(6):
        at = NOW + n * HOUR
        admit(led, request(f"s{n}", at=at))
        given = one(led, at)
        turns.append(given.sender.mailbox)
        led.given_at(at + SECOND, was_accepted(given))
        quiet(led, at + 2 * SECOND, at + HOUR, 5 * MINUTE)
    assert turns[:3] == turns[3:]
    assert set(turns) == {ANNA, BERT, CARA}


def test_two_clients_do_not_touch_each_others_mailboxes() -> None:
    bolt = ClientId("bolt")
    box = MailboxAddress("bob@bolt.test")
    led = fleet().given(client(name=bolt), route(bolt), domain(bolt, "bolt.test"), mailbox(box, name=bolt))
    admit(led, request("s1"), request("s2"), request("b1", client=bolt))
    assert sorted(names(plan(led, NOW))) == [("b1", box), ("s1", ANNA)]


def test_the_more_urgent_send_goes_first_and_among_equals_the_older() -> None:
    led = fleet()
    admit(led, request("late"), request("later"), request("urgent", priority=1), request("idle", priority=9))
    at, order = NOW, list[str]()
    for _ in range(4):
        given = one(led, at)
        order.append(given.ref.send_id)
        led.given(was_accepted(given))
        at += GAP
    assert order == ["urgent", "late", "later", "idle"]


@pytest.mark.parametrize("soonest", [None, NOW])
def test_more_sends_than_one_second_can_plan_all_go(soonest: datetime | None) -> None:
    boxes = [MailboxAddress(f"m{n}@acme.test") for n in range(450)]
    led = fleet(*map(mailbox, boxes)).given(msgspec.structs.replace(route(), max_connections=30))
    admit(led, *(request(f"s{n}", priority=n % 3, not_before=soonest) for n in range(450)))
    done = {g.ref.send_id: g for second in range(5) for g in plan(led, NOW + second * SECOND)}
    assert len(done) == 450
    assert len({g.sender.mailbox for g in done.values()}) == 450


def test_a_send_waits_for_its_not_before_and_lets_others_pass() -> None:
    led = fleet()
    admit(led, request("s1", not_before=NOW + HOUR, priority=1), request("s2"))
    given = one(led, NOW)
    assert given.ref.send_id == "s2"
    led.given(was_accepted(given))
    quiet(led, NOW + SECOND, NOW + HOUR)
    assert one(led, NOW + HOUR).ref.send_id == "s1"


# ── quota, hours, gap ────────────────────────────────────────────────────────────────────────────


def sends_of_a_day(led: Ledger, start: datetime, end: datetime, step: timedelta) -> list[tuple[datetime, str]]:
    """Let time pass while everything is accepted at once; return when which send was assigned."""
    at, done = start, list[tuple[datetime, str]]()
    while at < end:
        for given in plan(led, at):
            done.append((at, given.ref.send_id))
            led.given(was_accepted(given))
        at += step
    return done


def test_a_mailbox_sends_no_more_than_its_daily_quota() -> None:
    led = fleet(mailbox(quota=3))
    admit(led, *(request(f"s{n}") for n in range(9)))
    done = sends_of_a_day(led, NOW, NOW + 14 * HOUR, MINUTE)
    assert len(done) == 3
    assert used(led) == {"2026-03-02": 3}


@pytest.mark.parametrize("zone", ["UTC+05:30", "America/New_York", "Pacific/Kiritimati", "UTC"])
def test_the_quota_is_counted_per_local_day(zone: str) -> None:
    pace = Pace(zone, 0, 24, 60, 0)
    led = fleet(mailbox(quota=2), pace=pace)
    admit(led, *(request(f"s{n}") for n in range(9)))
    done = sends_of_a_day(led, NOW, NOW + 2 * DAY, 5 * MINUTE)
    per_day: dict[str, int] = {}
    for at, _ in done:
        day = local_day(at, pace)
        per_day[day] = per_day.get(day, 0) + 1
    assert per_day == dict.fromkeys(per_day, 2)
    assert len(per_day) == 3
    assert led.row("mailbox", ANNA).used == per_day


def test_a_spent_quota_opens_again_at_local_midnight() -> None:
    led = fleet(mailbox(quota=1), pace=Pace("UTC+05:30", 0, 24, 60, 0))
    admit(led, request("s1"), request("s2"))
    led.given(was_accepted(one(led, NOW)))
    midnight = datetime(2026, 3, 2, 18, 30, tzinfo=UTC)
    quiet(led, NOW + MINUTE, midnight)
    assert one(led, midnight).quota_day == "2026-03-03"


def test_an_assignment_ends_at_local_midnight_so_that_no_mail_counts_for_the_wrong_day() -> None:
    led = fleet(pace=Pace("UTC+05:30", 0, 24, 60, 0))
    admit(led)
    given = one(led, datetime(2026, 3, 2, 18, 29, tzinfo=UTC))
    assert given.not_after == datetime(2026, 3, 2, 18, 30, tzinfo=UTC)


def test_a_mailbox_sends_only_in_its_local_hours_and_an_assignment_ends_with_them() -> None:
    pace = Pace("Europe/Berlin", 9, 17, 60, 0)
    led = fleet(pace=pace, at=NOW - 2 * HOUR)
    admit(led, *(request(f"s{n}", at=NOW - 2 * HOUR) for n in range(3)))
    opens = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)  # 9 o'clock in Berlin
    quiet(led, NOW - 2 * HOUR, opens, SECOND * 30)
    led.given(was_accepted(one(led, opens)))
    closes = datetime(2026, 3, 2, 16, 0, tzinfo=UTC)
    last = one(led, closes - MINUTE)
    assert last.not_after == closes
    led.given_at(closes - 30 * SECOND, was_accepted(last))
    quiet(led, closes, opens + DAY, 10 * MINUTE)
    assert len(plan(led, opens + DAY)) == 1


def test_local_hours_follow_the_change_of_the_clocks() -> None:
    before = datetime(2026, 3, 28, 12, 0, tzinfo=UTC)  # Europe goes to summer time on 29 March
    led = fleet(pace=Pace("Europe/Berlin", 9, 10, 60, 0), at=before)
    admit(led, request(at=before))
    opens = datetime(2026, 3, 29, 9, 0, tzinfo=ZoneInfo("Europe/Berlin"))
    quiet(led, before, opens.astimezone(UTC), 10 * MINUTE)
    assert one(led, opens.astimezone(UTC)).not_after - opens.astimezone(UTC) == 3 * MINUTE


def test_the_gap_counts_from_the_settlement_of_the_attempt_not_from_its_assignment() -> None:
    led = fleet()
    admit(led, request("s1"), request("s2"))
    given = one(led, NOW)
    settled = NOW + 170 * SECOND
    led.given_at(settled, was_accepted(given))
    quiet(led, settled, settled + GAP, SECOND)
    assert one(led, settled + GAP).ref.send_id == "s2"


def test_the_gaps_jitter_follows_from_the_send() -> None:
    pace = Pace(hour_from=0, hour_to=24, gap_seconds=100, gap_jitter_seconds=60, company_gap_seconds=0)
    gaps = {send_id: gap(pace, send_id) for send_id in (f"s{n}" for n in range(200))}
    assert all(timedelta(seconds=100) <= length <= timedelta(seconds=160) for length in gaps.values())
    assert len(set(gaps.values())) > 30
    led = fleet(pace=pace)
    admit(led, request("s1"), request("s2"))
    led.given(was_accepted(one(led, NOW)))
    quiet(led, NOW, NOW + gaps["s1"], SECOND)
    assert len(plan(led, NOW + gaps["s1"])) == 1


@pytest.mark.parametrize("settle", [was_refused, was_not_sent, was_missed, is_unknown])
def test_a_gap_follows_every_end_of_an_attempt(settle: Settle) -> None:
    led = fleet()
    admit(led, request("s1"), request("s2"))
    led.given(settle(one(led, NOW)))
    quiet(led, NOW, NOW + GAP, 5 * SECOND)
    assert len(plan(led, NOW + GAP)) == 1


# ── what becomes of an attempt ───────────────────────────────────────────────────────────────────


def test_an_accepted_attempt_ends_the_send_and_its_quota_is_spent() -> None:
    led = fleet()
    admit(led)
    given = one(led, NOW)
    assert used(led) == {"2026-03-02": 1}
    (ended,) = follows(led, was_accepted(given))
    assert isinstance(ended, SendEnded)
    assert (ended.state, ended.attempt) == ("accepted", 1)
    assert used(led) == {"2026-03-02": 1}
    row = led.row("backlog", "acme/s1")
    assert (row.state, row.request, row.recipient) == ("accepted", None, ref_of().recipient)


@pytest.mark.parametrize("settle", [was_refused, was_not_sent, was_missed])
def test_a_proven_non_acceptance_gives_the_quota_back_once(settle: Settle) -> None:
    led = fleet()
    admit(led)
    given = one(led, NOW)
    led.given(settle(given))
    assert used(led) == {}
    for again in (was_refused, was_not_sent, was_missed, was_accepted, is_unknown):
        assert led.sees(again(given)) == []
    assert used(led) == {}


def test_quota_of_a_day_that_nobody_remembers_is_not_given_back_below_zero() -> None:
    led = fleet(mailbox(quota=1))
    admit(led, *(request(f"s{n}") for n in range(8)))
    first = one(led, NOW)
    led.given(is_unknown(first))
    for day in range(1, 6):
        led.given(was_accepted(one(led, NOW + day * DAY)))
    led.given(was_refused(first))
    assert min(led.row("mailbox", ANNA).used.values()) >= 0
    assert used(led)[f"{NOW + 5 * DAY:%Y-%m-%d}"] == 1


def test_an_unknown_attempt_keeps_its_quota_frees_its_mailbox_and_is_not_planned_again() -> None:
    led = fleet()
    admit(led)
    given = one(led, NOW)
    ended, failed = follows(led, is_unknown(given))
    assert failed == RouteFailed(ACME, OWN, "no answer after the claim")
    assert isinstance(ended, SendEnded)
    assert ended.state == "unknown"
    assert used(led) == {"2026-03-02": 1}
    quiet(led, NOW, NOW + 23 * HOUR, 10 * MINUTE)
    admit(led, request("s2"))
    assert one(led, NOW + 23 * HOUR).ref.send_id == "s2"


def test_an_unknown_attempt_that_was_accepted_after_all_ends_the_send_and_its_quota_stays_spent() -> None:
    led = fleet()
    admit(led)
    given = one(led, NOW)
    led.given(is_unknown(given))
    ended, recovered = follows(led, was_accepted(given), NOW + HOUR)
    assert recovered == RouteRecovered(ACME, OWN, "acme/s1/1: 250 2.0.0 kept")
    assert isinstance(ended, SendEnded)
    assert ended.state == "accepted"
    assert used(led) == {"2026-03-02": 1}


def test_an_unknown_attempt_that_was_refused_gives_its_quota_back_and_leaves_the_mailbox_to_the_one_it_has() -> None:
    led = fleet()
    admit(led, request("s1"), request("s2"))
    given = one(led, NOW)
    led.given(is_unknown(given))
    second = one(led, NOW + GAP)
    assert second.ref.send_id == "s2"
    led.given(was_refused(given))
    assert used(led) == {"2026-03-02": 1}
    assert led.row("mailbox", ANNA).open == "acme/s2/1"
    assert follows(led, was_refused(given)) == []
    assert led.row("backlog", "acme/s1").state == "admitted"


def test_an_unknown_send_that_is_assumed_sent_ends_and_keeps_its_quota() -> None:
    led = fleet()
    admit(led)
    led.given(is_unknown(one(led, NOW)))
    (ended,) = led.sees(SendAssumedSent(ref_of(), 1), NOW + DAY)
    assert isinstance(ended, SendEnded)
    assert (ended.state, ended.release) == ("assumed_sent", None)
    assert used(led) == {"2026-03-02": 1}


@pytest.mark.parametrize("reply", [NO_SUCH_USER, POLICY])
def test_a_refusal_for_good_ends_the_send(reply: Reply) -> None:
    led = fleet()
    admit(led)
    (ended,) = follows(led, was_refused(one(led, NOW), reply))
    assert isinstance(ended, SendEnded)
    assert ended.state == "failed"
    assert used(led) == {}
    quiet(led, NOW, NOW + DAY, HOUR)


@pytest.mark.parametrize("boxes", [[ANNA], [ANNA, BERT]])
def test_a_refused_send_is_tried_again_after_a_back_off_that_doubles_until_patience_is_over(
    boxes: list[MailboxAddress],
) -> None:
    led = fleet(*map(mailbox, boxes))
    admit(led)
    at = NOW
    for tries in range(1, ALL_DAY.max_attempts):
        given = one(led, at)
        assert given.attempt == tries
        (again,) = follows(led, was_refused(given))
        assert isinstance(again, SendRequeued)
        assert again.not_before == at + BACK_OFF * 2 ** (tries - 1)
        quiet(led, at + SECOND, again.not_before, 30 * SECOND)
        at = again.not_before
    last = one(led, at)
    ended, given_up = follows(led, was_refused(last))
    assert isinstance(ended, SendEnded)
    assert ended.state == "failed"
    assert isinstance(given_up, SendGivenUp)
    assert given_up.attempt == ALL_DAY.max_attempts
    quiet(led, at, at + DAY, HOUR)


def test_a_back_off_is_never_longer_than_six_hours() -> None:
    pace = Pace(hour_from=0, hour_to=24, gap_seconds=1, gap_jitter_seconds=0, first_retry_seconds=3600, max_attempts=9)
    led = fleet(pace=pace)
    admit(led)
    at, waits = NOW, list[timedelta]()
    for _ in range(6):
        (again,) = follows(led, was_refused(one(led, at)))
        assert isinstance(again, SendRequeued)
        waits.append(again.not_before - at)
        at = again.not_before
    assert waits == [HOUR, 2 * HOUR, 4 * HOUR, 6 * HOUR, 6 * HOUR, 6 * HOUR]


def test_a_missed_slot_is_planned_anew_at_once_and_does_not_count_against_patience() -> None:
    led = fleet(mailbox(), mailbox(BERT))
    admit(led)
    led.given(was_missed(one(led, NOW)))
    assert one(led, NOW + SECOND).attempt == 2
    assert led.row("backlog", "acme/s1").tries == 0


def test_a_send_of_which_nothing_left_waits_a_while_and_it_does_not_count_against_patience() -> None:
    led = fleet()
    admit(led)
    led.given(was_not_sent(one(led, NOW)))
    assert led.row("backlog", "acme/s1").tries == 0
    quiet(led, NOW + SECOND, NOW + BACK_OFF, 30 * SECOND)
    assert one(led, NOW + BACK_OFF).attempt == 2


def test_a_greylisted_send_stays_with_its_mailbox() -> None:
    led = fleet(mailbox(), mailbox(BERT), mailbox(CARA))
    admit(led)
    first = one(led, NOW)
    (again,) = follows(led, was_refused(first, GREYLISTED))
    assert isinstance(again, SendRequeued)
    assert again.stay_with == first.sender.mailbox
    quiet(led, NOW + SECOND, again.not_before, 30 * SECOND)
    second = one(led, again.not_before)
    assert second.sender.mailbox == first.sender.mailbox
    led.given(was_missed(second))
    at = again.not_before
    while not (given := plan(led, at)):
        at += SECOND
    assert given[0].sender.mailbox == first.sender.mailbox


def test_a_greylisted_send_stays_with_its_mailbox_also_when_another_is_free_first() -> None:
    led = fleet()
    admit(led)
    first = one(led, NOW)
    led.given(was_refused(first, GREYLISTED), mailbox(BERT))
    quiet(led, NOW + SECOND, NOW + BACK_OFF, 30 * SECOND)
    assert one(led, NOW + BACK_OFF).sender.mailbox == ANNA


def test_a_send_that_is_refused_for_another_reason_may_go_by_any_mailbox() -> None:
    led = fleet(mailbox(), mailbox(BERT))
    admit(led)
    first = one(led, NOW)
    (again,) = follows(led, was_refused(first, TRY_LATER))
    assert isinstance(again, SendRequeued)
    assert again.stay_with == ""
    led.given(mailbox(first.sender.mailbox, active=False))
    assert len(plan(led, NOW + BACK_OFF)) == 1


def test_a_mailbox_whose_own_fault_it_was_is_left_out_for_an_hour() -> None:
    led = fleet()
    admit(led, request("s1"), request("s2"), request("s3"))
    led.given(was_refused(one(led, NOW), LOGIN_REFUSED))
    quiet(led, NOW, NOW + HOUR + SECOND, 30 * SECOND)
    assert len(plan(led, NOW + HOUR + SECOND)) == 1


def test_a_mailbox_whose_own_fault_it_was_keeps_a_gap_that_is_longer_than_an_hour() -> None:
    led = fleet(pace=Pace(hour_from=0, hour_to=24, gap_seconds=7200, gap_jitter_seconds=0))
    admit(led, request("s1"), request("s2"))
    led.given(was_refused(one(led, NOW), LOGIN_REFUSED))
    quiet(led, NOW, NOW + 2 * HOUR)
    assert len(plan(led, NOW + 2 * HOUR)) == 1


def test_a_fact_about_another_attempt_changes_nothing() -> None:
    led = fleet()
    admit(led)
    first = one(led, NOW)
    led.given(was_missed(first))
    one(led, NOW + GAP)
    for settle in (was_accepted, was_refused, was_not_sent, was_missed, is_unknown):
        assert led.sees(settle(first)) == []
    assert led.row("mailbox", ANNA).open == "acme/s1/2"


# ── cancels and ends ─────────────────────────────────────────────────────────────────────────────


def test_a_cancel_by_send_id_goes_to_the_recipients_partition() -> None:
    led = fleet()
    admit(led)
    ask = CancelRequested(ACME, SendId("s1"))
    assert led.sees(ask) == [CancelOrdered(ref_of(), "upstream")]
    (out,) = [o for entry, fact in led.facts() for o in led.mind.forwards(fact, entry.at)]
    assert (out.topic, out.key) == (DELIVERY_INPUTS, ref_of().recipient[:16].encode())


@pytest.mark.parametrize(
    "ask", [CancelRequested(ACME, thread_id="t1"), CancelRequested(ACME, campaign=CampaignId("news"), by="operator")]
)
def test_a_cancel_by_thread_or_campaign_goes_to_each_send_that_has_not_started(ask: CancelRequested) -> None:
    bolt = ClientId("bolt")
    led = fleet(mailbox(), mailbox(BERT)).given(client(name=bolt))
    led.given(ClientDeclared(ACME, (CampaignId("news"), CampaignId("x")), "", ALL_DAY, "https://u.test/"))
    admit(led, request("done", thread_id="t1"))
    led.given(was_accepted(one(led, NOW)))
    admit(led, request("out", thread_id="t1"))
    one(led, NOW + GAP)
    admit(
        led,
        request("waits", "rolf", thread_id="t1"),
        request("other", thread_id="t2", campaign=CampaignId("x")),
        request("bolts", client=bolt, thread_id="t1"),
    )
    assert led.sees(ask) == [CancelOrdered(ref_of("out"), ask.by), CancelOrdered(ref_of("waits", "rolf"), ask.by)]


def test_a_cancel_that_comes_before_its_send_is_remembered() -> None:
    led = fleet()
    assert led.sees(CancelRequested(ACME, SendId("s1"))) == [CancelNoted(ACME, SendId("s1"), "upstream")]
    assert led.sees(SendAdmitted(request())) == [SendQueued(request()), CancelOrdered(ref_of(), "upstream")]
    (ended,) = led.sees(SendCancelled(ref_of(), "upstream"))
    assert isinstance(ended, SendEnded)
    quiet(led, NOW, NOW + HOUR)


@pytest.mark.parametrize(
    ("fact", "state"),
    [
        (SendCancelled(ref_of(), "upstream"), "cancelled"),
        (SendExpired(ref_of(), "content_gone"), "expired"),
        (SendWithdrawn(ref_of(), "invalid", ""), "refused"),
    ],
)
@pytest.mark.parametrize("out", [False, True])
def test_what_the_delivery_stage_ends_leaves_the_backlog_and_gives_back_what_it_held(
    fact: Fact, state: str, out: bool
) -> None:
    led = fleet()
    admit(led)
    if out:
        one(led, NOW)
    (ended,) = led.sees(fact)
    assert isinstance(ended, SendEnded)
    assert ended.state == state
    assert (ended.release is not None) == out
    assert used(led) == {}
    assert led.row("mailbox", ANNA).open == ""
    assert led.sees(fact) == []
    quiet(led, NOW + SECOND, NOW + HOUR)


def test_a_send_that_waits_past_its_expiry_lapses_once() -> None:
    led = fleet(mailbox(active=False))
    admit(led, request(expires_at=NOW + HOUR))
    quiet(led, NOW, NOW + HOUR)
    assert led.ticks(NOW + HOUR) == [SendLapsed(ref_of())]
    assert led.row("backlog", "acme/s1").state == "expired"
    assert led.ticks(NOW + HOUR + SECOND) == []


def test_a_send_at_its_expiry_lapses_and_is_not_assigned() -> None:
    led = fleet(mailbox(), mailbox(BERT))
    admit(led, request(expires_at=NOW + HOUR, not_before=NOW + HOUR - SECOND))
    assert led.ticks(NOW + HOUR) == [SendLapsed(ref_of())]


def test_an_assignment_ends_with_the_sends_expiry() -> None:
    led = fleet()
    admit(led, request(expires_at=NOW + MINUTE))
    assert one(led, NOW).not_after == NOW + MINUTE


def test_a_send_that_is_out_does_not_lapse_but_when_it_comes_back() -> None:
    led = fleet()
    admit(led, request(expires_at=NOW + HOUR))
    given = one(led, NOW + HOUR - SECOND)
    assert led.ticks(NOW + HOUR + SECOND) == []
    led.given(was_missed(given))
    assert led.ticks(NOW + HOUR + 2 * SECOND) == [SendLapsed(ref_of())]


# ── decisions that did not count ─────────────────────────────────────────────────────────────────


def test_a_plan_that_did_not_count_is_made_again_alike() -> None:
    led = fleet(mailbox(BERT), mailbox(ANNA), mailbox(CARA))
    admit(led, *(request(f"s{n}") for n in range(6)), request("over", expires_at=NOW + MINUTE))
    for nth, given in enumerate(reversed(plan(led, NOW))):
        led.given_at(NOW + (nth + 1) * SECOND, was_accepted(given))
    at = NOW + GAP + 5 * SECOND
    first_time = led.decides(Ticked(), at)
    assert len(first_time) == 4
    assert led.decides(Ticked(), at) == first_time
    assert led.ticks(at) == first_time


def test_a_plan_that_did_not_count_loses_no_send() -> None:
    led = fleet(mailbox(), mailbox(BERT))
    admit(led, *(request(f"s{n}") for n in range(4)))
    for _ in range(3):
        assert len(led.decides(Ticked(), NOW)) == 2
    done = sends_of_a_day(led, NOW, NOW + HOUR, SECOND)
    assert sorted(send_id for _, send_id in done) == ["s0", "s1", "s2", "s3"]


def test_a_plan_after_a_resume_keeps_back_off_and_gap() -> None:
    led = fleet()
    admit(led, request("s1"))
    (again,) = follows(led, was_refused(one(led, NOW)))
    assert isinstance(again, SendRequeued)
    led.resumes()
    quiet(led, NOW, again.not_before)
    assert one(led, again.not_before).attempt == 2


def test_a_mailbox_whose_route_nobody_declared_sends_nothing() -> None:
    led = Ledger(FleetMind()).given(client(), domain(), route(), MailboxDeclared(ACME, ANNA, (RouteId("gone"),), 5))
    admit(led)
    quiet(led, NOW, NOW + HOUR)
