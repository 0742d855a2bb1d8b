"""Writes the published language: JSON Schemas, the AsyncAPI document, and the list of published examples.

`python -m ops.schemas` writes them, `--check` only names what differs and exits 1 then. The schema of an older
version stays as it was committed: its class is gone, its records are not.
"""

import hashlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import msgspec
import orjson

from schemas import (
    dns,
    entry,
    envelope,
    fleet,
    health,
    mail,
    policy,
    registry,
    reports,
    reputation,
    requests,
    sending,
    telling,
)
from schemas.topics import CATALOGUE, MAX_RECORD_BYTES, Topic

FOLDER = Path(__file__).parent.parent / "schemas"
PUBLISHED = Path("examples") / "published.sha256"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
REQUESTS: Mapping[str, type[msgspec.Struct]] = {"send": requests.SendRequest, "cancel": requests.CancelRequest}
REQUEST_VERSION = 1
REQUEST_ID = r"^[A-Za-z0-9_.:-]{1,128}$"
"""The rule of schemas.requests for client and send_id; a type alone cannot say it."""

_STRUCTS = {
    name: cls
    for module in (sending, fleet, dns, mail, reports, reputation, policy, health, telling, requests, envelope, entry)
    for name, cls in vars(module).items()
    if isinstance(cls, type) and issubclass(cls, msgspec.Struct)
}


class Differs(Exception):
    """What is committed is not what would be written; every line of the text names a file."""


# ── JSON Schemas ─────────────────────────────────────────────────────────────────────────────────


def schema_of(cls: type[msgspec.Struct], title: str) -> dict[str, Any]:
    """Return the class's JSON Schema; times carry their format, which msgspec leaves out."""
    (schema,), components = msgspec.json.schema_components([cls], ref_template="#/$defs/{name}")
    return {"$schema": DIALECT, "title": title, **schema, "$defs": _described(components)}


def _described(components: Mapping[str, Any]) -> dict[str, Any]:
    for name, component in components.items():
        component["description"] = inspect.cleandoc(component.get("description", ""))
        for field in msgspec.structs.fields(_STRUCTS[name]):
            if datetime in (field.type, *get_args(field.type)):
                _mark_time(component["properties"][field.encode_name])
    return dict(components)


def _mark_time(field: dict[str, Any]) -> None:
    for part in (field, *field.get("anyOf", ())):
        if part.get("type") == "string":
            part["format"] = "date-time"


def request_schema(kind: str) -> dict[str, Any]:
    """Return the schema of a whole record of send-requests: {type, v, data}."""
    inner = schema_of(REQUESTS[kind], f"{kind} v{REQUEST_VERSION}")
    named = inner["$defs"][REQUESTS[kind].__name__]["properties"]
    named["client"]["pattern"] = named["send_id"]["pattern"] = REQUEST_ID
    data: dict[str, Any] = {"$ref": inner.pop("$ref")}
    if kind == "cancel":
        one_of = [{"required": [name]} for name in ("send_id", "thread_id", "campaign")]
        data = {"allOf": [data], "oneOf": one_of}
    shape = _object({"type": {"const": kind}, "v": {"const": REQUEST_VERSION}, "data": data})
    return {"$schema": inner.pop("$schema"), "title": inner.pop("title"), **shape, **inner}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def json_schemas() -> dict[str, dict[str, Any]]:
    """Return {file name in schemas/json: schema} of all that a class stands behind today."""
    made = {
        "envelope.json": schema_of(envelope.Envelope, "envelope"),
        "entry.json": schema_of(entry.Entry, "journal entry"),
    }
    made |= {f"{kind}.v{REQUEST_VERSION}.json": request_schema(kind) for kind in REQUESTS}
    for name, cls in registry.CLASS_OF.items():
        version = registry.VERSION_OF[name]
        made[f"{name}.v{version}.json"] = schema_of(cls, f"{name} v{version}")
    return made


def older_schemas() -> set[str]:
    """Return the files in schemas/json that belong to older versions of a fact."""
    return {f"{name}.v{v}.json" for name, newest in registry.VERSION_OF.items() for v in range(1, newest)}


def gaps(versions: Mapping[str, int], upcasters: Mapping[tuple[str, int], object]) -> list[str]:
    """Return one sentence for each missing step from version 1 to the newest, and for each step too many."""
    needed = {(name, step) for name, newest in versions.items() for step in range(1, newest)}
    missing = [f"{name}: no upcaster from v{step} to v{step + 1}" for name, step in sorted(needed - set(upcasters))]
    extra = [f"{name}: an upcaster from v{step}, which leads nowhere" for name, step in sorted(set(upcasters) - needed)]
    return missing + extra


# ── AsyncAPI ─────────────────────────────────────────────────────────────────────────────────────


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document over the topic catalogue."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "mailfleet",
            "version": "1",
            "description": "Every topic with its key, partitions, retention, writers, readers and messages. "
            "Upstream writes send-requests and reads send-results; the rest is mailfleet's own.",
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in CATALOGUE.values()},
        "operations": dict(o for topic in CATALOGUE.values() for o in _operations(topic)),
        "components": {"messages": {name: message for t in CATALOGUE.values() for name, message in _messages(t)}},
    }


def _channel(topic: Topic) -> dict[str, Any]:
    return {
        "address": topic.name,
        "description": topic.about,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name, _ in _messages(topic)},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": {
                    "cleanup.policy": ["delete"],
                    "retention.ms": -1 if topic.retention_ms is None else topic.retention_ms,
                    "max.message.bytes": MAX_RECORD_BYTES,
                },
                "bindingVersion": "0.5.0",
            }
        },
        "x-key": topic.key,
        "x-writers": list(topic.writers),
        "x-readers": list(topic.readers),
        "x-time": "LogAppendTime" if topic.broker_time else "CreateTime",
    }


def _operations(topic: Topic) -> Iterator[tuple[str, dict[str, Any]]]:
    channel = {"$ref": f"#/channels/{topic.name}"}
    for action, verb, roles in (("send", "writes", topic.writers), ("receive", "reads", topic.readers)):
        for role in roles:
            name = f"{role.replace(' ', '-')}-{verb}-{topic.name}"
            yield name, {"action": action, "channel": channel, "summary": f"{role} {verb} {topic.name}"}


def _messages(topic: Topic) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (name, message): facts in envelopes, requests as upstream writes them, entries, empty ticks."""
    if topic.journal:
        yield "journal-entry", _message("journal-entry", entry.Entry, {"$ref": "json/entry.json"})
    elif topic.name == "send-requests":
        for kind, cls in REQUESTS.items():
            name = f"{kind}.v{REQUEST_VERSION}"
            yield name, _message(kind, cls, {"$ref": f"json/{name}.json"})
    elif topic.name.endswith("-ticks"):
        yield "tick", _message("tick", sending.Ticked, {"type": "object"})
    for fact in topic.facts:
        for version in range(1, registry.VERSION_OF[fact] + 1):
            name = f"{fact}.v{version}"
            inside = {
                "type": {"const": fact},
                "v": {"const": version},
                "data": {"$ref": f"json/{name}.json"},
            }
            shape = {"allOf": [{"$ref": "json/envelope.json"}, _object(inside)]}
            yield name, _message(fact, registry.CLASS_OF[fact], shape)


def _message(name: str, cls: type[msgspec.Struct], payload: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "summary": inspect.getdoc(cls), "payload": payload}


def yaml_lines(value: Any, indent: str = "") -> Iterator[str]:
    """Yield `value` as YAML: block mappings and lists, scalars in JSON's notation, which YAML shares."""
    for head, inner in _items(value):
        if isinstance(inner, dict | list) and inner:
            yield f"{indent}{head}"
            yield from yaml_lines(inner, indent + "  ")
        else:
            yield f"{indent}{head} {orjson.dumps(inner).decode()}"


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        yield from (("-", item) for item in value)
        return
    for key, item in value.items():
        plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", key)
        yield f"{key if plain else orjson.dumps(key).decode()}:", item


# ── files ────────────────────────────────────────────────────────────────────────────────────────


def generated() -> dict[Path, str]:
    """Return {path below schemas/: text} of every generated file."""
    files = {
        Path("json") / name: orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode() + "\n"
        for name, schema in json_schemas().items()
    }
    head = "# Generated by `python -m ops.schemas` from the topic catalogue and the fact registry.\n"
    files[Path("asyncapi.yaml")] = head + "\n".join(yaml_lines(asyncapi())) + "\n"
    return files


def published(folder: Path) -> dict[str, str]:
    """Return {example: SHA-256} as it was published."""
    path = folder / PUBLISHED
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return {name: digest for digest, name in (line.split() for line in lines)}


def examples(folder: Path) -> dict[str, str]:
    """Return {example: SHA-256} as the files are now."""
    found = sorted((folder / "examples").glob("*.json"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def differences(folder: Path = FOLDER) -> list[str]:
    """Return one sentence for each file that is not what it should be."""
    wrong = gaps(registry.VERSION_OF, registry.UPCASTERS) + _edited(folder)
    files = generated()
    for path, text in files.items():
        if not (folder / path).exists():
            wrong.append(f"schemas/{path} is missing: run `python -m ops.schemas`")
        elif (folder / path).read_text("utf-8") != text:
            wrong.append(f"schemas/{path} differs from the classes: run `python -m ops.schemas`")
    there = {path.name for path in (folder / "json").glob("*.json")}
    known = {path.name for path in files} | older_schemas()
    wrong += [f"schemas/json/{name} belongs to nothing: remove it" for name in sorted(there - known)]
    wrong += [f"schemas/json/{name} is missing: restore it" for name in sorted(older_schemas() - there)]
    new = sorted(set(examples(folder)) - set(published(folder)))
    return wrong + [f"schemas/examples/{name} is not published yet: run `python -m ops.schemas`" for name in new]


def _edited(folder: Path) -> list[str]:
    now = examples(folder)
    return [
        f"schemas/examples/{name} was published and is {'edited' if name in now else 'gone'}: restore it; a new "
        "shape is a new version with its own example"
        for name, digest in published(folder).items()
        if now.get(name) != digest
    ]


def write(folder: Path = FOLDER) -> list[str]:
    """Write what differs; return the names written. Raises Differs when a published example was edited."""
    edited = _edited(folder)
    if edited:
        raise Differs("\n".join(edited))
    lines = [f"{digest}  {name}" for name, digest in examples(folder).items()]
    files = generated() | {PUBLISHED: "".join(f"{line}\n" for line in lines)}
    done = []
    for path, text in files.items():
        to = folder / path
        if not to.exists() or to.read_text("utf-8") != text:
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_text(text, "utf-8")
            done.append(f"schemas/{path}")
    return done


def main(arguments: list[str]) -> int:
    """Run the command."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m ops.schemas [--check]", file=sys.stderr)
        return 2
    if arguments:
        wrong = differences()
        print("\n".join(wrong) if wrong else "schemas/ is up to date")
        return 1 if wrong else 0
    try:
        done = write()
    except Differs as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(done) if done else "nothing to do")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
