"""A route's breaker: closed, open after proven failures of its own, half-open with one probe.

A simple rule: a block or a rate limit trips at once, other failures when five come in a row. The pause
doubles with each trip until a mail goes through.

What one receiver says of itself is no failure of the route: only that receiver rests, and then takes one mail at
a time, then one more with each (Google: "wait at least 10 minutes, then one connection, then add one at a time").
When several receivers in a row say it and nobody takes a mail between them, it is us that they mean: the route trips.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from schemas.fleet import ReceiverEased, ReceiverThrottled
from schemas.health import Evidence
from schemas.sending import AttemptNotSent, AttemptRefused, AttemptUnknown, SendRequested, Stage

IN_A_ROW = 5
LONGEST_PAUSE = timedelta(hours=1)
AT_ONCE = ("block", "rate_limit")
BEFORE_THE_MAIL: tuple[Stage, ...] = ("connect", "ehlo", "tls")

SEVERAL = 3
"""Receivers that throttle in a row: two may be chance, and a third mail is the least that a proof costs."""
FIRST_REST, LONGEST_REST = timedelta(minutes=10), timedelta(hours=2)
EASED_AFTER = 5
"""Mails that a receiver takes one by one more, until nothing bounds it."""
MOST_KEPT = 100

Breaker = Literal["closed", "open", "half_open"]


def breaker(out_until: datetime | None, trips: int, at: datetime) -> Breaker:
    """Return how the breaker stands at `at`."""
    if out_until is not None and at < out_until:
        return "open"
    return "half_open" if trips else "closed"


def is_its_own(fact: AttemptRefused | AttemptNotSent) -> bool:
    """Whether the failure is the route's: it says so, or nothing could be said to it."""
    if isinstance(fact, AttemptRefused):
        return fact.verdict.fault == "route"
    return fact.stage in BEFORE_THE_MAIL


def pause_after(
    fact: AttemptRefused | AttemptNotSent | AttemptUnknown, failures: int, trips: int, first: timedelta
) -> timedelta | None:
    """Return how long the route is left out after this failure, None when it stays in use."""
    at_once = isinstance(fact, AttemptRefused) and fact.verdict.reply_class in AT_ONCE
    if not at_once and failures + 1 < IN_A_ROW and not trips:
        return None
    asked = fact.reply.retry_after_seconds if isinstance(fact, AttemptRefused) else None
    doubled: int = 2 ** min(trips, 10)
    return max(min(first * doubled, LONGEST_PAUSE), timedelta(seconds=asked or 0))


def trip_evidence(
    fact: AttemptRefused | AttemptNotSent | AttemptUnknown, failures: int, trips: int, rule: str, policy: str
) -> Evidence:
    """Return what a trip rests on: one word that trips at once, the probe after a trip, or failures in a row."""
    if isinstance(fact, AttemptRefused) and fact.verdict.reply_class in AT_ONCE:
        return Evidence(rule, policy, "one reply", 1, 0, 1)
    if trips:
        return Evidence(rule, policy, f"the probe after trip {trips}", 1, 0, 1)
    return Evidence(rule, policy, "a row", failures + 1, 0, IN_A_ROW)


# ── one receiver that throttles ──────────────────────────────────────────────────────────────────


class Rest(msgspec.Struct, frozen=True, array_like=True):
    """A receiver's rest over a route: until when, how often in a row, how many mails it took since."""

    until: datetime
    times: int
    passed: int = 0

    def most_out(self, at: datetime) -> int:
        """Return how many attempts may be out to the receiver over the route."""
        return 0 if at < self.until else self.passed + 1


def who_receives(request: SendRequested) -> str:
    """Return whose throttle a send meets: its receiving provider, or its own domain where none is known."""
    return request.recipient_domain if request.receiver in ("", "unknown") else request.receiver


def is_provider(receiver: str) -> bool:
    """Whether it receives for many: one of the known list, whose names have no dot."""
    return "." not in receiver


def rest_after(rest: Rest | None, asked_seconds: int | None) -> tuple[timedelta, int]:
    """Return how long a receiver rests after it throttled once more, and the how-many-th time in a row it is."""
    times = 1 if rest is None else rest.times + 1
    doubled: int = 2 ** min(times - 1, 10)
    return max(min(FIRST_REST * doubled, LONGEST_REST), timedelta(seconds=asked_seconds or 0)), times


def throttled(rests: Mapping[str, Rest], fact: ReceiverThrottled, at: datetime) -> dict[str, Rest]:
    """Return the rests with this one. Providers are few and kept until they are eased, domains until they are old."""
    kept = {name: rest for name, rest in rests.items() if is_provider(name) or at < rest.until + LONGEST_REST}
    kept[fact.receiver] = Rest(fact.until, fact.times)
    domains = sorted((name for name in kept if not is_provider(name)), key=lambda name: kept[name].until)
    for name in domains[: max(0, len(domains) - MOST_KEPT)]:
        del kept[name]
    return kept


def eased(rests: Mapping[str, Rest], fact: ReceiverEased) -> dict[str, Rest]:
    """Return the rests after a receiver took a mail."""
    kept = dict(rests)
    rest = kept.pop(fact.receiver, None)
    if rest is not None and not fact.over:
        kept[fact.receiver] = Rest(rest.until, rest.times, fact.passed)
    return kept
