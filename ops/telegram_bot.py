"""The Telegram bot's process: its audience from the settings, its orders, its digest, and the sign of life it gives."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

import httpx
import psycopg

from adapters.secrets import Secrets
from adapters.telegram import Telegram
from ops.fleet_orders import order, order_sender
from ops.stories import senders_named
from schemas.fleet import StopScope
from schemas.health import Scope
from schemas.ids import ClientId
from schemas.topics import DELIVERY_TICKS, FLEET_TICKS, Topic
from streams.agents.alert_board import Quiet
from streams.agents.tell_people import Audience, Digest, OrderWrong, Teller
from streams.log.kafka import Reader
from streams.settings import SettingMissing, Settings

_T = TypeVar("_T")
log = logging.getLogger("mailfleet")
BEAT_EVERY_S = 60.0
TICKS_AT_MOST = timedelta(minutes=2)
"""A stage whose newest tick is older is not at work."""

IN_TIME = "-c statement_timeout=10000"
"""A question that Postgres does not answer in 10 s holds up no alert."""

_VOLUME = """
select client, count(*) filter (where state in ('accepted', 'delivered', 'assumed_sent'))::int,
    count(*) filter (where state = 'bounced')::int, count(*) filter (where state = 'failed')::int
from sends where changed_at >= %(since)s group by 1 order by 1
"""
_WAITING = "select coalesce(sum(1), 0)::int from waiting"
_OUT = """
select 'mailbox ' || mailbox, out_rule, out_until from mailboxes where active and out_until > now()
union all select 'domain ' || domain, out_rule, out_until from domains where active and out_until > now()
union all select 'route ' || client || '/' || route, out_rule, out_until from routes where active and out_until > now()
order by 1 limit 15
"""
_SEND = """
select client || '/' || send_id, state, coalesce(reason, ''), changed_at from sends
where send_id = %(name)s or client || '/' || send_id = %(name)s
"""
_DECISIONS = """
select decided_at, subject, decision, rule, evidence from decisions where subject = %(name)s
order by decided_at desc limit 8
"""


def teller_of(settings: Settings) -> Teller:
    """Return the bot as the settings want it. Raises SettingMissing."""
    given = settings.telegram
    if not given.token_ref or not given.chat:
        raise SettingMissing("TELEGRAM_TOKEN (file:NAME or env:NAME of the bot's token) and TELEGRAM_CHAT must be set")
    telegram = Telegram(Secrets(settings.secrets_folder).resolve(given.token_ref), given.url)
    quiet = Quiet(given.quiet_from, given.quiet_to, given.zone)
    orders = Orders(settings)
    reader = Reader(settings.connection)
    beat = Heartbeat(settings, reader).beat if given.heartbeat_url else None
    return Teller(
        settings,
        telegram,
        Audience(given.chat, dict(given.people), quiet),
        orders.table(),
        Digest(orders.digest),
        beat,
        reader=reader,
    )


class Orders:
    """What people may ask and order. Answers come from the read models; orders are facts with a name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def table(self) -> dict[str, Callable[[str, str], Awaitable[str]]]:
        """Command → function."""
        return {
            "status": self.status,
            "why": self.why,
            "pause": self.pause,
            "resume": self.resume,
            "stop": self.stop,
            "start": self.start,
        }

    async def _ask(self, sql: str, **values: object) -> list[tuple[Any, ...]]:
        return await self._ask_of(lambda connection: connection.execute(sql.encode(), values).fetchall())

    async def _ask_of(self, ask: Callable[[Any], _T]) -> _T:
        def asked() -> _T:
            with psycopg.connect(self._settings.database_url, connect_timeout=5, options=IN_TIME) as connection:
                return ask(connection)

        try:
            return await asyncio.to_thread(asked)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise OrderWrong("Postgres does not answer; mail goes on, but I cannot look anything up") from error
        except psycopg.Error as error:
            log.warning("Postgres could not be asked: %s", type(error).__name__)
            raise OrderWrong("Postgres cannot answer that: is its schema up to date (`mailfleet migrate`)?") from error

    async def status(self, _rest: str, _who: str) -> str:
        """What was done in 24 hours, what waits, who is out."""
        since = datetime.now(UTC) - timedelta(hours=24)
        lines = ["in 24 hours:"]
        for client, sent, bounced, failed in await self._ask(_VOLUME, since=since):
            lines.append(f"{client}: {sent:,} sent, {bounced:,} bounced, {failed:,} failed")
        lines.append(f"waiting: {(await self._ask(_WAITING))[0][0]:,}")
        out = await self._ask(_OUT)
        lines += [f"out: {name} until {until:%d.%m. %H:%M} ({rule})" for name, rule, until in out]
        return "\n".join(lines if out else [*lines, "nobody is out"])

    async def digest(self) -> str:
        """The daily message."""
        try:
            return "good morning\n" + await self.status("", "")
        except OrderWrong as wrong:
            return f"good morning\n{wrong}"

    async def why(self, rest: str, _who: str) -> str:
        """Where a send, mailbox, domain or route stands."""
        name = _named(rest, "why")
        sends = await self._ask(_SEND, name=name)
        lines = [f"{send}: {state} {reason} ({at:%d.%m. %H:%M})" for send, state, reason, at in sends]
        lines += [
            f"{at:%d.%m. %H:%M} {subject} {decision}: {rule} {evidence or ''}".strip()
            for at, subject, decision, rule, evidence in await self._ask(_DECISIONS, name=name)
        ]
        return "\n".join(lines) or f"nothing was decided about {name}"

    async def pause(self, rest: str, who: str) -> str:
        """Take a mailbox, domain, route or client out."""
        return await self._health(rest, who, "pause")

    async def resume(self, rest: str, who: str) -> str:
        """Let it back into probation."""
        return await self._health(rest, who, "resume")

    async def _health(self, rest: str, who: str, what: str) -> str:
        name, _, reason = _named(rest, what).partition(" ")
        found = await self._ask_of(lambda connection: senders_named(connection, name))
        if not found:
            raise OrderWrong(f"no mailbox, domain, route (client/route) or client is named {name}")
        client, scope = found[0][0], cast(Scope, found[0][1])
        given, paused = reason or "by Telegram", what == "pause"
        await order_sender(self._settings, ClientId(client), scope, name, given, paused=paused, by=who)
        return f"{scope} {name}: {what} is ordered"

    async def stop(self, rest: str, who: str) -> str:
        """Stop all, a client, a campaign or a domain: no further claim."""
        return await self._stopped(rest, who, stopped=True)

    async def start(self, rest: str, who: str) -> str:
        """Take a stop back; /start alone is what Telegram sends when a person opens the bot."""
        return await self._stopped(rest, who, stopped=False) if rest else "I know /status, /why, /pause, /resume, /stop"

    async def _stopped(self, rest: str, who: str, *, stopped: bool) -> str:
        word, _, name = rest.partition(" ")
        scopes: dict[str, StopScope] = {"all": "all", "client": "client", "campaign": "campaign", "domain": "domain"}
        if word not in scopes or (word == "all") == bool(name):
            raise OrderWrong("write /stop all, /stop client NAME, /stop campaign CLIENT/NAME or /stop domain NAME")
        await order(self._settings, scopes[word], name.strip(), stopped=stopped, by=who)
        return f"{'stopped' if stopped else 'started'}: {rest}"


def _named(rest: str, command: str) -> str:
    if not rest:
        raise OrderWrong(f"write /{command} and a name: a mailbox, a domain, CLIENT/ROUTE")
    return rest


class Heartbeat:
    """A sign of life to somebody outside (a dead-man service), once a minute, while bot, worker and broker live.

    The bot gives it only when the ticks of both stages go on: whoever outside does not hear it calls a person.
    """

    def __init__(
        self, settings: Settings, reader: Reader, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._settings = settings
        self._now = now
        self._reader = reader
        self._given = -BEAT_EVERY_S

    async def beat(self) -> None:
        """Give the sign if it is due. Raises LogUnreachable."""
        if time.monotonic() - self._given < BEAT_EVERY_S:
            return
        for ticks in (FLEET_TICKS, DELIVERY_TICKS):
            newest = await self._newest(ticks)
            if newest is None or self._now() - newest > TICKS_AT_MOST:
                return
        try:
            async with httpx.AsyncClient(timeout=10) as client:
                (await client.get(self._settings.telegram.heartbeat_url)).raise_for_status()
        except httpx.HTTPError:
            return  # whoever listens outside will miss it: that is its purpose
        self._given = time.monotonic()

    async def _newest(self, topic: Topic) -> datetime | None:
        name = self._settings.topic(topic)
        newest: datetime | None = None
        ends = await self._reader.ends((name, p) for p in range(topic.partitions))
        for (_, partition), end in ends.items():
            record = await self._reader.one(name, partition, end - 1) if end else None
            if record is not None and (newest is None or record.at > newest):
                newest = record.at
        return newest
