"""One segment of the archive: records of one topic partition as compressed JSON lines, sealed where they are private.

The first line is the header; every other line is one record as Kafka had it, void journal entries included. `chain`
is a running HMAC over the lines of the partition from the generation's first record on: it depends on the records
alone, not on where segments are cut, so that two archivers at once, or one that is killed, do no harm.
"""

import base64
import gzip
import hashlib
import hmac
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SEALED = b"MFA1"
NO_KEY = b"mailfleet"
_NAME = re.compile(r"(?P<topic>[^/]+)/(?P<id>[^/]+)/(?P<partition>\d{5})/(?P<first>\d{20})-(?P<last>\d{20})\.jsonl\.gz")


class ArchiveBroken(Exception):
    """What stands in the archive cannot be what was written there. The text says which object and what to do."""


@dataclass(frozen=True)
class Kept:
    """One Kafka record as the archive keeps it; `at_ms` is Kafka's timestamp."""

    offset: int
    at_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Header(msgspec.Struct, frozen=True):
    """The first line of a segment. It answers for the offsets first..last; `lost` of them Kafka had deleted before."""

    topic: str
    topic_id: str
    partition: int
    first: int
    last: int
    records: int
    from_ms: int
    to_ms: int
    before: str
    after: str
    lost: int = 0
    format: int = 1


@dataclass(frozen=True)
class SegmentName:
    """What a segment's name says."""

    topic: str
    topic_id: str
    partition: int
    first: int
    last: int
    sealed: bool = False

    def __str__(self) -> str:
        """Return the object's name."""
        place = f"{self.topic}/{self.topic_id}/{self.partition:05d}"
        return f"{place}/{self.first:020d}-{self.last:020d}.jsonl.gz{'.aes' if self.sealed else ''}"


def segment_name(text: str) -> SegmentName | None:
    """Return what the name says, None when it is not a segment's."""
    found = _NAME.fullmatch(text.removesuffix(".aes"))
    if found is None:
        return None
    numbers = int(found["partition"]), int(found["first"]), int(found["last"])
    return SegmentName(found["topic"], found["id"], *numbers, sealed=text.endswith(".aes"))


def line_of(record: Kept) -> bytes:
    """Return the record's line: o offset, t milliseconds, k key, v value, h headers; `b` names what is base64."""
    line: dict[str, Any] = {"o": record.offset, "t": record.at_ms}
    coded = []
    for name, raw in (("k", record.key), ("v", record.value)):
        try:
            line[name] = None if raw is None else raw.decode()
        except UnicodeDecodeError:
            line[name] = base64.b64encode(raw or b"").decode()
            coded.append(name)
    if coded:
        line["b"] = coded
    if record.headers:
        line["h"] = [[name, base64.b64encode(value).decode()] for name, value in record.headers]
    return orjson.dumps(line)


def record_in(line: bytes) -> Kept:
    """Return the record of a line. Raises ValueError or KeyError."""
    found = orjson.loads(line)
    coded = found.get("b", ())

    def raw(name: str) -> bytes | None:
        text = found[name]
        return None if text is None else base64.b64decode(text) if name in coded else text.encode()

    headers = tuple((name, base64.b64decode(value)) for name, value in found.get("h", ()))
    return Kept(found["o"], found["t"], raw("k"), raw("v"), headers)


def chain_begin(topic: str, topic_id: str, partition: int) -> str:
    """Return the chain before a generation's first record."""
    return hashlib.sha256(f"{topic}/{topic_id}/{partition}".encode()).hexdigest()


def chained(before: str, lines: Sequence[bytes], key: bytes | None) -> str:
    """Return the chain after these lines."""
    chain, secret = bytes.fromhex(before), key or NO_KEY
    for line in lines:
        chain = hmac.digest(secret, chain + line, "sha256")
    return chain.hex()


def encode(header: Header, lines: Sequence[bytes], key: bytes | None, name: str) -> bytes:
    """Return the object: gzip, and with a key AES-256-GCM around it, bound to the object's name."""
    raw = gzip.compress(b"\n".join((msgspec.json.encode(header), *lines, b"")), compresslevel=6, mtime=0)
    if key is None:
        return raw
    nonce = os.urandom(12)
    return SEALED + key_id(key) + nonce + AESGCM(key).encrypt(nonce, raw, name.encode())


def decode(raw: bytes, key: bytes | None, name: str) -> tuple[Header, list[bytes]]:
    """Return (header, lines) of a segment. Raises ArchiveBroken."""
    try:
        plain = gzip.decompress(_opened(raw, key, name) if name.endswith(".aes") else raw)
        first, *lines = plain.split(b"\n")
        header = msgspec.json.decode(first, type=Header)
    except (OSError, EOFError, msgspec.DecodeError) as error:
        raise ArchiveBroken(f"{name} cannot be read ({error}): fetch an older version of it from the store.") from error
    lines = lines[:-1]
    if len(lines) != header.records:
        raise ArchiveBroken(f"{name} has {len(lines)} records, its header says {header.records}")
    return header, lines


def _opened(raw: bytes, key: bytes | None, name: str) -> bytes:
    if key is None:
        raise ArchiveBroken(f"{name} is sealed: set ARCHIVE_KEY to the secret that holds its key.")
    magic, id_, nonce, sealed = raw[:4], raw[4:12], raw[12:24], raw[24:]
    if magic != SEALED or id_ != key_id(key):
        raise ArchiveBroken(f"{name} was sealed with another key: set ARCHIVE_KEY to that one.")
    try:
        return AESGCM(key).decrypt(nonce, sealed, name.encode())
    except InvalidTag as error:
        raise ArchiveBroken(f"{name} was changed since it was sealed: fetch an older version of it.") from error


def key_id(key: bytes) -> bytes:
    """Return the 8 bytes by which a sealed object names its key."""
    return hashlib.sha256(b"archive key id" + key).digest()[:8]
