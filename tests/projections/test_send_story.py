"""`mailfleet why` of a send and of a route: sentences, newest first, with what holds it and what brings it back."""

from datetime import timedelta
from typing import get_args

import msgspec
import psycopg

from ops.explained import explained
from ops.fleet_orders import owner_among
from ops.send_story import LIMITS
from schemas.fleet import (
    DomainDeclared,
    MailboxDeclared,
    ReceiverThrottled,
    RouteDeclared,
    RouteRecovered,
    RouteTripped,
    StartOrdered,
    StopOrdered,
)
from schemas.health import Evidence, HealthChanged
from schemas.ids import ClientId, DomainName, MailboxAddress, RouteId
from schemas.sending import (
    AttemptAssigned,
    AttemptRefused,
    SendAdmitted,
    SendRequeued,
    SendWaits,
    Verdict,
    WaitLimit,
)
from tests.projections.facts import AT, about, admitted, apply, example

ACME, OWN = ClientId("acme"), RouteId("own")
ROUTE = RouteDeclared(ACME, OWN, "smtp", "127.0.0.1", 25)


def told(database: str, name: str) -> list[str]:
    with psycopg.connect(database) as connection:
        return [line["what"] for line in explained(connection, name)["story"]]


def a_send(send_id: str = "s1") -> tuple[SendAdmitted, AttemptAssigned, AttemptRefused]:
    """A send that was given to a mailbox and put off."""
    made = admitted(send_id)
    given: AttemptAssigned = about(example("attempt.assigned.v1"), made.request.ref)
    given = msgspec.structs.replace(given, assignment=about(given.assignment, made.request.ref))
    later = Verdict("greylisted", "recipient", "recipient", "retry_same_mailbox", "greylisting")
    sent = given.assignment
    no: AttemptRefused = about(example("attempt.refused.v1"), made.request.ref)
    return made, given, msgspec.structs.replace(no, attempt=sent.attempt, verdict=later)


def test_every_limit_has_its_sentence() -> None:
    assert set(LIMITS) == set(get_args(WaitLimit))


def test_a_send_tells_why_this_mailbox_what_came_of_it_and_why_not_yet(models: str) -> None:
    made, given, no = a_send()
    ref, again = made.request.ref, AT + timedelta(minutes=20)
    apply(models, made, given, no, SendRequeued(ref, 1, again, "refused: greylisting", counts=True))
    lines = told(models, "acme/s1")
    assert lines[0] == (
        "it waits: it is tried again after a pause, until 2026-03-02 08:36:00 UTC at least: refused: greylisting"
    )
    assert lines[1].startswith("attempt 1 came out as refused: ")
    assert lines[1].endswith(", which means greylisting")
    assert lines[2] == (
        f"attempt 1 was given to {given.assignment.sender.mailbox} over route {given.assignment.call.route}: "
        f"{given.assignment.rule}"
    )
    assert lines[-1].startswith("it was asked for, of campaign ")
    apply(models, SendWaits(ref, "list_canary", None), first_seq=5)
    assert told(models, "acme/s1")[0].startswith("it waits: its list's first sends are out")


def test_a_send_that_nothing_holds_yet_says_so(models: str) -> None:
    apply(models, admitted("s2"))
    assert told(models, "s2")[0] == "it waits for a mailbox; nothing has held it for long yet"


def test_a_route_tells_its_trips_its_receivers_and_its_stops(models: str) -> None:
    until = AT + timedelta(minutes=12)
    why = Evidence("no answer at connect", "spring-1", "a row", 5, 0, 5)
    apply(
        models,
        ROUTE,
        RouteTripped(ACME, OWN, until, "no answer at connect", "refused", why=why),
        RouteRecovered(ACME, OWN, "acme/s1/1: 250 2.0.0 Ok"),
        ReceiverThrottled(ACME, OWN, "gmail", until, 1, "receiver-throttles", "421 4.7.28"),
        StopOrdered("campaign", "acme/news", "lena", ACME),
        StartOrdered("campaign", "acme/news", "ola", ACME),
        StopOrdered("all", "", "lena"),
        journal="fleet-journal",
    )
    assert told(models, "acme/own") == [
        "all mail is stopped by lena. A person lets it go on: mailfleet start all",
        "campaign news goes on by ola",
        "campaign news is stopped by lena. A person lets it go on: mailfleet start campaign acme/news",
        "over route own, gmail rests, no. 1 in a row: receiver-throttles. 421 4.7.28. Its mail waits until "
        "2026-03-02 08:28:00 UTC and is then tried with one",
        "route own works again: a mail went through. acme/s1/1: 250 2.0.0 Ok",
        "route own is out: no answer at connect. 5 in a row, against 5; refused. It is tried with one mail at "
        "2026-03-02 08:28:00 UTC",
    ]


SUB = DomainDeclared(ACME, DomainName("mail.acme.test"))
BOX = MailboxAddress("anna@mail.acme.test")


def test_an_organisation_of_which_only_sub_domains_are_declared_has_a_story_and_a_way_back(models: str) -> None:
    why = Evidence("complaint rate", "spring-1", "7 days", 5, 1400, 0.003)
    out = HealthChanged(ACME, "domain", "acme.test", "active", "unhealthy", why)
    apply(models, ROUTE, SUB, MailboxDeclared(ACME, BOX, (OWN,), 40), out, journal="fleet-journal")
    for name in ("acme.test", "mail.acme.test", BOX):
        (line,) = told(models, name)
        assert line.endswith("A person lets it back: mailfleet resume domain acme.test --reason ..."), name
    with psycopg.connect(models) as connection:
        stands = explained(connection, BOX)["mailbox"][0]["stands still because"]
    assert stands.startswith("the domain acme.test is out of rotation since")
    assert owner_among([ROUTE, SUB], "domain", "acme.test") == ACME
    assert owner_among([ROUTE, SUB], "domain", "mail.acme.test") == ACME
    assert owner_among([ROUTE, SUB], "route", "acme/own") == ACME
    assert owner_among([ROUTE, SUB], "domain", "other.test") is None
