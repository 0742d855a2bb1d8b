"""Operators' orders, without Postgres: stops, told to every partition that could claim or assign; pauses of senders."""

from collections.abc import Iterable

from ops.fleet_file import Declared
from ops.fleet_plan import known, publish
from schemas.fleet import DomainDeclared, StartOrdered, StopOrdered, StopScope
from schemas.health import ListReleaseOrdered, PauseOrdered, ResumeOrdered, Scope
from schemas.ids import ClientId
from schemas.topics import DELIVERY_INPUTS, FLEET_INPUTS, partition_of
from streams.agents.facts import append
from streams.fleet.decide import declared_key
from streams.fleet.organisation import organisation_of
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
            await append(writer, settings, DELIVERY_INPUTS, fact, b"operator", by, partition=partition)
        if client:
            places = [partition_of(client.encode(), FLEET_INPUTS.partitions)]
        else:
            places = list(range(FLEET_INPUTS.partitions))
        for partition in places:
            await append(writer, settings, FLEET_INPUTS, fact, client.encode() or b"operator", by, partition=partition)
    finally:
        await writer.close()


async def owner_of(settings: Settings, scope: Scope, name: str) -> ClientId | None:
    """Return the client of a sender, a route named CLIENT/ROUTE; None when nothing of that name is in use.

    Raises JournalBroken, LogUnreachable.
    """
    return owner_among(await known(settings), scope, name)


def owner_among(facts: Iterable[Declared], scope: Scope, name: str) -> ClientId | None:
    """The same among these facts. A domain has a state, too, when only its sub-domains are declared."""
    for fact in facts:
        kind, id_ = declared_key(fact)
        names = [id_]
        if isinstance(fact, DomainDeclared):
            names += [fact.domain, organisation_of(fact.domain)]
        if kind == scope and name in names:
            return fact.client
    return None


async def order_sender(
    settings: Settings, client: ClientId, scope: Scope, name: str, reason: str, *, paused: bool, by: str
) -> None:
    """Publish a pause or a resume of a sender. Raises AppendUncertain; ordering again is safe."""
    names = {"client": "", "route": name.partition("/")[2]}
    make = PauseOrdered if paused else ResumeOrdered
    await publish(settings, [make(client, scope, names.get(scope, name), by, reason)], by=by)


async def release(settings: Settings, client: str, list_id: str, reason: str, *, by: str) -> None:
    """Publish that a list may go on. Raises AppendUncertain; ordering again is safe."""
    await publish(settings, [ListReleaseOrdered(ClientId(client), list_id, by, reason)], by=by)
