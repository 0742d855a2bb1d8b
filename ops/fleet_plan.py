"""What applying a fleet file would change, against what the fleet stage knows now; and the publishing of it."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from ops.fleet_file import Declared, client_of
from ops.journals import fold_partition
from schemas.fleet import ClientDeclared, CostDeclared, DomainDeclared, MailboxDeclared, RouteDeclared
from schemas.ids import ClientId
from schemas.policy import PolicyApplied
from schemas.registry import Fact
from schemas.topics import FLEET_INPUTS, FLEET_JOURNAL
from streams.agents.facts import append
from streams.fleet.decide import declared_key
from streams.fleet.state import domain_of
from streams.log.kafka import Reader, Writer
from streams.settings import Settings

KINDS = ("client", "policy", "domain", "route", "mailbox", "cost")


@dataclass
class Plan:
    """What would change. `capacity` is mails a day per client, before and after, bounded by domains and routes."""

    added: list[Declared] = field(default_factory=list)
    changed: list[tuple[Declared, Declared]] = field(default_factory=list)
    gone: list[Declared] = field(default_factory=list)
    unchanged: int = 0
    capacity: dict[ClientId, tuple[int, int]] = field(default_factory=dict)

    @property
    def facts(self) -> list[Declared]:
        """What is to be published, in the order in which it builds on itself."""
        off = [switched_off(fact) for fact in self.gone if not isinstance(fact, PolicyApplied)]
        changes = [*self.added, *(new for _, new in self.changed), *off]
        return sorted(changes, key=lambda fact: KINDS.index(declared_key(fact)[0]))


def switched_off(fact: ClientDeclared | DomainDeclared | RouteDeclared | MailboxDeclared | CostDeclared) -> Declared:
    """Return the declaration of the same thing, not in use any more."""
    return msgspec.structs.replace(fact, active=False)


async def known(settings: Settings) -> list[Declared]:
    """Return everything declared and in use, as the fleet journals have it. Raises JournalBroken, LogUnreachable."""
    reader = Reader(settings.connection)
    try:
        folded = [await fold_partition(settings, "fleet", p, reader) for p in range(FLEET_JOURNAL.partitions)]
    finally:
        await reader.close()
    rows = [row for part in folded for _, row in part.rows.all()]
    declared: list[Declared] = [row.declared for row in rows if hasattr(row, "declared")]
    clients = {fact.client for fact in declared if isinstance(fact, ClientDeclared) and fact.active}
    return [f for f in declared if (f.client in clients if isinstance(f, PolicyApplied) else f.active)]


def plan(before: Iterable[Declared], wanted: Iterable[Declared]) -> Plan:
    """Compare what is known with what the file declares."""
    had = {declared_key(fact): fact for fact in before}
    want = {declared_key(fact): fact for fact in wanted}
    made = Plan()
    for key, fact in want.items():
        if key not in had:
            made.added.append(fact)
        elif _content(had[key]) != _content(fact):
            made.changed.append((had[key], fact))
        else:
            made.unchanged += 1
    made.gone = [fact for key, fact in had.items() if key not in want]
    old, new = capacity(had.values()), capacity(want.values())
    made.capacity = {client: (old.get(client, 0), new.get(client, 0)) for client in sorted(old.keys() | new.keys())}
    return made


def _content(fact: Declared) -> Declared:
    """What is compared: who applied a policy is no change of it."""
    return msgspec.structs.replace(fact, by="") if isinstance(fact, PolicyApplied) else fact


def capacity(facts: Iterable[Declared]) -> dict[ClientId, int]:
    """Return the mails a day of each client when all is warm: mailbox quotas and warm-up targets, bounded by domain
    quotas and route ceilings."""
    facts = list(facts)
    warm = {f.client: f.policy.warm_up for f in facts if isinstance(f, PolicyApplied) and f.policy.warm_up.enabled}
    domains = {(f.client, f.domain): f.daily_quota for f in facts if isinstance(f, DomainDeclared)}
    routes = {(f.client, f.route): f.ceiling_24h for f in facts if isinstance(f, RouteDeclared)}
    by_domain: dict[tuple[ClientId, str, str], int] = defaultdict(int)
    for fact in facts:
        if isinstance(fact, MailboxDeclared) and fact.active:
            rules = warm.get(fact.client)
            most = min(fact.daily_quota, rules.target_per_day) if rules else fact.daily_quota
            by_domain[fact.client, domain_of(fact.mailbox), fact.routes[0]] += most
    by_route: dict[tuple[ClientId, str], int] = defaultdict(int)
    for (client, domain, route), quota in by_domain.items():
        bound = domains.get((client, domain), 0)  # type: ignore[arg-type]  # a DomainName, as domain_of gives it
        by_route[client, route] += min(quota, bound) if bound else quota
    total: dict[ClientId, int] = {f.client: 0 for f in facts if isinstance(f, ClientDeclared)}
    for (client, route), quota in by_route.items():
        ceiling = routes.get((client, route), 0)  # type: ignore[arg-type]  # a RouteId, as declared
        total[client] = total.get(client, 0) + (min(quota, ceiling) if ceiling else quota)
    return total


async def publish(settings: Settings, facts: Iterable[Fact], by: str = "fleet-file") -> None:
    """Publish facts of the fleet to fleet-inputs, in order. Raises AppendUncertain; publishing again is safe."""
    writer = Writer(settings.connection)
    try:
        for fact in facts:
            await append(writer, settings, FLEET_INPUTS, fact, client_of(fact).encode(), by)
    finally:
        await writer.close()
