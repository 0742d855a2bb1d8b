"""The DNS watcher: looks at every sending domain and its routes each hour and publishes what it found.

A plain asyncio process. It decides nothing: a look is a fact, for people in dns-observations and for the fleet
stage in fleet-inputs. What a first resolver found wrong is looked at again through the next one.
"""

import asyncio
import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from adapters.dns.look import Eyes, look_at_domain, look_at_route
from adapters.dns.needs import needs_of
from adapters.dns.resolver import Resolver
from schemas.dns import DomainObserved, Finding
from schemas.fleet import DomainDeclared, MailboxDeclared, RouteDeclared
from schemas.ids import ClientId, DomainName, RouteId
from schemas.metrics import DNS_FINDINGS
from schemas.registry import Fact
from schemas.topics import DNS_OBSERVATIONS, FLEET_INPUTS, FLEET_JOURNAL
from streams.agents.declared import Declarations, round_after_round
from streams.agents.facts import append, remembered
from streams.agents.side_by_side import side_by_side
from streams.log.kafka import Reader, Writer
from streams.settings import Settings

log = logging.getLogger(__name__)

EVERY = timedelta(hours=1)
EXPIRY_EVERY = timedelta(hours=24)
AT_ONCE = 8  # domains looked at together
POLL_S = 15.0
REMEMBERED = 2_000  # records of each partition that a start reads back


@dataclass(frozen=True)
class Subject:
    """A sending domain with the routes that its mailboxes use."""

    client: ClientId
    domain: DomainName
    routes: tuple[RouteDeclared, ...]


def subjects(facts: Iterable[Fact]) -> list[Subject]:
    """Return what is to be looked at, given everything that is declared."""
    declared = list(facts)
    ways = {(f.client, f.route): f for f in declared if isinstance(f, RouteDeclared) and f.active}
    used: dict[tuple[ClientId, str], dict[RouteId, None]] = defaultdict(dict)
    for box in declared:
        if isinstance(box, MailboxDeclared) and box.active:
            used[box.client, box.mailbox.rpartition("@")[2]] |= dict.fromkeys(box.routes)
    return [
        Subject(f.client, f.domain, tuple(ways[f.client, r] for r in used[f.client, f.domain] if (f.client, r) in ways))
        for f in declared
        if isinstance(f, DomainDeclared) and f.active
    ]


def slot_after(domain: str, at: datetime) -> datetime:
    """Return the first moment after `at` that is the domain's: once an hour, spread by its name."""
    seconds = int(EVERY.total_seconds())
    offset = int.from_bytes(hashlib.sha256(domain.encode()).digest()[:8], "big") % seconds
    passed = (int(at.timestamp()) - offset) // seconds
    return datetime.fromtimestamp((passed + 1) * seconds + offset, UTC)


async def observe(
    eyes: Eyes, resolver: Resolver, subject: Subject, at: datetime, *, expiry: bool
) -> list[DomainObserved]:
    """Return one fact about the domain itself and one for each of its routes."""

    def seen(findings: list[Finding], route: str = "") -> DomainObserved:
        return DomainObserved(subject.client, subject.domain, at, str(resolver), tuple(findings), RouteId(route))

    found = [seen(await look_at_domain(eyes, resolver, subject.domain, at, expiry=expiry))]
    for way in subject.routes:
        found.append(seen(await look_at_route(eyes, resolver, needs_of(subject.domain, way)), way.route))
    return found


def doubtful(facts: Iterable[DomainObserved]) -> bool:
    """Whether another resolver should be asked: something is wrong, or was not answered by this one."""
    return any(finding.verdict != "good" for fact in facts for finding in fact.findings)


class DnsWatcher:
    """One watcher process; two would only look twice."""

    def __init__(self, settings: Settings, eyes: Eyes, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._settings = settings
        self._eyes = eyes
        self._now = now
        self._reader = Reader(settings.connection)
        self._writer = Writer(settings.connection)
        self._declared = Declarations(settings.topic(FLEET_JOURNAL), self._reader)
        self._looked: dict[tuple[ClientId, DomainName], datetime] = {}
        self._expiry: dict[tuple[ClientId, DomainName], datetime] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End at once: a look that is cut short is made again."""
        self._stopping.set()

    async def run(self) -> None:
        """Look until stopped. Raises JournalBroken."""
        try:
            work = round_after_round(self._declared, self._remember, self.round, POLL_S, "the DNS watcher")
            await side_by_side(work, self._stopping.wait())
        finally:
            await self._writer.close()
            await self._reader.close()

    async def round(self) -> None:
        """Look at every domain that is due. Raises AppendUncertain; looking again is safe."""
        now = self._now()
        due = [s for s in subjects(self._declared.held.values()) if self._due(s) <= now]
        results = await asyncio.gather(*(self._one(subject) for subject in due), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _due(self, subject: Subject) -> datetime:
        looked = self._looked.get((subject.client, subject.domain))
        return datetime.min.replace(tzinfo=UTC) if looked is None else slot_after(subject.domain, looked)

    async def _one(self, subject: Subject) -> None:
        key = (subject.client, subject.domain)
        async with self._at_once:
            at = self._now()
            expiry = at - self._expiry.get(key, at - EXPIRY_EVERY) >= EXPIRY_EVERY
            for resolver in self._in_turn(at):
                facts = await observe(self._eyes, resolver, subject, at, expiry=expiry)
                for fact in facts:
                    await self._publish(fact)
                if expiry:
                    self._expiry[key], expiry = at, False
                if not doubtful(facts):
                    break
            self._looked[key] = at

    def _in_turn(self, at: datetime) -> Iterator[Resolver]:
        """Each hour another resolver begins, so that none is believed for ever."""
        known = self._eyes.resolvers
        first = int(at.timestamp() // EVERY.total_seconds())
        return (known[(first + n) % len(known)] for n in range(min(2, len(known))))

    async def _publish(self, fact: DomainObserved) -> None:
        for finding in fact.findings:
            DNS_FINDINGS.labels(finding.check, finding.verdict).inc()
        by = f"dns-watcher/{self._settings.name}"
        for topic, key in ((DNS_OBSERVATIONS, fact.domain), (FLEET_INPUTS, fact.client)):
            await append(self._writer, self._settings, topic, fact, key.encode(), by)

    async def _remember(self) -> None:
        """Read back when each domain was looked at last: a restart is no reason to ask operators anew."""
        async for fact in remembered(self._reader, self._settings, DNS_OBSERVATIONS, REMEMBERED):
            if isinstance(fact, DomainObserved) and not fact.route:
                self._looked[fact.client, fact.domain] = fact.observed_at
                if any(finding.check == "expiry" for finding in fact.findings):
                    self._expiry[fact.client, fact.domain] = fact.observed_at
