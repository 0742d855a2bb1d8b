"""The delivery stage's rows: one per send, one per recipient, what is due per hour."""

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from schemas.fleet import StopScope
from schemas.ids import ClientId, DomainName, MailboxAddress, Recipient
from schemas.sending import SendAssigned, SendRef, SendRequested, SendState, SuppressionReason
from streams.log.rows import RowKey, Rows

LOOKED_UP_AFTER = (timedelta(hours=1), timedelta(hours=6), timedelta(hours=22))
"""When a provider's own records are searched for an unknown attempt; they need a while to be complete."""
ASSUMED_SENT_AFTER = timedelta(hours=24)
DELIVERED_AFTER = timedelta(hours=48)
REMEMBERED = timedelta(days=400)
DUE_SHARDS = 8
WAITING: tuple[SendState, ...] = ("admitted", "assigned")
AFTER_250: tuple[SendState, ...] = (
    "accepted",
    "assumed_sent",
    "delivered",
    "bounced",
    "replied",
    "unsubscribed",
    "complained",
)
"""What a send that left can come to, in the order in which one outweighs the one before."""
MOST_WAITING = 200
"""Sends that may wait for one recipient: more would be a flood, and a row that grows without end."""


RECENT = 50
"""Sends that are remembered for a recipient, so that a report without a token can find its own."""
MOST_ANSWERS = 20
MOST_LETTERS = 100
"""Messages that are remembered for a recipient, so that none counts again when a mailbox is read anew."""
QUEUED_FOR = timedelta(days=14)
"""No send waits longer: it expires 13 days after it was asked for."""
MOST_QUEUED = 300
"""Admissions of one hour and shard that are remembered for the suppression of a domain; claims see the rest."""
MOST_RETURNS = 2


class SendRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A send that was admitted. `attempt` counts assignments, from 1; `hand` is the one that claimed the last.

    `returned` are the times of the reports by which it waited anew; `heard` what else came back: bounced,
    delivered, complained, unsubscribed, auto_reply, challenge, and the place of each reply.
    """

    request: SendRequested
    state: SendState
    attempt: int = 0
    assignment: SendAssigned | None = None
    hand: str = ""
    first_mailbox: MailboxAddress = MailboxAddress("")
    provider_id: str = ""
    returned: tuple[datetime, ...] = ()
    heard: tuple[str, ...] = ()


class Suppression(msgspec.Struct, frozen=True):
    """Why a recipient gets no mail; `client` "" means from nobody."""

    client: ClientId
    reason: SuppressionReason
    rule: str


class RecipientRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A recipient's suppressions, the sends that wait for them ("client/send_id"), and the last ones admitted.

    `recent` stands in the row of the loose address too: there it has those of every spelling. `letters`, the names of
    the messages about it that were decided, stands there alone.
    """

    suppressions: tuple[Suppression, ...] = ()
    waiting: tuple[str, ...] = ()
    recent: tuple[str, ...] = ()
    letters: tuple[str, ...] = ()


class Due(msgspec.Struct, frozen=True):
    """A question that time answers: is there evidence of an unknown attempt, was there no bounce?"""

    ref: SendRef
    attempt: int
    what: Literal["look_up", "assume_sent", "assume_delivered"]


class DueRow(msgspec.Struct, frozen=True):
    """What is due in one hour, one shard."""

    due: tuple[Due, ...] = ()


class CursorRow(msgspec.Struct, frozen=True):
    """Up to which hour and shard everything due has been decided."""

    hour: str
    shard: int


class TokenRow(msgspec.Struct, frozen=True):
    """Which send a token belongs to: "client/send_id"."""

    send: str


class StopRow(msgspec.Struct, frozen=True):
    """An operator's stop, or that it was taken back."""

    stopped: bool
    by: str


class DomainRow(msgspec.Struct, frozen=True):
    """The suppression of a recipients' domain, or that it was taken back."""

    suppressed: bool
    reason: str
    by: str


class Sweep(msgspec.Struct, frozen=True):
    """A suppressed domain whose waiting sends are being cancelled: those admitted from hour `since` to `until`."""

    domain: DomainName
    client: ClientId
    since: str
    until: str


class SweepRow(msgspec.Struct, frozen=True):
    """All sweeps that are not done."""

    sweeps: tuple[Sweep, ...] = ()


class QueueRow(msgspec.Struct, frozen=True):
    """The sends that were admitted in one hour, one shard."""

    sends: tuple[str, ...] = ()


class CutRow(msgspec.Struct, frozen=True):
    """After a restore that may lack the last decisions: what was asked for before that time may have left already."""

    perhaps_sent_before: datetime


ROW_TYPES: dict[str, type[msgspec.Struct]] = {
    "send": SendRow,
    "recipient": RecipientRow,
    "due": DueRow,
    "cursor": CursorRow,
    "stop": StopRow,
    "token": TokenRow,
    "domain": DomainRow,
    "sweep": SweepRow,
    "queue": QueueRow,
    "cut": CutRow,
}
CURSOR: RowKey = ("cursor", "")
SWEEP: RowKey = ("sweep", "")
CUT: RowKey = ("cut", "")


def send_key(ref: SendRef) -> RowKey:
    """The row of a send."""
    return "send", f"{ref.client}/{ref.send_id}"


def recipient_key(recipient: Recipient) -> RowKey:
    """The row of a recipient."""
    return "recipient", recipient


def hour_text(at: datetime) -> str:
    """The hour of `at` (UTC) as "YYYY-MM-DDTHH"."""
    return at.strftime("%Y-%m-%dT%H")


def due_key(at: datetime, recipient: Recipient) -> RowKey:
    """The row that holds what is due at `at` for this recipient."""
    return "due", f"{hour_text(at)}/{shard_of(recipient)}"


def queue_key(at: datetime, recipient: Recipient) -> RowKey:
    """The row of what was admitted in the hour of `at`."""
    return "queue", f"{hour_text(at)}/{shard_of(recipient)}"


def shard_of(recipient: Recipient) -> int:
    """The shard of a recipient within an hour."""
    return int(recipient[:8], 16) % DUE_SHARDS


def attempt_key(ref: SendRef, attempt: int) -> str:
    """How an open attempt is named in the position row."""
    return f"{ref.client}/{ref.send_id}/{attempt}"


class DeliveryState:
    """What a decision may read: this partition's rows."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def send(self, ref: SendRef) -> SendRow | None:
        """The send's row; a row of the same send_id but another recipient is not in this partition."""
        return self.send_named(f"{ref.client}/{ref.send_id}")

    def send_named(self, name: str) -> SendRow | None:
        """The send named "client/send_id"."""
        row = self._rows.get(("send", name))
        return row if isinstance(row, SendRow) else None

    def send_of_token(self, token: str) -> SendRow | None:
        """The send that the token was made for; None for a forged one and for one of another partition."""
        row = self._rows.get(("token", token)) if token else None
        return self.send_named(row.send) if isinstance(row, TokenRow) else None

    def recipient(self, recipient: Recipient) -> RecipientRow:
        """The recipient's row, empty when there is none."""
        row = self._rows.get(recipient_key(recipient))
        return row if isinstance(row, RecipientRow) else RecipientRow()

    def due(self, hour: str, shard: int) -> tuple[Due, ...]:
        """What is due in that hour and shard."""
        row = self._rows.get(("due", f"{hour}/{shard}"))
        return row.due if isinstance(row, DueRow) else ()

    def queued(self, hour: str) -> list[SendRow]:
        """The sends that were admitted in that hour, as they are now."""
        names: list[str] = []
        for shard in range(DUE_SHARDS):
            row = self._rows.get(("queue", f"{hour}/{shard}"))
            names += row.sends if isinstance(row, QueueRow) else ()
        found = (self.send_named(name) for name in dict.fromkeys(names))
        return [row for row in found if row is not None]

    def domain(self, client: str, domain: str) -> DomainRow | None:
        """The suppression of exactly this domain for exactly this client ("" is all clients)."""
        row = self._rows.get(("domain", f"{client}/{domain}"))
        return row if isinstance(row, DomainRow) and row.suppressed else None

    def sweeps(self) -> tuple[Sweep, ...]:
        """The suppressed domains whose waiting sends are not all cancelled yet."""
        row = self._rows.get(SWEEP)
        return row.sweeps if isinstance(row, SweepRow) else ()

    def stopped_by(self, scope: StopScope, name: str) -> str:
        """Who stopped this, "" when nobody did."""
        row = self._rows.get(("stop", f"{scope}/{name}"))
        return row.by if isinstance(row, StopRow) and row.stopped else ""

    def perhaps_sent(self, request: SendRequested) -> bool:
        """Whether an open send may have left in the time that a restore could not bring back."""
        row = self._rows.get(CUT)
        return isinstance(row, CutRow) and request.requested_at < row.perhaps_sent_before

    def cursor(self) -> CursorRow | None:
        """The last hour and shard done."""
        row = self._rows.get(CURSOR)
        return row if isinstance(row, CursorRow) else None
