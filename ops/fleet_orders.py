"""Operators' stops: told to every partition that could claim or assign, without Postgres."""

from ops.fleet_plan import append
from schemas.fleet import StartOrdered, StopOrdered, StopScope
from schemas.ids import ClientId
from schemas.topics import DELIVERY_INPUTS, FLEET_INPUTS, partition_of
from streams.log.kafka import Writer
from streams.settings import Settings


async def order(settings: Settings, scope: StopScope, name: str, *, stopped: bool, by: str) -> None:
    """Publish a stop or a start: first to all delivery partitions, which claim, then to the fleet's.

    Raises AppendUncertain; ordering again is safe.
    """
    client = ClientId(name.partition("/")[0]) if scope in ("client", "campaign") else ClientId("")
    make = StopOrdered if stopped else StartOrdered
    fact = make(scope, name, by, client)
    writer = Writer(settings.connection)
    try:
        for partition in range(DELIVERY_INPUTS.partitions):
            await append(writer, settings, DELIVERY_INPUTS, fact, b"operator", partition, by)
        if client:
            places = [partition_of(client.encode(), FLEET_INPUTS.partitions)]
        else:
            places = list(range(FLEET_INPUTS.partitions))
        for partition in places:
            await append(writer, settings, FLEET_INPUTS, fact, client.encode() or b"operator", partition, by)
    finally:
        await writer.close()
