"""Fresh read models beside the old: the old answer meanwhile, the swap is one moment, nothing that stood is lost."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psycopg
import pytest

from projections.analysts import make_login
from projections.migrate import migrate
from projections.projector import Source
from projections.rebuild import CannotRebuild, Feed, Rebuild, Recorded, prepare, swap
from schemas.envelope import to_wire
from tests.projections.facts import rows
from tests.projections.journal import Journal, sends

SCHEMAS = "select nspname from pg_namespace where nspname ~ '^re' order by 1"


def _sources(journal: Journal) -> list[Source]:
    return [Source(journal.topic, journal.topic_id, 1, True)]


def _rebuild(journal: Journal, feed: Feed | None = None) -> Rebuild:
    return Rebuild(journal.connection.options(), journal.database, _sources(journal), feed=feed)


class _Once(Rebuild):
    """A rebuild that is stopped after its first few entries."""

    batch = 4

    async def _between(self, _connection: object, _consumer: object) -> None:
        if self.applied:
            self.stop()


@asynccontextmanager
async def _applied(journal: Journal, count: int) -> AsyncIterator[None]:
    """A projector that has applied so many entries and runs on."""
    migrate(journal.database)
    await journal.append(*sends(1, count + 1))
    async with journal.running():
        await journal.applied(count)
        yield


def _execute(database: str, *statements: str) -> None:
    with psycopg.connect(database) as connection:
        for statement in statements:
            connection.execute(statement.encode())


async def test_the_old_tables_answer_until_the_swap_and_the_projector_goes_on_after_it(journal: Journal) -> None:
    async with _applied(journal, 20):
        _execute(journal.database, "update sends set state = 'failed'")  # what a rebuild mends
        assert prepare(journal.database)
        assert rows(journal.database, "select state, count(*) from sends group by 1") == [("failed", 20)]
        work = _rebuild(journal)
        await work.run()
        assert work.swapped
        assert work.applied == 20
        assert rows(journal.database, "select state, count(*) from sends group by 1") == [("admitted", 20)]
        assert rows(journal.database, "select count(*) from analyst.sends") == [(20,)]
        assert rows(journal.database, SCHEMAS) == []
        await journal.append(*sends(21, 31))
        await journal.applied(30)
        assert journal.count() == 30
    assert migrate(journal.database) == []


async def test_a_rebuild_that_was_stopped_goes_on_where_it_was(journal: Journal) -> None:
    async with _applied(journal, 10):
        prepare(journal.database)
        first = _Once(journal.connection.options(), journal.database, _sources(journal))
        await first.run()
        assert 0 < first.applied < 10
        assert not first.swapped
        assert not prepare(journal.database)
        second = _rebuild(journal)
        await second.run()
        assert second.swapped
        assert first.applied + second.applied == 10
        assert journal.count() == 10
        prepare(journal.database, anew=True)
        assert rows(journal.database, "select count(*) from rebuild.sends") == [(0,)]
        assert prepare(journal.database, anew=True), "what was begun is begun again"


async def test_fresh_tables_that_are_behind_the_old_are_not_swapped_in(journal: Journal) -> None:
    async with _applied(journal, 5):
        prepare(journal.database)
        _execute(
            journal.database,
            "insert into rebuild.applied select * from applied",
            "update rebuild.applied set next_offset = next_offset - 1",
        )
        assert not await asyncio.to_thread(swap, journal.database)
        assert journal.count() == 5


async def test_what_roles_were_granted_and_what_else_stands_in_the_schema_stays(journal: Journal, roles: str) -> None:
    async with _applied(journal, 3):
        _execute(
            journal.database,
            f"grant select on analyst.sends to {roles}",
            f"grant usage on schema analyst to {roles}",
            "create table notes (text text)",
            "insert into notes values ('of a person')",
        )
        prepare(journal.database)
        work = _rebuild(journal)
        await work.run()
        assert work.swapped
        for role in ("analyst", roles):
            with psycopg.connect(journal.database) as connection:
                connection.execute(f"set role {role}".encode())
                assert connection.execute("select count(*) from analyst.sends").fetchone() == (3,)
        assert rows(journal.database, "select text from notes") == [("of a person",)]


async def test_a_clients_login_finds_its_own_rows_again_in_the_moment_of_the_swap(journal: Journal) -> None:
    async with _applied(journal, 3):
        with psycopg.connect(journal.database) as connection:
            role = make_login(connection, "acme", "the password of a test")
        prepare(journal.database)
        work = _rebuild(journal)
        await work.run()
        assert work.swapped
        with psycopg.connect(journal.database) as connection:
            connection.execute(f"set role {role}".encode())
            assert connection.execute(f"select count(*) from {role}.sends".encode()).fetchone() == (3,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("select count(*) from analyst.sends")


@pytest.fixture
def roles(journal: Journal) -> Iterator[str]:
    """A role of this test's own."""
    name = f"role_{journal.topic.replace('-', '_')}"
    migrate(journal.database)
    _execute(journal.database, f"create role {name}")
    yield name
    _execute(journal.database, f"drop owned by {name}", f"drop role {name}")


async def test_a_stranger_s_view_on_the_tables_is_named_before_anything_is_begun(journal: Journal) -> None:
    migrate(journal.database)
    _execute(journal.database, "create schema own", "create view own.mine as select * from public.sends")
    with pytest.raises(CannotRebuild, match=r"own\.mine stand on mailfleet's tables"):
        prepare(journal.database)
    assert rows(journal.database, SCHEMAS) == []


@dataclass(frozen=True)
class _Kept:
    offset: int
    value: bytes
    timestamp: int = 0


async def test_what_the_archive_has_is_not_read_from_kafka_again(journal: Journal) -> None:
    entries = sends(1, 11)
    asked: list[int] = []

    def feed(_topic: str, _partition: int, start: int) -> Iterator[Recorded]:
        asked.append(start)
        yield from [_Kept(n, to_wire(entry)) for n, entry in enumerate(entries[:7])][start:]

    await journal.append(*entries)
    migrate(journal.database)
    prepare(journal.database)
    work = _rebuild(journal, feed)
    async with asyncio.timeout(30):
        await work.run()
    assert (work.applied, asked) == (10, [0])
    assert journal.count() == 10


async def test_a_stranger_s_view_beside_the_tables_stops_the_swap_and_nothing_is_lost(journal: Journal) -> None:
    async with _applied(journal, 3):
        prepare(journal.database)
        _execute(journal.database, "create view mine as select * from sends")
        with pytest.raises(CannotRebuild, match="mine stand on mailfleet's tables"):
            await _rebuild(journal).run()
        assert rows(journal.database, "select count(*) from mine") == [(3,)]
        _execute(journal.database, "drop view mine")
        work = _rebuild(journal)
        await work.run()
        assert work.swapped
