"""Asks Google once a day what share of each sending domain's mail Gmail's users called spam, and publishes it.

Runs beside the DNS watcher, and only with credentials. It decides nothing; a day without data is told as such.
"""

import logging
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

from adapters.postmaster import Postmaster, PostmasterSilent
from adapters.secrets import Secrets
from schemas.fleet import DomainDeclared
from schemas.ids import ClientId, DomainName
from schemas.metrics import POSTMASTER_POLLS
from schemas.reputation import SpamRatesTold
from schemas.topics import DNS_OBSERVATIONS, FLEET_INPUTS, FLEET_JOURNAL
from streams.agents.declared import Declarations, round_after_round
from streams.agents.facts import append, remembered
from streams.log.kafka import Reader, Writer
from streams.settings import SettingMissing, Settings

log = logging.getLogger(__name__)

EVERY = timedelta(hours=24)
AGAIN = timedelta(hours=1)
"""After Google did not answer at all, or wants to be asked later and does not say when."""
LOOK_BACK = timedelta(days=10)
"""Google tells a day's rate one or two days later, and may correct it."""
POLL_S = 60.0
REMEMBERED = 2_000  # records of each partition that a start reads back


class Rates(Protocol):
    """The part of the adapter that is needed here."""

    async def spam_rates(self, domain: str, since: date, until: date) -> dict[str, float]:
        """Return the days that have data; see adapters/postmaster.py."""


def postmaster_of(settings: Settings) -> Postmaster | None:
    """Return who asks Google, None without credentials. Raises SettingMissing."""
    given = settings.postmaster
    if not given.credentials_ref:
        return None
    try:
        return Postmaster(Secrets(settings.secrets_folder), given.credentials_ref, given.url)
    except PostmasterSilent as error:
        raise SettingMissing(str(error)) from error


def days_asked(now: datetime) -> tuple[date, date]:
    """Return the first and the last day that are worth asking for."""
    return (now - LOOK_BACK).date(), (now - timedelta(days=1)).date()


class PostmasterPoller:
    """One poller; two would only ask twice."""

    def __init__(
        self,
        settings: Settings,
        reader: Reader,
        writer: Writer,
        postmaster: Rates,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._writer = writer
        self._postmaster = postmaster
        self._now = now
        self._declared = Declarations(settings.topic(FLEET_JOURNAL), reader)
        self._due: dict[tuple[ClientId, DomainName], datetime] = {}
        self._silent_until = datetime.min.replace(tzinfo=UTC)

    async def run(self) -> None:
        """Ask until cancelled. Raises JournalBroken."""
        await round_after_round(self._declared, self._remember, self.round, POLL_S, "the poller of Gmail's spam rates")

    async def round(self) -> None:
        """Ask for every domain that is due. Raises AppendUncertain; asking again is safe."""
        for fact in list(self._declared.held.values()):
            now = self._now()
            if now < self._silent_until:
                return
            if isinstance(fact, DomainDeclared) and fact.active:
                key = (fact.client, fact.domain)
                if self._due.get(key, now) <= now:
                    self._due[key] = now + await self._ask(fact, now)

    async def _ask(self, domain: DomainDeclared, now: datetime) -> timedelta:
        """Publish what Google says of one domain; return when to ask again."""
        since, until = days_asked(now)
        try:
            rates = await self._postmaster.spam_rates(domain.domain, since, until)
        except PostmasterSilent as error:
            log.warning("Gmail's spam rate of %s is not known: %s", domain.domain, error)
            POSTMASTER_POLLS.labels("refused" if error.of_domain else "silent").inc()
            if error.of_domain:
                return EVERY
            wait = timedelta(seconds=error.retry_after_s) or AGAIN
            self._silent_until = now + wait
            return wait
        await self._publish(SpamRatesTold(domain.client, domain.domain, now, since, until, rates))
        POSTMASTER_POLLS.labels("told" if rates else "no_data").inc()
        return EVERY

    async def _publish(self, fact: SpamRatesTold) -> None:
        """dns-observations comes last: from there a start knows what need not be asked again."""
        by = f"dns-watcher/{self._settings.name}"
        for topic, key in ((FLEET_INPUTS, fact.client), (DNS_OBSERVATIONS, fact.domain)):
            await append(self._writer, self._settings, topic, fact, key.encode(), by, at=self._now())

    async def _remember(self) -> None:
        """Read back when each domain was asked for last. Raises LogUnreachable."""
        async for fact in remembered(self._reader, self._settings, DNS_OBSERVATIONS, REMEMBERED):
            if isinstance(fact, SpamRatesTold):
                self._due[fact.client, fact.domain] = fact.observed_at + EVERY
