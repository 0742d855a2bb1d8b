"""Read model `waiting`: why sends wait, as upstream was told."""

from collections.abc import Iterable

from projections.read_model import Place, Statement
from schemas.registry import Fact
from schemas.sending import SendAssigned, SendEnded, SendLapsed, SendRequeued, SendWaits

_TELL = """
insert into waiting (client, send_id, limit_name, earliest_at, rule, told_at)
values (%(client)s, %(send_id)s, %(limit)s, %(earliest)s, %(rule)s, %(at)s)
on conflict (client, send_id) do update set limit_name = excluded.limit_name, earliest_at = excluded.earliest_at,
    rule = excluded.rule, told_at = excluded.told_at
"""
_DONE = "delete from waiting where client = %(client)s and send_id = %(send_id)s"


def project(fact: Fact, place: Place) -> Iterable[Statement]:
    """Yield what the fact changes."""
    match fact:
        case SendWaits(ref, limit, earliest):
            named = {"client": ref.client, "send_id": ref.send_id, "at": place.at}
            yield _TELL, named | {"limit": limit, "earliest": earliest, "rule": ""}
        case SendRequeued(ref, _, not_before, rule):
            named = {"client": ref.client, "send_id": ref.send_id, "at": place.at}
            yield _TELL, named | {"limit": "retry", "earliest": not_before, "rule": rule}
        case SendAssigned(ref) | SendEnded(ref) | SendLapsed(ref):
            yield _DONE, {"client": ref.client, "send_id": ref.send_id}
