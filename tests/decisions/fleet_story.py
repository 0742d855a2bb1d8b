"""A fleet partition that lives through a story: declared, asked, ticked each second, its attempts settled."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ops.journals import Nowhere
from schemas.fleet import (
    ClientDeclared,
    DomainDeclared,
    MailboxDeclared,
    Pace,
    RouteDeclared,
)
from schemas.ids import CampaignId, ClientId, DomainName, MailboxAddress, Recipient, RouteId, SendId, TopicId
from schemas.policy import Lists, Policy, PolicyApplied, WarmUp
from schemas.registry import Fact
from schemas.sending import (
    AttemptAccepted,
    AttemptMissed,
    AttemptNotSent,
    AttemptRefused,
    Basis,
    BasisType,
    ContentRef,
    Reply,
    SendAdmitted,
    SendAssigned,
    SendRef,
    SendRequested,
    SendResult,
    SendWaits,
    Ticked,
    Verdict,
)
from streams.fleet.mind import FleetMind
from streams.fleet.state import FleetState
from streams.log.mind import Outgoing
from streams.log.rows import Rows

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
FAST = Pace(
    hour_from=0,
    hour_to=24,
    gap_seconds=0,
    gap_jitter_seconds=0,
    slot_seconds=60,
    first_retry_seconds=5,
    company_gap_seconds=0,
)
Settle = Callable[[SendAssigned], Fact]


def accept(assigned: SendAssigned) -> Fact:
    """The server takes it."""
    reply = Reply(assigned.call.provider, "dot", 250, "2.0.0", "Ok")
    return AttemptAccepted(assigned.ref, assigned.attempt, assigned.sender.mailbox, assigned.call.route, "id", reply)


def refuse(fault: str, reply_class: str, action: str, code: int = 550) -> Settle:
    """The server refuses, with this meaning."""

    def settle(assigned: SendAssigned) -> Fact:
        reply = Reply(assigned.call.provider, "rcpt", code, "", "no")
        said = Verdict(reply_class, fault, fault, action, f"{fault}-{reply_class}")  # type: ignore[arg-type]
        return AttemptRefused(assigned.ref, assigned.attempt, assigned.sender.mailbox, assigned.call.route, reply, said)

    return settle


def no_connection(assigned: SendAssigned) -> Fact:
    """Nobody answers."""
    return AttemptNotSent(
        assigned.ref, assigned.attempt, assigned.sender.mailbox, assigned.call.route, "connect", "refused"
    )


def miss(assigned: SendAssigned) -> Fact:
    """The slot passes."""
    return AttemptMissed(assigned.ref, assigned.attempt, assigned.sender.mailbox, assigned.call.route)


def _binding(facts: list[Fact]) -> list[object]:
    """What must be the same when it is decided again: all but what upstream is told, in whatever mailbox."""
    refs = sorted(str(f.ref) for f in facts if isinstance(f, SendAssigned))
    return [*refs, *(f for f in facts if not isinstance(f, SendAssigned | SendWaits))]


@dataclass
class FleetStory:
    """One partition. `settle` decides what becomes of each assignment, `latency_s` seconds later."""

    now: datetime = START
    settle: Settle = accept
    latency_s: float = 1.0
    mind: FleetMind = field(default_factory=FleetMind)
    assigned: list[tuple[datetime, SendAssigned]] = field(default_factory=list)
    forwarded: list[Outgoing] = field(default_factory=list)
    journal: list[tuple[datetime, Fact]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = Rows(Nowhere(), 0, self.mind.row_types)
        self.state: FleetState = self.mind.open(self.rows)
        self._seq = 0
        self._out: list[tuple[datetime, Fact]] = []

    # ── what is told ─────────────────────────────────────────────────────────────────────────────

    def client(self, name: str, *campaigns: str, pace: Pace = FAST) -> None:
        """Declare a client."""
        self.sees(
            ClientDeclared(
                ClientId(name), tuple(CampaignId(c) for c in campaigns or ("all",)), "Street 1", pace, "https://u.test/"
            )
        )

    def policy(self, client: str, **parts: object) -> None:
        """Let a policy lead a client: no warm-up and no canary but what is named."""
        whole = {"warm_up": WarmUp(enabled=False), "lists": Lists(canary_sends=0), **parts}
        self.sees(PolicyApplied(ClientId(client), Policy("test", **whole), "lena"))  # type: ignore[arg-type]

    def domain(self, client: str, name: str, daily_quota: int = 0) -> None:
        """Declare a domain."""
        self.sees(DomainDeclared(ClientId(client), DomainName(name), daily_quota))

    def route(self, client: str, name: str = "own", **more: object) -> None:
        """Declare a route."""
        self.sees(RouteDeclared(ClientId(client), RouteId(name), "smtp", "127.0.0.1", 25, **more))  # type: ignore[arg-type]

    def boxes(
        self, client: str, domain: str, count: int, daily_quota: int = 1000, routes: tuple[str, ...] = ("own",)
    ) -> None:
        """Declare mailboxes of a domain."""
        ways = tuple(RouteId(r) for r in routes)
        for number in range(count):
            self.sees(MailboxDeclared(ClientId(client), MailboxAddress(f"box{number}@{domain}"), ways, daily_quota))

    def fleet(
        self,
        client: str,
        count: int,
        *,
        pace: Pace = FAST,
        daily_quota: int = 1000,
        campaigns: tuple[str, ...] = ("all",),
    ) -> None:
        """Declare a client with one domain, one route and so many mailboxes."""
        self.client(client, *campaigns, pace=pace)
        self.domain(client, f"{client}.test")
        self.route(client)
        self.boxes(client, f"{client}.test", count, daily_quota)

    def ask(
        self,
        client: str,
        send_id: str,
        campaign: str = "all",
        *,
        priority: int = 5,
        not_before: datetime | None = None,
        expires_at: datetime | None = None,
        domain: str = "gmail.com",
        thread_id: str = "",
        basis: BasisType = "express_consent",
        mailbox: str = "",
        list_id: str = "",
        receiver: str = "",
        test: bool = False,
    ) -> SendRef:
        """Admit a send."""
        ref = SendRef(ClientId(client), SendId(send_id), Recipient(f"{send_id:0>64}"))
        self.sees(
            SendAdmitted(
                SendRequested(
                    ref,
                    CampaignId(campaign),
                    ContentRef(TopicId("t"), 0, 0, "c" * 64, 100),
                    "d" * 64,
                    ref.recipient,
                    DomainName(domain),
                    Basis(basis, "form", START),
                    self.now,
                    expires_at or self.now + timedelta(days=13),
                    not_before,
                    thread_id,
                    priority,
                    "US",
                    list_id=list_id,
                    mailbox=MailboxAddress(mailbox),
                    receiver=receiver,
                    test=test,
                )
            )
        )
        return ref

    def sees(self, fact: Fact) -> list[Fact]:
        """Decide and fold one fact; return what was decided."""
        decided = self.mind.decide(self.state, fact, self.now)
        again = self.mind.decide(self.state, fact, self.now)
        assert _binding(again) == _binding(decided), "a decision that did not count is decided again"
        self._seq += 1
        for one in decided:
            self.journal.append((self.now, one))
            for key in self.mind.rows_of(one, self.now):
                row = self.mind.evolve(key, self.rows.get(key), one, self.now)
                self.rows.put(key, self._seq, row)
                self.mind.changed(self.state, key, row)
            self.forwarded += self.mind.forwards(one, self.now)
            if isinstance(one, SendAssigned):
                self.assigned.append((self.now, one))
                self._out.append((self.now + timedelta(seconds=self.latency_s), self.settle(one)))
        return decided

    def tick(self, seconds: int = 1) -> None:
        """Let seconds pass: what is out comes back, then the tick is decided."""
        for _ in range(seconds):
            self.now += timedelta(seconds=1)
            due = [fact for when, fact in self._out if when <= self.now]
            self._out = [(when, fact) for when, fact in self._out if when > self.now]
            for fact in due:
                self.sees(fact)
            self.sees(Ticked())

    def reopen(self) -> None:
        """Another worker takes the partition over: the state is built anew from the rows."""
        self.state = self.mind.open(self.rows)

    # ── what is counted ──────────────────────────────────────────────────────────────────────────

    def by_campaign(self) -> Counter[str]:
        """Assignments per campaign."""
        found: Counter[str] = Counter()
        for _, assigned in self.assigned:
            row = self.state.backlog(f"{assigned.ref.client}/{assigned.ref.send_id}")
            found[assigned.ref.send_id.partition("-")[0]] += 1
            assert row is not None
        return found

    def per_day(self) -> dict[str, Counter[str]]:
        """Assignments per mailbox and quota day."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for _, assigned in self.assigned:
            found[assigned.sender.mailbox][assigned.quota_day] += 1
        return found

    def told(self, send_id: str) -> list[tuple[str, datetime | None]]:
        """What upstream was told about why a send waits."""
        results = [out.fact for out in self.forwarded if isinstance(out.fact, SendResult)]
        return [(str(r.limit), r.earliest) for r in results if r.limit is not None and r.send_id == send_id]

    def decided(self, kind: type[Fact]) -> list[Fact]:
        """All decided facts of a kind."""
        return [fact for _, fact in self.journal if isinstance(fact, kind)]
