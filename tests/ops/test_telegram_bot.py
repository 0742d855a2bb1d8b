"""The bot's process on real Kafka and Postgres: orders become facts with a name; when a sign of life is given."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from aiohttp import web

from ops.embedded import EmbeddedKafka
from ops.telegram_bot import Heartbeat, Orders, teller_of
from projections.migrate import migrate
from schemas import registry
from schemas.envelope import from_wire, to_wire
from schemas.fleet import StopOrdered
from schemas.health import PauseOrdered, ResumeOrdered
from schemas.ids import ClientId
from schemas.sending import Ticked
from schemas.topics import DELIVERY_TICKS, FLEET_INPUTS, FLEET_TICKS, partition_of
from streams.agents.tell_people import OrderWrong
from streams.log.kafka import Connection, Reader, Writer
from streams.roles import make_topics
from streams.settings import SettingMissing, Settings, TelegramSettings, from_environment

LENA = "lena (7)"


@pytest.fixture
def settings(kafka: EmbeddedKafka, database: str, topic_prefix: str, tmp_path: Path) -> Settings:
    """A fleet with one mailbox in Postgres, and its topics."""
    made = Settings(Connection(kafka.bootstrap), topic_prefix, tmp_path, "bot", database)
    make_topics(made)
    migrate(database)
    with psycopg.connect(database) as connection:
        connection.execute(
            "insert into mailboxes (mailbox, client, domain, routes, daily_quota, active, changed_at) "
            "values ('anna@acme.test', 'acme', 'acme.test', '{own}', 30, true, now())"
        )
        connection.execute(
            "insert into domains (client, domain, daily_quota, active, changed_at) "
            "values ('acme', 'acme.test', 0, true, now())"
        )
    return made


async def published(settings: Settings) -> list[registry.Fact]:
    """What stands in the client's partition of fleet-inputs."""
    reader = Reader(settings.connection)
    name, place = settings.topic(FLEET_INPUTS), partition_of(b"acme", FLEET_INPUTS.partitions)
    _, end = await reader.bounds(name, place)
    found = [record.value async for chunk in reader.read(name, place, 0, end) for record in chunk]
    await reader.close()
    envelopes = [from_wire(raw) for raw in found]
    return [registry.fact_of(e.type, e.v, e.data) for e in envelopes]


async def test_an_order_becomes_a_fact_with_the_persons_name_and_an_unknown_name_does_not(settings: Settings) -> None:
    orders = Orders(settings)
    assert await orders.pause("anna@acme.test on leave", LENA) == "mailbox anna@acme.test: pause is ordered"
    assert await orders.resume("acme", LENA) == "client acme: resume is ordered"
    with pytest.raises(OrderWrong, match="nobody@acme"):
        await orders.pause("nobody@acme.test", LENA)
    with pytest.raises(OrderWrong, match="/stop all"):
        await orders.stop("everything", LENA)
    assert await orders.stop("client acme", LENA) == "stopped: client acme"
    acme = ClientId("acme")
    assert await published(settings) == [
        PauseOrdered(acme, "mailbox", "anna@acme.test", LENA, "on leave"),
        ResumeOrdered(acme, "client", "", LENA, "by Telegram"),
        StopOrdered("client", "acme", LENA, acme),
    ]


async def test_status_and_why_answer_from_postgres_and_say_when_it_is_away(settings: Settings) -> None:
    orders = Orders(settings)
    assert "nobody is out" in await orders.status("", LENA)
    assert "nothing was decided" in await orders.why("anna@acme.test", LENA)
    with psycopg.connect(settings.database_url) as connection:
        connection.execute("update mailboxes set out_until = now() + interval '1 hour', out_rule = 'no login'")
    assert "mailbox anna@acme.test" in await orders.status("", LENA)
    away = Settings(settings.connection, "", settings.home, "bot", "postgresql://nobody@127.0.0.1:9/none")
    with pytest.raises(OrderWrong, match="mail goes on"):
        await Orders(away).status("", LENA)
    assert "Postgres" in await Orders(away).digest()
    with psycopg.connect(settings.database_url) as connection:
        connection.execute("drop table sends cascade")
    assert "mailfleet migrate" in await orders.digest(), "no alert waits for tables that are not there"


@pytest.fixture
async def outside() -> AsyncIterator[tuple[str, list[datetime]]]:
    """A dead-man service: its URL, and when it heard a sign of life."""
    heard: list[datetime] = []

    async def hear(_request: web.Request) -> web.Response:
        heard.append(datetime.now(UTC))
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_get("/ping", hear)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    yield f"http://127.0.0.1:{port}/ping", heard
    await runner.cleanup()


async def test_the_sign_of_life_is_given_only_while_both_stages_tick(
    settings: Settings, outside: tuple[str, list[datetime]]
) -> None:
    url, heard = outside
    given = Settings(
        settings.connection, settings.prefix, settings.home, "bot", telegram=TelegramSettings(heartbeat_url=url)
    )
    reader = Reader(settings.connection)
    await Heartbeat(given, reader).beat()
    assert heard == [], "no worker has ever ticked"
    writer = Writer(settings.connection)
    envelope = registry.enveloped(Ticked(), id=uuid.uuid4().hex, at=datetime.now(UTC), key="0", by="fleet")
    await writer.append(settings.topic(FLEET_TICKS), 3, b"3", to_wire(envelope))
    await Heartbeat(given, reader).beat()
    assert heard == [], "nobody is there who would send anything"
    await writer.append(settings.topic(DELIVERY_TICKS), 3, b"3", to_wire(envelope))
    await writer.close()
    await Heartbeat(given, reader, now=lambda: datetime.now(UTC) + timedelta(minutes=5)).beat()
    assert heard == [], "the worker has been silent for five minutes"
    beating = Heartbeat(given, reader)
    await beating.beat()
    await beating.beat()
    await reader.close()
    assert len(heard) == 1, "once a minute"


def test_the_settings_say_what_is_wrong_with_them(tmp_path: Path) -> None:
    with pytest.raises(SettingMissing, match="TELEGRAM_PEOPLE"):
        from_environment({"KAFKA_BROKERS": "k:1", "TELEGRAM_PEOPLE": "lena"})
    with pytest.raises(SettingMissing, match="TELEGRAM_TOKEN"):
        teller_of(Settings(Connection("k:1"), "", tmp_path, "bot"))
    given = from_environment(
        {"KAFKA_BROKERS": "k:1", "TELEGRAM_PEOPLE": "52001:lena, 52002:tom", "TELEGRAM_QUIET": "23-6"}
    ).telegram
    assert given.people == ((52001, "lena"), (52002, "tom"))
    assert (given.quiet_from, given.quiet_to) == (23, 6)
