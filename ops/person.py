"""All that is held about one person: the answer to a request for access (GDPR article 15)."""

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import orjson
import psycopg
from psycopg.rows import dict_row

from ops.journals import journal_entries
from schemas import registry
from schemas.ids import ClientId, Recipient
from schemas.registry import Fact
from schemas.sending import ContentRef, SendAdmitted
from schemas.topics import DELIVERY_JOURNAL, FLEET_JOURNAL, SEND_REQUESTS, Topic, partition_of
from streams.delivery.identity import delivery_key, recipients_of
from streams.log.kafka import Reader
from streams.log.position import Position
from streams.settings import Settings

TABLES = ("sends", "bounces", "complaints", "replies", "suppressions", "unsuppress_refusals")


async def everything(settings: Settings, address: str, step: Callable[[str], None]) -> dict[str, Any]:
    """Return what stands in journals, send-requests and Postgres about an address and its other spellings.

    Raises AddressInvalid, LogUnreachable, JournalBroken.
    """
    exact, loose = recipients_of(address, settings.fleet_key())
    who = {exact, loose}
    reader = Reader(settings.connection)
    try:
        home = partition_of(delivery_key(exact), DELIVERY_JOURNAL.partitions)
        step("the journal of the recipient")
        delivery, admitted = await _journal(settings, reader, DELIVERY_JOURNAL, home, who)
        clients = {fact.request.ref.client for fact in admitted}
        step("the journals of the clients")
        fleet = [
            line
            for partition in sorted(_partitions(clients))
            for line in (await _journal(settings, reader, FLEET_JOURNAL, partition, who))[0]
        ]
        step("requests that are still kept")
        requests = [await _request(settings, reader, fact.request.content) for fact in admitted]
    finally:
        await reader.close()
    return {
        "recipient": sorted(who),
        "requests": [request for request in requests if request is not None],
        "facts": [*delivery, *fleet],
        "postgres": _postgres(settings.database_url, who) if settings.database_url else {},
    }


def _partitions(clients: Iterable[ClientId]) -> set[int]:
    return {partition_of(client.encode(), FLEET_JOURNAL.partitions) for client in clients}


async def _journal(
    settings: Settings, reader: Reader, topic: Topic, partition: int, who: set[Recipient]
) -> tuple[list[dict[str, Any]], list[SendAdmitted]]:
    """Return the facts about these recipients; `who` grows by the spellings that the loose form covers."""
    name = settings.topic(topic)
    found: list[dict[str, Any]] = []
    admitted: list[SendAdmitted] = []
    async for entry, _offset in journal_entries(reader, name, partition, Position()):
        if entry is None:
            continue
        for decided in entry.decided:
            fact = registry.fact_in(decided)
            if isinstance(fact, SendAdmitted) and fact.request.recipient_loose in who:
                who.add(fact.request.ref.recipient)
                admitted.append(fact)
            if recipient_in(fact) in who:
                found.append({"at": entry.at, "journal": topic.name, "fact": decided.type, "data": decided.data})
    return found, admitted


def recipient_in(fact: Fact) -> str:
    """Return whom a fact is about, "" for nobody."""
    ref = getattr(getattr(fact, "request", fact), "ref", None) or getattr(fact, "ref", None)
    return str(getattr(ref or fact, "recipient", ""))


async def _request(settings: Settings, reader: Reader, content: ContentRef) -> Any:
    """Return what upstream asked, address and body, None when it is not kept any more."""
    record = await reader.one(settings.topic(SEND_REQUESTS), content.partition, content.offset)
    if record is None or record.value is None or hashlib.sha256(record.value).hexdigest() != content.sha256:
        return None
    return {"at": record.at, "request": orjson.loads(record.value)}


def _postgres(database_url: str, who: set[Recipient]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        for table in TABLES:
            sql = f"select * from {table} where recipient = any(%s)"
            found[table] = connection.execute(sql.encode(), [sorted(who)]).fetchall()
        sql = "select a.* from attempts a join sends s using (client, send_id) where s.recipient = any(%s)"
        found["attempts"] = connection.execute(sql, [sorted(who)]).fetchall()
    return found
