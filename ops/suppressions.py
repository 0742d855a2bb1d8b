"""Orders about who gets no mail, from addresses, keyed hashes and CSV files, for the partitions that decide them."""

import asyncio
import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import psycopg

from ops.fleet_file import FleetFileWrong
from schemas.entry import Entry, JournalBroken, journal_entry
from schemas.ids import ClientId, DomainName, Recipient
from schemas.registry import fact_in
from schemas.reports import (
    DomainSuppressOrdered,
    RecipientUnsuppressed,
    SuppressOrdered,
    UnsuppressOrdered,
    UnsuppressRefused,
)
from schemas.sending import SuppressionReason
from schemas.topics import DELIVERY_INPUTS, DELIVERY_JOURNAL, partition_of
from streams.agents.facts import append
from streams.delivery.identity import AddressInvalid, delivery_key, domain_of, normalise, recipients_of
from streams.log.kafka import Reader, Writer
from streams.settings import Settings

COLUMNS = ("recipient", "domain", "client", "reason", "rule", "ordered_by", "since")
REASONS: tuple[SuppressionReason, ...] = get_args(SuppressionReason)
ANSWER_WITHIN_S = 15.0
_RECIPIENT = re.compile(r"[0-9a-f]{64}")
_HELD = """
select recipient, '' as domain, client, reason, rule, ordered_by, since from suppressions where until is null
union all
select '', domain, client, 'manual', reason, ordered_by, changed_at from suppressed_domains where suppressed
order by since, recipient, domain
"""
Order = SuppressOrdered | UnsuppressOrdered | DomainSuppressOrdered


def domain_in(text: str) -> DomainName:
    """Return the domain of "@domain". Raises AddressInvalid."""
    return domain_of(normalise(f"any{text.strip()}"))


def suppression_of(
    who: str, client: ClientId, reason: SuppressionReason, rule: str, by: str, key: bytes
) -> SuppressOrdered | DomainSuppressOrdered:
    """Return the order for an address or "@domain". Raises AddressInvalid.

    A list that a provider keeps is taken the same way: its reason, and the route's name as the rule.
    """
    if who.strip().startswith("@"):
        return DomainSuppressOrdered(domain_in(who), client, True, rule, by)
    return SuppressOrdered(*recipients_of(who, key), client, reason, rule, by)


# ── CSV ──────────────────────────────────────────────────────────────────────────────────────────


def read_suppressions(path: Path, key: bytes, by: str) -> list[SuppressOrdered | DomainSuppressOrdered]:
    """Read a CSV of address, recipient (its keyed hash) or domain, with client, reason and rule.

    An address becomes its keyed hash here. A reason of the closed list stays what it is, other words are a rule of
    the reason "manual". Raises FleetFileWrong with every wrong line.
    """
    found: list[SuppressOrdered | DomainSuppressOrdered] = []
    wrong: list[str] = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if not {"address", "recipient", "domain"} & set(reader.fieldnames or ()):
            raise FleetFileWrong(
                f"{path}: a column address is missing (or recipient, or domain); the first line has the columns' names "
                f"with commas between, it is {','.join(reader.fieldnames or ())!r}; nothing is ordered"
            )
        for row in reader:
            try:
                found.append(_order(row, key, by))
            except AddressInvalid as error:
                wrong.append(f"{path} line {reader.line_num}: {error}")
    if wrong:
        raise FleetFileWrong("\n".join([*wrong, "nothing is ordered"]))
    return found


def _order(row: dict[str, Any], key: bytes, by: str) -> SuppressOrdered | DomainSuppressOrdered:
    client, said = ClientId((row.get("client") or "").strip()), (row.get("reason") or "imported").strip()
    reason: SuppressionReason = next((r for r in REASONS if r == said), "manual")
    rule = (row.get("rule") or f"imported: {said}").strip()
    address, hashed = (row.get("address") or "").strip(), (row.get("recipient") or "").strip().lower()
    domain = (row.get("domain") or "").strip()
    if [bool(address), bool(hashed), bool(domain)].count(True) != 1:
        raise AddressInvalid("a line names exactly one address, recipient or domain")
    if hashed:
        if not _RECIPIENT.fullmatch(hashed):
            raise AddressInvalid("a recipient is a keyed hash of 64 hex digits")
        return SuppressOrdered(Recipient(hashed), Recipient(hashed), client, reason, rule, by)
    return suppression_of(address or f"@{domain.removeprefix('@')}", client, reason, rule, by, key)


def held(database_url: str) -> list[dict[str, Any]]:
    """Return every suppression that holds, as Postgres has it: keyed hashes, no addresses."""
    with psycopg.connect(database_url) as connection:
        return [dict(zip(COLUMNS, row, strict=True)) for row in connection.execute(_HELD)]


# ── publishing ───────────────────────────────────────────────────────────────────────────────────


async def publish(settings: Settings, orders: Iterable[Order], by: str) -> list[tuple[int, int]]:
    """Publish each order to its recipient's partition, a domain's to all; return the (partition, offset) of each.

    Raises AppendUncertain; publishing again is safe.
    """
    writer = Writer(settings.connection)
    written: list[tuple[int, int]] = []
    try:
        for order in orders:
            for key, partition in _places(order):
                offset = await append(writer, settings, DELIVERY_INPUTS, order, key, by, partition=partition)
                written.append((partition, offset))
    finally:
        await writer.close()
    return written


def _places(order: Order) -> Sequence[tuple[bytes, int]]:
    count = DELIVERY_INPUTS.partitions
    if isinstance(order, DomainSuppressOrdered):
        return [(b"operator", partition) for partition in range(count)]
    key = delivery_key(order.recipient)
    return [(key, partition_of(key, count))]


async def take_back(settings: Settings, order: UnsuppressOrdered) -> str | None:
    """Publish and wait for the delivery stage's answer: "" for yes, else why not; None when none came in time.

    Raises AppendUncertain, LogUnreachable, JournalBroken.
    """
    journal = settings.topic(DELIVERY_JOURNAL)
    reader = Reader(settings.connection)
    try:
        ((_, partition),) = _places(order)
        _, position = await reader.bounds(journal, partition)
        ((_, offset),) = await publish(settings, [order], order.by)
        deadline = asyncio.get_running_loop().time() + ANSWER_WITHIN_S
        while asyncio.get_running_loop().time() < deadline:
            _, end = await reader.bounds(journal, partition)
            async for chunk in reader.read(journal, partition, position, end):
                for record in chunk:
                    entry = journal_entry(record.value, f"{journal}/{partition} offset {record.offset}")
                    if entry.cause is not None and entry.cause.offset == offset:
                        return _answer(entry)
            position = end
            await asyncio.sleep(0.2)
    finally:
        await reader.close()
    return None


def _answer(entry: Entry) -> str:
    for decided in entry.decided:
        match fact_in(decided):
            case UnsuppressRefused(why=why):
                return why
            case RecipientUnsuppressed():
                return ""
    raise JournalBroken(f"entry {entry.id} answers an order to take a suppression back with neither yes nor no")
