"""The fleet stage's rows and, over them, one partition's state with its indexes."""

import heapq
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

import msgspec

from schemas.fleet import EVERY_BASIS, ClientDeclared, CostDeclared, DomainDeclared, MailboxDeclared, RouteDeclared
from schemas.health import HealthState, ReserveState, Scope
from schemas.ids import CampaignId, ClientId, DomainName, MailboxAddress, Recipient, RouteId, SendId
from schemas.policy import Lists, Policy, PolicyApplied, Rotation, WarmUp
from schemas.sending import BasisType, CancelSweepBegan, SendRequested, SendState, WaitLimit
from streams.fleet.dns_gate import UNSEEN, GateRow
from streams.fleet.lists import UNKNOWN_LIST, ListRow, bars
from streams.fleet.queues import Boxes, SendQueue, Waiting
from streams.fleet.receivers import ReceiverRow
from streams.fleet.reputation import ReputationRow
from streams.fleet.routes import Rest, who_receives
from streams.fleet.windows import Counts
from streams.log.rows import RowKey, Rows

ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
TELL_AFTER = timedelta(seconds=30)
TELL_AGAIN_AFTER = timedelta(hours=1)
LOOK_AT_WATCHED = timedelta(minutes=15)
BUILT_IN = Policy(
    version="built-in",
    warm_up=WarmUp(enabled=False),
    rotation=Rotation(enabled=False),
    lists=Lists(canary_sends=0),
)
"""What leads a client whose policy was never applied: one of before there were any. All it has is in use."""


class ClientRow(msgspec.Struct, frozen=True):
    """A client as declared."""

    declared: ClientDeclared


class PolicyRow(msgspec.Struct, frozen=True):
    """The policy that leads a client."""

    declared: PolicyApplied


class CostRow(msgspec.Struct, frozen=True):
    """What a client pays for one thing, as declared: nothing is decided by it."""

    declared: CostDeclared


class SenderRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A mailbox, domain, route or client as a sender: its state, what was counted of it, its warm-up cap.

    A domain has a row under its own name and, where that is another, under its organisational domain's.
    """

    state: HealthState = "active"
    since: datetime | None = None  # of the state
    until: datetime | None = None  # of "unhealthy"; None: a person decides
    then: HealthState = "probation"  # after "unhealthy"
    share: float = 1.0  # of its quota, while it is watched
    rule: str = ""  # that brought the state
    buckets: dict[str, Counts] = {}
    counts_from: datetime | None = None  # when the last probation began: what was sent before says nothing any more
    cap: int = 0  # of the warm-up; 0: not begun
    cap_day: str = ""  # local, of the last step
    ramp_from: str = ""  # local day at which the ramp began
    since_step: Counts = Counts()
    warmed: bool = False  # elsewhere, says a person
    rests_until: datetime | None = None
    reserve: bool = False


class RosterRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was planned for a client's day, and who joined from the reserve by day (UTC), the last eight days."""

    day: str = ""
    reserve: ReserveState = "none"
    in_reserve: int = 0
    joined: dict[str, int] = {}


class DomainRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A sending domain: its quota held per local day."""

    declared: DomainDeclared
    used: dict[str, int] = {}


class RouteRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A route: what it carried per hour (UTC), its breaker, and when its ceiling a second allows the next.

    `rests`: the receivers that throttle us over it; `against`: those that did since it last had a mail taken.
    """

    declared: RouteDeclared
    hours: dict[str, int] = {}
    free_at: datetime = ALWAYS
    failures: int = 0  # in a row
    trips: int = 0  # since a mail last went through
    out_until: datetime | None = None
    rests: dict[str, Rest] = {}
    against: tuple[str, ...] = ()


class MailboxRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A mailbox: its quota held per local day, the attempt it has open, when it is free again."""

    declared: MailboxDeclared
    used: dict[str, int] = {}  # local day → held or spent, the last three days
    open: str = ""  # "client/send_id/attempt"
    open_route: RouteId = RouteId("")
    free_at: datetime = ALWAYS
    warmed_since: datetime | None = None


class BacklogRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A send in the backlog; after its end a tombstone without its request."""

    recipient: Recipient
    state: SendState
    attempt: int = 0
    tries: int = 0  # attempts that count against patience
    request: SendRequested | None = None
    not_before: datetime = ALWAYS
    mailbox: MailboxAddress = MailboxAddress("")
    route: RouteId = RouteId("")
    quota_day: str = ""
    hour: str = ""
    bucket: str = ""  # these two as SendAssigned has them
    list_id: str = ""
    stay_with: MailboxAddress = MailboxAddress("")
    test: bool = False  # as the request says, kept after its end
    deferred: bool = False  # some attempt was
    sweep: int = 0  # the newest cancel in steps that has passed it on, or that it came after
    limit: WaitLimit | None = None  # what upstream was told last
    earliest: datetime | None = None


class ThreadRow(msgspec.Struct, frozen=True):
    """The mailbox that carries a thread."""

    mailbox: MailboxAddress


class CompanyRow(msgspec.Struct, frozen=True):
    """When a client may write to a company again."""

    free_at: datetime


class StopRow(msgspec.Struct, frozen=True):
    """A stop, or that it was taken back."""

    stopped: bool
    by: str


class CancelRow(msgspec.Struct, frozen=True):
    """A cancel that came before its send."""

    by: str


class SweepRow(msgspec.Struct, frozen=True):
    """A cancel that goes in steps. How far it is, the sends' own rows say."""

    began: CancelSweepBegan
    under_way: bool


UNKNOWN_SENDER = SenderRow()
NOTHING_SENT = ReceiverRow()
NO_ROUTE = RouteId("")
ROW_TYPES: dict[str, type[msgspec.Struct]] = {
    "client": ClientRow,
    "policy": PolicyRow,
    "cost": CostRow,
    "sender": SenderRow,
    "roster": RosterRow,
    "domain": DomainRow,
    "route": RouteRow,
    "mailbox": MailboxRow,
    "backlog": BacklogRow,
    "thread": ThreadRow,
    "company": CompanyRow,
    "stop": StopRow,
    "cancel": CancelRow,
    "sweep": SweepRow,
    "receiver": ReceiverRow,
    "list": ListRow,
    "gate": GateRow,
    "reputation": ReputationRow,
}


def backlog_key(client: ClientId, send_id: SendId) -> RowKey:
    """The row of a send in the backlog."""
    return "backlog", f"{client}/{send_id}"


def sweep_key(client: ClientId, campaign: CampaignId, thread_id: str) -> RowKey:
    """The row of a cancel in steps, of a campaign or of a thread."""
    return "sweep", f"{client}/thread/{thread_id}" if thread_id else f"{client}/campaign/{campaign}"


def sender_key(scope: Scope, client: ClientId, name: str) -> RowKey:
    """The row of a sender; a client's own name is ""."""
    return "sender", f"{scope}/{client}/{name}"


def split_sender(id_: str) -> tuple[Scope, ClientId, str]:
    """What `sender_key` put together: (scope, client, name)."""
    scope, client, name = id_.split("/", 2)
    return scope, ClientId(client), name  # type: ignore[return-value]  # only scopes are put in


@lru_cache(maxsize=32_768)
def domain_of(mailbox: MailboxAddress) -> DomainName:
    """The sending domain of a mailbox."""
    return DomainName(mailbox.rpartition("@")[2])


class SpeedLook(NamedTuple):
    """When a client's speed was looked at last, in units of `speed_minutes`, and what could be sent in a second."""

    slot: int
    per_second: float


class FleetState:
    """One partition's rows in memory, with the indexes that keep a tick's cost apart from the fleet's size."""

    def __init__(self, rows: Rows) -> None:
        self._stored = rows
        self._rows: dict[RowKey, msgspec.Struct] = {}
        self._sends: dict[ClientId, SendQueue] = defaultdict(SendQueue)
        self._boxes: dict[ClientId, Boxes] = defaultdict(Boxes)
        self._names: dict[ClientId, dict[MailboxAddress, None]] = defaultdict(dict)
        self._ways: dict[ClientId, dict[RowKey, None]] = defaultdict(dict)
        self._at_work: dict[tuple[ClientId, RouteId], set[MailboxAddress]] = defaultdict(set)
        self._open: dict[ClientId, dict[str, None]] = defaultdict(dict)  # sends that have not ended
        self._sweeps: dict[RowKey, CancelSweepBegan] = {}  # those under way
        self._last_sweep: dict[ClientId, int] = {}
        self.lapse: list[tuple[datetime, str]] = []  # (expires_at, backlog id)
        self.tell: list[tuple[datetime, str]] = []  # (when to say why it waits, backlog id)
        self.look_at: list[tuple[datetime, str]] = []  # (when a sender's state may end by itself, sender id)
        self.canaries: list[tuple[datetime, ClientId, str]] = []  # (end of the wait, client, list)
        self.roster_hours: dict[ClientId, str] = {}  # the local hour in which each client's roster was looked at
        self.speed_looks: dict[ClientId, SpeedLook] = {}
        self.turn = 0  # which client is first at the next tick
        for key, row in rows.all():
            self._rows[key] = row
        for key, row in self._rows.items():
            if isinstance(row, BacklogRow | MailboxRow | RouteRow | SenderRow | ListRow | SweepRow):
                self._index(key, None, row)

    # ── rows ─────────────────────────────────────────────────────────────────────────────────────

    def get(self, key: RowKey) -> msgspec.Struct | None:
        """Return a row."""
        return self._rows.get(key)

    def put(self, key: RowKey, row: msgspec.Struct) -> None:
        """Take a row and index it."""
        before = self._rows.get(key)
        self._rows[key] = row
        self._index(key, before, row)

    def clients(self) -> list[ClientId]:
        """All clients of the partition, the one whose turn it is first."""
        names = list(self._boxes.keys() | self._sends.keys())
        names.sort()
        first = self.turn % len(names) if names else 0
        return names[first:] + names[:first]

    def sends(self, client: ClientId) -> SendQueue:
        """The client's waiting sends."""
        return self._sends[client]

    def boxes(self, client: ClientId) -> Boxes:
        """The client's mailboxes by when they can be used."""
        return self._boxes[client]

    def at_work(self, client: ClientId, route: RouteId) -> int:
        """How many attempts are out over the route."""
        return len(self._at_work[client, route])

    def out_to(self, client: ClientId, route: RouteId, receiver: str) -> int:
        """How many attempts are out over the route to one receiver; counted one by one, while it is bounded."""
        boxes = (self.mailbox(name) for name in self._at_work[client, route])
        sends = (self.backlog(box.open.rpartition("/")[0]) for box in boxes if box is not None)
        return sum(1 for s in sends if s is not None and s.request is not None and who_receives(s.request) == receiver)

    def client(self, client: ClientId) -> ClientRow | None:
        """The client's row."""
        row = self._rows.get(("client", client))
        return row if isinstance(row, ClientRow) else None

    def policy(self, client: ClientId) -> Policy:
        """The policy that leads the client."""
        row = self._rows.get(("policy", client))
        return row.declared.policy if isinstance(row, PolicyRow) else BUILT_IN

    def sender(self, scope: Scope, client: ClientId, name: str) -> SenderRow:
        """The sender's row; one of whom nothing is known is active."""
        row = self._rows.get(sender_key(scope, client, name))
        return row if isinstance(row, SenderRow) else UNKNOWN_SENDER

    def roster_of(self, client: ClientId) -> RosterRow:
        """The client's roster as it was planned last."""
        row = self._rows.get(("roster", client))
        return row if isinstance(row, RosterRow) else RosterRow()

    def mailboxes_of(self, client: ClientId) -> list[MailboxRow]:
        """The client's mailboxes that are declared."""
        rows = (self.mailbox(name) for name in self._names[client])
        return [row for row in rows if row is not None and row.declared.active]

    def due_rows(self, client: ClientId, at: datetime) -> dict[str, BacklogRow]:
        """The client's sends that wait for nothing but their turn, by their names "client/send_id"."""
        queue = self._sends[client]
        places = [place for heap in (*queue.due.values(), *queue.sticky.values()) for place in heap]
        places += [place for _, place in queue.later]
        rows = {place.id: row for place in places if (row := self.waits(place.id)) is not None}
        return {
            id_: row
            for id_, row in rows.items()
            if row.request is not None and row.not_before <= at < row.request.expires_at
        }

    def domain(self, client: ClientId, domain: DomainName) -> DomainRow | None:
        """The domain's row."""
        row = self._rows.get(("domain", f"{client}/{domain}"))
        return row if isinstance(row, DomainRow) else None

    def route(self, client: ClientId, route: RouteId) -> RouteRow | None:
        """The route's row."""
        row = self._rows.get(("route", f"{client}/{route}"))
        return row if isinstance(row, RouteRow) else None

    def routes_of(self, client: ClientId) -> list[RouteRow]:
        """The client's routes."""
        found = (self._rows.get(key) for key in self._ways[client])
        return [row for row in found if isinstance(row, RouteRow)]

    def rests(self, client: ClientId, receiver: str) -> bool:
        """Whether the receiver rests over some route of the client's, or is only getting used to us again."""
        return any(receiver in row.rests for row in self.routes_of(client))

    def accepted_bases(self, client: ClientId) -> set[BasisType]:
        """The consent bases that some route of the client takes; all while no route is declared yet."""
        ways = [row.declared for row in self.routes_of(client) if row.declared.active]
        return {basis for way in ways for basis in way.accepts_basis} if ways else set(EVERY_BASIS)

    def receiver(self, client: ClientId, bucket: str) -> ReceiverRow:
        """What an organisational domain sent to a receiving provider, named "organisation/receiver"."""
        row = self._rows.get(("receiver", f"{client}/{bucket}"))
        return row if isinstance(row, ReceiverRow) else NOTHING_SENT

    def list_row(self, client: ClientId, list_id: str) -> ListRow:
        """The list's row; one that is not known is new."""
        row = self._rows.get(("list", f"{client}/{list_id}"))
        return row if isinstance(row, ListRow) else UNKNOWN_LIST

    def gate(self, client: ClientId, domain: DomainName, route: RouteId = NO_ROUTE) -> GateRow:
        """What the DNS says of a domain over a route; without a route, of the domain itself."""
        row = self._rows.get(("gate", f"{client}/{domain}/{route}"))
        return row if isinstance(row, GateRow) else UNSEEN

    def gated(self, client: ClientId, domain: DomainName, route: RouteId = NO_ROUTE) -> bool:
        """Whether the DNS closes the domain over this route; without a route, altogether."""
        return bool(self.gate(client, domain, route).closed) and self.policy(client).dns_gate.enabled

    def mailbox(self, mailbox: str) -> MailboxRow | None:
        """The mailbox's row."""
        row = self._rows.get(("mailbox", mailbox))
        return row if isinstance(row, MailboxRow) else None

    def thread_mailbox(self, client: ClientId, thread_id: str) -> MailboxAddress:
        """The mailbox that carries the thread and is still in use, "" for none."""
        row = self._rows.get(("thread", f"{client}/{thread_id}")) if thread_id else None
        if not isinstance(row, ThreadRow):
            return MailboxAddress("")
        box = self.mailbox(row.mailbox)
        return row.mailbox if box is not None and box.declared.active else MailboxAddress("")

    def must_carry(self, row: BacklogRow) -> MailboxAddress:
        """The one mailbox that must carry the send: named, greylisted there, or its thread's; "" for any."""
        if row.request is None:
            return MailboxAddress("")
        if row.request.mailbox:
            return row.request.mailbox
        box = self.mailbox(row.stay_with) if row.stay_with else None
        if box is not None and box.declared.active:
            return row.stay_with
        return self.thread_mailbox(row.request.ref.client, row.request.thread_id)

    def company_free_at(self, client: ClientId, company: DomainName) -> datetime:
        """When the client may write to the company again."""
        row = self._rows.get(("company", f"{client}/{company}"))
        return row.free_at if isinstance(row, CompanyRow) else ALWAYS

    def stopped(self, scope: str, name: str) -> bool:
        """Whether an operator stopped this."""
        row = self._rows.get(("stop", f"{scope}/{name}"))
        return isinstance(row, StopRow) and row.stopped

    def backlog(self, id_: str) -> BacklogRow | None:
        """The send's row, named "client/send_id"."""
        row = self._rows.get(("backlog", id_))
        return row if isinstance(row, BacklogRow) else None

    def cancelled_early(self, id_: str) -> CancelRow | None:
        """The cancel that came before its send."""
        row = self._rows.get(("cancel", id_))
        return row if isinstance(row, CancelRow) else None

    def backlog_of(self, client: ClientId) -> list[BacklogRow]:
        """All sends of a client that have not ended, in the order in which they came."""
        rows = (self.backlog(id_) for id_ in self._open[client])
        return [row for row in rows if row is not None]

    def sweeps(self) -> list[CancelSweepBegan]:
        """The cancels in steps that are under way."""
        return list(self._sweeps.values())

    def last_sweep(self, client: ClientId) -> int:
        """The number of the client's newest cancel in steps, 0 when there was none."""
        return self._last_sweep.get(client, 0)

    def is_swept(self, key: RowKey) -> bool:
        """Whether this cancel in steps is under way."""
        return key in self._sweeps

    def swept(self, client: ClientId, campaign: CampaignId, thread_id: str = "") -> bool:
        """Whether a cancel in steps of the campaign or of the thread is under way."""
        return bool(self._sweeps) and (
            self.is_swept(sweep_key(client, campaign, ""))
            or (bool(thread_id) and self.is_swept(sweep_key(client, campaign, thread_id)))
        )

    def waits(self, id_: str) -> BacklogRow | None:
        """The send's row if it still waits for a mailbox."""
        row = self.backlog(id_)
        return row if row is not None and row.state == "admitted" and row.request is not None else None

    def next_due(self) -> datetime | None:
        """When a tick may next decide something; None while nothing is waited for. A time past means now."""
        if self._sweeps:
            return ALWAYS
        times = [heap[0][0] for heap in (self.lapse, self.tell, self.look_at, self.canaries) if heap]
        for client, queue in self._sends.items():
            if queue.later:
                times.append(queue.later[0][0])
            rules = self.policy(client).lists
            waiting = (lane for lane, heap in queue.due.items() if heap)
            if queue.ready or any(not bars(self.list_row(client, lane.list_id), rules) for lane in waiting):
                boxes = self._boxes[client]
                asleep = boxes.next_awake()
                if boxes.groups():
                    return ALWAYS
                if asleep is not None:
                    times.append(asleep.wake_at)
        return min(times, default=None)

    def forget(self, key: RowKey) -> None:
        """Drop a row that nothing will speak of again: for simulations, which never meet an old send_id."""
        self._rows.pop(key, None)

    # ── indexes ──────────────────────────────────────────────────────────────────────────────────

    def _index(self, key: RowKey, before: msgspec.Struct | None, row: msgspec.Struct) -> None:
        match row:
            case SenderRow():
                self._index_sender(key[1], before, row)
            case BacklogRow():
                self._index_send(key[1], before, row)
            case MailboxRow():
                self._index_mailbox(row)
            case RouteRow():
                self._ways[row.declared.client][key] = None
            case ListRow():
                if row.state == "canary" and row.until is not None and getattr(before, "state", "") != "canary":
                    client, _, list_id = key[1].partition("/")
                    heapq.heappush(self.canaries, (row.until, ClientId(client), list_id))
            case ClientRow() | DomainRow() | StopRow():
                if before is not None and _rules_of(before) == _rules_of(row):
                    return  # only counts changed
                for client in self._concerned(key, row):
                    self._look_again(self._names[client])
            case SweepRow():
                self._index_sweep(key, row)

    def _index_sender(self, id_: str, before: msgspec.Struct | None, row: SenderRow) -> None:
        """Look again at those whom a change of state concerns, and at the sender when its state may end by itself."""
        known = before if isinstance(before, SenderRow) else UNKNOWN_SENDER
        if known.rests_until != row.rests_until or known.reserve != row.reserve:
            self._look_again_at(id_)
        if (known.state, known.since) == (row.state, row.since):
            return  # only counts changed
        if row.state == "unhealthy" and row.until is not None:
            heapq.heappush(self.look_at, (row.until, id_))
        elif row.state == "watched" and row.since is not None:
            heapq.heappush(self.look_at, (row.since + LOOK_AT_WATCHED, id_))
        self._look_again_at(id_)

    def _index_sweep(self, key: RowKey, row: SweepRow) -> None:
        client = row.began.client
        self._last_sweep[client] = max(self._last_sweep.get(client, 0), row.began.number)
        if row.under_way:
            self._sweeps[key] = row.began
        else:
            self._sweeps.pop(key, None)

    def _look_again_at(self, id_: str) -> None:
        scope, client, name = split_sender(id_)
        if scope == "mailbox":
            self._look_again([MailboxAddress(name)])
        elif scope in ("domain", "client"):
            self._look_again(self._names[client])

    def _look_again(self, names: Iterable[MailboxAddress]) -> None:
        for name in names:
            box = self.mailbox(name)
            if box is not None:
                self._index_mailbox(box)

    def _concerned(self, key: RowKey, row: msgspec.Struct) -> list[ClientId]:
        if isinstance(row, StopRow):
            return list(self._names)
        return [ClientId(key[1].partition("/")[0])]

    def _index_send(self, id_: str, before: msgspec.Struct | None, row: BacklogRow) -> None:
        if row.request is None:
            self._open[ClientId(id_.partition("/")[0])].pop(id_, None)
            return
        self._open[row.request.ref.client][id_] = None
        if row.state == "assigned" and isinstance(before, BacklogRow) and before.state == "admitted":
            self._sends[row.request.ref.client].serve(row.request.campaign)
        if row.state != "admitted":
            return
        if isinstance(before, BacklogRow) and (before.state, before.attempt, before.not_before) == (
            row.state,
            row.attempt,
            row.not_before,
        ):
            return  # only what upstream was told has changed
        request = row.request
        place = Waiting(request.priority, request.requested_at, id_, row.attempt)
        self._sends[request.ref.client].put_later(row.not_before, place)
        heapq.heappush(self.lapse, (request.expires_at, id_))
        heapq.heappush(self.tell, (request.requested_at + TELL_AFTER, id_))

    def _index_mailbox(self, row: MailboxRow) -> None:
        declared = row.declared
        self._names[declared.client][declared.mailbox] = None
        boxes = self._boxes[declared.client]
        boxes.touch(declared.mailbox)
        for route in declared.routes:
            self._at_work[declared.client, route].discard(declared.mailbox)
        if row.open:
            self._at_work[declared.client, row.open_route].add(declared.mailbox)
        elif not declared.active:
            queue = self._sends[declared.client]
            for place in queue.sticky.pop(declared.mailbox, []):
                queue.put_later(ALWAYS, place)
        else:
            boxes.put_asleep(row.free_at, declared.mailbox, "gap")


def _rules_of(row: msgspec.Struct) -> object:
    return row.declared if isinstance(row, DomainRow) else row
