"""`mailfleet cost`: what a fleet costs a month, who pays it, and what other splits would cost."""

import sys
from collections import defaultdict
from pathlib import Path

import click
import msgspec
import orjson
import psycopg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ops.commands.settings import environment
from ops.costs import Alternative, Fleet, Line, Paid, all_over, cost_lines, monthly, paid
from ops.fleet_file import read_fleet, read_prices
from streams.settings import database_from

out = Console()
SEND_DAYS = 21.0


@click.command()
@click.argument("fleet_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--send-days", default=SEND_DAYS, show_default=True, help="Days a month on which is sent.")
@click.option(
    "--share", default=0.9, show_default=True, type=click.FloatRange(0, 1), help="Of the quotas that is really sent."
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def cost(fleet_file: Path, send_days: float, share: float, as_json: bool) -> None:
    """Say what FLEET_FILE costs a month: each thing with its price's source, each client, each thousand mails.

    Prices stand in the file's [[prices]] (with source and date) and at its routes (monthly_usd, per_thousand_usd).
    Mails are planned ones: of all quotas, --share on --send-days. What a thousand delivered mails cost in the last
    months, at the prices of then, is told by Postgres where DATABASE_URL or `mailfleet up` names it. Beside it: the
    same mailboxes all over one provider, for each [[compare]] of the file.
    """
    fleet = Fleet(read_fleet(fleet_file), send_days)
    prices, compare = read_prices(fleet_file)
    lines = cost_lines(fleet, prices, share)
    mails = share * sum(fleet.mails.values())
    others = [(other, all_over(fleet, prices, other, share)) for other in compare]
    past, why_none = _past(fleet)
    if as_json:
        told = {"delivered": msgspec.to_builtins(past) if past else None, "delivered_unknown": why_none}
        sys.stdout.write(orjson.dumps(_as_dict(lines, mails, others) | told).decode() + "\n")
        return
    out.print(_items(lines))
    out.print(_clients(fleet, lines, share))
    total = monthly(lines)
    out.print(
        f"{len(fleet.boxes):,} mailboxes, {mails:,.0f} mails a month planned: {total:,.2f} USD, "
        f"{_rate(total, mails)} a 1,000 planned",
        highlight=False,
    )
    if past:
        out.print(_delivered(past))
    else:
        out.print(
            f"all of it planned; what a thousand delivered mails cost is not known: {why_none}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    for other, usd in others:
        out.print(
            f"{other.name}: {usd:,.2f} USD a month ({other.source}, {other.date}). {other.note}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )


def _past(fleet: Fleet) -> tuple[list[Paid], str]:
    """Return what Postgres has of the last months, or why there is nothing."""
    url = database_from(environment())
    if not url:
        return [], "no Postgres is named (DATABASE_URL) and no `mailfleet up` runs here"
    try:
        found = paid(url, fleet.by_client)
    except psycopg.Error as error:
        return [], f"Postgres: {str(error).strip().splitlines()[0]}"
    return found, "" if found else "Postgres knows no prices and no mail of these clients yet"


def _rate(usd: float, mails: float) -> str:
    return f"{1000 * usd / mails:.3f}" if mails else "-"


def _as_dict(lines: list[Line], mails: float, others: list[tuple[Alternative, float]]) -> dict[str, object]:
    total = monthly(lines)
    return {
        "monthly_usd": round(total, 2),
        "planned_mails_a_month": round(mails),
        "planned_usd_a_thousand": round(1000 * total / mails, 4) if mails else None,
        "lines": [msgspec.to_builtins(line) for line in lines],
        "compared": {other.name: round(usd, 2) for other, usd in others},
    }


def _items(lines: list[Line]) -> Table:
    table = Table(title="What is paid for, a month")
    table.add_column("what")
    for column in ("units", "USD"):
        table.add_column(column, justify="right")
    table.add_column("price from")
    units: dict[tuple[str, str], float] = defaultdict(float)
    usd: dict[tuple[str, str], float] = defaultdict(float)
    for line in lines:
        units[line.name, line.source] += line.units
        usd[line.name, line.source] += line.monthly_usd
    for (name, source), amount in sorted(usd.items(), key=lambda one: -one[1]):
        table.add_row(name, f"{units[name, source]:,.4g}", f"{amount:,.2f}", escape(source))
    table.add_row("together", "", f"{sum(usd.values()):,.2f}", "", style="bold")
    return table


def _clients(fleet: Fleet, lines: list[Line], share: float) -> Table:
    table = Table(title="Who pays it")
    table.add_column("client")
    for column in ("mailboxes", "planned mails a month", "USD", "USD a thousand planned"):
        table.add_column(column, justify="right")
    mails_of = fleet.mails_of
    for client in sorted(fleet.by_client):
        usd = monthly(line for line in lines if line.client == client)
        mails = share * mails_of[client]
        table.add_row(client, f"{fleet.by_client[client]:,}", f"{mails:,.0f}", f"{usd:,.2f}", _rate(usd, mails))
    return table


def _delivered(past: list[Paid]) -> Table:
    table = Table(title="What it was, at the prices of then")
    table.add_column("month")
    table.add_column("client")
    for column in ("USD", "delivered", "USD a thousand delivered"):
        table.add_column(column, justify="right")
    for row in past:
        rate = row.usd_per_thousand_delivered
        shown = "-" if rate is None else f"{rate:,.3f}"
        table.add_row(f"{row.month:%Y-%m}", row.client, f"{row.total_usd:,.2f}", f"{row.delivered:,}", shown)
    return table
