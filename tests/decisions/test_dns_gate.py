"""The gate on what the DNS says: two definite answers close, one good answer opens, no answer changes nothing."""

from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dns import Check, DomainObserved, Finding, Verdict
from schemas.health import AlertRaised, AlertResolved, GateClosed, GateOpened
from schemas.ids import ClientId, DomainName, RouteId
from schemas.policy import DnsGate
from tests.decisions.bounds import bounded
from tests.decisions.fleet_story import START, FleetStory

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
FIX = "set TXT acme.test to v=spf1 ip4:192.0.2.25 -all"


def saw(
    verdict: Verdict,
    hours: float = 0,
    by: str = "10.0.0.53",
    *,
    check: Check = "spf",
    route: str = "own",
    more: tuple[Finding, ...] = (),
) -> DomainObserved:
    """One look at acme.test, so many hours after the start."""
    found = (Finding(check, verdict, f"it is {verdict}", "" if verdict == "good" else FIX), *more)
    at = START + timedelta(hours=hours)
    return DomainObserved(ClientId("acme"), DomainName("acme.test"), at, by, found, RouteId(route))


def fleet(*routes: str) -> FleetStory:
    """One client with one domain and two mailboxes over these routes."""
    story = FleetStory()
    story.client("acme")
    story.domain("acme", "acme.test")
    for route in routes or ("own",):
        story.route("acme", route)
    story.boxes("acme", "acme.test", 2, routes=routes or ("own",))
    return story


def gates(story: FleetStory, *looks: DomainObserved) -> list[str]:
    """What the looks closed and opened, in their order."""
    said = [fact for look in looks for fact in story.sees(look)]
    return [
        f"{'closed' if isinstance(f, GateClosed) else 'opened'} {f.check}"
        for f in said
        if isinstance(f, GateClosed | GateOpened)
    ]


@pytest.mark.parametrize("bad", ["broken", "missing"])
def test_a_definite_answer_closes_when_it_is_seen_twice(bad: Verdict) -> None:
    story = fleet()
    assert gates(story, saw(bad)) == []
    (closed,) = [f for f in story.sees(saw(bad, 1)) if isinstance(f, GateClosed)]
    assert (closed.domain, closed.route, closed.check, closed.fix) == ("acme.test", "own", "spf", FIX)
    said = closed.evidence
    assert (said.rule, said.numerator, said.threshold, said.said) == (f"spf {bad}", 2, 2, f"it is {bad}")


def test_two_resolvers_in_one_round_are_two_looks() -> None:
    assert gates(fleet(), saw("broken"), saw("broken", by="10.0.0.54")) == ["closed spf"]


def test_one_resolver_asked_again_at_once_is_one_look() -> None:
    story = fleet()
    assert gates(story, *(saw("broken", minutes / 60) for minutes in range(10))) == []
    assert gates(story, saw("broken", 10 / 60)) == ["closed spf"]


def test_the_same_look_told_again_and_an_older_one_change_nothing() -> None:
    story = fleet()
    story.sees(saw("broken", 2))
    assert story.sees(saw("broken", 2)) == []
    assert story.sees(saw("good", 1)) == []
    assert gates(story, saw("broken", 3)) == ["closed spf"]


def test_a_flapping_zone_does_not_close_at_one_bad_answer() -> None:
    looks = [saw("broken" if hour % 2 else "good", hour) for hour in range(48)]
    assert gates(fleet(), *looks) == []


def test_a_lying_resolver_whom_the_other_contradicts_closes_nothing() -> None:
    story = fleet()
    for hour in range(24):  # each hour the other one begins; a good answer ends the round
        liar, honest = saw("missing", hour, "10.0.0.66"), saw("good", hour, "10.0.0.53")
        assert gates(story, *((liar, honest) if hour % 2 else (honest,))) == []


def test_no_answer_for_a_day_changes_nothing_in_either_state() -> None:
    story = fleet()
    assert gates(story, saw("good")) == []
    assert gates(story, *(saw("could_not_be_checked", hour) for hour in range(1, 25))) == []
    assert not story.state.gated(ClientId("acme"), DomainName("acme.test"), RouteId("own"))
    assert gates(story, saw("broken", 25), saw("could_not_be_checked", 26), saw("broken", 27)) == ["closed spf"]
    assert gates(story, *(saw("could_not_be_checked", hour) for hour in range(28, 52))) == []
    assert story.state.gated(ClientId("acme"), DomainName("acme.test"), RouteId("own"))


def test_the_first_good_answer_opens() -> None:
    story = fleet()
    assert gates(story, saw("broken"), saw("broken", 1), saw("broken", 2), saw("good", 3)) == [
        "closed spf",
        "opened spf",
    ]
    assert gates(story, saw("broken", 4), saw("broken", 5)) == ["closed spf"]


def test_a_check_that_a_route_no_longer_needs_opens() -> None:
    story = fleet()
    spf = (Finding("spf", "good", "as it should be"),)
    assert gates(story, *(saw("missing", hour, check="ptr", more=spf) for hour in (0, 1))) == ["closed ptr"]
    assert gates(story, saw("good", 2)) == ["opened ptr"]


def test_a_domains_check_that_is_made_daily_stays_closed_between_and_opens_when_nobody_makes_it() -> None:
    story = fleet()
    mx = (Finding("mx", "good", "10 mail.acme.test"),)
    daily = [saw("broken", hour, check="expiry", route="", more=mx) for hour in (0, 24, 48)]
    hourly = [saw("good", hour, check="mx", route="") for hour in (*range(25, 48), *range(49, 48 + 72))]
    every = sorted([*daily, *hourly], key=lambda look: look.observed_at)
    assert gates(story, *every) == ["closed expiry"]
    assert gates(story, saw("good", 48 + 72, check="mx", route="")) == ["opened expiry"]


def test_what_has_not_changed_is_journaled_once_a_day() -> None:
    story = fleet()
    kept = [bool(story.sees(saw("good", hour))) for hour in range(49)]
    assert sum(kept) == 3


def test_a_domain_of_nobody_is_passed_over() -> None:
    story = fleet()
    stray = msgspec.structs.replace(saw("broken"), domain=DomainName("birch.test"))
    assert story.sees(stray) == []


# ── what follows ─────────────────────────────────────────────────────────────────────────────────


def test_a_closed_route_is_passed_by_for_the_next_one_that_the_domain_has_good_records_for() -> None:
    story = fleet("own", "backup")
    gates(story, saw("broken"), saw("broken", 1))
    story.ask("acme", "s-0")
    story.tick(2)
    assert [a.call.route for _, a in story.assigned] == ["backup"]
    gates(story, saw("good", 2))
    story.ask("acme", "s-1")
    story.tick(2)
    assert [a.call.route for _, a in story.assigned] == ["backup", "own"]


def test_another_domain_goes_on_over_a_route_that_is_closed_for_one() -> None:
    story = fleet()
    story.domain("acme", "acme.example")
    story.boxes("acme", "acme.example", 1)
    gates(story, saw("broken"), saw("broken", 1))
    for number in range(10):
        story.ask("acme", f"s-{number}")
    story.tick(30)
    assert {a.sender.mailbox for _, a in story.assigned} == {"box0@acme.example"}
    assert len(story.assigned) == 10


@pytest.mark.parametrize("route", ["own", ""])
def test_sends_wait_and_are_told_while_all_is_closed(route: str) -> None:
    story = fleet()
    check: Check = "spf" if route else "mx"
    gates(story, *(saw("broken", hour, check=check, route=route) for hour in (0, 1)))
    story.ask("acme", "s-0")
    story.tick(40)
    assert story.assigned == []
    assert story.told("s-0") == [("dns", None)]
    gates(story, saw("good", 2, check=check, route=route))
    story.tick(2)
    assert len(story.assigned) == 1


def test_a_thread_waits_for_its_mailbox_while_its_domain_is_closed() -> None:
    story = fleet()
    story.ask("acme", "s-0", thread_id="t")
    story.tick(3)
    gates(story, saw("broken"), saw("broken", 1))
    story.ask("acme", "s-1", thread_id="t")
    story.tick(40)
    assert len(story.assigned) == 1
    assert story.told("s-1") == [("dns", None)]
    gates(story, saw("good", 2))
    story.tick(2)
    assert len({a.sender.mailbox for _, a in story.assigned}) == 1
    assert len(story.assigned) == 2


def test_a_policy_without_the_gate_closes_nothing_and_lets_what_is_closed_go() -> None:
    story = fleet()
    gates(story, saw("broken"), saw("broken", 1))
    story.policy("acme", dns_gate=DnsGate(enabled=False))
    story.ask("acme", "s-0")
    story.tick(2)
    assert len(story.assigned) == 1
    assert gates(story, *(saw("missing", hour, check="dkim") for hour in (2, 3, 4))) == ["opened spf"]


# ── in whatever order ────────────────────────────────────────────────────────────────────────────

LOOKS = st.lists(
    st.tuples(
        st.sampled_from(["good", "broken", "missing", "could_not_be_checked"]),
        st.integers(0, 40),
        st.sampled_from(["10.0.0.53", "10.0.0.54"]),
    ),
    max_size=40,
)


@bounded(200)
@given(LOOKS)
def test_it_is_closed_only_after_two_bad_looks_with_no_good_one_between(looks: list[tuple[Verdict, int, str]]) -> None:
    story = fleet()
    held: list[tuple[datetime, str]] = []  # bad looks since the last good one
    newest: tuple[datetime, str] | None = None
    for verdict, hours, by in looks:
        look = saw(verdict, hours, by)
        place = (look.observed_at, by)
        said = gates(story, look)
        if newest is not None and (place[0] < newest[0] or place == newest):
            assert said == []
            continue
        newest = place
        if verdict == "good":
            held = []
        elif verdict != "could_not_be_checked":
            held.append(place)
        closed = story.state.gated(ClientId("acme"), DomainName("acme.test"), RouteId("own"))
        assert closed == (len(set(held)) >= 2)


def test_a_closed_gate_wakes_a_person_with_the_record_to_set_and_its_end_is_told() -> None:
    story = fleet()
    gates(story, saw("missing"), saw("missing", 1))
    (raised,) = story.decided(AlertRaised)
    assert isinstance(raised, AlertRaised)
    assert (raised.alert, raised.severity, raised.runbook) == (
        "dns_gate/acme/acme.test/own/spf",
        "critical",
        "dns_gate",
    )
    assert raised.detail == f"{FIX}. it is missing"
    gates(story, saw("good", 2))
    (resolved,) = story.decided(AlertResolved)
    assert isinstance(resolved, AlertResolved)
    assert resolved.alert == raised.alert
