"""The `mailfleet` command."""

import asyncio
import os
import secrets
import sys
from pathlib import Path

import click
import orjson
import psycopg
from confluent_kafka import KafkaException
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ops.fleet_file import FleetFileWrong, publish, read_fleet
from ops.replay import replay as replay_tables
from ops.verify import Report, verify_until_equal
from ops.verify import verify as compare
from projections.migrate import migrate
from schemas.entry import JournalBroken
from streams.app import ROLES, Role, make_topics
from streams.log.kafka import AppendUncertain, LogUnreachable
from streams.log.topics import TopicsWrong
from streams.settings import SettingMissing, from_environment

CONTEXT = {"help_option_names": ["-h", "--help"]}
out = Console()
errors = Console(stderr=True)


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="mailfleet")
def cli() -> None:
    """mailfleet: outreach mail for agencies; no send twice, none lost in silence.

    Settings come from the environment: KAFKA_BROKERS (host:port, ...), DATABASE_URL, MAILFLEET_HOME (secrets and
    local state), MAILFLEET_PREFIX (before every topic name), KAFKA_SECURITY_PROTOCOL, KAFKA_SASL_MECHANISM,
    KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD.

    Exit codes: 0 all well, 1 what was asked is not so or failed, 2 wrong usage, 78 a setting is missing.
    """


@cli.command(context_settings=CONTEXT)
@click.option("--wait", "wait_s", default=0.0, show_default=True, help="Try again for so many seconds until equal.")
@click.option("--no-postgres", is_flag=True, help="Compare with the changelogs only.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(wait_s: float, no_postgres: bool, as_json: bool) -> None:
    """Fold the journals and compare with the Faust tables and with Postgres; print what differs.

    Exit code 0 when everything agrees, 1 when something differs.
    """
    settings = from_environment()
    total = sum(topics.journal.partitions for topics in ROLES.values())
    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("folding journals", total=total)
        if wait_s:
            report = asyncio.run(verify_until_equal(settings, wait_s, postgres=not no_postgres))
        else:
            step = lambda _role, _n: progress.advance(task)  # noqa: E731 - one line, used once
            report = asyncio.run(compare(settings, postgres=not no_postgres, step=step))
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
        out.print(f"differs: {line}", style="red", highlight=False)
    if len(report.differences) > 50:
        out.print(f"... and {len(report.differences) - 50} more (all of them with --json)")
    out.print("everything agrees" if report.equal else "not everything agrees", style="bold")


@cli.command(context_settings=CONTEXT)
@click.option("--replicas", default=1, show_default=True, help="Copies of each partition; 3 on a real cluster.")
@click.option(
    "--no-flush", is_flag=True, help="Without flush.messages=1 on a single broker: not safe against power cuts."
)
def topics(replicas: int, no_flush: bool) -> None:
    """Make the topics that do not exist yet, with the catalogue's partition counts and retention."""
    make_topics(from_environment(), replicas=replicas, flush_each_append=not no_flush)
    out.print("the topics are there")


@cli.command(context_settings=CONTEXT)
def key() -> None:
    """Make the fleet's key (for a new fleet only). Keep a copy: losing it loses every suppression."""
    path = from_environment().key_file
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        errors.print(f"{path} exists; a fleet keeps its key for life.", style="red")
        sys.exit(1)
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(32))
    out.print(f"{path} is made; put a copy of it where you keep your backups.")


@cli.command("migrate", context_settings=CONTEXT)
def migrate_command() -> None:
    """Bring the Postgres schema up to date."""
    done = migrate(from_environment().database_url)
    out.print("\n".join(done) if done else "nothing to do")


@cli.command(context_settings=CONTEXT)
@click.argument("fleet_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def apply(fleet_file: Path) -> None:
    """Read FLEET_FILE, name everything that is wrong in it, or publish what it declares."""
    facts = read_fleet(fleet_file)
    asyncio.run(publish(from_environment(), facts))
    out.print(f"{len(facts)} declarations published")


@cli.command(context_settings=CONTEXT)
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
        rows = asyncio.run(replay_tables(from_environment(), role, lambda n: progress.update(task, completed=n)))
    out.print(f"{rows} rows written")


def main() -> None:
    """Run the command; what is known to go wrong ends in one sentence and an exit code."""
    try:
        cli()
    except SettingMissing as error:
        errors.print(f"mailfleet: {error}", style="red", highlight=False)
        sys.exit(78)
    except (TopicsWrong, FleetFileWrong, JournalBroken, LogUnreachable, AppendUncertain) as error:
        errors.print(f"mailfleet: {error}", style="red", highlight=False)
        sys.exit(1)
    except KafkaException as error:
        errors.print(f"mailfleet: Kafka: {error.args[0].str()}; is KAFKA_BROKERS right and the broker up?", style="red")
        sys.exit(1)
    except psycopg.OperationalError as error:
        errors.print(f"mailfleet: Postgres: {error}; is DATABASE_URL right and the server up?", style="red")
        sys.exit(1)
