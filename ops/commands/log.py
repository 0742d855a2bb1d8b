"""Commands about the log: topics, key, migrate, verify, replay."""

import asyncio
import sys

import click
import orjson
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ops.commands.settings import settings
from ops.replay import replay as replay_tables
from ops.site import make_key
from ops.verify import Report, verify_until_equal
from ops.verify import verify as compare
from projections.migrate import migrate as bring_up_to_date
from streams.roles import ROLES, Role, make_topics

out = Console()
errors = Console(stderr=True)


@click.command()
@click.option("--wait", "wait_s", default=0.0, show_default=True, help="Try again for so many seconds until equal.")
@click.option("--no-postgres", is_flag=True, help="Compare with the changelogs only.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(wait_s: float, no_postgres: bool, as_json: bool) -> None:
    """Fold the journals and compare with the Faust tables and with Postgres; print what differs.

    Exit code 0 when everything agrees, 1 when something differs.
    """
    total = sum(topics.journal.partitions for topics in ROLES.values())
    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("folding journals", total=total)

        def step(_role: str, _partition: int) -> None:
            progress.advance(task)

        if wait_s:
            report = asyncio.run(verify_until_equal(settings(), wait_s, postgres=not no_postgres))
        else:
            report = asyncio.run(compare(settings(), postgres=not no_postgres, step=step))
    if as_json:
        sys.stdout.write(orjson.dumps({**vars(report), "equal": report.equal}).decode() + "\n")
    else:
        _show(report)
    sys.exit(0 if report.equal else 1)


def _show(report: Report) -> None:
    table = Table(title="Journals against tables and Postgres")
    table.add_column("compared")
    table.add_column("count", justify="right")
    for what, count in vars(report).items():
        if isinstance(count, int):
            table.add_row({"void": "void entries (of stopped owners)"}.get(what, what), str(count))
    table.add_row("rows not stored yet", str(len(report.behind)))
    out.print(table)
    for line in report.behind[:10]:
        out.print(f"behind: {line}", style="yellow", highlight=False)
    for line in report.differences[:50]:
        out.print(f"differs: {line}", style="red", highlight=False, soft_wrap=True)
    if len(report.differences) > 50:
        out.print(f"... and {len(report.differences) - 50} more (all of them with --json)")
    out.print("everything agrees" if report.equal else "not everything agrees", style="bold")


@click.command()
@click.option("--replicas", default=1, show_default=True, help="Copies of each partition; 3 on a real cluster.")
@click.option(
    "--no-flush", is_flag=True, help="Without flush.messages=1 on a single broker: not safe against power cuts."
)
def topics(replicas: int, no_flush: bool) -> None:
    """Make the topics that do not exist yet, with the catalogue's partition counts and retention."""
    make_topics(settings(), replicas=replicas, flush_each_append=not no_flush)
    out.print("the topics are there")


@click.command()
def key() -> None:
    """Make the fleet's key (for a new fleet only). Keep a copy: losing it loses every suppression."""
    path = settings().key_file
    if not make_key(path):
        errors.print(f"{path} exists; a fleet keeps its key for life.", style="red")
        sys.exit(1)
    out.print(f"{path} is made; put a copy of it where you keep your backups.")


@click.command()
def migrate() -> None:
    """Bring the Postgres schema up to date."""
    done = bring_up_to_date(settings().database_url)
    out.print("\n".join(done) if done else "nothing to do")


@click.command()
@click.argument("role", type=click.Choice(list(ROLES)))
@click.option("--yes", is_flag=True, help="Do not ask.")
def replay(role: Role, yes: bool) -> None:
    """Write the tables of ROLE anew from its journals. Stop all workers of that role first.

    It decides nothing and can send nothing. `mailfleet verify` afterwards must find everything equal.
    """
    if not yes:
        click.confirm(f"Are all {role} workers stopped?", abort=True)
    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("folding journals", total=ROLES[role].journal.partitions)
        rows = asyncio.run(replay_tables(settings(), role, lambda n: progress.update(task, completed=n)))
    out.print(f"{rows} rows written")
