"""Who sends what, when: fairness, priorities, quotas, ceilings, hours, threads, companies, breakers, stops."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import msgspec
import pytest

from schemas.fleet import AccountTripped, RouteRecovered, RouteTripped, StartOrdered, StopOrdered
from schemas.health import Evidence
from schemas.ids import ClientId, MailboxAddress, SendId
from schemas.sending import AttemptUnknown, CancelRequested, SendAssigned, SendLapsed, SendTurnedAway
from tests.decisions.fleet_story import FAST, START, FleetStory, accept, no_connection, refuse


def test_two_clients_of_one_partition_take_turns_under_scarcity() -> None:
    story = FleetStory()
    for client in ("acme", "birch"):
        story.fleet(client, 300)
        for n in range(400):
            story.ask(client, f"{client}-{n}")
    story.tick()
    assert Counter(a.ref.client for _, a in story.assigned) == {"acme": 100, "birch": 100}


def test_campaigns_share_the_mailboxes_and_a_late_one_starts_level() -> None:
    story = FleetStory()
    story.fleet("acme", 10, campaigns=("one", "two"))
    for n in range(100):
        story.ask("acme", f"one-{n}", "one")
    story.tick(6)
    alone = len(story.assigned)
    for n in range(100):
        story.ask("acme", f"two-{n}", "two")
    story.tick(6)
    later = Counter(a.ref.send_id.partition("-")[0] for _, a in story.assigned[alone:])
    assert abs(later["one"] - later["two"]) <= 2


def test_urgent_sends_go_first_whatever_their_campaign() -> None:
    story = FleetStory()
    story.fleet("acme", 2, campaigns=("one", "two"))
    for n in range(10):
        story.ask("acme", f"one-{n}", "one")
    story.ask("acme", "two-urgent", "two", priority=1)
    story.tick()
    assert story.assigned[0][1].ref.send_id == "two-urgent"


def test_a_mailbox_and_a_domain_never_pass_their_daily_quota_over_midnight() -> None:
    pace = msgspec.structs.replace(FAST, time_zone="UTC+05:30")
    story = FleetStory(now=datetime(2026, 3, 2, 18, 29, 0, tzinfo=UTC))  # a minute before local midnight
    story.client("acme", pace=pace)
    story.domain("acme", "acme.test", daily_quota=25)
    story.route("acme")
    story.boxes("acme", "acme.test", 10, daily_quota=4)
    for n in range(200):
        story.ask("acme", f"s-{n}")
    story.tick(180)
    for days in story.per_day().values():
        assert max(days.values()) <= 4
    assert Counter(a.quota_day for _, a in story.assigned) == {"2026-03-02": 25, "2026-03-03": 25}
    midnight = datetime(2026, 3, 2, 18, 30, tzinfo=UTC)
    assert all(a.not_after <= midnight for _, a in story.assigned if a.quota_day == "2026-03-02")


@pytest.mark.parametrize(
    ("day", "hours"), [(datetime(2026, 3, 29, tzinfo=UTC), 23), (datetime(2026, 10, 25, tzinfo=UTC), 25)]
)
def test_a_day_of_the_clock_change_has_its_one_quota(day: datetime, hours: int) -> None:
    pace = msgspec.structs.replace(FAST, time_zone="Europe/Berlin", slot_seconds=3600)
    story = FleetStory(now=day - timedelta(hours=3))
    story.fleet("acme", 1, pace=pace, daily_quota=3)
    for n in range(40):
        story.ask("acme", f"s-{n}")
    for _ in range(4 * 36):
        story.now += timedelta(minutes=15) - timedelta(seconds=1)
        story.tick()
    local = day.strftime("%Y-%m-%d")
    assert story.per_day()["box0@acme.test"][local] == 3
    first = {a.quota_day: at for at, a in reversed(story.assigned)}
    following = (day + timedelta(days=1)).strftime("%Y-%m-%d")
    assert first[following] - first[local] == timedelta(hours=hours)


def test_nothing_leaves_outside_the_sending_hours() -> None:
    pace = msgspec.structs.replace(FAST, hour_from=9, hour_to=10)
    story = FleetStory(now=START - timedelta(minutes=2))
    story.fleet("acme", 2, pace=pace, daily_quota=10_000)
    for n in range(20):
        story.ask("acme", f"s-{n}")
    story.tick(150)
    assert min(at for at, _ in story.assigned) >= START
    assert all(a.not_after <= START + timedelta(hours=1) for _, a in story.assigned)


def test_a_route_never_passes_its_ceiling_in_any_24_hours() -> None:
    story = FleetStory()
    story.client("acme")
    story.domain("acme", "acme.test")
    story.route("acme", ceiling_24h=10)
    story.boxes("acme", "acme.test", 50)
    for n in range(100):
        story.ask("acme", f"s-{n}")
    for _ in range(60):
        story.now += timedelta(hours=1) - timedelta(seconds=1)
        story.tick()
    times = [at for at, _ in story.assigned]
    for at in times:
        assert sum(at - timedelta(hours=24) < other <= at for other in times) <= 10
    assert len(times) >= 20, "the ceiling is used again when it rolls free"


def test_a_route_never_passes_its_ceiling_a_second() -> None:
    story = FleetStory(latency_s=0)
    story.client("acme")
    story.domain("acme", "acme.test")
    story.route("acme", ceiling_per_second=3.0, max_connections=50)
    story.boxes("acme", "acme.test", 50)
    for n in range(60):
        story.ask("acme", f"s-{n}")
    story.tick(10)
    starts = sorted(a.not_before for _, a in story.assigned)
    assert len(starts) >= 27
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert min(gaps) >= timedelta(seconds=0.333)


def test_what_was_provably_not_sent_gives_everything_back() -> None:
    story = FleetStory(settle=no_connection)
    story.client("acme")
    story.domain("acme", "acme.test", daily_quota=1)
    story.route("acme", ceiling_24h=1)
    story.boxes("acme", "acme.test", 1, daily_quota=1)
    story.ask("acme", "s-1")
    story.tick(2)
    story.settle = accept
    story.tick(20)
    assert [a.attempt for _, a in story.assigned] == [1, 2]


def test_a_follow_up_waits_for_the_mailbox_that_began_its_thread() -> None:
    story = FleetStory()
    story.fleet("acme", 20)
    story.ask("acme", "first", thread_id="t1")
    story.tick(2)
    box = story.assigned[0][1].sender.mailbox
    for n in range(30):
        story.ask("acme", f"s-{n}")
    story.ask("acme", "follow", thread_id="t1")
    story.tick(5)
    assert {a.ref.send_id: a.sender.mailbox for _, a in story.assigned}[SendId("follow")] == box


def test_a_thread_whose_mailbox_is_gone_goes_on_with_another() -> None:
    story = FleetStory()
    story.fleet("acme", 2)
    story.ask("acme", "first", thread_id="t1")
    story.tick(2)
    box = story.assigned[0][1].sender.mailbox
    row = story.state.mailbox(box)
    assert row is not None
    story.ask("acme", "follow", thread_id="t1", not_before=story.now + timedelta(seconds=3))
    story.sees(msgspec.structs.replace(row.declared, active=False))
    story.tick(6)
    boxes = {a.ref.send_id: a.sender.mailbox for _, a in story.assigned}
    assert boxes[SendId("follow")] != box


def test_a_greylisted_send_comes_back_to_the_same_mailbox() -> None:
    story = FleetStory(settle=refuse("network", "greylisted", "retry_same_mailbox", 451))
    story.fleet("acme", 20)
    story.ask("acme", "grey")
    story.tick(2)
    story.settle = accept
    story.tick(20)
    assert len({a.sender.mailbox for _, a in story.assigned}) == 1
    assert len(story.assigned) == 2


def test_recipients_of_one_company_are_spread_and_freemail_is_not() -> None:
    pace = msgspec.structs.replace(FAST, company_gap_seconds=60)
    story = FleetStory()
    story.fleet("acme", 100, pace=pace)
    for n in range(20):
        story.ask("acme", f"firm-{n}", domain="firm.test")
        story.ask("acme", f"free-{n}", domain="gmail.com")
    story.tick(605)
    firm = [at for at, a in story.assigned if a.ref.send_id.startswith("firm")]
    assert sum(a.ref.send_id.startswith("free") for _, a in story.assigned) == 20
    assert len(firm) in (10, 11)
    assert all(b - a >= timedelta(seconds=60) for a, b in pairwise(firm))


def test_a_mailbox_with_a_fault_of_its_own_is_left_out_and_the_send_goes_on() -> None:
    story = FleetStory(settle=refuse("mailbox", "auth", "pause"))
    story.fleet("acme", 3)
    story.ask("acme", "s-1")
    story.tick(2)
    story.settle = accept
    for n in range(10):
        story.ask("acme", f"t-{n}")
    story.tick(30)
    sick = story.assigned[0][1].sender.mailbox
    assert sick not in {a.sender.mailbox for _, a in story.assigned[1:]}
    story.now += timedelta(hours=1)
    for n in range(3):
        story.ask("acme", f"u-{n}")
    story.tick(5)
    assert sick in {a.sender.mailbox for _, a in story.assigned[1:]}


def test_a_dead_route_trips_after_five_failures_probes_with_one_send_and_returns() -> None:
    story = FleetStory(settle=no_connection)
    story.fleet("acme", 50)
    for n in range(5):
        story.ask("acme", f"s-{n}")
    story.tick(3)
    (trip,) = story.decided(RouteTripped)
    assert isinstance(trip, RouteTripped)
    assert trip.why == Evidence("no answer at connect", "built-in", "a row", 5, 0, 5)
    tried = len(story.assigned)
    story.tick(250)
    assert len(story.assigned) == tried, "an open breaker lets nothing through"
    story.latency_s = 5
    story.settle = accept
    story.tick(51)
    assert len(story.assigned) == tried + 1, "one probe"
    story.tick(10)
    (recovered,) = story.decided(RouteRecovered)
    assert isinstance(recovered, RouteRecovered)
    probe = story.assigned[tried][1]
    assert probe.rule.endswith("; probes route own")
    assert recovered.evidence.startswith(f"acme/{probe.ref.send_id}/{probe.attempt}: 250 ")
    assert len({a.ref.send_id for _, a in story.assigned[tried:]}) == 5


def test_a_backup_route_carries_the_mail_while_the_first_is_out_and_gives_it_back() -> None:
    story = FleetStory()
    story.client("acme")
    story.domain("acme", "acme.test")
    story.route("acme", "zoho", account="z")
    story.route("acme", "own")
    story.boxes("acme", "acme.test", 10, routes=("zoho", "own"))
    story.sees(AccountTripped(ClientId("acme"), "z", START + timedelta(seconds=60), "test", ""))
    for n in range(30):
        story.ask("acme", f"s-{n}", not_before=START + timedelta(seconds=n * 4))
    story.tick(130)
    by_route = Counter(a.call.route for at, a in story.assigned if at < START + timedelta(seconds=60))
    assert set(by_route) == {"own"}
    told = {a.rule.partition("; ")[2] for _, a in story.assigned}
    assert told == {"over route own, no. 2 of its mailbox", "probes route zoho", ""}
    assert {a.call.route for at, a in story.assigned if at > START + timedelta(seconds=65)} == {"zoho"}


def test_a_trip_of_a_shared_account_stops_the_other_client_too() -> None:
    story = FleetStory(settle=refuse("route", "rate_limit", "retry", 421))
    for client, other in (("acme", "birch"), ("birch", "acme")):
        story.client(client)
        story.domain(client, f"{client}.test")
        story.route(client, account="zoho", shared_with=(ClientId(other),))
        story.boxes(client, f"{client}.test", 5)
    story.ask("acme", "a-1")
    story.tick(2)
    told = [out for out in story.forwarded if isinstance(out.fact, AccountTripped)]
    assert [out.key for out in told] == [b"birch"]
    story.sees(told[0].fact)
    story.ask("birch", "b-1")
    story.tick(100)
    assert all(a.ref.client == "acme" for _, a in story.assigned)


def test_a_send_waits_for_its_time_and_lapses_after_it() -> None:
    story = FleetStory()
    story.fleet("acme", 1, daily_quota=1)
    story.ask("acme", "early", not_before=START + timedelta(seconds=30))
    story.ask("acme", "late", expires_at=START + timedelta(seconds=60))
    story.ask("acme", "lost", expires_at=START + timedelta(seconds=60))
    story.tick(25)
    assert [a.ref.send_id for _, a in story.assigned] == ["late"]
    story.tick(60)
    assert [f.ref.send_id for f in story.decided(SendLapsed) if isinstance(f, SendLapsed)] == ["lost"]


def test_a_stop_holds_from_the_next_tick_on_and_a_start_ends_it() -> None:
    story = FleetStory()
    story.fleet("acme", 10, campaigns=("one", "two"))
    for n in range(50):
        story.ask("acme", f"one-{n}", "one")
        story.ask("acme", f"two-{n}", "two")
    for scope, name in (("campaign", "acme/one"), ("domain", "acme.test"), ("client", "acme"), ("all", "")):
        story.sees(StopOrdered(scope, name, "anna"))  # type: ignore[arg-type]
        before = len(story.assigned)
        story.tick(3)
        stopped = story.assigned[before:]
        assert not stopped if scope != "campaign" else not any(a.ref.send_id.startswith("one") for _, a in stopped)
        story.sees(StartOrdered(scope, name, "anna"))  # type: ignore[arg-type]
        story.tick(2)
        assert len(story.assigned) > before


def test_upstream_hears_what_holds_a_send_and_until_when() -> None:
    pace = msgspec.structs.replace(FAST, hour_from=10, hour_to=12)
    story = FleetStory()
    story.fleet("acme", 1, pace=pace, daily_quota=1)
    story.ask("acme", "a")
    story.ask("acme", "b", not_before=START + timedelta(hours=5))
    story.tick(31)
    assert story.told("a") == [("hours", START + timedelta(hours=1))]
    assert story.told("b") == [("not_before", START + timedelta(hours=5))]
    story.ask("acme", "c")
    story.now = START + timedelta(hours=1)
    story.tick(40)
    assert story.told("c")[-1] == ("daily_quota", datetime(2026, 3, 3, 0, 0, tzinfo=UTC))


def test_a_campaign_cancelled_half_way_ends_what_waits() -> None:
    story = FleetStory()
    story.fleet("acme", 5, campaigns=("one", "two"))
    for n in range(20):
        story.ask("acme", f"one-{n}", "one")
    story.tick(2)
    orders = story.sees(CancelRequested(ClientId("acme"), campaign="one"))  # type: ignore[arg-type]
    assert len(orders) == 20 - sum(1 for _, a in story.assigned if a.attempt) + 5  # 5 are assigned, not settled


def test_a_state_built_anew_from_its_rows_goes_on_where_it_was() -> None:
    story = FleetStory()
    story.fleet("acme", 7, daily_quota=3)
    for n in range(40):
        story.ask("acme", f"s-{n}")
    for _ in range(6):
        story.tick()
        story.reopen()
    assert Counter(len(days) for days in story.per_day().values()) == {1: 7}
    assert len(story.assigned) == 21


def test_a_mailbox_declared_anew_with_a_larger_quota_sends_at_once() -> None:
    story = FleetStory()
    story.fleet("acme", 1, daily_quota=1)
    for n in range(5):
        story.ask("acme", f"s-{n}")
    story.tick(5)
    assert len(story.assigned) == 1
    row = story.state.mailbox(MailboxAddress("box0@acme.test"))
    assert row is not None
    story.sees(msgspec.structs.replace(row.declared, daily_quota=3))
    story.tick(10)
    assert len(story.assigned) == 3
    assert all(isinstance(a, SendAssigned) for _, a in story.assigned)


def test_a_send_that_names_its_mailbox_leaves_from_it_or_not_at_all() -> None:
    story = FleetStory()
    story.fleet("acme", 5)
    story.ask("acme", "named", mailbox="box3@acme.test")
    story.tick(2)
    assert [a.sender.mailbox for _, a in story.assigned] == ["box3@acme.test"]
    story.ask("acme", "strange", mailbox="box3@birch.test")
    assert [f.reason for f in story.decided(SendTurnedAway) if isinstance(f, SendTurnedAway)] == ["invalid"]
    row = story.state.mailbox(MailboxAddress("box3@acme.test"))
    assert row is not None
    story.ask("acme", "later", mailbox="box3@acme.test", not_before=story.now + timedelta(seconds=2))
    story.sees(msgspec.structs.replace(row.declared, active=False))
    story.tick(10)
    assert len(story.assigned) == 1


def test_a_route_that_answers_no_claim_trips_before_it_drains_the_backlog_into_unknown() -> None:
    def unknown(a: SendAssigned) -> AttemptUnknown:
        return AttemptUnknown(a.ref, a.attempt, a.sender.mailbox, a.call.route, "after the request: timed out")

    story = FleetStory(settle=unknown)
    story.fleet("acme", 5)
    for n in range(100):
        story.ask("acme", f"s-{n}")
    story.tick(60)
    assert len(story.assigned) <= 10
    assert len(story.decided(RouteTripped)) == 1


def test_more_sends_than_one_tick_can_end_may_lapse_in_one_second_and_none_of_them_is_assigned() -> None:
    story = FleetStory()
    story.fleet("acme", 400)
    for n in range(300):
        story.ask("acme", f"s-{n}", not_before=START + timedelta(seconds=20), expires_at=START + timedelta(seconds=20))
    story.tick(30)
    assert not story.assigned
    assert len(story.decided(SendLapsed)) == 300


def test_a_route_with_a_bounce_domain_gives_mail_a_return_path_there_and_others_do_not() -> None:
    story = FleetStory()
    story.client("acme")
    story.domain("acme", "acme.test")
    story.route("acme", "own", options={"bounce_domain": "bounces.{domain}"})
    story.boxes("acme", "acme.test", 1)
    story.ask("acme", "one")
    story.tick(2)
    story.route("acme", "own")
    story.ask("acme", "two")
    story.tick(200)
    assert [a.sender.bounce_domain for _, a in story.assigned] == ["bounces.acme.test", ""]


def test_an_address_for_unsubscribes_goes_with_the_sender() -> None:
    story = FleetStory()
    story.fleet("acme", 1)
    row = story.state.client(ClientId("acme"))
    assert row is not None
    story.sees(msgspec.structs.replace(row.declared, unsubscribe_mailto="u@b.acme.test"))
    story.ask("acme", "one")
    story.tick(2)
    assert [a.sender.unsubscribe_mailto for _, a in story.assigned] == ["u@b.acme.test"]
