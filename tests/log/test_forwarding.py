"""Whoever folds an entry forwards its facts, in order and acknowledged, none lost; receivers ignore repeats."""

import asyncio
from dataclasses import replace
from typing import Literal

import pytest

from schemas.envelope import Origin
from streams.log import stage as stage_module
from streams.log.topics import CHANGELOG_CONFIG, create, describe
from tests.log.harness import BROKER_TIME, OTHERS, Lands, Owner, TallyMind, World, order, wire


async def test_facts_go_out_in_order_with_their_origin(world: World) -> None:
    await world.put("a+b+c", "nothing", "d")
    owner = await world.owner("owner").begin()
    await owner.take(0, 1, 2)
    sent = await world.envelopes(OTHERS.name)
    assert [(e.data["by"], e.origin) for e in sent] == [
        ("a", Origin(world.places.journal, 0, 1, 0)),
        ("b", Origin(world.places.journal, 0, 1, 1)),
        ("c", Origin(world.places.journal, 0, 1, 2)),
        ("d", Origin(world.places.journal, 0, 2, 0)),
    ]
    await world.agrees(owner)


async def test_a_new_owner_forwards_what_was_journaled_but_not_told(world: World) -> None:
    await world.put("a+b", "c")
    killed = await world.owner("killed").begin_fleet()
    hold = killed.writer.hold("before", world.prefix + OTHERS.name)
    taking = asyncio.create_task(killed.take(0))
    async with asyncio.timeout(10):
        await hold.reached.wait()
    taking.cancel()
    assert await world.heard() == []
    owner = await world.owner("owner").begin()
    await owner.take(1)
    assert await world.heard() == ["a", "b", "c"]
    await world.agrees(owner)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_rebalance_that_cancels_the_agent_while_it_forwards_loses_nothing(
    world: World, when: Literal["before", "after"]
) -> None:
    await world.put("a+b", "c")
    owner = await world.owner("owner").begin_fleet()
    hold = owner.writer.hold(when, world.prefix + OTHERS.name)
    taking = asyncio.create_task(owner.take(0))
    async with asyncio.timeout(10):
        await hold.reached.wait()
    owner.stage.revoked([0])
    taking.cancel()
    await asyncio.wait([taking])
    owner.assigned()
    await owner.take(1)
    assert await world.heard() == ["a", "b", "c"]
    await world.agrees(owner)


async def test_a_cancelled_forward_is_made_up_before_the_position_is_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_module, "POSITION_EVERY_ENTRIES", 1)
    await world.put("a+b")
    owner = await world.owner("owner").begin_fleet()
    hold = owner.writer.hold("before", world.prefix + OTHERS.name)
    taking = asyncio.create_task(owner.take(0))
    async with asyncio.timeout(10):
        await hold.reached.wait()
    taking.cancel()
    await asyncio.wait([taking])
    await owner.tick()
    position = await world.stored_position()
    assert position is not None
    assert position.seq == 1
    assert await world.heard() == ["a", "b"]
    await world.agrees(owner)


async def test_a_forward_without_an_answer_is_sent_again_before_anything_after_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_module, "RETRY_S", 0.01)
    await world.put("a+b", "c")
    owner = await world.owner("owner").begin()
    losses: list[Lands] = ["at once", "never", "after the next"]
    for lands in losses:
        owner.writer.lose(lands, world.prefix + OTHERS.name)
    await owner.take(0, 1)
    sent = [str(e.data["by"]) for e in await world.envelopes(OTHERS.name)]
    assert sent == ["a", "a", "a", "b", "c"]
    await world.agrees(owner)


async def _receiver(world: World, name: str) -> Owner:
    """A second stage whose inputs are what the first forwards."""
    topics = {part: f"{world.prefix}other-{part}" for part in ("journal", "ticks")}
    create(world.connection, dict.fromkeys(topics.values(), (1, BROKER_TIME)))
    changelog = f"{world.prefix}other-rows-changelog"
    create(world.connection, {changelog: (1, CHANGELOG_CONFIG)})
    inputs = world.prefix + OTHERS.name
    found = describe(world.connection, [inputs, topics["journal"]])
    ids = {name: topic.topic_id for name, topic in found.items() if topic is not None}
    places = replace(world.places, **topics, inputs=inputs, changelog=changelog, topic_ids=ids)
    owner = world.owner(name, TallyMind(forwarding=False), places=places)
    owner.assigned()
    return owner


async def test_a_receiver_ignores_what_its_origin_said_before(world: World) -> None:
    await world.put("a+b", "c", "d")
    first = await world.owner("first").begin_fleet()
    await first.take(0, 1)
    second = await world.owner("second").begin()  # its position row is the first one: it forwards all again
    await second.take(2)
    sent = await world.records(world.prefix + OTHERS.name)
    assert [str(e.data["by"]) for e in await world.envelopes(OTHERS.name)] == ["a", "b", "c", "a", "b", "c", "d"]
    receiver = await _receiver(world, "receiver")
    await receiver.take(*range(len(sent)))
    assert receiver.tallies() == {"k": ("a", "b", "c", "d")}
    source = f"{world.places.journal}/0"
    assert receiver.partition().position.origins == {source: (3, 0)}
    await world.agrees(first, second)


async def test_a_receivers_marks_are_part_of_its_journal_and_outlive_it(world: World) -> None:
    def said(by: str, partition: int, seq: int, n: int) -> bytes:
        return wire(order(by), Origin("elsewhere", partition, seq, n))

    async def put(value: bytes, label: str = "") -> None:
        await world.put_raw(value)
        world.given[0] += [label] if label else []

    await put(said("a", 0, 5, 0), "a")
    await put(said("b", 0, 5, 1), "b")
    await put(said("again", 0, 5, 0))
    await put(said("c", 1, 1, 0), "c")
    owner = await world.owner("owner").begin_fleet()
    await owner.take(0, 1, 2, 3)
    await put(said("again", 0, 5, 1))
    await put(said("older", 0, 4, 9))
    await put(said("d", 0, 6, 0), "d")
    heir = await world.owner("heir").begin()
    await heir.take(4, 5, 6)
    await world.agrees(heir)
