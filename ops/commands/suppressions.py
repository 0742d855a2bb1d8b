"""Commands about people: suppress, unsuppress, suppressions import and export, forget, export."""

import asyncio
import csv
import getpass
import io
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.progress import Progress

from adapters.secrets import Secrets
from ops.commands.settings import settings
from ops.fleet_plan import known
from ops.person import everything
from ops.provider_lists import NoList, call_over, listed
from ops.suppressions import (
    COLUMNS,
    Order,
    domain_in,
    held,
    publish,
    read_suppressions,
    suppression_of,
    take_back,
)
from schemas.fleet import ClientDeclared
from schemas.ids import ClientId
from schemas.registry import data_of
from schemas.reports import DomainSuppressOrdered, UnsuppressOrdered
from schemas.topics import DAY_MS, SEND_REQUESTS
from streams.delivery.identity import AddressInvalid, recipients_of

out = Console()
errors = Console(stderr=True)
CLIENT = click.option("--client", default="", help="Only for this client; without it for all.")
BY = click.option("--by", default=getpass.getuser, show_default="your login", help="Who orders it; kept for ever.")
JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")
ADDRESS = click.argument("address")


@click.command()
@click.argument("who", nargs=-1, metavar="[ADDRESS|@DOMAIN...]")
@click.option("--from-provider", metavar="CLIENT/ROUTE", help="All that the provider of this route has on its list.")
@CLIENT
@click.option("--reason", default="ordered by an operator", show_default=True, help="In your words; kept for ever.")
@BY
@JSON
def suppress(who: tuple[str, ...], from_provider: str | None, client: str, reason: str, by: str, as_json: bool) -> None:
    """Forbid mail to addresses, or to whole domains with their sub-domains (@firm.example).

    What waits is cancelled within seconds; what already stands at a server's final dot is let go. Addresses
    leave this machine only as keyed hashes.

    With --from-provider, the list that Mailgun or Amazon SES keeps is taken over: hard bounces and complaints for
    all clients, unsubscribes for the route's client, each with its own reason. Again is safe. Exit code 1 when it
    cannot be read.
    """
    if bool(who) is bool(from_provider):
        raise click.UsageError("give addresses or domains, or --from-provider CLIENT/ROUTE")
    if from_provider:
        if client:
            raise click.UsageError("--client is not for --from-provider: each reason of the list has its own scope")
        _take_over(from_provider, by, as_json)
        return
    key = settings().fleet_key()
    _declared([client])
    orders = _valid([lambda w=w: suppression_of(w, ClientId(client), "manual", reason, by, key) for w in who])
    asyncio.run(publish(settings(), orders, by))
    _tell(orders, as_json, f"{_many(len(orders))} ordered")


def _take_over(route: str, by: str, as_json: bool) -> None:
    """Order what the provider of a route has on its list."""
    try:
        client, call = call_over(route, asyncio.run(known(settings())))
        with errors.status("reading the list"):
            secrets = Secrets(settings().secrets_folder)
            orders, passed_over = asyncio.run(listed(client, call, secrets, by, settings().fleet_key()))
    except NoList as error:
        errors.print(str(error), style="red", soft_wrap=True)
        sys.exit(1)
    _publish(orders, by)
    if as_json:
        sys.stdout.write(orjson.dumps({"ordered": len(orders), "no addresses": passed_over}).decode() + "\n")
    else:
        out.print(f"{_many(len(orders))} ordered; {passed_over} lines were no addresses", highlight=False)


def _publish(orders: Sequence[Order], by: str) -> None:
    """Publish many, with their progress."""
    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("publishing", total=len(orders))
        for start in range(0, len(orders), 500):
            asyncio.run(publish(settings(), orders[start : start + 500], by))
            progress.update(task, completed=start + 500)


@click.command()
@click.argument("who", metavar="ADDRESS|@DOMAIN")
@CLIENT
@click.option("--reason", required=True, help="Why it may be written to again; kept for ever.")
@BY
@JSON
def unsuppress(who: str, client: str, reason: str, by: str, as_json: bool) -> None:
    """Take a manual suppression or a hard bounce back: the one for all clients, or with --client that client's.

    Complaints and unsubscribes are never taken back. Exit code 1 when it is refused, with the reason.
    """
    _declared([client])
    if who.startswith("@"):
        (order,) = _valid([lambda: DomainSuppressOrdered(domain_in(who), ClientId(client), False, reason, by)])
        asyncio.run(publish(settings(), [order], by))
        _tell([order], as_json, f"{who} may be written to again")
        return
    key = settings().fleet_key()
    (asked,) = _valid([lambda: UnsuppressOrdered(*recipients_of(who, key), ClientId(client), reason, by)])
    refused = asyncio.run(take_back(settings(), asked))
    answer = "not answered yet" if refused is None else "refused" if refused else "taken back"
    if as_json:
        sys.stdout.write(orjson.dumps({"answer": answer, "why": refused or ""}).decode() + "\n")
    elif refused is None:
        errors.print("it is ordered, but the delivery stage has not answered; is a worker running?", style="yellow")
    else:
        scope = f"for {client}" if client else "for all clients"
        out.print(f"refused: {refused}" if refused else f"taken back {scope}: mail is allowed again", highlight=False)
    sys.exit(1 if answer != "taken back" else 0)


def _valid(makers: list[Any], done: str = "ordered") -> list[Any]:
    """Make all orders, or none: an address that is none ends the command."""
    try:
        return [make() for make in makers]
    except AddressInvalid as error:
        raise click.BadParameter(f"{error}; nothing is {done}") from error


def _declared(clients: Iterable[str]) -> None:
    """End the command for a client that nobody declared: such an order would hold for no mail at all."""
    named = {name for name in clients if name}
    if not named:
        return
    names = sorted(fact.client for fact in asyncio.run(known(settings())) if isinstance(fact, ClientDeclared))
    wrong = sorted(named - set(names))
    if wrong:
        raise click.BadParameter(
            f"no client {', '.join(wrong)} is declared (declared: {', '.join(names) or 'none'}); nothing is ordered"
        )


def _many(count: int) -> str:
    return "1 suppression" if count == 1 else f"{count:,} suppressions"


def _tell(orders: list[Order], as_json: bool, sentence: str) -> None:
    if as_json:
        sys.stdout.write(orjson.dumps({"ordered": [data_of(order) for order in orders]}).decode() + "\n")
    else:
        out.print(sentence, highlight=False)


# ── lists ────────────────────────────────────────────────────────────────────────────────────────


@click.group()
def suppressions() -> None:
    """All suppressions as CSV: in and out."""


@suppressions.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@BY
@JSON
def import_list(file: Path, by: str, as_json: bool) -> None:
    """Suppress what FILE lists: a CSV with a column address, recipient (keyed hash) or domain.

    Beside it client (empty: all), reason and rule. The reasons hard_bounce, complaint and unsubscribe stay what
    they are, any other is a manual one. What `suppressions export` writes can be read. Again is safe.
    """
    orders = read_suppressions(file, settings().fleet_key(), by)
    _declared(order.client for order in orders)
    _publish(orders, by)
    if as_json:
        sys.stdout.write(orjson.dumps({"ordered": len(orders)}).decode() + "\n")
    else:
        out.print(f"{_many(len(orders))} ordered", highlight=False)


@suppressions.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@JSON
def export_list(file: Path | None, as_json: bool) -> None:
    """Write all suppressions that hold as CSV to FILE, or to the standard output.

    It has keyed hashes and no addresses: only a fleet with the same key can use it.
    """
    rows = held(settings().database_url)
    if as_json:
        text = orjson.dumps(rows).decode() + "\n"
    else:
        lines = io.StringIO(newline="")
        writer = csv.DictWriter(lines, COLUMNS)
        writer.writeheader()
        writer.writerows({**row, "since": row["since"].isoformat()} for row in rows)
        text = lines.getvalue()
    if file is None:
        sys.stdout.write(text)
    else:
        file.write_text(text, "utf-8", newline="")
        errors.print(f"{_many(len(rows))} written", highlight=False)


# ── one person ───────────────────────────────────────────────────────────────────────────────────

FORGOTTEN = "forgotten at the person's wish"
KEPT_DAYS = (SEND_REQUESTS.retention_ms or 0) // DAY_MS
AT_ONCE = "what waits for the address is cancelled, and it is suppressed for all clients"
EXPIRES = f"address, name and texts stand in send-requests alone and are deleted {KEPT_DAYS} days after each request"
STAYS = (
    "a keyed hash, which cannot be turned back into the address without the fleet's key, with the domain, the consent "
    "basis in upstream's words, what was decided and what servers said: it is what keeps the suppression"
)


@click.command()
@ADDRESS
@BY
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
def forget(address: str, by: str, yes: bool, as_json: bool) -> None:
    """Forget a person: nothing is sent any more, and what names them goes as soon as it can.

    At once: what waits is cancelled and the address suppressed. Later: address and texts go with the records of
    send-requests, 14 days after each request; Kafka deletes no single record. What stays is a keyed hash with what
    was decided: it keeps the suppression. Mail in your mailboxes, and upstream's own data, are yours to delete.
    """
    key = settings().fleet_key()
    (order,) = _valid([lambda: suppression_of(address, ClientId(""), "manual", FORGOTTEN, by, key)])
    if isinstance(order, DomainSuppressOrdered):
        raise click.BadParameter("a person has an address; `mailfleet suppress @domain` is for whole domains")
    if not yes:
        click.confirm(f"Forget {address}? A suppression so given is taken back only by `unsuppress`.", abort=True)
    asyncio.run(publish(settings(), [order], by))
    told = {"recipient": order.recipient, "at once": AT_ONCE, "expires": EXPIRES, "stays": STAYS}
    if as_json:
        sys.stdout.write(orjson.dumps(told).decode() + "\n")
        return
    for what, sentence in told.items():
        out.print(f"[bold]{what}[/bold]: {sentence}", highlight=False)


@click.command("export")
@ADDRESS
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file (mode 0600), not the screen.")
@click.option("--json", "_as_json", is_flag=True, help="It is always JSON.")
def export_person(address: str, output: Path | None, _as_json: bool) -> None:
    """Print all that is held about a person, as JSON: the answer to a request for access.

    Requests with their texts as long as they are kept, every decided fact of both journals, and the rows in
    Postgres; for all spellings of the address (plus-tags, dots at Gmail). Exit code 1 when nothing is held.
    """
    _valid([lambda: recipients_of(address, settings().fleet_key())], "read")
    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("reading", total=None)
        found = asyncio.run(everything(settings(), address, lambda what: progress.update(task, description=what)))
    raw = orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n"
    if output is None:
        sys.stdout.buffer.write(raw)
    else:
        handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
        errors.print(f"{len(found['facts'])} facts and {len(found['requests'])} requests written")
    sys.exit(0 if found["facts"] else 1)
