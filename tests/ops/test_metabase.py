"""What is put into a Metabase: all of the files, once, and changed when they change; over HTTP and a real Postgres."""

import json
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import psycopg
import pytest
from click.testing import CliRunner
from psycopg.conninfo import conninfo_to_dict

from ops.cli import cli
from ops.metabase.api import Metabase, MetabaseRefused
from ops.metabase.files import Keys, read_dashboards, read_filters, read_keys
from ops.metabase.provision import Connection, Wanted, provision
from ops.metabase.rights import OPEN
from projections.analysts import make_login
from projections.migrate import migrate
from tests.ops.metabase_server import EMAIL, KEY, PASSWORD, FakeMetabase, running_metabase

WANTED = Wanted(read_dashboards(), read_filters(), read_keys())
LOGIN_PASSWORD = "a password of a test"


@pytest.fixture(scope="module")
def server() -> Iterator[FakeMetabase]:
    with running_metabase() as fake:
        yield fake


@pytest.fixture
def fake(server: FakeMetabase) -> FakeMetabase:
    """An empty Metabase with an administrator."""
    url = server.url
    server.__init__()  # type: ignore[misc]
    server.url = url
    return server


@pytest.fixture
def connection(database: str) -> Connection:
    """How it reaches a database with the newest schema."""
    migrate(database)
    with psycopg.connect(database) as admin:
        role = make_login(admin, "", LOGIN_PASSWORD)
    where = conninfo_to_dict(database)
    return Connection(
        name="mailfleet",
        host=str(where["host"]),
        port=int(str(where["port"])),
        dbname=str(where["dbname"]),
        user=role,
        password=LOGIN_PASSWORD,
        schema="analyst",
    )


def run(
    fake: FakeMetabase, connection: Connection, wanted: Wanted = WANTED, sync_s: float = 5
) -> tuple[dict[str, str], int]:
    """Provision; return what was told of each thing, and how many calls could have changed something."""
    with Metabase(fake.url) as metabase:
        metabase.use_key(KEY)
        return dict(provision(metabase, wanted, connection, sync_s)), metabase.changes


def test_a_first_run_makes_everything_with_its_place_and_filters(fake: FakeMetabase, connection: Connection) -> None:
    told, _ = run(fake, connection)
    assert {how for what, how in told.items() if not what.startswith("field")} == {"made"}
    assert {one["name"] for one in fake.dashboards.values()} == {one.name for one in WANTED.dashboards}
    assert len(fake.cards) == sum(len(one.cards) for one in WANTED.dashboards) + sum(
        bool(one.values) for one in WANTED.filters.values()
    )
    for wanted, made in zip(WANTED.dashboards, fake.dashboards.values(), strict=True):
        assert [one["slug"] for one in made["parameters"]] == list(wanted.filters)
        places = {(one["col"], one["row"], one["size_x"], one["size_y"]) for one in made["dashcards"]}
        assert places == {card.at for card in wanted.cards}
        for dashcard in made["dashcards"]:
            tags = fake.cards[dashcard["card_id"]]["dataset_query"]["native"]["template-tags"]
            assert [one["target"][1][1] for one in dashcard["parameter_mappings"]] == list(tags)


def test_a_second_run_doubles_nothing_and_changes_nothing(fake: FakeMetabase, connection: Connection) -> None:
    run(fake, connection)
    before = msgspec.json.encode([fake.cards, fake.dashboards, fake.collections, fake.fields])
    told, changes = run(fake, connection)
    assert set(told.values()) == {"as it was"}
    assert msgspec.json.encode([fake.cards, fake.dashboards, fake.collections, fake.fields]) == before
    assert changes == 2, "the connection's password, which is never told again, and a look at the schema"


def test_a_changed_file_changes_its_question_and_place_only(fake: FakeMetabase, connection: Connection) -> None:
    run(fake, connection)
    first, *others = WANTED.dashboards
    card, *more = first.cards
    moved = msgspec.structs.replace(card, sql="select 1 as accepted", at=(0, 40, 4, 4), display="table")
    changed = msgspec.structs.replace(first, cards=(*more, moved), filters=first.filters)
    told, _ = run(fake, connection, Wanted([changed, *others], WANTED.filters, WANTED.keys))
    differing = {what: how for what, how in told.items() if how != "as it was"}
    name = f"{first.name}: {card.name}"
    assert differing == {f"question {name}": "changed", f"dashboard {first.name}": "changed"}
    (kept,) = [one for one in fake.cards.values() if one["name"] == name]
    assert kept["dataset_query"]["native"] == {"query": "select 1 as accepted", "template-tags": {}}
    (dashboard,) = [one for one in fake.dashboards.values() if one["name"] == first.name]
    assert len(dashboard["dashcards"]) == len(first.cards)


def test_a_card_that_is_no_longer_in_the_file_leaves_the_dashboard(fake: FakeMetabase, connection: Connection) -> None:
    run(fake, connection)
    first, *others = WANTED.dashboards
    less = msgspec.structs.replace(first, cards=first.cards[1:])
    run(fake, connection, Wanted([less, *others], WANTED.filters, WANTED.keys))
    (dashboard,) = [one for one in fake.dashboards.values() if one["name"] == first.name]
    assert len(dashboard["dashcards"]) == len(first.cards) - 1


def test_what_a_person_changed_is_changed_back(fake: FakeMetabase, connection: Connection) -> None:
    run(fake, connection)
    number = min(fake.cards)
    fake.cards[number]["display"] = "pie"
    told, _ = run(fake, connection)
    assert [how for how in told.values() if how != "as it was"] == ["changed"]
    assert fake.cards[number]["display"] != "pie"


@pytest.fixture
def of_acme(connection: Connection, database: str) -> Connection:
    """A client's own."""
    with psycopg.connect(database) as admin:
        role = make_login(admin, "acme", LOGIN_PASSWORD)
    return msgspec.structs.replace(connection, name="mailfleet acme", user=role, schema=role, closed=True)


def seen_by(fake: FakeMetabase, group: str) -> tuple[set[str], set[str]]:
    """The connections that people of a group may ask, and the collections that they see."""
    (number,) = (str(one["id"]) for one in fake.groups.values() if one["name"] == group)
    asks, reads = fake.rights["permissions"][number], fake.rights["collection"][number]
    return (
        {
            one["name"]
            for id_, one in fake.databases.items()
            if asks.get(str(id_), {}).get("create-queries", "no") != "no"
        },
        {one["name"] for id_, one in fake.collections.items() if reads.get(str(id_), "none") != "none"},
    )


def test_a_clients_connection_and_dashboards_are_its_groups_alone(fake: FakeMetabase, of_acme: Connection) -> None:
    told, _ = run(fake, of_acme)
    assert seen_by(fake, "All Users") == (set(), set())
    assert seen_by(fake, "mailfleet acme") == (set(), {"mailfleet acme", "mailfleet acme: questions"})
    assert told["group mailfleet acme"] == "made"
    again, changes = run(fake, of_acme)
    assert set(again.values()) == {"as it was"}
    assert changes == 2
    fake.rights["collection"]["901"][str(min(fake.collections))] = "read"
    assert [what for what, how in run(fake, of_acme)[0].items() if how == "changed"] == [
        "rights collections mailfleet acme"
    ]
    assert seen_by(fake, "All Users") == (set(), set())


def test_what_is_the_agencys_and_open_to_everybody_is_told_once_clients_are_there(
    fake: FakeMetabase, connection: Connection, of_acme: Connection
) -> None:
    assert OPEN not in run(fake, connection)[0].values(), "the agency's people alone"
    seen = {
        "rights of All Users: connection mailfleet",
        "rights of All Users: collection mailfleet",
        "rights of All Users: collection mailfleet: questions",
    }
    for one in (of_acme, connection):
        assert {what for what, how in run(fake, one)[0].items() if how == OPEN} == seen
    for rights in fake.rights["permissions"]["901"].values():
        rights["create-queries"] = "no"
    for number in fake.rights["collection"]["901"]:
        fake.rights["collection"]["901"][number] = "none"
    assert OPEN not in run(fake, connection)[0].values()


KEY_OF = {"send": "sends.send", "mailbox": "mailboxes.mailbox", "domain": "domains.domain"}
NOT_OURS = {"suppressed_domains.domain"}
"""Domains of recipients."""


def test_whatever_names_a_send_a_mailbox_or_a_domain_joins_by_itself(connection: Connection, database: str) -> None:
    with psycopg.connect(database) as reader:
        found = reader.execute(
            "select table_name || '.' || column_name, column_name from information_schema.columns "
            "where table_schema = 'analyst' and column_name = any(%s)",
            (list(KEY_OF),),
        ).fetchall()
    pointing = {name: KEY_OF[column] for name, column in found if name not in {*KEY_OF.values(), *NOT_OURS}}
    named = {name: key for name, key in WANTED.keys.points_at.items() if name.rpartition(".")[2] in KEY_OF}
    assert pointing == named


class HalfWay(Metabase):
    """Loses its Metabase at the n-th call that changes something, before or after it took effect."""

    def __init__(self, url: str, calls: int, *, took_effect: bool) -> None:
        super().__init__(url)
        self._calls, self._took_effect = calls, took_effect

    def _call(self, method: str, path: str, **sent: object) -> object:
        dies = method != "GET" and self.changes == self._calls
        if dies and not self._took_effect:
            raise MetabaseRefused("gone")
        answer = super()._call(method, path, **sent)
        if dies:
            raise MetabaseRefused("gone")
        return answer


@pytest.mark.parametrize("took_effect", [False, True])
def test_one_that_ends_half_way_is_finished_by_the_next_and_nothing_is_doubled(
    fake: FakeMetabase, connection: Connection, took_effect: bool
) -> None:
    first = WANTED.dashboards[0]
    cards = tuple(msgspec.structs.replace(card, sql="select 1 as accepted") for card in first.cards[:2])
    small = Wanted([msgspec.structs.replace(first, cards=cards, filters=())], {}, Keys(types={}, points_at={}))
    for calls in range(8):
        with HalfWay(fake.url, calls, took_effect=took_effect) as metabase, suppress(MetabaseRefused):
            metabase.use_key(KEY)
            list(provision(metabase, small, connection, 5))
    run(fake, connection, small)
    kept = (fake.databases, fake.collections, fake.cards, fake.dashboards)
    assert [len(things) for things in kept] == [1, 2, 2, 1]
    assert len(next(iter(fake.dashboards.values()))["dashcards"]) == 2


def test_keys_that_metabase_cannot_see_of_views_are_set(fake: FakeMetabase, connection: Connection) -> None:
    run(fake, connection)
    (database,) = fake.databases.values()
    for name, target in WANTED.keys.points_at.items():
        view, column = name.split(".")
        to_view, to_column = target.split(".")
        one, other = database["tables"][view][column], database["tables"][to_view][to_column]
        assert (one["semantic_type"], one["fk_target_field_id"]) == ("type/FK", other["id"])
    assert all(one["description"] for one in fake.fields.values()), "comments are what people read there"


def test_a_schema_that_is_not_up_to_date_is_told(fake: FakeMetabase, connection: Connection) -> None:
    keys = msgspec.structs.replace(WANTED.keys, types={"nowhere.column": "type/PK"})
    behind = Wanted(WANTED.dashboards, WANTED.filters, keys)
    with pytest.raises(MetabaseRefused, match=r"nowhere.column.*mailfleet migrate"):
        run(fake, connection, behind, sync_s=0.2)


def test_a_connection_that_does_not_work_is_refused_and_its_password_not_told(
    fake: FakeMetabase, connection: Connection
) -> None:
    wrong = msgspec.structs.replace(connection, dbname="nowhere", password="hush")
    with pytest.raises(MetabaseRefused, match="Connection error") as refused:
        run(fake, wrong)
    assert "hush" not in str(refused.value)


def test_a_wrong_key_and_a_metabase_that_is_not_there_are_told_in_a_sentence(fake: FakeMetabase) -> None:
    with Metabase(fake.url) as metabase:
        metabase.use_key("another")
        with pytest.raises(MetabaseRefused, match="not an administrator's"):
            metabase.get("/api/database")
    with Metabase("http://127.0.0.1:1") as metabase, pytest.raises(MetabaseRefused, match="cannot be reached"):
        metabase.get("/api/database")


@pytest.mark.parametrize("set_up", [False, True])
def test_a_login_signs_in_and_is_the_first_administrator_of_a_fresh_metabase(fake: FakeMetabase, set_up: bool) -> None:
    fake.set_up = set_up
    with Metabase(fake.url) as metabase:
        metabase.use_login(EMAIL, PASSWORD)
        assert metabase.get("/api/database")["total"] == 0
    assert fake.set_up
    assert ("POST", "/api/session" if set_up else "/api/setup") in fake.asked


def test_the_commands_make_the_login_with_its_password_and_the_dashboards_over_it(
    fake: FakeMetabase, database: str, tmp_path: Path
) -> None:
    migrate(database)
    environment = {"KAFKA_BROKERS": "127.0.0.1:9", "DATABASE_URL": database, "MAILFLEET_HOME": str(tmp_path)}
    made = CliRunner().invoke(cli, ["analyst-role", "acme"], env=environment)
    assert made.exit_code == 0, made.output
    secret = tmp_path / "secrets" / "analyst_acme.password"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert secret.read_text("utf-8") not in made.output
    again = CliRunner().invoke(cli, ["analyst-role", "acme"], env=environment)
    assert "a password is made" not in again.output
    signed_in = ["--url", fake.url, "--api-key", "env:MB_KEY", "--client", "acme", "--json"]
    put = CliRunner().invoke(cli, ["metabase", *signed_in], env={**environment, "MB_KEY": KEY})
    assert put.exit_code == 0, put.output
    assert json.loads(put.stdout)["connection mailfleet acme"] == "made"
    assert seen_by(fake, "All Users") == (set(), set())
    (kept,) = fake.databases.values()
    assert (kept["details"]["user"], kept["details"]["schema-filters-patterns"]) == ("analyst_acme", "analyst_acme")


def test_without_a_way_to_sign_in_the_command_says_what_to_give(tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["metabase"], env={"KAFKA_BROKERS": "127.0.0.1:9"})
    assert done.exit_code == 2
    assert "--api-key, or with --user and --password" in done.output
