"""What people read of senders' states, warm-up and alerts, and the story that is told from it."""

from datetime import timedelta

import msgspec
import psycopg

from ops.stories import senders_named, story
from schemas.fleet import DomainDeclared, MailboxDeclared, MailboxWarmed
from schemas.health import AlertRaised, AlertResolved, Evidence, HealthChanged, WarmUpStepped
from schemas.ids import ClientId, DomainName, MailboxAddress, RouteId
from schemas.policy import Policy, PolicyApplied, WarmUp
from tests.projections.facts import AT, apply, one, rows

ACME, ANNA = ClientId("acme"), MailboxAddress("anna@acme.test")
FLEET = (
    DomainDeclared(ACME, DomainName("acme.test")),
    MailboxDeclared(ACME, ANNA, (RouteId("own"),), 40),
)
BOUNCES = Evidence("hard bounce rate", "spring-1", "7 days", 4, 118, 0.03)
OUT = HealthChanged(ACME, "mailbox", ANNA, "active", "unhealthy", BOUNCES, AT + timedelta(days=1))
LATER = HealthChanged(ACME, "mailbox", ANNA, "unhealthy", "probation", Evidence("time is over", "spring-1"))
SICK = HealthChanged(ACME, "domain", "acme.test", "active", "unhealthy", Evidence("listed", "spring-1", said="DBL"))
STEP = WarmUpStepped(
    ACME,
    "mailbox",
    ANNA,
    "2026-03-03",
    5,
    6,
    Evidence("delivered without a bad sign", "spring-1", "since x", 5, 5, 0.5),
)


def test_a_state_lasts_until_the_next_and_the_mailbox_shows_what_holds_it(models: str) -> None:
    apply(models, *FLEET, OUT)
    assert one(models, "mailboxes", "out_until", "out_rule") == (OUT.until, "hard bounce rate")
    assert rows(models, "select mailboxes, mailboxes_out from capacity") == [(1, 1)]
    apply(models, LATER, first_seq=4)
    states = rows(models, "select state, from_at, to_at, numerator, denominator from sender_states order by from_at")
    third, fourth = AT + timedelta(minutes=3), AT + timedelta(minutes=4)
    assert states == [("unhealthy", third, fourth, 4, 118), ("probation", fourth, None, 0, 0)]
    assert one(models, "mailboxes", "out_until", "out_rule") == (None, "")
    assert rows(models, "select decision, rule from decisions order by seq") == [
        ("left out", "hard bounce rate"),
        ("on probation", "time is over"),
    ]


def test_capacity_counts_what_warm_up_allows_and_no_more_than_the_domain_may(models: str) -> None:
    ben = MailboxDeclared(ACME, MailboxAddress("ben@acme.test"), (RouteId("own"),), 40)
    sql = "select mailbox_quota_per_day, sends_per_day from capacity"
    apply(models, *FLEET, ben)
    assert rows(models, sql) == [(80, 80)]
    apply(models, msgspec.structs.replace(STEP, was=0, now=5), STEP, first_seq=4)
    assert rows(models, sql) == [(80, 46)]
    domain = msgspec.structs.replace(STEP, scope="domain", name="acme.test", was=0, now=30)
    apply(models, domain, first_seq=6)
    assert rows(models, sql) == [(80, 30)]
    apply(models, DomainDeclared(ACME, DomainName("acme.test"), 20), first_seq=7)
    assert rows(models, sql) == [(80, 20)]


def test_what_has_not_begun_to_warm_up_can_carry_what_it_begins_with(models: str) -> None:
    ben = MailboxDeclared(ACME, MailboxAddress("ben@acme.test"), (RouteId("own"),), 40)
    sql = "select mailbox_quota_per_day, sends_per_day from capacity"
    apply(models, *FLEET, ben, PolicyApplied(ACME, Policy("p"), "lena"))
    assert rows(models, sql) == [(80, 10)]
    apply(models, MailboxWarmed(ACME, ben.mailbox, AT, "before"), first_seq=6)
    assert rows(models, sql) == [(80, 45)]
    apply(models, STEP, first_seq=7)
    assert rows(models, sql) == [(80, 46)]
    off = Policy("q", warm_up=WarmUp(enabled=False))
    apply(models, PolicyApplied(ACME, off, "lena"), first_seq=8)
    assert rows(models, sql) == [(80, 80)]


def test_an_alert_is_one_row_while_its_story_goes_on_and_begins_anew_after_its_end(models: str) -> None:
    raised = AlertRaised(ACME, "mailbox_health/a", "warning", "out", "why", "mailbox-health")
    apply(models, raised, raised)
    assert one(models, "alerts", "times", "resolved_at") == (2, None)
    apply(models, AlertResolved(ACME, "mailbox_health/a", "probation passed"), first_seq=3)
    assert one(models, "alerts", "resolved_at", "how") == (AT + timedelta(minutes=3), "probation passed")
    apply(models, raised, first_seq=4)
    assert one(models, "alerts", "times", "resolved_at", "raised_at") == (1, None, AT + timedelta(minutes=4))


def test_the_story_of_a_mailbox_tells_its_own_and_its_domains_newest_first(models: str) -> None:
    apply(models, *FLEET, STEP, OUT, LATER, SICK)
    with psycopg.connect(models) as connection:
        senders = senders_named(connection, ANNA)
        told = [line["what"] for line in story(connection, senders)]
        assert senders[0] == ("acme", "mailbox", ANNA)
        assert [s[:2] for s in senders_named(connection, "acme.test")] == [("acme", "domain"), ("acme", "client")]
        assert senders_named(connection, "acme") == [("acme", "client", "acme")]
        assert senders_named(connection, "nobody") == []
    assert told == [
        "domain acme.test is out of rotation: listed. DBL (policy spring-1). A person lets it back: "
        "mailfleet resume domain acme.test --reason ...",
        f"mailbox {ANNA} is on probation: time is over. (policy spring-1). It may send a few mails a day until enough "
        "have arrived without a bad sign",
        f"mailbox {ANNA} is out of rotation: hard bounce rate. 4 of 118 (3.39%) in 7 days, against 3.00%. "
        "(policy spring-1); until 2026-03-02 08:21 UTC",
        f"mailbox {ANNA} may send 6 a day from 2026-03-03 on instead of 5: delivered without a bad sign. 5 of 5 "
        "(100.00%) in since x, against 50.00%. (policy spring-1)",
    ]
