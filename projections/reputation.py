"""Read models `spam_rates`, `dmarc_reports`, `dmarc_counts`, `reputation_changes`: what receivers say of domains."""

from collections.abc import Iterable
from datetime import timedelta

from projections.health import evidence_values, place_values
from projections.read_model import Place, Statement
from schemas.registry import Fact
from schemas.reputation import DmarcReported, ReputationChanged, SpamRatesTold

_RATE = """
insert into spam_rates (client, domain, day, share, told_at)
values (%(client)s, %(domain)s, %(day)s, %(share)s, %(told_at)s)
on conflict (client, domain, day) do update set share = coalesce(excluded.share, spam_rates.share),
    told_at = excluded.told_at
"""
_REPORT = """
insert into dmarc_reports (client, domain, org, report_id, begin_at, end_at, policy_seen, skipped, taken_at)
values (%(client)s, %(domain)s, %(org)s, %(report)s, %(begin)s, %(end)s, %(policy)s, %(skipped)s, %(at)s)
on conflict do nothing
"""
_COUNT = """
insert into dmarc_counts (client, domain, org, report_id, source, ours, disposition, spf_aligned, dkim_aligned, mails)
values (%(client)s, %(domain)s, %(org)s, %(report)s, %(source)s, %(ours)s, %(disposition)s, %(spf)s, %(dkim)s,
    %(mails)s)
on conflict do nothing
"""
_CHANGE = """
insert into reputation_changes (client, domain, feed, was, now, changed_at, rule, policy, window_text, numerator,
    denominator, threshold, said, fix, partition, seq, n)
values (%(client)s, %(domain)s, %(feed)s, %(was)s, %(now)s, %(at)s, %(rule)s, %(policy)s, %(window)s, %(numerator)s,
    %(denominator)s, %(threshold)s, %(said)s, %(fix)s, %(partition)s, %(seq)s, %(n)s)
"""


def project(fact: Fact, place: Place) -> Iterable[Statement]:
    """Yield what the fact changes: of a report only what was taken, which is what was decided, not what was seen."""
    match fact:
        case SpamRatesTold():
            yield from _rates(fact)
        case DmarcReported():
            yield from _report(fact, place)
        case ReputationChanged():
            named = {"client": fact.client, "domain": fact.domain, "feed": fact.feed}
            turned = {"was": fact.was, "now": fact.now, "fix": fact.fix}
            yield _CHANGE, named | turned | evidence_values(fact.evidence) | place_values(place)


def _rates(fact: SpamRatesTold) -> Iterable[Statement]:
    """A day without data has a row, too: a gap would look like nobody asked."""
    for n in range((fact.until - fact.since).days + 1):
        day = fact.since + timedelta(days=n)
        told = {"day": day, "share": fact.rates.get(day.isoformat()), "told_at": fact.observed_at}
        yield _RATE, {"client": fact.client, "domain": fact.domain} | told


def _report(fact: DmarcReported, place: Place) -> Iterable[Statement]:
    named = {"client": fact.client, "domain": fact.domain, "org": fact.org, "report": fact.report_id}
    spans = {"begin": fact.begin, "end": fact.end, "policy": fact.policy, "skipped": fact.skipped, "at": place.at}
    yield _REPORT, named | spans
    for count in fact.counts:
        judged = {"disposition": count.disposition, "spf": count.spf, "dkim": count.dkim}
        yield _COUNT, named | judged | {"source": count.source, "ours": count.ours, "mails": count.mails}
