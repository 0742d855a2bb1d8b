"""`mailfleet door`: webhooks and one-click unsubscribes, and what to enter at the providers."""

import asyncio
import secrets
import signal
import sys

import click
import orjson
from rich.console import Console
from rich.table import Table

from adapters.secrets import SecretMissing, Secrets
from ops.commands.settings import environment
from ops.logs import set_up
from ops.run import run_door
from ops.site import keep
from streams.agents.door import check_settings
from streams.settings import DoorSettings, SettingMissing, Settings, door_from, from_environment, home_from

out = Console()


@click.command()
@click.option("--host", default="", help="Where to listen, instead of DOOR_HOST.")
@click.option("--port", default=0, help="Where to listen, instead of DOOR_PORT.")
@click.option(
    "--urls", "base", default="", metavar="BASE", help="Print what to enter at providers below BASE, and end."
)
@click.option("--json", "as_json", is_flag=True, help="With --urls: as JSON.")
def door(host: str, port: int, base: str, as_json: bool) -> None:
    """Take webhooks of Mailgun and Amazon SNS and one-click unsubscribes until Ctrl-C.

    A reverse proxy with TLS belongs before it. DOOR_PATH names the secret with the first part of the webhooks' path
    (made by --urls when it is a file and missing), DOOR_MAILGUN_KEYS the secrets with Mailgun's webhook signing keys
    (file:NAME, or DOMAIN=file:NAME), DOOR_SNS_TOPICS the ARNs of your SNS topics. DOOR_CONNECTIONS, DOOR_HEAD_S
    and DOOR_BODY_S bound what clients may take, DOOR_POLL_MAILGUN_S says how often Mailgun's logs are read.

    Example: mailfleet door --urls https://door.agency.example
    """
    if base:
        _print(base.rstrip("/"), as_json=as_json)
        return
    found = {"DOOR_HOST": host or None, "DOOR_PORT": str(port) if port else None}
    settings = from_environment({**environment(), **{name: value for name, value in found.items() if value}})
    check_settings(settings)
    set_up(settings.name, "INFO", "text", settings.log_folder)
    asyncio.run(_run(settings))
    sys.exit(0)


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run_door(settings, stop)


def _print(base: str, *, as_json: bool) -> None:
    """Print the addresses; the secret path is made when there is none."""
    given = door_from(environment())
    path = _path(given)
    urls = {
        "mailgun": f"{base}/{path}/mailgun",
        "sns": f"{base}/{path}/sns",
        "unsubscribe_url": f"{base}/u/",
        "health": f"{base}/health",
    }
    if as_json:
        print(orjson.dumps(urls).decode())
        return
    table = Table("for", "enter")
    for name, words in (
        ("mailgun", "Mailgun: webhooks, all events, of the account or of each domain"),
        ("sns", "Amazon SNS: a subscription of the topic over HTTPS, raw message delivery off"),
        ("unsubscribe_url", "the fleet file: unsubscribe_url of each client"),
        ("health", "your monitoring"),
    ):
        table.add_row(words, urls[name], style=None)
    out.print(table)


def _path(given: DoorSettings) -> str:
    if not given.path_ref:
        raise SettingMissing("DOOR_PATH is not set: name a secret for the webhooks' path, such as file:door.path")
    store = Secrets(home_from(environment()) / "secrets")
    try:
        if given.path_ref.startswith("file:"):
            keep(store.path(given.path_ref), secrets.token_urlsafe(24))
        return store.resolve(given.path_ref)
    except SecretMissing as error:
        raise SettingMissing(f"DOOR_PATH: {error}") from error
