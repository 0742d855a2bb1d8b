"""Puts the connection, keys, questions and dashboards into a Metabase; what is there already is changed, not doubled.

Things are found by name: the connection, the collection and its collection of questions, each question, each dashboard.
"""

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from ops.metabase.api import Metabase, MetabaseRefused
from ops.metabase.files import Card, Dashboard, Filter, Keys
from ops.metabase.rights import OPEN, close_connection, keep_to_group, open_to_all

SYNC_S = 120.0
JsonObject = dict[str, Any]


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """How Metabase reaches the read models; `schema` is the one that the login reads. `name` is shown to people."""

    name: str
    host: str
    port: int
    dbname: str
    user: str
    password: str
    schema: str
    ssl: bool = False
    closed: bool = False  # of one client: not for everybody who may log in to Metabase

    @property
    def details(self) -> JsonObject:
        """As Metabase's Postgres driver wants it."""
        return {
            "host": self.host,
            "port": self.port,
            "dbname": self.dbname,
            "user": self.user,
            "password": self.password,
            "ssl": self.ssl,
            "schema-filters-type": "inclusion",
            "schema-filters-patterns": self.schema,
        }


class Wanted(msgspec.Struct, frozen=True):
    """All that the files say."""

    dashboards: list[Dashboard]
    filters: dict[str, Filter]
    keys: Keys


def provision(
    metabase: Metabase, wanted: Wanted, connection: Connection, sync_s: float = SYNC_S
) -> Iterator[tuple[str, str]]:
    """Yield (what, made | changed | as it was | open to All Users) for each thing, as it is done.

    Raises MetabaseRefused.
    """
    database, told = _database(metabase, connection)
    yield f"connection {connection.name}", told
    if connection.closed:
        yield f"rights connection {connection.name}", close_connection(metabase, database)
    fields = _fields(metabase, database, wanted.keys, sync_s)
    for what, told in _set_keys(metabase, fields, wanted.keys):
        yield what, told
    about = "Dashboards of mailfleet, from its files: what is changed here is changed back by `mailfleet metabase`."
    home = _collection(metabase, connection.name, about, None)
    shelf = _collection(metabase, f"{connection.name}: questions", "What the dashboards ask.", home)
    if connection.closed:
        yield from keep_to_group(metabase, connection.name, (home, shelf))
    questions = _Questions(metabase, database, shelf)
    lists: dict[str, int] = {}
    for tag, one in wanted.filters.items():
        if one.values:
            lists[tag], told = questions.put(f"Filter: {one.name}", _list_question(one), {})
            yield f"question Filter: {one.name}", told
    for dashboard in wanted.dashboards:
        ids: dict[str, int] = {}
        for card in dashboard.cards:
            name = f"{dashboard.name}: {card.name}"
            ids[card.name], told = questions.put(name, card, wanted.filters)
            yield f"question {name}", told
        yield f"dashboard {dashboard.name}", _dashboard(metabase, dashboard, wanted.filters, lists, ids, home)
    for what in open_to_all(metabase):
        yield f"rights of All Users: {what}", OPEN


# ── the connection ───────────────────────────────────────────────────────────────────────────────


def _database(metabase: Metabase, connection: Connection) -> tuple[int, str]:
    """Return the connection's id. The password is never told again, so it is sent each time."""
    found = [one for one in metabase.get("/api/database")["data"] if one["name"] == connection.name]
    body: JsonObject = {"name": connection.name, "engine": "postgres", "details": connection.details}
    if not found:
        made = metabase.post("/api/database", {**body, "is_full_sync": True, "auto_run_queries": True})
        return int(made["id"]), "made"
    number = int(found[0]["id"])
    shown = {key: value for key, value in connection.details.items() if key != "password"}
    same = _agrees(shown, found[0].get("details", {}))
    metabase.put(f"/api/database/{number}", body)
    metabase.post(f"/api/database/{number}/sync_schema")
    return number, "as it was" if same else "changed"


def _fields(metabase: Metabase, database: int, keys: Keys, sync_s: float) -> dict[str, JsonObject]:
    """Return fields by "view.column", once Metabase has seen all that the keys name. It looks in its own time."""
    named = {*keys.types, *keys.points_at, *keys.points_at.values()}
    deadline = time.monotonic() + sync_s
    while True:
        tables = metabase.get(f"/api/database/{database}/metadata")["tables"]
        fields = {f"{table['name']}.{field['name']}": field for table in tables for field in table["fields"]}
        if named <= set(fields):
            return fields
        if time.monotonic() > deadline:
            missing = ", ".join(sorted(named - set(fields))[:5])
            raise MetabaseRefused(f"Metabase does not see {missing}: is the schema up to date (`mailfleet migrate`)?")
        time.sleep(min(1.0, sync_s / 50))


def _set_keys(metabase: Metabase, fields: Mapping[str, JsonObject], keys: Keys) -> Iterator[tuple[str, str]]:
    """Say what Metabase cannot see of views: which column is a key, and what it points at."""
    for name, kind in keys.types.items():
        yield f"field {name}", _set_field(metabase, fields[name], {"semantic_type": kind})
    for name, target in keys.points_at.items():
        foreign = {"semantic_type": "type/FK", "fk_target_field_id": fields[target]["id"]}
        yield f"field {name}", _set_field(metabase, fields[name], foreign)


def _set_field(metabase: Metabase, field: JsonObject, wanted: JsonObject) -> str:
    if _agrees(wanted, field):
        return "as it was"
    metabase.put(f"/api/field/{field['id']}", wanted)
    return "changed"


# ── collections and questions ────────────────────────────────────────────────────────────────────


def _collection(metabase: Metabase, name: str, about: str, parent: int | None) -> int:
    place = "/" if parent is None else f"/{parent}/"
    for one in metabase.get("/api/collection"):
        if one["name"] == name and one.get("location") == place and not one.get("archived"):
            return int(one["id"])
    return int(metabase.post("/api/collection", {"name": name, "description": about, "parent_id": parent})["id"])


def _items(metabase: Metabase, collection: int, model: str) -> dict[str, int]:
    """Return what stands in a collection, by name."""
    found = metabase.get(f"/api/collection/{collection}/items", models=model)["data"]
    return {one["name"]: int(one["id"]) for one in reversed(found)}


class _Questions:
    """The collection of questions."""

    def __init__(self, metabase: Metabase, database: int, collection: int) -> None:
        self._metabase = metabase
        self._database = database
        self._collection = collection
        self._known = _items(metabase, collection, "card")

    def put(self, name: str, card: Card, filters: Mapping[str, Filter]) -> tuple[int, str]:
        """Make the question or change it; return its id."""
        body = self._body(name, card, filters)
        if name not in self._known:
            self._known[name] = int(self._metabase.post("/api/card", body)["id"])
            return self._known[name], "made"
        path = f"/api/card/{self._known[name]}"
        return self._known[name], _put_if_other(self._metabase, path, body)

    def _body(self, name: str, card: Card, filters: Mapping[str, Filter]) -> JsonObject:
        tags = {tag: _template_tag(tag, filters[tag]) for tag in card.tags}
        native = {"query": card.sql.strip(), "template-tags": tags}
        return {
            "name": name,
            "description": card.sentence,
            "display": card.display,
            "type": "question",
            "collection_id": self._collection,
            "dataset_query": {"type": "native", "database": self._database, "native": native},
            "visualization_settings": _settings(card),
            "parameters": [_parameter(tag, filters[tag]) | {"target": _target(tag)} for tag in card.tags],
        }


def _list_question(one: Filter) -> Card:
    return Card(
        name=one.name, sentence=f"What a filter offers: {one.name}.", display="table", at=(0, 0, 1, 1), sql=one.values
    )


def _settings(card: Card) -> JsonObject:
    """The chart's columns; columns are shown by the unit that their name ends in."""
    settings: JsonObject = {}
    if card.x:
        settings = {"graph.dimensions": list(card.x), "graph.metrics": list(card.y)}
    if card.stacked:
        settings["stackable.stack_type"] = "stacked"
    names = set(card.sql.replace(",", " ").split())
    styles = {name: _style(name) for name in sorted(names) if name.isidentifier() and _style(name)}
    if styles:
        settings["column_settings"] = {f'["name","{name}"]': style for name, style in styles.items()}
    return settings


def _style(name: str) -> JsonObject:
    if name.endswith(("_rate", "_share")):
        return {"number_style": "percent", "decimals": 2}
    return {"number_style": "currency", "currency": "USD"} if name.endswith("_usd") else {}


# ── dashboards ───────────────────────────────────────────────────────────────────────────────────


def _dashboard(
    metabase: Metabase,
    dashboard: Dashboard,
    filters: Mapping[str, Filter],
    lists: Mapping[str, int],
    ids: Mapping[str, int],
    collection: int,
) -> str:
    known = _items(metabase, collection, "dashboard")
    number = known.get(dashboard.name)
    told = ""
    if number is None:
        named = {"name": dashboard.name, "description": dashboard.sentence, "collection_id": collection}
        number, told = int(metabase.post("/api/dashboard", named)["id"]), "made"
    path = f"/api/dashboard/{number}"
    there = metabase.get(path)
    places = {one["card_id"]: int(one["id"]) for one in there["dashcards"] if one.get("card_id")}
    body = {
        "name": dashboard.name,
        "description": dashboard.sentence,
        "width": "full",
        "parameters": [_parameter(tag, filters[tag], lists.get(tag)) for tag in dashboard.filters],
        "dashcards": [
            _dashcard(card, ids[card.name], places.get(ids[card.name], -n))
            for n, card in enumerate(dashboard.cards, start=1)
        ],
    }
    return told or "as it was" if _same_dashboard(body, there) else (metabase.put(path, body), told or "changed")[1]


def _dashcard(card: Card, question: int, number: int) -> JsonObject:
    left, top, width, height = card.at
    mappings = [{"parameter_id": _short_id(tag), "card_id": question, "target": _target(tag)} for tag in card.tags]
    return {
        "id": number,
        "card_id": question,
        "col": left,
        "row": top,
        "size_x": width,
        "size_y": height,
        "parameter_mappings": mappings,
        "visualization_settings": {"card.title": card.name},
        "series": [],
    }


def _same_dashboard(wanted: JsonObject, found: JsonObject) -> bool:
    """Cards come back in any order."""
    by_id: Callable[[JsonObject], int] = lambda one: int(one["id"])  # noqa: E731 - one key for both
    mine, theirs = (sorted(one["dashcards"], key=by_id) for one in (wanted, found))
    return _agrees({**wanted, "dashcards": mine}, {**found, "dashcards": theirs})


# ── filters ──────────────────────────────────────────────────────────────────────────────────────


def _short_id(tag: str) -> str:
    return hashlib.sha256(tag.encode()).hexdigest()[:8]


def _target(tag: str) -> list[Any]:
    return ["variable", ["template-tag", tag]]


def _template_tag(tag: str, one: Filter) -> JsonObject:
    number = str(uuid.uuid5(uuid.NAMESPACE_URL, f"mailfleet:{tag}"))
    return {"id": number, "name": tag, "display-name": one.name, "type": one.type}


def _parameter(tag: str, one: Filter, values_card: int | None = None) -> JsonObject:
    """A filter of a dashboard or question. A text takes one value: an SQL variable is no list."""
    named: JsonObject = {"id": _short_id(tag), "name": one.name, "slug": tag}
    if one.type == "date":
        return named | {"type": "date/single", "sectionId": "date"}
    named |= {"type": "string/=", "sectionId": "string", "isMultiSelect": False}
    if values_card is None:
        return named
    source = {"card_id": values_card, "value_field": ["field", tag, {"base-type": "type/Text"}]}
    return named | {"values_query_type": "list", "values_source_type": "card", "values_source_config": source}


# ── comparing ────────────────────────────────────────────────────────────────────────────────────


def _put_if_other(metabase: Metabase, path: str, wanted: JsonObject) -> str:
    if _agrees(wanted, metabase.get(path)):
        return "as it was"
    metabase.put(path, wanted)
    return "changed"


def _agrees(wanted: Any, found: Any) -> bool:
    """Whether what is there says all that is wanted; Metabase adds keys of its own, but none to settings."""
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            return False
        return all(
            found.get(key) == value if key == "visualization_settings" else _agrees(value, found.get(key))
            for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(found, list) and len(wanted) == len(found) and all(map(_agrees, wanted, found))
    return bool(wanted == found)
