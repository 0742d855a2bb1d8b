"""What receivers say of the fleet's domains, and what follows from it. Keyed by client."""

from datetime import date, datetime
from typing import Literal

import msgspec

from schemas.health import Evidence
from schemas.ids import ClientId, DomainName

Feed = Literal[
    "gmail_spam",  # the share of a domain's mail that Gmail's users call spam, as Google counts it
    "dmarc_own",  # our own mail, and whether it is aligned
    "dmarc_unknown",  # others that send in a domain's name
]
Standing = Literal["good", "warning", "bad"]
Disposition = Literal["none", "pass", "quarantine", "reject", "other"]


class SpamRatesTold(msgspec.Struct, frozen=True):
    """Gmail's spam rates of a domain by day, as Google counts days, each a share of 1.

    A day from `since` to `until` that is not among `rates` has no data, which is no 0 %.
    """

    client: ClientId
    domain: DomainName
    observed_at: datetime
    since: date
    until: date
    rates: dict[str, float]  # YYYY-MM-DD → share


class DmarcCount(msgspec.Struct, frozen=True, omit_defaults=True):
    """Mails of one source that were judged alike. `source` "" is all the small ones together.

    `ours`: it came from an address of ours, or was authenticated as only we or our provider can.
    """

    source: str  # IP address
    ours: bool
    disposition: Disposition
    spf: bool  # aligned
    dkim: bool  # aligned
    mails: int


class DmarcReported(msgspec.Struct, frozen=True, omit_defaults=True):
    """A receiver's aggregate report (RFC 7489, RFC 9990) as far as it is about one domain.

    A report is known by (org, report_id): the same one again changes nothing. At most 150 counts, the largest.
    """

    client: ClientId
    domain: DomainName
    org: str
    report_id: str
    begin: datetime
    end: datetime
    policy: str  # that the receiver saw: none, quarantine, reject, "" when it does not say
    counts: tuple[DmarcCount, ...]
    skipped: int = 0  # records that could not be read


class ReputationChanged(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a feed says of a domain is better or worse than before. `fix`: what a person should set or do."""

    client: ClientId
    domain: DomainName
    feed: Feed
    was: Standing
    now: Standing
    evidence: Evidence
    fix: str = ""
    anew: bool = False  # what was told of days up to now counts no more
