"""Read model `domains`: one row per sending domain."""

from collections.abc import Iterable

from projections.read_model import Place, Statement
from schemas.fleet import DomainDeclared, DomainLeftOut
from schemas.registry import Fact
from schemas.sending import SendAssigned, SendEnded, SendRequeued

_DECLARE = """
insert into domains (client, domain, daily_quota, active, changed_at)
values (%(client)s, %(domain)s, %(quota)s, %(active)s, %(at)s)
on conflict (client, domain) do update set daily_quota = excluded.daily_quota, active = excluded.active,
    changed_at = excluded.changed_at
"""
_ASSIGN = """
update domains set used = case when used_day = %(day)s then used else 0 end + 1, used_day = %(day)s,
    changed_at = %(at)s
where client = %(client)s and domain = %(domain)s
"""
_GIVE_BACK = """
update domains set used = used - 1, changed_at = %(at)s
where client = %(client)s and domain = %(domain)s and used_day = %(day)s and used > 0
"""
_LEAVE_OUT = """
update domains set out_until = %(until)s, out_rule = %(rule)s, out_evidence = %(evidence)s, changed_at = %(at)s
where client = %(client)s and domain = %(domain)s
"""


def project(fact: Fact, place: Place) -> Iterable[Statement]:
    """Yield what the fact changes."""
    match fact:
        case DomainDeclared():
            named = {"client": fact.client, "domain": fact.domain, "at": place.at}
            yield _DECLARE, named | {"quota": fact.daily_quota, "active": fact.active}
        case SendAssigned(ref, _, sender):
            domain = sender.mailbox.rpartition("@")[2]
            yield _ASSIGN, {"client": ref.client, "domain": domain, "day": fact.quota_day, "at": place.at}
        case SendRequeued() | SendEnded() if fact.release is not None and fact.release.gave_back:
            domain = fact.release.mailbox.rpartition("@")[2]
            day = fact.release.quota_day
            yield _GIVE_BACK, {"client": fact.ref.client, "domain": domain, "day": day, "at": place.at}
        case DomainLeftOut():
            named = {"client": fact.client, "domain": fact.domain, "at": place.at}
            yield _LEAVE_OUT, named | {"until": fact.until, "rule": fact.rule, "evidence": fact.evidence}
