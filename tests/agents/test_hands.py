"""The hands over a real stage: what is said of an attempt, whatever adapters, claims and partitions do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.interface import Claim
from adapters.mail.memory import MemoryAdapter
from adapters.secrets import Secrets
from schemas.entry import Entry, Seen
from schemas.envelope import to_wire
from schemas.metrics import OUTCOMES
from schemas.registry import Fact
from schemas.sending import (
    Accepted,
    AttemptNotSent,
    AttemptUnknown,
    CancelOrdered,
    ClaimAsked,
    NotSent,
    Outcome,
    OutcomeReported,
    Refused,
    Reply,
    SendExpired,
    SubmissionStarted,
    Unknown,
)
from schemas.topics import SEND_REQUESTS
from streams.agents import hands as hands_module
from tests.agents.memory_log import INPUTS, JOURNAL, NOW, Scripted, Worker, until

TAKEN = Accepted("1", Reply("memory", "dot", 250, "2.0.0", "kept"))
Make = Callable[[Callable[[Claim], Awaitable[Outcome]]], Worker]


class Wordless(Exception):
    """An error that cannot even say what it is."""

    def __str__(self) -> str:
        """Fail."""
        raise ValueError("no words")


ERRORS: list[BaseException] = [
    RuntimeError("who is rita@example.test?"),
    KeyError("x"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"),
    ExceptionGroup("several", [OSError(5, "io"), ValueError("x")]),
    RecursionError(),
    MemoryError(),
    StopAsyncIteration(),
    TimeoutError(),
    AssertionError(),
    EOFError(),
    asyncio.CancelledError("from inside of a library"),
    Wordless(),
    RuntimeError("x" * 1_000_000),
    RuntimeError("\ud800\0"),
]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """A worker whose adapter follows the script; closed at the end."""
    made: list[Worker] = []

    def _make(submit: Callable[[Claim], Awaitable[Outcome]]) -> Worker:
        made.append(Worker(Scripted(submit)))
        return made[-1]

    yield _make
    for worker in made:
        await worker.hands.close(1)


def adapter(worker: Worker) -> Scripted:
    found = worker.hands._adapters["memory"]
    assert isinstance(found, Scripted)
    return found


async def takes(claim: Claim) -> Outcome:
    """An adapter that goes the whole way."""
    return TAKEN if await claim() else NotSent("claim", "the claim was refused")


def raises(error: BaseException, *, after_claim: bool) -> Callable[[Claim], Awaitable[Outcome]]:
    """An adapter that raises."""

    async def submit(claim: Claim) -> Outcome:
        if after_claim:
            await claim()
        raise error

    return submit


# ── the way of an attempt ────────────────────────────────────────────────────────────────────────


async def test_an_assignment_starts_a_hand_that_claims_sends_and_tells() -> None:
    memory = MemoryAdapter(Secrets(Path("nowhere")))
    worker = Worker(memory)
    await worker.assign(await worker.request())
    await until(lambda: "AttemptAccepted" in worker.after_assignment())
    assert worker.after_assignment() == ["SubmissionStarted", "AttemptAccepted"]
    (mail,) = memory.kept
    assert (mail.envelope_from, mail.recipient) == ("anna@acme.test", "rita@example.test")
    assert b"Hello Rita" in mail.raw
    await worker.hands.close()


async def test_what_a_server_refuses_before_the_claim_needs_no_claim() -> None:
    memory = MemoryAdapter(Secrets(Path("nowhere")))
    memory.refusing["rita"] = (450, "4.2.1 try later")
    worker = Worker(memory)
    await worker.assign(await worker.request())
    await until(lambda: worker.after_assignment() == ["AttemptRefused"])
    await worker.hands.close()


async def test_an_attempt_has_one_hand_however_often_the_partition_resumes(make: Make) -> None:
    go = asyncio.Event()

    async def submit(claim: Claim) -> Outcome:
        await go.wait()
        return await takes(claim)

    worker = make(submit)
    await worker.assign(await worker.request())
    await until(lambda: adapter(worker).talking == 1)
    for _ in range(3):
        worker.stage.revoked([0])
        worker.stage.assigned([0])
        await worker.request("other")
    go.set()
    await until(lambda: "AttemptAccepted" in worker.after_assignment())
    assert len(adapter(worker).mails) == 1


@pytest.mark.parametrize("provider", ["gone", ""])
async def test_a_provider_that_nobody_knows_sends_nothing(make: Make, provider: str) -> None:
    worker = make(takes)
    await worker.assign(await worker.request(), provider=provider)
    await until(lambda: worker.after_assignment() == ["AttemptNotSent"])


async def test_a_hand_that_comes_after_the_slot_tries_nothing(make: Make) -> None:
    worker = make(takes)
    ref = await worker.request()
    worker.clock = NOW.replace(hour=10)
    await worker.assign(ref)
    await until(lambda: worker.after_assignment() == ["AttemptMissed"])
    assert adapter(worker).mails == []


async def test_a_send_that_is_cancelled_while_its_hand_talks_is_not_sent(make: Make) -> None:
    go = asyncio.Event()

    async def submit(claim: Claim) -> Outcome:
        await go.wait()
        return await takes(claim)

    worker = make(submit)
    ref = await worker.request()
    await worker.assign(ref)
    await until(lambda: adapter(worker).talking == 1)
    await worker.input(CancelOrdered(ref, "upstream"))
    go.set()
    await until(lambda: not worker.hands._tasks)
    assert worker.after_assignment() == ["SendCancelled"]


# ── what adapters raise ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_whatever_is_raised_before_the_claim_means_that_nothing_left(make: Make, error: BaseException) -> None:
    worker = make(raises(error, after_claim=False))
    await worker.assign(await worker.request())
    await until(lambda: worker.after_assignment() == ["AttemptNotSent"])
    told = worker.decided()[-1]
    assert isinstance(told, AttemptNotSent)
    assert len(told.what) <= 500
    assert "@" not in told.what


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_whatever_is_raised_after_the_claim_means_that_nobody_knows(make: Make, error: BaseException) -> None:
    worker = make(raises(error, after_claim=True))
    await worker.assign(await worker.request())
    await until(lambda: worker.after_assignment() == ["SubmissionStarted", "AttemptUnknown"])
    told = worker.decided()[-1]
    assert isinstance(told, AttemptUnknown)
    assert "@" not in told.what


async def test_whatever_is_raised_after_a_refused_claim_means_that_nothing_left(make: Make) -> None:
    async def submit(claim: Claim) -> Outcome:
        await worker.input(CancelOrdered(ref, "upstream"))
        assert not await claim()
        raise RuntimeError("x")

    worker = make(submit)
    ref = await worker.request()
    await worker.assign(ref)
    await until(lambda: bool(adapter(worker).mails) and not worker.hands._tasks)
    assert worker.after_assignment() == ["SendCancelled"]


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (TAKEN, "accepted"),
        (Refused(TAKEN.reply), "refused"),
        (NotSent("connect", "nobody listens"), "not_sent"),
        (Unknown("cut"), "unknown"),
    ],
)
async def test_outcomes_are_counted_by_the_words_that_rules_and_panels_ask_for(
    make: Make, outcome: Outcome, word: str
) -> None:
    async def submit(claim: Claim) -> Outcome:
        await claim()
        return outcome

    OUTCOMES.clear()
    worker = make(submit)
    await worker.assign(await worker.request())
    await until(lambda: "SubmissionStarted" in worker.after_assignment() and not worker.hands._tasks)
    assert {s.labels["outcome"] for metric in OUTCOMES.collect() for s in metric.samples} == {word}


async def test_mail_and_search_carry_the_attempts_own_number(make: Make) -> None:
    ends: list[Outcome] = [NotSent("connect", "nobody listens"), Unknown("cut")]

    async def submit(claim: Claim) -> Outcome:
        await claim()
        return ends.pop(0)

    worker = make(submit)
    ref = await worker.request()
    await worker.assign(ref, 1)
    await until(lambda: "AttemptNotSent" in worker.after_assignment())
    await worker.assign(ref, 2)
    await until(lambda: "AttemptUnknown" in worker.after_assignment())
    assert [mail.attempt for mail in adapter(worker).mails] == [1, 2]
    for second in range(30):
        await worker.tick(NOW + timedelta(hours=2, seconds=second))
    await until(lambda: bool(adapter(worker).sought))
    (sought,) = adapter(worker).sought
    assert (sought.attempt, sought.token) == (2, adapter(worker).mails[1].token)


# ── the claim ────────────────────────────────────────────────────────────────────────────────────


async def test_a_claim_that_is_not_answered_in_time_is_a_no_even_if_it_counts_later(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hands_module, "CLAIM_S", 0.02)
    answers: list[bool] = []

    async def submit(claim: Claim) -> Outcome:
        worker.log.held_up[JOURNAL] = asyncio.Event()
        answers.append(await claim())
        worker.log.held_up.pop(JOURNAL).set()
        return NotSent("claim", "the claim was refused")

    worker = make(submit)
    await worker.assign(await worker.request())
    await until(lambda: "AttemptNotSent" in worker.after_assignment())
    assert answers == [False]
    assert worker.after_assignment() == ["SubmissionStarted", "AttemptNotSent"]


async def test_a_claim_that_counts_after_the_slot_is_a_no(make: Make) -> None:
    answers: list[bool] = []

    async def submit(claim: Claim) -> Outcome:
        worker.log.held_up[JOURNAL] = asyncio.Event()
        asking = asyncio.ensure_future(claim())
        await asyncio.sleep(0)
        await until(lambda: worker.partition.lock.locked())
        worker.clock = NOW.replace(hour=10)
        worker.log.held_up.pop(JOURNAL).set()
        answers.append(await asking)
        return NotSent("claim", "the claim was refused")

    worker = make(submit)
    await worker.assign(await worker.request())
    await until(lambda: "AttemptNotSent" in worker.after_assignment())
    assert answers == [False]
    assert worker.after_assignment() == ["SubmissionStarted", "AttemptNotSent"]


async def test_a_strangers_claim_is_disowned_and_our_own_hand_sends_nothing(make: Make) -> None:
    go = asyncio.Event()

    async def submit(claim: Claim) -> Outcome:
        await go.wait()
        return await takes(claim)

    worker = make(submit)
    ref = await worker.request()
    await worker.assign(ref)
    await until(lambda: adapter(worker).talking == 1)
    await worker.partition.ask(ClaimAsked(ref, 1, NOW, "stranger"))
    await until(lambda: worker.after_assignment() == ["SubmissionStarted", "AttemptUnknown"])
    go.set()
    await until(lambda: not worker.hands._tasks)
    assert worker.after_assignment() == ["SubmissionStarted", "AttemptUnknown"]


# ── the partition goes ───────────────────────────────────────────────────────────────────────────


def reports(worker: Worker) -> list[Fact]:
    return [fact for fact in worker.log.facts(INPUTS) if isinstance(fact, OutcomeReported)]


async def test_what_a_hand_saw_after_its_partition_went_is_reported_to_the_new_owner(make: Make) -> None:
    async def submit(claim: Claim) -> Outcome:
        assert await claim()
        worker.stage.assigned([])
        return TAKEN

    worker = make(submit)
    ref = await worker.request()
    await worker.assign(ref)
    await until(lambda: bool(reports(worker)))
    (report,) = reports(worker)
    assert isinstance(report, OutcomeReported)
    (started,) = [fact for fact in worker.decided() if isinstance(fact, SubmissionStarted)]
    assert (report.ref, report.attempt, report.hand, report.outcome) == (ref, 1, started.hand, TAKEN)


async def test_a_hand_whose_partition_went_before_the_claim_gets_a_no(make: Make) -> None:
    async def submit(claim: Claim) -> Outcome:
        worker.stage.assigned([])
        return await takes(claim)

    worker = make(submit)
    await worker.assign(await worker.request())
    await until(lambda: bool(reports(worker)))
    (report,) = reports(worker)
    assert isinstance(report, OutcomeReported)
    assert isinstance(report.outcome, NotSent)
    assert worker.after_assignment() == []


async def test_what_a_hand_saw_is_reported_when_the_journal_turns_out_broken(make: Make) -> None:
    async def submit(claim: Claim) -> Outcome:
        assert await claim()
        hole = Entry("x", "other", 99, "y", NOW, None, Seen("ticked", 1, {}), ())
        worker.log.put(JOURNAL, 0, to_wire(hole))
        return TAKEN

    worker = make(submit)
    await worker.assign(await worker.request())
    await until(lambda: bool(reports(worker)))


async def test_a_claim_over_a_broken_journal_is_a_no(make: Make) -> None:
    answers: list[bool] = []

    async def submit(claim: Claim) -> Outcome:
        hole = Entry("x", "other", 99, "y", NOW, None, Seen("ticked", 1, {}), ())
        worker.log.put(JOURNAL, 0, to_wire(hole))
        answers.append(await claim())
        return NotSent("claim", "the claim was refused")

    worker = make(submit)
    await worker.assign(await worker.request())
    await until(lambda: bool(reports(worker)))
    assert answers == [False]


# ── content ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["no record", "another record"])
async def test_a_send_whose_body_is_gone_expires(make: Make, how: str) -> None:
    worker = make(takes)
    ref = await worker.request()
    place = worker.log.records[SEND_REQUESTS.name, 0]
    match how:
        case "no record":
            place.clear()
        case _:
            place[0] = place[0].__class__(SEND_REQUESTS.name, 0, 0, NOW, None, b"{}")
    await worker.assign(ref)
    await until(lambda: len(worker.after_assignment()) == 2)
    assert isinstance(worker.decided()[-2], AttemptNotSent)
    assert worker.decided()[-1] == SendExpired(ref, "content_gone")
    assert adapter(worker).mails == []


async def test_a_body_that_a_restore_brought_back_is_sent_though_its_topic_was_made_again(make: Make) -> None:
    worker = make(takes)
    ref = await worker.request()
    worker.stage.places.topic_ids[SEND_REQUESTS.name] = "id-new"
    await worker.assign(ref)
    await until(lambda: len(worker.after_assignment()) == 2)
    assert worker.after_assignment() == ["SubmissionStarted", "AttemptAccepted"]
    assert len(adapter(worker).mails) == 1


# ── bounds and the end ───────────────────────────────────────────────────────────────────────────


async def test_a_route_has_its_own_bound_and_a_silent_one_holds_up_no_other(make: Make) -> None:
    go = asyncio.Event()

    async def submit(claim: Claim) -> Outcome:
        await go.wait()
        return await takes(claim)

    worker = make(submit)
    refs = [await worker.request(f"s{n}") for n in range(6)]
    for ref in refs[:5]:
        await worker.assign(ref, route="silent", lanes=2)
    await until(lambda: adapter(worker).talking == 2)
    await worker.assign(refs[5], route="other", lanes=2)
    await until(lambda: adapter(worker).talking == 3)
    go.set()
    await until(lambda: not worker.hands._tasks)
    assert adapter(worker).most_talking == 3
    assert worker.after_assignment().count("AttemptAccepted") == 6


async def test_close_waits_for_the_hands_at_work_and_starts_no_more(make: Make) -> None:
    go = asyncio.Event()

    async def submit(claim: Claim) -> Outcome:
        await go.wait()
        return await takes(claim)

    worker = make(submit)
    first, second = await worker.request(), await worker.request("s2")
    await worker.assign(first)
    await until(lambda: adapter(worker).talking == 1)
    closing = asyncio.ensure_future(worker.hands.close())
    await asyncio.sleep(0)
    await worker.assign(second)
    assert not closing.done()
    assert not adapter(worker).closed
    go.set()
    await closing
    assert adapter(worker).closed
    assert worker.after_assignment().count("AttemptAccepted") == 1
    assert len(adapter(worker).mails) == 1


async def test_close_does_not_wait_for_ever(make: Make) -> None:
    async def submit(_claim: Claim) -> Outcome:
        await asyncio.Event().wait()
        return Unknown("never")

    worker = make(submit)
    await worker.assign(await worker.request())
    await until(lambda: adapter(worker).talking == 1)
    async with asyncio.timeout(2):
        await worker.hands.close(0.05)
    assert adapter(worker).closed
    for task in worker.hands._tasks:
        task.cancel()


async def test_hands_that_wait_for_a_lane_when_the_process_ends_do_not_begin(make: Make) -> None:
    go = asyncio.Event()

    async def submit(claim: Claim) -> Outcome:
        await go.wait()
        return await takes(claim)

    worker = make(submit)
    for n in range(3):
        await worker.assign(await worker.request(f"s{n}"), lanes=1)
    await until(lambda: adapter(worker).talking == 1)
    closing = asyncio.ensure_future(worker.hands.close())
    await asyncio.sleep(0)
    go.set()
    await closing
    assert len(adapter(worker).mails) == 1


def test_the_claims_bound_is_the_designs() -> None:
    assert hands_module.CLAIM_S == 20.0
