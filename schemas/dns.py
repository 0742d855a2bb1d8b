"""What the domain name system says of the fleet's domains: one fact for each look. Keyed by domain."""

from datetime import datetime
from typing import Literal

import msgspec

from schemas.ids import ClientId, DomainName, RouteId

Verdict = Literal["good", "broken", "missing", "could_not_be_checked"]
"""`broken` and `missing` are definite answers of a name server; no answer is `could_not_be_checked`, never those."""
Check = Literal["spf", "dkim", "dmarc", "alignment", "return_path", "ptr", "ip_blocklist", "mx", "blocklist", "expiry"]


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one check found. `evidence` is what was asked and answered; `fix` what a person should set or do."""

    check: Check
    verdict: Verdict
    evidence: str
    fix: str = ""  # beside `good`: advice


class DomainObserved(msgspec.Struct, frozen=True, omit_defaults=True):
    """One look at a domain through one resolver.

    With a route: what that (domain × route) needs, which are spf, dkim, dmarc, alignment, return_path, ptr and
    ip_blocklist. Without: the domain's own mx, blocklist and expiry.
    """

    client: ClientId
    domain: DomainName
    observed_at: datetime
    resolver: str  # the name server's address and port
    findings: tuple[Finding, ...]
    route: RouteId = RouteId("")
