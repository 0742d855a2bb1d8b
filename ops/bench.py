"""Measures what the fleet's mind costs: planning per send, for fleets of different sizes."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from ops.journals import Nowhere
from schemas.fleet import ClientDeclared, DomainDeclared, MailboxDeclared, MailboxWarmed, Pace, RouteDeclared
from schemas.ids import CampaignId, ClientId, DomainName, MailboxAddress, Recipient, RouteId, SendId, TopicId
from schemas.policy import Lists, Policy, PolicyApplied, WarmUp
from schemas.registry import Fact
from schemas.sending import Basis, ContentRef, SendAdmitted, SendAssigned, SendRef, SendRequested, Ticked
from streams.fleet.mind import FleetMind
from streams.log.rows import Rows

BEGIN = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
CLIENT = ClientId("acme")


class _Partition:
    """One fleet partition without a log."""

    def __init__(self) -> None:
        self.mind = FleetMind()
        self.rows = Rows(Nowhere(), 0, self.mind.row_types)
        self.state = self.mind.open(self.rows)
        self.seq = 0

    def sees(self, fact: Fact, at: datetime) -> list[Fact]:
        """Decide and fold."""
        facts = self.mind.decide(self.state, fact, at)
        self.fold(facts, at)
        return facts

    def fold(self, facts: Iterable[Fact], at: datetime) -> None:
        """Fold decided facts."""
        self.seq += 1
        for fact in facts:
            for key in self.mind.rows_of(fact, at):
                row = self.mind.evolve(key, self.rows.get(key), fact, at)
                self.rows.put(key, self.seq, row)
                self.mind.changed(self.state, key, row)


def planning(mailboxes: int, sends: int) -> float:
    """Return the microseconds of planning per assigned send, folding left out."""
    partition = _Partition()
    domain, route = DomainName("acme.test"), RouteId("own")
    declared: list[Fact] = [
        ClientDeclared(CLIENT, (CampaignId("all"),), "Street 1", Pace(), "https://u.acme.test/"),
        PolicyApplied(
            CLIENT, Policy("bench", WarmUp(domain_start_per_day=1_000_000), lists=Lists(canary_sends=0)), "bench"
        ),
        DomainDeclared(CLIENT, domain),
        RouteDeclared(CLIENT, route, "smtp", "127.0.0.1", 25, max_connections=1000),
    ]
    declared += [
        MailboxDeclared(CLIENT, MailboxAddress(f"box{n}@{domain}"), (route,), daily_quota=100) for n in range(mailboxes)
    ]
    declared += [MailboxWarmed(CLIENT, f.mailbox, BEGIN, "bench") for f in declared if isinstance(f, MailboxDeclared)]
    for fact in declared:
        partition.sees(fact, BEGIN)
    for _ in range(2):  # what is looked at once an hour or a quarter of one is no cost of a send
        partition.sees(Ticked(), BEGIN)
    for n in range(sends):
        partition.sees(_admitted(n), BEGIN)
    at, spent, assigned = BEGIN, 0.0, 0
    partition.mind.decide(partition.state, Ticked(), at)  # all mailboxes wake for the first time
    while assigned < sends:
        at += timedelta(seconds=1)
        began = time.perf_counter()
        facts = partition.mind.decide(partition.state, Ticked(), at)
        spent += time.perf_counter() - began
        partition.fold(facts, at)
        new = sum(isinstance(fact, SendAssigned) for fact in facts)
        if not new:
            raise RuntimeError("the fleet is too small for so many sends")
        assigned += new
    return spent / assigned * 1e6


def _admitted(number: int) -> SendAdmitted:
    ref = SendRef(CLIENT, SendId(f"s{number}"), Recipient(f"{number:064d}"))
    basis = Basis("express_consent", "form", BEGIN)
    content = ContentRef(TopicId("t"), 0, number, "c" * 64, 1000)
    return SendAdmitted(
        SendRequested(
            ref,
            CampaignId("all"),
            content,
            "d" * 64,
            ref.recipient,
            DomainName(f"firm{number}.test"),
            basis,
            BEGIN,
            BEGIN + timedelta(days=5),
        )
    )
