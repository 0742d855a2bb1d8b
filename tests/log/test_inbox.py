"""Inputs are read by offset, not by trust: what the engine drops, repeats or cannot read."""

import asyncio

import pytest
from aiokafka import AIOKafkaProducer

from schemas import registry
from schemas.sending import InputsLost, LetterDied
from streams.log import stage as stage_module
from tests.log.harness import World, order, wire


async def _labels(world: World) -> list[str]:
    return [fact.by for fact in await world.facts()]


async def test_inputs_that_the_engine_dropped_are_decided_in_order_before_the_next(world: World) -> None:
    await world.put(*[f"i{n}" for n in range(8)])
    owner = await world.owner("owner").begin()
    await owner.take(0, 3, 7)
    assert await _labels(world) == [f"i{n}" for n in range(8)]
    await world.agrees(owner)


async def test_inputs_that_the_engine_repeats_are_decided_once(world: World) -> None:
    await world.put("i0", "i1", "nothing", "i2")
    owner = await world.owner("owner").begin()
    await owner.take(0, 1, 0, 2, 2, 3, 1, 3)
    await world.agrees(owner)


async def test_control_markers_are_legal_gaps(world: World) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=world.connection.bootstrap, transactional_id=f"{world.prefix}tx", enable_idempotence=True
    )
    await producer.start()
    for label in ("i0", "i1", "i2"):
        async with producer.transaction():
            await producer.send_and_wait(world.places.inputs, wire(order(label)), partition=0)
        world.given[0].append(label)
    await producer.stop()
    offsets = [r.offset for r in await world.records(world.places.inputs)]
    _, end = await world.reader.bounds(world.places.inputs, 0)
    assert (offsets, end) == ([0, 2, 4], 6), "a marker stands behind each record"
    async with asyncio.timeout(8):
        only_a_marker = [chunk async for chunk in world.reader.read(world.places.inputs, 0, 5, 6)]
    assert [record for chunk in only_a_marker for record in chunk] == []
    owner = await world.owner("owner").begin()
    async with asyncio.timeout(20):
        await owner.take(0, 4)
        await world.put("i3")
        await owner.take(6)
    assert await _labels(world) == ["i0", "i1", "i2", "i3"]
    await world.agrees(owner)


async def test_inputs_that_retention_took_are_recorded_as_lost_and_the_partition_goes_on(world: World) -> None:
    await world.put(*[f"i{n}" for n in range(6)])
    owner = await world.owner("owner").begin()
    await owner.take(0)
    world.cut(world.places.inputs, before=4)
    await owner.take(5)
    _, lost, *_ = await world.journal()
    assert [registry.fact_in(d) for d in lost.decided] == [InputsLost(world.places.inputs, 0, 1, 4)]
    assert lost.cause is not None
    assert lost.cause.offset == 3
    assert await _labels(world) == ["i0", "i4", "i5"]
    world.given[0] = ["i0", "i4", "i5"]
    await world.agrees(owner)


async def test_what_cannot_be_read_goes_to_dead_letters_and_blocks_nothing(world: World) -> None:
    await world.put("i0")
    await world.put_raw(b"a secret that is no JSON")
    await world.put_raw(wire(order("x")).replace(b"cancel.ordered", b"cancel.unheard"))
    await world.put("i1")
    owner = await world.owner("owner").begin()
    await owner.take(0, 1, 2, 3)
    assert await _labels(world) == ["i0", "i1"]
    first, second = [registry.fact_of(e.type, e.v, e.data) for e in await world.envelopes("dead-letters")]
    assert isinstance(first, LetterDied)
    assert isinstance(second, LetterDied)
    assert (first.topic, first.partition, first.offset) == (world.places.inputs, 0, 1)
    assert (second.offset, second.reason) == (2, "unknown type 'cancel.unheard'")
    assert "secret" not in str(await world.envelopes("dead-letters"))
    await world.agrees(owner)


async def test_inputs_that_the_engine_never_delivers_are_caught_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.put("i0")
    owner = await world.owner("owner").begin()
    await owner.take(0)
    await world.put("i1", "nothing", "i2")
    await owner.stage.watch_lag()
    await owner.stage.watch_lag()
    assert await _labels(world) == ["i0"], "a lag of a moment is the engine's to work off"
    monkeypatch.setattr(stage_module, "LAG_PATIENCE_S", 0.0)
    await owner.stage.watch_lag()
    await owner.stage.watch_lag()
    assert await _labels(world) == ["i0", "i1", "i2"]
    assert owner.partition().decided == 4
    await world.agrees(owner)


async def test_an_entry_that_a_zombie_got_in_is_found_without_any_input(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_module, "LAG_PATIENCE_S", 0.0)
    zombie = await world.owner("zombie").begin_fleet()
    owner = await world.owner("owner").begin_fleet()
    assert await zombie.partition().ask(order("of the zombie")) is not None
    assert owner.tallies() == {}
    await owner.stage.watch_lag()
    await owner.stage.watch_lag()
    assert owner.tallies() == {"k": ("of the zombie",)}
    world.given[0] = ["of the zombie"]
    await world.agrees(owner, zombie)


async def test_filling_while_another_owner_writes_needs_no_second_reader_to_get_on(world: World) -> None:
    await world.put(*[f"i{n}" for n in range(6)])
    owner = await world.owner("owner", lanes=1).begin()
    await owner.take(0)
    rival = await world.owner("rival").begin()
    await rival.take(1)
    async with asyncio.timeout(8):
        await owner.take(5)
    await world.agrees(owner, rival)
