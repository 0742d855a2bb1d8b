"""What is held per local day (mailbox, domain) and in a rolling 24 hours (route); given back when provably unsent."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from streams.fleet.windows import AN_HOUR, utc_text

REMEMBERED_DAYS = 3
LONGEST_SLOT = timedelta(minutes=15)
"""The longest slot that a fleet file may give (Pace.slot_seconds)."""
ROLLING = timedelta(hours=24) + LONGEST_SLOT + timedelta(minutes=5)
"""What is held leaves up to a slot later, and is on its way a little longer: it counts until then and a day."""


def quota_left(daily_quota: int, used: Mapping[str, int], day: str) -> int:
    """Return what is left on the local day."""
    return daily_quota - used.get(day, 0)


def hold(used: Mapping[str, int], day: str) -> dict[str, int]:
    """Return the use with one more held on that day; old days fall out."""
    more = {**used, day: used.get(day, 0) + 1}
    return {d: more[d] for d in sorted(more)[-REMEMBERED_DAYS:]}


def give_back(used: Mapping[str, int], period: str) -> dict[str, int]:
    """Return the use with one given back to that day or hour."""
    return {**used, period: max(0, used[period] - 1)} if period in used else dict(used)


def hour_of(at: datetime) -> str:
    """Return the hour (UTC) as YYYY-MM-DDTHH."""
    return utc_text(at)[:AN_HOUR]


def rolling(hours: Mapping[str, int], at: datetime) -> int:
    """Return what may have left in the last 24 hours; an hour that only partly lies within counts whole."""
    first = hour_of(at - ROLLING)
    return sum(count for hour, count in hours.items() if hour >= first)


def hold_hour(hours: Mapping[str, int], at: datetime) -> dict[str, int]:
    """Return the hours with one more held in the hour of `at`; what left the 24 hours falls out."""
    first, hour = hour_of(at - ROLLING), hour_of(at)
    kept = {h: count for h, count in hours.items() if h >= first}
    return {**kept, hour: kept.get(hour, 0) + 1}


def rolls_free_at(hours: Mapping[str, int], at: datetime) -> datetime:
    """Return when the oldest hour that still counts has left the 24 hours."""
    first = hour_of(at - ROLLING)
    oldest = min((h for h, count in hours.items() if h >= first and count), default=hour_of(at))
    return datetime.fromisoformat(oldest + ":00:00+00:00") + ROLLING + timedelta(hours=1)
