"""The hands: a bounded pool of tasks that hand sends to providers, so that the agent never waits for a server.

A hand fetches the body, builds the message, and calls the adapter; the adapter asks the claim, which is
decided by the partition like any other input. What the hand saw goes back the same way, or, when the
partition has moved, to its new owner as a report (design section 3).
"""

import asyncio
import hashlib
import logging
import traceback
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from adapters.dkim_sign import CannotSign
from adapters.interface import Claim, Mail, MailAdapter, Sought, without_addresses
from adapters.message import HeaderInvalid, build, envelope_recipient, envelope_sender, identity
from adapters.secrets import SecretMissing
from schemas.entry import JournalBroken
from schemas.ids import ClientId, RouteId
from schemas.metrics import CLAIMS, HANDS_BUSY, OUTCOMES, SUBMIT_SECONDS
from schemas.registry import Fact
from schemas.requests import SendRequest, asked
from schemas.sending import (
    AttemptAssigned,
    ClaimAsked,
    EvidenceSeen,
    EvidenceWanted,
    NotSent,
    Outcome,
    OutcomeReported,
    OutcomeSeen,
    PartitionResumed,
    RouteCall,
    SendRef,
    SubmissionStarted,
    Unknown,
)
from schemas.topics import DELIVERY_INPUTS
from streams.agents.bodies import Bodies
from streams.delivery.identity import delivery_key, token_of
from streams.delivery.state import SendRow, attempt_key
from streams.log.kafka import LogUnreachable
from streams.log.mind import Outgoing
from streams.log.stage import Partition, Stage, StopLoudly

log = logging.getLogger(__name__)

CLAIM_S = 20.0
LOOKS = 4  # searches in providers' records at once
MAX_ERROR_TEXT = 2_000
PARTITION_LOST = (LogUnreachable, StopLoudly, JournalBroken)
"""What `Partition.ask` raises when this process cannot decide for the partition any more."""


class ContentGone(Exception):
    """The send's body does not stand in send-requests any more."""


class Hands:
    """All hands of one delivery worker. Each route has its own bound, so that a silent one holds up no other."""

    def __init__(
        self,
        stage: Stage,
        bodies: Bodies,
        adapters: Mapping[str, MailAdapter],
        key: bytes,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sign: Callable[[bytes, RouteCall], bytes] = lambda raw, _call: raw,
    ) -> None:
        self._stage = stage
        self._bodies = bodies
        self._adapters = adapters
        self._key = key
        self._clock = clock
        self._sign = sign
        self._per_route: dict[tuple[ClientId, RouteId], asyncio.Semaphore] = {}
        self._held: dict[Partition, set[str]] = defaultdict(set)
        self._alive: set[str] = set()  # ids of the hands at work in this process
        self._looking = asyncio.Semaphore(LOOKS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        stage.on_counted = self.hear
        stage.on_resumed = self.resume
        stage.holds = self.holds

    # ── when a hand starts ───────────────────────────────────────────────────────────────────────

    def hear(self, partition: Partition, fact: Fact) -> None:
        """A decided fact counts: an assignment starts a hand; a claim by a stranger's hand is disowned."""
        match fact:
            case AttemptAssigned(ref, assignment) if attempt_key(ref, assignment.attempt) in partition.position.open:
                self.start(partition, fact)
            case SubmissionStarted(ref, attempt, _, hand) if hand not in self._alive:
                self._begin(self._disown(partition, attempt_key(ref, attempt)))
            case EvidenceWanted(ref, attempt):
                self._begin(self._look_up(partition, ref, attempt))

    def holds(self, partition: Partition, attempt: str) -> bool:
        """Whether the hand that claimed the attempt is at work in this process."""
        row = partition.state.send_named(attempt.rpartition("/")[0])
        return isinstance(row, SendRow) and row.hand in self._alive

    async def _disown(self, partition: Partition, attempt: str) -> None:
        """A process that lost the partition claimed it before it knew: unknown here until that hand reports."""
        try:
            await partition.ask(PartitionResumed((attempt,)))
        except PARTITION_LOST as error:
            log.warning("a stranger's claim is left to the partition's next owner: %s", error)

    async def _look_up(self, partition: Partition, ref: SendRef, attempt: int) -> None:
        """Search the provider's records for an unknown attempt; nothing found proves nothing."""
        row = partition.state.send_named(f"{ref.client}/{ref.send_id}")
        if not isinstance(row, SendRow) or row.assignment is None or row.assignment.attempt != attempt:
            return
        call, mailbox = row.assignment.call, row.assignment.sender.mailbox
        adapter = self._adapters.get(call.provider)
        if adapter is None:
            return
        token = token_of(ref.recipient, ref.client, ref.send_id, self._key)
        sought = Sought(
            mailbox,
            token,
            identity(token, row.first_mailbox or mailbox).message_id,
            row.assignment.not_before,
            attempt,
        )
        async with self._looking:
            try:
                said = await adapter.find(call, sought)
            except Exception:
                log.exception("adapter %s raised while it looked for an attempt", call.provider)
                return
            if said is not None:
                try:
                    await partition.ask(EvidenceSeen(ref, attempt, said, f"{call.provider} records"))
                except PARTITION_LOST as error:
                    log.warning("evidence is left to the next look: %s", error)

    def resume(self, partition: Partition) -> None:
        """Start hands for what is assigned, not started, and held by nobody here."""
        for key, started in partition.position.open.items():
            row = partition.state.send_named(key.rpartition("/")[0])
            if not started and isinstance(row, SendRow) and row.assignment is not None:
                again = AttemptAssigned(row.request.ref, row.assignment, row.request.content, row.first_mailbox)
                self.start(partition, again)

    def start(self, partition: Partition, fact: AttemptAssigned) -> None:
        """Start the hand of one attempt, once per process and partition."""
        key = attempt_key(fact.ref, fact.assignment.attempt)
        if self._closing or key in self._held[partition]:
            return
        self._held[partition].add(key)
        self._begin(self._run(partition, fact, key))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, partition: Partition, fact: AttemptAssigned, key: str) -> None:
        call = fact.assignment.call
        bound = self._per_route.setdefault((fact.ref.client, call.route), asyncio.Semaphore(call.max_connections))
        hand = self._stage.doors.new_id()
        self._alive.add(hand)
        try:
            async with bound:
                if self._closing:
                    return  # nothing was tried: whoever owns the partition next starts it, or it is missed
                with HANDS_BUSY.track_inprogress():
                    outcome = await self._attempt(partition, fact, hand)
            if outcome is not None:
                OUTCOMES.labels(call.provider, str(type(outcome).__struct_config__.tag)).inc()
                await self._tell(partition, fact, hand, outcome)
        finally:
            self._alive.discard(hand)
            self._held[partition].discard(key)
            if not self._held[partition]:
                del self._held[partition]

    # ── one attempt ──────────────────────────────────────────────────────────────────────────────

    async def _attempt(self, partition: Partition, fact: AttemptAssigned, hand: str) -> Outcome | None:
        """Return what became of the attempt; None when it had ended before anything was tried."""
        assignment = fact.assignment
        wait = (assignment.not_before - self._clock()).total_seconds()
        if wait > 0:
            await asyncio.sleep(wait)
        if self._clock() >= assignment.not_after:
            await self._claim(partition, fact, hand)  # decides `missed`
            return None
        adapter = self._adapters.get(assignment.call.provider)
        if adapter is None:
            return NotSent("connect", f"no adapter is named {assignment.call.provider!r}")
        try:
            mail = await self._mail(fact)
        except ContentGone:
            return NotSent("body", "content_gone")
        except (HeaderInvalid, LogUnreachable, CannotSign, SecretMissing) as error:
            return NotSent("body", without_addresses(str(error)))
        claimed = _Claimed()

        async def claim() -> bool:
            claimed.asked = True
            claimed.yes = await self._claim(partition, fact, hand)
            return claimed.yes

        return await self._submit(adapter, fact, mail, claim, claimed)

    async def _submit(
        self, adapter: MailAdapter, fact: AttemptAssigned, mail: Mail, claim: Claim, claimed: "_Claimed"
    ) -> Outcome:
        try:
            with SUBMIT_SECONDS.labels(fact.assignment.call.provider).time():
                return await adapter.submit(fact.assignment.call, mail, claim)
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # this hand is cancelled, not something inside of a library
            log.exception("adapter %s raised", fact.assignment.call.provider)
            said = "".join(traceback.format_exception_only(error))  # also of an error whose own text fails
            what = without_addresses(f"the adapter raised {said[:MAX_ERROR_TEXT]}")
            return Unknown(what) if claimed.yes else NotSent("claim" if claimed.asked else "connect", what)

    async def _mail(self, fact: AttemptAssigned) -> Mail:
        """Fetch, build and sign the message.

        The body is known by its hash: a restored topic holds it at the same offset, under another topic id.

        Raises ContentGone, HeaderInvalid, LogUnreachable, CannotSign, SecretMissing.
        """
        content = fact.content
        record = await self._bodies.one(content.partition, content.offset)
        if record is None or record.value is None or hashlib.sha256(record.value).hexdigest() != content.sha256:
            raise ContentGone("the record is gone")
        request = msgspec.convert(asked(record.value).data, SendRequest)
        token = token_of(fact.ref.recipient, fact.ref.client, fact.ref.send_id, self._key)
        sender = fact.assignment.sender
        who = identity(token, fact.first_mailbox or sender.mailbox)
        raw = self._sign(build(request, sender, who, self._clock()), fact.assignment.call)
        return Mail(envelope_sender(sender, token), envelope_recipient(request.to), raw, token, fact.assignment.attempt)

    async def _claim(self, partition: Partition, fact: AttemptAssigned, hand: str) -> bool:
        """A definite yes within 20 s, or it is a no for good, even if the entry counts later."""
        claim = ClaimAsked(fact.ref, fact.assignment.attempt, self._clock(), hand)
        asking = asyncio.ensure_future(partition.ask(claim))
        done, _ = await asyncio.wait({asking}, timeout=CLAIM_S)
        if not done:
            asking.add_done_callback(_look_at)
            CLAIMS.labels("late").inc()
            return False
        try:
            entry = asking.result()
        except PARTITION_LOST as error:
            log.warning("claim refused: %s", error)
            return False
        started = entry is not None and any(d.type == "submission.started" for d in entry.decided)
        yes = started and self._clock() < fact.assignment.not_after
        CLAIMS.labels("yes" if yes else "no").inc()
        return yes

    async def _tell(self, partition: Partition, fact: AttemptAssigned, hand: str, outcome: Outcome) -> None:
        """Have the outcome decided here, or report it to the partition's new owner."""
        try:
            await partition.ask(OutcomeSeen(fact.ref, fact.assignment.attempt, hand, outcome))
        except PARTITION_LOST:
            report = OutcomeReported(fact.ref, fact.assignment.attempt, hand, outcome)
            await partition.send_report(Outgoing(DELIVERY_INPUTS, delivery_key(fact.ref.recipient), report))

    async def close(self, wait_s: float = 30.0) -> None:
        """Start no more, wait for those at work, hang up."""
        self._closing = True
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=wait_s)
        for adapter in self._adapters.values():
            await adapter.close()


class _Claimed:
    asked = False
    yes = False


def _look_at(task: "asyncio.Future[Any]") -> None:
    if not task.cancelled() and task.exception() is not None:
        log.warning("a late claim failed: %r", task.exception())
