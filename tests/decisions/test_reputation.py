"""What receivers say of a domain: Gmail's rates slow it down or take it out, DMARC reports wake people, once each."""

from datetime import date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

import ops
from schemas.health import AlertRaised, AlertResolved, HealthChanged, HealthState, PauseOrdered, ResumeOrdered
from schemas.ids import ClientId, DomainName
from schemas.policy import Reputation
from schemas.registry import Fact
from schemas.reputation import Disposition, DmarcCount, DmarcReported, ReputationChanged, SpamRatesTold
from schemas.sending import Ticked
from streams.fleet.feeds import reputation_of
from streams.fleet.reputation import MOST_REPORTS
from streams.log.rows import encode_row
from tests.decisions.fleet_story import START, FleetStory

ACME, DOMAIN = ClientId("acme"), DomainName("acme.test")
DAY = timedelta(days=1)


def fleet() -> FleetStory:
    """One client with one domain and two mailboxes."""
    story = FleetStory()
    story.client("acme")
    story.domain("acme", "acme.test")
    story.route("acme", "own")
    story.boxes("acme", "acme.test", 2, routes=("own",))
    return story


def gmail(story: FleetStory, day: int, rates: dict[int, float]) -> list[Fact]:
    """What follows from Gmail's rates, told on that day after the start; days count from the start, too."""
    story.now = START + day * DAY
    named = {(START + n * DAY).date().isoformat(): rate for n, rate in rates.items()}
    until = story.now.date() - timedelta(days=1)
    return story.sees(SpamRatesTold(ACME, DOMAIN, story.now, until - timedelta(days=8), until, named))


def count(
    mails: int, *, ours: bool = True, spf: bool = False, dkim: bool = False, source: str = "192.0.2.9",
    disposition: Disposition = "none",
) -> DmarcCount:  # fmt: skip
    """Mails of one source that were judged alike."""
    return DmarcCount(source, ours, disposition, spf, dkim, mails)


def report(*counts: DmarcCount, day: int = 0, name: str = "r1", org: str = "google.com") -> DmarcReported:
    """A report about one day."""
    end = START + day * DAY
    return DmarcReported(ACME, DOMAIN, org, name, end - DAY, end, "none", counts)


def states(facts: list[Fact]) -> list[HealthState]:
    """The states into which the domain goes."""
    return [fact.now for fact in facts if isinstance(fact, HealthChanged) and fact.scope == "domain"]


def turns(facts: list[Fact]) -> list[str]:
    """How feeds turn."""
    return [f"{fact.feed} {fact.now}" for fact in facts if isinstance(fact, ReputationChanged)]


def state_of(story: FleetStory) -> HealthState:
    """The domain's state."""
    return story.state.sender("domain", ACME, DOMAIN).state


@pytest.mark.parametrize(
    ("rate", "state"),
    [(0.0, "active"), (0.00099, "active"), (0.001, "watched"), (0.00299, "watched"), (0.003, "unhealthy")],
)
def test_a_tenth_of_a_percent_slows_down_and_three_tenths_take_out(rate: float, state: HealthState) -> None:
    story = fleet()
    facts = gmail(story, 2, {0: 0.0, 1: rate})
    assert state_of(story) == state
    raised = [fact for fact in facts if isinstance(fact, AlertRaised)]
    assert {fact.runbook for fact in raised} == (set() if state == "active" else {"gmail_spam", "domain_health"})
    for change in (f for f in facts if isinstance(f, HealthChanged | ReputationChanged)):
        why = change.evidence
        assert (why.window, why.numerator) == ("the day 2026-03-03", rate)
        assert why.threshold == (0.003 if state == "unhealthy" else 0.001)


def test_no_data_is_no_zero_percent() -> None:
    story = fleet()
    assert states(gmail(story, 2, {1: 0.002})) == ["watched"]
    assert states(gmail(story, 3, {})) == []
    assert state_of(story) == "watched"
    assert states(gmail(story, 4, {3: 0.0})) == ["active"]
    facts = gmail(story, 5, {})
    assert isinstance(facts[0], SpamRatesTold)
    assert "2026-03-06" not in reputation_of(story.state, ACME, DOMAIN).rates


def test_the_watched_domain_stays_watched_until_gmail_says_better() -> None:
    story = fleet()
    gmail(story, 2, {1: 0.002})
    for day in range(3, 20):
        gmail(story, day, {day - 1: 0.002})
        story.sees(Ticked())
        assert state_of(story) == "watched", day
    assert turns(gmail(story, 20, {19: 0.0005})) == ["gmail_spam good"]
    assert state_of(story) == "active"


def test_a_feed_that_falls_silent_holds_nobody_for_ever() -> None:
    story = fleet()
    gmail(story, 2, {1: 0.002})
    story.now += 9 * DAY
    story.sees(Ticked())
    assert state_of(story) == "active"


def test_a_domain_that_gmail_took_out_comes_back_by_a_person_and_old_days_do_not_count_again() -> None:
    story = fleet()
    gmail(story, 2, {1: 0.004})
    story.now = START + 10 * DAY
    story.sees(Ticked())
    assert state_of(story) == "unhealthy"
    facts = story.sees(ResumeOrdered(ACME, "domain", DOMAIN, "lena", "list removed"))
    assert turns(facts) == ["gmail_spam good"]
    assert [f.alert for f in facts if isinstance(f, AlertResolved)] == ["gmail_spam/acme/acme.test"]
    assert states(gmail(story, 11, {8: 0.009, 9: 0.004})) == []
    assert states(gmail(story, 13, {12: 0.004})) == ["unhealthy"]


def test_a_domain_that_a_person_paused_stays_as_that_person_left_it() -> None:
    story = fleet()
    story.sees(PauseOrdered(ACME, "domain", DOMAIN, "lena", "moving"))
    facts = gmail(story, 2, {1: 0.004})
    assert (turns(facts), states(facts)) == (["gmail_spam bad"], [])


def test_rates_told_again_or_too_late_change_nothing() -> None:
    story = fleet()
    assert gmail(story, 3, {2: 0.002})
    assert gmail(story, 3, {2: 0.002}) == []
    late = SpamRatesTold(ACME, DOMAIN, START, date(2026, 2, 20), date(2026, 2, 28), {"2026-02-28": 0.5})
    assert story.sees(late) == []
    other = msgspec.structs.replace(late, domain=DomainName("other.test"))
    assert story.sees(other) == []


def test_own_mail_that_fails_wakes_a_person_and_takes_nobody_out() -> None:
    story = fleet()
    facts = story.sees(report(count(90, spf=True, dkim=True), count(10)))
    assert turns(facts) == ["dmarc_own bad"]
    assert states(facts) == []
    (raised,) = [fact for fact in facts if isinstance(fact, AlertRaised)]
    assert "mailfleet dns-records acme.test" in raised.detail
    assert "10 from 192.0.2.9" in raised.detail
    (changed,) = [fact for fact in facts if isinstance(fact, ReputationChanged)]
    why = changed.evidence
    assert (why.numerator, why.denominator, why.threshold, why.window) == (10, 100, 0.05, "7 days")


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((count(9),), []),  # below the floor
        ((count(300, spf=True, dkim=True), count(12)), []),  # below the share
        ((count(20, spf=True),), ["dmarc_own warning"]),  # no aligned signature
        ((count(20, dkim=True),), []),  # SES with its own return path, and forwarders
        ((count(49, ours=False),), []),
        ((count(50, ours=False),), ["dmarc_unknown warning"]),
    ],
)
def test_shares_and_floors_decide_what_wakes(counts: tuple[DmarcCount, ...], expected: list[str]) -> None:
    assert turns(fleet().sees(report(*counts))) == expected


def test_small_reports_of_many_receivers_add_up_and_a_week_later_all_is_well() -> None:
    story = fleet()
    for n in range(4):
        assert turns(story.sees(report(count(2), name=f"r{n}"))) == []
    assert turns(story.sees(report(count(2), name="r9", org="yahoo.com"))) == ["dmarc_own bad"]
    story.now = START + 8 * DAY
    facts = story.sees(report(count(5, spf=True, dkim=True), day=8, name="r10"))
    assert turns(facts) == ["dmarc_own good"]
    assert [fact.alert for fact in facts if isinstance(fact, AlertResolved)] == ["dmarc_own/acme/acme.test"]


def test_a_report_counts_once_whoever_delivers_it_again() -> None:
    story = fleet()
    assert story.sees(report(count(30, ours=False)))
    assert story.sees(report(count(30, ours=False))) == []
    story.now = START + 20 * DAY
    assert story.sees(report(count(30, ours=False))) == []
    assert reputation_of(story.state, ACME, DOMAIN).days["2026-03-02"].unknown == 30
    assert story.sees(report(count(30, ours=False), org="yahoo.com"))


def test_reports_of_long_ago_and_of_days_to_come_say_nothing_of_today() -> None:
    story = fleet()
    assert story.sees(report(count(99), day=-31)) == []
    assert story.sees(report(count(99), day=3)) == []


def test_a_flood_of_reports_keeps_the_row_small() -> None:
    story = fleet()
    at = START
    for n in range(MOST_REPORTS + 500):
        at = START + n * DAY / 100
        story.now = at
        end = at - timedelta(minutes=1)
        story.sees(DmarcReported(ACME, DOMAIN, "x.test", f"r{n}", end - DAY, end, "none", (count(1),)))
    row = reputation_of(story.state, ACME, DOMAIN)
    assert sum(map(len, row.reports.values())) <= MOST_REPORTS
    assert len(encode_row(10**9, row)) < 100_000
    assert datetime.fromisoformat(min(row.reports)).date() < at.date()


def test_a_policy_may_switch_the_feeds_off_or_move_the_thresholds() -> None:
    story = fleet()
    story.policy("acme", reputation=Reputation(gmail_spam_rate_watch=0.002, dmarc_fails_at_least=1))
    assert states(gmail(story, 2, {1: 0.0019})) == []
    story.now = START
    assert turns(story.sees(report(count(1)))) == ["dmarc_own bad"]
    off = fleet()
    off.policy("acme", reputation=Reputation(enabled=False))
    assert turns(gmail(off, 2, {1: 0.5})) == []
    assert turns(off.sees(report(count(500), count(500, ours=False), day=2))) == []


@pytest.mark.parametrize("feed", ["gmail_spam", "dmarc_own", "dmarc_unknown"])
def test_each_alert_of_a_feed_has_its_page(feed: str) -> None:
    assert (Path(ops.__file__).parent / "runbooks" / f"{feed}.md").exists()
