"""Numbered migrations: SQL files, each applied once, in order, in one transaction."""

from importlib.resources import files
from typing import Any

import psycopg

LOCK = 7_205_001


def scripts() -> list[tuple[int, str, str]]:
    """Return (number, name, sql) of every migration, in order."""
    found = [f for f in files("projections").joinpath("migrations").iterdir() if f.name.endswith(".sql")]
    return sorted((int(f.name.split("_")[0]), f.name, f.read_text("utf-8")) for f in found)


def migrate(database_url: str) -> list[str]:
    """Apply what is missing; return the names applied. Safe when several start at once."""
    with psycopg.connect(database_url) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", (LOCK,))
        return apply(connection)


def apply(connection: psycopg.Connection[Any]) -> list[str]:
    """Apply what is missing, within the transaction; return the names applied. The caller holds LOCK."""
    applied: list[str] = []
    connection.execute(
        "create table if not exists migrations (number integer primary key, name text not null, "
        "applied_at timestamptz not null default now())"
    )
    connection.execute("comment on table migrations is 'Schema changes that were applied'")
    connection.execute("comment on column migrations.number is 'Number of the SQL file'")
    connection.execute("comment on column migrations.name is 'Name of the SQL file'")
    connection.execute("comment on column migrations.applied_at is 'When it was applied'")
    known = {row[0] for row in connection.execute("select number from migrations")}
    for number, name, sql in scripts():
        if number not in known:
            connection.execute(sql.encode())
            connection.execute("insert into migrations (number, name) values (%s, %s)", (number, name))
            applied.append(name)
    return applied
