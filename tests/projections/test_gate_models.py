"""What people read of gates, lists and receivers, and the story that is told from it."""

from datetime import UTC, datetime, timedelta

import msgspec
import psycopg

from ops.stories import senders_named, story
from schemas.dns import DomainObserved, Finding
from schemas.fleet import DomainDeclared, RouteDeclared
from schemas.health import Evidence, GateClosed, GateOpened, ListChanged, ListSignCounted
from schemas.ids import ClientId, DomainName, RouteId
from tests.projections.facts import AT, apply, example, one, rows

ACME, DOMAIN, OWN = ClientId("acme"), DomainName("acme.test"), RouteId("own")
FIX = "set TXT acme.test to v=spf1 ip4:192.0.2.25 -all"
LOOK = DomainObserved(ACME, DOMAIN, AT, "10.0.0.53", (Finding("spf", "missing", "no TXT record", FIX),), OWN)
TWICE = Evidence("spf missing", "spring-1", "looks in a row", 2, 0, 2, "no TXT record")
CLOSED = GateClosed(ACME, DOMAIN, "spf", TWICE, FIX, OWN)
OPENED = GateOpened(ACME, DOMAIN, "spf", Evidence("spf good", "spring-1"), OWN)
HELD = ListChanged(
    ACME, "fair", "canary", "held", Evidence("hard bounces of the canary", "spring-1", "canary", 3, 50, 0.05)
)


def later(look: DomainObserved, hours: int, **changes: str) -> DomainObserved:
    """The same look later, its one finding changed."""
    found = msgspec.structs.replace(look.findings[0], **changes)
    return msgspec.structs.replace(look, observed_at=AT + timedelta(hours=hours), findings=(found,))


def test_the_latest_finding_is_shown_and_each_turn_is_kept(models: str) -> None:
    apply(models, LOOK, later(LOOK, 1), later(LOOK, 2, verdict="good", evidence="v=spf1 -all", fix=""))
    assert one(models, "dns_findings", "verdict", "evidence", "fix") == ("good", "v=spf1 -all", "")
    turns = rows(models, "select verdict, looked_at from dns_history order by looked_at")
    assert turns == [("missing", AT), ("good", AT + timedelta(hours=2))]


def test_a_gate_is_an_interval_and_its_story_names_the_record_to_set(models: str) -> None:
    way = msgspec.structs.replace(example("route.declared.v1"), client=ACME, route=OWN)
    assert isinstance(way, RouteDeclared)
    apply(models, DomainDeclared(ACME, DOMAIN), way, CLOSED)
    with psycopg.connect(models) as connection:
        for name in ("acme.test", "acme/own"):
            (line, *_) = story(connection, senders_named(connection, name))
            assert line["what"] == (
                "domain acme.test over route own is closed: spf missing, seen 2 times in a row (policy spring-1). "
                f"no TXT record. To bring it back: {FIX}."
            )
    apply(models, OPENED, first_seq=4)
    assert one(models, "gates", "closed_at", "opened_at", "opened_by") == (
        AT + timedelta(minutes=3),
        AT + timedelta(minutes=4),
        "spf good",
    )
    decided = rows(models, "select scope, subject, decision, rule from decisions order by seq")
    assert decided == [
        ("domain", "acme.test", "closed over own", "spf missing"),
        ("domain", "acme.test", "opened over own", "spf good"),
    ]


def test_a_list_shows_its_signs_and_its_state(models: str) -> None:
    sign = ListSignCounted(ACME, "fair", "hard_bounce")
    apply(models, sign, sign, ListSignCounted(ACME, "fair", "complaint"), HELD, DomainDeclared(ACME, DOMAIN))
    assert one(models, "lists", "state", "bounced", "complained", "numerator", "denominator") == ("held", 2, 1, 3, 50)
    with psycopg.connect(models) as connection:
        (line,) = story(connection, senders_named(connection, "acme"))
    assert line["what"].startswith("list fair is held: hard bounces of the canary. 3 of 50 (6.00%), against 5.00%.")


def test_what_goes_to_a_receiver_is_counted_by_hour_and_given_back(models: str) -> None:
    given, ended = example("send.assigned.v1.4"), example("send.ended.v1.4")
    apply(models, given, given)
    (hour,) = rows(models, "select distinct hour from receiver_use")[0]
    assert one(models, "receiver_use", "organisation", "receiver", "sends") == ("acme.test", "gmail", 2)
    assert hour == datetime(2026, 3, 2, 8, tzinfo=UTC)
    apply(models, ended, first_seq=3)
    assert one(models, "receiver_use", "sends") == 1
