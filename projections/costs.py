"""Read models `costs`, what each client pays a month beside its routes, and `price_changes`, what it paid when."""

from collections.abc import Iterable
from typing import Any

from projections.read_model import Place, Statement
from schemas.fleet import CostDeclared, RouteDeclared
from schemas.registry import Fact

_DECLARE = """
insert into costs (client, item, monthly_usd, source, priced_on, active, changed_at)
values (%(client)s, %(item)s, %(usd)s, %(source)s, %(priced_on)s, %(active)s, %(at)s)
on conflict (client, item) do update set monthly_usd = excluded.monthly_usd, source = excluded.source,
    priced_on = excluded.priced_on, active = excluded.active, changed_at = excluded.changed_at
"""
_CHANGE = """
insert into price_changes (client, kind, name, from_day, monthly_usd, per_thousand_usd)
values (%(client)s, %(kind)s, %(name)s, %(day)s, %(usd)s, %(by_the_mail)s)
on conflict (client, kind, name, from_day) do update
    set monthly_usd = excluded.monthly_usd, per_thousand_usd = excluded.per_thousand_usd
"""


def project(fact: Fact, place: Place) -> Iterable[Statement]:
    """Yield what the fact changes."""
    match fact:
        case CostDeclared():
            price = {"usd": fact.monthly_usd, "source": fact.source, "priced_on": fact.priced_on, "active": fact.active}
            yield _DECLARE, {"client": fact.client, "item": fact.item, "at": place.at, **price}
            yield _CHANGE, _since(fact, "item", fact.item, 0, place)
        case RouteDeclared():
            yield _CHANGE, _since(fact, "route", fact.route, fact.per_thousand_usd, place)


def _since(
    fact: CostDeclared | RouteDeclared, kind: str, name: str, by_the_mail: float, place: Place
) -> dict[str, Any]:
    usd = fact.monthly_usd if fact.active else 0
    return {
        "client": fact.client,
        "kind": kind,
        "name": name,
        "day": place.at.date(),
        "usd": usd,
        "by_the_mail": by_the_mail,
    }
