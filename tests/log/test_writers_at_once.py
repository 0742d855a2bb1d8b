"""Several processes believe they own one partition: one journal, every input decided once, equal folds."""

import asyncio
from typing import Literal

import pytest

from streams.log import stage as stage_module
from tests.log.harness import OTHERS, Owner, World, order

Step = Literal["append", "table write", "forward", "position row"]


async def _work_through(owner: Owner, count: int) -> None:
    for offset in range(count):
        await owner.take(offset)
        if offset % 5 == 4:
            await owner.tick()


@pytest.mark.parametrize("count", [2, 3])
async def test_writers_at_once_decide_every_input_exactly_once(world: World, count: int) -> None:
    await world.put(*[f"i{n}" for n in range(24)], key="a")
    await world.put("b1+b2", "nothing", "b3", key="b")
    await world.owner("first").begin_fleet()
    owners = [await world.owner(f"w{n}").begin() for n in range(count)]
    await asyncio.gather(*(_work_through(owner, 27) for owner in owners))
    assert len({entry.by for entry in await world.entries()}) == count, "all of them wrote"
    await world.agrees(*owners)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["append", "table write", "forward", "position row"])
async def test_a_zombie_that_goes_on_at_any_step_changes_nothing(
    world: World, step: Step, when: Literal["before", "after"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_module, "POSITION_EVERY_ENTRIES", 1)
    topic, key = {
        "append": (world.places.journal, b""),
        "table write": (world.places.changelog, b"|tally|"),
        "forward": (world.prefix + OTHERS.name, b""),
        "position row": (world.places.changelog, b"|position|"),
    }[step]
    await world.put("i0", "i1", "i2", "i3", "i4+i5")
    zombie = await world.owner("zombie").begin_fleet()
    await zombie.take(0)
    await zombie.tick()
    hold = zombie.writer.hold(when, topic, key)
    last_breath = asyncio.create_task(_take_and_tick(zombie, 1))
    async with asyncio.timeout(10):
        await hold.reached.wait()
    owner = await world.owner("owner").begin()
    await owner.take(1, 2)
    await owner.tick()
    hold.go.set()
    await last_breath
    await _take_and_tick(zombie, 2)
    await _take_and_tick(zombie, 3)
    await _take_and_tick(owner, 3)
    await _take_and_tick(owner, 4)
    await world.agrees(owner, zombie)


async def _take_and_tick(owner: Owner, offset: int) -> None:
    await owner.take(offset)
    await owner.tick()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_of_two_owners_at_one_claim_only_the_one_whose_entry_counts_has_it(
    world: World, when: Literal["before", "after"]
) -> None:
    slow = await world.owner("slow").begin_fleet()
    quick = await world.owner("quick").begin_fleet()
    hold = slow.writer.hold(when, world.places.journal)
    asking = asyncio.create_task(slow.partition().ask(order("claim")))
    async with asyncio.timeout(10):
        await hold.reached.wait()
    quicks = await quick.partition().ask(order("claim"))
    hold.go.set()
    slows = await asking
    (counted,) = await world.journal()
    winner, loser = (quicks, slows) if when == "before" else (slows, quicks)
    assert winner is not None
    assert winner.id == counted.id
    assert loser is None
    world.given[0] = ["claim"]
    await world.agrees(slow, quick)


async def test_owners_that_claim_at_the_same_moment_never_both_have_it(world: World) -> None:
    owners = [await world.owner(f"w{n}").begin_fleet() for n in range(3)]
    for n in range(10):
        asked = [owner.partition().ask(order("claim", f"k{n}")) for owner in owners]
        got = [entry for entry in await asyncio.gather(*asked) if entry is not None]
        assert [entry.id for entry in got] == [(await world.journal())[-1].id]
    world.given[0] = ["claim"] * 10
    await world.agrees(*owners)


async def test_equal_keys_in_two_partitions_are_two_rows(wide_world: World) -> None:
    await wide_world.put("a", "b", key="same", partition=0)
    await wide_world.put("c", key="same", partition=1)
    owner = await wide_world.owner("owner").begin()
    await owner.take(0, 1, partition=0)
    await owner.take(0, partition=1)
    for number in (0, 1):
        await owner.tick(partition=number)
    assert (owner.tallies(0), owner.tallies(1)) == ({"same": ("a", "b")}, {"same": ("c",)})
    for number in (0, 1):
        await wide_world.agrees(owner, partition=number)


@pytest.mark.parametrize("step", ["append", "forward"])
async def test_while_one_step_of_a_partition_stands_nothing_else_of_it_is_decided(wide_world: World, step: str) -> None:
    await wide_world.put("i0", "i1", partition=0)
    await wide_world.put("j0", partition=1)
    owner = await wide_world.owner("owner").begin_fleet()
    topic = wide_world.places.journal if step == "append" else wide_world.prefix + OTHERS.name
    hold = owner.writer.hold("before", topic)
    first = asyncio.create_task(owner.take(0))
    async with asyncio.timeout(10):
        await hold.reached.wait()
    others = [
        asyncio.create_task(owner.take(1)),
        asyncio.create_task(owner.tick()),
        asyncio.create_task(_ask(owner)),
    ]
    await owner.take(0, partition=1)
    done, _ = await asyncio.wait(others, timeout=0.3)
    assert not done
    assert len(await wide_world.entries(0)) == (0 if step == "append" else 1)
    hold.go.set()
    await asyncio.gather(first, *others)
    wide_world.given[0].append("asked")
    for number in (0, 1):
        await wide_world.agrees(owner, partition=number)


async def _ask(owner: Owner) -> None:
    assert await owner.partition(0).ask(order("asked")) is not None
