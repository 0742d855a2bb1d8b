"""Logins that read the views in schema `analyst`: one for the agency, one for each client that sees its own rows only.

A client's login has a schema of its own: each view again, behind a security barrier, with the client's rows. Names
are the same in both, and a login's search_path finds its own: one set of dashboards serves all.
"""

import psycopg
from psycopg import sql

EVERYTHING = "analyst"
_OF_CLIENT = EVERYTHING + "_"
_VIEWS = """
select c.relname, obj_description(c.oid, 'pg_class'),
    exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'client')
from pg_class c where c.relnamespace = 'analyst'::regnamespace and c.relkind = 'v' order by 1
"""
_COLUMNS = """
select attname, col_description(attrelid, attnum) from pg_attribute
where attrelid = format('analyst.%%I', %s::text)::regclass and attnum > 0 and not attisdropped
"""
_WRITING = """
select format('revoke execute on function %s from public', oid::regprocedure)
from pg_proc
where pronamespace = 'pg_catalog'::regnamespace
  and proname in ('lo_creat', 'lo_create', 'lo_from_bytea', 'pg_logical_emit_message')
"""
"""What anybody may write without any right: objects that nobody finds, and the server's log."""
MOST_BYTES = 63  # of a name in Postgres


class ClientNameWrong(Exception):
    """No login can be made for this client; the text says why."""


def role_of(client: str) -> str:
    """Return the login's name; client "" is the agency itself. Raises ClientNameWrong."""
    role = _OF_CLIENT + client if client else EVERYTHING
    if len(role.encode()) > MOST_BYTES:
        raise ClientNameWrong(f"{role!r} is longer than {MOST_BYTES} bytes, the most that a name in Postgres may have")
    return role


def make_login(connection: "psycopg.Connection[tuple[object, ...]]", client: str, password: str) -> str:
    """Make the login, or bring it up to date, in the connection's transaction; return its name. Raises ClientNameWrong.

    The server gets the password's SCRAM verifier, not the password.
    """
    role = role_of(client)
    name = sql.Identifier(role)
    if not connection.execute("select from pg_roles where rolname = %s", (role,)).rowcount:
        connection.execute(sql.SQL("create role {}").format(name))
    verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    rights = "login nosuperuser nocreatedb nocreaterole noreplication nobypassrls"
    connection.execute(sql.SQL("alter role {} " + rights + " password {}").format(name, sql.Literal(verifier)))
    for setting, value in (
        ("search_path", role),
        ("default_transaction_read_only", "on"),
        ("statement_timeout", "60s"),
        ("idle_in_transaction_session_timeout", "60s"),  # a migration or the swap of a rebuild would wait for it
    ):
        connection.execute(
            sql.SQL("alter role {} set {} = {}").format(name, sql.Identifier(setting), sql.Literal(value))
        )
    database = sql.Identifier(connection.info.dbname)
    connection.execute(sql.SQL("revoke create, temporary on database {} from public").format(database))
    for (statement,) in connection.execute(_WRITING).fetchall():
        connection.execute(str(statement).encode())
    if client:
        show_own_rows(connection, client)
    return role


def clients_with_login(connection: "psycopg.Connection[tuple[object, ...]]") -> list[str]:
    """Return the clients that have a schema of their own here."""
    found = connection.execute(
        "select nspname from pg_namespace where starts_with(nspname, %s) order by 1", (_OF_CLIENT,)
    )
    return [str(row[0]).removeprefix(_OF_CLIENT) for row in found]


def hide(connection: "psycopg.Connection[tuple[object, ...]]", client: str) -> None:
    """Drop the client's schema: its login sees nothing."""
    connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(role_of(client))))


def show_own_rows(connection: "psycopg.Connection[tuple[object, ...]]", client: str) -> None:
    """Make the client's schema anew: each analyst view that knows clients, with this one's rows."""
    hide(connection, client)
    schema = sql.Identifier(role_of(client))
    connection.execute(sql.SQL("create schema {}").format(schema))
    said = sql.Literal(f"What analysts of client {client} read: its own rows only.")
    connection.execute(sql.SQL("comment on schema {} is {}").format(schema, said))
    for view, comment, knows_clients in connection.execute(_VIEWS).fetchall():
        if knows_clients:
            _show(connection, client, str(view), str(comment))
    connection.execute(sql.SQL("grant usage on schema {0} to {0}").format(schema))
    connection.execute(sql.SQL("grant select on all tables in schema {0} to {0}").format(schema))


def _show(connection: "psycopg.Connection[tuple[object, ...]]", client: str, view: str, comment: str) -> None:
    whole = sql.Identifier(EVERYTHING, view)
    own = sql.Identifier(role_of(client), view)
    rows = sql.SQL("create view {} with (security_barrier) as select * from {} where client = {}")
    connection.execute(rows.format(own, whole, sql.Literal(client)))
    connection.execute(sql.SQL("comment on view {} is {}").format(own, sql.Literal(comment)))
    for column, text in connection.execute(_COLUMNS, (view,)).fetchall():
        place = sql.Identifier(role_of(client), view, str(column))
        connection.execute(sql.SQL("comment on column {} is {}").format(place, sql.Literal(text)))
