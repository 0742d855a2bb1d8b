"""Commands about the fleet: apply, import, stop, start."""

import asyncio
import getpass
import sys
from pathlib import Path
from typing import get_args

import click
import msgspec
import orjson
from rich.console import Console
from rich.table import Table

from ops.commands.settings import settings
from ops.fleet_file import Declared, read_fleet
from ops.fleet_import import import_mailboxes
from ops.fleet_orders import order
from ops.fleet_plan import KINDS, Plan, known, plan, publish
from ops.secret_store import keep_secrets, read_secrets
from ops.suppressions import publish as publish_orders
from ops.suppressions import read_suppressions
from schemas.fleet import MailboxDeclared, StopScope
from schemas.policy import PolicyApplied
from schemas.registry import data_of
from streams.fleet.decide import declared_key

out = Console()
FLEET_FILE = click.argument("fleet_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.command()
@FLEET_FILE
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show the plan and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON; with --yes or --dry-run.")
def apply(fleet_file: Path, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Compare FLEET_FILE with the fleet as it is, show the plan, ask, and publish what changes.

    Everything that is wrong in the file is named at once, and then nothing is changed. What the file no
    longer declares is switched off, never forgotten.
    """
    if as_json and not (yes or dry_run):
        raise click.UsageError("--json asks nothing: give --yes or --dry-run with it")
    wanted = read_fleet(fleet_file)
    made = plan(asyncio.run(known(settings())), wanted)
    if as_json:
        sys.stdout.write(orjson.dumps(as_dict(made)).decode() + "\n")
    else:
        show_plan(made)
    if dry_run or not made.facts:
        return
    if not yes:
        click.confirm("Apply this?", abort=True)
    asyncio.run(publish(settings(), made.facts))
    if not as_json:
        out.print(f"{len(made.facts)} declarations published; the fleet stage takes them within seconds")


def show_plan(made: Plan) -> None:
    """Print what would change."""
    table = Table(title="What changes")
    for column in ("", *KINDS):
        table.add_column(column, justify="left" if not column else "right")
    for name, facts in (("added", made.added), ("changed", [new for _, new in made.changed]), ("gone", made.gone)):
        kinds = [declared_key(fact)[0] for fact in facts]
        table.add_row(name, *(str(kinds.count(kind)) for kind in KINDS))
    out.print(table)
    lines = [f"changed {_name(new)}: {_difference(old, new)}" for old, new in made.changed]
    lines += [f"gone    {_name(fact)}: switched off" for fact in made.gone]
    for line in lines[:20]:
        out.print(line, highlight=False)
    if len(lines) > 20:
        out.print(f"... and {len(lines) - 20} more (all of them with --json)")
    capacity = Table(title="Mails a day, once all is warm")
    for column in ("client", "now", "after", "change"):
        capacity.add_column(column, justify="left" if column == "client" else "right")
    for client, (now, after) in made.capacity.items():
        capacity.add_row(client, f"{now:,}", f"{after:,}", f"{after - now:+,}")
    out.print(capacity)
    if not made.facts:
        out.print("nothing changes")


def as_dict(made: Plan) -> dict[str, object]:
    """Return the plan for programs."""
    return {
        "added": [_name(fact) for fact in made.added],
        "changed": [{"name": _name(new), "from": data_of(old), "to": data_of(new)} for old, new in made.changed],
        "gone": [_name(fact) for fact in made.gone],
        "unchanged": made.unchanged,
        "capacity": {c: {"now": now, "after": after} for c, (now, after) in made.capacity.items()},
    }


def _name(fact: Declared) -> str:
    return " ".join(declared_key(fact))


def _difference(old: Declared, new: Declared) -> str:
    before, after = _flat(old), _flat(new)
    names = [name for name in after.keys() | before.keys() if before.get(name) != after.get(name)]
    return ", ".join(f"{name} {before.get(name)} → {after.get(name)}" for name in sorted(names))


def _flat(fact: Declared) -> dict[str, object]:
    """Return the data, a policy's thresholds each by its full name, defaults told."""
    if not isinstance(fact, PolicyApplied):
        return dict(data_of(fact))
    sections = msgspec.structs.asdict(fact.policy)
    version = sections.pop("version")
    rules = {
        f"{part}.{key}": value for part, of in sections.items() for key, value in msgspec.structs.asdict(of).items()
    }
    return {"version": version, **rules}


@click.command("import")
@FLEET_FILE
@click.argument("export", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--suppressions",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="CSV of who gets no mail, as `mailfleet suppressions import` reads it.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def import_(fleet_file: Path, export: Path, suppressions: Path | None, yes: bool) -> None:
    """Take an existing fleet over: mailboxes with their passwords from EXPORT, old suppressions.

    EXPORT is a CSV with the columns client, mailbox, password, daily_quota, routes (separated by ";"), and
    if you like name, username, warmed_since (a date: the mailbox needs no warm-up). Passwords go to the
    secret store, one file of mode 0600 each; the rest becomes mailboxes.csv beside FLEET_FILE, which must
    name it: mailbox_files = ["mailboxes.csv"]. One plan is shown for all of it.
    """
    taken = import_mailboxes(fleet_file, export, settings().secrets_folder)
    held = read_suppressions(suppressions, settings().fleet_key(), getpass.getuser()) if suppressions else []
    made = plan(asyncio.run(known(settings())), taken.fleet)
    show_plan(made)
    out.print(f"passwords to store: {len(taken.secrets)}")
    out.print(f"warmed mailboxes: {len(taken.warmed)}; suppressions: {len(held)}")
    if not yes:
        click.confirm("Apply this?", abort=True)
    taken.store()
    asyncio.run(publish(settings(), [*made.facts, *taken.warmed], by="import"))
    asyncio.run(publish_orders(settings(), held, "import"))
    out.print("imported")


@click.command()
@click.argument("export", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
def secrets(export: Path, yes: bool) -> None:
    """Rotate passwords: write those in EXPORT to the secret store, all of them or, when a line is wrong, none.

    EXPORT is a CSV with the columns mailbox and password; for keys of routes the column secret (file:NAME)
    instead of mailbox. Processes need no restart: each new connection reads the secret anew. A mailbox that is
    left out for its old login is tried again within the hour.
    """
    boxes = [fact for fact in asyncio.run(known(settings())) if isinstance(fact, MailboxDeclared)]
    taken = read_secrets(export, {box.mailbox: box.secret_ref for box in boxes})
    out.print(f"{len(taken)} secrets to write to {settings().secrets_folder}")
    if not yes:
        click.confirm("Write them?", abort=True)
    keep_secrets(settings().secrets_folder, taken)
    out.print("written; delete the file that they came in", highlight=False)


SCOPE = click.argument("scope", type=click.Choice(get_args(StopScope)), default="all")
NAME = click.argument("name", default="")


@click.command()
@SCOPE
@NAME
def stop(scope: StopScope, name: str) -> None:
    """Stop sending: all, or one client, campaign (CLIENT/CAMPAIGN) or sending domain.

    No claim is made any more once the order has reached the stages, a second or two later; what already
    stands at a server's final dot is let go. It needs Kafka alone.
    """
    _order(scope, name, stopped=True)


@click.command()
@SCOPE
@NAME
def start(scope: StopScope, name: str) -> None:
    """Take back a stop of the same SCOPE and NAME."""
    _order(scope, name, stopped=False)


def _order(scope: StopScope, name: str, *, stopped: bool) -> None:
    if (scope == "all") == bool(name):
        raise click.UsageError("give a NAME for a client, campaign or domain, and none for all")
    if scope == "campaign" and "/" not in name:
        raise click.UsageError("a campaign is named CLIENT/CAMPAIGN")
    asyncio.run(order(settings(), scope, name, stopped=stopped, by=getpass.getuser()))
    out.print(f"{'stopped' if stopped else 'started'}: {scope} {name}".rstrip())
