"""Analysts' logins: the agency's sees all views, a client's its own rows; none changes anything or reads addresses."""

import psycopg
import pytest
from psycopg import sql

import projections.migrate as migrations
from projections.analysts import ClientNameWrong, make_login
from projections.migrate import migrate, scripts
from tests.projections.facts import admitted, apply, example, rows

PASSWORD = "a password of a test"


def login(database: str, client: str = "") -> str:
    """Make a login; return its URL."""
    with psycopg.connect(database) as connection:
        role = make_login(connection, client, PASSWORD)
    return database.replace("postgres@", f"{role}:{PASSWORD}@".replace(" ", "%20"))


@pytest.fixture
def filled(models: str) -> str:
    """Two clients' sends, a dead letter, a suppression for all."""
    apply(models, admitted("s1"), admitted("s2", client="birch"), admitted("s3", client="birch"))
    apply(models, example("letter.died.v1"), journal="dead-letters")
    apply(models, example("recipient.suppressed.v1"), first_seq=9)
    return models


def views_of(database: str, schema: str) -> list[str]:
    """The views in a schema."""
    found = rows(database, "select table_name from information_schema.views where table_schema = %s order by 1", schema)
    return [name for (name,) in found]


def test_a_client_sees_its_own_rows_only_under_the_names_that_all_use(filled: str) -> None:
    everything, acme = login(filled), login(filled, "acme")
    assert rows(everything, "select count(*) from sends") == [(3,)]
    assert rows(acme, "select client, send_id from sends") == [("acme", "s1")]
    for view in views_of(filled, "analyst_acme"):
        assert rows(acme, f"select count(*) from {view} where client <> 'acme'") == [(0,)]


def test_a_client_cannot_reach_the_rows_of_others(filled: str) -> None:
    acme = login(filled, "acme")
    login(filled, "birch")
    for name in ("public.sends", "analyst.sends", "analyst_birch.sends", "analyst.dead_letters"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            rows(acme, f"select * from {name}")
    for role in ("analyst", "analyst_birch", "postgres"):
        with psycopg.connect(acme) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(sql.SQL("set role {}").format(sql.Identifier(role)))


LEAK = """
create function leak(send_id text) returns boolean cost 0.0000001 language plpgsql as $$
begin
    if send_id = 's2' then raise exception 'seen: %', send_id; end if;
    return true;
end $$
"""


def test_a_function_that_tells_what_it_sees_sees_no_row_of_others(filled: str) -> None:
    """Without a barrier the planner asks the cheapest condition first, of every client's rows."""
    acme = login(filled, "acme")
    with psycopg.connect(filled) as connection:
        connection.execute(LEAK)
    with psycopg.connect(acme, options="-c enable_indexscan=off -c enable_bitmapscan=off") as connection:
        found = connection.execute("select send_id from sends where public.leak(send_id)").fetchall()
    assert found == [("s1",)]


CHANGES = (
    "insert into {view} default values",
    "delete from {view}",
    "update {view} set client = 'x'",
    "create table {schema}.mine (x integer)",
    "create temporary table mine (x integer)",
    "create schema mine",
    "create table public.mine (x integer)",
    "drop view {view}",
    "truncate public.sends",
    "create role mine",
    "select lo_create(0)",
    "select lo_from_bytea(0, 'mine')",
    "select pg_logical_emit_message(false, 'mine', 'mine')",
)


@pytest.mark.parametrize("client", ["", "acme"])
def test_an_analyst_can_change_nothing_even_when_it_asks_to_write(filled: str, client: str) -> None:
    url = login(filled, client)
    schema = f"analyst_{client}" if client else "analyst"
    for change in CHANGES:
        with psycopg.connect(url, options="-c default_transaction_read_only=off") as connection:
            assert connection.execute("show transaction_read_only").fetchone() == ("off",)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(change.format(view=f"{schema}.sends", schema=schema).encode())


def test_a_transaction_that_an_analyst_forgot_ends_by_itself(filled: str) -> None:
    """Its locks would hold up a migration, and behind that everybody who reads."""
    for client in ("", "acme"):
        assert rows(login(filled, client), "show idle_in_transaction_session_timeout") == [("1min",)]


def test_no_view_has_a_column_that_could_hold_a_recipients_address(filled: str) -> None:
    """Recipients stand as keyed hashes; mailboxes are the fleet's own."""
    login(filled, "acme")
    for schema in ("analyst", "analyst_acme"):
        columns = "select table_name, column_name from information_schema.columns where table_schema = %s"
        names = {f"{view}.{column}" for view, column in rows(filled, columns, schema)}
        telling = [
            n for n in names if n.rpartition(".")[2] in {"to", "address", "email", "to_name", "message_id", "body"}
        ]
        assert telling == []
        for view in views_of(filled, schema):
            for (row,) in rows(filled, f"select v::text from {schema}.{view} v"):
                assert "jane" not in row.lower(), "the recipient of the examples"


def test_the_server_gets_a_verifier_and_no_password(filled: str) -> None:
    login(filled, "acme")
    ((kept,),) = rows(filled, "select rolpassword from pg_authid where rolname = 'analyst_acme'")
    assert kept.startswith("SCRAM-SHA-256$")
    assert PASSWORD not in kept


def test_a_clients_views_say_what_the_columns_mean(filled: str) -> None:
    login(filled, "acme")
    bare = (
        "select c.relname, a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid "
        "where c.relnamespace = 'analyst_acme'::regnamespace and a.attnum > 0 "
        "and col_description(c.oid, a.attnum) is null"
    )
    assert rows(filled, bare) == []


@pytest.mark.parametrize("client", ["", "acme"])
def test_no_lock_that_an_analyst_can_hold_keeps_a_migration_waiting(
    filled: str, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = login(filled, client)
    monkeypatch.setattr(migrations, "scripts", lambda: [*scripts(), (9999, "9999_new.sql", "select 1")])
    with psycopg.connect(url, options="-c default_transaction_read_only=off") as holding:
        holding.execute("select pg_advisory_lock(n) from generate_series(7205000, 7205002) n")
        for mode in ("access share", "row exclusive", "exclusive"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), holding.transaction():
                holding.execute(f"lock table public.migrations in {mode} mode".encode())
        hurried = f"{filled}{'&' if '?' in filled else '?'}options=-c%20lock_timeout%3D3s"
        assert migrate(hurried) == ["9999_new.sql"]


def test_a_migration_finds_the_clients_views_out_of_its_way_and_they_show_what_is_new(
    filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = login(filled, "acme")
    change = "drop view analyst.waiting; create view analyst.new_one as select client, 1 as one from public.sends"
    monkeypatch.setattr(migrations, "scripts", lambda: [*scripts(), (9999, "9999_new.sql", change)])
    assert migrate(filled) == ["9999_new.sql"]
    assert rows(acme, "select * from new_one") == [("acme", 1)]
    assert "waiting" not in views_of(filled, "analyst_acme")


def test_a_name_that_postgres_would_cut_off_is_refused(models: str) -> None:
    with pytest.raises(ClientNameWrong, match="63 bytes"):
        login(models, "c" * 56)
