"""When a mailbox may send: local hours, local days, the gap between two mails."""

import hashlib
import re
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from schemas.fleet import Pace

_FIXED = re.compile(r"UTC([+-])(\d\d):(\d\d)")


class ZoneUnknown(ValueError):
    """No such time zone; the text says what is accepted."""


@lru_cache(maxsize=256)
def zone(name: str) -> tzinfo:
    """Return the zone: an IANA name or a fixed offset such as "UTC+05:30". Raises ZoneUnknown."""
    fixed = _FIXED.fullmatch(name)
    if fixed:
        sign = -1 if fixed[1] == "-" else 1
        return timezone(sign * timedelta(hours=int(fixed[2]), minutes=int(fixed[3])))
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ZoneUnknown(f"time zone {name!r} is neither an IANA name nor like UTC+05:30") from error


def local_day(at: datetime, pace: Pace) -> str:
    """Return the local day as YYYY-MM-DD."""
    return at.astimezone(zone(pace.time_zone)).isoformat()[:10]


def local_hour(at: datetime, pace: Pace) -> str:
    """Return the local hour as YYYY-MM-DDTHH and its offset, by which an hour that comes twice is told apart."""
    return at.astimezone(zone(pace.time_zone)).strftime("%Y-%m-%dT%H%z")


def _local_hour(at: datetime, pace: Pace, hour: int, days: int = 0) -> datetime:
    """Return `hour` o'clock on the local day of `at` (+ days), as UTC-comparable time. Hour 24 is midnight."""
    here = at.astimezone(zone(pace.time_zone))
    midnight = here.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=days + hour // 24)
    return midnight.replace(hour=hour % 24)


def window(at: datetime, pace: Pace) -> tuple[datetime, datetime]:
    """Return the sending window that `at` is in, or else the next one: (opens, closes)."""
    for days in (0, 1):
        opens = _local_hour(at, pace, pace.hour_from, days)
        closes = _local_hour(at, pace, pace.hour_to, days)
        if at < closes:
            return opens, closes
    raise AssertionError("tomorrow's window ends after now")


def next_day(at: datetime, pace: Pace) -> datetime:
    """Return the next local midnight."""
    return _local_hour(at, pace, 0, 1)


def gap(pace: Pace, send_id: str) -> timedelta:
    """Return the gap after a mail; its jitter follows from the send_id, so a replay gives the same."""
    if pace.gap_jitter_seconds <= 0:
        return timedelta(seconds=pace.gap_seconds)
    share = int.from_bytes(hashlib.sha256(send_id.encode()).digest()[:4], "big") / 2**32
    return timedelta(seconds=pace.gap_seconds + round(share * pace.gap_jitter_seconds))
