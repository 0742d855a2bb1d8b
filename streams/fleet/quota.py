"""What is held per local day (mailbox, domain) and in a rolling 24 hours (route); given back when provably unsent."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache

REMEMBERED_DAYS = 3
ROLLING_HOURS = 24


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


@lru_cache(maxsize=64)  # at one moment it is asked of many
def hour_of(at: datetime) -> str:
    """Return the hour (UTC) as YYYY-MM-DDTHH."""
    return at.astimezone(UTC).isoformat()[:13]


def rolling(hours: Mapping[str, int], at: datetime) -> int:
    """Return what was held in the last 24 hours; an hour that only partly lies within counts whole."""
    first = hour_of(at - timedelta(hours=ROLLING_HOURS))
    return sum(count for hour, count in hours.items() if hour >= first)


def hold_hour(hours: Mapping[str, int], at: datetime) -> dict[str, int]:
    """Return the hours with one more held in the hour of `at`; what left the 24 hours falls out."""
    first, hour = hour_of(at - timedelta(hours=ROLLING_HOURS)), hour_of(at)
    kept = {h: count for h, count in hours.items() if h >= first}
    return {**kept, hour: kept.get(hour, 0) + 1}


def rolls_free_at(hours: Mapping[str, int], at: datetime) -> datetime:
    """Return when the oldest hour that still counts falls out of the 24 hours."""
    first = hour_of(at - timedelta(hours=ROLLING_HOURS))
    oldest = min((h for h, count in hours.items() if h >= first and count), default=hour_of(at))
    return datetime.fromisoformat(oldest + ":00:00+00:00") + timedelta(hours=ROLLING_HOURS + 1)
