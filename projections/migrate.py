"""Numbered migrations: SQL files, each applied once, in order, in one transaction."""

from importlib.resources import files
from typing import Any

import psycopg

from projections.analysts import clients_with_login, hide, show_own_rows

LOCK = 7_205_001


def scripts() -> list[tuple[int, str, str]]:
    """Return (number, name, sql) of every migration, in order."""
    found = [f for f in files("projections").joinpath("migrations").iterdir() if f.name.endswith(".sql")]
    return sorted((int(f.name.split("_")[0]), f.name, f.read_text("utf-8")) for f in found)


def migrate(database_url: str) -> list[str]:
    """Apply what is missing; return the names applied. Safe when several start at once."""
    with psycopg.connect(database_url) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", (LOCK,))
        behind = {number for number, _, _ in scripts()} - _known(connection)
        clients = clients_with_login(connection) if behind else []
        for client in clients:
            hide(connection, client)  # its views would hold those that a migration changes
        applied = apply(connection)
        for client in clients:
            show_own_rows(connection, client)
        return applied


def apply(connection: psycopg.Connection[Any]) -> list[str]:
    """Apply what is missing, within the transaction; return the names applied. The caller holds LOCK."""
    applied: list[str] = []
    known = _known(connection)
    for number, name, sql in scripts():
        if number not in known:
            connection.execute(sql.encode())
            connection.execute("insert into migrations (number, name) values (%s, %s)", (number, name))
            applied.append(name)
    return applied


def _known(connection: psycopg.Connection[Any]) -> set[int]:
    """Return the numbers of what was applied."""
    connection.execute(
        "create table if not exists migrations (number integer primary key, name text not null, "
        "applied_at timestamptz not null default now())"
    )
    connection.execute("comment on table migrations is 'Schema changes that were applied'")
    connection.execute("comment on column migrations.number is 'Number of the SQL file'")
    connection.execute("comment on column migrations.name is 'Name of the SQL file'")
    connection.execute("comment on column migrations.applied_at is 'When it was applied'")
    return {row[0] for row in connection.execute("select number from migrations")}
