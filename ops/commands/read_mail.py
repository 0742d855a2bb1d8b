"""`mailfleet read-mail`: a pile of saved bounces, read and published as if it had come in."""

import asyncio
import sys
from pathlib import Path

import click
import orjson
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ops.commands.settings import settings
from ops.fleet_plan import known
from ops.saved_mail import counted, mailboxes_of, publish, read_saved
from schemas import registry
from streams.agents.mail_reports import Found

out = Console()
errors = Console(stderr=True)


@click.command("read-mail")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--mailbox", default="", help="The mailbox that the mail lay in, when the mail does not say.")
@click.option("--dry-run", is_flag=True, help="Show what would be published, publish nothing.")
@click.option("--json", "as_json", is_flag=True, help="For programs: the facts, one a line, then the counts.")
def read_mail(files: tuple[Path, ...], mailbox: str, dry_run: bool, as_json: bool) -> None:
    """Read the messages in FILES and publish what they report: bounces, complaints, replies, unsubscribes.

    FILES: messages, mbox files, folders of them. A message is known by its content: reading it again changes nothing.
    A message without our token counts only when it lay in one of the fleet's mailboxes: the one that it is addressed
    to, or the one that --mailbox names. Nothing is sent; what the messages mean is what `mailfleet classify` says.
    """
    given = settings()
    mailbox = mailbox.lower()
    with Progress(console=errors, transient=True) as progress:
        reading = progress.add_task("reading", total=None)
        boxes = mailboxes_of(asyncio.run(known(given)))
        if mailbox and mailbox not in boxes:
            raise click.BadParameter(f"no mailbox {mailbox} is declared; nothing is published", param_hint="--mailbox")
        found = read_saved(files, boxes, given.fleet_key(), mailbox, lambda: progress.advance(reading))
        if not found:
            raise click.ClickException("there is no message in what was named")
        progress.update(reading, total=len(found), completed=len(found))
        if not dry_run:
            publishing = progress.add_task("publishing", total=len(found))
            asyncio.run(publish(given, found, lambda: progress.advance(publishing)))
    if as_json:
        _print_json(found, dry_run=dry_run)
    else:
        _print_table(found, dry_run=dry_run)


def _print_json(found: list[tuple[str, Found]], *, dry_run: bool) -> None:
    for name, report in found:
        fact = {"file": name, "type": registry.TYPE_OF[type(report.fact)], "data": registry.data_of(report.fact)}
        sys.stdout.write(orjson.dumps(fact).decode() + "\n")
    sys.stdout.write(orjson.dumps({"published": not dry_run, "kinds": counted(found)}).decode() + "\n")


def _print_table(found: list[tuple[str, Found]], *, dry_run: bool) -> None:
    if dry_run:
        table = Table()
        for column in ("file", "kind", "token", "recipient", "mailbox", "reply"):
            table.add_column(column, overflow="fold")
        for name, report in found:
            table.add_row(name, *_row(report))
        out.print(table)
    counts = ", ".join(f"{count} {kind}" for kind, count in counted(found).items()) or "nothing"
    out.print(f"{'would publish' if dry_run else 'published'}: {counts}", highlight=False)


def _row(report: Found) -> list[str]:
    data = registry.data_of(report.fact)
    reply = data.get("reply") or {}
    said = f"{reply.get('code', '')} {reply.get('enhanced', '')}".strip()
    kind = str(data.get("kind", "forged"))
    shown = [str(data.get(name, ""))[:8] for name in ("token", "recipient")]
    return [kind, *shown, str(data.get("mailbox", "")), said or str(data.get("why", ""))]
