"""The dashboards' files: every question is answered fast, by the logins that people have, with and without filters."""

from collections.abc import Iterator

import psycopg
import pytest

from ops.bench_dashboards import Timed, ask, fill, questions
from ops.embedded import EmbeddedPostgres
from ops.metabase.files import Card, Dashboard, DashboardFileWrong, check, fill_in, read_dashboards, read_filters
from projections.analysts import make_login
from projections.migrate import migrate

SENDS = 200_000
SLOWEST_S = 1.0


@pytest.fixture(scope="module")
def large(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database with many sends and a client's login."""
    postgres.create_database("dashboards")
    url = postgres.url_of("dashboards")
    migrate(url)
    fill(url, SENDS)
    with psycopg.connect(url) as connection:
        make_login(connection, "acme", "a password of a test")
    yield url
    postgres.drop_database("dashboards")


@pytest.mark.parametrize("role", ["analyst", "analyst_acme"])
def test_every_question_is_answered_within_a_second_over_many_sends(large: str, role: str) -> None:
    with psycopg.connect(large) as connection:
        found = sorted(ask(connection, role), key=lambda one: -one.seconds)
    slowest = [f"{one.seconds:.3f} s {one.dashboard}: {one.card}, filtered: {one.filtered}" for one in found[:5]]
    print(f"\n{len(found)} questions over {SENDS:,} sends as {role}; the slowest:", *slowest, sep="\n  ")
    assert [one for one in found if one.seconds > SLOWEST_S] == []
    assert [name_of(one) for one in found if not (one.rows or one.filtered)] == []


def name_of(one: Timed) -> str:
    return f"{one.dashboard}: {one.card}, filtered: {one.filtered}"


def test_a_question_counts_what_the_sends_say(large: str) -> None:
    (sql,) = [sql for dashboard, card, sql in questions() if (dashboard, card) == ("Overview", "Accepted")]
    with psycopg.connect(large) as connection:
        connection.execute("set search_path = analyst")
        told = connection.execute(fill_in(sql, {"from": "current_date - 9", "client": "'acme'"}).encode()).fetchone()
        count = "select count(*) from attempts where client = 'acme' and outcome = 'accepted'"
        assert told == connection.execute(f"{count} and quota_day::date >= current_date - 9".encode()).fetchone()


def test_a_bracket_falls_away_without_its_filter_and_its_comment_hides_the_default_with_it() -> None:
    sql = "select 1 where day >= [[{{from}} --]] current_date - 30\n[[and client = {{client}}]]"
    assert fill_in(sql, {}) == "select 1 where day >=  current_date - 30\n"
    assert fill_in(sql, {"from": "date '2026-03-02'", "client": "'acme'"}) == (
        "select 1 where day >= date '2026-03-02' -- current_date - 30\nand client = 'acme'"
    )


def card(**changed: object) -> Card:
    """A card, but for what is changed."""
    one = {"name": "One", "sentence": "s", "display": "table", "at": (0, 0, 12, 4), "sql": "select 1 [[{{client}}]]"}
    return Card(**{**one, **changed})  # type: ignore[arg-type]


WRONG = [
    ((card(sql="select {{nobody}}"),), "nobody"),
    ((card(at=(20, 0, 5, 4)),), "columns"),
    ((card(), card(name="Two", at=(11, 3, 2, 2))), "lies over One"),
    ((card(sql="select 1"),), "each filter"),
]


@pytest.mark.parametrize(("cards", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_file_that_cannot_be_shown_is_refused(cards: tuple[Card, ...], said: str) -> None:
    dashboard = Dashboard(name="D", sentence="s", filters=("client",), cards=cards)
    with pytest.raises(DashboardFileWrong, match=said):
        check(dashboard, read_filters(), "d.toml")


def test_charts_name_columns_that_their_questions_have(large: str) -> None:
    with psycopg.connect(large) as connection:
        connection.execute("set search_path = analyst")
        for dashboard in read_dashboards():
            for one in dashboard.cards:
                found = connection.execute(fill_in(one.sql, {}).encode()).description or ()
                assert set(one.x + one.y) <= {column.name for column in found}, f"{dashboard.name}: {one.name}"
                assert one.display in ("table", "scalar") or (one.x and one.y), f"{dashboard.name}: {one.name}"
