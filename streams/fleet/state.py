"""The fleet stage's rows and, over them, one partition's state with its indexes."""

import heapq
from collections import defaultdict
from datetime import UTC, datetime

import msgspec

from schemas.fleet import ClientDeclared, DomainDeclared, MailboxDeclared, RouteDeclared
from schemas.ids import ClientId, MailboxAddress, Recipient, RouteId, SendId
from schemas.sending import SendRequested, SendState
from streams.fleet.quota import quota_left
from streams.log.rows import RowKey, Rows

ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)


class ClientRow(msgspec.Struct, frozen=True):
    """A client as declared."""

    declared: ClientDeclared


class DomainRow(msgspec.Struct, frozen=True):
    """A domain as declared."""

    declared: DomainDeclared


class RouteRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A route as declared. `out_until` leaves it out after a fault of its own."""

    declared: RouteDeclared
    out_until: datetime | None = None


class MailboxRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A mailbox: its quota held per local day, the attempt it has open, when it is free again."""

    declared: MailboxDeclared
    used: dict[str, int] = {}  # local day → held or spent, the last three days
    open: str = ""  # "client/send_id/attempt"
    free_at: datetime = ALWAYS


class BacklogRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A send in the backlog; after its end a tombstone without its request."""

    recipient: Recipient
    state: SendState
    attempt: int = 0
    tries: int = 0  # attempts that count against patience
    request: SendRequested | None = None
    not_before: datetime = ALWAYS
    mailbox: MailboxAddress = MailboxAddress("")
    quota_day: str = ""
    stay_with: MailboxAddress = MailboxAddress("")


class CancelRow(msgspec.Struct, frozen=True):
    """A cancel that came before its send."""

    by: str


ROW_TYPES: dict[str, type[msgspec.Struct]] = {
    "client": ClientRow,
    "domain": DomainRow,
    "route": RouteRow,
    "mailbox": MailboxRow,
    "backlog": BacklogRow,
    "cancel": CancelRow,
}


def backlog_key(client: ClientId, send_id: SendId) -> RowKey:
    """The row of a send in the backlog."""
    return "backlog", f"{client}/{send_id}"


class FleetState:
    """One partition's rows in memory, with the indexes that make a tick cheap.

    `waiting` orders each client's sends by (not_before, priority, arrival); `idle` orders mailboxes by
    free_at; entries that no longer agree with their row are skipped when they come up.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows: dict[RowKey, msgspec.Struct] = {}
        self._arrivals = 0
        self.later: list[tuple[datetime, int, str]] = []  # (not_before, arrival, backlog id)
        self.due: dict[ClientId, list[tuple[int, int, str]]] = defaultdict(list)  # (priority, arrival, id)
        self.sticky: dict[MailboxAddress, list[tuple[int, int, str]]] = defaultdict(list)
        self.idle: list[tuple[datetime, str]] = []  # (when to look again, mailbox)
        self.lapse: list[tuple[datetime, str]] = []  # (expires_at, backlog id)
        for key, row in rows.all():
            self.put(key, row)

    def get(self, key: RowKey) -> msgspec.Struct | None:
        """Return a row."""
        return self._rows.get(key)

    def put(self, key: RowKey, row: msgspec.Struct) -> None:
        """Take a row and index it."""
        self._rows[key] = row
        if isinstance(row, BacklogRow) and row.state == "admitted" and row.request is not None:
            self._arrivals += 1
            heapq.heappush(self.later, (row.not_before, self._arrivals, key[1]))
            heapq.heappush(self.lapse, (row.request.expires_at, key[1]))
        elif isinstance(row, MailboxRow) and row.declared.active and not row.open:
            heapq.heappush(self.idle, (row.free_at, key[1]))

    def client(self, client: ClientId) -> ClientRow | None:
        """The client's row."""
        row = self._rows.get(("client", client))
        return row if isinstance(row, ClientRow) else None

    def route(self, client: ClientId, route: RouteId) -> RouteRow | None:
        """The route's row."""
        row = self._rows.get(("route", f"{client}/{route}"))
        return row if isinstance(row, RouteRow) else None

    def mailbox(self, mailbox: str) -> MailboxRow | None:
        """The mailbox's row."""
        row = self._rows.get(("mailbox", mailbox))
        return row if isinstance(row, MailboxRow) else None

    def backlog(self, id_: str) -> BacklogRow | None:
        """The send's row, named "client/send_id"."""
        row = self._rows.get(("backlog", id_))
        return row if isinstance(row, BacklogRow) else None

    def cancelled_early(self, id_: str) -> CancelRow | None:
        """The cancel that came before its send."""
        row = self._rows.get(("cancel", id_))
        return row if isinstance(row, CancelRow) else None

    def backlog_of(self, client: ClientId) -> list[tuple[str, BacklogRow]]:
        """All sends of a client that have not ended."""
        return [
            (key[1], row)
            for key, row in self._rows.items()
            if isinstance(row, BacklogRow) and row.request is not None and row.request.ref.client == client
        ]

    def waits(self, id_: str) -> BacklogRow | None:
        """The send's row if it still waits for a mailbox."""
        row = self.backlog(id_)
        return row if row is not None and row.state == "admitted" and row.request is not None else None

    def quota_left(self, row: MailboxRow, day: str) -> int:
        """How many more mails the mailbox may hold on that local day."""
        return quota_left(row.declared.daily_quota, row.used, day)
