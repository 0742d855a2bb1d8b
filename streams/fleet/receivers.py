"""Ceilings of an organisational domain's mail to one receiving provider in any 24 hours; sub-domains count together.

Google counts "all messages sent from the same primary domain" to personal Gmail, and who passes 5,000 once is a bulk
sender for good (support.google.com/a/answer/14229414, 2026-11).
"""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from schemas.ids import DomainName
from schemas.policy import Receivers
from streams.fleet.organisation import organisation_of
from streams.fleet.quota import rolling, rolls_free_at


class ReceiverRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an organisational domain sent to a receiving provider, by hour (UTC), in the last 24 hours."""

    hours: dict[str, int] = {}


def bucket_of(domain: DomainName, receiver: str, rules: Receivers) -> str:
    """Return what counts together, "organisation/receiver"; "" for a receiver that nobody bounds.

    Providers of the known list (their names have no dot) are counted without a ceiling too: one that is set
    tomorrow knows what went today. Each company that receives for itself would be a row of its own.
    """
    if not receiver or ("." in receiver and receiver not in rules.ceilings_24h):
        return ""
    return f"{organisation_of(domain)}/{receiver}"


def full_until(hours: Mapping[str, int], ceiling: int, at: datetime, planned: int = 0) -> datetime | None:
    """Return when there is room under the ceiling again, None when there is some now; ceiling 0 is none."""
    if not ceiling or rolling(hours, at) + planned < ceiling:
        return None
    return rolls_free_at(hours, at)
