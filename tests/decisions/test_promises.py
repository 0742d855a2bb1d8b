"""Whatever happens in whatever order: no send twice, none lost, no limit passed, state equal to its log."""

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from schemas.entry import Entry
from schemas.ids import MailboxAddress
from schemas.registry import Fact
from schemas.sending import (
    AttemptAccepted,
    AttemptMissed,
    AttemptNotSent,
    AttemptRefused,
    AttemptUnknown,
    SendAdmitted,
    SendAssigned,
    SendAssumedSent,
    SendCancelled,
    SendEnded,
    SendExpired,
    SendFailed,
    SendRef,
    SendRefused,
    SendRequeued,
    SendReturned,
    SendWithdrawn,
    SubmissionStarted,
    Ticked,
)
from streams.fleet.pace import gap, local_day
from streams.log.rows import RowKey, Rows, encode_row
from streams.log.stage import fold
from tests.decisions.bounds import bounded
from tests.decisions.small_world import PACE, QUOTAS, SmallWorld
from tests.decisions.world import PARTITION, DictStore, Ledger, facts_of, stored

ENDS = (AttemptAccepted, SendFailed, SendCancelled, SendExpired, SendWithdrawn, SendAssumedSent)
SETTLED = (AttemptAccepted, AttemptRefused, AttemptNotSent, AttemptMissed)
WHAT = (
    *("request", "cancel", "lose", "store", "zombie", "disown", "report", "report"),
    *("request", "request", "pass", "pass"),
    *("tell", "tell", "tell", "take", "take", "take", "take", "tick", "tick", "tick", "tick"),
    *("hand", "hand", "hand", "hand", "hand", "hand", "hand"),
)
Steps = list[tuple[str, int, int]]
BUSY = [("request", n, 4) for n in range(6)]
BUSY += [("take", 0, 5), ("take", 1, 5), ("tell", 0, 1), ("take", 2, 5), ("tick", 2, 0)]


def story(seed: int, length: int) -> Steps:
    """Return things that happen, each as likely as it is named above; a failure shrinks to the shortest beginning."""
    chance = Random(seed)
    return [(chance.choice(WHAT), chance.randrange(30), chance.randrange(1_000)) for _ in range(length)]


STEPS = st.builds(story, st.integers(0, 2**32), st.integers(50, 500))


def lived(steps: Steps, *, run_out: bool = False) -> SmallWorld:
    """Return a world in which these things happened."""
    world = SmallWorld()
    for what, a, b in [*BUSY, *steps]:
        world.step(what, a, b)
    if run_out:
        world.run_out()
    return world


def ref_in(fact: Fact) -> SendRef:
    ref = fact.request.ref if isinstance(fact, SendAdmitted) else getattr(fact, "ref", None)
    assert isinstance(ref, SendRef)
    return ref


# ── the promises ─────────────────────────────────────────────────────────────────────────────────


@bounded(40)
@given(STEPS)
def test_no_send_is_accepted_twice_and_no_send_has_two_live_attempts(steps: Steps) -> None:
    """The mail world of tests.decisions.small_world asserts both at the moment of the claim and of the mail."""
    world = lived(steps, run_out=True)
    assert max(world.accepted.values(), default=0) <= 1


@bounded(40)
@given(STEPS)
def test_an_attempt_starts_only_when_all_before_it_have_settled_as_unsent_and_settles_once(steps: Steps) -> None:
    for stage in lived(steps, run_out=True).deliveries:
        said: dict[tuple[str, int], list[Fact]] = defaultdict(list)
        for _, fact in stage.led.facts():
            if isinstance(fact, SubmissionStarted):
                for attempt in range(1, fact.attempt):
                    last = said[fact.ref.send_id, attempt][-1]
                    assert isinstance(last, AttemptRefused | AttemptNotSent | AttemptMissed | SendReturned)
                assert said[fact.ref.send_id, fact.attempt] == []
            if isinstance(fact, SendReturned):
                assert isinstance(said[fact.ref.send_id, fact.attempt][-1], AttemptAccepted)
                said[fact.ref.send_id, fact.attempt].append(fact)
            if isinstance(fact, (*SETTLED, AttemptUnknown)):
                before = [type(f) for f in said[fact.ref.send_id, fact.attempt]]
                assert before in ([], [AttemptUnknown])
                assert not (before and isinstance(fact, AttemptUnknown))
                said[fact.ref.send_id, fact.attempt].append(fact)


@bounded(40)
@given(STEPS)
def test_every_request_comes_to_exactly_one_end(steps: Steps) -> None:
    world = lived(steps, run_out=True)
    answers: Counter[str] = Counter()
    for stage in world.deliveries:
        ends: Counter[str] = Counter()
        for _, fact in stage.led.facts():
            if isinstance(fact, SendAdmitted):
                answers[f"{fact.request.content.partition}/{fact.request.content.offset}"] += 1
                ends[fact.request.ref.send_id] += 0
            elif isinstance(fact, SendRefused):
                answers[fact.request] += 1
            elif isinstance(fact, ENDS):
                ends[ref_in(fact).send_id] += 1
            elif isinstance(fact, SendReturned):
                ends[ref_in(fact).send_id] -= 1  # it had ended as accepted, and waits again
        assert set(ends.values()) <= {1}, ends
        assert stage.led.open == {}
    assert answers == Counter(f"0/{made.content.offset}" for made in world.asked)


@bounded(40)
@given(STEPS)
def test_when_all_has_ended_the_fleet_holds_no_mailbox_and_no_send(steps: Steps) -> None:
    world = lived(steps, run_out=True)
    for key, row in world.fleet.led.rows.all():
        if key[0] == "mailbox":
            assert world.fleet.led.row(*key).open == ""
        if key[0] == "backlog":
            assert world.fleet.led.row(*key).request is None, row
    for box, used in ((box, world.fleet.led.row("mailbox", box).used) for box in QUOTAS):
        days = Counter(local_day(at, PACE) for at in world.left[box])
        assert all(used[day] >= count for day, count in days.items() if day in used), "what left is spent"


@bounded(40)
@given(STEPS)
def test_no_mailbox_passes_its_daily_quota_or_its_gap(steps: Steps) -> None:
    world = lived(steps, run_out=True)
    held: Counter[tuple[MailboxAddress, str]] = Counter()
    out: dict[MailboxAddress, str] = {}
    free_at: dict[MailboxAddress, datetime] = {}
    for entry, fact in world.fleet.led.facts():
        if isinstance(fact, SendAssigned):
            box = fact.sender.mailbox
            assert box not in out
            assert entry.at >= free_at.get(box, entry.at)
            assert fact.not_before >= entry.at
            assert local_day(fact.not_after - timedelta(microseconds=1), PACE) == fact.quota_day
            out[box] = f"{fact.ref.send_id}/{fact.attempt}"
            held[box, fact.quota_day] += 1
            assert held[box, fact.quota_day] <= QUOTAS[box]
        elif isinstance(fact, SendRequeued | SendEnded) and fact.release is not None:
            box = fact.release.mailbox
            if out.get(box) == f"{fact.ref.send_id}/{fact.attempt}":
                del out[box]
                free_at[box] = entry.at + gap(PACE, fact.ref.send_id)
            if fact.release.gave_back:
                held[box, fact.release.quota_day] -= 1
                assert held[box, fact.release.quota_day] >= 0
    for box, quota in QUOTAS.items():
        used = world.fleet.led.row("mailbox", box).used
        assert used == {day: held[box, day] for day in used}
        assert max(Counter(local_day(at, PACE) for at in world.claims[box]).values(), default=0) <= quota + 3
        assert max(Counter(local_day(at, PACE) for at in world.left[box]).values(), default=0) <= quota
        claims = sorted(world.claims[box])
        assert all(later - sooner >= timedelta(seconds=PACE.gap_seconds) for sooner, later in pairwise(claims))


# ── state is a fold of the log ───────────────────────────────────────────────────────────────────


def folded(led: Ledger, store: DictStore, entries: list[Entry]) -> dict[RowKey, bytes]:
    """Return all rows after folding entries over a store, as a resume does."""
    rows = Rows(store, PARTITION, led.mind.row_types)
    state = led.mind.open(rows)
    for entry in entries:
        fold(led.mind, rows, state, entry, facts_of(entry))
    found: dict[RowKey, bytes] = {}
    for key, _ in rows.all():
        mark, row = rows.held(key)
        assert row is not None
        found[key] = encode_row(mark, row)
    return found


@bounded(40)
@given(STEPS, st.data())
def test_a_fold_of_a_prefix_and_a_resume_equals_the_fold_of_the_whole_wherever_each_row_was_stored(
    steps: Steps, data: st.DataObject
) -> None:
    for stage in lived(steps).stages:
        led = stage.led
        whole = led.all_rows()
        assert folded(led, DictStore(), led.journal) == whole
        history: dict[RowKey, list[bytes]] = defaultdict(list)
        for upto in range(led.seq + 1):
            for key, raw in folded(led, DictStore(), led.journal[:upto]).items():
                if not history[key] or history[key][-1] != raw:
                    history[key].append(raw)
        cut = {
            key: versions[chosen - 1]
            for key, versions in sorted(history.items())
            if (chosen := data.draw(st.integers(0, len(versions)), label=str(key)))
        }
        assert folded(led, stored(cut), led.journal) == whole


@bounded(40)
@given(STEPS)
def test_a_row_follows_from_its_own_facts_alone(steps: Steps) -> None:
    for stage in lived(steps).stages:
        led = stage.led
        alone: dict[RowKey, tuple[int, object]] = {}
        for entry, fact in led.facts():
            for key in led.mind.rows_of(fact, entry.at):
                before = alone.get(key, (0, None))[1]
                assert before is None or isinstance(before, led.mind.row_types[key[0]])
                alone[key] = entry.seq, led.mind.evolve(key, before, fact, entry.at)
        kept = {key: led.rows.held(key) for key in alone}
        assert {key: (mark, str(row)) for key, (mark, row) in alone.items()} == {
            key: (mark, str(row)) for key, (mark, row) in kept.items()
        }


# ── deciding again ───────────────────────────────────────────────────────────────────────────────


@bounded(40)
@given(STEPS)
def test_what_was_decided_to_nothing_is_nothing_again(steps: Steps) -> None:
    world = lived(steps)
    for stage in world.stages:
        while stage.next < len(stage.inputs):
            origin, fact = stage.inputs[stage.next]
            if not stage.take(world.now):
                before = stage.led.all_rows()
                assert stage.led.sees(fact, world.now, origin) == []
                assert stage.led.all_rows() == before


@bounded(40)
@given(STEPS)
def test_a_decision_whose_entry_did_not_count_is_decided_again_alike(steps: Steps) -> None:
    world = lived(steps)
    for stage in world.stages:
        for fact in [Ticked(), *(fact for _, fact in stage.inputs[stage.next :][:3])]:
            once = stage.led.decides(fact, world.now)
            assert stage.led.decides(fact, world.now) == once


@bounded(40)
@given(STEPS)
def test_a_partition_that_resumed_loses_no_send_that_waits(steps: Steps) -> None:
    """Which mailbox is next may differ: who was looked at last is not in the rows. How many go may not."""
    world = lived(steps)
    led = world.fleet.led
    at = world.now + timedelta(days=1)
    going = sum(isinstance(fact, SendAssigned) for fact in led.decides(Ticked(), at))
    led.resumes()
    assert sum(isinstance(fact, SendAssigned) for fact in led.decides(Ticked(), at)) == going
