"""Speed: what a client's mailboxes sent against what they could have, in sending hours, while due sends waited.

Looked at once in `speed_minutes`. A look is held against the one before it: what was held by a quota, a stop or a list
at either of them was not slow. Slow is watched and told; it lowers no quota, and ends by itself.
"""

from collections import defaultdict
from datetime import datetime, timedelta

from schemas.fleet import Pace
from schemas.health import Evidence, HealthChanged
from schemas.ids import ClientId, DomainName
from schemas.policy import Policy
from schemas.registry import Fact
from schemas.sending import WaitLimit
from streams.fleet.choose import Able, able, limit_of
from streams.fleet.company import company_of
from streams.fleet.health import SLOWER
from streams.fleet.pace import window
from streams.fleet.state import BacklogRow, FleetState, SpeedLook
from streams.fleet.windows import since

A_SEND = 5.0
"""Seconds that a mail takes beside its gap: the tick, the claim, the server."""
OF_MAILBOXES: tuple[WaitLimit, ...] = (
    "turn",
    "gap",
    "daily_quota",
    "domain_quota",
    "warm_up",
    "resting",
    "reserve",
    "mailbox_out",
    "domain_out",
)
"""Limits that lie in mailboxes, not in the send: whether enough others could carry it is what is counted."""


def speed(state: FleetState, at: datetime) -> list[Fact]:
    """Return which clients have become slower than planned, or are no longer; each is looked at once in a while."""
    found: list[Fact] = []
    for client in state.clients():
        row = state.client(client)
        minutes = state.policy(client).health.speed_minutes
        slot = int(at.timestamp() // (60 * max(1, minutes)))
        last = state.speed_looks.get(client)
        if row is None or not row.declared.active or (last is not None and last.slot == slot):
            continue
        could, made = _look(state, client, row.declared.pace, last if last and last.slot == slot - 1 else None, at)
        if made is None:
            state.speed_looks[client] = SpeedLook(slot, could)
        else:  # what is decided may not count: then it is decided again
            found.append(made)
    return found


def _look(
    state: FleetState, client: ClientId, pace: Pace, before: SpeedLook | None, at: datetime
) -> tuple[float, HealthChanged | None]:
    """Return what can be sent in a second by now, and the change of state that follows."""
    policy, totals = state.policy(client), state.sender("client", client, "")
    start = _start(at, policy)
    slow = totals.state == "watched" and totals.rule == SLOWER
    if start < window(at, pace)[0] or (totals.state != "active" and not slow):
        return 0.0, None
    waiting = _waiting(state, client, start, at)
    seconds = (at - start).total_seconds()
    handed = since(totals.buckets, start).handed
    could = min(_could(able(state, client, at), state, pace, start, seconds), handed + len(waiting)) if waiting else 0
    if before is None and could:
        return could / seconds, None
    planned = round(min(could, before.per_second * seconds)) if before is not None else 0
    limit = policy.health.speed_share_watch
    too_few = handed < limit * planned and planned - handed >= policy.health.absolute_at_least
    if too_few == slow:
        return could / seconds, None
    said = f"the oldest due send has waited {_minutes(at - min(waiting.values()))}" if waiting else "no due send waits"
    length = _minutes(at - start)
    if slow:
        why = Evidence("as fast as planned again", policy.version, length, handed, planned, limit, said)
        return could / seconds, HealthChanged(client, "client", "", "watched", "active", why)
    why = Evidence(SLOWER, policy.version, length, handed, planned, limit, said)
    return could / seconds, HealthChanged(client, "client", "", "active", "watched", why)


def _minutes(span: timedelta) -> str:
    return f"{span.total_seconds() // 60:.0f} minutes"


def _start(at: datetime, policy: Policy) -> datetime:
    """The beginning of the ten minutes in which the time looked at begins: buckets are counted whole."""
    start = at - timedelta(minutes=max(1, policy.health.speed_minutes))
    return start.replace(minute=start.minute // 10 * 10, second=0, microsecond=0)


def _waiting(state: FleetState, client: ClientId, start: datetime, at: datetime) -> dict[str, datetime]:
    """Sends that could have gone all the time, and since when; of those to one company only the first."""
    found: dict[str, datetime] = {}
    judged: dict[object, WaitLimit] = {}
    for id_, row in state.due_rows(client, at).items():
        request = row.request
        if request is None or row.not_before > start:
            continue
        company = company_of(request.recipient_domain)
        if company and state.company_free_at(client, company) > start:
            continue
        if _limit(state, row, judged, at) in OF_MAILBOXES:
            name = company or id_
            found[name] = min(found.get(name, at), row.not_before)
    return found


def _limit(state: FleetState, row: BacklogRow, judged: dict[object, WaitLimit], at: datetime) -> WaitLimit:
    """What holds the send; asked once for all that the same limits hold."""
    request = row.request
    assert request is not None
    same = (request.campaign, request.list_id, request.receiver, request.basis.type, state.must_carry(row))
    if same not in judged:
        judged[same] = limit_of(state, row, at)[0]
    return judged[same]


def _could(boxes: list[Able], state: FleetState, pace: Pace, start: datetime, seconds: float) -> float:
    """How many mails these mailboxes could have sent: by their gaps, and by what their quotas leave."""
    each = max(1.0, seconds / (A_SEND + pace.gap_seconds + pace.gap_jitter_seconds / 2))
    of_domain: dict[DomainName, float] = defaultdict(float)
    most: dict[DomainName, float] = {}
    for box in boxes:
        own = since(state.sender("mailbox", box.client, box.mailbox).buckets, start).handed
        of_domain[box.domain] += min(each, own + box.left)
        if box.domain_left is not None:
            handed = since(state.sender("domain", box.client, box.domain).buckets, start).handed
            most[box.domain] = handed + box.domain_left
    return sum(min(count, most.get(domain, count)) for domain, count in of_domain.items())
