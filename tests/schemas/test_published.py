"""What is committed below schemas/ is what the classes and the catalogue say, and a published example stays."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from ops import schemas as generator
from ops.schemas import FOLDER, Differs, asyncapi, differences, gaps, generated, main, write, yaml_lines
from schemas import registry
from schemas.topics import CATALOGUE


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the published files."""
    for part in ("json", "examples"):
        shutil.copytree(FOLDER / part, tmp_path / part)
    shutil.copy(FOLDER / "asyncapi.yaml", tmp_path)
    return tmp_path


def test_the_committed_files_are_up_to_date() -> None:
    assert differences() == []


def test_the_output_does_not_depend_on_the_run() -> None:
    code = "from ops.schemas import generated; print(hash(tuple(map(str, generated().items()))) and repr(generated()))"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(FOLDER.parent)},
        ).stdout
        for seed in ("1", "2")
    }
    assert runs == {repr(generated()).encode() + b"\n"}


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("json/send.requested.v1.json", "differs from the classes"),
        ("json/entry.json", "differs from the classes"),
        ("asyncapi.yaml", "differs from the classes"),
    ],
)
def test_a_changed_file_is_named_and_written_anew(copy: Path, file: str, says: str) -> None:
    (copy / file).write_text("{}")
    assert [line for line in differences(copy) if file in line and says in line]
    assert write(copy) == [f"schemas/{file}"]
    assert differences(copy) == []


def test_a_missing_file_and_one_too_many_are_named(copy: Path) -> None:
    (copy / "json" / "ticked.v1.json").unlink()
    (copy / "json" / "ticked.v7.json").write_text("{}")
    first, second = differences(copy)
    assert first.startswith("schemas/json/ticked.v1.json is missing")
    assert second.startswith("schemas/json/ticked.v7.json belongs to nothing")


def test_a_published_example_is_never_edited(copy: Path) -> None:
    example = copy / "examples" / "send.lapsed.v1.json"
    example.write_text(example.read_text().replace("onboarding", "other"))
    (copy / "examples" / "ticked.v1.json").unlink()
    said = "\n".join(differences(copy))
    assert "send.lapsed.v1.json was published and is edited" in said
    assert "ticked.v1.json was published and is gone" in said
    with pytest.raises(Differs, match="a new shape is a new version"):
        write(copy)


def test_a_new_example_must_be_published(copy: Path) -> None:
    (copy / "examples" / "ticked.v1.2.json").write_text("{}\n")
    assert [line for line in differences(copy) if "ticked.v1.2.json is not published yet" in line]
    assert write(copy) == ["schemas/examples/published.sha256"]
    assert differences(copy) == []


def test_the_schema_of_an_older_version_stays_as_it_was(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "VERSION_OF", {**registry.VERSION_OF, "ticked": 2})
    monkeypatch.setattr(registry, "UPCASTERS", {**registry.UPCASTERS, ("ticked", 1): dict})
    write(copy)
    assert differences(copy) == []
    assert (copy / "json" / "ticked.v2.json").exists()
    (copy / "json" / "ticked.v1.json").unlink()
    assert differences(copy) == ["schemas/json/ticked.v1.json is missing: restore it"]


def test_check_exits_1_when_something_differs(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--check"]) == 0
    monkeypatch.setattr(generator, "differences", lambda: differences(copy))
    (copy / "asyncapi.yaml").unlink()
    assert main(["--check"]) == 1
    assert "asyncapi.yaml is missing" in capsys.readouterr().out
    assert main(["--help-me"]) == 2


# ── upcasters ────────────────────────────────────────────────────────────────────────────────────


def test_the_chain_of_upcasters_has_no_gap() -> None:
    assert gaps(registry.VERSION_OF, registry.UPCASTERS) == []
    assert registry.VERSION_OF.keys() == registry.CLASS_OF.keys()


def test_a_planted_gap_is_found() -> None:
    versions = {"a.done": 4, "b.done": 1}
    assert gaps(versions, {("a.done", 1): dict, ("a.done", 3): dict}) == ["a.done: no upcaster from v2 to v3"]
    assert gaps(versions, {("a.done", n): dict for n in (1, 2, 3)}) == []
    extra = {("a.done", n): dict for n in (1, 2, 3, 4)} | {("b.done", 1): dict}
    assert gaps(versions, extra) == [
        "a.done: an upcaster from v4, which leads nowhere",
        "b.done: an upcaster from v1, which leads nowhere",
    ]


def test_an_old_version_is_raised_step_by_step_before_any_class_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def split(data: dict[str, Any]) -> dict[str, Any]:
        client, _, send_id = data["send"].partition("/")
        return {"client": client, "send_id": send_id}

    def name_who(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "by": "upstream"}

    monkeypatch.setattr(registry, "VERSION_OF", {**registry.VERSION_OF, "cancel.noted": 3})
    monkeypatch.setattr(registry, "UPCASTERS", {("cancel.noted", 1): split, ("cancel.noted", 2): name_who})
    newest = registry.fact_of("cancel.noted", 3, {"client": "acme", "send_id": "s1", "by": "upstream"})
    assert registry.fact_of("cancel.noted", 1, {"send": "acme/s1"}) == newest
    assert registry.fact_of("cancel.noted", 2, {"client": "acme", "send_id": "s1"}) == newest
    assert registry.decided(newest).v == 3


# ── the AsyncAPI document ────────────────────────────────────────────────────────────────────────


def references(value: Any) -> Iterator[str]:
    """Yield every $ref in a document."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_reference_of_the_document_leads_somewhere() -> None:
    document = asyncapi()
    found = list(references(document))
    assert found
    for reference in found:
        file, _, pointer = reference.partition("#")
        if file:
            assert orjson.loads((FOLDER / file).read_bytes())
            continue
        place = document
        for part in pointer.strip("/").split("/"):
            place = place[part]


def test_every_schema_is_closed_in_itself() -> None:
    for path in (FOLDER / "json").glob("*.json"):
        schema = orjson.loads(path.read_bytes())
        for reference in references(schema):
            assert reference.removeprefix("#/$defs/") in schema["$defs"], f"{path.name}: {reference}"


def test_every_topic_stands_in_the_document_with_all_that_the_catalogue_says() -> None:
    document = asyncapi()
    assert set(document["channels"]) == set(CATALOGUE)
    for topic in CATALOGUE.values():
        channel = document["channels"][topic.name]
        kafka = channel["bindings"]["kafka"]
        assert channel["messages"]
        assert (channel["description"], channel["x-key"]) == (topic.about, topic.key)
        assert kafka["partitions"] == topic.partitions
        assert kafka["topicConfiguration"]["retention.ms"] == int(topic.config()["retention.ms"])
        operations = [o for o in document["operations"].values() if o["channel"]["$ref"].endswith(f"/{topic.name}")]
        assert [o["action"] for o in operations].count("send") == len(topic.writers)
        assert [o["action"] for o in operations].count("receive") == len(topic.readers)
        assert {f"{fact}.v{registry.VERSION_OF[fact]}" for fact in topic.facts} <= set(channel["messages"])


def test_the_committed_yaml_says_what_the_document_says() -> None:
    assert yaml.safe_load((FOLDER / "asyncapi.yaml").read_text("utf-8")) == asyncapi()


def test_the_yaml_keeps_strings_apart_from_other_scalars() -> None:
    value = {"a": {"b.c": ["yes", 1, True, None], "$ref": "#/x: y"}, "empty": {}, "none": []}
    assert list(yaml_lines(value)) == [
        "a:",
        "  b.c:",
        '    - "yes"',
        "    - 1",
        "    - true",
        "    - null",
        '  "$ref": "#/x: y"',
        "empty: {}",
        "none: []",
    ]
