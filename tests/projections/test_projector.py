"""The projector: exactly once whatever is killed, and loudly still where the journal is not whole."""

import asyncio
import signal
from pathlib import Path

import msgspec
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from ops.embedded import EmbeddedKafka, EmbeddedPostgres
from projections.migrate import migrate
from schemas import registry
from schemas.entry import Decided
from schemas.envelope import Envelope, to_wire
from tests.projections.facts import AT, about, admitted, example, rows
from tests.projections.journal import Journal, entry, ids_of, row_version, sends, until

KILLS = 4


async def test_what_is_journaled_stands_in_postgres_with_the_position(journal: Journal) -> None:
    await journal.append(*sends(1, 51))
    async with journal.running():
        await journal.applied(50)
        await journal.append(*sends(51, 61))
        await journal.applied(60)
    assert journal.count() == 60
    assert journal.position() == (60, 60, "e60")


async def test_each_entry_is_applied_exactly_once_over_kills(journal: Journal) -> None:
    """A second application would break the primary key of `sends`, and a lost one leave a send out."""
    entries = sends(1, 1 + 150 * (KILLS + 1))
    for life in range(KILLS + 1):
        process = await journal.process()
        await journal.append(*entries[life * 150 : life * 150 + 75])
        await until(lambda life=life: journal.count() > life * 150, "something applied")  # type: ignore[misc]
        writing = asyncio.create_task(journal.append(*entries[life * 150 + 75 : life * 150 + 150]))
        await asyncio.sleep(0.05 * life)  # the moment of the kill is what varies
        if life < KILLS:
            process.kill()
        await writing
        if life == KILLS:
            await journal.applied(len(entries))
            process.terminate()
        await process.wait()
    found = rows(journal.database, "select send_id from sends")
    assert sorted(name for (name,) in found) == sorted(ids_of(entries))
    assert journal.position() == (len(entries), len(entries), entries[-1].id)


async def test_rows_and_position_are_written_in_one_transaction(journal: Journal) -> None:
    """Whoever looks, at whatever moment, sees as many sends as the position says."""
    sql = "select (select count(*) from sends), coalesce((select sum(seq) from applied), 0)"
    seen = set()
    async with journal.running():
        writing = asyncio.create_task(journal.append(*sends(1, 301)))
        while (journal.position() or (0,))[0] < 300:
            ((count, seq),) = await asyncio.to_thread(rows, journal.database, sql)
            assert count == seq
            seen.add(count)
        await writing
    assert len(seen) > 2, "it was looked at in between"


async def test_a_plan_that_was_made_while_the_tables_were_empty_does_not_last(journal: Journal) -> None:
    """Postgres found all of a client's sends to choose one of them, for each record, until it looked by itself."""
    names = [admitted(f"s{n}") for n in range(1400)]
    told = [about(example("send.delivered.v1"), name.request.ref) for name in names]
    facts = [*names[:150], *told[:30], *names[150:]]  # planned when a client's sends were few, and kept
    await journal.append(*(entry(n, fact) for n, fact in enumerate(facts, 1)))
    async with journal.running():
        await journal.applied(len(facts))
        await journal.append(*(entry(len(facts) + n, fact) for n, fact in enumerate(told[30:330], 1)))
        await journal.applied(len(facts) + 300)
    scans = "select idx_scan from pg_stat_user_indexes where schemaname = 'public' and indexrelname = 'sends_pkey'"
    await until(lambda: rows(journal.database, scans)[0][0] >= 300, "each send was found by its key")


async def test_void_entries_are_skipped(journal: Journal) -> None:
    void = [entry(2, admitted("zombie"), name="z", prev="e1"), entry(1, admitted("older"), name="z", prev="")]
    await journal.append(*sends(1, 3), *void, *sends(3, 4))
    async with journal.running():
        await journal.applied(5)
    assert {name for (name,) in rows(journal.database, "select send_id from sends")} == {"s1", "s2", "s3"}
    assert journal.position() == (5, 3, "e3")


async def test_a_void_entry_directly_after_a_restart_is_skipped_too(journal: Journal) -> None:
    await journal.append(*sends(1, 3))
    async with journal.running():
        await journal.applied(2)
    await journal.append(entry(2, admitted("zombie"), name="z", prev="e1"), *sends(3, 4))
    async with journal.running():
        await journal.applied(4)
    assert journal.count() == 3


async def test_a_hole_stops_it_and_nothing_after_it_is_applied(journal: Journal) -> None:
    await journal.append(*sends(1, 3))
    async with journal.running():
        await journal.applied(2)
    await journal.append(*sends(4, 6))
    said = await journal.broken()
    assert said.startswith("JournalBroken: ")
    assert f"{journal.topic}/0 offset 2: entry 4 follows 2: a hole. Restore" in said
    assert (journal.count(), journal.position()) == (2, (2, 2, "e2"))


async def test_a_fork_stops_it(journal: Journal) -> None:
    await journal.append(*sends(1, 3), entry(3, admitted("other"), prev="elsewhere"))
    said = await journal.broken()
    assert "entry 3 builds on elsewhere, not on e2: a fork" in said
    assert journal.count() == 0, "the batch with the fork is not applied in part"


async def test_what_is_no_entry_stops_it(journal: Journal) -> None:
    await journal.append(*sends(1, 2), b"hello")
    assert "offset 1: no entry (not JSON" in await journal.broken()


async def test_a_fact_of_a_newer_version_stops_it_with_a_sentence(journal: Journal) -> None:
    newer = msgspec.structs.replace(entry(2), decided=(Decided("mailbox.painted", 1, {}),))
    await journal.append(*sends(1, 2), newer)
    said = await journal.broken()
    assert said.startswith("JournalBroken: ")
    assert "offset 1: unknown type 'mailbox.painted'" in said


async def test_a_text_that_postgres_cannot_hold_stops_nothing(journal: Journal) -> None:
    """A campaign comes from upstream, a reply from a stranger's server: either may hold a NUL."""
    fact = admitted("s1")
    odd = msgspec.structs.replace(fact, request=msgspec.structs.replace(fact.request, campaign="a\0b"))
    await journal.append(entry(1, odd), *sends(2, 3))
    async with journal.running():
        await journal.applied(2)
    assert rows(journal.database, "select campaign from sends where send_id = 's1'") == [("a\ufffdb",)]


async def test_a_topic_that_was_made_again_stops_it(journal: Journal) -> None:
    await journal.append(*sends(1, 3))
    async with journal.running():
        await journal.applied(2)
    journal.make_again()
    await journal.append(*sends(1, 6))
    said = await journal.broken()
    assert said.startswith("JournalBroken: ")
    assert "was deleted and made again since it was applied" in said
    assert journal.count() == 2


async def test_a_topic_that_is_made_again_under_it_stops_it(journal: Journal) -> None:
    await journal.append(*sends(1, 6))
    async with journal.running() as task:
        await journal.applied(5)
        journal.make_again()
        async with asyncio.timeout(30):
            await asyncio.wait([task])
        assert "ends at 0, but 5 was applied: it was cut short" in str(task.exception())


async def test_a_journal_that_begins_after_the_position_stops_it(journal: Journal) -> None:
    await journal.append(*sends(1, 11))
    admin = AdminClient({"bootstrap.servers": journal.bootstrap})
    for future in admin.delete_records([TopicPartition(journal.topic, 0, 4)]).values():
        future.result()
    said = await journal.broken()
    assert "begins at 4, after a fresh reader's place, its true start 0: restore the entries" in said


async def test_postgres_may_go_away_and_come_back(journal: Journal, run_folder: Path) -> None:
    server = EmbeddedPostgres(run_folder / "postgres-of-projector")
    server.start()
    migrate(server.url)
    try:
        await journal.append(*sends(1, 6))
        async with journal.running(server.url) as task:
            await journal.applied(5, server.url)
            server.kill()
            await journal.append(*sends(6, 11))
            await asyncio.to_thread(server.start)
            await journal.applied(10, server.url)
            assert not task.done()
        assert rows(server.url, "select count(*) from sends") == [(10,)]
    finally:
        server.stop()


async def test_two_at_once_do_not_double(journal: Journal) -> None:
    async with journal.running() as first, journal.running() as second:
        for start in range(1, 401, 40):
            await journal.append(*sends(start, start + 40))
        await journal.applied(400)
        assert not first.done()
        assert not second.done()
    assert journal.count() == 400
    assert journal.position() == (400, 400, "e400")


async def test_one_that_was_overtaken_applies_nothing_again(journal: Journal) -> None:
    """A process stands still with an old position while another goes on: woken up, it takes the new one."""
    ref = admitted("s1").request.ref
    later = [
        about(example(name), ref) for name in ("submission.started.v1", "attempt.accepted.v1", "send.delivered.v1")
    ]
    sleeper = await journal.process()
    await journal.append(*sends(1, 2))
    await journal.applied(1)
    sleeper.send_signal(signal.SIGSTOP)
    await journal.append(*(entry(seq, fact) for seq, fact in enumerate(later, 2)))
    async with journal.running():
        await journal.applied(4)
    written = row_version(journal.database, "s1")
    sleeper.send_signal(signal.SIGCONT)
    await journal.append(*sends(5, 6))
    await journal.applied(5)
    sleeper.kill()
    await sleeper.wait()
    assert row_version(journal.database, "s1") == written
    assert rows(journal.database, "select send_id, state from sends order by 1") == [
        ("s1", "delivered"),
        ("s5", "admitted"),
    ]


async def test_dead_letters_are_applied_and_the_unreadable_ones_passed(
    kafka: EmbeddedKafka, models: str, topic_prefix: str
) -> None:
    letters = Journal(kafka.bootstrap, models, topic_prefix + "dead-letters", journal=False)
    fact = example("letter.died.v1")
    data = registry.data_of(fact)
    envelope = Envelope("i1", "letter.died", 1, AT, "send-requests", "intake", data)
    await letters.append(b"nonsense", to_wire(envelope), to_wire(envelope))
    async with letters.running():
        await letters.applied(3)
    assert rows(models, "select topic, record_offset from dead_letters") == [("send-requests", 771)]
