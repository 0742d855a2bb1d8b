"""Read model `policies`: the policy that leads each client, and whose complaints its rules believe in."""

from collections.abc import Iterable

from projections.read_model import Place, Statement
from schemas.policy import PolicyApplied
from schemas.registry import Fact

_APPLY = """
insert into policies (client, version, applied_by, applied_at, complaints_reported_by)
values (%(client)s, %(version)s, %(by)s, %(at)s, %(reported_by)s)
on conflict (client) do update set version = excluded.version, applied_by = excluded.applied_by,
    applied_at = excluded.applied_at, complaints_reported_by = excluded.complaints_reported_by
"""


def project(fact: Fact, place: Place) -> Iterable[Statement]:
    """Yield what the fact changes."""
    if isinstance(fact, PolicyApplied):
        policy = fact.policy
        reported_by = list(policy.health.complaints_reported_by)
        named = {"client": fact.client, "version": policy.version, "by": fact.by, "at": place.at}
        yield _APPLY, named | {"reported_by": reported_by}
