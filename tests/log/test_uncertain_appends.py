"""An append without a usable answer: it counts by its own id, wherever its record lands."""

import asyncio

import pytest

from streams.log.kafka import AppendUncertain, Writer
from tests.log.harness import Lands, World, order

LANDS: list[Lands] = ["at once", "before the next", "after the next", "never"]


@pytest.mark.parametrize("lands", LANDS)
async def test_an_input_whose_append_timed_out_is_decided_once_wherever_the_record_lands(
    world: World, lands: Lands
) -> None:
    await world.put("i0", "i1", "i2+i3")
    owner = await world.owner("owner").begin()
    await owner.take(0)
    owner.writer.lose(lands, world.places.journal)
    await owner.take(1, 2)
    written = len(await world.entries())
    assert written == (4 if lands in ("before the next", "after the next") else 3)
    await world.agrees(owner)


@pytest.mark.parametrize("lands", LANDS)
async def test_a_claim_whose_append_timed_out_is_a_yes_only_if_that_very_entry_counts(
    world: World, lands: Lands
) -> None:
    owner = await world.owner("owner").begin_fleet()
    owner.writer.lose(lands, world.places.journal)
    entry = await owner.partition().ask(order("claim"))
    if lands == "after the next":  # the lost record has not landed when the read back looks, so one more must come
        await owner.partition().ask(order("more"))
    (counted, *_) = await world.journal()
    if lands == "before the next":
        assert entry is None, "the same facts under another id are a loss"
        assert counted.id == "owner-1"
    else:
        assert entry is not None
        assert entry.id == counted.id
    world.given[0] = ["claim", "more"] if lands == "after the next" else ["claim"]
    await world.agrees(owner)


async def test_another_owners_entry_with_the_same_facts_is_no_success(world: World) -> None:
    slow = await world.owner("slow").begin_fleet()
    quick = await world.owner("quick").begin_fleet()
    slow.writer.lose("at once", world.places.journal)
    hold = slow.writer.hold("before", world.places.journal)
    asking = asyncio.create_task(slow.partition().ask(order("claim")))
    async with asyncio.timeout(10):
        await hold.reached.wait()
    assert await quick.partition().ask(order("claim")) is not None
    hold.go.set()
    assert await asking is None
    world.given[0] = ["claim"]
    await world.agrees(slow, quick)


async def test_two_lost_answers_in_a_row_and_a_rival_between_leave_one_decision(world: World) -> None:
    await world.put("i0", "i1", "i2")
    owner = await world.owner("owner").begin_fleet()
    rival = await world.owner("rival").begin_fleet()
    owner.writer.lose("before the next", world.places.journal)
    owner.writer.lose("after the next", world.places.journal)
    await owner.take(0)
    await rival.take(0, 1)
    await owner.take(1, 2)
    await rival.take(2)
    await world.agrees(owner, rival)


async def test_an_answer_without_an_offset_is_no_answer(world: World) -> None:
    class Answer:
        offset = -1

    class Producer:
        """aiokafka's door, as it answers when the broker called the record a duplicate."""

        async def send_and_wait(self, *_args: object, **_options: object) -> Answer:
            return Answer()

        async def stop(self) -> None:
            """Nothing to stop."""

    class Answered(Writer):
        async def _current(self) -> Producer:
            return Producer()

    with pytest.raises(AppendUncertain, match="without an offset"):
        await Answered(world.connection).append("t", 0, None, b"")
