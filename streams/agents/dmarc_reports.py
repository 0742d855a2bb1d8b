"""Makes facts of DMARC aggregate reports: one for each of the fleet's domains that a report is about.

What is ours: an address that a route's `dns_ips` names, what SPF or DKIM says in the domain's own name, and what a
provider of the domain's signs in its. What none of these says is of others, as far as anybody can tell.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from adapters.dns.needs import needs_of
from adapters.reports.dmarc import AggregateReport, NotAReport, Record, reports_in
from schemas.fleet import DomainDeclared, MailboxDeclared, RouteDeclared
from schemas.ids import ClientId, DomainName, RouteId
from schemas.registry import Fact
from schemas.reputation import DmarcCount, DmarcReported
from streams.fleet.organisation import organisation_of
from streams.fleet.reputation import MOST_AHEAD

MOST_NAMED = 100
"""Counts whose source is named; what smaller sources sent is told together."""
SIGNED_BY: Mapping[str, tuple[str, ...]] = {"ses": ("amazonses.com",), "mailgun": ("mailgun.org", "mailgun.net")}
"""Provider → the domains in whose name it authenticates mail beside the sender's own."""


@dataclass(frozen=True)
class Owned:
    """How mail of one of the fleet's domains is known: by addresses, and by names that SPF or DKIM passed for."""

    client: ClientId
    domain: DomainName
    addresses: frozenset[str]
    names: tuple[str, ...]

    def sent(self, record: Record) -> bool:
        """Whether it is ours, as far as anybody can tell."""
        by_name = (p == name or p.endswith(f".{name}") for p in record.passed for name in self.names)
        return record.spf or record.dkim or record.source in self.addresses or any(by_name)


@dataclass
class Domains:
    """The fleet's domains by name; a domain has one client."""

    owned: dict[str, Owned] = field(default_factory=dict)

    def about(self, report: AggregateReport, record: Record) -> str:
        """Return the nearest declared domain at or above From, else above what the report is about; "" for none."""
        for name in (record.header_from, report.domain):
            labels = name.split(".")
            for n in range(len(labels) - 1):
                if (above := ".".join(labels[n:])) in self.owned:
                    return above
        return ""


def domains(facts: Iterable[Fact]) -> Domains:
    """Return the domains that are declared, and how their mail is known."""
    declared = list(facts)
    ways = {(f.client, f.route): f for f in declared if isinstance(f, RouteDeclared) and f.active}
    used: dict[tuple[ClientId, str], set[RouteId]] = defaultdict(set)
    for box in declared:
        if isinstance(box, MailboxDeclared) and box.active:
            used[box.client, box.mailbox.rpartition("@")[2]] |= set(box.routes)
    found = Domains()
    for fact in declared:
        if isinstance(fact, DomainDeclared) and fact.active:
            routes = used[fact.client, fact.domain]
            mine = [ways[fact.client, route] for route in routes if (fact.client, route) in ways]
            found.owned[fact.domain] = _owned(fact, mine)
    return found


def _owned(fact: DomainDeclared, ways: list[RouteDeclared]) -> Owned:
    names: list[str] = [fact.domain, organisation_of(fact.domain)]
    names += [name for way in ways for name in SIGNED_BY.get(way.provider, ())]
    addresses = frozenset(ip for way in ways for ip in needs_of(fact.domain, way).ips)
    return Owned(fact.client, fact.domain, addresses, tuple(dict.fromkeys(names)))


def facts_in(raw: bytes, known: Domains, now: datetime) -> list[DmarcReported]:
    """Return what a message or file reports of the fleet's domains. Raises NotAReport."""
    facts = [fact for report in reports_in(raw) for fact in facts_of(report, known, now)]
    if not facts:
        raise NotAReport("it is about no domain that the fleet file declares")
    return facts


def facts_of(report: AggregateReport, known: Domains, now: datetime) -> list[DmarcReported]:
    """Return one fact for each of the fleet's domains that the report is about. Raises NotAReport."""
    if report.end > now + MOST_AHEAD:
        raise NotAReport("it speaks of days to come")
    by_domain: dict[str, list[Record]] = defaultdict(list)
    for record in report.records:
        by_domain[known.about(report, record)].append(record)
    head = (report.org, report.report_id, report.begin, report.end, report.policy)
    by_owned = [(known.owned[name], records) for name, records in by_domain.items() if name]
    return [DmarcReported(o.client, o.domain, *head, _counts(o, records), report.skipped) for o, records in by_owned]


def _counts(owned: Owned, records: Iterable[Record]) -> tuple[DmarcCount, ...]:
    mails: dict[DmarcCount, int] = defaultdict(int)
    for record in records:
        alike = DmarcCount(record.source, owned.sent(record), record.disposition, record.spf, record.dkim, 0)
        mails[alike] += record.mails
    largest = sorted(mails, key=lambda alike: (-mails[alike], alike.source))
    told: dict[DmarcCount, int] = defaultdict(int)
    for n, alike in enumerate(largest):
        source = alike.source if n < MOST_NAMED else ""
        told[_of(alike, source)] += mails[alike]
    return tuple(_of(alike, alike.source, count) for alike, count in told.items() if count)


def _of(alike: DmarcCount, source: str, mails: int = 0) -> DmarcCount:
    return DmarcCount(source, alike.ours, alike.disposition, alike.spf, alike.dkim, mails)
