"""Fills the read models with a made-up fleet, straight in SQL, and times every question of the dashboards on it."""

import time
from collections.abc import Iterator
from importlib.resources import files

import msgspec
import psycopg
from psycopg import sql

from ops.metabase.files import fill_in, read_dashboards, read_filters

CHOSEN = {
    "client": "'acme'",
    "campaign": "'spring'",
    "domain": "'d0.example'",
    "mailbox": "'box0@d0.example'",
    "route": "'own'",
}
CHOSEN_DAYS = {"from": 45, "to": 1}
"""Filters, and how many days ago."""


class Timed(msgspec.Struct, frozen=True):
    """One question's time; `filtered` is whether all its filters were set."""

    dashboard: str
    card: str
    filtered: bool
    rows: int
    seconds: float


def fill(database_url: str, sends: int, mailboxes: int = 1200, days: int = 60) -> None:
    """Make so many sends of the last `days` days, and all that follows from them, in migrated and empty tables."""
    script = files("ops").joinpath("bench_dashboards.sql").read_text("utf-8")
    with psycopg.connect(database_url) as connection:
        for name, value in (("sends", sends), ("mailboxes", mailboxes), ("days", days)):
            connection.execute("select set_config(%s, %s, true)", (f"bench.{name}", str(value)))
        connection.execute(script.encode())
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("vacuum analyze")


def questions() -> Iterator[tuple[str, str, str]]:
    """Yield (dashboard, card, SQL with filters), and the questions behind the filters."""
    for dashboard in read_dashboards():
        for card in dashboard.cards:
            yield dashboard.name, card.name, card.sql
    for tag, one in read_filters().items():
        if one.values:
            yield "filter", tag, one.values


def ask(connection: "psycopg.Connection[tuple[object, ...]]", role: str) -> Iterator[Timed]:
    """Ask every question as `role`, without filters and with all of them."""
    chosen = CHOSEN | {tag: _day(connection, ago) for tag, ago in CHOSEN_DAYS.items()}
    for setting in ("role", "search_path"):
        connection.execute(sql.SQL("set {} = {}").format(sql.Identifier(setting), sql.Literal(role)))
    for dashboard, card, question in questions():
        for values in ({}, chosen) if "{{" in question else ({},):
            began = time.perf_counter()
            rows = len(connection.execute(fill_in(question, values).encode()).fetchall())
            yield Timed(dashboard, card, bool(values), rows, time.perf_counter() - began)


def _day(connection: "psycopg.Connection[tuple[object, ...]]", days_ago: int) -> str:
    """A date as Metabase writes it, by the server's calendar."""
    ((day,),) = connection.execute("select current_date - %s::integer", (days_ago,))
    return f"date '{day}'"
