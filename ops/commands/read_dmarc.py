"""`mailfleet read-dmarc`: saved DMARC aggregate reports, read and published as if they had come in."""

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from adapters.reports.dmarc import NotAReport, looks_like_report
from ops.classified import files_of, messages
from ops.commands.settings import settings
from ops.fleet_file import read_fleet
from ops.fleet_plan import known, publish
from schemas import registry
from schemas.registry import Fact
from schemas.reputation import DmarcCount, DmarcReported
from streams.agents.dmarc_reports import Domains, domains, facts_in
from streams.fleet.reputation import mails_of

COUNTS = ("own", "fails", "unsigned", "others")
out = Console()
errors = Console(stderr=True)


@dataclass(frozen=True)
class Read:
    """What one file or message came to: facts, or why it has none."""

    name: str
    facts: tuple[DmarcReported, ...] = ()
    why: str = ""


@click.command("read-dmarc")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--fleet",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A fleet file whose domains count, instead of those that are applied; with --dry-run no Kafka is needed.",
)
@click.option("--dry-run", is_flag=True, help="Show what the reports say, publish nothing.")
@click.option("--json", "as_json", is_flag=True, help="For programs: the facts, one a line, then the counts.")
def read_dmarc(files: tuple[Path, ...], fleet: Path | None, dry_run: bool, as_json: bool) -> None:
    """Read the DMARC aggregate reports in FILES and publish what they say of the fleet's domains.

    FILES: reports as .xml, .gz or .zip, messages that bring them, mbox files, folders of all these. Each report counts
    once, by who reports and its number; reading it again changes nothing, and what ended over 30 days ago does not
    count. Messages that bring no report are passed over. Exit code 1 when a report could not be read.
    """
    declared: list[Fact] = list(read_fleet(fleet)) if fleet else list(asyncio.run(known(settings())))
    with Progress(console=errors, transient=True) as progress:
        reading = progress.add_task("reading", total=None)
        read = []
        for one in read_all(files, domains(declared), datetime.now(UTC)):
            read.append(one)
            progress.advance(reading)
        if not dry_run:
            asyncio.run(publish(settings(), [fact for one in read for fact in one.facts], "read-dmarc"))
    failed = sum(1 for one in read if one.why)
    (_print_json if as_json else _print_table)(read, failed, dry_run)
    sys.exit(1 if failed else 0)


def read_all(paths: tuple[Path, ...], fleet: Domains, now: datetime) -> Iterator[Read]:
    """Yield what each report came to; of messages only those that say that they bring one."""
    for file in (file for path in paths for file in files_of(path)):
        for raw in messages(file):
            try:
                yield Read(str(file), tuple(facts_in(raw, fleet, now)))
            except NotAReport as error:
                if looks_like_report(raw) or file.suffix.lower() in (".xml", ".gz", ".zip"):
                    yield Read(str(file), why=str(error))


def _print_json(read: list[Read], failed: int, dry_run: bool) -> None:
    for one in read:
        for fact in one.facts:
            line = {"file": one.name, "type": registry.TYPE_OF[type(fact)], "data": registry.data_of(fact)}
            sys.stdout.write(orjson.dumps(line).decode() + "\n")
        if one.why:
            sys.stdout.write(orjson.dumps({"file": one.name, "not_read": one.why}).decode() + "\n")
    counts = {"published": not dry_run, "reports": sum(len(one.facts) for one in read), "not_read": failed}
    sys.stdout.write(orjson.dumps(counts).decode() + "\n")


def _print_table(read: list[Read], failed: int, dry_run: bool) -> None:
    table = Table()
    for column in ("day", "domain", "reported by", "policy", *COUNTS):
        table.add_column(column, overflow="fold", justify="right" if column in COUNTS else "left")
    facts = [fact for one in read for fact in one.facts]
    for fact in sorted(facts, key=lambda fact: (fact.end, fact.domain, fact.org)):
        table.add_row(f"{fact.end:%Y-%m-%d}", fact.domain, fact.org, fact.policy, *_mails(fact.counts))
    if facts:
        out.print(table)
    for one in read:
        if one.why:
            errors.print(f"{one.name}: {one.why}", style="yellow", highlight=False, markup=False)
    out.print(
        f"{'would publish' if dry_run else 'published'}: {len(facts)} reports; {failed} not read", highlight=False
    )


def _mails(counts: tuple[DmarcCount, ...]) -> list[str]:
    sums = mails_of(counts)
    return [f"{mails:,}" for mails in (sums.ours, sums.failed, sums.unsigned, sums.unknown)]
