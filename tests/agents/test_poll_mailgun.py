"""Mailgun's logs as the net under webhooks, against its API on real sockets: what is published, how far it is read."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from adapters.reports.mailgun_events import parse
from schemas.fleet import MailboxDeclared, RouteDeclared
from schemas.ids import ClientId, MailboxAddress, RouteId
from schemas.registry import Fact
from schemas.reports import ProviderLogRead, ReportSeen
from schemas.topics import DELIVERY_INPUTS, LOG_POSITIONS
from streams.agents.poll_mailgun import TRUSTED_AFTER, MailgunLogs, Place, places
from streams.agents.provider_reports import Publisher
from streams.log.kafka import AppendUncertain, Connection
from streams.settings import Settings
from tests.adapters.benches import MailgunBench
from tests.adapters.mailgun_server import Answer
from tests.adapters.webhook_samples import ADDRESS, KEY, TOKEN
from tests.agents.memory_log import MemoryLog, MemoryReader, MemoryWriter

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
ACME = ClientId("acme")


class BreakableWriter(MemoryWriter):
    """A writer whose Kafka may be away."""

    away = False

    async def append(self, topic: str, partition: int, key: bytes | None, value: bytes) -> int:
        """Append, or not."""
        if self.away:
            raise AppendUncertain("Kafka at nowhere does not answer")
        return await super().append(topic, partition, key, value)


class Net:
    """The reader of logs, Mailgun, and a log in memory."""

    def __init__(self, folder: Path, bench: MailgunBench) -> None:
        (folder / "fleet.key").write_bytes(KEY)
        self.settings = Settings(Connection("nowhere"), "", folder, "door-1", key_file=folder / "fleet.key")
        self.bench = bench
        self.log = MemoryLog()
        self.writer = BreakableWriter(self.log)
        self.now = datetime.now(UTC)
        self.publisher = Publisher(self.settings, self.writer, "door")
        self.logs = self.begin(self.publisher)
        call = bench.call
        options = call.options | {"secret_ref": call.secret_ref}
        self.route = RouteDeclared(ACME, RouteId("g"), "mailgun", "", 0, ca_file_ref=call.ca_file_ref, options=options)
        (self.place,) = places([self.route])

    def begin(self, publisher: Publisher) -> MailgunLogs:
        """Return a reader that knows nothing yet."""
        reader = MemoryReader(self.log)
        return MailgunLogs(self.settings, reader, self.writer, publisher, self.bench.adapter, lambda: self.now)

    def record(self, event: str, age: timedelta, n: int = 0, **more: Any) -> None:
        """Write an entry of this age into Mailgun's log."""
        fields = {"v:mailfleet-token": (TOKEN,), "v:mailfleet-attempt": ("1",)}
        at = self.now - age
        self.bench.server.record(event, "firm.test", ADDRESS, f"{TOKEN}@firm.test", fields, at, id=f"id-{n}", **more)

    async def read(self) -> None:
        """Read once."""
        await self.logs.read(self.place, self.now)

    @property
    def published(self) -> list[str]:
        """The events in delivery-inputs, by their ids at Mailgun."""
        facts = self.log.facts(DELIVERY_INPUTS.name)
        return [fact.event_id.rpartition("/")[2] for fact in facts if isinstance(fact, ReportSeen)]

    @property
    def positions(self) -> list[datetime]:
        """How far the log is read, as told."""
        return [fact.upto for fact in self.log.facts(LOG_POSITIONS.name) if isinstance(fact, ProviderLogRead)]


@pytest_asyncio.fixture
async def net(tmp_path: Path) -> AsyncIterator[Net]:
    """A net under one domain."""
    bench = MailgunBench()
    await bench.start(tmp_path, 5.0)
    yield Net(tmp_path, bench)
    await bench.stop()


async def test_what_no_webhook_told_the_log_tells(net: Net) -> None:
    net.record("accepted", 2 * HOUR, 1)
    net.record("failed", HOUR, 2, severity="permanent", delivery_status={"code": 550, "message": "5.1.1 User unknown"})
    net.record("complained", MINUTE, 3)
    await net.read()
    facts = [fact for fact in net.log.facts(DELIVERY_INPUTS.name) if isinstance(fact, ReportSeen)]
    assert [(f.kind, f.source, f.token, f.attempt) for f in facts] == [
        ("accepted", "provider_log", TOKEN, 1),
        ("bounce", "provider_log", TOKEN, 1),
        ("complaint", "provider_log", TOKEN, 1),
    ]
    assert net.positions == [net.now - TRUSTED_AFTER]


async def test_what_a_webhook_told_is_not_told_again(net: Net) -> None:
    net.record("complained", MINUTE, 1)
    (event,) = parse(net.bench.server.log[0]).events
    await net.publisher.event(event, "webhook")
    await net.read()
    assert net.published == ["id-1"]


async def test_an_entry_that_comes_late_is_read_when_it_is_there(net: Net) -> None:
    net.record("delivered", 5 * MINUTE, 1)
    net.record("complained", 10 * MINUTE, 2)
    net.bench.server.late_events = 1
    await net.read()
    assert net.published == ["id-1"]
    net.bench.server.late_events = 0
    net.now += 5 * MINUTE
    await net.read()
    assert net.published == ["id-1", "id-2"]


async def test_a_restart_reads_on_from_where_it_was(net: Net) -> None:
    net.record("delivered", HOUR, 1)
    net.record("complained", MINUTE, 2)
    await net.read()
    net.logs = net.begin(Publisher(net.settings, net.writer, "door"))
    await net.logs._remember()
    net.record("unsubscribed", timedelta(0), 3)
    net.now += MINUTE
    await net.read()
    assert net.published == ["id-1", "id-2", "id-2", "id-3"], "what is not for good yet is told again, and decided once"


async def test_pages_that_came_count_when_the_next_does_not(net: Net) -> None:
    for n in range(150):
        net.record("delivered", 10 * HOUR - n * MINUTE, n)
    seen, wanted = 0, 101

    class Short:
        async def log(self, *asked: Any) -> AsyncIterator[list[Any]]:
            nonlocal seen
            async for page in net.bench.adapter.log(*asked):
                seen += len(page)
                yield page
                if seen < wanted:
                    net.bench.server.script["verdict"] = Answer(429, "try again after 30 seconds")

    net.logs._mailgun = Short()
    net.logs._declared.held["route", ACME, "g"] = net.route
    await net.logs.round()
    assert len(net.published) == 100
    net.bench.server.script.clear()
    await net.logs.round()
    assert len(net.published) == 100, "it waits as long as Mailgun says"
    net.now += timedelta(seconds=31)
    await net.logs.round()
    assert net.published == [f"id-{n}" for n in range(150)]
    assert len([path for path in net.bench.server.told if "logs" in path]) == 4


async def test_while_kafka_is_away_nothing_is_read_for_good(net: Net) -> None:
    net.record("complained", 2 * HOUR, 1)
    net.writer.away = True
    with pytest.raises(AppendUncertain):
        await net.read()
    net.writer.away = False
    await net.read()
    assert net.published == ["id-1"]


async def test_entries_that_cannot_be_read_and_others_mail_do_not_stop_those_behind(net: Net) -> None:
    net.record("failed", HOUR, 1)
    net.bench.server.log[0] |= {"event": None}
    net.bench.server.log.append(net.bench.server.log[0] | {"event": "delivered", "user-variables": {}, "message": {}})
    net.record("complained", MINUTE, 2)

    class Everything:
        async def log(self, *_asked: Any) -> AsyncIterator[list[Any]]:
            yield net.bench.server.log

    net.logs._mailgun = Everything()
    await net.read()
    assert net.published == ["id-2"]


def route(name: str, *, active: bool = True, provider: str = "mailgun", **options: str) -> RouteDeclared:
    """Return a route."""
    return RouteDeclared(ACME, RouteId(name), provider, "", 0, options=options, active=active)


def test_each_domain_in_each_region_is_read_once_with_the_key_of_its_route() -> None:
    declared: list[Fact] = [
        route("a", domain="mg.firm.test", region="eu", secret_ref="file:eu"),
        msgspec.structs.replace(route("b", domain="mg.firm.test", region="eu", secret_ref="file:eu"), client="birch"),
        route("c", domain="mg.firm.test"),
        route("off", domain="off.test", active=False),
        route("nameless"),
        route("ses", provider="ses", domain="x.test"),
        *(
            MailboxDeclared(ACME, MailboxAddress(f"m{n}@firm.test"), (RouteId("c"),), 40, secret_ref="file:us")
            for n in range(1_200)
        ),
    ]
    found = {place.key: place.call.secret_ref for place in places(declared)}
    assert found == {
        "mailgun/api.eu.mailgun.net/mg.firm.test": "file:eu",
        "mailgun/api.mailgun.net/mg.firm.test": "file:us",
    }


def test_a_place_has_a_name() -> None:
    (place,) = places([route("a", domain="MG.firm.test", base_url="https://127.0.0.1:8443")])
    assert isinstance(place, Place)
    assert place.key == "mailgun/127.0.0.1:8443/mg.firm.test"
