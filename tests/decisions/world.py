"""A partition of a stage without its engine: decides, journals through the wire shape, folds into a dict.

The builders below make facts of the field with everything that a test does not speak of filled in.
"""

import hashlib
from collections.abc import Coroutine, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from schemas import registry
from schemas.entry import Entry, Seen, counts, entry_from_wire
from schemas.envelope import Origin, to_wire
from schemas.fleet import ClientDeclared, DomainDeclared, MailboxDeclared, Pace, RouteDeclared
from schemas.ids import CampaignId, ClientId, DomainName, MailboxAddress, Recipient, RouteId, SendId, TopicId
from schemas.registry import Fact
from schemas.sending import (
    Accepted,
    AttemptAccepted,
    AttemptMissed,
    AttemptNotSent,
    AttemptRefused,
    AttemptUnknown,
    Basis,
    ContentRef,
    Refused,
    Reply,
    RouteCall,
    SendAssigned,
    Sender,
    SendRef,
    SendRequested,
    Ticked,
)
from streams.delivery.verdict import verdict
from streams.log.mind import Mind
from streams.log.rows import RowKey, Rows, encode_row, key_parts, key_text
from streams.log.stage import fold

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ACME = ClientId("acme")
NEWS = CampaignId("news")
OWN = RouteId("own")
ANNA = MailboxAddress("anna@acme.test")
BERT = MailboxAddress("bert@acme.test")
PARTITION = 0


class DictStore:
    """A RowStore in a dict."""

    def __init__(self, rows: Mapping[bytes, bytes] | None = None) -> None:
        self.kept: dict[bytes, bytes] = dict(rows or {})

    def get(self, key: bytes) -> bytes | None:
        """Return the stored row."""
        return self.kept.get(key)

    def items(self, partition: int) -> Iterable[tuple[bytes, bytes]]:
        """Return all rows of a partition."""
        return [(k, v) for k, v in self.kept.items() if key_parts(k)[0] == partition]

    async def write(self, _partition: int, rows: Mapping[bytes, bytes]) -> None:
        """Keep rows."""
        self.kept.update(rows)


def at_once(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("it waited")


class Ledger:
    """One partition: `sees` decides and folds, `decides` only decides. Time goes on by `at` alone."""

    def __init__(self, mind: Mind, at: datetime = NOW) -> None:
        self.mind = mind
        self.at = at
        self.journal: list[Entry] = []
        self.open: dict[str, bool] = {}
        self.origins: dict[str, tuple[int, int]] = {}
        self.store = DictStore()
        self._open_rows()

    def _open_rows(self) -> None:
        self.rows = Rows(self.store, PARTITION, self.mind.row_types)
        self.state: Any = self.mind.open(self.rows)

    @property
    def seq(self) -> int:
        """The last entry's number."""
        return len(self.journal)

    def decides(self, seen: Fact, at: datetime | None = None) -> list[Fact]:
        """Return the decision, without an entry for it."""
        return self.mind.decide(self.state, seen, max(self.at, at or self.at))

    def sees(self, seen: Fact, at: datetime | None = None, origin: Origin | None = None) -> list[Fact]:
        """Return what was decided, after it was journaled and folded; a decision for nothing leaves no entry."""
        self.at = max(self.at, at or self.at)
        if origin is not None and (origin.seq, origin.n) <= self.origins.get(origin.source, (-1, -1)):
            return []
        facts = self.decides(seen)
        if facts:
            self._count(self._entry(seen, facts, origin))
        return facts

    def given(self, *seen: Fact) -> "Ledger":
        """See all of these; each must be worth an entry."""
        for fact in seen:
            assert self.sees(fact), fact
        return self

    def given_at(self, at: datetime, *seen: Fact) -> "Ledger":
        """See all of these at that time."""
        self.at = max(self.at, at)
        return self.given(*seen)

    def ticks(self, at: datetime) -> list[Fact]:
        """Let the broker's clock say `at`."""
        return self.sees(Ticked(), at)

    def _entry(self, seen: Fact, facts: list[Fact], origin: Origin | None) -> Entry:
        name = registry.TYPE_OF[type(seen)]
        said = Seen(name, registry.VERSION_OF[name], registry.data_of(seen), "", origin)
        prev = self.journal[-1].id if self.journal else ""
        decided = tuple(registry.decided(fact) for fact in facts)
        made = Entry(f"e{self.seq + 1}", "w", self.seq + 1, prev, self.at, None, said, decided)
        return entry_from_wire(to_wire(made))

    def _count(self, entry: Entry) -> None:
        assert counts(entry, self.seq, self.journal[-1].id if self.journal else "", "ledger")
        self.journal.append(entry)
        self._fold(entry)

    def _fold(self, entry: Entry) -> None:
        facts = facts_of(entry)
        fold(self.mind, self.rows, self.state, entry, facts)
        for fact in facts:
            self.mind.track(self.open, fact)
        if entry.seen.origin is not None:
            origin = entry.seen.origin
            self.origins[origin.source] = max(self.origins.get(origin.source, (-1, -1)), (origin.seq, origin.n))

    def store_rows(self) -> None:
        """Write what is folded to the store."""
        at_once(self.rows.flush())

    def resumes(self, store: DictStore | None = None, position: int = 0) -> None:
        """Begin anew from stored rows, as another process does: fold the journal behind `position` again."""
        if store is None:
            self.store_rows()
        else:
            self.store = store
        self._open_rows()
        for entry in self.journal[position:]:
            fold(self.mind, self.rows, self.state, entry, facts_of(entry))

    def row(self, kind: str, id_: str) -> Any:
        """Return a row as it is held."""
        return self.rows.get((kind, id_))

    def all_rows(self) -> dict[RowKey, bytes]:
        """Return every row, with its mark, as it would be stored."""
        return {key: encode_row(*self._held(key)) for key, _ in self.rows.all()}

    def _held(self, key: RowKey) -> tuple[int, msgspec.Struct]:
        mark, row = self.rows.held(key)
        assert row is not None
        return mark, row

    def facts(self) -> list[tuple[Entry, Fact]]:
        """Return everything decided, in order, with its entry."""
        return [(entry, fact) for entry in self.journal for fact in facts_of(entry)]


def facts_of(entry: Entry) -> list[Fact]:
    """Return what an entry decided."""
    return [registry.fact_in(d) for d in entry.decided]


def stored(rows: Mapping[RowKey, bytes]) -> DictStore:
    """Return a store that holds these rows."""
    return DictStore({key_text(PARTITION, key): raw for key, raw in rows.items()})


# ── what upstream asks ───────────────────────────────────────────────────────────────────────────


def digest(text: str) -> str:
    """Return 64 hex digits that stand for `text`."""
    return hashlib.sha256(text.encode()).hexdigest()


def ref_of(send_id: str = "s1", recipient: str = "rita", client: ClientId = ACME) -> SendRef:
    """Return a send's reference."""
    return SendRef(client, SendId(send_id), Recipient(digest(recipient)))


def request(
    send_id: str = "s1",
    recipient: str = "rita",
    *,
    client: ClientId = ACME,
    at: datetime = NOW,
    text: str = "hello",
    offset: int = 0,
    **more: Any,
) -> SendRequested:
    """Return a request as intake passes it on."""
    ref = ref_of(send_id, recipient, client)
    asked: dict[str, Any] = {
        "ref": ref,
        "campaign": NEWS,
        "content": ContentRef(TopicId("t"), 0, offset, digest(f"{send_id}{text}{offset}"), 100),
        "content_sha256": digest(text),
        "recipient_loose": ref.recipient,
        "recipient_domain": DomainName("b.test"),
        "basis": Basis("express_consent", "form", at),
        "requested_at": at,
        "expires_at": at + 10 * DAY,
    }
    return SendRequested(**{**asked, **more})


# ── the fleet ────────────────────────────────────────────────────────────────────────────────────

ALL_DAY = Pace(hour_from=0, hour_to=24, gap_seconds=120, gap_jitter_seconds=0, company_gap_seconds=0)


def client(pace: Pace = ALL_DAY, name: ClientId = ACME) -> ClientDeclared:
    """Return a client that sends all day."""
    return ClientDeclared(name, (NEWS,), "Acme, 1 Road, Town", pace, "https://u.acme.test/")


def route(name: ClientId = ACME) -> RouteDeclared:
    """Return the client's route."""
    return RouteDeclared(name, OWN, "memory", "mx.acme.test", 587)


def domain(name: ClientId = ACME, domain: str = "acme.test") -> DomainDeclared:
    """Return the domain of the client's mailboxes."""
    return DomainDeclared(name, DomainName(domain))


def mailbox(address: MailboxAddress = ANNA, quota: int = 50, name: ClientId = ACME, **more: Any) -> MailboxDeclared:
    """Return a mailbox of the route."""
    return MailboxDeclared(name, address, (OWN,), quota, **more)


def assignment(
    attempt: int = 1, ref: SendRef | None = None, at: datetime = NOW, box: MailboxAddress = ANNA
) -> SendAssigned:
    """Return an assignment for three minutes."""
    call = RouteCall(OWN, "memory", "mx.acme.test", 587)
    day = f"{at:%Y-%m-%d}"
    return SendAssigned(ref or ref_of(), attempt, Sender(box), call, at, at + 3 * MINUTE, day, "round robin")


# ── what servers say ─────────────────────────────────────────────────────────────────────────────

OK = Reply("memory", "dot", 250, "2.0.0", "kept")
NO_SUCH_USER = Reply("memory", "rcpt", 550, "5.1.1", "User unknown")
POLICY = Reply("memory", "dot", 550, "5.7.1", "rejected by policy")
TRY_LATER = Reply("memory", "rcpt", 450, "4.2.1", "try later")
GREYLISTED = Reply("memory", "rcpt", 451, "4.7.1", "Greylisting in action, please come back later")
LOGIN_REFUSED = Reply("memory", "auth", 535, "5.7.8", "authentication failed")
TAKEN = Accepted("4XyZ12", OK)
NO = Refused(TRY_LATER)


def was_accepted(given: SendAssigned) -> AttemptAccepted:
    """Return what the fleet stage hears of a success."""
    return AttemptAccepted(given.ref, given.attempt, given.sender.mailbox, given.call.route, "1", OK)


def was_refused(given: SendAssigned, reply: Reply = TRY_LATER) -> AttemptRefused:
    """Return what the fleet stage hears of a refusal."""
    return AttemptRefused(given.ref, given.attempt, given.sender.mailbox, given.call.route, reply, verdict(reply))


def was_not_sent(given: SendAssigned) -> AttemptNotSent:
    """Return what the fleet stage hears when nothing left."""
    return AttemptNotSent(given.ref, given.attempt, given.sender.mailbox, given.call.route, "connect", "refused")


def was_missed(given: SendAssigned) -> AttemptMissed:
    """Return what the fleet stage hears of a missed slot."""
    return AttemptMissed(given.ref, given.attempt, given.sender.mailbox, given.call.route)


def is_unknown(given: SendAssigned) -> AttemptUnknown:
    """Return what the fleet stage hears when nobody knows."""
    return AttemptUnknown(given.ref, given.attempt, given.sender.mailbox, given.call.route, "cut")
