"""Every published example is read to its struct and back to equal JSON, and obeys its published schema."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator, FormatChecker

from ops.schemas import FOLDER, REQUESTS
from schemas import registry
from schemas.entry import entry_from_wire
from schemas.envelope import Unreadable, from_wire, to_wire
from schemas.requests import asked
from tests.schemas.samples import ASKED, ENTRIES, ENVELOPES, FACTS, Example, ids


def problems(schema: str, value: Any) -> list[str]:
    """Return what a schema of schemas/json says against a value."""
    rules = orjson.loads((FOLDER / "json" / schema).read_bytes())
    Draft202012Validator.check_schema(rules)
    checker = Draft202012Validator(rules, format_checker=FormatChecker())
    return [f"{error.json_path}: {error.message}" for error in checker.iter_errors(value)]


def test_every_type_and_version_has_an_example() -> None:
    shown = {(e.type, e.version) for e in FACTS + ASKED}
    facts = {(name, v) for name, newest in registry.VERSION_OF.items() for v in range(1, newest + 1)}
    assert shown == facts | {(kind, 1) for kind in REQUESTS}


@pytest.mark.parametrize("example", FACTS, ids=ids(FACTS))
def test_a_fact_is_read_and_written_back_as_it_was(example: Example) -> None:
    fact = registry.fact_of(example.type, example.version, example.value)
    assert type(fact) is registry.CLASS_OF[example.type]
    if example.version == registry.VERSION_OF[example.type]:
        assert orjson.loads(to_wire(registry.decided(fact)))["data"] == example.value


@pytest.mark.parametrize("example", FACTS + ASKED, ids=ids(FACTS + ASKED))
def test_an_example_obeys_its_schema(example: Example) -> None:
    assert problems(f"{example.type}.v{example.version}.json", example.value) == []


@pytest.mark.parametrize("example", ASKED, ids=ids(ASKED))
def test_a_request_is_read_as_upstream_wrote_it(example: Example) -> None:
    request = asked(orjson.dumps(example.value))
    assert (request.type, request.v) == (example.type, example.version)
    assert request.data == example.value["data"]


@pytest.mark.parametrize("path", ENVELOPES, ids=lambda p: p.name)
def test_an_envelope_comes_back_equal_and_obeys_its_schema(path: Path) -> None:
    value = orjson.loads(path.read_bytes())
    envelope = from_wire(path.read_bytes())
    assert orjson.loads(to_wire(envelope)) == value
    assert problems("envelope.json", value) == []
    assert registry.fact_of(envelope.type, envelope.v, envelope.data)


@pytest.mark.parametrize("path", ENTRIES, ids=lambda p: p.name)
def test_an_entry_comes_back_equal_and_obeys_its_schema(path: Path) -> None:
    value = orjson.loads(path.read_bytes())
    entry = entry_from_wire(path.read_bytes())
    assert orjson.loads(to_wire(entry)) == value
    assert problems("entry.json", value) == []
    assert registry.fact_in(entry.seen)
    assert [registry.fact_in(record) for record in entry.decided]


@pytest.mark.parametrize("example", FACTS, ids=ids(FACTS))
def test_what_a_schema_requires_the_struct_requires_too(example: Example) -> None:
    rules = orjson.loads((FOLDER / "json" / f"{example.type}.v{example.version}.json").read_bytes())
    required = rules["$defs"][registry.CLASS_OF[example.type].__name__]["required"]
    for name in required:
        less = {key: value for key, value in example.value.items() if key != name}
        assert problems(f"{example.type}.v{example.version}.json", less)
        with pytest.raises(Unreadable, match=name):
            registry.fact_of(example.type, example.version, less)


def test_the_schema_check_of_this_module_can_fail() -> None:
    assert problems("send.lapsed.v1.json", {"ref": {"client": "acme"}})
    assert problems("claim.asked.v1.json", {"ref": {}, "attempt": "one", "clock": 1, "hand": "h"})
