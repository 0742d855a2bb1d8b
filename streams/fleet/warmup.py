"""Warm-up: how many mails of a day a mailbox or a domain may send while it is new, and when that grows.

The cap grows at most once a local day, by next = max(cap + 1, floor(cap × growth)), and only when at least half
of it was sent on one of the last days of use and delivered since the last step, nobody complained, nothing was
blocked and hard bounces are few; to the target no sooner than `days_at_least` days on. Idleness takes it back.
"""

from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from typing import NamedTuple

from schemas.policy import WarmUp
from streams.fleet.state import SenderRow
from streams.fleet.windows import Counts

USED_AT_LEAST = 0.5
"""Of the cap: what hardly sends proves nothing. A delivery is known late (after 48 hours where the provider tells
nothing), so that a growing mailbox in full use shows about two thirds of its cap as delivered a day."""


class Ramp(NamedTuple):
    """From where to where a cap goes; `target` 0 is none: it grows while it is used."""

    start: int
    target: int
    growth: float
    days_at_least: int


class Step(NamedTuple):
    """What a cap becomes, by which rule, on which numbers."""

    cap: int
    rule: str
    numerator: float = 0
    denominator: float = 0
    threshold: float = 0
    anew: bool = False


def ramp_of_mailbox(rules: WarmUp, daily_quota: int) -> Ramp:
    """Return the ramp of a mailbox: to the target, or to its own quota where that is lower."""
    target = max(1, min(rules.target_per_day, daily_quota))
    return Ramp(min(rules.start_per_day, target), target, rules.growth, rules.days_at_least)


def ramp_of_domain(rules: WarmUp, daily_quota: int) -> Ramp:
    """Return the ramp of a domain: to its quota, or without end where it has none."""
    start = min(rules.domain_start_per_day, daily_quota) if daily_quota else rules.domain_start_per_day
    return Ramp(start, daily_quota, rules.domain_growth, rules.days_at_least)


def cap_of(row: SenderRow, ramp: Ramp) -> int:
    """Return the cap that holds."""
    return min(row.cap, ramp.target) if ramp.target else row.cap


@lru_cache(maxsize=4096)
def days_between(cap: int, target: int, growth: float) -> int:
    """Return how many days of growth lie between a cap and the target."""
    days = 0
    while cap < target:
        cap, days = max(cap + 1, int(cap * growth)), days + 1
    return days


def days_to_target(row: SenderRow, ramp: Ramp, day: str) -> int:
    """Return after how many days in full use the cap can be at the target: by growth, and no sooner than the ramp."""
    left = ramp.days_at_least - (_days(row.ramp_from, day) if row.ramp_from else 0)
    return max(days_between(row.cap or ramp.start, ramp.target, ramp.growth), left)


def step(row: SenderRow, used: Mapping[str, int], ramp: Ramp, rules: WarmUp, day: str) -> Step | None:
    """Return how the cap changes on the local day, None when it stays. `used` is the mails by local day."""
    if not row.cap:
        return _begin(row, used, ramp)
    if row.cap_day >= day:
        return None
    back = _idle(row, used, ramp, rules, day)
    if back is not None:
        return back
    if ramp.target and row.cap >= ramp.target:
        return None  # it is warm: health watches it
    bad = _bad_sign(row.since_step, rules)
    if bad is not None:
        return bad._replace(cap=min(row.cap, max(ramp.start, int(row.cap / ramp.growth))))
    return _growth(row, used, ramp, day)


def _begin(row: SenderRow, used: Mapping[str, int], ramp: Ramp) -> Step:
    """Begin at the target where it was warmed elsewhere, else where it is in use already, else at the start."""
    if row.warmed and ramp.target:
        return Step(ramp.target, "warmed before it came here", anew=True)
    most = max(used.values(), default=0)
    if most > ramp.start:
        return Step(min(most, ramp.target or most), "was in use before warm-up began", most, anew=True)
    return Step(ramp.start, "warm-up begins", anew=True)


def _idle(row: SenderRow, used: Mapping[str, int], ramp: Ramp, rules: WarmUp, day: str) -> Step | None:
    last = max((d for d, count in used.items() if count), default=row.ramp_from)
    now, at_step = _days(last, day), _days(last, row.cap_day)
    for days, cap in ((rules.restart_after_idle_days, ramp.start), (rules.halve_after_idle_days, row.cap // 2)):
        if now >= days > at_step and row.cap > ramp.start:
            rule = "begun anew after idle days" if cap == ramp.start else "halved after idle days"
            return Step(max(ramp.start, cap), rule, now, 0, days, anew=cap == ramp.start)
    return None


def _bad_sign(counts: Counts, rules: WarmUp) -> Step | None:
    if counts.complaints:
        return Step(0, "complaint during warm-up", counts.complaints)
    if counts.blocks:
        return Step(0, "block during warm-up", counts.blocks)
    mails = max(counts.handed, counts.delivered + counts.hard_bounces)
    if mails < rules.rate_from:
        if counts.hard_bounces > rules.hard_bounces_at_most:
            return Step(0, "hard bounces during warm-up", counts.hard_bounces, 0, rules.hard_bounces_at_most)
    elif counts.hard_bounces > rules.hard_bounce_rate_at_most * mails:
        limit = rules.hard_bounce_rate_at_most
        return Step(0, "hard bounce rate during warm-up", counts.hard_bounces, mails, limit)
    return None


def _growth(row: SenderRow, used: Mapping[str, int], ramp: Ramp, day: str) -> Step | None:
    delivered = row.since_step.delivered
    if min(delivered, max(used.values(), default=0)) < row.cap * USED_AT_LEAST:
        return None
    grown = min(max(row.cap + 1, int(row.cap * ramp.growth)), _most_on(ramp, _days(row.ramp_from, day)))
    if grown <= row.cap:
        return None
    return Step(grown, "delivered without a bad sign", delivered, row.cap, USED_AT_LEAST)


def _most_on(ramp: Ramp, days: int) -> int:
    """The most that a ramp allows so many days after it began: a straight line to the target."""
    if not ramp.target:
        return 1_000_000_000
    if days >= ramp.days_at_least:
        return ramp.target
    return ramp.start + (ramp.target - ramp.start) * days // ramp.days_at_least


def _days(first: str, last: str) -> int:
    return (date.fromisoformat(last) - date.fromisoformat(first)).days
