"""What people read of Gmail's spam rates and of DMARC reports, and the story that is told from it."""

from datetime import date, timedelta

import msgspec
import psycopg

from ops.stories import senders_named, story
from schemas.fleet import DomainDeclared
from schemas.ids import ClientId, DomainName
from schemas.reputation import DmarcReported, ReputationChanged, SpamRatesTold
from tests.projections.facts import AT, apply, example, one, rows

ACME, DOMAIN = ClientId("acme"), DomainName("acme-mail.com")


def told(rates: dict[str, float], until: date = date(2026, 3, 4)) -> SpamRatesTold:
    """Three days' rates."""
    return SpamRatesTold(ACME, DOMAIN, AT, until - timedelta(days=2), until, rates)


def test_a_day_without_data_is_null_and_a_later_word_fills_it_in(models: str) -> None:
    apply(models, told({"2026-03-02": 0.0}), told({"2026-03-03": 0.002, "2026-03-05": 0.004}, date(2026, 3, 5)))
    days = rows(models, "select day, share from analyst.spam_rates order by day")
    assert days == [
        (date(2026, 3, 2), 0.0),
        (date(2026, 3, 3), 0.002),
        (date(2026, 3, 4), None),
        (date(2026, 3, 5), 0.004),
    ]


def test_a_report_is_kept_once_and_its_mails_add_up_by_day_and_source(models: str) -> None:
    first = example("dmarc.reported.v1")
    assert isinstance(first, DmarcReported)
    apply(models, first, first, msgspec.structs.replace(first, org="Yahoo", report_id="1"))
    assert rows(models, "select org, policy_seen, skipped from dmarc_reports order by org") == [
        ("Yahoo", "none", 1),
        ("google.com", "none", 1),
    ]
    mails = "select source, ours, passed, sum(mails)::int from analyst.dmarc where day = '2026-03-02' group by 1, 2, 3"
    assert sorted(rows(models, mails)) == [
        ("", False, False, 10),
        ("192.0.2.25", True, False, 28),
        ("192.0.2.25", True, True, 424),
        ("2001:db8::77", False, False, 122),
    ]


def test_the_story_of_a_domain_says_what_is_told_of_it_and_what_to_do(models: str) -> None:
    turned = example("reputation.changed.v1")
    assert isinstance(turned, ReputationChanged)
    well = msgspec.structs.replace(turned, was="warning", now="good", fix="")
    apply(models, DomainDeclared(ACME, DOMAIN), turned, well)
    with psycopg.connect(models) as connection:
        last, first = story(connection, senders_named(connection, "acme-mail.com"))
    assert first["what"] == (
        "Gmail's users call mail of acme-mail.com spam: spam rate at Gmail. 0.0013 in the day 2026-03-03, against "
        "0.001. Gmail's users called 0.13% of that day's mail spam (policy spring-1f0c22aa). To do: find the list or "
        "campaign that people did not ask for"
    )
    assert last["what"].startswith("domain acme-mail.com is well again: spam rate at Gmail.")
    decided = rows(models, "select scope, subject, decision, rule from decisions order by seq")
    assert decided[0] == ("domain", "acme-mail.com", "gmail_spam warning", "spam rate at Gmail")
    assert one(models, "analyst.reputation_changes where now = 'warning'", "feed", "threshold") == ("gmail_spam", 0.001)
