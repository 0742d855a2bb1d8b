"""Logs of the processes into the archive: whole JSON lines without addresses, in pieces named by their octets.

logs/MACHINE/FILE/BEGUN/FROM-TO.jsonl.gz       BEGUN: of the file's first line, another one after a rotation

A file that its process moved aside (FILE.old.log) goes on where FILE.log was: it begins with the same line.
"""

import gzip
import hashlib
import os
import re
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from adapters.interface import without_addresses
from adapters.objects import ObjectStore

MOST_BYTES = 8_000_000
ROTATED_AT = 20_000_000
_PIECE = re.compile(r"(\d{20})-(\d{20})\.jsonl\.gz")


def ship(store: ObjectStore, folder: Path, machine: str) -> int:
    """Archive what is new in the folder's *.log files and rotate those that are large; return how many pieces.

    Raises StoreFailed, OSError.
    """
    places = [(path, f"logs/{machine}/{path.stem.removesuffix('.old')}") for path in sorted(folder.glob("*.log"))]
    return sum(_ship_file(store, path, place) for path, place in places)


def _ship_file(store: ObjectStore, path: Path, place: str) -> int:
    pieces = 0
    with path.open("rb") as file:
        first = file.readline()
        if not first.endswith(b"\n"):
            return 0
        place = f"{place}/{hashlib.sha256(first).hexdigest()[:12]}"
        found = (_PIECE.fullmatch(stored.name.rpartition("/")[2]) for stored in store.list(f"{place}/"))
        at = max((int(piece[2]) for piece in found if piece), default=0)
        while lines := _whole_lines(file, at):
            store.put_new(f"{place}/{at:020d}-{at + len(lines):020d}.jsonl.gz", gzip.compress(_clean(lines), mtime=0))
            at += len(lines)
            pieces += 1
        size = os.fstat(file.fileno()).st_size
    if size == at and size > ROTATED_AT:
        os.truncate(path, 0)  # its process appends: it goes on at the beginning
    return pieces


def _whole_lines(file: BinaryIO, at: int) -> bytes:
    file.seek(at)
    raw = file.read(MOST_BYTES)
    return raw[: raw.rfind(b"\n") + 1]


def _clean(lines: bytes) -> bytes:
    """Keep the JSON lines; what a library wrote to standard error as it liked stays on its machine."""
    kept = []
    for line in lines.splitlines():
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(found, dict):
            kept.append(orjson.dumps(_cleaned(found)) + b"\n")
    return b"".join(kept)


def _cleaned(value: Any) -> Any:
    """Return the value without addresses, in texts, names and however deep."""
    match value:
        case str():
            return "\n".join(map(without_addresses, value.split("\n")))
        case dict():
            return {_cleaned(name): _cleaned(inner) for name, inner in value.items()}
        case list():
            return [_cleaned(inner) for inner in value]
    return value
