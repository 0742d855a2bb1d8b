"""Rotation: each week a share of each domain's mailboxes rests, now and then a whole domain cools down.

Staggered by the calendar alone: which domain's day it is and whose turn follows from the names and the day, so that
no two looks disagree. Nobody rests when the client's capacity would fall below its floor. With an organisational
domain rest its sub-domains: receivers do not tell them apart.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime, timedelta

from schemas.health import Evidence, RestBegan
from schemas.ids import ClientId, DomainName
from schemas.policy import Policy, Rotation
from streams.fleet.organisation import organisation_of
from streams.fleet.places import Place
from streams.fleet.warmup import days_between

LONGEST_REST_DAYS = 3


def rests(client: ClientId, places: Sequence[Place], policy: Policy, day: date, at: datetime) -> list[RestBegan]:
    """Return the rests that begin on the day: domains first, then mailboxes, as long as the floor holds."""
    rules = policy.rotation
    if not rules.enabled:
        return []
    by_domain: dict[DomainName, list[Place]] = defaultdict(list)
    for place in places:
        by_domain[place.domain].append(place)
    for own in by_domain.values():
        own.sort(key=lambda place: place.mailbox)
    room = _Room(places, rules)
    found: list[RestBegan] = []
    for number, domain in enumerate(sorted(by_domain)):
        own = by_domain[domain]
        if _cools_down(rules, number, len(by_domain), day):
            below = [place for place in places if domain in (place.domain, organisation_of(place.domain))]
            if room.take(sum(place.today for place in below)):
                found.append(_domain_rest(client, domain, below, policy, room, at))
                continue
        found += [
            _mailbox_rest(client, place, policy, room, at)
            for place in _whose_turn(own, rules, number, day)
            if _may_rest(place) and room.take(place.today)
        ]
    return found


class _Room:
    """What can still be taken from the day's capacity before the floor is reached."""

    def __init__(self, places: Sequence[Place], rules: Rotation) -> None:
        at_work = [place for place in places if not place.in_reserve]
        self.capacity = sum(place.today for place in at_work)
        self.floor = math.ceil(rules.capacity_floor_share * sum(place.usual for place in at_work))

    def take(self, mails: int) -> bool:
        """Take so many mails a day out if the floor holds without them."""
        if not mails or self.capacity - mails < self.floor:
            return False
        self.capacity -= mails
        return True


def _may_rest(place: Place) -> bool:
    """What is new, sick, waiting or idle needs no rest."""
    return place.warm and place.well and place.worked and not place.resting and not place.in_reserve


def _whose_turn(own: Sequence[Place], rules: Rotation, number: int, day: date) -> list[Place]:
    """The domain's mailboxes whose rest begins on the day: another share of them each week."""
    count = day.toordinal() + number
    if rules.rest_every_days < 1 or rules.rest_share <= 0 or count % rules.rest_every_days:
        return []
    groups = max(1, round(1 / rules.rest_share))
    turn = count // rules.rest_every_days % groups
    return [place for place_number, place in enumerate(own) if place_number % groups == turn]


def _cools_down(rules: Rotation, number: int, domains: int, day: date) -> bool:
    every = rules.domain_cool_down_every_days
    return bool(every) and (day.toordinal() + number * every // max(1, domains)) % every == 0


def _mailbox_rest(client: ClientId, place: Place, policy: Policy, room: _Room, at: datetime) -> RestBegan:
    days = min(policy.rotation.rest_days, LONGEST_REST_DAYS)
    why = Evidence("weekly rest", policy.version, f"{days} days", room.capacity, 0, room.floor)
    return RestBegan(client, "mailbox", place.mailbox, at + timedelta(days=days), why)


def _domain_rest(
    client: ClientId, domain: DomainName, own: Sequence[Place], policy: Policy, room: _Room, at: datetime
) -> RestBegan:
    days = policy.rotation.domain_cool_down_days
    said = f"{len(own)} mailboxes; {cost_of_idleness(days, policy)}"
    why = Evidence("domain cool-down", policy.version, f"{days} days", room.capacity, 0, room.floor, said)
    return RestBegan(client, "domain", domain, at + timedelta(days=days), why)


def cost_of_idleness(days: int, policy: Policy) -> str:
    """Say what so many idle days cost in warm-up."""
    rules = policy.warm_up
    if not rules.enabled or days < rules.halve_after_idle_days:
        return "it costs no warm-up"
    if days >= rules.restart_after_idle_days:
        return f"its warm-up begins anew: {rules.days_at_least} days"
    back = days_between(rules.target_per_day // 2, rules.target_per_day, rules.growth)
    return f"their caps are halved: {back} days of warm-up"
