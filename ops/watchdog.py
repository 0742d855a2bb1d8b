"""Ends a worker that a fresh process cures: inputs grow while journals stand still, or a row could not be stored."""

import asyncio
import logging
import os

from streams.app import Worker
from streams.log.kafka import LogUnreachable

log = logging.getLogger(__name__)

LOOK_S = 5.0
PATIENCE_S = 120.0


async def watch(worker: Worker) -> None:
    """Look at lag and progress; end the process when nothing moves for two minutes though there is work."""
    still_since: float | None = None
    last = (-1, -1)
    while True:
        await asyncio.sleep(LOOK_S)
        stage = worker.stage
        if any(p.restart for p in stage.partitions.values()):
            log.critical("a partition stopped in a way that a fresh process cures: ending, to be started anew")
            os._exit(1)
        agents = worker.app.agents.values()
        if worker.app.crashed or any(a.supervisor is not None and a.supervisor.crashed for a in agents):
            log.critical("the engine or one of its agents ended for good: ending, to be started anew")
            os._exit(1)
        ready = [p for p in stage.partitions.values() if p.ready]
        progress = (sum(p.position.offset for p in ready), sum(sum(p.causes.values()) for p in ready))
        try:
            ends = await worker.reader.ends([(stage.places.inputs, p.number) for p in ready]) if ready else {}
        except LogUnreachable:
            still_since = None  # Kafka is down: waiting is right
            continue
        lag = any(ends[stage.places.inputs, p.number] > p.causes[stage.places.inputs] + 1 for p in ready)
        now = asyncio.get_running_loop().time()
        if not lag or progress != last:
            still_since = None
        elif still_since is None:
            still_since = now
        elif now - still_since > PATIENCE_S:
            log.critical("inputs wait and nothing moved for %.0f s: ending, to be started anew", PATIENCE_S)
            os._exit(1)
        last = progress
