"""Read model `policies`: the policy that leads each client, where its warm-up begins, whose complaints it believes."""

from collections.abc import Iterable

from projections.read_model import Place, Statement
from schemas.policy import PolicyApplied
from schemas.registry import Fact

_APPLY = """
insert into policies (client, version, applied_by, applied_at, complaints_reported_by, mailbox_begins_at,
    domain_begins_at, mailbox_target)
values (%(client)s, %(version)s, %(by)s, %(at)s, %(reported_by)s, %(mailbox)s, %(domain)s, %(target)s)
on conflict (client) do update set version = excluded.version, applied_by = excluded.applied_by,
    applied_at = excluded.applied_at, complaints_reported_by = excluded.complaints_reported_by,
    mailbox_begins_at = excluded.mailbox_begins_at, domain_begins_at = excluded.domain_begins_at,
    mailbox_target = excluded.mailbox_target
"""


def project(fact: Fact, place: Place) -> Iterable[Statement]:
    """Yield what the fact changes."""
    if isinstance(fact, PolicyApplied):
        policy, warm = fact.policy, fact.policy.warm_up
        yield (
            _APPLY,
            {
                "client": fact.client,
                "version": policy.version,
                "by": fact.by,
                "at": place.at,
                "reported_by": list(policy.health.complaints_reported_by),
                "mailbox": warm.start_per_day if warm.enabled else None,
                "domain": warm.domain_start_per_day if warm.enabled else None,
                "target": warm.target_per_day if warm.enabled else None,
            },
        )
