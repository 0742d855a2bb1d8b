"""Read model `costs`: what each client pays a month beside its routes."""

from collections.abc import Iterable

from projections.read_model import Place, Statement
from schemas.fleet import CostDeclared
from schemas.registry import Fact

_DECLARE = """
insert into costs (client, item, monthly_usd, source, priced_on, active, changed_at)
values (%(client)s, %(item)s, %(usd)s, %(source)s, %(priced_on)s, %(active)s, %(at)s)
on conflict (client, item) do update set monthly_usd = excluded.monthly_usd, source = excluded.source,
    priced_on = excluded.priced_on, active = excluded.active, changed_at = excluded.changed_at
"""


def project(fact: Fact, place: Place) -> Iterable[Statement]:
    """Yield what the fact changes."""
    if isinstance(fact, CostDeclared):
        price = {"usd": fact.monthly_usd, "source": fact.source, "priced_on": fact.priced_on, "active": fact.active}
        yield _DECLARE, {"client": fact.client, "item": fact.item, "at": place.at, **price}
