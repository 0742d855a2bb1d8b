"""The schema is the sum of its numbered migrations; every table and column says what it is."""

import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

import projections
from projections import migrate as migrations
from projections.migrate import migrate, scripts
from tests.projections.facts import rows

TABLES = "select oid, relname from pg_class where relnamespace = %s::regnamespace and relkind in ('r', 'v')"
CATALOGUE = """
select table_schema, table_name, column_name, data_type, is_nullable, column_default
from information_schema.columns where table_schema in ('public', 'analyst') order by 1, 2, ordinal_position
"""
INDEXES = "select indexname, indexdef from pg_indexes where schemaname = 'public' order by 1"


def shape(database: str) -> list[Any]:
    """Return every column and index."""
    return [*rows(database, CATALOGUE), *rows(database, INDEXES)]


def test_numbers_run_from_1_without_a_gap() -> None:
    folder = Path(projections.__file__).parent / "migrations"
    assert [number for number, _, _ in scripts()] == list(range(1, len(list(folder.iterdir())) + 1))


def test_all_at_once_gives_the_same_schema_as_one_after_the_other(
    database: str, postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = scripts()
    assert migrate(database) == [name for _, name, _ in every]
    postgres.create_database("stepwise")
    try:
        stepwise = postgres.url_of("stepwise")
        for count in range(1, len(every) + 1):
            monkeypatch.setattr(migrations, "scripts", lambda count=count: every[:count])
            assert migrate(stepwise) == [every[count - 1][1]]
        assert shape(stepwise) == shape(database)
    finally:
        postgres.drop_database("stepwise")


def test_what_is_applied_is_not_applied_again(models: str) -> None:
    before = shape(models)
    assert migrate(models) == []
    assert shape(models) == before


def test_several_may_start_at_once(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On an empty database, and when there is something new."""
    newer = [*scripts(), (9999, "9999_new.sql", "create table fresh (x integer); select pg_sleep(0.2)")]
    for wanted, applied in ((scripts(), len(scripts())), (newer, 1)):
        monkeypatch.setattr(migrations, "scripts", lambda wanted=wanted: wanted)
        done: list[list[str]] = []
        threads = [threading.Thread(target=lambda done=done: done.append(migrate(database))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(len, done)) == [0, 0, 0, applied]


def test_a_migration_that_fails_leaves_nothing(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [*scripts()[:1], (2, "0002_broken.sql", "create table half (x integer); select 1 / 0")]
    monkeypatch.setattr(migrations, "scripts", lambda: broken)
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(database)
    assert shape(database) == []


@pytest.mark.parametrize("schema", ["public", "analyst"])
def test_every_table_view_and_column_has_a_comment(models: str, schema: str) -> None:
    bare = []
    for oid, table in rows(models, TABLES, schema):
        bare += [table for (text,) in rows(models, "select obj_description(%s::oid, 'pg_class')", oid) if not text]
        columns = "select attname, col_description(attrelid, attnum) from pg_attribute "
        found = rows(models, columns + "where attrelid = %s and attnum > 0 and not attisdropped", oid)
        bare += [f"{table}.{column}" for column, text in found if not text]
    assert bare == []


def test_times_carry_their_zone(models: str) -> None:
    naive = (
        "select table_name, column_name from information_schema.columns where data_type = 'timestamp without time zone'"
    )
    assert rows(models, naive + " and table_schema = 'public'") == []


def test_an_analyst_reads_views_and_no_table(models: str) -> None:
    with psycopg.connect(models) as connection:
        connection.execute("set role analyst")
        for (view,) in rows(models, "select relname from pg_class where relnamespace = 'analyst'::regnamespace"):
            connection.execute(f"select * from analyst.{view}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select * from public.sends")


def test_every_table_for_people_has_its_view(models: str) -> None:
    tables = {name for _, name in rows(models, TABLES, "public")} - {"migrations", "applied"}
    assert {name for _, name in rows(models, TABLES, "analyst")} >= tables
