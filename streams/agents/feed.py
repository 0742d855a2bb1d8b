"""How a Faust agent feeds a stage: one actor per partition, the raw record and nothing else."""

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

from streams.log.kafka import Record
from streams.log.stage import Stage

_at_work: set[asyncio.Task[None]] = set()


def _record(message: Any) -> Record:
    at = datetime.fromtimestamp(message.timestamp, UTC)
    return Record(message.topic, message.partition, message.offset, at, message.key, message.value)


async def whole(work: Coroutine[Any, Any, None]) -> bool:
    """Let one step come to its end whatever happens to the agent; return whether the agent goes on.

    At a rebalance Faust cancels the actors of revoked partitions. An actor that ends by CancelledError counts
    as crashed, and a few of them at once end the agent for good while its process lives on.
    """
    task = asyncio.get_running_loop().create_task(work)
    _at_work.add(task)
    task.add_done_callback(_at_work.discard)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        return False
    return True


def feed_inputs(app: Any, stage: Stage, topic: Any, name: str) -> None:
    """Declare the agent that passes each input record to the stage."""

    @app.agent(topic, name=name, concurrency=1, isolated_partitions=True)
    async def inputs(stream: Any) -> None:
        async for event in stream.events():
            if not await whole(stage.take(_record(event.message))):
                return


def feed_ticks(app: Any, stage: Stage, topic: Any, name: str) -> None:
    """Declare the agent that passes each tick to the stage."""

    @app.agent(topic, name=name, concurrency=1, isolated_partitions=True)
    async def ticks(stream: Any) -> None:
        async for event in stream.events():
            if not await whole(stage.tick(_record(event.message))):
                return
