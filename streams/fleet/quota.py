"""The daily quota of a mailbox: held at assignment, given back on proven non-acceptance."""

from collections.abc import Mapping

REMEMBERED_DAYS = 3


def quota_left(daily_quota: int, used: Mapping[str, int], day: str) -> int:
    """Return what is left on the local day."""
    return daily_quota - used.get(day, 0)


def hold(used: Mapping[str, int], day: str) -> dict[str, int]:
    """Return the use with one more held on that day; old days fall out."""
    more = {**used, day: used.get(day, 0) + 1}
    return {d: more[d] for d in sorted(more)[-REMEMBERED_DAYS:]}


def give_back(used: Mapping[str, int], day: str) -> dict[str, int]:
    """Return the use with one given back to that day."""
    return {**used, day: max(0, used[day] - 1)} if day in used else dict(used)
