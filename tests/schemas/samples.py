"""The published examples, as the tests read them: (type, version, file name, JSON)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from ops.schemas import FOLDER, REQUESTS


@dataclass(frozen=True)
class Example:
    """One file of schemas/examples: `<type>.v<version>[.n].json`."""

    type: str
    version: int
    file: str
    value: Any

    def __str__(self) -> str:
        return self.file


def _example(path: Path) -> Example:
    type_, _, rest = path.name.partition(".v")
    return Example(type_, int(rest.split(".")[0]), path.name, orjson.loads(path.read_bytes()))


def _all() -> list[Example]:
    return [_example(path) for path in sorted((FOLDER / "examples").glob("*.v*.json"))]


FACTS = [e for e in _all() if e.type not in REQUESTS]
ASKED = [e for e in _all() if e.type in REQUESTS]
ENVELOPES = sorted((FOLDER / "examples").glob("envelope*.json"))
ENTRIES = sorted((FOLDER / "examples").glob("entry*.json"))


def ids(examples: list[Example]) -> list[str]:
    """Return the names under which pytest shows the examples."""
    return [e.file for e in examples]
