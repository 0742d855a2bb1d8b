"""A route's breaker: closed, open after proven failures of its own, half-open with one probe.

A simple rule: a block or a rate limit trips at once, other failures when five come in a row. The pause
doubles with each trip until a mail goes through.
"""

from datetime import datetime, timedelta
from typing import Literal

from schemas.sending import AttemptNotSent, AttemptRefused, AttemptUnknown, Stage

IN_A_ROW = 5
LONGEST_PAUSE = timedelta(hours=1)
AT_ONCE = ("block", "rate_limit")
BEFORE_THE_MAIL: tuple[Stage, ...] = ("connect", "ehlo", "tls")

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
