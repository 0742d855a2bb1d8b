"""Read model `routes`: one row per way out of a client, with its breaker and its price."""

from collections.abc import Iterable

from projections.read_model import Place, Statement
from schemas.fleet import RouteDeclared, RouteFailed, RouteRecovered, RouteTripped
from schemas.registry import Fact

_DECLARE = """
insert into routes (client, route, provider, account, ceiling_24h, ceiling_per_second, max_connections,
    accepts_basis, monthly_usd, per_thousand_usd, active, changed_at)
values (%(client)s, %(route)s, %(provider)s, %(account)s, %(ceiling_24h)s, %(ceiling_per_second)s,
    %(max_connections)s, %(accepts_basis)s, %(monthly_usd)s, %(per_thousand_usd)s, %(active)s, %(at)s)
on conflict (client, route) do update set provider = excluded.provider, account = excluded.account,
    ceiling_24h = excluded.ceiling_24h, ceiling_per_second = excluded.ceiling_per_second,
    max_connections = excluded.max_connections, accepts_basis = excluded.accepts_basis,
    monthly_usd = excluded.monthly_usd, per_thousand_usd = excluded.per_thousand_usd, active = excluded.active,
    changed_at = excluded.changed_at
"""
_FAIL = """
update routes set failures_in_a_row = failures_in_a_row + 1, changed_at = %(at)s
where client = %(client)s and route = %(route)s
"""
_TRIP = """
update routes set failures_in_a_row = 0, trips = trips + 1, out_until = %(until)s, out_rule = %(rule)s,
    out_evidence = %(evidence)s, changed_at = %(at)s
where client = %(client)s and route = %(route)s
"""
_RECOVER = """
update routes set failures_in_a_row = 0, trips = 0, out_until = null, out_rule = '', out_evidence = '',
    changed_at = %(at)s
where client = %(client)s and route = %(route)s
"""


def project(fact: Fact, place: Place) -> Iterable[Statement]:
    """Yield what the fact changes."""
    match fact:
        case RouteDeclared():
            values = {name: getattr(fact, name) for name in fact.__struct_fields__}
            yield _DECLARE, values | {"accepts_basis": list(fact.accepts_basis), "at": place.at}
        case RouteFailed():
            yield _FAIL, {"client": fact.client, "route": fact.route, "at": place.at}
        case RouteTripped():
            named = {"client": fact.client, "route": fact.route, "at": place.at}
            yield _TRIP, named | {"until": fact.until, "rule": fact.rule, "evidence": fact.evidence}
        case RouteRecovered():
            yield _RECOVER, {"client": fact.client, "route": fact.route, "at": place.at}
