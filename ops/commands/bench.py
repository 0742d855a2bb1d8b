"""`mailfleet bench`: what things cost on this machine."""

import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import click
import msgspec
import orjson
import psycopg
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ops.bench import planning
from ops.bench_adapters import mailgun_rate, ses_rate, smtp_rate
from ops.bench_dashboards import ask, fill
from ops.bench_rebuild import lived, rebuild_rate
from ops.bench_reports import reports_rate
from ops.bench_what_if import recorded, what_if_rate
from ops.embedded import EmbeddedPostgres
from ops.progress import bar
from projections.migrate import migrate

RATES = {"mailgun": mailgun_rate, "ses": ses_rate}
out = Console()
errors = Console(stderr=True)


@click.group()
def bench() -> None:
    """Measure on this machine. Figures are medians of several runs; compare ratios, not machines."""


@bench.command("planning")
@click.option("--mailboxes", multiple=True, default=(1_200, 12_000, 120_000), show_default=True, type=int)
@click.option("--sends", default=1_000, show_default=True)
@click.option("--runs", default=5, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def planning_command(mailboxes: tuple[int, ...], sends: int, runs: int, as_json: bool) -> None:
    """Planning cost per assigned send in one fleet partition, for fleets of different sizes."""
    found: dict[int, float] = {}
    for count in track(mailboxes, "planning", console=errors, transient=True):
        found[count] = statistics.median(planning(count, sends) for _ in range(runs))
    if as_json:
        sys.stdout.write(orjson.dumps({str(k): v for k, v in found.items()}).decode() + "\n")
        return
    table = Table(title=f"Planning {sends:,} sends (median of {runs})")
    for column in ("mailboxes", "microseconds a send", "against the first"):
        table.add_column(column, justify="right")
    first = next(iter(found.values()))
    for count, cost in found.items():
        table.add_row(f"{count:,}", f"{cost:.1f}", f"{cost / first:.2f}x")
    out.print(table)


@bench.command("adapters")
@click.option("--seconds", default=3.0, show_default=True, help="How long each is measured.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def adapters_command(seconds: float, as_json: bool) -> None:
    """Mails a second through each adapter alone, to a local server that only says yes.

    SMTP goes to a real Postfix, in turns with Postfix's own generator smtp-source, and the median of the turns' ratios
    is shown; without Postfix (or as an ordinary user) it is left out.
    """
    found = {name: rate(seconds) for name, rate in track(RATES.items(), "adapters", console=errors, transient=True)}
    if shutil.which("postfix") and os.geteuid() == 0:
        both = smtp_rate(seconds)
        found |= {
            "smtp": both.adapter,
            "smtp-source, for comparison": both.smtp_source,
            "smtp to smtp-source": both.ratio,
        }
    else:
        errors.print("smtp is left out: it needs Postfix (apt-get install postfix) and root")
    if as_json:
        sys.stdout.write(orjson.dumps(found).decode() + "\n")
        return
    table = Table(title=f"Through each adapter ({seconds:g} s)")
    table.add_column("adapter")
    table.add_column("mails a second", justify="right")
    for name, rate in found.items():
        table.add_row(name, f"{rate:.2f}" if " to " in name else f"{rate:,.0f}")
    out.print(table)


@bench.command("reports")
@click.option("--seconds", default=2.0, show_default=True, help="How long each run takes.")
@click.option("--runs", default=5, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def reports_command(seconds: float, runs: int, as_json: bool) -> None:
    """Typical bounces and auto-replies a second that one core reads and classifies."""
    rates = (reports_rate(seconds) for _ in track(range(runs), "reports", console=errors, transient=True))
    rate = statistics.median(rates)
    if as_json:
        sys.stdout.write(orjson.dumps({"reports_a_second": rate}).decode() + "\n")
        return
    out.print(f"{rate:,.0f} reports a second on one core (median of {runs})", highlight=False)


@bench.command("what-if")
@click.option("--mailboxes", default=120, show_default=True)
@click.option("--days", default=10, show_default=True, help="How many are simulated to make the journal.")
@click.option("--runs", default=3, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def what_if_command(mailboxes: int, days: int, runs: int, as_json: bool) -> None:
    """Entries of a fleet's journal that `mailfleet what-if` goes through in a second of one core, Kafka left out."""
    with errors.status(f"simulating {days} days of {mailboxes} mailboxes"):
        journal = recorded(mailboxes, days)
    rate = statistics.median(what_if_rate(journal) for _ in track(range(runs), "runs", console=errors, transient=True))
    if as_json:
        sys.stdout.write(orjson.dumps({"entries": len(journal), "entries_a_second": rate}).decode() + "\n")
        return
    out.print(f"{rate:,.0f} entries a second of {len(journal):,} (median of {runs})", highlight=False)


@bench.command("rebuild")
@click.option("--mailboxes", default=300, show_default=True)
@click.option("--days", default=8, show_default=True, help="How many are simulated to make the journals.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def rebuild_command(mailboxes: int, days: int, as_json: bool) -> None:
    """Entries a second that `mailfleet rebuild` puts into fresh tables, with a Kafka and a Postgres of its own.

    All three share this machine. Both journals of a simulated fleet are written to Kafka first.
    """
    with errors.status(f"simulating {days} days of {mailboxes} mailboxes"):
        run = lived(mailboxes, days)
    Path(".mailfleet").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=Path(".mailfleet").absolute(), prefix="bench-") as folder, bar() as progress:
        task = progress.add_task("entries", total=None)
        entries, rate = rebuild_rate(
            Path(folder), run, lambda done, total: progress.update(task, completed=done, total=total)
        )
    sends = sum(run.asked.values())
    if as_json:
        sys.stdout.write(
            orjson.dumps({"entries": entries, "sends": sends, "entries_a_second": round(rate)}).decode() + "\n"
        )
        return
    out.print(f"{rate:,.0f} entries a second ({entries:,} of {sends:,} sends)", highlight=False)


@bench.command("dashboards")
@click.option("--sends", default=2_000_000, show_default=True, help="Made-up sends of the last 60 days.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def dashboards_command(sends: int, as_json: bool) -> None:
    """Time every question of the dashboards on a Postgres of its own, filled with made-up sends.

    Each is asked as the role analyst, once without filters and once with all of them; more than a second is told.
    2,000,000 sends take about 2 GB of disk for the while.
    """
    Path(".mailfleet").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=Path(".mailfleet").absolute(), prefix="bench-") as folder:
        server = EmbeddedPostgres(Path(folder))
        server.start()
        try:
            migrate(server.url)
            with errors.status(f"making {sends:,} sends"):
                fill(server.url, sends)
            with psycopg.connect(server.url) as connection:
                found = sorted(ask(connection, "analyst"), key=lambda one: -one.seconds)
        finally:
            server.stop()
    if as_json:
        sys.stdout.write(orjson.dumps([msgspec.to_builtins(one) for one in found]).decode() + "\n")
        return
    table = Table(title=f"{len(found)} questions over {sends:,} sends, the slowest first")
    for column in ("dashboard", "question", "filtered"):
        table.add_column(column)
    for column in ("rows", "seconds"):
        table.add_column(column, justify="right")
    for one in found[:15]:
        filtered = "yes" if one.filtered else "no"
        table.add_row(one.dashboard, one.card, filtered, f"{one.rows:,}", f"{one.seconds:.3f}")
    out.print(table)
    late = sum(one.seconds > 1 for one in found)
    out.print(f"{late} of {len(found)} took more than a second")
    if late:
        sys.exit(1)
