"""A small stage of its own on the run's broker."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from ops.embedded import EmbeddedKafka
from tests.log.harness import World


@pytest.fixture
async def world(kafka: EmbeddedKafka, topic_prefix: str) -> AsyncIterator[World]:
    """A world of one partition."""
    made = World(kafka.bootstrap, topic_prefix)
    yield made
    async with asyncio.timeout(20):
        await made.close()


@pytest.fixture
async def wide_world(kafka: EmbeddedKafka, topic_prefix: str) -> AsyncIterator[World]:
    """A world of two partitions."""
    made = World(kafka.bootstrap, topic_prefix, partitions=2)
    yield made
    async with asyncio.timeout(20):
        await made.close()
