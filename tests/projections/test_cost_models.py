"""What each client paid in which month, as the view adds it up: checked against figures added up by hand."""

from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

import projections.migrate as migrations
from projections import costs, routes
from projections.migrate import migrate, scripts
from projections.read_model import Place
from schemas.fleet import CostDeclared, RouteDeclared
from schemas.ids import ClientId, RouteId
from tests.projections.facts import rows

ACME, IDLE = ClientId("acme"), ClientId("idle")
NOW = datetime.now(UTC)
THIS = NOW.replace(day=1, hour=9)
LAST = (THIS - timedelta(days=1)).replace(day=1)
DAYS = (THIS - LAST).days
BEFORE = (LAST - timedelta(days=1)).replace(day=1)
PAID = """
select month, client, round(items_usd::numeric, 4)::float, round(routes_usd::numeric, 4)::float,
    round(by_the_mail_usd::numeric, 4)::float, round(total_usd::numeric, 4)::float, accepted, delivered,
    round(usd_per_thousand_delivered::numeric, 4)::float
from analyst.monthly_costs order by 1, 2
"""


def item(name: str, usd: float, client: ClientId = ACME, *, active: bool = True) -> CostDeclared:
    return CostDeclared(client, name, usd, "a list", date(2026, 1, 2), active)


def way(name: str, usd: float = 0, by_the_mail: float = 0) -> RouteDeclared:
    return RouteDeclared(ACME, RouteId(name), "ses", "h", 25, monthly_usd=usd, per_thousand_usd=by_the_mail)


def declare(models: str, at: datetime, *facts: CostDeclared | RouteDeclared) -> None:
    """Apply facts as the projector does."""
    with psycopg.connect(models) as connection:
        for n, fact in enumerate(facts):
            place = Place("fleet-journal", 0, 1, n, at)
            for statement, values in (*costs.project(fact, place), *routes.project(fact, place)):
                connection.execute(statement.encode(), values)


def mailed(models: str, day: datetime, client: str, route: str, accepted: int, delivered: int) -> None:
    """Count mails."""
    with psycopg.connect(models) as connection:
        connection.execute(
            "insert into daily_mail (day, client, campaign, domain, mailbox, route, receiver, accepted, delivered) "
            "values (%s, %s, 'c', 'a.test', 'a@a.test', %s, '', %s, %s)",
            (day.date(), client, route, accepted, delivered),
        )


def test_a_month_costs_items_routes_and_mails_also_for_who_sends_nothing_or_pays_nothing(models: str) -> None:
    declare(models, THIS, item("domains", 3), item("servers", 17), item("gone", 99, active=False), way("own"))
    declare(models, THIS, way("ses", 35, 0.10), item("domains", 5, IDLE))
    mailed(models, THIS, "acme", "own", 3000, 2500)
    mailed(models, THIS, "acme", "ses", 20000, 19500)
    mailed(models, THIS, "free", "own", 10, 8)
    assert rows(models, PAID) == [
        (THIS.date(), "acme", 20.0, 35.0, 2.0, 57.0, 23000, 22000, 2.5909),
        (THIS.date(), "free", 0.0, 0.0, 0.0, 0.0, 10, 8, 0.0),
        (THIS.date(), "idle", 5.0, 0.0, 0.0, 5.0, 0, 0, None),
    ]


def test_a_past_month_keeps_the_prices_that_were_in_force_in_it(models: str) -> None:
    declare(models, BEFORE, item("servers", 20), item("gone", 4), way("ses", 10, 0.10))
    mailed(models, BEFORE, "acme", "ses", 1000, 1000)
    mailed(models, LAST, "acme", "ses", 2000, 1000)
    mailed(models, THIS, "acme", "ses", 3000, 1000)
    declare(models, LAST, way("ses", 10, 0.20))
    declare(models, THIS, item("servers", 50), item("gone", 4, active=False), way("ses", 90, 0.30))
    assert rows(models, PAID) == [
        (BEFORE.date(), "acme", 24.0, 10.0, 0.1, 34.1, 1000, 1000, 34.1),
        (LAST.date(), "acme", 24.0, 10.0, 0.4, 34.4, 2000, 1000, 34.4),
        (THIS.date(), "acme", 50.0, 90.0, 0.9, 140.9, 3000, 1000, 140.9),
    ]


def test_a_price_that_changes_within_a_month_counts_by_its_days(models: str) -> None:
    declare(models, LAST, item("servers", 30.0))
    declare(models, LAST + timedelta(days=10), item("servers", 60.0))
    mailed(models, LAST, "acme", "own", 10, 10)
    ((usd,),) = rows(models, f"select items_usd from analyst.monthly_costs where month = '{LAST.date()}'")
    assert usd == pytest.approx((30 * 10 + 60 * (DAYS - 10)) / DAYS)


def test_the_last_price_of_a_day_counts_and_the_same_facts_again_change_nothing(models: str) -> None:
    for _ in range(2):
        declare(models, THIS, item("servers", 30.0), item("servers", 40.0))
    assert rows(models, "select total_usd from analyst.monthly_costs") == [(40.0,)]


def test_what_was_declared_before_prices_were_kept_counts_back_to_the_first_mail(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = scripts()
    monkeypatch.setattr(migrations, "scripts", lambda: every[:14])
    migrate(database)
    with psycopg.connect(database) as connection:
        for statement, values in costs.project(item("servers", 30.0), Place("fleet-journal", 0, 1, 0, THIS)):
            if "into costs" in statement:
                connection.execute(statement.encode(), values)
    mailed(database, BEFORE, "acme", "own", 10, 1000)
    monkeypatch.undo()
    assert migrate(database)[0] == "0015_prices_over_time.sql"
    found = rows(database, "select month, total_usd from analyst.monthly_costs order by 1")
    assert found == [(BEFORE.date(), 30.0), (LAST.date(), 30.0), (THIS.date(), 30.0)]
