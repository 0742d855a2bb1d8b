"""What a fleet costs: prices as data, spread over clients; the sample stays within what it says."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from ops.commands.cost import cost
from ops.costs import Alternative, Fleet, Price, all_over, cost_lines, declared_costs, monthly
from ops.fleet_file import read_fleet, read_prices
from projections import costs
from projections.migrate import migrate
from projections.read_model import Place
from schemas.fleet import CostDeclared, MailboxDeclared, RouteDeclared
from schemas.ids import ClientId, MailboxAddress, RouteId
from schemas.registry import Fact

SAMPLE = Path("ops/sample_fleet.toml").absolute()
ACME, BIRCH = ClientId("acme"), ClientId("birch")
DAY = date(2026, 11, 1)


def box(client: ClientId, name: str, route: str = "own") -> MailboxDeclared:
    return MailboxDeclared(client, MailboxAddress(name), (RouteId(route),), daily_quota=10)


def fleet(*more: RouteDeclared) -> Fleet:
    return Fleet(fleet_facts(*more), send_days_a_month=20)


def fleet_facts(*more: RouteDeclared) -> list[Fact]:
    ways = [RouteDeclared(c, RouteId("own"), "smtp", "h", 25) for c in (ACME, BIRCH)]
    boxes = [box(ACME, "a@one.test"), box(ACME, "b@two.test"), box(ACME, "c@two.test", "z"), box(BIRCH, "d@b.test")]
    return [*ways, RouteDeclared(ACME, RouteId("z"), "zoho", "h", 25), *boxes, *more]


def test_what_is_paid_once_is_shared_by_mailboxes_and_what_is_paid_each_is_counted() -> None:
    prices = [
        Price(name="server", source="s", date=DAY, monthly_usd=40),
        Price(name="domains", source="s", date=DAY, yearly_usd=12, per="domain"),
        Price(name="zoho", source="s", date=DAY, monthly_usd=1.5, per="mailbox", provider="zoho"),
    ]
    paid = {(line.client, line.name): line.monthly_usd for line in cost_lines(fleet(), prices, 1.0)}
    assert paid == {
        (ACME, "server"): 30.0,
        (BIRCH, "server"): 10.0,
        (ACME, "domains"): 2.0,
        (BIRCH, "domains"): 1.0,
        (ACME, "zoho"): 1.5,
    }


def test_a_route_costs_its_month_and_by_the_thousand_what_it_carries() -> None:
    own = RouteDeclared(BIRCH, RouteId("own"), "ses", "h", 25, monthly_usd=5, per_thousand_usd=0.1)
    lines = cost_lines(fleet(own), [], share_of_quota=0.5)
    assert monthly(lines) == pytest.approx(5 + 0.1 * 0.2 * 0.5)  # 10 a day on 20 days, half of it


def test_a_comparison_drops_what_only_carried_mail() -> None:
    prices = [
        Price(name="server", source="s", date=DAY, monthly_usd=40),
        Price(name="mta", source="s", date=DAY, monthly_usd=9, carries_mail=True),
        Price(name="zoho", source="s", date=DAY, monthly_usd=1.5, per="mailbox", provider="zoho"),
    ]
    other = Alternative(name="all", source="s", date=DAY, monthly_usd_a_mailbox=2, per_thousand_usd=1)
    assert all_over(fleet(), prices, other, 1.0) == pytest.approx(40 + 4 * 2 + 0.8)


def test_the_sample_runs_1200_mailboxes_on_12_domains_within_its_budget_over_all_four_providers() -> None:
    facts = read_fleet(SAMPLE)
    sample = Fleet(facts, 21)
    prices, compare = read_prices(SAMPLE)
    assert len(sample.boxes) == 1200
    assert sum(map(len, sample.domains.values())) == 12
    assert {route.provider for route in sample.routes.values()} == {"smtp", "zoho", "mailgun", "ses"}
    assert 150 <= monthly(cost_lines(sample, prices, 0.9)) <= 180
    assert {other.name.split()[-1] for other in compare} >= {"SES"}
    assert all(price.source and price.date for price in prices)


def test_in_the_sample_only_own_smtp_and_zoho_carry_mail_without_consent() -> None:
    for fact in read_fleet(SAMPLE):
        if isinstance(fact, RouteDeclared) and fact.provider in ("ses", "mailgun"):
            assert "legitimate_interest" not in fact.accepts_basis


def test_what_is_declared_of_costs_is_what_the_command_sums_but_for_the_routes() -> None:
    facts = read_fleet(SAMPLE)
    declared = [fact for fact in facts if isinstance(fact, CostDeclared)]
    prices, _ = read_prices(SAMPLE)
    lines = [line for line in cost_lines(Fleet(facts, 21), prices, 0.9) if not line.name.startswith("route ")]
    assert sum(fact.monthly_usd for fact in declared) == pytest.approx(monthly(lines), abs=0.01)
    assert all(fact.source and fact.priced_on for fact in declared)


def test_two_prices_of_one_name_are_one_cost() -> None:
    price = Price(name="server", source="s", date=DAY, monthly_usd=40)
    assert [(f.client, f.monthly_usd) for f in declared_costs(fleet_facts(), [price, price])] == [
        (ACME, 60.0),
        (BIRCH, 20.0),
    ]


def said(monkeypatch: pytest.MonkeyPatch, folder: Path, database_url: str, *options: str) -> str:
    """Return what the command says of the sample."""
    monkeypatch.chdir(folder)  # where no fleet runs
    monkeypatch.delenv("KAFKA_BROKERS", raising=False)
    done = CliRunner().invoke(cost, [str(SAMPLE), *options], env={"DATABASE_URL": database_url, "COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize(
    ("url", "why"), [("", "no Postgres is named"), ("postgresql://x@127.0.0.1:9/none", "Postgres: connection")]
)
def test_without_postgres_the_command_says_that_its_figures_are_planned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, why: str
) -> None:
    text = said(monkeypatch, tmp_path, url)
    assert "USD a thousand planned" in text
    assert f"what a thousand delivered mails cost is not known: {why}" in text
    told = json.loads(said(monkeypatch, tmp_path, url, "--json"))
    assert (told["delivered"], told["delivered_unknown"][: len(why)]) == (None, why)
    assert told["planned_usd_a_thousand"] > 0


def test_with_postgres_the_command_says_what_a_thousand_delivered_mails_cost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database: str
) -> None:
    migrate(database)
    assert "knows no prices and no mail of these clients yet" in said(monkeypatch, tmp_path, database)
    client = next(iter(Fleet(read_fleet(SAMPLE), 21).by_client))
    now = datetime.now(UTC).replace(day=1)
    with psycopg.connect(database) as connection:
        for payer in (client, ClientId("other")):
            place = Place("fleet-journal", 0, 1, 0, now)
            for statement, values in costs.project(CostDeclared(payer, "server", 30, "s", DAY), place):
                connection.execute(statement.encode(), values)
        connection.execute(
            "insert into daily_mail (day, client, campaign, domain, mailbox, route, receiver, accepted, delivered) "
            "values (%s, %s, 'c', 'a.test', 'a@a.test', 'own', '', 5000, 4000)",
            (now.date(), client),
        )
    (row,) = json.loads(said(monkeypatch, tmp_path, database, "--json"))["delivered"]
    assert row == {
        "month": str(now.date()),
        "client": client,
        "total_usd": 30.0,
        "accepted": 5000,
        "delivered": 4000,
        "usd_per_thousand_delivered": 7.5,
    }
    assert "USD a thousand delivered" in said(monkeypatch, tmp_path, database)
