"""Commands about senders and their lists: pause, resume, release-list."""

import asyncio
import getpass
import sys

import click
from rich.console import Console

from ops.commands.settings import settings
from ops.fleet_orders import order_sender, owner_of, release
from schemas.health import Scope

out = Console()
errors = Console(stderr=True)
SCOPE = click.argument("scope", type=click.Choice(["mailbox", "domain", "route", "client"]))
NAME = click.argument("name")
REASON = click.option("--reason", required=True, help="Why; it stands in the journal beside your name.")


@click.command()
@SCOPE
@NAME
@REASON
def pause(scope: Scope, name: str, reason: str) -> None:
    """Take a mailbox, domain, route (CLIENT/ROUTE) or client out of rotation until `resume`.

    What it carries now is let go; its sends go by others or wait. Exit code 1 when there is none of that name.
    """
    _order(scope, name, reason, paused=True)


@click.command()
@SCOPE
@NAME
@REASON
def resume(scope: Scope, name: str, reason: str) -> None:
    """Let a sender back: one that evidence took out begins with a few mails a day.

    The rules go on; what they saw before does not count again. `mailfleet why NAME` shows what they saw.
    """
    _order(scope, name, reason, paused=False)


def _order(scope: Scope, name: str, reason: str, *, paused: bool) -> None:
    client = asyncio.run(owner_of(settings(), scope, name))
    if client is None:
        errors.print(f"no {scope} {name} is declared; a route is named CLIENT/ROUTE", style="red")
        sys.exit(1)
    asyncio.run(order_sender(settings(), client, scope, name, reason, paused=paused, by=getpass.getuser()))
    out.print(f"{'pause' if paused else 'resume'} ordered: {scope} {name}; `mailfleet why` tells what follows")


@click.command("release-list")
@click.argument("client")
@click.argument("list_id")
@REASON
def release_list(client: str, list_id: str, reason: str) -> None:
    """Let a list of CLIENT go on at once, whatever its first sends came to; by your name and with a reason.

    LIST_ID is the one of the requests, or campaign/NAME for the sends of a campaign that name none. Exit code 1
    when there is no such client.
    """
    if asyncio.run(owner_of(settings(), "client", client)) is None:
        errors.print(f"no client {client} is declared", style="red")
        sys.exit(1)
    asyncio.run(release(settings(), client, list_id, reason, by=getpass.getuser()))
    out.print(f"release ordered: list {list_id} of {client}; `mailfleet why {client}` tells what follows")
