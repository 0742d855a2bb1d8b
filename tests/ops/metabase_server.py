"""A local stand-in of the part of Metabase's HTTP API that the provisioner uses, written to its source.

Of metabase/metabase, src/metabase (read 2026-11): closed bodies (an unknown key is 400), sign-in by key or session, the
password of a connection masked, a connection tried before it is kept, and looked through later, in its own time.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg

Body = dict[str, Any]
MASK = "**MetabasePass**"
KEY, EMAIL, PASSWORD = "mb_key_of_a_test", "ada@agency.test", "secret-of-ada-1"
LOOKS_BEFORE_SYNCED = 2

DATABASE = {"name", "engine", "details", "is_full_sync", "is_on_demand", "schedules", "auto_run_queries", "cache_ttl"}
CARD = {
    *("name", "type", "dataset_query", "entity_id", "parameters", "parameter_mappings", "description", "display"),
    *("visualization_settings", "collection_id", "collection_position", "result_metadata", "cache_ttl", "dashboard_id"),
}
DASHBOARD = {"name", "description", "parameters", "cache_ttl", "collection_id", "collection_position"}
DASHBOARD_CHANGE = {*DASHBOARD, "width", "archived", "auto_apply_filters", "dashcards", "tabs", "position"}
DASHCARD = {
    *("id", "size_x", "size_y", "row", "col", "card_id", "action_id", "dashboard_tab_id", "parameter_mappings"),
    *("visualization_settings", "inline_parameters", "series"),
}
COLLECTION = {"name", "description", "parent_id", "namespace", "authority_level"}
FIELD = {"caveats", "description", "display_name", "fk_target_field_id", "semantic_type", "visibility_type"}
PARAMETER_TYPES = {"text": {"string/=", "category"}, "date": {"date/single"}}
DISPLAYS = {"scalar", "line", "bar", "area", "row", "pie", "table"}
COLUMNS = """
select c.relname, a.attname, col_description(c.oid, a.attnum)
from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = %s::regnamespace and c.relkind = 'v' order by 1, a.attnum
"""


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, said: object) -> None:
        super().__init__(said)
        self.status, self.said = status, said


@dataclass
class FakeMetabase:
    """Its state, and what was asked of it. `set_up` is whether it has an administrator."""

    set_up: bool = True
    databases: dict[int, Body] = field(default_factory=dict)
    collections: dict[int, Body] = field(default_factory=dict)
    cards: dict[int, Body] = field(default_factory=dict)
    dashboards: dict[int, Body] = field(default_factory=dict)
    fields: dict[int, Body] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    sessions: set[str] = field(default_factory=set)
    groups: dict[int, Body] = field(
        default_factory=lambda: {
            901: {"id": 901, "name": "All Users", "magic_group_type": "all-internal-users"},
            902: {"id": 902, "name": "Administrators", "magic_group_type": "admin"},
        }
    )
    rights: dict[str, Body] = field(
        default_factory=lambda: {"permissions": {"901": {}}, "collection": {"901": {"root": "write"}}}
    )
    revision: int = 1
    looks: int = 0
    number: int = 0
    url: str = ""

    def next(self) -> int:
        """A fresh id: all kinds count together here, so that a mixed-up id is seen."""
        self.number += 1
        return self.number

    # ── signing in ──

    def check(self, headers: Mapping[str, str]) -> None:
        """Refuse who is nobody."""
        if headers.get("x-api-key") != KEY and headers.get("x-metabase-session") not in self.sessions:
            raise Refused(401, "Unauthenticated")

    def sign_in(self, path: str, body: Body) -> Body:
        """POST /api/session and /api/setup."""
        if path == "/api/setup":
            if self.set_up or body["token"] != "token-of-a-test" or not body["prefs"]["site_name"]:
                raise Refused(403, "The /api/setup route can only be used to create the first user")
            self.set_up = True
        elif (body["username"], body["password"]) != (EMAIL, PASSWORD):
            raise Refused(401, {"errors": {"password": "did not match stored password"}})
        self.sessions.add(f"session-{self.next()}")
        return {"id": max(self.sessions)}

    # ── connections and fields ──

    def keep_database(self, number: int | None, body: Body) -> Body:
        """POST and PUT /api/database: it connects first."""
        only(body, DATABASE)
        before = self.databases.get(number or 0, {"details": {}})
        details = before["details"] | body["details"]
        if details["password"] == MASK:
            details["password"] = before["details"]["password"]
        try:
            with connected(details):
                pass
        except psycopg.Error as error:
            raise Refused(400, {"message": f"Connection error: {type(error).__name__}", "errors": {}}) from error
        if not number:
            number = self.next()
            self.rights["permissions"]["901"][str(number)] = {
                "view-data": "unrestricted",
                "create-queries": "query-builder-and-native",
            }
        self.databases[number] = before | body | {"id": number, "details": details, "tables": before.get("tables", {})}
        self.looks = 0
        return self.shown(self.databases[number])

    def shown(self, database: Body) -> Body:
        """A connection as it is told: without its password."""
        return {**database, "details": {**database["details"], "password": MASK}, "tables": None}

    def metadata(self, number: int) -> Body:
        """GET /api/database/:id/metadata: what it has seen by now."""
        self.looks += 1
        if self.looks >= LOOKS_BEFORE_SYNCED:
            self.sync(self.databases[number])
        tables = self.databases[number]["tables"]
        return {"tables": [{"name": name, "fields": list(found.values())} for name, found in tables.items()]}

    def sync(self, database: Body) -> None:
        """Look the schema through; what people have said of fields stays."""
        with connected(database["details"]) as connection:
            rows = connection.execute(COLUMNS, (database["details"]["schema-filters-patterns"],)).fetchall()
        for view, column, text in rows:
            known = database["tables"].setdefault(view, {})
            if column not in known:
                number = self.next()
                one = {"id": number, "name": column, "semantic_type": None, "fk_target_field_id": None}
                known[column] = self.fields[number] = one
            known[column]["description"] = text

    def change_field(self, number: int, body: Body) -> Body:
        """PUT /api/field/:id."""
        only(body, FIELD)
        target = body.get("fk_target_field_id")
        if target is not None and target not in self.fields:
            raise Refused(400, {"errors": {"fk_target_field_id": "Invalid target field"}})
        self.fields[number] |= body
        return self.fields[number]

    # ── collections, questions, dashboards ──

    def add_collection(self, body: Body) -> Body:
        """POST /api/collection."""
        only(body, COLLECTION)
        number = self.next()
        parent = body.get("parent_id")
        location = "/" if parent is None else f"{self.collections[parent]['location']}{parent}/"
        self.collections[number] = {"id": number, "location": location, "archived": False, **body}
        for rights in self.rights["collection"].values():  # as its parent has them
            rights[str(number)] = rights.get(str(parent or "root"), "none")
        return self.collections[number]

    def items(self, collection: int, model: str) -> Body:
        """GET /api/collection/:id/items."""
        kept = {"card": self.cards, "dashboard": self.dashboards}[model]
        found = [o for o in kept.values() if o["collection_id"] == collection and not o.get("archived")]
        return {"total": len(found), "data": [{"id": o["id"], "name": o["name"], "model": model} for o in found]}

    def keep_card(self, number: int | None, body: Body) -> Body:
        """POST and PUT /api/card."""
        only(body, CARD)
        if not body["name"] or body["display"] not in DISPLAYS or not body["description"]:
            raise Refused(400, {"errors": {"name": "value must be a non-blank string."}})
        query = body["dataset_query"]
        if query["database"] not in self.databases or body["collection_id"] not in self.collections:
            raise Refused(404, "Not found.")
        for tag, one in query["native"]["template-tags"].items():
            if not (one["name"] == tag and one["type"] in PARAMETER_TYPES and one["id"] and one["display-name"]):
                raise Refused(400, {"errors": {"dataset_query": "invalid template tag"}})
        number = number or self.next()
        self.cards[number] = self.cards.get(number, {}) | body | {"id": number, "result_metadata": []}
        return self.cards[number]

    def add_dashboard(self, body: Body) -> Body:
        """POST /api/dashboard."""
        only(body, DASHBOARD)
        number = self.next()
        self.dashboards[number] = {"id": number, "parameters": [], "dashcards": [], "width": "fixed", **body}
        return self.dashboards[number]

    def change_dashboard(self, number: int, body: Body) -> Body:
        """PUT /api/dashboard/:id: the dashcards are all that it has from then on."""
        only(body, DASHBOARD_CHANGE)
        dashboard = self.dashboards[number]
        parameters = {one["id"]: one for one in body["parameters"]}
        kept = {one["id"] for one in dashboard["dashcards"]}
        cards = []
        for card in body["dashcards"]:
            only(card, DASHCARD)
            if card["id"] > 0 and card["id"] not in kept:
                raise Refused(404, "Not found.")
            self.check_mappings(card, parameters)
            cards.append(card | {"id": card["id"] if card["id"] > 0 else self.next(), "dashboard_id": number})
        if len({card["id"] for card in cards}) != len(cards):
            raise Refused(400, {"errors": {"dashcards": "value must be seq of maps in which ids are unique"}})
        self.dashboards[number] = dashboard | body | {"dashcards": list(reversed(cards))}
        return self.dashboards[number]

    def check_mappings(self, dashcard: Body, parameters: Mapping[str, Body]) -> None:
        """A mapping must join a filter of the dashboard to a tag of the question, of a type that fits."""
        tags = self.cards[dashcard["card_id"]]["dataset_query"]["native"]["template-tags"]
        for one in dashcard["parameter_mappings"]:
            kind, (what, tag) = one["target"]
            fits = PARAMETER_TYPES[tags[tag]["type"]]
            if (kind, what) != ("variable", "template-tag") or parameters[one["parameter_id"]]["type"] not in fits:
                raise Refused(400, {"errors": {"parameter_mappings": "invalid"}})

    # ── groups and their rights ──

    def add_group(self, body: Body) -> Body:
        """POST /api/permissions/group."""
        only(body, {"name", "is_tenant_group"})
        number = self.next()
        self.groups[number] = {"id": number, "magic_group_type": None, **body}
        self.rights["permissions"][str(number)] = {}
        self.rights["collection"][str(number)] = {}
        return self.groups[number]

    def change_rights(self, kind: str, body: Body) -> Body:
        """PUT of a graph: parts that it has are overwritten, a revision that is not the newest is refused."""
        only(body, {"revision", "groups", "force", "sandboxes", "impersonations", "namespace"})
        if body["revision"] != self.revision:
            raise Refused(409, "Looks like someone else edited the permissions and your data is out of date.")
        self.revision += 1
        known = self.databases if kind == "permissions" else self.collections
        for group, rights in body["groups"].items():
            for number, right in rights.items():
                if int(group) not in self.groups or int(number) not in known:
                    raise Refused(404, "Not found.")
                held = self.rights[kind][group]
                if kind == "permissions":
                    only(right, {"view-data", "create-queries", "download", "data-model", "details"})
                    held[number] = held.get(number, {}) | right
                elif right in ("write", "read", "none"):
                    held[number] = right
                else:
                    raise Refused(400, {"errors": {"groups": "invalid"}})
        return self.graph(kind)

    def graph(self, kind: str) -> Body:
        """GET of a graph: a group that may ask nothing is not said to."""
        groups = {group: dict(rights) for group, rights in self.rights[kind].items()}
        if kind == "permissions":
            for rights in groups.values():
                for number, right in rights.items():
                    rights[number] = {key: value for key, value in right.items() if value != "no"}
        return {"revision": self.revision, "groups": groups}

    # ── the way in ──

    def answer(self, method: str, path: str, query: Mapping[str, list[str]], body: Body) -> Any:
        """Answer one call of somebody who is signed in. Raises Refused."""
        match method, path.strip("/").split("/")[1:]:
            case "GET", ["database"]:
                return {"data": [self.shown(one) for one in self.databases.values()], "total": len(self.databases)}
            case "POST", ["database"]:
                return self.keep_database(None, body)
            case "PUT", ["database", number]:
                return self.keep_database(int(number), body)
            case "POST", ["database", _, "sync_schema"]:
                return {"status": "ok"}
            case "GET", ["database", number, "metadata"]:
                return self.metadata(int(number))
            case "PUT", ["field", number]:
                return self.change_field(int(number), body)
            case "GET", ["permissions", "group"]:
                return list(self.groups.values())
            case "POST", ["permissions", "group"]:
                return self.add_group(body)
            case "GET", ["permissions" | "collection" as kind, "graph"]:
                return self.graph(kind)
            case "PUT", ["permissions" | "collection" as kind, "graph"]:
                return self.change_rights(kind, body)
            case "GET", ["collection"]:
                return [{"id": "root", "name": "Our analytics"}, *self.collections.values()]
            case "POST", ["collection"]:
                return self.add_collection(body)
            case "GET", ["collection", number, "items"]:
                return self.items(int(number), query["models"][0])
            case "POST", ["card"]:
                return self.keep_card(None, body)
            case "GET", ["card", number]:
                return self.cards[int(number)]
            case "PUT", ["card", number]:
                return self.keep_card(int(number), body)
            case "POST", ["dashboard"]:
                return self.add_dashboard(body)
            case "GET", ["dashboard", number]:
                return self.dashboards[int(number)]
            case "PUT", ["dashboard", number]:
                return self.change_dashboard(int(number), body)
        raise Refused(404, "API endpoint does not exist.")


def only(body: Body, known: set[str]) -> None:
    """Refuse keys that the closed schema does not know."""
    if unknown := set(body) - known:
        raise Refused(400, {"errors": dict.fromkeys(unknown, "disallowed key")})


def connected(details: Body) -> "psycopg.Connection[tuple[Any, ...]]":
    """Connect as Metabase does."""
    keys = ("host", "port", "dbname", "user", "password")
    return psycopg.connect(**{key: details[key] for key in keys}, connect_timeout=5)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet
    fake: FakeMetabase

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def _serve(self, method: str) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        where = urlsplit(self.path)
        self.fake.asked.append((method, where.path))
        try:
            status, answer = 200, self._answer(method, where.path, parse_qs(where.query), json.loads(raw or b"{}"))
        except Refused as refused:
            status, answer = refused.status, refused.said
        sent = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def _answer(self, method: str, path: str, query: Mapping[str, list[str]], body: Body) -> Any:
        if path == "/api/session/properties":
            token = None if self.fake.set_up else "token-of-a-test"
            return {"has-user-setup": self.fake.set_up, "setup-token": token}
        if path in ("/api/session", "/api/setup"):
            return self.fake.sign_in(path, body)
        self.fake.check({name.lower(): value for name, value in self.headers.items()})
        return self.fake.answer(method, path, query, body)


@contextmanager
def running_metabase() -> Iterator[FakeMetabase]:
    """Run one on loopback."""
    fake = FakeMetabase()
    handler = type("Handler", (_Handler,), {"fake": fake})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        fake.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield fake
        server.shutdown()
        thread.join()
