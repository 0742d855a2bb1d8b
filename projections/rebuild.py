"""Fresh read models beside the old ones, swapped when they have caught up; the old answer until then.

The fresh ones are filled in the schemas `rebuild` and `rebuild_analyst` by a projector of its own, from the journals'
true start. Stopped in the middle, it goes on there. This floor knows no adapter: nothing here can send.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, LiteralString, Protocol

import psycopg
from aiokafka import TopicPartition
from psycopg import sql

from projections.analysts import clients_with_login, show_own_rows
from projections.migrate import apply, lock, scripts
from projections.projector import Projector, Source, analyze

FRESH = {"public": "rebuild", "analyst": "rebuild_analyst"}
"""Schema that people read → where its fresh objects wait."""
OLD = {"public": "replaced", "analyst": "replaced_analyst"}
"""Where the old objects go in the moment of the swap, to be dropped at its end."""
LOOK_S = 0.5


class CannotRebuild(Exception):
    """A rebuild would lose or find something unexpected. The text says what to do."""


class Recorded(Protocol):
    """A record as a projector applies it; `timestamp` in milliseconds."""

    @property
    def offset(self) -> int:
        """Its offset."""

    @property
    def value(self) -> bytes | None:
        """Its value."""

    @property
    def timestamp(self) -> int:
        """Its time."""


Feed = Callable[[str, int, int], Iterator[Recorded]]
"""The records of (topic, partition) from an offset on, from another place than Kafka."""


def prepare(database_url: str, *, anew: bool = False) -> bool:
    """Make the fresh, empty read models; return False when a rebuild that was stopped goes on.

    The migrations name `public` and `analyst`: within one transaction those are out of the way. Raises CannotRebuild.
    """
    with psycopg.connect(database_url) as connection, connection.transaction():
        lock(connection)
        if anew:
            _drop(connection, FRESH.values())
        if _exists(connection, FRESH["public"]):
            known = {row[0] for row in connection.execute("select number from rebuild.migrations")}
            if known != {number for number, _, _ in scripts()}:
                raise CannotRebuild("the rebuild that was stopped has another schema: begin anew with --anew.")
            return False
        _check_dependents(connection)
        held = [schema for schema in FRESH if _exists(connection, schema)]
        for schema in held:
            _rename(connection, schema, OLD[schema])
        connection.execute("create schema public")
        connection.execute("grant usage on schema public to public")
        apply(connection)
        for schema, fresh in FRESH.items():
            _rename(connection, schema, fresh)
        for schema in held:
            _rename(connection, OLD[schema], schema)
        return True


class Rebuild(Projector):
    """Fills the fresh read models; ends by itself after the swap. `swapped` says whether that happened."""

    batch = 4000
    options = f"-c search_path={FRESH['public']} -c synchronous_commit=off"

    def __init__(
        self,
        kafka: Mapping[str, Any],
        database_url: str,
        sources: Iterable[Source],
        *,
        feed: Feed | None = None,
        step: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> None:
        super().__init__(kafka, database_url, sources)
        self.swapped = False
        self._feed = feed
        self._step = step
        self._ends: dict[TopicPartition, int] = {}
        self._looked_at = float("-inf")
        self._analyzed = False

    async def _take_up(self, connection: Any, consumer: Any) -> None:
        await super()._take_up(connection, consumer)
        self._ends = await consumer.end_offsets(list(self._positions))
        if self._feed is not None:
            await self._from_elsewhere(connection)
            for place, position in self._positions.items():
                consumer.seek(place, position.next_offset)

    async def _from_elsewhere(self, connection: Any) -> None:
        """Apply what the archive has, and leave the rest to Kafka."""
        assert self._feed is not None
        for place, position in list(self._positions.items()):
            records = self._feed(place.topic, place.partition, position.next_offset)
            while not self._stopping.is_set() and (messages := list(islice(records, self.batch))):
                await self._apply(connection, {place: messages})
                self._tell()

    async def _between(self, connection: Any, consumer: Any) -> None:
        """Twice a second: tell how far it is, and swap when all that Kafka holds is applied."""
        if time.monotonic() - self._looked_at < LOOK_S:
            return
        self._looked_at = time.monotonic()
        self._ends = await consumer.end_offsets(list(self._positions))
        self._tell()
        if any(self._positions[place].next_offset < end for place, end in self._ends.items()):
            return
        if not self._analyzed:  # who asks the fresh tables first waits for no plan
            self._analyzed = True
            await analyze(connection)
            return  # to what came meanwhile
        if await asyncio.to_thread(swap, self._database_url):
            self.swapped = True
            self.stop()

    def _tell(self) -> None:
        self._step(sum(p.next_offset for p in self._positions.values()), sum(self._ends.values()))


def swap(database_url: str) -> bool:
    """Put the fresh read models into the place of the old in one transaction; False when those are further.

    Roles keep what they were granted; each client's own views, which stood on the old, are made anew. Raises
    CannotRebuild.
    """
    with psycopg.connect(database_url) as connection:
        connection.execute("set local lock_timeout = '10s'")
        connection.execute("set local search_path = pg_catalog")
        if _one(connection, "select to_regclass('public.applied') is not null"):
            connection.execute("lock table public.applied in share row exclusive mode")
            if _one(connection, _BEHIND):
                return False
        for schema in OLD.values():
            connection.execute(sql.SQL("create schema {}").format(sql.Identifier(schema)))
        if not _one(connection, "select to_regnamespace('analyst') is not null"):
            connection.execute("create schema analyst")
        for query in (_GRANTS, _MOVES):
            for (statement,) in connection.execute(query.encode()).fetchall():
                connection.execute(statement.encode())
        _refuse([row[0] for row in connection.execute(_dependents(OLD.values()))])
        for schema in (*OLD.values(), *FRESH.values()):
            connection.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(schema)))
        for client in clients_with_login(connection):
            show_own_rows(connection, client)
    return True


def _one(connection: psycopg.Connection[Any], query: LiteralString) -> Any:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def _exists(connection: psycopg.Connection[Any], schema: str) -> bool:
    found = connection.execute("select to_regnamespace(%s) is not null", (schema,)).fetchone()
    return found is not None and bool(found[0])


def _rename(connection: psycopg.Connection[Any], schema: str, to: str) -> None:
    connection.execute(sql.SQL("alter schema {} rename to {}").format(sql.Identifier(schema), sql.Identifier(to)))


def _drop(connection: psycopg.Connection[Any], schemas: Iterable[str]) -> None:
    for schema in schemas:
        connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(schema)))


def _check_dependents(connection: psycopg.Connection[Any]) -> None:
    """Raise CannotRebuild when somebody's own views stand on the read models: the swap would drop them."""
    _refuse([row[0] for row in connection.execute(_dependents(FRESH))])


def _refuse(strangers: list[str]) -> None:
    if strangers:
        raise CannotRebuild(
            f"{', '.join(strangers)} stand on mailfleet's tables and would be lost: drop them, and make them again "
            "after."
        )


def _dependents(schemas: Iterable[str]) -> bytes:
    """Return the query for the views elsewhere that stand on tables in these schemas."""
    return _DEPENDENTS.replace("SCHEMAS", ", ".join(f"'{schema}'" for schema in schemas)).encode()


_BEHIND = """
select exists (
    select from public.applied o join rebuild.applied n using (topic, partition, topic_id)
    where n.next_offset < o.next_offset
)
"""
_DEPENDENTS = """
select distinct v.oid::regclass::text
from pg_depend d
join pg_rewrite r on r.oid = d.objid and d.classid = 'pg_rewrite'::regclass
join pg_class v on v.oid = r.ev_class
join pg_class t on t.oid = d.refobjid and d.refclassid = 'pg_class'::regclass
where t.relnamespace in (select oid from pg_namespace where nspname in (SCHEMAS))
  and v.relnamespace not in (
      select oid from pg_namespace where nspname in (SCHEMAS) or starts_with(nspname, 'analyst_')
  )
order by 1
"""
_OBJECTS = """
    select c.oid, n.nspname as schema, c.relname as name, quote_ident(c.relname) as says, 'relation' as sort,
        case c.relkind when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence' else 'table' end
            as kind
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'S')
      and not exists (select from pg_depend d where d.objid = c.oid and d.deptype in ('a', 'i', 'e'))
    union all
    select p.oid, n.nspname, p.proname || pg_get_function_identity_arguments(p.oid),
        quote_ident(p.proname) || '(' || pg_get_function_identity_arguments(p.oid) || ')', 'routine', 'routine'
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
    union all
    select t.oid, n.nspname, t.typname, quote_ident(t.typname), 'type', 'type'
    from pg_type t join pg_namespace n on n.oid = t.typnamespace
    where t.typtype in ('e', 'd') and not exists (select from pg_depend d where d.objid = t.oid and d.deptype = 'e')
"""
_PAIRS = """
    values ('public', 'rebuild', 'replaced'), ('analyst', 'rebuild_analyst', 'replaced_analyst')
"""
_MOVES = f"""
with objects as ({_OBJECTS}), pairs (seen, fresh, old) as ({_PAIRS})
select statement from (
    select 1 as step, format('alter %s %I.%s set schema %I', o.kind, o.schema, o.says, pairs.old) as statement
    from objects o join pairs on o.schema = pairs.seen
    where exists (
        select from objects f where f.schema = pairs.fresh and f.sort = o.sort and f.name = o.name
    )
    union all
    select 2, format('alter %s %I.%s set schema %I', f.kind, f.schema, f.says, pairs.seen)
    from objects f join pairs on f.schema = pairs.fresh
) moves order by step, statement
"""
"""First the old objects that have a fresh one leave, then the fresh ones come."""
_GRANTS = f"""
with pairs (seen, fresh, old) as ({_PAIRS})
select format('grant %s on %I.%I to %s', a.privilege_type, pairs.fresh, f.relname,
    case a.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end)
from pairs
join pg_class o on o.relnamespace = to_regnamespace(pairs.seen)
join pg_class f on f.relnamespace = to_regnamespace(pairs.fresh) and f.relname = o.relname
cross join lateral aclexplode(o.relacl) a
where a.grantee <> o.relowner and o.relkind in ('r', 'p', 'v', 'm')
"""
