"""Dead letters as the topic has them, and the records behind them."""

from typing import Any

from schemas.envelope import Unreadable, from_wire
from schemas.topics import DEAD_LETTERS
from streams.log.kafka import Reader, Record, Writer
from streams.settings import Settings

SHOWN_BYTES = 400


async def letters(settings: Settings, *, with_record: bool = False) -> list[dict[str, Any]]:
    """Return each dead letter once: place, reason, size; with the start of its record if asked and still kept."""
    reader = Reader(settings.connection)
    found: dict[str, dict[str, Any]] = {}
    try:
        topic = settings.topic(DEAD_LETTERS)
        start, end = await reader.bounds(topic, 0)
        async for chunk in reader.read(topic, 0, start, end):
            for record in chunk:
                letter = _letter(record)
                if letter is not None:
                    found[letter["place"]] = letter
        if with_record:
            for letter in found.values():
                record_behind = await _record(reader, letter["place"])
                raw = b"" if record_behind is None else record_behind.value or b""
                letter["record"] = raw[:SHOWN_BYTES].decode("utf-8", "replace") or "(not kept any more)"
    finally:
        await reader.close()
    return list(found.values())


def _letter(record: Record) -> dict[str, Any] | None:
    try:
        data = from_wire(record.value).data
    except Unreadable:
        return None  # a record in dead-letters that is no letter: the projector counts it
    place = f"{data['topic']}/{data['partition']}/{data['offset']}"
    return {"place": place, "reason": data["reason"], "size": data.get("size_bytes", 0), "at": record.at}


async def _record(reader: Reader, place: str) -> Record | None:
    topic, partition, offset = place.rsplit("/", 2)
    return await reader.one(topic, int(partition), int(offset))


async def retry(settings: Settings, place: str) -> bool:
    """Append the record behind a dead letter to its topic again; False when there is none."""
    if place not in {letter["place"] for letter in await letters(settings)}:
        return False
    reader, writer = Reader(settings.connection), Writer(settings.connection)
    try:
        record = await _record(reader, place)
        if record is None or record.value is None:
            return False
        await writer.append(record.topic, record.partition, record.key, record.value)
    finally:
        await reader.close()
        await writer.close()
    return True
