"""Read model `daily_mail`: each fact counts once, on the day of its mail, and the views sum it."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import msgspec
import psycopg
import pytest

from ops.embedded import EmbeddedKafka
from projections.daily_mail import COUNTS
from schemas.ids import ClientId, SendId
from schemas.policy import Health, Policy, PolicyApplied
from schemas.registry import Fact
from schemas.sending import SendRef
from tests.projections.facts import about, admitted, apply, example, rows
from tests.projections.journal import Journal, entry, until

JANE: SendRef = example("send.admitted.v1").request.ref
DAY = date(2026, 3, 2)
WAY = ("send.admitted", "attempt.assigned", "submission.started", "attempt.accepted")
VIEWS = ("daily_mail", *(f"mails_by_{what}" for what in ("day", "campaign", "domain", "mailbox", "receiver", "route")))


def story(*names: str, before: Sequence[str] = WAY) -> list[Fact]:
    """One send's facts, from the published examples."""
    return [about(example(f"{n}.v1"), JANE) if n != "send.admitted" else example(f"{n}.v1") for n in (*before, *names)]


def counted(database: str, view: str = "analyst.daily_mail") -> dict[str, int]:
    """What is counted in all, without what is not there."""
    sums = ", ".join(f"coalesce(sum({count}), 0)::integer" for count in COUNTS)
    (found,) = rows(database, f"select {sums} from {view}")
    return {name: n for name, n in zip(COUNTS, found, strict=True) if n}


def test_a_mail_counts_by_its_day_client_campaign_domain_mailbox_route_and_receiver(models: str) -> None:
    request = example("send.requested.v1")
    known = msgspec.structs.replace(
        example("send.admitted.v1"), request=msgspec.structs.replace(request, receiver="gmail")
    )
    apply(models, known, *story(before=WAY[1:]))
    found = rows(models, "select day, client, campaign, domain, mailbox, route, receiver from daily_mail")
    assert found == [(DAY, "acme", "spring-2026", "acme.test", "anna@acme.test", "own", "gmail")]
    assert counted(models) == {"assigned": 1, "accepted": 1}


OUTCOMES: list[tuple[str, dict[str, int]]] = [
    ("attempt.refused.v1", {"refused": 1, "hard_bounced": 1}),
    ("attempt.refused.v1.2", {"deferred": 1}),
    ("attempt.not_sent.v1", {"not_sent": 1}),
    ("attempt.missed.v1", {"missed": 1}),
    ("attempt.unknown.v1", {"unknown": 1}),
]


@pytest.mark.parametrize(("file", "more"), OUTCOMES, ids=[file for file, _ in OUTCOMES])
def test_an_attempt_that_was_not_accepted_counts_by_what_became_of_it(
    models: str, file: str, more: dict[str, int]
) -> None:
    apply(models, *story(before=WAY[:2]), about(example(file), JANE))
    assert counted(models) == {"assigned": 1, **more}


COMES_BACK = [
    ("send.delivered", "delivered"),
    ("send.bounced", "hard_bounced"),
    ("send.returned", "returned"),
    ("send.complained", "complained"),
    ("send.unsubscribed", "unsubscribed"),
    ("send.replied", "replied"),
    ("send.assumed_sent", "assumed_sent"),
]


@pytest.mark.parametrize(("name", "count"), COMES_BACK)
def test_what_comes_back_counts_on_the_day_of_the_mail(models: str, name: str, count: str) -> None:
    apply(models, *story(name))
    assert counted(models) == {"assigned": 1, "accepted": 1, count: 1}
    assert rows(models, "select day from daily_mail") == [(DAY,)]


def test_a_bounce_for_another_reason_than_the_address_counts_as_soft(models: str) -> None:
    bounced = about(example("send.bounced.v1.2"), JANE)
    full = msgspec.structs.replace(bounced.verdict, action="fail", reply_class="mailbox_full", rule="mailbox full")
    apply(models, *story(), msgspec.structs.replace(bounced, verdict=full))
    assert counted(models) == {"assigned": 1, "accepted": 1, "soft_bounced": 1}


def test_a_send_answered_twice_is_one_that_was_answered(models: str) -> None:
    apply(models, *story("send.replied", "send.replied"))
    assert counted(models)["replied"] == 1


def test_a_second_attempt_counts_at_the_mailbox_that_carries_it(models: str) -> None:
    assigned = example("attempt.assigned.v1")
    sender = msgspec.structs.replace(assigned.assignment.sender, mailbox="ben@other.test")
    second = msgspec.structs.replace(assigned.assignment, attempt=2, sender=sender, quota_day="2026-03-03")
    again = msgspec.structs.replace(assigned, assignment=second)
    accepted = msgspec.structs.replace(example("attempt.accepted.v1"), attempt=2)
    apply(models, *story("attempt.missed", before=WAY[:2]), again, accepted)
    found = rows(models, "select day, domain, mailbox, assigned, missed, accepted from daily_mail order by day")
    assert found == [
        (DAY, "acme.test", "anna@acme.test", 1, 1, 0),
        (date(2026, 3, 3), "other.test", "ben@other.test", 1, 0, 1),
    ]


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_counts_the_same(models: str, view: str) -> None:
    apply(models, *story("send.bounced", "send.replied"))
    assert counted(models, f"analyst.{view}") == counted(models)


async def test_each_fact_counts_exactly_once_over_kills(kafka: EmbeddedKafka, models: str, topic_prefix: str) -> None:
    journal = Journal(kafka.bootstrap, models, topic_prefix + "journal")
    await journal.append(*(entry(seq, *one(f"s{seq}")) for seq in range(1, 401)))
    for life in range(3):
        process = await journal.process()
        await until(lambda life=life: journal.count() > life * 100, "something applied")  # type: ignore[misc]
        process.kill()
        await process.wait()
    async with journal.running():
        await journal.applied(400)
    assert counted(models) == {"assigned": 400, "accepted": 400, "delivered": 400}


def one(send_id: str) -> list[Any]:
    """A send that was delivered."""
    first = admitted(send_id)
    ref = first.request.ref
    names = ("attempt.assigned", "attempt.accepted", "send.delivered")
    assert ref.send_id == SendId(send_id)
    return [first, *(about(example(f"{name}.v1"), ref) for name in names)]


def test_the_counts_are_the_tables_columns(models: str) -> None:
    with psycopg.connect(models) as connection:
        names = [c.name for c in connection.execute("select * from daily_mail").description or ()]
    assert tuple(names[7:]) == COUNTS


@pytest.mark.parametrize(
    ("provider", "reported_by", "told"),
    [("smtp", None, (0, 0)), ("ses", None, (1, 1)), ("ses", (), (0, 0)), ("smtp", ("smtp",), (1, 1))],
)
def test_a_complaint_rate_is_one_of_routes_whose_provider_reports_complaints(
    models: str, provider: str, reported_by: tuple[str, ...] | None, told: tuple[int, int]
) -> None:
    route = msgspec.structs.replace(example("route.declared.v1"), client="acme", route="own", provider=provider)
    apply(models, route, journal="fleet-journal")
    if reported_by is not None:
        policy = Policy("p", health=Health(complaints_reported_by=reported_by))
        apply(models, PolicyApplied(ClientId("acme"), policy, "lena"), journal="fleet-journal", first_seq=2)
    apply(models, *story("send.complained"))
    for view in VIEWS:
        (found,) = rows(models, f"select sum(complained), sum(accepted_told), sum(complained_told) from analyst.{view}")
        assert found == (1, *told), view
