"""The DNS watcher: whose turn it is, what is looked at, and on a real Kafka and name server what it publishes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from adapters.dns.look import Eyes
from adapters.secrets import Secrets
from ops.embedded import EmbeddedKafka
from schemas import registry
from schemas.dns import DomainObserved, Verdict
from schemas.entry import Entry, Seen
from schemas.envelope import from_wire, to_wire
from schemas.fleet import DomainDeclared, MailboxDeclared, RouteDeclared
from schemas.ids import ClientId, DomainName, MailboxAddress, RouteId
from schemas.registry import Fact
from schemas.topics import DNS_OBSERVATIONS, FLEET_INPUTS, FLEET_JOURNAL, Topic, partition_of
from streams.agents.watch_dns import EVERY, DnsWatcher, slot_after, subjects
from streams.log.kafka import Connection, Reader, Writer
from streams.roles import make_topics
from streams.settings import Settings
from tests.knot import Knot, txt

ACME, BIRCH = ClientId("acme"), ClientId("birch")
START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
DEADLINE_S = 30.0


def box(client: ClientId, mailbox: str, *routes: str, active: bool = True) -> MailboxDeclared:
    """Return a mailbox."""
    return MailboxDeclared(client, MailboxAddress(mailbox), tuple(map(RouteId, routes)), 40, active=active)


def route(client: ClientId, name: str, *, active: bool = True, **options: str) -> RouteDeclared:
    """Return a route over an own server."""
    return RouteDeclared(client, RouteId(name), "smtp", "out1.firm.test", 587, options=options, active=active)


FLEET: list[Fact] = [
    DomainDeclared(ACME, DomainName("firm.test")),
    DomainDeclared(ACME, DomainName("idle.test")),
    DomainDeclared(ACME, DomainName("gone.test"), active=False),
    DomainDeclared(BIRCH, DomainName("birch.test")),
    route(ACME, "own", dns_ips="192.0.2.25"),
    route(ACME, "spare", dns_spf="include:spare.test"),
    route(ACME, "off", active=False),
    route(BIRCH, "own", dns_ips="192.0.2.26"),
    box(ACME, "anna@firm.test", "own", "spare"),
    box(ACME, "ben@firm.test", "own", "off"),
    box(ACME, "eve@idle.test", "spare", active=False),
    box(BIRCH, "kim@birch.test", "own"),
]


def test_a_domain_is_looked_at_with_the_routes_of_its_mailboxes() -> None:
    found = {s.domain: (s.client, [w.route for w in s.routes]) for s in subjects(FLEET)}
    assert found == {"firm.test": (ACME, ["own", "spare"]), "idle.test": (ACME, []), "birch.test": (BIRCH, ["own"])}
    (birch,) = (s for s in subjects(FLEET) if s.client == BIRCH)
    assert birch.routes[0].options == {"dns_ips": "192.0.2.26"}


@given(st.text(max_size=30), st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_a_domains_turn_comes_once_an_hour_always_at_its_minute(domain: str, at: datetime) -> None:
    turn = slot_after(domain, at)
    assert timedelta(0) < turn - at <= EVERY
    assert slot_after(domain, turn) == turn + EVERY


def test_turns_are_spread_over_the_hour() -> None:
    minutes = [slot_after(f"domain-{n}.test", START).minute for n in range(600)]
    assert all(2 <= minutes.count(minute) <= 25 for minute in range(60))


# ── on a real Kafka and name server ──────────────────────────────────────────────────────────────


class Clock:
    """The watcher's time."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        """Return now."""
        return self.at


@pytest.fixture
def settings(kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path) -> Settings:
    """Topics of this test alone."""
    made = Settings(Connection(kafka.bootstrap), topic_prefix, tmp_path, "dns-1")
    make_topics(made)
    return made


@pytest.fixture
def knot(needs: Callable[[str, str], None], tmp_path: Path) -> Iterator[Knot]:
    """A name server with one good domain, and one whose zone is not there."""
    needs("knotd", "knot")
    firm = [*txt("@", "v=spf1 ip4:192.0.2.25 include:spare.test -all"), *txt("_dmarc", "v=DMARC1; p=none")]
    zones = {
        "firm.test": [*firm, "@ MX 10 out1", "out1 A 192.0.2.25"],
        "spare.test": txt("@", "v=spf1 ip4:203.0.113.1 -all"),
        "2.0.192.in-addr.arpa": ["25 PTR out1.firm.test."],
        "birch.test": None,
    }
    made = Knot(tmp_path / "knot", zones)
    made.start()
    yield made
    made.stop()


class Watch:
    """A watcher on its topics, and what it has published."""

    def __init__(self, settings: Settings, knot: Knot) -> None:
        self.settings = settings
        self.knot = knot
        self.clock = Clock()
        self.seq = 0
        self.reader = Reader(settings.connection)
        self.writer = Writer(settings.connection)

    def watcher(self, *resolvers: object) -> DnsWatcher:
        """Return a new watcher, as after a restart."""
        eyes = Eyes(tuple(resolvers) or (self.knot.resolver(2.0),), Secrets(self.settings.home), rdap_url="off")  # type: ignore[arg-type]  # resolvers
        return DnsWatcher(self.settings, eyes, self.clock)

    async def declare(self, facts: list[Fact]) -> None:
        """Write the fleet's journal as its stage does: one partition, one entry a fact."""
        topic = self.settings.topic(FLEET_JOURNAL)
        for fact in facts:
            prev, self.seq = f"e{self.seq}" if self.seq else "", self.seq + 1
            decided = (registry.decided(fact),)
            entry = Entry(f"e{self.seq}", "test", self.seq, prev, START, None, Seen("ticked", 1, {}), decided)
            await self.writer.append(topic, 3, b"3", to_wire(entry))

    async def published(self, topic: Topic) -> list[tuple[int, DomainObserved]]:
        """Return (partition, fact) of everything in a topic."""
        name, found = self.settings.topic(topic), []
        for partition in range(topic.partitions):
            first, end = await self.reader.bounds(name, partition)
            async for chunk in self.reader.read(name, partition, first, end):
                for record in chunk:
                    envelope = from_wire(record.value)
                    fact = registry.fact_of(envelope.type, envelope.v, envelope.data)
                    assert isinstance(fact, DomainObserved)
                    found.append((partition, fact))
        return found

    async def run_until(self, watcher: DnsWatcher, count: int) -> list[DomainObserved]:
        """Run the watcher until so many facts are there; return them all."""
        running = asyncio.create_task(watcher.run())
        try:
            async with asyncio.timeout(DEADLINE_S):
                while len(found := await self.published(DNS_OBSERVATIONS)) < count and not running.done():  # noqa: ASYNC110 - Kafka tells nobody
                    await asyncio.sleep(0.05)
        finally:
            watcher.stop()
            await running
        return [fact for _, fact in found]


@pytest_asyncio.fixture
async def watch(settings: Settings, knot: Knot) -> AsyncIterator[Watch]:
    """The fleet is declared; no watcher runs yet."""
    made = Watch(settings, knot)
    await made.declare(FLEET)
    yield made
    await made.reader.close()
    await made.writer.close()


def verdicts(facts: list[DomainObserved], domain: str, way: str = "") -> dict[str, Verdict]:
    """Return {check: verdict} of the last fact about this."""
    (*_, last) = (f for f in facts if (f.domain, f.route) == (domain, way))
    return {finding.check: finding.verdict for finding in last.findings}


async def test_each_domain_is_told_to_people_and_to_its_clients_fleet(watch: Watch) -> None:
    facts = await watch.run_until(watch.watcher(), 6)
    assert sorted((f.client, f.domain, f.route) for f in facts) == [
        *(("acme", "firm.test", way) for way in ("", "own", "spare")),
        ("acme", "idle.test", ""),
        *(("birch", "birch.test", way) for way in ("", "own")),
    ]
    assert {f.observed_at for f in facts} == {START}
    assert {f.resolver for f in facts} == {f"127.0.0.1:{watch.knot.port}"}
    good = verdicts(facts, "firm.test", "own")
    assert (good["spf"], good["dmarc"], good["ptr"], good["return_path"]) == ("good",) * 4
    assert verdicts(facts, "firm.test") == {"mx": "good"}
    unknown = verdicts(facts, "birch.test", "own")
    assert {unknown[check] for check in ("spf", "dmarc", "return_path")} == {"could_not_be_checked"}
    for topic, key in ((DNS_OBSERVATIONS, "domain"), (FLEET_INPUTS, "client")):
        sent = await watch.published(topic)
        assert sorted(f.domain for _, f in sent) == sorted(f.domain for f in facts)
        assert all(p == partition_of(getattr(f, key).encode(), topic.partitions) for p, f in sent)


async def test_a_restart_within_the_hour_looks_at_nothing_again(watch: Watch) -> None:
    await watch.run_until(watch.watcher(), 6)
    watch.clock.at += timedelta(seconds=1)
    await watch.declare([DomainDeclared(BIRCH, DomainName("late.test"))])
    facts = await watch.run_until(watch.watcher(), 7)
    assert [f.domain for f in facts if f.observed_at > START] == ["late.test"]


async def test_what_breaks_and_is_mended_is_seen_in_the_next_hours(watch: Watch) -> None:
    good = watch.knot.zones["firm.test"]
    assert good is not None
    first = await watch.run_until(watch.watcher(), 6)
    watch.knot.change("firm.test", [line for line in good if "spf1" not in line])
    watch.clock.at += EVERY
    second = await watch.run_until(watch.watcher(), 12)
    watch.knot.change("firm.test", good)
    watch.clock.at += EVERY
    third = await watch.run_until(watch.watcher(), 18)
    told = [verdicts(f, "firm.test", "own") for f in (first, second, third)]
    assert [t["spf"] for t in told] == ["good", "missing", "good"]
    assert [t["dmarc"] for t in told] == ["good"] * 3


async def test_what_one_resolver_finds_wrong_is_asked_of_the_next_one(watch: Watch, tmp_path: Path) -> None:
    """The second name server lies: it has another firm.test, without SPF."""
    liar = Knot(tmp_path / "liar", {"firm.test": ["@ MX 10 out1", "out1 A 192.0.2.25"]})
    liar.start()
    try:
        two = (watch.knot.resolver(2.0), liar.resolver(2.0))
        facts = await watch.run_until(watch.watcher(*two), 12)
    finally:
        liar.stop()
    spf = {
        f.resolver: finding.verdict
        for f in facts
        if (f.domain, f.route) == ("firm.test", "own")
        for finding in f.findings
        if finding.check == "spf"
    }
    assert spf == {str(two[0]): "good", str(two[1]): "missing"}
