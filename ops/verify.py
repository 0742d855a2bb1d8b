"""`mailfleet verify`: folds the journals and compares with the Faust changelogs and with Postgres."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import orjson
import psycopg

from ops.journals import Folded, fold_partition
from schemas.sending import (
    AttemptAccepted,
    AttemptAssigned,
    AttemptMissed,
    AttemptNotSent,
    AttemptRefused,
    AttemptUnknown,
    SendRefused,
    SubmissionStarted,
)
from schemas.topics import DEAD_LETTERS
from streams.delivery.state import SendRow
from streams.log.kafka import Reader
from streams.log.rows import POSITION, key_parts, key_text
from streams.roles import ROLES, Role, changelog_name
from streams.settings import Settings

OUTCOME = {
    AttemptAssigned: "open",
    SubmissionStarted: "started",
    AttemptAccepted: "accepted",
    AttemptRefused: "refused",
    AttemptNotSent: "not_sent",
    AttemptMissed: "missed",
    AttemptUnknown: "unknown",
}


@dataclass
class Report:
    """What was compared and what differs; `behind` counts what is only not written yet."""

    entries: int = 0
    void: int = 0
    rows: int = 0
    sends: int = 0
    attempts: int = 0
    behind: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether everything agrees."""
        return not self.differences and not self.behind


async def verify(
    settings: Settings, *, postgres: bool = True, step: Callable[[str, int], None] = lambda _what, _n: None
) -> Report:
    """Compare; return what differs. Raises JournalBroken, LogUnreachable, psycopg.Error."""
    report = Report()
    reader = Reader(settings.connection)
    try:
        for role in ROLES:
            folded = await _role(settings, role, reader, report, step)
            if role == "delivery" and postgres:
                await asyncio.to_thread(_postgres, settings, folded, report)
        if postgres:
            await _letters(settings, reader, report)
    finally:
        await reader.close()
    return report


async def _role(
    settings: Settings, role: Role, reader: Reader, report: Report, step: Callable[[str, int], None]
) -> list[Folded]:
    done: list[Folded] = []
    for partition in range(ROLES[role].journal.partitions):
        folded = await fold_partition(settings, role, partition, reader, keep_facts=role == "delivery")
        report.entries += folded.entries
        report.void += folded.void
        await _changelog(settings, role, folded, reader, report)
        done.append(folded)
        step(role, partition + 1)
    return done


async def _changelog(settings: Settings, role: Role, folded: Folded, reader: Reader, report: Report) -> None:
    """Compare each row with the changelog record of the highest mark, as recovery would take it."""
    topic, partition = changelog_name(settings, role), folded.partition
    start, end = await reader.bounds(topic, partition)
    stored: dict[bytes, tuple[int, object]] = {}
    async for chunk in reader.read(topic, partition, start, end):
        for record in chunk:
            if record.key is None or record.value is None:
                report.differences.append(f"{topic}/{partition} offset {record.offset}: a record without key or value")
                continue
            value = orjson.loads(record.value)
            if value["m"] >= stored.get(record.key, (-1, None))[0]:
                stored[record.key] = (value["m"], value["r"])
    position = stored.pop(key_text(partition, POSITION), None)
    if position is not None and position[0] > folded.position.seq:
        report.differences.append(f"{topic}/{partition}: the position row is at {position[0]}, the journal ends before")
    for key, row in folded.rows.all():
        report.rows += 1
        mark, _ = folded.rows.held(key)
        raw = key_text(partition, key)
        held_mark, held = stored.pop(raw, (-1, None))
        if held_mark < mark:
            report.behind.append(f"{role} row {raw.decode()}: stored at mark {held_mark}, the journal is at {mark}")
        elif held_mark > mark:
            report.differences.append(f"{role} row {raw.decode()}: mark {held_mark} is past the journal's {mark}")
        elif held != orjson.loads(msgspec.json.encode(row)) and not _same(held, row):
            report.differences.append(f"{role} row {raw.decode()} differs at mark {mark}")
    for raw in stored:
        report.differences.append(f"{role} row {key_parts(raw)} stands in the changelog but not in the journal")


def _same(held: object, row: msgspec.Struct) -> bool:
    """Whether a stored row means the same (times may be written in more than one way)."""
    try:
        return bool(msgspec.convert(held, type(row)) == row)
    except msgspec.ValidationError:
        return False


def _postgres(settings: Settings, folded: list[Folded], report: Report) -> None:
    """Compare the read models with the delivery journal."""
    sends: dict[tuple[str, str, str], tuple[str, int]] = {}
    attempts: dict[tuple[str, str, int], str] = {}
    refusals = 0
    for part in folded:
        for (kind, _), row in part.rows.all():
            if kind == "send" and isinstance(row, SendRow):
                ref = row.request.ref
                sends[ref.client, ref.send_id, ref.recipient] = (row.state, row.attempt)
        for _, fact in part.facts:
            refusals += isinstance(fact, SendRefused)
            if isinstance(fact, AttemptAssigned):
                attempts[fact.ref.client, fact.ref.send_id, fact.assignment.attempt] = "open"
            elif type(fact) in OUTCOME:
                ref, attempt = fact.ref, fact.attempt  # type: ignore[attr-defined]  # all of OUTCOME have both
                attempts[ref.client, ref.send_id, attempt] = OUTCOME[type(fact)]
    report.sends, report.attempts = len(sends), len(attempts)
    with psycopg.connect(settings.database_url) as connection:
        rows = connection.execute("select client, send_id, recipient, state, attempts from sends").fetchall()
        _compare("send", sends, {(c, s, to): (state, n) for c, s, to, state, n in rows}, report)
        rows = connection.execute("select client, send_id, attempt, outcome from attempts").fetchall()
        _compare("attempt", attempts, {(c, s, n): outcome for c, s, n, outcome in rows}, report)
        counted = connection.execute("select count(*) from refusals").fetchone()
        if counted is not None and counted[0] != refusals:
            report.differences.append(f"Postgres has {counted[0]} refusals, the journal {refusals}")


def _compare(what: str, expected: Mapping[Any, object], found: Mapping[Any, object], report: Report) -> None:
    for key in expected.keys() | found.keys():
        if expected.get(key) != found.get(key):
            name = "/".join(map(str, key))
            report.differences.append(f"{what} {name}: the journal says {expected.get(key)}, Postgres {found.get(key)}")


async def _letters(settings: Settings, reader: Reader, report: Report) -> None:
    start, end = await reader.bounds(settings.topic(DEAD_LETTERS), 0)
    keys: set[tuple[str, int, int]] = set()
    async for chunk in reader.read(settings.topic(DEAD_LETTERS), 0, start, end):
        for record in chunk:
            data = orjson.loads(record.value or b"{}").get("data", {})
            keys.add((data.get("topic"), data.get("partition"), data.get("offset")))
    with psycopg.connect(settings.database_url) as connection:
        counted = connection.execute("select count(*) from dead_letters").fetchone()
    if counted is not None and counted[0] < len(keys):
        report.differences.append(f"Postgres has {counted[0]} dead letters, Kafka {len(keys)}")


async def verify_until_equal(settings: Settings, seconds: float, *, postgres: bool = True) -> Report:
    """Verify again until everything agrees or time is over; for a pipeline that has just become quiet."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        report = await verify(settings, postgres=postgres)
        if report.equal or asyncio.get_running_loop().time() > deadline:
            return report
        await asyncio.sleep(1)
