"""Reads Mailgun's logs every few minutes: the net under lost webhooks, of which some are never tried again.

Events come into the log late and out of order, so that nothing younger than half an hour is read for good. How far
that is, is a fact in log-positions.
"""

import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import httpx

from adapters.interface import RecordsUnavailable
from adapters.mail.mailgun import REGIONS
from adapters.reports.mailgun_events import parse
from adapters.reports.provider_event import NotAnEvent, moment, within
from schemas.fleet import MailboxDeclared, RouteDeclared
from schemas.ids import DomainName
from schemas.metrics import DOOR_EVENTS, MAILGUN_LOG_BEHIND_SECONDS
from schemas.registry import Fact
from schemas.reports import ProviderLogRead
from schemas.sending import RouteCall
from schemas.topics import FLEET_JOURNAL, LOG_POSITIONS
from streams.agents.declared import Declarations, round_after_round
from streams.agents.facts import append, remembered
from streams.agents.provider_reports import Publisher
from streams.log.kafka import AppendUncertain, Reader, Writer
from streams.settings import Settings

log = logging.getLogger(__name__)

TRUSTED_AFTER = timedelta(minutes=30)
LOOK_BACK = timedelta(hours=24)
"""How far a first look goes back; what was sent before mailfleet came is no mail of ours."""
KEPT = timedelta(days=30)
"""The longest that Mailgun keeps its log, on any plan."""
RETRY_S = 60.0
LONGEST_WAIT_S = 3_600
POLL_S = 15.0  # between two looks at what is due
REMEMBERED = 5_000
TOLD_EVERY = timedelta(minutes=15)


class Log(Protocol):
    """The part of Mailgun's adapter that is needed here."""

    def log(self, call: RouteCall, since: datetime, until: datetime) -> AsyncIterator[list[Any]]:
        """Yield the log in pages; see adapters/mail/mailgun.py."""


@dataclass(frozen=True)
class Place:
    """A sending domain in a region of Mailgun's: however many routes use it, its log is read once."""

    host: str
    domain: DomainName
    call: RouteCall

    @property
    def key(self) -> str:
        """Its name in log-positions."""
        return f"mailgun/{self.host}/{self.domain}"


def places(facts: Iterable[Fact]) -> list[Place]:
    """Return whose logs are to be read, given everything that is declared."""
    declared = list(facts)
    secrets = {
        (box.client, route): box.secret_ref
        for box in declared
        if isinstance(box, MailboxDeclared) and box.active
        for route in box.routes
    }
    found: dict[str, Place] = {}
    for way in declared:
        if isinstance(way, RouteDeclared) and way.active and way.provider == "mailgun" and way.options.get("domain"):
            url = way.options.get("base_url") or REGIONS.get(way.options.get("region", "us"), "")
            secret = way.options.get("secret_ref") or secrets.get((way.client, way.route), "")
            call = RouteCall(
                way.route, way.provider, secret_ref=secret, ca_file_ref=way.ca_file_ref, options=way.options
            )
            place = Place(_host(url), DomainName(way.options["domain"].lower()), call)
            found.setdefault(place.key, place)
    return list(found.values())


def _host(url: str) -> str:
    try:
        return httpx.URL(url).netloc.decode("ascii")
    except (httpx.InvalidURL, UnicodeDecodeError):
        return ""


class MailgunLogs:
    """Follows the logs of all domains, one after the other."""

    def __init__(
        self,
        settings: Settings,
        reader: Reader,
        writer: Writer,
        publisher: Publisher,
        mailgun: Log,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._writer = writer
        self._publisher = publisher
        self._mailgun = mailgun
        self._now = now
        self._declared = Declarations(settings.topic(FLEET_JOURNAL), reader)
        self._upto: dict[str, datetime] = {}
        self._told: dict[str, datetime] = {}
        self._due: dict[str, datetime] = {}

    async def run(self) -> None:
        """Read until cancelled. Raises JournalBroken."""
        await round_after_round(self._declared, self._remember, self.round, POLL_S, "the reader of Mailgun's logs")

    async def round(self) -> None:
        """Read the log of every domain whose turn it is."""
        for place in places(self._declared.held.values()):
            now = self._now()
            if self._due.get(place.key, now) > now:
                continue
            every = timedelta(seconds=self._settings.door.poll_mailgun_s)
            try:
                await self.read(place, now)
            except RecordsUnavailable as error:
                every = timedelta(seconds=min(error.retry_after_s or RETRY_S, LONGEST_WAIT_S))
                log.warning("Mailgun's log of %s cannot be read, tried again in %s: %s", place.domain, every, error)
            except AppendUncertain as error:
                every = timedelta(seconds=RETRY_S)
                log.warning("Mailgun's log of %s is put off: %s", place.domain, error)
            self._due[place.key] = self._now() + every
            behind = self._now() - self._upto.get(place.key, now - LOOK_BACK)
            MAILGUN_LOG_BEHIND_SECONDS.labels(place.domain).set(behind.total_seconds())

    async def read(self, place: Place, now: datetime) -> None:
        """Publish what the log says since it was read for good. Raises RecordsUnavailable, AppendUncertain.

        Pages that were published count even when a later one fails: the next look begins behind them.
        """
        since = max(self._upto.get(place.key, now - LOOK_BACK), now - KEPT)
        async with aclosing(self._mailgun.log(place.call, since, now)) as pages:  # type: ignore[type-var]  # generators
            async for page in pages:
                for entry in page:
                    await self._publish(entry)
                last = moment(within(page[-1], "@timestamp")) if page else None
                if last is not None:
                    self._upto[place.key] = max(since, min(last, now - TRUSTED_AFTER))
        self._upto[place.key] = max(since, now - TRUSTED_AFTER)
        await self._tell(place, now)

    async def _publish(self, entry: object) -> None:
        try:
            told = parse(entry)
        except NotAnEvent as error:
            log.warning("an entry of Mailgun's log cannot be read: %s", error)
            DOOR_EVENTS.labels("mailgun_log", "other", "unreadable").inc()
            return
        for event in told.events:
            result = await self._publisher.event(event, "provider_log")
            DOOR_EVENTS.labels("mailgun_log", told.name, result).inc()

    # ── how far ──────────────────────────────────────────────────────────────────────────────────

    async def _tell(self, place: Place, now: datetime) -> None:
        """Publish how far the log is read, every quarter of an hour. Raises AppendUncertain."""
        told = self._told.get(place.key)
        if told is not None and now - told < TOLD_EVERY:
            return
        fact = ProviderLogRead("mailgun", place.host, place.domain, self._upto[place.key])
        by = f"door/{self._settings.name}"
        await append(self._writer, self._settings, LOG_POSITIONS, fact, place.key.encode(), by, at=self._now())
        self._told[place.key] = now

    async def _remember(self) -> None:
        """Read back how far each log is read. Raises LogUnreachable."""
        async for fact in remembered(self._reader, self._settings, LOG_POSITIONS, REMEMBERED):
            if isinstance(fact, ProviderLogRead):
                self._upto[f"{fact.provider}/{fact.place}/{fact.domain}"] = fact.upto
