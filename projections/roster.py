"""Read models `rests`, `reserve_moves`, `capacity_days`: who rests, who waits in reserve, what can be carried."""

from collections.abc import Iterable

from projections.health import evidence_values, place_values
from projections.read_model import Place, Statement
from schemas.health import CapacityPlanned, ReserveChanged, RestBegan
from schemas.registry import Fact

_REST = """
insert into rests (client, scope, name, from_at, until, rule, policy, window_text, numerator, threshold, said,
    partition, seq, n)
values (%(client)s, %(scope)s, %(name)s, %(at)s, %(until)s, %(rule)s, %(policy)s, %(window)s, %(numerator)s,
    %(threshold)s, %(said)s, %(partition)s, %(seq)s, %(n)s)
"""
_MOVE = """
insert into reserve_moves (client, mailbox, goes_to, decided_at, rule, policy, numerator, threshold, said, partition,
    seq, n)
values (%(client)s, %(mailbox)s, %(goes_to)s, %(at)s, %(rule)s, %(policy)s, %(numerator)s, %(threshold)s, %(said)s,
    %(partition)s, %(seq)s, %(n)s)
"""
_DAY = """
insert into capacity_days (client, day, capacity_mails, demand_mails, mailboxes_in_reserve, mailboxes_resting,
    reserve_state, rule, said, planned_at)
values (%(client)s, %(day)s, %(capacity)s, %(demand)s, %(in_reserve)s, %(resting)s, %(reserve)s, %(rule)s, %(said)s,
    %(at)s)
on conflict (client, day) do update set capacity_mails = excluded.capacity_mails,
    demand_mails = excluded.demand_mails, mailboxes_in_reserve = excluded.mailboxes_in_reserve,
    mailboxes_resting = excluded.mailboxes_resting, reserve_state = excluded.reserve_state, rule = excluded.rule,
    said = excluded.said, planned_at = excluded.planned_at
"""


def project(fact: Fact, place: Place) -> Iterable[Statement]:
    """Yield what the fact changes."""
    match fact:
        case RestBegan():
            named = {"client": fact.client, "scope": fact.scope, "name": fact.name, "until": fact.until}
            yield _REST, named | evidence_values(fact.evidence) | place_values(place)
        case ReserveChanged():
            named = {"client": fact.client, "mailbox": fact.mailbox, "goes_to": fact.now}
            yield _MOVE, named | evidence_values(fact.evidence) | place_values(place)
        case CapacityPlanned():
            counts = {name: getattr(fact, name) for name in ("capacity", "demand", "in_reserve", "resting", "reserve")}
            named = {"client": fact.client, "day": fact.day, **counts}
            yield _DAY, named | evidence_values(fact.evidence) | place_values(place)
