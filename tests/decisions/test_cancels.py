"""A cancel of a large campaign: it goes in steps, leaves nobody out, and meanwhile nothing of it is assigned."""

from collections import Counter
from datetime import timedelta

import pytest

from ops.journals import Nowhere
from schemas import registry
from schemas.envelope import to_wire
from schemas.ids import CampaignId, ClientId, SendId
from schemas.registry import Fact
from schemas.sending import (
    CancelOrdered,
    CancelRequested,
    CancelSweepBegan,
    CancelSweepEnded,
    Reply,
    SendAssigned,
    SendCancelled,
    SendReturned,
    Verdict,
)
from streams.fleet.cancels import MOST_PER_STEP
from streams.fleet.state import ALWAYS
from streams.log.rows import Rows
from tests.decisions.fleet_story import START, FleetStory, accept

ACME = ClientId("acme")
SPRING = CancelRequested(ACME, campaign=CampaignId("spring"))
MANY = 20_000


def a_fleet(sends: int, boxes: int = 3, **more: str) -> FleetStory:
    """A client with two campaigns; all sends are of the one that will be cancelled."""
    story = FleetStory(latency_s=3.0)
    story.fleet("acme", boxes, daily_quota=100_000, campaigns=("spring", "other"))
    for n in range(sends):
        story.ask("acme", f"spring-{n}", "spring", **more)  # type: ignore[arg-type]
    return story


def orders(facts: list[Fact]) -> list[str]:
    """Which sends are to be cancelled."""
    return [fact.ref.send_id for fact in facts if isinstance(fact, CancelOrdered)]


def assigned(facts: list[Fact]) -> list[str]:
    return [fact.ref.send_id for fact in facts if isinstance(fact, SendAssigned)]


def second(story: FleetStory) -> list[Fact]:
    """Let a second pass: what was ordered a second ago is cancelled, then the tick is decided."""
    before = len(story.journal)
    for order in story.decided(CancelOrdered):
        assert isinstance(order, CancelOrdered)
        row = story.state.backlog(f"acme/{order.ref.send_id}")
        if row is not None and row.state == "admitted":
            story.sees(SendCancelled(order.ref, order.by))
    story.tick()
    return [fact for _, fact in story.journal[before:]]


def test_twenty_thousand_sends_are_cancelled_in_small_entries_each_once_and_none_is_assigned() -> None:
    story = a_fleet(MANY)
    story.ask("acme", "other-1", "other")
    entries = [story.sees(SPRING)]
    steps = 0
    while story.state.sweeps():
        before = len(story.journal)
        story.tick()
        entries.append([fact for _, fact in story.journal[before:]])
        steps += 1
        assert steps <= MANY / MOST_PER_STEP + 1
    assert Counter(orders([f for entry in entries for f in entry])) == Counter(f"spring-{n}" for n in range(MANY))
    assert max(len(orders(entry)) for entry in entries) == MOST_PER_STEP
    assert max(sum(len(to_wire(registry.decided(f))) for f in entry) for entry in entries) < 100_000
    assert [a for entry in entries for a in assigned(entry)] == ["other-1"], "another campaign goes on"
    assert isinstance(entries[0][0], CancelSweepBegan)
    assert entries[-1][0] == CancelSweepEnded(ACME, 1, CampaignId("spring"))


def test_a_send_that_comes_after_the_cancel_waits_for_the_end_of_the_sweep_and_goes() -> None:
    story = a_fleet(3 * MOST_PER_STEP)
    story.sees(SPRING)
    story.ask("acme", "spring-late", "spring")
    told = second(story) + second(story)
    assert story.state.sweeps()
    assert not assigned(told)
    last = second(story)
    assert not story.state.sweeps()
    assert assigned(last + second(story)) == ["spring-late"]
    assert "spring-late" not in orders(story.decided(CancelOrdered))


def test_what_is_out_already_is_cancelled_first() -> None:
    story = a_fleet(2 * MOST_PER_STEP, boxes=7)
    story.tick()
    out = set(assigned(story.decided(SendAssigned)))
    assert len(out) == 7
    assert set(orders(story.sees(SPRING))[:7]) == out


def test_the_same_cancel_again_takes_what_came_since_and_a_sweep_never_orders_a_send_twice() -> None:
    story = a_fleet(3 * MOST_PER_STEP)
    story.sees(SPRING)
    story.ask("acme", "spring-late", "spring")
    second(story)
    story.sees(SPRING)
    while story.state.sweeps():
        second(story)
    per_sweep = Counter((o.ref.send_id, o.sweep) for o in story.decided(CancelOrdered) if isinstance(o, CancelOrdered))
    assert max(per_sweep.values()) == 1
    assert per_sweep[SendId("spring-late"), 2] == 1
    assert len({send_id for send_id, _ in per_sweep}) == 3 * MOST_PER_STEP + 1
    assert not story.state.backlog_of(ACME)


def test_the_same_cancel_again_near_the_end_of_the_sweep_orders_nobody_twice_in_one_sweep() -> None:
    story = a_fleet(MOST_PER_STEP + 5)
    story.sees(SPRING)
    for order in story.decided(CancelOrdered):
        assert isinstance(order, CancelOrdered)
        story.sees(SendCancelled(order.ref, order.by))
    assert len(orders(story.sees(SPRING))) == 5
    before = len(story.decided(CancelOrdered))
    story.tick()  # nobody has cancelled them yet
    assert len(story.decided(CancelOrdered)) == before
    assert not story.state.sweeps()


def test_a_simulated_clock_stops_at_each_step_of_a_sweep() -> None:
    story = a_fleet(0)
    for n in range(MOST_PER_STEP + 1):
        story.ask("acme", f"spring-{n}", "spring", not_before=START + timedelta(days=1))
    story.tick()
    assert story.state.next_due() not in (None, ALWAYS)
    story.sees(SPRING)
    assert story.state.next_due() == ALWAYS


def test_a_send_that_comes_back_while_the_sweep_is_under_way_goes_on_like_one_that_comes_later() -> None:
    story = a_fleet(3 * MOST_PER_STEP, boxes=1)
    story.tick()
    ((_, out),) = story.assigned
    row = story.state.backlog(f"acme/{out.ref.send_id}")
    assert row is not None
    assert row.request is not None
    story.sees(accept(out))
    story.sees(SPRING)
    reply, said = Reply("zoho", "dot", 550, "5.4.6", "no"), Verdict("block", "mailbox", "mailbox", "pause", "a rule")
    box, route = out.sender.mailbox, out.call.route
    story.sees(SendReturned(out.ref, row.request, out.attempt, box, route, reply, said, story.now))
    while story.state.sweeps():
        second(story)
    assert out.ref.send_id not in orders(story.decided(CancelOrdered))


@pytest.mark.parametrize("sticky", [False, True])
def test_a_thread_of_many_sends_is_held_while_it_is_swept(sticky: bool) -> None:
    story = a_fleet(1)
    story.tick(5)
    box = "box0@acme.test" if sticky else ""
    for n in range(2 * MOST_PER_STEP):
        story.ask("acme", f"spring-t{n}", "spring", thread_id="t", mailbox=box)
    story.ask("acme", "spring-other", "spring")
    story.sees(CancelRequested(ACME, thread_id="t", by="reply"))
    assert assigned(second(story)) == ["spring-other"], "only the thread is held"
    while story.state.sweeps():
        assert not assigned(second(story))
    assert len(set(orders(story.decided(CancelOrdered)))) == 2 * MOST_PER_STEP


def test_another_worker_goes_on_with_the_sweep_and_a_replay_ends_with_the_same_rows() -> None:
    story = a_fleet(4 * MOST_PER_STEP)
    story.sees(SPRING)
    story.ask("acme", "spring-late", "spring")
    second(story)
    story.reopen()
    while story.state.sweeps():
        assert not assigned(second(story))
    assert len(set(orders(story.decided(CancelOrdered)))) == 4 * MOST_PER_STEP
    again = Rows(Nowhere(), 0, story.mind.row_types)
    for at, fact in story.journal:
        for key in story.mind.rows_of(fact, at):
            again.put(key, 1, story.mind.evolve(key, again.get(key), fact, at))
    assert dict(again.all()) == dict(story.rows.all())


def test_a_cancel_of_few_goes_in_one_entry_and_holds_nothing() -> None:
    story = a_fleet(MOST_PER_STEP)
    assert len(orders(story.sees(SPRING))) == MOST_PER_STEP
    assert not story.state.sweeps()
