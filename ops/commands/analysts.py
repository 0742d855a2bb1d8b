"""Commands for those who read: analyst-role, metabase."""

import sys
from secrets import token_urlsafe

import click
import orjson
import psycopg
from psycopg.conninfo import conninfo_to_dict
from rich.console import Console
from rich.table import Table

from adapters.secrets import Secrets
from ops.commands.settings import settings
from ops.metabase.api import Metabase
from ops.metabase.files import read_dashboards, read_filters, read_keys
from ops.metabase.provision import Connection, Wanted, provision
from ops.metabase.rights import OPEN
from ops.site import keep
from projections.analysts import make_login, role_of

out = Console()
errors = Console(stderr=True)
SECRET = click.option(
    "--secret", default="", help="Where its password stands, file:NAME or env:NAME; else file:ROLE.password."
)


def _secret_of(role: str, secret: str) -> str:
    return secret or f"file:{role}.password"


@click.command("analyst-role")
@click.argument("client", default="")
@SECRET
def analyst_role(client: str, secret: str) -> None:
    """Make a login that reads the views in Postgres: the agency's, or CLIENT's, which sees its own rows only.

    It reads no table and no recipient's address, and changes nothing. The login is called analyst, or
    analyst_CLIENT; a password is made for it when its file is not there. Again: brings it up to date, also its
    password.
    """
    role = role_of(client)
    ref = _secret_of(role, secret)
    secrets = Secrets(settings().secrets_folder)
    if ref.startswith("file:") and keep(secrets.path(ref), token_urlsafe(24)):
        errors.print(f"a password is made: {secrets.path(ref)}", highlight=False)
    with psycopg.connect(settings().database_url) as connection:
        make_login(connection, client, secrets.resolve(ref))
    whose = f"the rows of {client} only" if client else "everything"
    out.print(f"{role} reads {whose}, in schema {role}; its password: {ref}", highlight=False)


@click.command()
@click.option("--url", default="http://127.0.0.1:3000", show_default=True, help="Where Metabase is.")
@click.option("--api-key", default="", metavar="SECRET", help="A key of its administrators: file:NAME or env:NAME.")
@click.option("--user", default="", metavar="EMAIL", help="Instead of a key: an administrator; a fresh one's first.")
@click.option("--password", default="", metavar="SECRET", help="With --user: file:NAME or env:NAME.")
@click.option("--client", default="", help="The dashboards of this client only, over its own login.")
@SECRET
@click.option("--database-url", default="", help="How Metabase reaches Postgres, when not as DATABASE_URL says.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def metabase(
    url: str, api_key: str, user: str, password: str, client: str, secret: str, database_url: str, as_json: bool
) -> None:
    """Put the connection, the keys and the dashboards of ops/metabase/ into a Metabase; again: only what changed.

    Make the login first (`mailfleet analyst-role`). What people changed in these dashboards is changed back; their
    own stay as they are. With --client a group "mailfleet CLIENT" may read the dashboards, and Metabase's group All
    Users, to which everybody belongs, may not: put the client's people into it. What else is open to all is said.
    """
    if bool(api_key) == bool(user and password):
        raise click.UsageError("sign in with --api-key, or with --user and --password")
    secrets = Secrets(settings().secrets_folder)
    role = role_of(client)
    connection = _connection(
        database_url or settings().database_url, client, role, secrets.resolve(_secret_of(role, secret))
    )
    wanted = Wanted(read_dashboards(), read_filters(), read_keys())
    with Metabase(url) as there:
        if api_key:
            there.use_key(secrets.resolve(api_key))
        else:
            there.use_login(user, secrets.resolve(password))
        with errors.status("speaking to Metabase"):
            told = dict(provision(there, wanted, connection))
    if as_json:
        sys.stdout.write(orjson.dumps(told).decode() + "\n")
    else:
        out.print(_counts(told))
        for what in (what for what, how in told.items() if how == OPEN):
            errors.print(
                f"{what}: everybody who may log in to this Metabase sees it, clients' people too. Take it away under "
                "Admin settings, Permissions, and give it to a group of your own people.",
                style="yellow",
                highlight=False,
                markup=False,
            )


def _connection(url: str, client: str, role: str, password: str) -> Connection:
    where = conninfo_to_dict(url)
    return Connection(
        name=f"mailfleet {client}".strip(),
        host=str(where.get("host") or "127.0.0.1"),
        port=int(where.get("port") or 5432),
        dbname=str(where.get("dbname") or "mailfleet"),
        user=role,
        password=password,
        schema=role,
        closed=bool(client),
        ssl=where.get("sslmode", "prefer") in ("require", "verify-ca", "verify-full"),
    )


def _counts(told: dict[str, str]) -> Table:
    """How many of each kind were made, changed, or as they were."""
    hows = ("made", "changed", "as it was")
    table = Table(title="In Metabase")
    table.add_column("what")
    for how in hows:
        table.add_column(how, justify="right")
    for kind in dict.fromkeys(what.split()[0] for what in told):
        found = [how for what, how in told.items() if what.split()[0] == kind]
        table.add_row(kind, *(str(found.count(how)) for how in hows))
    return table
