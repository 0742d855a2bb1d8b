"""How a Faust agent feeds a stage: one actor per partition, the raw record and nothing else."""

from datetime import UTC, datetime
from typing import Any

from streams.log.kafka import Record
from streams.log.stage import Stage


def _record(message: Any) -> Record:
    at = datetime.fromtimestamp(message.timestamp, UTC)
    return Record(message.topic, message.partition, message.offset, at, message.key, message.value)


def feed_inputs(app: Any, stage: Stage, topic: Any, name: str) -> None:
    """Declare the agent that passes each input record to the stage."""

    @app.agent(topic, name=name, concurrency=1, isolated_partitions=True)
    async def inputs(stream: Any) -> None:
        async for event in stream.events():
            await stage.take(_record(event.message))


def feed_ticks(app: Any, stage: Stage, topic: Any, name: str) -> None:
    """Declare the agent that passes each tick to the stage."""

    @app.agent(topic, name=name, concurrency=1, isolated_partitions=True)
    async def ticks(stream: Any) -> None:
        async for event in stream.events():
            await stage.tick(_record(event.message))
