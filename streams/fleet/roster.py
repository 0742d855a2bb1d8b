"""A client's roster: who rests, who waits in reserve, and what can be carried against what is wanted.

Looked at once an hour; facts come only when something changes. rotation.py and reserve.py say who and why.
"""

from collections.abc import Iterable
from datetime import date, datetime

from schemas.health import RestBegan
from schemas.ids import ClientId, MailboxAddress
from schemas.policy import Policy
from schemas.registry import Fact
from streams.fleet import reserve, rotation
from streams.fleet.organisation import organisation_of
from streams.fleet.pace import local_day, local_hour
from streams.fleet.places import Place, bounds_of, demand_of, places_of
from streams.fleet.state import FleetState


def roster(state: FleetState, at: datetime) -> list[Fact]:
    """Return what changes in the rosters of the clients whose hour has not been looked at yet."""
    found: list[Fact] = []
    for client in state.clients():
        row = state.client(client)
        if row is None or not row.declared.active:
            continue
        hour = local_hour(at, row.declared.pace)
        if state.roster_hours.get(client) != hour:
            made = _of_client(state, client, local_day(at, row.declared.pace), at)
            found += made
            if not made:  # what is decided may not count: then it is decided again
                state.roster_hours[client] = hour
    return found


def _of_client(state: FleetState, client: ClientId, day: str, at: datetime) -> list[Fact]:
    policy, known = state.policy(client), state.roster_of(client)
    if not policy.rotation.enabled and not policy.reserve.share and not known.in_reserve:
        return []
    places = places_of(state, client, policy, at)
    rests: list[RestBegan] = []
    if known.day != day:
        rests = rotation.rests(client, places, policy, date.fromisoformat(day), at)
        places = _with_rests(places, rests)
    demand = demand_of(state, client, day, at)
    bounds = bounds_of(state, client, policy, places)
    changes = reserve.changes(client, places, policy, demand, new_day=known.day != day, bounds=bounds)
    moved = {change.mailbox: change.now == "reserve" for change in changes}
    places = [_moved(place, moved, policy) for place in places]
    planned = reserve.capacity(client, places, policy, demand, day, known, bounds)
    told = [planned] if known.day != day or planned.reserve != known.reserve else []
    return [*rests, *changes, *told]


def _with_rests(places: Iterable[Place], rests: Iterable[RestBegan]) -> list[Place]:
    names = {rest.name for rest in rests}
    return [
        place._replace(resting=True, today=0)
        if names & {place.mailbox, place.domain, organisation_of(place.domain)}
        else place
        for place in places
    ]


def _moved(place: Place, moved: dict[MailboxAddress, bool], policy: Policy) -> Place:
    now = moved.get(place.mailbox)
    if now is None:
        return place
    today = min(place.usual, policy.reserve.trickle_per_day) if now else place.usual
    return place._replace(in_reserve=now, today=0 if place.resting else today)
