"""Read models `suppressions`, `suppressed_domains` and `unsuppress_refusals`: who gets no mail, since when and why."""

from collections.abc import Iterable

from projections.read_model import Place, Statement
from schemas.registry import Fact
from schemas.reports import DomainSuppressOrdered, RecipientUnsuppressed, UnsuppressRefused
from schemas.sending import RecipientSuppressed

_BEGIN = """
insert into suppressions (recipient, client, reason, rule, ordered_by, since)
values (%(recipient)s, %(client)s, %(reason)s, %(rule)s, %(by)s, %(at)s)
on conflict (recipient, client, reason, since) do nothing
"""
_END = """
update suppressions set until = %(at)s, ended_by = %(by)s, ended_why = %(why)s
where recipient = %(recipient)s and client = %(client)s and until is null
    and reason not in ('complaint', 'unsubscribe')
"""
_DOMAIN = """
insert into suppressed_domains (domain, client, suppressed, reason, ordered_by, changed_at)
values (%(domain)s, %(client)s, %(suppressed)s, %(reason)s, %(by)s, %(at)s)
on conflict (domain, client) do update set suppressed = excluded.suppressed, reason = excluded.reason,
    ordered_by = excluded.ordered_by, changed_at = excluded.changed_at
where excluded.changed_at >= suppressed_domains.changed_at
"""
_REFUSE = """
insert into unsuppress_refusals (journal, partition, seq, n, recipient, client, why, asked_by, refused_at)
values (%(journal)s, %(partition)s, %(seq)s, %(n)s, %(recipient)s, %(client)s, %(why)s, %(by)s, %(at)s)
"""


def project(fact: Fact, place: Place) -> Iterable[Statement]:
    """Yield what the fact changes."""
    match fact:
        case RecipientSuppressed():
            why = {"reason": fact.reason, "rule": fact.rule, "by": fact.by, "at": place.at}
            yield _BEGIN, {"recipient": fact.recipient, "client": fact.client, **why}
        case RecipientUnsuppressed():
            why = {"why": fact.reason, "by": fact.by, "at": place.at}
            yield _END, {"recipient": fact.recipient, "client": fact.client, **why}
        case DomainSuppressOrdered():
            how = {"suppressed": fact.suppressed, "reason": fact.reason, "by": fact.by, "at": place.at}
            yield _DOMAIN, {"domain": fact.domain, "client": fact.client, **how}
        case UnsuppressRefused():
            where = {"journal": place.journal, "partition": place.partition, "seq": place.seq, "n": place.n}
            told = {"why": fact.why, "by": fact.by, "at": place.at}
            yield _REFUSE, {**where, "recipient": fact.recipient, "client": fact.client, **told}
