"""Plain Kafka under the stages: what an append answers, what reading by offset gives, what an error leaves behind."""

import asyncio
import os
import signal

import pytest

from ops.embedded import EmbeddedKafka
from streams.log.kafka import AppendUncertain, LogUnreachable, Reader, Writer
from streams.log.topics import create
from tests.log.harness import Owner, World, order


async def test_an_append_answers_the_offset_of_its_record(world: World) -> None:
    answered = [await world.writer.append(world.places.inputs, 0, b"k", b"%d" % n) for n in range(3)]
    assert answered == [0, 1, 2]
    assert [(r.offset, r.key, r.value) for r in await world.records(world.places.inputs)] == [
        (0, b"k", b"0"),
        (1, b"k", b"1"),
        (2, b"k", b"2"),
    ]


async def test_bounds_and_ends_are_the_first_offset_and_the_one_after_the_last(wide_world: World) -> None:
    topic, reader = wide_world.places.inputs, wide_world.reader
    assert await reader.bounds(topic, 0) == (0, 0)
    await wide_world.put("a", "b", "c")
    assert await reader.bounds(topic, 0) == (0, 3)
    wide_world.cut(topic, before=2)
    assert await reader.bounds(topic, 0) == (2, 3)
    assert await reader.ends([(topic, 0), (topic, 1)]) == {(topic, 0): 3, (topic, 1): 0}


async def test_one_gives_the_record_at_an_offset_or_none_when_it_is_gone(world: World) -> None:
    await world.put("a", "b")
    found = await world.reader.one(world.places.inputs, 0, 1)
    assert found is not None
    assert found.offset == 1
    world.cut(world.places.inputs, before=1)
    assert await world.reader.one(world.places.inputs, 0, 0) is None
    assert await world.reader.one(world.places.inputs, 0, 2) is None


async def test_reading_goes_over_chunks_and_gives_each_record_between_start_and_end_once(world: World) -> None:
    writes = [world.writer.append(world.places.inputs, 0, None, b"x" * 400) for _ in range(1200)]
    await asyncio.gather(*writes)
    chunks = [chunk async for chunk in world.reader.read(world.places.inputs, 0, 3, 1150)]
    assert len(chunks) > 1
    assert [record.offset for chunk in chunks for record in chunk] == list(range(3, 1150))
    assert [c async for c in world.reader.read(world.places.inputs, 0, 7, 7)] == []


async def test_records_that_are_gone_are_told_at_once_and_the_reader_goes_on(world: World) -> None:
    await world.put("a", "b", "c")
    world.cut(world.places.inputs, before=2)
    reader = Reader(world.connection, lanes=1)
    async with asyncio.timeout(10):
        with pytest.raises(LogUnreachable):
            async for _ in reader.read(world.places.inputs, 0, 0, 3):
                pass
        assert await reader.bounds(world.places.inputs, 0) == (2, 3)
    await reader.close()


async def test_a_reading_holds_no_lane_while_its_chunk_is_worked_on(world: World) -> None:
    await world.put("a", "b")
    reader = Reader(world.connection, lanes=1)
    async with asyncio.timeout(10):
        async for chunk in reader.read(world.places.inputs, 0, 0, 2):
            assert await reader.bounds(world.places.inputs, 0) == (0, 2)
            assert chunk
    await reader.close()


async def test_after_an_error_the_writer_goes_on_with_a_new_producer(world: World) -> None:
    topic = f"{world.prefix}narrow"
    create(world.connection, {topic: (1, {"max.message.bytes": "1000"})})
    assert await world.writer.append(topic, 0, None, b"first") == 0
    with pytest.raises(AppendUncertain):
        await world.writer.append(topic, 0, None, b"x" * 5000)
    assert await world.writer.append(topic, 0, None, b"second") == 1
    assert [r.value for r in await world.records(topic)] == [b"first", b"second"]


async def test_a_broker_that_stands_still_makes_the_append_uncertain_and_nothing_is_decided_twice(
    world: World, kafka: EmbeddedKafka
) -> None:
    await world.put("i0", "i1", "i2")
    owner = await world.owner("owner").begin_fleet()
    records = await world.records(world.places.inputs)
    await owner.stage.take(records[0])
    impatient = Writer(world.connection, timeout_s=0.4)
    assert await impatient.append(world.places.ticks, 0, None, b"{}") == 0
    _use(owner, impatient)
    os.kill(kafka.pid, signal.SIGSTOP)
    try:
        taking = asyncio.create_task(owner.stage.take(records[1]))
        with pytest.raises(AppendUncertain):
            await impatient.append(world.places.ticks, 0, None, b"{}")
        assert not taking.done()
    finally:
        os.kill(kafka.pid, signal.SIGCONT)
    async with asyncio.timeout(20):
        await taking
        await owner.stage.take(records[2])
    await world.agrees(owner)
    await impatient.close()


def _use(owner: Owner, writer: Writer) -> None:
    """Have the owner append through `writer`, keeping its rows where they are."""
    doors = owner.stage.doors
    owner.stage.doors = type(doors)(doors.reader, writer, doors.rows, doors.clock, doors.new_id, doors.by)


async def test_an_unreachable_broker_is_an_uncertain_append_and_an_unreachable_log(world: World) -> None:
    nowhere = type(world.connection)("127.0.0.1:9")
    writer, reader = Writer(nowhere, timeout_s=0.3), Reader(nowhere)
    with pytest.raises(AppendUncertain, match="does not answer"):
        await writer.append("x", 0, None, b"")
    with pytest.raises(LogUnreachable, match="does not answer"):
        await reader.bounds("x", 0)
    await reader.close()
    await writer.close()


async def test_a_claim_is_asked_of_a_partition_that_is_held(world: World) -> None:
    owner = await world.owner("owner").begin_fleet()
    partition = owner.partition()
    owner.stage.assigned([])
    with pytest.raises(LogUnreachable, match="not held here"):
        await partition.ask(order("claim"))
