"""DMARC aggregate reports (RFC 7489 appendix C, RFC 9990), bare, as .gz or .zip, alone or attached to a message.

Whoever likes sends us these, so nothing is believed: no DOCTYPE, thus no entity, bounded decompression, bounded depth.
parsedmarc would bring 33 packages (one of them GPL, a second HTTP client, a database of places) for what is read here.
"""

import hashlib
import ipaddress
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal
from xml.parsers import expat

from adapters.reports.mime import Letter, attachments, read
from schemas.reputation import Disposition

MAX_OCTETS = 10 * 1024 * 1024
"""Of a message or file; mail systems take no more."""
MAX_XML = 24 * 1024 * 1024
MAX_RECORDS = 50_000
MAX_DEPTH = 12
MAX_TEXT = 1_000
MAX_FILES = 4  # in one archive
LONGEST = timedelta(days=40)
_CHUNK = 65_536
_ZIP, _GZIP = b"PK\x03\x04", b"\x1f\x8b"
_ZIP_HEAD = struct.Struct("<4s5H3I2H")  # a local file header (APPNOTE 4.3.7)
_ENCRYPTED, _STORED, _DEFLATED = 0x1, 0, 8
_FILE = re.compile(r"![\w.-]{1,255}!\d{9,13}!\d{9,13}(?:![\w.-]{1,80})?\.(?:xml|zip|gz|gzip|xml\.gz)\b", re.IGNORECASE)
_SUBJECT = re.compile(r"^\s*(?:\[[^\]]{0,60}\]\s*)?(?:dmarc\s+)?report[- ]domain\s*:", re.IGNORECASE)
_HINT = re.compile(rb"report[-_ ]domain|!\d{9,13}!\d{9,13}|=\?|filename\*|multipart/mixed|application/", re.IGNORECASE)
_DISPOSITIONS: tuple[Disposition, ...] = ("none", "pass", "quarantine", "reject")


class NotAReport(Exception):
    """What was given is no aggregate report; the text says why, without anything that it holds."""


@dataclass(frozen=True)
class Record:
    """Mails from one address that were judged alike. `passed`: the domains for which SPF or DKIM passed."""

    source: str  # IP address, "" when what stands there is none
    mails: int
    disposition: Disposition
    spf: bool  # aligned
    dkim: bool  # aligned
    header_from: str
    passed: tuple[str, ...]


@dataclass(frozen=True)
class AggregateReport:
    """One report. `skipped` counts the records without a number of mails."""

    org: str
    report_id: str
    domain: str
    policy: str
    begin: datetime
    end: datetime
    records: tuple[Record, ...]
    skipped: int


def looks_like_report(raw: bytes, letter: Letter | None = None) -> bool:
    """Whether a message says that it brings an aggregate report: by its subject or a file's name (RFC 9990).

    `letter` is the message taken apart, if it is already.
    """
    if _HINT.search(raw, 0, _CHUNK) is None:
        return False
    letter = letter or read(raw)
    if letter.content_type.lower().startswith("multipart/report"):
        return False  # a bounce or complaint, whatever it returns
    if _SUBJECT.match(letter.header("subject")):
        return True
    return any(_FILE.search(name) for name, _ in attachments(raw[:_CHUNK], _CHUNK))


def reports_in(raw: bytes) -> list[AggregateReport]:
    """Return every report of a message or file. Raises NotAReport when there is none, or none can be read."""
    if len(raw) > MAX_OCTETS:
        raise NotAReport(f"it has more than {MAX_OCTETS >> 20} MB")
    files = [raw] if _is_file(raw) else [octets for _, octets in attachments(raw, MAX_OCTETS) if _is_file(octets)]
    found: list[AggregateReport] = []
    why: list[str] = []
    left = _Left(MAX_XML)
    for octets in files[:MAX_FILES]:
        try:
            for chunks in _unpacked(octets):
                try:
                    found.append(_parsed(left.of(chunks)))
                except NotAReport as error:
                    why.append(str(error))
        except NotAReport as error:
            why.append(str(error))
    if not found:
        raise NotAReport(why[0] if why else "it has no file that is XML, gzip or zip")
    return found


@dataclass
class _Left:
    """How much XML one message may still unpack to, over all its files."""

    octets: int

    def of(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.octets -= len(chunk)
            if self.octets < 0:
                raise NotAReport(f"its XML has more than {MAX_XML >> 20} MB")
            yield chunk


# ── files ────────────────────────────────────────────────────────────────────────────────────────


def _is_file(octets: bytes) -> bool:
    return octets.startswith((_ZIP, _GZIP)) or _without_mark(octets).startswith(b"<")


def _without_mark(octets: bytes) -> bytes:
    return octets[:_CHUNK].removeprefix(b"\xef\xbb\xbf").lstrip()


def _unpacked(octets: bytes) -> Iterator[Iterator[bytes]]:
    """Yield the chunks of each file. Iterating raises NotAReport."""
    if octets.startswith(_ZIP):
        yield from _zipped(octets)
    elif octets.startswith(_GZIP):
        yield _inflated(octets, 0, zlib.MAX_WBITS | 16)
    else:
        yield iter([octets.removeprefix(b"\xef\xbb\xbf").lstrip()])


def _zipped(octets: bytes) -> Iterator[Iterator[bytes]]:
    """Read the archive along its local headers: its directory could name anything, and a cut-off one has none."""
    at = 0
    for _ in range(MAX_FILES):
        if len(octets) < at + _ZIP_HEAD.size:
            return
        _, _, flags, method, _, _, _, size, _, name, extra = _ZIP_HEAD.unpack_from(octets, at)
        start = at + _ZIP_HEAD.size + name + extra
        if flags & _ENCRYPTED or method not in (_STORED, _DEFLATED):
            raise NotAReport("its archive is encrypted, or packed in a way that nobody uses for reports")
        is_folder = octets[start - extra - 1 : start - extra] == b"/"
        if not is_folder:
            plain = iter([octets[start : start + size]] if size else [octets[start:]])
            yield plain if method == _STORED else _inflated(octets, start, -zlib.MAX_WBITS)
        at = octets.find(_ZIP, start + size)
        if at < 0:
            return


def _inflated(octets: bytes, start: int, bits: int) -> Iterator[bytes]:
    """Yield what is packed from `start` on, in bounded pieces. Raises NotAReport."""
    packed, at = zlib.decompressobj(bits), start
    while not packed.eof:
        given = octets[at : at + _CHUNK]
        try:
            piece = packed.decompress(given, _CHUNK)
        except zlib.error:
            raise NotAReport("its file is damaged") from None
        at += len(given) - len(packed.unconsumed_tail)
        if not (piece or given):
            return  # it ends too early: so does its XML, if anything is missing
        yield piece


# ── XML ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class _Reading:
    """What was read of a report so far. Names count without prefix: receivers write any namespace, or none."""

    path: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    length: int = 0
    head: dict[str, str] = field(default_factory=dict)
    row: dict[str, str] = field(default_factory=dict)
    passed: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    skipped: int = 0
    ended: bool = False

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        self.path.append(name.rpartition(":")[2].lower())
        self.text, self.length = [], 0
        if self.path[0] != "feedback":
            raise NotAReport("its XML is no DMARC report")
        if len(self.path) > MAX_DEPTH:
            raise NotAReport("its XML is deeper than a report's")
        match self.path[1:]:
            case ["record"]:
                self.row, self.passed = {}, []
            case ["record", "auth_results", "spf" | "dkim"]:
                self.row.pop("domain", None)
                self.row.pop("result", None)

    def said(self, text: str) -> None:
        if self.length < MAX_TEXT:
            self.text.append(text[:MAX_TEXT])
            self.length += len(text)

    def end(self, _name: str) -> None:
        value = "".join(self.text).strip()
        match self.path[1:]:
            case ["report_metadata", "org_name" | "report_id" | "email" as name]:
                self.head[name] = value
            case ["report_metadata", "date_range", "begin" | "end" as name]:
                self.head[name] = value
            case ["policy_published", "domain" | "p" as name]:
                self.head[name] = value
            case ["record", "row", "source_ip" | "count" as name]:
                self.row[name] = value
            case ["record", "row", "policy_evaluated", "disposition" | "dkim" | "spf" as name]:
                self.row[name] = value.lower()
            case ["record", "identifiers" | "identities", "header_from"]:
                self.row["header_from"] = value
            case ["record", "auth_results", "spf" | "dkim", "domain" | "result" as name]:
                self.row[name] = value
            case ["record", "auth_results", "spf" | "dkim"]:
                self._authenticated()
            case ["record"]:
                self._recorded()
            case []:
                self.ended = True
        self.path.pop()
        self.text, self.length = [], 0

    def _authenticated(self) -> None:
        if self.row.get("result", "").lower() == "pass" and len(self.passed) < 20:
            self.passed.append(_domain(self.row.get("domain", "")))

    def _recorded(self) -> None:
        mails = self.row.get("count", "")
        if not (mails.isascii() and mails.isdecimal() and len(mails) < 10):
            self.skipped += 1
            return
        if len(self.records) >= MAX_RECORDS:
            raise NotAReport(f"it has more than {MAX_RECORDS} records")
        said = self.row.get("disposition", "none")
        judged: Disposition = next((d for d in _DISPOSITIONS if d == said), "other")
        spf, dkim = (self.row.get(name) == "pass" for name in ("spf", "dkim"))
        source, sender = _ip(self.row.get("source_ip", "")), _domain(self.row.get("header_from", ""))
        passed = tuple(dict.fromkeys(name for name in self.passed if name))
        self.records.append(Record(source, int(mails), judged, spf, dkim, sender, passed))


def _forbidden(*_what: object) -> Literal[0]:
    raise NotAReport("its XML declares a document type: reports have none")


def _parsed(chunks: Iterator[bytes]) -> AggregateReport:
    """Return the report that these chunks are. Raises NotAReport."""
    reading, parser = _Reading(), expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = reading.start, reading.end
    parser.CharacterDataHandler = reading.said
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = _forbidden
    try:
        for chunk in chunks:
            parser.Parse(chunk, False)
            if reading.ended:
                break  # whatever follows is none of it
        if not reading.ended:
            parser.Parse(b"", True)
    except (expat.ExpatError, LookupError, ValueError):  # the last two: an encoding that is none
        if not reading.ended:
            raise NotAReport("its XML is broken, or ends too early") from None
    return _whole(reading)


def _whole(reading: _Reading) -> AggregateReport:
    head = {name: value[:200] for name, value in reading.head.items()}
    org = _line(head.get("org_name", "")) or _domain(head.get("email", "").rpartition("@")[2])
    domain, report_id = _domain(head.get("domain", "")), _number(head.get("report_id", ""))
    begin, end = _moment(head.get("begin", "")), _moment(head.get("end", ""))
    if not (org and domain and report_id):
        raise NotAReport("it does not say who reports, about which domain, or under which number")
    if begin is None or end is None or not begin <= end <= begin + LONGEST:
        raise NotAReport("it does not say of which time it speaks")
    policy = head.get("p", "").lower()
    policy = policy if policy in ("none", "quarantine", "reject") else ""
    return AggregateReport(org, report_id, domain, policy, begin, end, tuple(reading.records), reading.skipped)


def _line(text: str) -> str:
    """Return a name as it may stand in a fact: on one line, without an address."""
    kept = "".join(c if c.isprintable() else " " for c in text)
    return " ".join("<address>" if re.search(r"\S@\S", word) else word for word in kept.split())


def _number(text: str) -> str:
    """Return a report's number; one that holds an address by its hash, which is as good a name."""
    line = _line(text)
    return hashlib.sha256(text.encode()).hexdigest()[:32] if "<address>" in line else line


def _domain(text: str) -> str:
    name = text.strip().rstrip(".").lower()
    return name if re.fullmatch(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63}){1,20}", name) else ""


def _ip(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip("[] ")))
    except ValueError:
        return ""


def _moment(text: str) -> datetime | None:
    """Read seconds since 1970; some write milliseconds, others a fraction."""
    whole = text.partition(".")[0]
    if not (whole.isascii() and whole.isdecimal() and len(whole) in (9, 10, 13)):
        return None
    return datetime.fromtimestamp(int(whole[:10]), UTC)
