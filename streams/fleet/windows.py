"""What was counted of a sender, by time: ten minutes for two hours, hours for a day, days for a week.

A bucket's key is the beginning of its time (UTC): "2026-03-02T09:1" are ten minutes, "2026-03-02T09" an hour,
"2026-03-02" a day. Older buckets melt into coarser ones, so that a row stays small whatever it counts.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec

from schemas.health import Sign

TEN_MINUTES, AN_HOUR, A_DAY = 15, 13, 10
"""The lengths of the three kinds of keys."""
KEPT_FINE = timedelta(minutes=130)  # no hour that has melted reaches into the last hour
KEPT_BY_HOUR = timedelta(hours=25)
KEPT_BY_DAY = timedelta(days=8)
MOMENTS = 64
"""How many times are remembered with their keys: one sign is counted of several senders at the same moment."""


class Counts(msgspec.Struct, frozen=True, array_like=True):
    """What was counted. `handed` are the attempts that a server answered; the rest says what came of them.

    `…_told` are those over routes whose provider reports complaints.
    """

    handed: int = 0
    accepted: int = 0
    delivered: int = 0
    hard_bounces: int = 0
    complaints: int = 0
    blocks: int = 0
    deferrals: int = 0
    delivered_told: int = 0
    complaints_told: int = 0
    again: int = 0  # of those that a server answered: of a send that was deferred before

    def plus(self, other: "Counts") -> "Counts":
        """Return the sum."""
        return Counts(
            self.handed + other.handed,
            self.accepted + other.accepted,
            self.delivered + other.delivered,
            self.hard_bounces + other.hard_bounces,
            self.complaints + other.complaints,
            self.blocks + other.blocks,
            self.deferrals + other.deferrals,
            self.delivered_told + other.delivered_told,
            self.complaints_told + other.complaints_told,
            self.again + other.again,
        )


Buckets = Mapping[str, Counts]


@lru_cache(maxsize=64)  # there are no more kinds of signs
def counts_of(sign: Sign, *, late: bool, told: bool, again: bool = False) -> Counts:
    """Return one sign as counts; a late one comes after its 250, so that its attempt is counted already.

    A send that is deferred once more (`again`) counts no more: a rate of deferrals is one of sends.
    """
    if again and sign == "deferral":
        return Counts()
    counts = _counts_of(sign, int(not late), int(told))
    return counts.plus(Counts(again=1)) if again and not late else counts


def _counts_of(sign: Sign, handed: int, of_told: int) -> Counts:
    match sign:
        case "accepted":
            return Counts(handed, accepted=1)
        case "delivered":
            return Counts(handed, delivered=1, delivered_told=of_told)
        case "hard_bounce":
            return Counts(handed, hard_bounces=1)
        case "complaint":
            return Counts(handed, complaints=1, complaints_told=of_told)
        case "block":
            return Counts(handed, blocks=1)
        case "deferral":
            return Counts(handed, deferrals=1)
        case "refusal":
            return Counts(handed)


def counted(buckets: Buckets, counts: Counts, at: datetime, of: datetime | None = None) -> dict[str, Counts]:
    """Return the buckets with these counts added at `at`, or to the time `of` before; what is old has melted."""
    key = utc_text(of or at)[:TEN_MINUTES]
    kept = dict(buckets) if key in buckets else _melted(buckets, at)
    before = kept.get(key)
    kept[key] = counts if before is None else before.plus(counts)
    return kept if of is None else _melted(kept, at)


@lru_cache(maxsize=MOMENTS)
def utc_text(at: datetime) -> str:
    """Return the time (UTC) as text, whose beginning names its day, hour or ten minutes."""
    return at.astimezone(UTC).isoformat()


@lru_cache(maxsize=MOMENTS)
def _firsts(at: datetime) -> tuple[str, str, str]:
    """The first keys that are kept: of ten minutes, of an hour, of a day."""
    return (
        utc_text(at - KEPT_FINE)[:TEN_MINUTES],
        utc_text(at - KEPT_BY_HOUR)[:AN_HOUR],
        utc_text(at - KEPT_BY_DAY)[:A_DAY],
    )


def _melted(buckets: Buckets, at: datetime) -> dict[str, Counts]:
    fine, hour, day = _firsts(at)
    found: dict[str, Counts] = {}
    for key, counts in buckets.items():
        coarse = key
        if len(coarse) == TEN_MINUTES and coarse < fine:
            coarse = coarse[:AN_HOUR]
        if len(coarse) == AN_HOUR and coarse < hour:
            coarse = coarse[:A_DAY]
        if len(coarse) == A_DAY and coarse < day:
            continue
        found[coarse] = found[coarse].plus(counts) if coarse in found else counts
    return found


def since(buckets: Buckets, start: datetime) -> Counts:
    """Return what was counted from `start` on; a bucket that lies only partly within counts whole."""
    text = utc_text(start)
    return _sum([counts for key, counts in buckets.items() if key >= text[: len(key)]])


def last_handed(buckets: Buckets, start: datetime, handed: int, end: datetime | None = None) -> Counts:
    """Return what was counted with about the last `handed` attempts from `start` on, up to `end`; in whole buckets."""
    text, until = utc_text(start), "" if end is None else utc_text(end)
    found: list[Counts] = []
    so_far = 0
    for key in sorted(buckets, reverse=True):
        if until and key > until[: len(key)]:
            continue
        if so_far >= handed or key < text[: len(key)]:
            break
        found.append(buckets[key])
        so_far += buckets[key].handed
    return _sum(found)


def _sum(found: list[Counts]) -> Counts:
    if len(found) < 2:
        return found[0] if found else Counts()
    return Counts(*map(sum, zip(*map(msgspec.structs.astuple, found), strict=True)))
