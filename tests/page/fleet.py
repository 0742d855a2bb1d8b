"""A month of a small fleet as facts, put into Postgres by the read models; every name can carry something hostile."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg

from projections.migrate import migrate
from projections.projector import READ_MODELS
from projections.read_model import Place
from schemas.dns import DomainObserved, Finding
from schemas.fleet import DomainDeclared, MailboxDeclared, RouteDeclared, RouteTripped, StopOrdered
from schemas.health import AlertRaised, AlertResolved, Evidence, HealthChanged, ReserveChanged, RestBegan, WarmUpStepped
from schemas.registry import Fact
from schemas.sending import SendRef, SendWaits
from tests.projections.facts import about, admitted, example

NOW = datetime.now(UTC).replace(microsecond=0)
CLIENTS = ("acme", "birch")
PEOPLE = ("anna", "ben", "carla", "dmitri", "emre", "fatima", "georg", "hana")
CHECKS = ("spf", "dkim", "dmarc", "mx", "blocklist", "expiry")
Told = tuple[datetime, Fact]


@dataclass(frozen=True)
class Fleet:
    """Two clients, three domains each, eight mailboxes a domain; `evil` stands in each name and each text."""

    evil: str = ""
    days: int = 30
    a_day: int = 20

    def domains(self, client: str) -> list[str]:
        """Names of a client's domains."""
        return [f"{client}-{word}.example{self.evil}" for word in ("mail", "news", "team")]

    def client(self, name: str) -> str:
        """The client's name."""
        return name + self.evil

    @property
    def mailboxes(self) -> list[tuple[str, str]]:
        """(client, mailbox) of all."""
        return [
            (self.client(client), f"{person}@{domain}")
            for client in CLIENTS
            for domain in self.domains(client)
            for person in PEOPLE
        ]

    def facts(self) -> Iterator[Told]:
        """All facts, in the order of time."""
        told = [*self._declared(), *self._mail(), *self._health(), *self._seen(), *self._roster(), *self._now()]
        return iter(sorted(told, key=lambda each: each[0]))

    def _declared(self) -> Iterator[Told]:
        at = NOW - timedelta(days=self.days + 1)
        for client in CLIENTS:
            owner: Any = self.client(client)
            for domain in self.domains(client):
                yield at, msgspec.convert({"client": owner, "domain": domain, "daily_quota": 200}, DomainDeclared)
            for route, provider in (("own", "smtp"), ("ses", "ses")):
                named = {"client": owner, "route": route + self.evil, "provider": provider, "host": "mail.test"}
                yield at, msgspec.convert(named | {"port": 587, "ceiling_24h": 2000}, RouteDeclared)
        for owner, mailbox in self.mailboxes:
            routes = ["own" + self.evil, "ses" + self.evil]
            named = {"client": owner, "mailbox": mailbox, "routes": routes, "daily_quota": 40}
            yield at, msgspec.convert(named, MailboxDeclared)

    def _mail(self) -> Iterator[Told]:
        chance = random.Random(7)
        for back in range(self.days, -1, -1):
            day = NOW - timedelta(days=back)
            many = self.a_day // 3 if day.weekday() > 4 else self.a_day + chance.randrange(self.a_day // 2 + 1)
            for number in range(many):
                owner, mailbox = chance.choice(self.mailboxes)
                at = min(day - timedelta(hours=3) + timedelta(minutes=number), NOW - timedelta(seconds=20))
                yield from self._send(f"{day:%m%d}-{number:04d}{self.evil}", owner, mailbox, at, chance.random())

    def _send(self, send_id: str, owner: str, mailbox: str, at: datetime, luck: float) -> Iterator[Told]:
        ref = msgspec.convert({"client": owner, "send_id": send_id, "recipient": "ab" * 32}, SendRef)
        yield at, _of(admitted(send_id, client=owner), ref)
        yield at + timedelta(seconds=1), self._planned(example("attempt.assigned.v1"), ref, mailbox, at)
        yield at + timedelta(seconds=1), self._sender(example("send.assigned.v1"), ref, mailbox, at)
        carried = {"ref": ref, "mailbox": mailbox, "route": "own" + self.evil}
        file = "attempt.accepted.v1" if luck < 0.93 else "attempt.refused.v1"
        fact = msgspec.structs.replace(example(file), **carried)
        said = msgspec.structs.replace(fact.reply, text=fact.reply.text + self.evil)
        yield at + timedelta(seconds=4), msgspec.structs.replace(fact, reply=said)
        if luck < 0.04:
            bounce = about(example("send.bounced.v1.2"), ref)
            held = msgspec.structs.replace(bounce.carried, mailbox=mailbox, route="own" + self.evil)
            yield at + timedelta(minutes=5), msgspec.structs.replace(bounce, carried=held)

    def _planned(self, fact: Any, ref: SendRef, mailbox: str, at: datetime) -> Any:
        sender = msgspec.structs.replace(fact.assignment.sender, mailbox=mailbox)
        call = msgspec.structs.replace(fact.assignment.call, route="own" + self.evil)
        named = {"ref": ref, "sender": sender, "call": call, "quota_day": f"{at:%Y-%m-%d}"}
        return msgspec.structs.replace(fact, ref=ref, assignment=msgspec.structs.replace(fact.assignment, **named))

    def _sender(self, fact: Any, ref: SendRef, mailbox: str, at: datetime) -> Any:
        sender = msgspec.structs.replace(fact.sender, mailbox=mailbox)
        return msgspec.structs.replace(fact, ref=ref, sender=sender, quota_day=f"{at:%Y-%m-%d}")

    def _health(self) -> Iterator[Told]:
        chance = random.Random(8)
        for number, (owner, mailbox) in enumerate(chance.sample(self.mailboxes[:10] + self.mailboxes[24:], 14)):
            began = NOW - timedelta(days=chance.randrange(1, self.days))
            evidence = Evidence("hard bounce rate" + self.evil, "2026-11", "7 days", 4, 118, 0.03, "said" + self.evil)
            steps = [("watched", 0), ("unhealthy", 1), ("probation", 4), ("active", 7)]
            for state, later in steps[: 2 + number % 3]:
                named = {"client": owner, "scope": "mailbox", "name": mailbox, "was": "active", "now": state}
                until = began + timedelta(days=60) if state == "unhealthy" else None
                yield (
                    min(began + timedelta(days=later), NOW - timedelta(hours=1)),
                    HealthChanged(**named, evidence=evidence, until=until),  # type: ignore[arg-type]
                )
        grown = Evidence("grown on evidence", "2026-11", "day", 0, 12, 1)
        for number, (owner, mailbox) in enumerate(self.mailboxes[:6]):
            named = {"client": owner, "scope": "mailbox", "name": mailbox, "day": f"{NOW:%Y-%m-%d}"}
            step = WarmUpStepped(**named, was=12, now=15 + number, evidence=grown)  # type: ignore[arg-type]
            yield NOW - timedelta(hours=9), step

    def _roster(self) -> Iterator[Told]:
        plain = Evidence("a rest each week" + self.evil, "2026-11", "7 days", 6, 0, 6)
        for number, (owner, mailbox) in enumerate(self.mailboxes[10:14]):
            named: dict[str, Any] = {"client": owner, "scope": "mailbox", "name": mailbox}
            yield NOW - timedelta(hours=5), RestBegan(**named, until=NOW + timedelta(days=2), evidence=plain)
            box: Any = self.mailboxes[20 + number][1]
            yield NOW - timedelta(days=3), ReserveChanged(self.mailboxes[20][0], box, "reserve", plain)  # type: ignore[arg-type]
        planned = msgspec.structs.replace(example("capacity.planned.v1"), client=self.client("acme"), capacity=480)
        yield NOW - timedelta(hours=6), msgspec.structs.replace(planned, day=f"{NOW:%Y-%m-%d}", demand=510)
        domain: Any = self.domains("acme")[0]
        for gate in (example("gate.closed.v1"), msgspec.structs.replace(example("gate.closed.v1"), route="")):
            closed = msgspec.structs.replace(gate, client=self.client("acme"), domain=domain, fix="set it" + self.evil)
            yield NOW - timedelta(hours=4), closed
        held = msgspec.structs.replace(example("list.changed.v1"), client=self.client("acme"))
        yield NOW - timedelta(hours=3), msgspec.structs.replace(held, list_id="fair" + self.evil, now="held")

    def _seen(self) -> Iterator[Told]:
        wrong = {("mail", "dkim"): "broken", ("news", "dmarc"): "missing", ("news", "mx"): "could_not_be_checked"}
        for client in CLIENTS:
            for domain in self.domains(client)[: 3 if client == "acme" else 2]:
                found: list[Any] = [wrong.get((domain.split("-")[1].split(".")[0], check), "good") for check in CHECKS]
                looked = [
                    Finding(check, verdict, f"{check}.{domain}: v=1{self.evil}", "set it" if verdict != "good" else "")  # type: ignore[arg-type]
                    for check, verdict in zip(CHECKS, found, strict=True)
                ]
                named = {"client": self.client(client), "domain": domain, "observed_at": NOW, "resolver": "10.0.0.53"}
                yield NOW - timedelta(minutes=20), DomainObserved(**named, findings=tuple(looked))  # type: ignore[arg-type]

    def _now(self) -> Iterator[Told]:
        acme: Any = self.client("acme")
        box = self.mailboxes[0][1]
        yield from self._send(f"told{self.evil}", acme, box, NOW - timedelta(minutes=30), luck=0)
        for number in range(140):
            ref = msgspec.convert({"client": self.client(CLIENTS[number % 2]), "send_id": f"w-{number:04d}{self.evil}",
                                   "recipient": "cd" * 32}, SendRef)  # fmt: skip
            yield NOW - timedelta(minutes=number + 1), _of(admitted(ref.send_id, client=ref.client), ref)
            limit = ("hours", "daily_quota", "gap", "route_out")[number % 4]
            yield NOW - timedelta(minutes=number), SendWaits(ref, limit, NOW + timedelta(hours=2))  # type: ignore[arg-type]
        alert = {
            "client": acme,
            "detail": "4 hard bounces of 118 mails in 7 days (3.4 %; the threshold is 3 %)" + self.evil,
        }
        for at, kind, severity, title in (
            (50, "mailbox_unhealthy/" + box, "warning", f"{box} is out of rotation"),
            (20, "route_tripped/own", "critical", f"acme/own{self.evil} takes no mail: 421 too many connections"),
            (90, "ended", "info", f"a reserve mailbox joined{self.evil}"),
        ):
            runbook = "route_tripped" if severity == "critical" else "mailbox_health"
            raised = AlertRaised(**alert, alert=kind + self.evil, severity=severity, title=title, runbook=runbook)  # type: ignore[arg-type]
            yield NOW - timedelta(minutes=at), raised
        yield NOW - timedelta(minutes=70), AlertResolved(acme, "ended" + self.evil, "by itself" + self.evil)
        route: Any = "own" + self.evil
        until = NOW + timedelta(minutes=10)
        yield NOW - timedelta(minutes=20), RouteTripped(acme, route, until, "too many" + self.evil, "421" + self.evil)
        yield NOW - timedelta(minutes=9), StopOrdered("campaign", f"acme/spring{self.evil}", "lena" + self.evil, acme)
        refused = msgspec.structs.replace(example("send.refused.v1"), client=acme, send_id="again" + self.evil)
        yield NOW - timedelta(minutes=8), refused


def _of(fact: Any, ref: SendRef) -> Any:
    return msgspec.structs.replace(fact, request=msgspec.structs.replace(fact.request, ref=ref))


def fill(database: str, fleet: Fleet) -> None:
    """Make the schema and apply the fleet's facts, each at its time."""
    migrate(database)
    with psycopg.connect(database) as connection, connection.pipeline():
        for seq, (at, fact) in enumerate(fleet.facts(), 1):
            place = Place("fleet-journal", 0, seq, 0, at)
            for model in READ_MODELS:
                for sql, values in model(fact, place):
                    connection.execute(sql.encode(), values)
