"""Cancels: each goes to the partitions of the recipients that it is about, a large one in steps.

While such a sweep is under way nothing of its campaign or thread is assigned. What comes after it began is spared.
"""

from datetime import datetime

from schemas.ids import CampaignId, ClientId
from schemas.registry import Fact
from schemas.sending import (
    CancelNoted,
    CancelOrdered,
    CancelRequested,
    CancelSweepBegan,
    CancelSweepEnded,
    SendQueued,
    SendRef,
    SendRequested,
)
from streams.fleet.state import BacklogRow, FleetState, sweep_key

MOST_PER_STEP = 200
"""Cancels of one entry; each is forwarded and acknowledged before the partition goes on."""


def queued(state: FleetState, request: SendRequested) -> SendQueued:
    """Queue a send; sweeps that are under way began before it and pass it by."""
    return SendQueued(request, state.last_sweep(request.ref.client) if state.sweeps() else 0)


def requested(state: FleetState, fact: CancelRequested, _at: datetime) -> list[Fact]:
    """Pass a cancel on to each recipient's partition; remember one that came before its send."""
    if fact.send_id:
        row = state.backlog(f"{fact.client}/{fact.send_id}")
        if row is None:
            return [CancelNoted(fact.client, fact.send_id, fact.by)]
        return [CancelOrdered(SendRef(fact.client, fact.send_id, row.recipient), fact.by)]
    campaign = CampaignId("") if fact.thread_id else fact.campaign
    found = _waiting(state, fact.client, campaign, fact.thread_id)
    key = sweep_key(fact.client, campaign, fact.thread_id)
    if len(found) <= MOST_PER_STEP and not state.is_swept(key):
        return [CancelOrdered(_request(row).ref, fact.by) for row in found]
    sweep = CancelSweepBegan(fact.client, state.last_sweep(fact.client) + 1, fact.by, campaign, fact.thread_id)
    return [sweep, *_orders(sweep, found)]


def step(state: FleetState) -> list[Fact]:
    """Pass on some more of the sweep that began first, or end it."""
    sweep = min(state.sweeps(), key=lambda s: (s.client, s.number), default=None)
    if sweep is None:
        return []
    left = _waiting(state, sweep.client, sweep.campaign, sweep.thread_id)
    orders = _orders(sweep, [row for row in left if row.sweep < sweep.number])
    return orders or [CancelSweepEnded(sweep.client, sweep.number, sweep.campaign, sweep.thread_id)]


def _waiting(state: FleetState, client: ClientId, campaign: CampaignId, thread_id: str) -> list[BacklogRow]:
    """The sends of the thread, else of the campaign, that may still be cancelled."""
    return [
        row
        for row in state.backlog_of(client)
        if row.state in ("admitted", "assigned")
        and (_request(row).thread_id == thread_id if thread_id else _request(row).campaign == campaign)
    ]


def _orders(sweep: CancelSweepBegan, rows: list[BacklogRow]) -> list[Fact]:
    """Those that are out go first: they may start at any time."""
    rows.sort(key=lambda row: row.state != "assigned")
    return [CancelOrdered(_request(row).ref, sweep.by, sweep.number) for row in rows[:MOST_PER_STEP]]


def _request(row: BacklogRow) -> SendRequested:
    assert row.request is not None
    return row.request
