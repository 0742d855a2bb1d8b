"""Who in a Metabase sees a client's connection and dashboards: a group of its own, and not "All Users".

Everybody belongs to All Users, and new connections and collections are open to it. Both graphs of rights are changed in
part, with the revision that was read; another change in between is refused with 409 (src/metabase/permissions_rest and
collections_rest, read 2026-11).
"""

from collections.abc import Iterable, Iterator
from typing import Any

from ops.metabase.api import Metabase, MetabaseRefused

OURS = "mailfleet"
OPEN = "open to All Users"


def close_connection(metabase: Metabase, database: int) -> str:
    """Let All Users ask nothing over a connection; return changed or as it was. Raises MetabaseRefused."""
    closed = {str(_everybody(metabase)): {str(database): {"create-queries": "no"}}}
    return _set(metabase, "/api/permissions/graph", closed)


def keep_to_group(metabase: Metabase, name: str, collections: Iterable[int]) -> Iterator[tuple[str, str]]:
    """Make the group `name`, let it read these collections, and take them from All Users. Raises MetabaseRefused."""
    own, told = _group(metabase, name)
    yield f"group {name}", told
    numbers = [str(number) for number in collections]
    rights = {str(_everybody(metabase)): dict.fromkeys(numbers, "none"), str(own): dict.fromkeys(numbers, "read")}
    yield f"rights collections {name}", _set(metabase, "/api/collection/graph", rights)


def open_to_all(metabase: Metabase) -> list[str]:
    """Return mailfleet's connections and collections that All Users may see, once clients have their own here."""
    databases = {str(one["id"]): one["name"] for one in metabase.get("/api/database")["data"] if _is_ours(one["name"])}
    if set(databases.values()) <= {OURS}:
        return []  # the agency's people alone
    everybody = str(_everybody(metabase))
    collections = {
        str(one["id"]): one["name"]
        for one in metabase.get("/api/collection")
        if _is_ours(one["name"]) and not one.get("archived")
    }
    asks = metabase.get("/api/permissions/graph")["groups"].get(everybody, {})
    reads = metabase.get("/api/collection/graph")["groups"].get(everybody, {})
    found = [f"connection {n}" for id_, n in databases.items() if asks.get(id_, {}).get("create-queries", "no") != "no"]
    return found + [f"collection {n}" for id_, n in collections.items() if reads.get(id_, "none") != "none"]


def _is_ours(name: str) -> bool:
    return name == OURS or name.startswith((f"{OURS} ", f"{OURS}:"))


def _group(metabase: Metabase, name: str) -> tuple[int, str]:
    for one in metabase.get("/api/permissions/group"):
        if one["name"] == name:
            return int(one["id"]), "as it was"
    return int(metabase.post("/api/permissions/group", {"name": name})["id"]), "made"


def _everybody(metabase: Metabase) -> int:
    for one in metabase.get("/api/permissions/group"):
        if one.get("magic_group_type") == "all-internal-users" or one["name"] == "All Users":
            return int(one["id"])
    raise MetabaseRefused("this Metabase has no group All Users: take the rights away by hand (Admin settings, People)")


def _set(metabase: Metabase, path: str, wanted: dict[str, dict[str, Any]]) -> str:
    graph = metabase.get(path)
    if all(_has(graph["groups"].get(group, {}), rights) for group, rights in wanted.items()):
        return "as it was"
    metabase.put(path, {"revision": graph["revision"], "groups": wanted})
    return "changed"


def _has(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """A right that is not named is none."""
    return all(
        _has(found.get(key, {}), value) if isinstance(value, dict) else found.get(key, "no") in _same(value)
        for key, value in wanted.items()
    )


def _same(right: str) -> set[str]:
    return {"no", "none"} if right in ("no", "none") else {right}
