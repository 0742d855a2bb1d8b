"""A step of a stage comes to its end though its agent is cancelled, and the agent ends without a crash."""

import asyncio

import pytest

from streams.agents.feed import whole


async def test_a_cancelled_agent_returns_and_its_step_goes_on_to_the_end() -> None:
    began, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def step() -> None:
        began.set()
        await may_end.wait()
        ended.set()

    async def agent() -> str:
        return "goes on" if await whole(step()) else "returned"

    actor = asyncio.create_task(agent())
    await began.wait()
    actor.cancel()
    assert await actor == "returned", "no CancelledError leaves it"
    assert not ended.is_set()
    may_end.set()
    await asyncio.wait_for(ended.wait(), 1)


async def test_an_agent_goes_on_after_a_step_and_a_steps_error_is_its_own() -> None:
    async def good() -> None:
        await asyncio.sleep(0)

    async def bad() -> None:
        raise RuntimeError("broken")

    assert await whole(good())
    with pytest.raises(RuntimeError, match="broken"):
        await whole(bad())
