"""Which mailbox carries which send now: round robin over free mailboxes. Only a fresh tick asks."""

import heapq
from datetime import datetime, timedelta

from schemas.registry import Fact
from schemas.sending import RouteCall, SendAssigned, Sender, SendLapsed
from streams.fleet.pace import local_day, next_day, window
from streams.fleet.state import BacklogRow, FleetState, MailboxRow, RouteRow

MOST_PER_TICK = 200
"""Assignments in one entry; the rest waits for the next second."""


def plan(state: FleetState, at: datetime) -> list[Fact]:
    """Return the sends that lapse and those that are assigned at `at`.

    A decision may be made again when its entry did not count, so what the heaps give up goes back unless
    the row changes: a stale heap entry is skipped, a missing one would lose a send.
    """
    lapsed = _lapsed(state, at)
    _come_due(state, at)
    facts: list[Fact] = list(lapsed)
    back_idle: list[tuple[datetime, str]] = []
    taken: set[str] = {f"{f.ref.client}/{f.ref.send_id}" for f in lapsed}
    seen: set[str] = set()
    while state.idle and state.idle[0][0] <= at and len(facts) < MOST_PER_TICK:
        when, name = heapq.heappop(state.idle)
        row = state.mailbox(name)
        if row is None or row.open or not row.declared.active or row.free_at > at or name in seen:
            continue
        seen.add(name)
        look_again, assignment = _for_mailbox(state, row, at, taken)
        back_idle.append((max(when, look_again), name))
        if assignment is not None:
            taken.add(f"{assignment.ref.client}/{assignment.ref.send_id}")
            facts.append(assignment)
    for entry in back_idle:
        heapq.heappush(state.idle, entry)
    return facts


def _lapsed(state: FleetState, at: datetime) -> list[SendLapsed]:
    found: list[SendLapsed] = []
    keep: list[tuple[datetime, str]] = []
    while state.lapse and state.lapse[0][0] <= at and len(found) < MOST_PER_TICK // 2:
        entry = heapq.heappop(state.lapse)
        row = state.waits(entry[1])
        if row is not None and row.request is not None:
            keep.append(entry)
            found.append(SendLapsed(row.request.ref))
    for entry in keep:
        heapq.heappush(state.lapse, entry)
    return found


def _come_due(state: FleetState, at: datetime) -> None:
    """Move sends whose time has come to their client's queue, or to their one mailbox's."""
    while state.later and state.later[0][0] <= at:
        _, arrival, id_ = heapq.heappop(state.later)
        row = state.waits(id_)
        if row is None or row.request is None or row.not_before > at:
            continue
        queue = state.sticky[row.stay_with] if row.stay_with else state.due[row.request.ref.client]
        heapq.heappush(queue, (row.request.priority, arrival, id_))


def _for_mailbox(
    state: FleetState, row: MailboxRow, at: datetime, taken: set[str]
) -> tuple[datetime, SendAssigned | None]:
    """Return (when to look at this mailbox again, its next assignment)."""
    client = state.client(row.declared.client)
    route = state.route(row.declared.client, row.declared.route)
    if client is None or route is None:
        return at + timedelta(seconds=60), None
    pace = client.declared.pace
    opens, closes = window(at, pace)
    day = local_day(at, pace)
    if at < opens:
        return opens, None
    if state.quota_left(row, day) <= 0:
        return next_day(at, pace), None
    if route.out_until is not None and at < route.out_until:
        return route.out_until, None
    send = _next_send(state, row, taken)
    if send is None or send.request is None:
        return at, None
    ends = min(at + timedelta(seconds=pace.slot_seconds), closes, next_day(at, pace))
    sender = Sender(
        row.declared.mailbox,
        row.declared.name,
        client.declared.postal_address,
        client.declared.unsubscribe_url,
    )
    return at, SendAssigned(
        ref=send.request.ref,
        attempt=send.attempt + 1,
        sender=sender,
        call=_call(row, route),
        not_before=at,
        not_after=ends,
        quota_day=day,
        rule="same mailbox again" if send.stay_with else "round robin: free the longest",
    )


def _next_send(state: FleetState, row: MailboxRow, taken: set[str]) -> BacklogRow | None:
    """The next send for this mailbox: one that must stay with it, else the client's next."""
    for queue in (state.sticky.get(row.declared.mailbox), state.due.get(row.declared.client)):
        while queue:
            send = state.waits(queue[0][2])
            if send is None or queue[0][2] in taken:
                if send is not None:  # chosen in this very plan: back to `later`, in case the entry does not count
                    heapq.heappush(state.later, (send.not_before, queue[0][1], queue[0][2]))
                heapq.heappop(queue)
                continue
            return send
    return None


def _call(row: MailboxRow, route: RouteRow) -> RouteCall:
    way = route.declared
    return RouteCall(
        route=way.route,
        provider=way.provider,
        host=way.host,
        port=way.port,
        tls=way.tls,
        username=row.declared.username or row.declared.mailbox,
        secret_ref=row.declared.secret_ref,
        ca_file_ref=way.ca_file_ref,
        max_connections=way.max_connections,
    )
