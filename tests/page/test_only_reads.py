"""The page can change nothing, and says in a sentence when Postgres is away, slow or bare."""

import socket

import httpx
import psycopg
import pytest

from ops.page.server import AWAY, BARE, SLOW, open_reading, shown
from ops.page.views import VIEWS, Page
from tests.page.conftest import served

CHANGES = [
    "insert into decisions select * from decisions limit 1",
    "update mailboxes set used = 0",
    "delete from sends",
    "create table mine (x int)",
    "create temporary table mine (x int)",
    "drop table sends",
    "truncate sends",
    "grant all on sends to public",
]


@pytest.mark.parametrize("sql", CHANGES)
def test_its_transactions_only_read(usual: str, sql: str) -> None:
    with open_reading(usual) as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        connection.execute(sql.encode())


@pytest.mark.parametrize("sql", [sql for sql in CHANGES if not sql.startswith(("create temporary", "grant"))])
def test_its_role_may_not_change_anything_even_where_a_transaction_could(usual: str, sql: str) -> None:
    with open_reading(usual) as connection:
        connection.read_only = False
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(sql.encode())


def test_a_login_that_may_not_take_on_the_reading_role_still_only_reads(usual: str) -> None:
    with psycopg.connect(usual, autocommit=True) as owner:
        owner.execute("drop role if exists page_plain")
        owner.execute("create role page_plain login")
        owner.execute("grant select, insert, delete on all tables in schema public to page_plain")
    plain = usual.replace("postgres@", "page_plain@")
    try:
        assert shown(plain, VIEWS["/"], {}).status == 200
        with open_reading(plain) as connection, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("delete from sends")
    finally:
        with psycopg.connect(usual, autocommit=True) as owner:
            owner.execute("drop owned by page_plain")
            owner.execute("drop role page_plain")


def test_when_postgres_is_away_every_page_says_so_and_runbooks_are_still_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    with served(f"postgresql://postgres@127.0.0.1:{port}/mailfleet") as url:
        for path in VIEWS:
            got = httpx.get(url + path)
            assert (got.status_code, AWAY in got.text) == (503, True)
        assert httpx.get(url + "/runbook?name=projector_waits").status_code == 200


def test_an_empty_database_is_told_from_one_that_is_away(database: str) -> None:
    page = shown(database, VIEWS["/"], {})
    assert (page.status, BARE in page.body) == (503, True)


def test_a_query_that_takes_too_long_is_stopped_and_said(usual: str) -> None:
    def slow(connection: psycopg.Connection[tuple[object, ...]], _asked: object) -> Page:
        connection.execute("set local statement_timeout = 50")
        connection.execute("select pg_sleep(5)")
        raise AssertionError("it was not stopped")

    page = shown(usual, slow, {})
    assert (page.status, SLOW in page.body) == (503, True)
    with open_reading(usual) as connection:
        assert connection.execute("show statement_timeout").fetchone() == ("5s",)
