"""Bad input among good: each gets its answer or its dead letter, nothing is lost, everything behind it goes on."""

import asyncio
from typing import Any

import orjson
import pytest

from ops import receiver
from ops.letters import letters
from ops.site import Site
from schemas.envelope import from_wire
from schemas.topics import SEND_REQUESTS, SEND_RESULTS
from streams.log.kafka import Reader, Writer
from tests.faults.story import Story, fleet_text, requests

BASIS = {"type": "express_consent", "source": "form", "captured_at": "2026-01-15T09:00:00Z"}
GOOD: dict[str, Any] = {
    "client": "acme",
    "campaign": "all",
    "to": "person@company.test",
    "subject": "Hello",
    "text": "Hello\n{{unsubscribe_url}}\n{{postal_address}}\n",
    "basis": BASIS,
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "stranger": ({"client": "nobody"}, "unknown_client"),
    "no-campaign": ({"campaign": "else"}, "unknown_campaign"),
    "no-recipient": ({"to": "nobody at all"}, "invalid"),
    "no-subject": ({"subject": "  "}, "invalid"),
    "two-lines": ({"headers": {"X-Note": "a\r\nBcc: other@company.test"}}, "invalid"),
    "no-time": ({"not_before": "next week"}, "invalid"),
    "too-large": ({"text": "x" * 710_000}, "too_large"),
    "no-basis": ({"basis": None}, "no_basis"),
    "long-ago": ({"expires_at": "2026-01-01T00:00:00Z"}, "expired"),
}
UNREADABLE = (
    b"not json at all",
    b"[1, 2]",
    b'{"type": "send", "v": 1, "data": {"client": "acme"}}',
    b'{"type": "send", "v": 1, "data": {"client": "acme", "send_id": "has spaces"}}',
    b'{"type": "cancel", "v": 1, "data": {"client": "acme"}}',
    b"\xff\xfe",
)


@pytest.fixture
def story(site: Site, database: str) -> Story:
    """A fleet that is at work."""
    made = Story(site, database)
    made.begin(fleet_text(20))
    return made


async def _publish(site: Site, raws: list[bytes]) -> None:
    writer = Writer(site.settings.connection)
    try:
        for raw in raws:  # one partition: each bad one stands before good ones
            await writer.append(site.settings.topic(SEND_REQUESTS), 0, None, raw)
    finally:
        await writer.close()


async def _results(site: Site) -> list[dict[str, Any]]:
    reader = Reader(site.settings.connection)
    found: list[dict[str, Any]] = []
    try:
        for partition in range(SEND_RESULTS.partitions):
            topic = site.settings.topic(SEND_RESULTS)
            start, end = await reader.bounds(topic, partition)
            async for chunk in reader.read(topic, partition, start, end):
                found += [from_wire(record.value).data for record in chunk]
    finally:
        await reader.close()
    return found


def _asked(send_id: str, **fields: Any) -> bytes:
    return orjson.dumps({"type": "send", "v": 1, "data": {**GOOD, "send_id": send_id, **fields}})


def test_each_bad_request_is_answered_and_the_good_ones_behind_it_are_sent(story: Story) -> None:
    raws: list[bytes] = []
    for number, (name, (fields, _)) in enumerate(REFUSED.items()):
        raws += [UNREADABLE[number % len(UNREADABLE)], _asked(name, **fields), _asked(f"good-{number}")]
    raws += [
        _asked("good-0"),
        _asked("good-1", text=GOOD["text"] + "and more"),
        _asked("good-2", to="other@company.test"),
    ]
    asyncio.run(_publish(story.site, raws))
    story.asked = 2 * len(REFUSED) + 3
    found = story.check(unknown_allowed=False)
    assert found["accepted"] == len(REFUSED)
    reasons = {r["send_id"]: r["reason"] for r in asyncio.run(_results(story.site)) if r["state"] == "refused"}
    assert {name: reasons.get(name) for name in REFUSED} == {name: reason for name, (_, reason) in REFUSED.items()}
    refused = story.query(  # the other recipient's partition may be the same: refused at once, or turned away
        "select send_id, reason from refusals where send_id like 'good-%%' union all "
        "select send_id, reason from sends where state = 'refused' and send_id like 'good-%%' order by 1"
    )
    assert refused == [("good-0", "duplicate"), ("good-1", "duplicate"), ("good-2", "invalid")]
    dead = asyncio.run(letters(story.site.settings))
    assert len(dead) == len(REFUSED)
    assert all(letter["reason"] for letter in dead)
    assert max(receiver.copies(story.site.received).values()) == 1


def test_what_no_stage_can_read_becomes_a_dead_letter_and_the_inputs_behind_it_go_on(story: Story) -> None:
    async def poison() -> None:
        writer = Writer(story.site.settings.connection)
        try:
            for topic in ("delivery-inputs", "fleet-inputs"):
                for partition in range(4):
                    name = f"{story.site.settings.prefix}{topic}"
                    await writer.append(name, partition, b"k", b'{"id": "x", "type": "from.the.future"}')
                    await writer.append(name, partition, None, b"\x00\x01")
        finally:
            await writer.close()

    asyncio.run(poison())
    story.ask(requests(40))
    found = story.check(unknown_allowed=False)
    assert found["accepted"] == 40
    story.wait(lambda: len(asyncio.run(letters(story.site.settings))) >= 16, 60, "16 dead letters")
    assert len(asyncio.run(letters(story.site.settings))) == 16
