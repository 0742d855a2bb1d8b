"""When a send may be tried again, and when patience is over."""

from datetime import datetime, timedelta

from schemas.fleet import Pace

LONGEST = timedelta(hours=6)


def again_at(pace: Pace, tries: int, at: datetime) -> datetime | None:
    """Return the earliest time after `tries` counted attempts (doubling), None when patience is over."""
    if tries >= pace.max_attempts:
        return None
    doubled: int = 2 ** min(max(0, tries - 1), 15)
    return at + min(timedelta(seconds=pace.first_retry_seconds * doubled), LONGEST)
