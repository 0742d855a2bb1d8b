"""The gate on what the DNS says: closed by a definite answer seen twice, opened by the first good one.

Twice is from two resolvers, or from one some time apart, with no good answer between. No answer changes nothing. All
that a route needs closes the domain over that route: SPF, DKIM, DMARC and alignment, because receivers refuse what
fails them; the return path, because bounces would be lost unseen; PTR and blocklist of an own server, because
receivers refuse its address. What is the domain's own (MX, blocklist, expiry) closes the domain.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec

from schemas.dns import Check, DomainObserved, Finding, Verdict
from schemas.health import Evidence, GateClosed, GateOpened
from schemas.policy import Policy
from schemas.registry import Fact

APART = timedelta(minutes=10)
"""Between two looks of one resolver that count as two: caches and restarts say the same thing twice."""
TOLD_AGAIN = timedelta(hours=23)
"""What has not changed is journaled again after this time, so that "looked at" is never much older than a day."""
FORGOTTEN = timedelta(hours=72)
"""A closed check of the domain's own that nobody looks at any more (a blocklist that was switched off) opens."""
BAD: tuple[Verdict, ...] = ("broken", "missing")


class Look(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a check said last, and how often in a row it was definitely bad."""

    verdict: Verdict
    at: datetime
    resolver: str
    evidence: str
    fix: str = ""
    bad: int = 0
    bad_at: datetime | None = None
    bad_by: str = ""


class GateRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """The looks at a domain, or at a domain over one route, and the checks that hold it closed."""

    looks: dict[Check, Look] = {}
    closed: tuple[Check, ...] = ()


UNSEEN = GateRow()


def looked(row: GateRow, fact: DomainObserved) -> GateRow:
    """Return the row after a look; one that is older than what is known changes nothing."""
    looks = dict(row.looks)
    for finding in fact.findings:
        looks[finding.check] = _after(looks.get(finding.check), finding, fact)
    return msgspec.structs.replace(row, looks=looks)


def _after(before: Look | None, finding: Finding, fact: DomainObserved) -> Look:
    at, by, said = fact.observed_at, fact.resolver, finding.evidence[:500]
    if before is not None and not _newer(before, fact):
        return before
    bad, bad_at, bad_by = (0, None, "") if before is None else (before.bad, before.bad_at, before.bad_by)
    if finding.verdict == "good":
        bad, bad_at, bad_by = 0, None, ""
    elif finding.verdict in BAD and (bad_at is None or by != bad_by or at - bad_at >= APART):
        bad, bad_at, bad_by = bad + 1, at, by
    return Look(finding.verdict, at, by, said, finding.fix[:500], bad, bad_at, bad_by)


def _newer(before: Look, fact: DomainObserved) -> bool:
    return (fact.observed_at, fact.resolver != before.resolver) > (before.at, False)


def opened(row: GateRow, fact: GateOpened) -> GateRow:
    """Return the row without the check that held it closed."""
    return msgspec.structs.replace(row, closed=tuple(check for check in row.closed if check != fact.check))


def closed(row: GateRow, fact: GateClosed) -> GateRow:
    """Return the row with one more check that holds it closed."""
    return msgspec.structs.replace(row, closed=tuple(dict.fromkeys((*row.closed, fact.check))))


def judge(row: GateRow, fact: DomainObserved, policy: Policy) -> list[Fact]:
    """Return the look itself when it says something new, and the gates that close or open by it."""
    after = looked(row, fact)
    if after == row:
        return []
    gates = [*_closing(row, after, fact, policy), *_opening(row, after, fact, policy)]
    return [fact, *gates] if gates or _tells(row, after, fact) else []


def _tells(row: GateRow, after: GateRow, fact: DomainObserved) -> bool:
    for finding in fact.findings:
        before, now = row.looks.get(finding.check), after.looks[finding.check]
        if before is None or now.at - before.at >= TOLD_AGAIN:
            return True
        counting = now.bad != before.bad and finding.check not in row.closed
        if counting or (before.verdict, before.evidence, before.fix) != (now.verdict, now.evidence, now.fix):
            return True
    return False


def _closing(row: GateRow, after: GateRow, fact: DomainObserved, policy: Policy) -> Iterator[GateClosed]:
    rules = policy.dns_gate
    for check in _checks(fact):
        look = after.looks[check]
        if rules.enabled and check not in row.closed and look.verdict in BAD and look.bad >= rules.seen_times:
            evidence = Evidence(
                f"{check} {look.verdict}",
                policy.version,
                "looks in a row",
                look.bad,
                0,
                rules.seen_times,
                look.evidence,
            )
            yield GateClosed(fact.client, fact.domain, check, evidence, look.fix, fact.route)


def _opening(row: GateRow, after: GateRow, fact: DomainObserved, policy: Policy) -> Iterator[GateOpened]:
    for check in row.closed:
        look = after.looks[check]
        if check in _checks(fact) and look.verdict == "good":
            rule = f"{check} good"
        elif check not in _checks(fact) and (fact.route or fact.observed_at - look.at >= FORGOTTEN):
            rule = f"{check} is not looked at any more"
        else:
            continue
        yield GateOpened(
            fact.client, fact.domain, check, Evidence(rule, policy.version, said=look.evidence), fact.route
        )


def _checks(fact: DomainObserved) -> list[Check]:
    return [finding.check for finding in fact.findings]
