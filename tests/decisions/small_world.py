"""A whole fleet without engines: two delivery partitions, one fleet partition, hands and a mail world, one clock.

What a partition tells another stands in that one's inputs until it is its turn: late, after a crash twice.
`step` does one thing that can happen; `run_out` lets the world go on until nothing is left to happen.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from schemas.envelope import Origin
from schemas.fleet import Pace
from schemas.ids import CampaignId, ClientId, MailboxAddress, SendId
from schemas.registry import Fact
from schemas.reports import ReportKind, ReportSeen
from schemas.sending import (
    AttemptAssigned,
    CancelRequested,
    ClaimAsked,
    NotSent,
    Outcome,
    OutcomeReported,
    OutcomeSeen,
    PartitionResumed,
    Refused,
    Reply,
    SendAssigned,
    SendRequested,
    SubmissionStarted,
    Unknown,
)
from schemas.topics import ALERTS, DELIVERY_INPUTS, FLEET_INPUTS, SEND_RESULTS
from streams.delivery.mind import DeliveryMind
from streams.delivery.state import attempt_key
from streams.fleet.mind import FleetMind
from tests.decisions.world import (
    ACME,
    ANNA,
    BERT,
    DAY,
    GREYLISTED,
    HOUR,
    LOGIN_REFUSED,
    MINUTE,
    NO_SUCH_USER,
    NOW,
    POLICY,
    SECOND,
    TAKEN,
    TRY_LATER,
    DictStore,
    Ledger,
    client,
    domain,
    facts_of,
    mailbox,
    request,
    route,
)

PACE = Pace("UTC+05:30", 0, 24, 300, 120, 900, 600, 3, 0)
QUOTAS = {ANNA: 2, BERT: 3}
NOS = (TRY_LATER, GREYLISTED, POLICY, NO_SUCH_USER, LOGIN_REFUSED)
PASSES = (*(SECOND, 5 * SECOND, 30 * SECOND, MINUTE) * 2, 4 * MINUTE, 6 * MINUTE, 6 * MINUTE, 20 * MINUTE)
UNUSUAL = Reply("memory", "dot", 550, "5.4.6", "Unusual sending activity detected. Please try after sometime.")
COMES_BACK: tuple[tuple[ReportKind, Reply | None], ...] = (
    ("bounce", UNUSUAL),
    ("bounce", NO_SUCH_USER),
    ("bounce", UNUSUAL),
    ("bounce", POLICY),
    ("delivered", None),
    ("bounce", UNUSUAL),
    ("complaint", None),
    ("unsubscribe", None),
    ("reply", None),
)
SENDS = 30
PEOPLE = tuple(f"{name}{n}" for n in range(4) for name in ("rita", "rolf", "ruth", "ralf"))


@dataclass
class Stage:
    """A partition with its inputs. What stands before `counted` made an entry or came before one that did."""

    name: str
    led: Ledger
    inputs: list[tuple[Origin | None, Fact]] = field(default_factory=list)
    next: int = 0
    counted: int = 0
    told: int = 0  # entries that were forwarded
    position: int = 0
    owner: int = 0  # counts owners
    seq_at_move: int = 0

    def take(self, at: datetime) -> list[Fact]:
        """Decide the next input."""
        if self.next >= len(self.inputs):
            return []
        origin, fact = self.inputs[self.next]
        self.next += 1
        decided = self.led.sees(fact, at, origin)
        if decided:
            self.counted = self.next
        return decided


@dataclass
class Hand:
    """A hand at work on one attempt. `outcome` is what it saw and has not told."""

    id: str
    stage: Stage
    owner: int
    fact: AttemptAssigned
    claimed: bool = False
    outcome: Outcome | None = None
    done: bool = False

    @property
    def assignment(self) -> SendAssigned:
        """What it was given."""
        return self.fact.assignment

    @property
    def at_home(self) -> bool:
        """Whether its partition is still its process's."""
        return self.stage.owner == self.owner


class SmallWorld:
    """Everything, and what the mail world saw of it."""

    def __init__(self) -> None:
        self.now = NOW
        self.deliveries = [Stage(f"delivery-journal/{n}", Ledger(DeliveryMind())) for n in (0, 1)]
        for stage in self.deliveries:
            stage.led.ticks(NOW)  # what is due is looked for from the first tick on
        self.fleet = Stage("fleet-journal/0", Ledger(FleetMind()))
        self.fleet.led.given(client(PACE), route(), domain(), *(mailbox(b, quota=q) for b, q in QUOTAS.items()))
        self.hands: list[Hand] = []
        self.disowned: list[tuple[Stage, str]] = []
        self.asked: list[SendRequested] = []
        self.there: list[Hand] = []  # whose mail was accepted and not given back
        self.reports: list[tuple[Stage, ReportSeen]] = []
        self.results: Counter[tuple[str, int]] = Counter()
        self.accepted: Counter[tuple[ClientId, SendId]] = Counter()
        self.left: dict[MailboxAddress, list[datetime]] = defaultdict(list)  # the claims whose mail was accepted
        self.claims: dict[MailboxAddress, list[datetime]] = defaultdict(list)

    @property
    def stages(self) -> list[Stage]:
        """All partitions."""
        return [*self.deliveries, self.fleet]

    # ── what can happen ──────────────────────────────────────────────────────────────────────────

    def step(self, what: str, a: int, b: int) -> None:
        """Let one thing happen; a and b choose among the ways in which it can."""
        match what:
            case "request":
                self._request(a, b)
            case "cancel":
                ask = CancelRequested(ACME, SendId(f"s{a % SENDS}"))
                if b % 25 == 0:
                    ask = CancelRequested(ACME, thread_id=f"t{a % 5}")
                self.fleet.inputs.append((None, ask))
            case "pass":
                self.now += PASSES[a % len(PASSES)] if b % 10 else 13 * HOUR
            case "tick":
                self._saw(self.stages[a % 3], self.stages[a % 3].led.ticks(self.now))
            case "take":
                stage = self.stages[a % 3]
                for _ in range(1 + b % 6):
                    self._saw(stage, stage.take(self.now))
            case "tell":
                for stage in self.stages if b % 2 else self.stages[a % 3 :][:1]:
                    self.tell(stage)
            case "store":
                self._store(self.stages[a % 3], position=bool(b % 2))
            case "hand":
                working = [hand for hand in self.hands if not hand.done]
                if working:
                    self._work(working[a % len(working)], b)
                    self.settle_hand(working[a % len(working)], b // 7)
            case "report":
                self._come_back(a, b)
            case "lose":
                self._lose(self.stages[a % 3], killed=bool(b % 2), back=b % 7)
            case "zombie":
                for stage in self.deliveries:
                    self._lose(stage, killed=False, back=0)
                for hand in [h for h in self.hands if not (h.done or h.claimed or h.outcome)][: 1 + b % 3]:
                    self._work(hand, 0)
            case "disown":
                self._disown()

    def _request(self, a: int, b: int) -> None:
        """Some requests come twice (same origin), some use a send_id again, some for somebody else."""
        if b % 8 == 0 and self.asked:
            again = self.asked[a % len(self.asked)]
            self._ask(again)
            return
        send_id, person = f"s{a % SENDS}", PEOPLE[(a + (b % 5 == 1)) % len(PEOPLE)]
        campaign = CampaignId("gone") if b % 11 == 10 else CampaignId("news")
        more = {"not_before": self.now + HOUR} if b % 5 == 2 else {}
        made = request(
            send_id,
            person,
            at=self.now,
            offset=len(self.asked),
            expires_at=self.now + (30 * MINUTE if b % 5 == 3 else DAY),
            thread_id=f"t{a % 5}",
            priority=b % 3,
            campaign=campaign,
            token=f"{send_id}/{person}",
            **more,  # type: ignore[arg-type]  # one field of its own type
        )
        self.asked.append(made)
        self._ask(made)

    def _ask(self, made: SendRequested) -> None:
        origin = Origin("send-requests", 0, made.content.offset, 0)
        self._home(made.ref.recipient[:16].encode()).inputs.append((origin, made))

    def _home(self, key: bytes) -> Stage:
        return self.deliveries[int(key[:2], 16) % 2]

    def _saw(self, stage: Stage, decided: list[Fact]) -> None:
        """What counts starts hands, as streams.agents.hands hears it."""
        for fact in decided:
            if isinstance(fact, AttemptAssigned) and attempt_key(fact.ref, fact.assignment.attempt) in stage.led.open:
                self._start(stage, fact)

    def _start(self, stage: Stage, fact: AttemptAssigned) -> None:
        self.hands.append(Hand(f"h{len(self.hands)}", stage, stage.owner, fact))

    def tell(self, stage: Stage) -> None:
        """Forward what was not forwarded yet."""
        for entry in stage.led.journal[stage.told :]:
            n = 0
            for fact in facts_of(entry):
                for out in stage.led.mind.forwards(fact, entry.at):
                    log, _, number = stage.name.partition("/")
                    origin = Origin(log, int(number), entry.seq, n)
                    n += 1
                    if out.topic is SEND_RESULTS:
                        self.results[stage.name, entry.seq * 1_000 + n] += 1
                    elif out.topic is FLEET_INPUTS:
                        self.fleet.inputs.append((origin, out.fact))
                    elif out.topic is DELIVERY_INPUTS:
                        self._home(out.key).inputs.append((origin, out.fact))
                    elif out.topic is not ALERTS:  # nobody here reads them
                        raise AssertionError(out.topic)
        stage.told = stage.led.seq

    def _store(self, stage: Stage, *, position: bool) -> None:
        if position:
            self.tell(stage)  # a position is written only over acknowledged forwards
        stage.led.store_rows()
        if position:
            stage.position = stage.led.seq

    def _lose(self, stage: Stage, *, killed: bool, back: int) -> None:
        """The partition goes to another process: fold the tail over what is stored, forward it again, resume."""
        if killed:
            for hand in self.hands:
                hand.done = hand.done or (hand.stage is stage and hand.at_home)
        stage.owner += 1
        stage.led.resumes(DictStore(stage.led.store.kept), stage.position)
        stage.told = max(stage.position, min(stage.told, stage.led.seq - back))
        self.tell(stage)
        stage.next = stage.counted
        if stage is self.fleet:
            return
        started = tuple(key for key, is_started in stage.led.open.items() if is_started)
        if started:
            stage.led.sees(PartitionResumed(started), self.now)
        stage.seq_at_move = stage.led.seq
        for key, is_started in list(stage.led.open.items()):
            row = stage.led.row("send", key.rpartition("/")[0])
            if not is_started and row.assignment is not None:
                self._start(stage, AttemptAssigned(row.request.ref, row.assignment, row.request.content))

    def _disown(self) -> None:
        if self.disowned:
            stage, key = self.disowned.pop(0)
            stage.led.sees(PartitionResumed((key,)), self.now)

    # ── hands and the mail world ─────────────────────────────────────────────────────────────────

    def _work(self, hand: Hand, how: int) -> None:
        if hand.outcome is not None:
            self._report(hand)
        elif hand.claimed:
            hand.outcome = self._mail(hand, how)
        elif how % 6 == 4:
            hand.outcome = NotSent("connect", "connection refused")
        elif how % 6 == 5:
            hand.outcome = Refused(NOS[how % len(NOS)])
        else:
            self._claim(hand, late=how % 13 == 12)

    def settle_hand(self, hand: Hand, how: int) -> None:
        """Most hands go on without a break."""
        while not hand.done and how % 3:
            self._work(hand, how)
            how //= 3

    def _claim(self, hand: Hand, *, late: bool) -> None:
        """Only the owner's process can claim, or one that lost the partition and does not know it yet."""
        given, led = hand.assignment, hand.stage.led
        decided: list[Fact] = []
        if hand.at_home or led.seq == hand.stage.seq_at_move:
            decided = led.sees(ClaimAsked(given.ref, given.attempt, self.now, hand.id), self.now)
        if not any(isinstance(fact, SubmissionStarted) for fact in decided):
            hand.outcome = NotSent("claim", "the claim was refused")
            return
        if not hand.at_home:
            self.disowned.append((hand.stage, attempt_key(given.ref, given.attempt)))
        if late:
            hand.outcome = NotSent("claim", "the claim was refused")  # the yes came after 20 s: a no for good
            return
        others = [h for h in self.hands if h is not hand and h.fact.ref == given.ref and h.claimed and not h.done]
        assert all(h.outcome is not None for h in others), "two live attempts"
        assert not self.accepted[given.ref.client, given.ref.send_id], "claimed what was accepted"
        hand.claimed = True
        self.claims[given.sender.mailbox].append(self.now)

    def _mail(self, hand: Hand, how: int) -> Outcome:
        """What the server does after the claim, and what the hand sees of it."""
        given = hand.assignment
        if how % 5 == 3:
            return Refused(NOS[how % len(NOS)])
        if how % 10 == 4:
            return Unknown("cut before the server took it")
        self.accepted[given.ref.client, given.ref.send_id] += 1
        assert self.accepted[given.ref.client, given.ref.send_id] == 1, f"sent twice: {given.ref.send_id}"
        self.left[given.sender.mailbox].append(self.claims[given.sender.mailbox][-1])
        self.there.append(hand)
        return Unknown("silence after the final dot") if how % 10 == 9 else TAKEN

    def _report(self, hand: Hand) -> None:
        given = hand.assignment
        assert hand.outcome is not None
        hand.done = True
        if hand.at_home:
            seen = OutcomeSeen(given.ref, given.attempt, hand.id, hand.outcome)
            self._saw(hand.stage, hand.stage.led.sees(seen, self.now))
        else:
            report = OutcomeReported(given.ref, given.attempt, hand.id, hand.outcome)
            hand.stage.inputs.append((None, report))

    def _come_back(self, a: int, b: int) -> None:
        """Somebody says something of a mail that arrived, late and more than once; a provider gives one back."""
        if b % 4 == 0 and self.reports:
            stage, said = self.reports[a % len(self.reports)]
            stage.inputs.append((None, said))
            return
        if not self.there:
            return
        hand = self.there[a % len(self.there)]
        row = hand.stage.led.row("send", f"{hand.fact.ref.client}/{hand.fact.ref.send_id}")
        kind, reply = COMES_BACK[b % len(COMES_BACK)]
        attempt = hand.assignment.attempt if b % 3 else 0
        token = row.request.token
        said = ReportSeen(kind, "webhook", f"{token}/{b}", self.now, token, attempt, reply=reply)
        if reply is UNUSUAL and self.now > hand.assignment.not_before:
            self.there.remove(hand)
            self.accepted[hand.fact.ref.client, hand.fact.ref.send_id] -= 1
        self.reports.append((hand.stage, said))
        hand.stage.inputs.append((None, said))

    # ── until nothing is left ────────────────────────────────────────────────────────────────────

    def settle(self) -> None:
        """Let all that is under way arrive, without time passing."""
        while self._anything_under_way():
            for stage in self.stages:
                self.tell(stage)
                while stage.next < len(stage.inputs):
                    self._saw(stage, stage.take(self.now))
            while self.disowned:
                self._disown()
            for hand in [hand for hand in self.hands if not hand.done]:
                self._work(hand, 0)

    def _anything_under_way(self) -> bool:
        waiting = any(stage.next < len(stage.inputs) or stage.told < stage.led.seq for stage in self.stages)
        return waiting or bool(self.disowned) or any(not hand.done for hand in self.hands)

    def run_out(self) -> None:
        """Let two and a half days pass: by then every send has lapsed, ended, or is assumed sent."""
        end = self.now + timedelta(hours=56)
        while self.now < end:
            self.settle()
            for stage in self.deliveries:
                while stage.led.ticks(self.now):  # until its cursor has come to this hour
                    pass
            self.fleet.led.ticks(self.now)
            self.now += 55 * MINUTE
        self.settle()
