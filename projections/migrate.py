"""Numbered migrations: SQL files, each applied once, in order, in one transaction."""

from contextlib import suppress
from importlib.resources import files
from typing import Any

import psycopg

from projections.analysts import clients_with_login, hide, show_own_rows

_ERRORS = psycopg.errors
MADE_MEANWHILE = (_ERRORS.UniqueViolation, _ERRORS.DuplicateTable, _ERRORS.DuplicateObject)
"""What says that another one has made the same in this moment; it stands then."""


def scripts() -> list[tuple[int, str, str]]:
    """Return (number, name, sql) of every migration, in order."""
    found = [f for f in files("projections").joinpath("migrations").iterdir() if f.name.endswith(".sql")]
    return sorted((int(f.name.split("_")[0]), f.name, f.read_text("utf-8")) for f in found)


def migrate(database_url: str) -> list[str]:
    """Apply what is missing; return the names applied. Safe when several start at once."""
    with psycopg.connect(database_url) as connection, connection.transaction():
        lock(connection)
        behind = {number for number, _, _ in scripts()} - _known(connection)
        clients = clients_with_login(connection) if behind else []
        for client in clients:
            hide(connection, client)  # its views would hold those that a migration changes
        applied = apply(connection)
        for client in clients:
            show_own_rows(connection, client)
        return applied


def lock(connection: psycopg.Connection[Any]) -> None:
    """Let one migration or rebuild go on at a time, until the end of the transaction that the caller has begun.

    The table of migrations is the lock: an advisory one can be held by whoever may log in.
    """
    with suppress(*MADE_MEANWHILE), connection.transaction():
        _make_table(connection)
    connection.execute("lock table public.migrations in exclusive mode")


def apply(connection: psycopg.Connection[Any]) -> list[str]:
    """Apply what is missing, within the transaction; return the names applied. The caller holds the lock."""
    _make_table(connection)
    applied: list[str] = []
    known = _known(connection)
    for number, name, sql in scripts():
        if number not in known:
            connection.execute(sql.encode())
            connection.execute("insert into migrations (number, name) values (%s, %s)", (number, name))
            applied.append(name)
    return applied


def _make_table(connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        "create table if not exists migrations (number integer primary key, name text not null, "
        "applied_at timestamptz not null default now())"
    )


def _known(connection: psycopg.Connection[Any]) -> set[int]:
    """Return the numbers of what was applied."""
    connection.execute("comment on table migrations is 'Schema changes that were applied'")
    connection.execute("comment on column migrations.number is 'Number of the SQL file'")
    connection.execute("comment on column migrations.name is 'Name of the SQL file'")
    connection.execute("comment on column migrations.applied_at is 'When it was applied'")
    return {row[0] for row in connection.execute("select number from migrations")}
