"""What a fleet costs a month: the prices that its file names, spread over clients. Computed, never tuned."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import date
from typing import Literal

import msgspec
import psycopg
from psycopg.rows import class_row

from schemas.fleet import CostDeclared, MailboxDeclared, RouteDeclared
from schemas.ids import ClientId, DomainName, RouteId
from schemas.registry import Fact
from streams.fleet.state import domain_of

DAYS_A_MONTH = 365 / 12


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One thing that is paid for. `per`: once for the fleet, for each domain, or for each mailbox (of a provider).

    Without `clients` all share what is paid once, by their mailboxes. `source` and `date` say who asked that price
    when.
    """

    name: str
    source: str
    date: date
    monthly_usd: float = 0.0
    yearly_usd: float = 0.0
    per: Literal["fleet", "domain", "mailbox"] = "fleet"
    count: float = 1
    provider: str = ""  # with per = "mailbox": those whose first route is of this provider
    clients: tuple[str, ...] = ()
    carries_mail: bool = False  # an own server that only carries mail: another provider would take its place

    @property
    def usd(self) -> float:
        """Of one unit, a month."""
        return (self.monthly_usd + self.yearly_usd / 12) * self.count


class Alternative(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All mailboxes over one provider, to compare with; `note` says what that would mean."""

    name: str
    source: str
    date: date
    monthly_usd_a_mailbox: float = 0.0
    per_thousand_usd: float = 0.0
    note: str = ""


class Line(msgspec.Struct, frozen=True):
    """What one client pays a month for one thing."""

    client: ClientId
    name: str
    units: float
    monthly_usd: float
    source: str


class Paid(msgspec.Struct, frozen=True):
    """What a client paid in a month, at the prices in force in it; the rate is None while nothing is delivered."""

    month: date
    client: str
    total_usd: float
    accepted: int
    delivered: int
    usd_per_thousand_delivered: float | None


class Fleet:
    """What the prices are counted over: mailboxes and domains by client, the mail that each route carries."""

    def __init__(self, facts: Iterable[Fact], send_days_a_month: float) -> None:
        facts = list(facts)
        self.boxes = [f for f in facts if isinstance(f, MailboxDeclared) and f.active]
        self.routes = {(f.client, f.route): f for f in facts if isinstance(f, RouteDeclared) and f.active}
        self.by_client = Counter(box.client for box in self.boxes)
        self.domains: dict[ClientId, set[DomainName]] = defaultdict(set)
        self.mails: Counter[tuple[ClientId, RouteId]] = Counter()
        for box in self.boxes:
            self.domains[box.client].add(domain_of(box.mailbox))
            self.mails[box.client, box.routes[0]] += round(box.daily_quota * send_days_a_month)

    def provider_of(self, box: MailboxDeclared) -> str:
        """The provider of the mailbox's first route."""
        route = self.routes.get((box.client, box.routes[0]))
        return "" if route is None else route.provider

    @property
    def mails_of(self) -> Counter[ClientId]:
        """Mails a month by client."""
        total: Counter[ClientId] = Counter()
        for (client, _), mails in self.mails.items():
            total[client] += mails
        return total


def cost_lines(fleet: Fleet, prices: Iterable[Price], share_of_quota: float) -> list[Line]:
    """Return who pays what for a month in which `share_of_quota` (of 1) of all quotas is sent."""
    lines = [line for price in prices for line in _spread(fleet, price)]
    for (client, name), route in fleet.routes.items():
        thousands = fleet.mails[client, name] * share_of_quota / 1000
        if route.monthly_usd:
            lines.append(Line(client, f"route {name}", 1, route.monthly_usd, f"{route.provider}, in the fleet file"))
        if route.per_thousand_usd and thousands:
            usd = thousands * route.per_thousand_usd
            lines.append(Line(client, f"route {name}, 1,000 mails", thousands, usd, f"{route.provider}, by the mail"))
    return [line for line in lines if line.monthly_usd]


def declared_costs(facts: Iterable[Fact], prices: Iterable[Price]) -> list[CostDeclared]:
    """Return what each client pays a month for what the prices name; its routes say their own."""
    fleet = Fleet(facts, 0)
    found: dict[tuple[ClientId, str], CostDeclared] = {}
    for price in prices:
        for line in _spread(fleet, price):
            before = found.get((line.client, line.name))
            usd = round(line.monthly_usd + (before.monthly_usd if before else 0), 4)
            cost = CostDeclared(line.client, line.name, usd, price.source, price.date)
            found[line.client, line.name] = cost
    return list(found.values())


def _spread(fleet: Fleet, price: Price) -> list[Line]:
    clients = [c for c in sorted(fleet.by_client) if not price.clients or c in price.clients]
    match price.per:
        case "domain":
            units = {c: float(len(fleet.domains[c])) for c in clients}
        case "mailbox":
            units = dict.fromkeys(clients, 0.0)
            for box in fleet.boxes:
                if box.client in units and price.provider in ("", fleet.provider_of(box)):
                    units[box.client] += 1
        case "fleet":
            all_boxes = sum(fleet.by_client[c] for c in clients)
            units = {c: fleet.by_client[c] / all_boxes for c in clients}
    return [Line(c, price.name, n, n * price.usd, f"{price.source}, {price.date}") for c, n in units.items() if n]


_PAID = """
select month, client, total_usd, accepted, delivered, usd_per_thousand_delivered from analyst.monthly_costs
where client = any(%s) and month > current_date - interval '4 months' order by month desc, client
"""


def paid(database_url: str, clients: Iterable[ClientId]) -> list[Paid]:
    """Return what these clients paid in this month and the three before, newest first. Raises psycopg.Error."""
    with (
        psycopg.connect(database_url, connect_timeout=3, options="-c statement_timeout=10s") as connection,
        connection.cursor(row_factory=class_row(Paid)) as cursor,
    ):
        return cursor.execute(_PAID, (list(clients),)).fetchall()


def monthly(lines: Iterable[Line]) -> float:
    """Return the sum."""
    return sum(line.monthly_usd for line in lines)


def all_over(fleet: Fleet, prices: Iterable[Price], other: Alternative, share_of_quota: float) -> float:
    """Return what the same mailboxes would cost a month if all went over one provider: for comparison.

    What is paid for a provider or a route falls away; domains, servers and storage stay, but for those that
    carry mail only (`carries_mail`).
    """
    kept = [price for price in prices if not (price.provider or price.carries_mail)]
    fixed = monthly(line for price in kept for line in _spread(fleet, price))
    thousands = sum(fleet.mails.values()) * share_of_quota / 1000
    return fixed + len(fleet.boxes) * other.monthly_usd_a_mailbox + thousands * other.per_thousand_usd
