"""Reserve: warm mailboxes that wait and join by themselves when the capacity falls below what is wanted.

In reserve a mailbox carries a trickle of real mail, so that it stays warm. Best evidence joins first. A person is told
when the reserve runs low, days before it is gone at the pace at which it was used.
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from schemas.health import CapacityPlanned, Evidence, ReserveChanged, ReserveState
from schemas.ids import ClientId, DomainName
from schemas.policy import Policy
from streams.fleet.places import Load, Place
from streams.fleet.state import RosterRow

NO_BOUNDS: Mapping[DomainName, int] = MappingProxyType({})
HEADROOM = 1.1
"""Nobody goes into reserve unless so much more than is wanted stays at work."""
ADDED_A_DAY = 0.2
"""Of the reserve that is wanted: it is filled gently."""


def wanted(places: Sequence[Place], policy: Policy) -> int:
    """How many mailboxes the reserve should hold."""
    return round(policy.reserve.share * len(places))


def changes(
    client: ClientId,
    places: Sequence[Place],
    policy: Policy,
    demand: int,
    *,
    new_day: bool,
    bounds: Mapping[DomainName, int] = NO_BOUNDS,
) -> list[ReserveChanged]:
    """Return who joins from the reserve now, or, once a day, who goes into it. `bounds`: of domains, a day."""
    if not policy.reserve.share:
        return _all_back(client, places, policy)
    load = Load(places, bounds)
    if load.total < demand:
        return _join(client, places, policy, load, demand)
    return _go(client, places, policy, load, demand) if new_day else []


def _join(client: ClientId, places: Sequence[Place], policy: Policy, load: Load, demand: int) -> list[ReserveChanged]:
    found: list[ReserveChanged] = []
    waiting = [place for place in places if place.in_reserve and place.well and not place.resting]
    for place in sorted(waiting, key=_bad_signs):
        more = place.usual - place.today
        if load.total >= demand:
            break
        if load.with_more(place, more) <= load.total:
            continue  # its domain is at its bound
        why = Evidence("capacity below demand", policy.version, "today", load.total, 0, demand, _record(place))
        found.append(ReserveChanged(client, place.mailbox, "in_use", why))
        load.take(place, more)
    return found


def _all_back(client: ClientId, places: Sequence[Place], policy: Policy) -> list[ReserveChanged]:
    why = Evidence("no reserve is wanted", policy.version)
    waiting = sorted((place for place in places if place.in_reserve), key=_bad_signs)
    return [ReserveChanged(client, place.mailbox, "in_use", why) for place in waiting]


def _bad_signs(place: Place) -> tuple[int, int, str]:
    """Best evidence first: the fewest bad signs, then the most delivered."""
    week = place.week
    return week.complaints + week.blocks + week.hard_bounces, -week.delivered, place.mailbox


def _record(place: Place) -> str:
    week = place.week
    return f"its week: {week.delivered} delivered, {week.hard_bounces} hard bounces, {week.complaints} complaints"


def _go(client: ClientId, places: Sequence[Place], policy: Policy, load: Load, demand: int) -> list[ReserveChanged]:
    target = wanted(places, policy)
    missing = target - sum(place.in_reserve for place in places)
    found: list[ReserveChanged] = []
    free = [p for p in places if p.warm and p.well and p.worked and not (p.in_reserve or p.resting)]
    for place in sorted(free, key=lambda p: (-p.week.delivered, p.mailbox)):
        fewer = min(place.usual, policy.reserve.trickle_per_day) - place.today
        if len(found) >= min(missing, math.ceil(ADDED_A_DAY * target)):
            break
        if load.with_more(place, fewer) < HEADROOM * demand:
            break
        why = Evidence("the reserve is filled", policy.version, "", target - missing + len(found) + 1, 0, target)
        found.append(ReserveChanged(client, place.mailbox, "reserve", why))
        load.take(place, fewer)
    return found


def capacity(
    client: ClientId,
    places: Sequence[Place],
    policy: Policy,
    demand: int,
    day: str,
    known: RosterRow,
    bounds: Mapping[DomainName, int] = NO_BOUNDS,
) -> CapacityPlanned:
    """Return how the client stands today, and whether the reserve lasts."""
    in_reserve = sum(place.in_reserve for place in places)
    today = Load(places, bounds).total
    ready = sum(place.in_reserve and place.well for place in places)  # a sick one that waits joins nobody
    joined = sum(known.joined.values())
    state, rule = _state(ready, wanted(places, policy), joined, today, demand, policy)
    return CapacityPlanned(
        client,
        day,
        today,
        demand,
        in_reserve,
        sum(place.resting for place in places),
        state,
        Evidence(rule, policy.version, "7 days", ready, 0, wanted(places, policy), _forecast(places)),
    )


def _state(ready: int, target: int, joined: int, today: int, demand: int, policy: Policy) -> tuple[ReserveState, str]:
    rules = policy.reserve
    if not rules.share:
        return "none", "no reserve is wanted"
    if today < demand and not ready:
        return "exhausted", "the capacity is below what is wanted and the reserve is empty"
    days_left = 7 * ready / joined if joined else math.inf
    if days_left < rules.forecast_days:
        return "low", f"at the pace of the last week it lasts {days_left:.1f} days"
    if ready < rules.low_share / rules.share * target and joined:
        return "low", "it is nearly used up"
    return "enough", "the reserve lasts"


def _forecast(places: Sequence[Place]) -> str:
    """Say how many mailboxes are on their way, and when the first is warm."""
    growing = [place.ready_in for place in places if not place.warm and place.well]
    if not growing:
        return "no mailbox is warming up"
    return f"{len(growing)} mailboxes warm up, the first is ready in about {max(1, min(growing))} days"
