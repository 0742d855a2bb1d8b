"""What receivers say of a domain: Gmail's spam rate by day, and what DMARC reports count. The rows and the rules.

A day without data is no day at 0 %. A report proves nothing about who wrote it: what reports say wakes people, and
takes nobody out of rotation.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

import msgspec

from schemas.health import Evidence
from schemas.ids import DomainName
from schemas.policy import Policy
from schemas.registry import Fact
from schemas.reputation import DmarcCount, DmarcReported, Feed, ReputationChanged, SpamRatesTold, Standing

T = TypeVar("T")

SPAM_AT_GMAIL = "spam rate at Gmail"
"""The rule that slows a domain down, or takes it out."""
KEPT_DAYS = 30
"""How long a rate is kept, and a report remembered; one that ended longer ago says nothing of today."""
MOST_REPORTS = 2_000
MOST_AHEAD = timedelta(days=2)
NAMED_SOURCES = 3


class DmarcDay(msgspec.Struct, frozen=True, omit_defaults=True):
    """Mails by the day on which their report ends."""

    ours: int = 0
    failed: int = 0  # of ours: neither SPF nor DKIM is aligned
    unsigned: int = 0  # of ours: DKIM is not aligned
    unknown: int = 0  # of others


class ReputationRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a domain, and how each feed stands; one that is not named is good."""

    rates: dict[str, float] = {}  # YYYY-MM-DD → share
    rates_to: str = ""  # the last day that was asked for, whether it had data or not
    rates_from: str = ""  # only later days count
    days: dict[str, DmarcDay] = {}
    reports: dict[str, tuple[str, ...]] = {}  # day on which they end → short hashes of (org, report id)
    standings: dict[Feed, Standing] = {}


UNHEARD = ReputationRow()


class Found(NamedTuple):
    """How a feed stands, and on what evidence."""

    now: Standing
    evidence: Evidence
    fix: str = ""


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────


def folded(row: ReputationRow, fact: Fact, at: datetime) -> ReputationRow:
    """Return the row after the fact."""
    match fact:
        case SpamRatesTold():
            rates = _recent({**row.rates, **fact.rates}, at)
            return msgspec.structs.replace(row, rates=rates, rates_to=fact.until.isoformat())
        case DmarcReported():
            return _with_report(row, fact, at)
        case ReputationChanged():
            standings = {**row.standings, fact.feed: fact.now}
            rates_from = _day(at) if fact.anew else row.rates_from
            return msgspec.structs.replace(row, standings=standings, rates_from=rates_from)
        case _:
            raise ValueError(f"{type(fact).__name__} changes no reputation")


def _with_report(row: ReputationRow, fact: DmarcReported, at: datetime) -> ReputationRow:
    day = _day(fact.end)
    counted = _together([row.days.get(day, DmarcDay()), mails_of(fact.counts)])
    names = _recent({**row.reports, day: (*row.reports.get(day, ()), _name(fact))}, at)
    while sum(map(len, names.values())) > MOST_REPORTS and len(names) > 1:
        del names[min(names)]
    return msgspec.structs.replace(row, days=_recent({**row.days, day: counted}, at), reports=names)


def mails_of(counts: Iterable[DmarcCount]) -> DmarcDay:
    """Return the mails of a report."""
    counts = list(counts)
    ours = [count for count in counts if count.ours]
    return DmarcDay(
        _mails(ours),
        _mails([count for count in ours if not (count.spf or count.dkim)]),
        _mails([count for count in ours if not count.dkim]),
        _mails([count for count in counts if not count.ours]),
    )


def _together(days: Iterable[DmarcDay]) -> DmarcDay:
    return DmarcDay(*(sum(column) for column in zip(*map(msgspec.structs.astuple, days), strict=True)))


def _recent(days: dict[str, T], at: datetime) -> dict[str, T]:
    first = _day(at - timedelta(days=KEPT_DAYS))
    return {day: value for day, value in sorted(days.items()) if day >= first}


def _mails(counts: list[DmarcCount]) -> int:
    return sum(count.mails for count in counts)


def _name(fact: DmarcReported) -> str:
    return hashlib.sha256(f"{fact.org}\n{fact.report_id}".encode()).hexdigest()[:12]


def _day(at: datetime) -> str:
    return at.date().isoformat()


def is_known(row: ReputationRow, fact: DmarcReported) -> bool:
    """Whether the report was taken already."""
    return any(_name(fact) in names for names in row.reports.values())


def is_of_today(fact: DmarcReported, at: datetime) -> bool:
    """Whether a report speaks of days that still count, and not of days to come."""
    return at - timedelta(days=KEPT_DAYS) <= fact.end <= at + MOST_AHEAD


# ── rules ────────────────────────────────────────────────────────────────────────────────────────


def gmail(row: ReputationRow, policy: Policy, at: datetime) -> Found:
    """Return how a domain stands at Gmail: by the newest day that has data."""
    rules = policy.reputation
    first = max(_day(at - timedelta(days=rules.gmail_days)), row.rates_from)
    days = sorted(day for day in row.rates if first < day <= _day(at))
    if not days or not rules.enabled:
        return Found("good", Evidence("no data", policy.version, f"{rules.gmail_days} days"))
    rate = row.rates[days[-1]]
    now: Standing = "good"
    if rate >= rules.gmail_spam_rate_out:
        now, limit = "bad", rules.gmail_spam_rate_out
    else:
        now, limit = "warning" if rate >= rules.gmail_spam_rate_watch else "good", rules.gmail_spam_rate_watch
    said = f"Gmail's users called {rate:.2%} of that day's mail spam"
    evidence = Evidence(SPAM_AT_GMAIL, policy.version, f"the day {days[-1]}", rate, 0, limit, said)
    return Found(now, evidence, "" if now == "good" else "find the list or campaign that people did not ask for")


def own_mail(row: ReputationRow, domain: DomainName, policy: Policy, at: datetime, fact: DmarcReported) -> Found:
    """Return whether a domain's own mail is aligned: bad when neither SPF nor DKIM is, a warning when SPF alone is."""
    rules, total, window = policy.reputation, _total(row, policy, at), f"{policy.reputation.dmarc_days} days"
    share, least = rules.dmarc_fail_share, rules.dmarc_fails_at_least
    ours = [count for count in fact.counts if count.ours]
    if total.failed >= max(least, share * total.ours):
        said = _sources(fact, [count for count in ours if not (count.spf or count.dkim)])
        fix = (
            f"let DKIM sign with d={domain} and its selector's record stand in the DNS, or use a return path below "
            f"{domain} whose SPF record lists these servers: `mailfleet dns-records {domain}` prints each record"
        )
        why = Evidence("own mail fails DMARC", policy.version, window, total.failed, total.ours, share, said)
        return Found("bad", why, fix)
    if total.unsigned >= max(least, share * total.ours):
        said = _sources(fact, [count for count in ours if not count.dkim])
        fix = (
            f"let DKIM sign with d={domain} and set its selector's TXT record as `mailfleet dns-records {domain}` "
            "prints it: SPF alone does not survive forwarding, and Google and Yahoo ask for both"
        )
        rule = "own mail has no aligned signature"
        return Found("warning", Evidence(rule, policy.version, window, total.unsigned, total.ours, share, said), fix)
    return Found("good", Evidence("own mail is aligned", policy.version, window, total.failed, total.ours, share))


def unknown_senders(row: ReputationRow, domain: DomainName, policy: Policy, at: datetime, fact: DmarcReported) -> Found:
    """Return whether others send in a domain's name."""
    rules, total, window = policy.reputation, _total(row, policy, at), f"{policy.reputation.dmarc_days} days"
    others = [count for count in fact.counts if not count.ours]
    if total.unknown < max(rules.dmarc_unknown_at_least, 1):
        quiet = Evidence("few others send in its name", policy.version, window, total.unknown)
        return Found("good", msgspec.structs.replace(quiet, threshold=rules.dmarc_unknown_at_least))
    passed = _mails([count for count in others if count.disposition in ("none", "pass")])
    said = f"{_sources(fact, others)}; {passed} of these {_mails(others)} were let through"
    limit = rules.dmarc_unknown_at_least
    why = Evidence("others send in its name", policy.version, window, total.unknown, 0, limit, said)
    fix = (
        f"if a server of these is yours, set its records (`mailfleet dns-records {domain}`); if none is, and all own "
        f"mail is aligned, set p=quarantine, later p=reject, in _dmarc.{domain}"
    )
    return Found("warning", why, fix)


def _total(row: ReputationRow, policy: Policy, at: datetime) -> DmarcDay:
    if not policy.reputation.enabled:
        return DmarcDay()
    first = _day(at - timedelta(days=policy.reputation.dmarc_days))
    return _together(counted for day, counted in row.days.items() if day > first)


def _sources(fact: DmarcReported, counts: list[DmarcCount]) -> str:
    """Name the largest sources of the report in hand: the row keeps none."""
    by_source: dict[str, int] = {}
    for count in counts:
        by_source[count.source] = by_source.get(count.source, 0) + count.mails
    largest = sorted(by_source, key=lambda source: (-by_source[source], source))[:NAMED_SOURCES]
    named = ", ".join(f"{by_source[source]} from {source or 'small ones'}" for source in largest) or "none"
    return f"{fact.org} reports last: {named}"
