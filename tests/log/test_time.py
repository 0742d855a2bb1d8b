"""Time is a fact: ticks are fresh or nothing, and the time of entries never goes back."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from streams.log.stage import TICK_MAX_AGE
from tests.log.harness import Owner, TallyMind, World

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


async def _ticking(world: World) -> Owner:
    """An owner whose mind decides something at every tick, and whose clock says noon."""
    owner = world.owner("owner", TallyMind("tick"))
    owner.now = NOON
    return await owner.begin()


async def _ticks(world: World) -> int:
    return sum(fact.by == "tick" for fact in await world.facts())


async def test_a_fresh_tick_decides_and_its_time_is_the_entrys(world: World) -> None:
    owner = await _ticking(world)
    await owner.tick(NOON - timedelta(seconds=1), offset=4)
    (entry,) = await world.journal()
    assert (entry.at, entry.seen.type) == (NOON - timedelta(seconds=1), "ticked")
    assert entry.cause is not None
    assert (entry.cause.topic, entry.cause.offset) == (world.places.ticks, 4)


@pytest.mark.parametrize(("age", "decided"), [(timedelta(), 1), (TICK_MAX_AGE, 1), (TICK_MAX_AGE * 1.1, 0)])
async def test_a_tick_older_than_ten_seconds_is_skipped(world: World, age: timedelta, decided: int) -> None:
    owner = await _ticking(world)
    await owner.tick(NOON - age)
    assert await _ticks(world) == decided


async def test_a_tick_that_is_not_newer_than_the_last_is_skipped(world: World) -> None:
    owner = await _ticking(world)
    for second in (2, 2, 1, 3):
        await owner.tick(NOON - timedelta(seconds=5 - second), offset=second)
    assert [e.at for e in await world.journal()] == [NOON - timedelta(seconds=3), NOON - timedelta(seconds=2)]


async def test_ticks_that_the_engine_dropped_are_never_filled(world: World) -> None:
    owner = await _ticking(world)
    await owner.stage.send_ticks()
    for _ in range(3):
        await world.writer.append(world.places.ticks, 0, None, b"{}")
    (*_, last) = await world.records(world.places.ticks)
    owner.now = last.at
    await owner.stage.tick(last)
    assert await _ticks(world) == 1


async def test_a_tick_that_decides_nothing_is_not_journaled(world: World) -> None:
    owner = await world.owner("owner").begin()
    await owner.tick()
    await owner.tick()
    assert await world.entries() == []


async def test_an_input_that_decides_nothing_is_not_journaled_and_is_decided_again_to_nothing(world: World) -> None:
    await world.put("nothing", "nothing", "i0")
    first = await world.owner("first").begin_fleet()
    await first.take(0, 1)
    assert await world.entries() == []
    second = await world.owner("second").begin()
    await second.take(0, 1, 2)
    await world.agrees(second)


async def test_the_owner_writes_one_tick_for_each_partition(wide_world: World) -> None:
    owner = await wide_world.owner("owner").begin()
    await owner.stage.send_ticks()
    assert [len(await wide_world.records(wide_world.places.ticks, n)) for n in (0, 1)] == [1, 1]


async def test_no_partitions_tick_waits_for_anothers(wide_world: World) -> None:
    """Beside a busy disk a round of 32 took 8 seconds, and what time decides stood still as long."""
    owner = await wide_world.owner("owner").begin()
    both, append = asyncio.Barrier(2), owner.writer.append

    async def together(topic: str, partition: int, key: bytes | None, value: bytes) -> int:
        await both.wait()
        return await append(topic, partition, key, value)

    owner.writer.append = together  # type: ignore[method-assign]  # both are under way before one is answered
    async with asyncio.timeout(10):
        await owner.stage.send_ticks()
    assert [len(await wide_world.records(wide_world.places.ticks, n)) for n in (0, 1)] == [1, 1]


async def test_an_entrys_time_is_the_brokers_and_never_goes_back(world: World) -> None:
    await world.put("i0", "i1")
    (first, second) = await world.records(world.places.inputs)
    owner = world.owner("owner", TallyMind("tick"))
    await owner.begin()
    await owner.stage.take(first)
    ahead = second.at + timedelta(hours=1)
    owner.now = ahead
    await owner.tick(ahead)
    await owner.stage.take(second)
    assert [entry.at for entry in await world.journal()] == [first.at, ahead, ahead]
    heir = await world.owner("heir").begin()
    await world.put("i2")
    await heir.take(2)
    assert (await world.journal())[-1].at == ahead
    await world.agrees(heir, ticks=1)
