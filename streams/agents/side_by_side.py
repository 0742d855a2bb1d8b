"""Jobs of one process that live and end together."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def side_by_side(*jobs: Coroutine[Any, Any, Any]) -> None:
    """Run until one ends, which ends the others. Raises what the first job, in their order, ended with."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception):
            raise error
