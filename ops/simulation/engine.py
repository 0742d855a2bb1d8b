"""Drives the fleet's mind on a simulated clock, from one time at which something can happen to the next."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ops.journals import Nowhere
from ops.simulation.mail_world import DOMAIN_OF, GOOD, MailWorld, Outage, Quality
from schemas.fleet import ClientDeclared, DomainDeclared, MailboxDeclared, Pace, RouteDeclared
from schemas.health import ListChanged, ListSignCounted, SignCounted
from schemas.ids import CampaignId, ClientId, DomainName, MailboxAddress, Recipient, RouteId, SendId, TopicId
from schemas.registry import Fact
from schemas.sending import (
    Basis,
    ContentRef,
    SendAdmitted,
    SendAssigned,
    SendEnded,
    SendGivenUp,
    SendLapsed,
    SendQueued,
    SendRef,
    SendRequested,
    SendRequeued,
    SendWaits,
    Ticked,
)
from streams.fleet.mind import FleetMind
from streams.fleet.state import FleetState, backlog_key
from streams.log.rows import Rows

STEP = timedelta(seconds=15)
"""Between two looks while there is work: the real stage looks every second, and plans at most 200 sends each time."""
TOPPED_UP_EVERY = timedelta(minutes=30)
PATIENCE = timedelta(days=3)
DAYS_OF_A_LIST = 10
FIRST_OF_THE_NEXT = 60
"""When half of a list is asked for, so many of the next one are: its canary is back before it is needed."""


@dataclass(frozen=True)
class Wish:
    """What a client's upstream wants: mails a day (0 = by its quotas), over one list after the other.

    A list that is held is asked for no more: the next one takes its place.
    """

    per_day: int = 0
    share_of_quota: float = 0.9
    list_size: int = 0  # 0 = what is wanted in ten days
    quality: Quality = GOOD
    special: tuple[tuple[str, Quality], ...] = ()  # list_id → another quality
    off: tuple[tuple[int, int], ...] = ()  # days from..to (exclusive), counted from the first, without any request


@dataclass(frozen=True)
class Scenario:
    """What happens: the fleet, what is wanted, what goes wrong and when."""

    fleet: tuple[Fact, ...]
    begin: datetime
    days: int
    seed: int = 1
    wishes: dict[ClientId, Wish] = field(default_factory=dict)
    outages: tuple[Outage, ...] = ()
    story: tuple[tuple[datetime, Fact], ...] = ()  # facts that come in from outside at their time


@dataclass
class Day:
    """What one day came to."""

    day: str
    counts: Counter[str] = field(default_factory=Counter)
    by_client: dict[ClientId, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))


Watcher = Callable[[FleetState, datetime, Fact], None]


class Simulation:
    """One run. `days` holds what was counted, `decided` every decision that a person would want to see."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.mind = FleetMind()
        self.state: FleetState = self.mind.open(Rows(Nowhere(), 0, self.mind.row_types))
        self.world = MailWorld(scenario.seed, self._quality_of, scenario.outages)
        self.now = scenario.begin
        self.days: list[Day] = []
        self.decided: list[tuple[datetime, Fact]] = []
        self.watchers: list[Watcher] = []
        self.listeners: list[Callable[[datetime, Fact], None]] = []
        self._later: list[tuple[datetime, int, Fact]] = []
        self._number = 0
        self._quotas: Counter[ClientId] = Counter()
        for fact in scenario.fleet:
            if isinstance(fact, MailboxDeclared):
                self._quotas[fact.client] += fact.daily_quota
        self._held: set[tuple[ClientId, str]] = set()
        self.asked: Counter[ClientId] = Counter()
        self._waiting: Counter[ClientId] = Counter()  # for their first try: what is tried again holds nobody up
        self._topped_up = scenario.begin - TOPPED_UP_EVERY

    # ── the run ──────────────────────────────────────────────────────────────────────────────────

    def run(self) -> Iterator[Day]:
        """Yield each day when it is over."""
        for fact in self.scenario.fleet:
            self._see(fact)
        for at, fact in self.scenario.story:
            self._put(at, fact)
        for number in range(self.scenario.days):
            day = Day((self.scenario.begin + timedelta(days=number)).strftime("%Y-%m-%d"))
            self.days.append(day)
            end = self.scenario.begin + timedelta(days=number + 1)
            while self.now < end:
                self._moment()
                self.now = min(end, self._next(end))
            yield day

    def _moment(self) -> None:
        while self._later and self._later[0][0] <= self.now:
            said = heapq.heappop(self._later)[2]
            for listen in self.listeners:
                listen(self.now, said)
            self._see(said)
        if self.now - self._topped_up >= TOPPED_UP_EVERY:
            self._topped_up = self.now
            self._top_up()
        self.state.tell.clear()  # nobody upstream is to be told why a send waits
        self._see(Ticked())

    def _next(self, end: datetime) -> datetime:
        """When something can happen next, not before the next step."""
        due = self.state.next_due()
        times = [end, self._topped_up + TOPPED_UP_EVERY]
        if self._later:
            times.append(self._later[0][0])
        if due is not None:
            times.append(due)
        return max(self.now + STEP, min(times)).astimezone(UTC)

    def _put(self, at: datetime, fact: Fact) -> None:
        self._number += 1
        heapq.heappush(self._later, (at, self._number, fact))

    def _see(self, fact: Fact) -> None:
        mind, state = self.mind, self.state
        for made in mind.decide(state, fact, self.now):
            for key in mind.rows_of(made, self.now):
                mind.changed(state, key, mind.evolve(key, state.get(key), made, self.now))
            self._follow(made)

    def _follow(self, made: Fact) -> None:
        match made:
            case SignCounted() | SendQueued() | SendWaits() | ListSignCounted():
                pass
            case SendAssigned():
                self._carry(made)
            case SendEnded(ref):
                self._end(ref, f"ended {made.state}")
            case SendLapsed(ref):
                self._end(ref, "expired")
            case SendRequeued(ref):
                self._count(ref.client, "deferred")
            case SendGivenUp(ref):
                self._count(ref.client, "given up")
            case _:
                if isinstance(made, ListChanged) and made.now == "held":
                    self._held.add((made.client, made.list_id))
                self.decided.append((self.now, made))
        for watch in self.watchers:
            watch(self.state, self.now, made)

    def _carry(self, given: SendAssigned) -> None:
        row = self.state.backlog(f"{given.ref.client}/{given.ref.send_id}")
        assert row is not None
        assert row.request is not None
        if given.attempt == 1:
            self._waiting[given.ref.client] -= 1
        self._count(given.ref.client, "assigned")
        for at, fact in self.world.outcomes(given, row.request):
            self._put(at, fact)

    def _end(self, ref: SendRef, how: str) -> None:
        row = self.state.backlog(f"{ref.client}/{ref.send_id}")
        if row is not None and not row.attempt:
            self._waiting[ref.client] -= 1
        self._count(ref.client, how)
        self.state.forget(backlog_key(ref.client, ref.send_id))

    def _count(self, client: ClientId, what: str) -> None:
        if self.days:
            self.days[-1].counts[what] += 1
            self.days[-1].by_client[client][what] += 1

    # ── what upstream wants ──────────────────────────────────────────────────────────────────────

    def _clients(self) -> Iterable[ClientDeclared]:
        return (fact for fact in self.scenario.fleet if isinstance(fact, ClientDeclared))

    def _quality_of(self, client: ClientId, list_id: str) -> Quality:
        wish = self.scenario.wishes.get(client, Wish())
        return dict(wish.special).get(list_id, wish.quality)

    def _top_up(self) -> None:
        """Ask for what can be carried until the next time: upstream holds back what cannot be sent yet."""
        day = (self.now - self.scenario.begin).days
        for client in self._clients():
            wish = self.scenario.wishes.get(client.client, Wish())
            if any(first <= day < end for first, end in wish.off):
                continue
            hours = max(1, client.pace.hour_to - client.pace.hour_from)
            wanted = self._per_day(client.client, wish) * TOPPED_UP_EVERY / timedelta(hours=hours)
            for _ in range(round(wanted) - self._waiting[client.client]):
                self._ask(client, wish)

    def _per_day(self, client: ClientId, wish: Wish) -> float:
        if wish.per_day:
            return wish.per_day
        return wish.share_of_quota * self._quotas[client]

    def _ask(self, client: ClientDeclared, wish: Wish) -> None:
        number = self.asked[client.client]
        self.asked[client.client] += 1
        self._waiting[client.client] += 1
        self._see(SendAdmitted(self._request(client, wish, number)))

    def _request(self, client: ClientDeclared, wish: Wish, number: int) -> SendRequested:
        list_id = self._list_of(client.client, wish, number)
        receiver = self._receiver(self._quality_of(client.client, list_id), number)
        domain = DOMAIN_OF.get(receiver, f"firm{number % 40_000}.example")
        recipient = Recipient(f"{number:064x}")
        return SendRequested(
            SendRef(client.client, SendId(f"s{number}"), recipient),
            CampaignId(client.campaigns[number % len(client.campaigns)]),
            ContentRef(TopicId("simulated"), 0, number, "0" * 64, 2_000),
            "0" * 64,
            recipient,
            DomainName(domain),
            Basis("express_consent", "simulated", self.scenario.begin),
            self.now,
            self.now + PATIENCE,
            list_id=list_id,
            receiver=receiver,
        )

    def _list_of(self, client: ClientId, wish: Wish, number: int) -> str:
        size = wish.list_size or max(1, round(DAYS_OF_A_LIST * self._per_day(client, wish)))
        place, within = divmod(number, size)
        if size // 2 <= within < size // 2 + FIRST_OF_THE_NEXT:
            place += 1
        while (client, list_named(wish, place)) in self._held:
            place += 1
        return list_named(wish, place)

    @staticmethod
    def _receiver(quality: Quality, number: int) -> str:
        share, place = (number * 0.618033988749895) % 1, 0.0
        for receiver, weight in quality.receivers:
            place += weight
            if share < place:
                return receiver
        return ""


def list_named(wish: Wish, place: int) -> str:
    """The client's list at this place, counted from 0."""
    return wish.special[place - 1][0] if 0 < place <= len(wish.special) else f"list-{place}"


def declared_fleet(mailboxes: int, domains: int, clients: int) -> list[Fact]:
    """Return a plain fleet of this size, for stories that need no file."""
    facts: list[Fact] = []
    each = max(1, domains // clients)
    for c in range(clients):
        client = ClientId(f"client{c}")
        facts.append(ClientDeclared(client, (CampaignId("all"),), "Street 1", Pace(), f"https://u.client{c}.test/"))
        facts.append(RouteDeclared(client, RouteId("own"), "smtp", "mta.test", 587, max_connections=200))
        facts += [DomainDeclared(client, DomainName(f"d{n}.client{c}.test")) for n in range(each)]
        facts += [
            MailboxDeclared(client, MailboxAddress(f"box{n}@d{n % each}.client{c}.test"), (RouteId("own"),), 30)
            for n in range(mailboxes // clients)
        ]
    return facts
