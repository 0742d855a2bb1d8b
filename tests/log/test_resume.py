"""What a new owner finds: the position row, the journal, the rows; and where it must stop and call a person."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec
import pytest

from schemas.entry import Entry, Seen
from schemas.envelope import to_wire
from schemas.ids import SendId
from schemas.registry import Fact, data_of, decided
from schemas.sending import CancelNoted, PartitionResumed
from streams.log import stage as stage_module
from streams.log.kafka import Record
from streams.log.position import BEGINNING
from streams.log.rows import POSITION, RowKey, key_text
from tests.log.harness import CLIENT, Owner, Tally, TallyMind, World, order

TALLY: RowKey = ("tally", "k")


async def test_a_new_owner_begins_at_the_position_row_and_folds_the_journal_behind_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_module, "POSITION_EVERY_ENTRIES", 2)
    await world.put(*[f"i{n}" for n in range(5)])
    first = await world.owner("first").begin()
    await first.take(0, 1)
    await first.tick()
    await first.take(2, 3)
    position = await world.stored_position()
    assert position is not None
    (_, last, *_) = await world.journal()
    assert (position.offset, position.seq, position.last_id) == (2, 2, last.id)
    assert position.causes == {world.places.inputs: 1}
    second = await world.owner("second").begin()
    await second.take(4)
    assert [entry.by for entry in await world.journal()] == ["first"] * 4 + ["second"]
    await world.agrees(second)


async def test_rows_written_after_the_position_row_are_not_folded_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_module, "POSITION_EVERY_ENTRIES", 1000)
    await world.put("i0", "i1", "i2")
    first = await world.owner("first").begin_fleet()
    await first.take(0, 1)
    await first.tick()
    position = await world.stored_position()
    assert position is not None
    assert position.seq == 0, "the rows stand at 2, the position at 0"
    second = await world.owner("second").begin()
    await second.take(2)
    await world.agrees(second)


# ── position row and failed writes ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize("what", [b"|tally|", b"|position|"])
async def test_after_a_failed_write_no_position_is_stored_and_the_partition_stands_until_a_restart(
    world: World, what: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_module, "POSITION_EVERY_ENTRIES", 1)
    await world.put("i0", "i1", "i2")
    owner = await world.owner("owner").begin()
    await owner.take(0)
    await owner.tick()
    before = await world.stored_position()
    await owner.take(1)
    owner.writer.lose("never", world.places.changelog, what)
    await owner.tick()
    assert "row write failed" in owner.stopped()
    assert owner.partition().restart
    await owner.tick()
    await owner.take(2)
    assert len(await world.journal()) == 2, "the partition stands"
    assert await world.stored_position() == before
    restarted = await world.owner("restarted").begin()
    await restarted.take(2)
    await world.agrees(restarted)


async def test_the_position_waits_for_the_rows_and_for_the_time_since_the_last(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.put("i0")
    owner = await world.owner("owner").begin_fleet()
    await owner.take(0)
    await owner.tick()
    position = await world.stored_position()
    assert position is not None
    assert position.seq == 0
    monkeypatch.setattr(stage_module, "POSITION_EVERY_S", 0.0)
    await owner.tick()
    records = await world.records(world.places.changelog)
    kinds = [(r.key or b"").split(b"|")[1] for r in records]
    assert kinds == [b"position", b"tally", b"position"]
    position = await world.stored_position()
    assert position is not None
    assert position.seq == 1


# ── stale rows ───────────────────────────────────────────────────────────────────────────────────


async def _compacted(world: World) -> list[Record]:
    """Return the changelog as compaction leaves it: the last record of each key."""
    return list({record.key: record for record in await world.records(world.places.changelog)}.values())


async def _two_rows_and_a_stale_one_behind(world: World) -> Owner:
    await world.put("i0", "i1", key="k")
    await world.put("j0", key="other")
    owner = await world.owner("owner").begin()
    await owner.take(0)
    await owner.tick()
    (stale,) = [r for r in await world.records(world.places.changelog) if r.key == key_text(0, TALLY)]
    await owner.take(1, 2)
    await owner.tick()
    assert stale.value is not None
    await world.writer.append(world.places.changelog, 0, stale.key, stale.value)
    return owner


async def _scrubbed(world: World, owner: Owner) -> None:
    """Tick until the owner has written its row behind the stale one."""
    held = owner.rows.get(key_text(0, TALLY))
    async with asyncio.timeout(10):
        while [r.value for r in await world.records(world.places.changelog) if r.key == key_text(0, TALLY)][-1] != held:
            await owner.tick()


async def test_a_stale_row_behind_the_good_one_is_dropped_in_recovery(world: World) -> None:
    owner = await _two_rows_and_a_stale_one_behind(world)
    await world.agrees(owner)


@pytest.mark.parametrize("when", ["on resume", "once a day"])
async def test_the_scrub_writes_again_what_compaction_would_lose(
    world: World, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_module, "POSITION_EVERY_S", 0.0)
    owner = await _two_rows_and_a_stale_one_behind(world)
    await owner.tick()
    lost = world.owner("lost")
    lost.rows.recover_from(await _compacted(world))
    lost.assigned()
    await lost.tick()
    assert lost.tallies() == {"k": ("i0",), "other": ("j0",)}, "without the scrub the row is lost for good"
    if when == "on resume":
        owner.assigned()
    else:
        monkeypatch.setattr(stage_module, "SCRUB_EVERY_S", 0.0)
    await _scrubbed(world, owner)
    healed = world.owner("healed")
    healed.rows.recover_from(await _compacted(world))
    healed.assigned()
    await healed.tick()
    assert healed.tallies() == {"k": ("i0", "i1"), "other": ("j0",)}
    await world.agrees(owner, healed)


async def test_the_scrub_leaves_rows_alone_whose_last_record_is_the_good_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.put("i0")
    owner = await world.owner("owner").begin()
    await owner.take(0)
    await owner.tick()
    written = await world.reader.bounds(world.places.changelog, 0)
    owner.assigned()
    await owner.tick()
    scrub = owner.partition()._scrub
    assert scrub is not None
    await scrub
    await owner.tick()
    assert await world.reader.bounds(world.places.changelog, 0) == written


# ── loud stops ───────────────────────────────────────────────────────────────────────────────────


async def _settled(world: World, monkeypatch: pytest.MonkeyPatch) -> Owner:
    """An owner that decided three inputs and stored its position."""
    monkeypatch.setattr(stage_module, "POSITION_EVERY_ENTRIES", 1)
    await world.put("i0", "i1", "i2")
    owner = await world.owner("owner").begin()
    await owner.take(0, 1, 2)
    await owner.tick()
    return owner


async def _says(owner: Owner) -> str:
    """Begin, tick, and return why the partition stands; it must have written nothing."""
    world = owner.world
    before = await world.reader.bounds(world.places.journal, 0)
    await owner.begin()
    await owner.tick()
    assert not owner.partition().ready
    assert await world.reader.bounds(world.places.journal, 0) == before
    assert not owner.partition().restart, "no restart cures this"
    return owner.stopped()


@pytest.mark.parametrize("topic", ["journal", "inputs"])
async def test_a_topic_that_was_made_again_stops_loudly(
    world: World, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _settled(world, monkeypatch)
    name = getattr(world.places, topic)
    world.make_again(name)
    world.look_up()
    said = await _says(world.owner("next"))
    assert f"topic {name} was deleted and made again" in said
    assert "Restore it" in said


async def test_a_journal_shorter_than_what_was_folded_stops_loudly(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _settled(world, monkeypatch)
    await _plant_position(world, offset=9, seq=9)
    said = await _says(world.owner("next"))
    assert "ends at 3, but 9 records were folded: the journal was cut short" in said


async def test_a_journal_that_begins_behind_the_position_stops_loudly(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await _settled(world, monkeypatch)
    monkeypatch.setattr(stage_module, "POSITION_EVERY_ENTRIES", 1000)
    await world.put("i3", "i4")
    await owner.take(3, 4)
    world.cut(world.places.journal, before=5)
    said = await _says(world.owner("next"))
    assert "begins at 5, after the position 3: entries are missing" in said


async def test_inputs_shorter_than_what_was_decided_stop_loudly(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await _settled(world, monkeypatch)
    await _plant_position(world, causes={world.places.inputs: 7})
    said = await _says(world.owner("next"))
    assert "ends at 3, but offset 7 was decided" in said


async def test_a_journal_with_history_and_no_position_row_stops_loudly(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _settled(world, monkeypatch)
    stranger = world.owner("stranger", places=replace(world.places, changelog=world.places.ticks))
    stranger.assigned()
    await stranger.tick()
    assert "has 3 records but no position row is stored" in stranger.stopped()
    assert "MAILFLEET_PREFIX" in stranger.stopped()


async def test_a_table_that_the_engine_has_not_recovered_asks_for_a_fresh_process_not_for_a_person(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _settled(world, monkeypatch)
    empty = world.owner("empty")
    empty.assigned()
    await empty.tick()
    assert "the changelog has a position that the table lacks" in empty.stopped()
    assert empty.stage.partitions[0].restart


async def test_a_partition_that_goes_while_the_lag_is_looked_at_ends_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await _settled(world, monkeypatch)
    reader = owner.stage.doors.reader

    async def ends(places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        owner.stage.assigned([])
        return dict.fromkeys(places, 5)

    monkeypatch.setattr(reader, "ends", ends)
    await owner.stage.watch_lag()
    assert not owner.stage.partitions


async def test_what_the_engine_still_had_in_hand_of_a_partition_that_went_is_left_to_its_new_owner(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await _settled(world, monkeypatch)
    await world.put("late")
    owner.stage.revoked([0])
    await owner.take(3)
    owner.stage.assigned([])
    await owner.take(3)
    await owner.tick()
    assert not owner.stage.partitions, "no partition is made for what is not ours"
    assert len(await world.entries()) == 3, "nothing was decided on tables that may be gone"
    owner.assigned()
    await owner.take(3)
    assert len(await world.entries()) == 4


async def _plant_position(world: World, **changes: Any) -> None:
    """Write a newer position row with other values."""
    stored = await world.stored_position()
    assert stored is not None
    raw = b'{"m":99,"r":%b}' % to_wire(msgspec.structs.replace(stored, **changes))
    await world.writer.append(world.places.changelog, 0, key_text(0, POSITION), raw)


def _entry(seq: int, prev: str) -> Entry:
    fact = CancelNoted(CLIENT, SendId("k"), "stranger")
    seen = Seen("cancel.ordered", 1, data_of(order("x")))
    return Entry(f"stranger-{seq}", "stranger", seq, prev, BEGINNING, None, seen, (decided(fact),))


BROKEN = {
    "a hole": (5, "entry-4", "entry 5 follows 3: a hole"),
    "a fork": (4, "another", "a fork. Two clusters"),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("found", ["on resume", "behind an append", "behind a claim"])
async def test_a_hole_and_a_fork_in_the_journal_stop_loudly(
    world: World, what: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await _settled(world, monkeypatch)
    seq, prev, sentence = BROKEN[what]
    await world.writer.append(world.places.journal, 0, b"0", to_wire(_entry(seq, prev)))
    if found == "on resume":
        assert sentence in await _says(world.owner("next"))
        return
    if found == "behind an append":
        await world.put("i3")
        await owner.take(3)
    else:
        with pytest.raises(stage_module.StopLoudly, match=sentence):
            await owner.partition().ask(order("claim"))
    assert sentence in owner.stopped()
    assert owner.tallies() == {"k": ("i0", "i1", "i2")}


async def test_an_old_seq_is_void_and_is_skipped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = await _settled(world, monkeypatch)
    await world.writer.append(world.places.journal, 0, b"0", to_wire(_entry(3, "entry-2")))
    await world.put("i3")
    await owner.take(3)
    await world.agrees(owner)


async def test_something_else_in_the_journal_stops_loudly(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await _settled(world, monkeypatch)
    await world.writer.append(world.places.journal, 0, b"0", b"hello")
    assert "something else writes to the journal" in await _says(world.owner("next"))


async def test_an_entry_with_a_fact_of_a_newer_release_stops_loudly(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _settled(world, monkeypatch)
    (*_, last) = await world.journal()
    newer = to_wire(_entry(4, last.id)).replace(b"cancel.noted", b"cancel.of_tomorrow")
    await world.writer.append(world.places.journal, 0, b"0", newer)
    said = await _says(world.owner("next"))
    assert "this release cannot read (unknown type 'cancel.of_tomorrow')" in said


async def test_a_row_that_grew_too_large_stops_loudly(world: World) -> None:
    await world.put("x" * 100_001)
    owner = await world.owner("owner").begin()
    await owner.take(0)
    await owner.tick()
    assert "a Tally row has" in owner.stopped()


async def test_one_partition_that_stands_lets_the_others_go_on(wide_world: World) -> None:
    owner = await wide_world.owner("owner").begin_fleet()
    await wide_world.writer.append(wide_world.places.journal, 0, b"0", b"hello")
    await wide_world.put("i0", partition=0)
    await wide_world.put("j0", partition=1)
    await owner.take(0, partition=0)
    await owner.take(0, partition=1)
    assert owner.stopped(0)
    await wide_world.agrees(owner, partition=1)


async def test_open_attempts_that_nobody_here_holds_are_told_to_the_mind_on_resume(world: World) -> None:
    class Asked(TallyMind):
        def decide(self, state: dict[str, Tally], seen: Fact, at: datetime) -> list[Fact]:
            if isinstance(seen, PartitionResumed):
                return [CancelNoted(CLIENT, SendId("k"), attempt) for attempt in seen.open_elsewhere]
            return super().decide(state, seen, at)

    first = await world.owner("first").begin_fleet()
    first.partition().position.open = {"started": True, "assigned": False, "held": True}
    await first.partition()._store_position()
    second = world.owner("second", Asked())
    second.stage.holds = lambda _partition, attempt: attempt == "held"
    await second.begin()
    await second.tick()
    assert [fact.by for fact in await world.facts()] == ["started"]
