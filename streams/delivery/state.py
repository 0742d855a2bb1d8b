"""The delivery stage's rows: one per send, one per recipient, what is due per hour."""

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from schemas.fleet import StopScope
from schemas.ids import ClientId, MailboxAddress, Recipient
from schemas.sending import SendAssigned, SendRef, SendRequested, SendState
from streams.log.rows import RowKey, Rows

LOOKED_UP_AFTER = (timedelta(hours=1), timedelta(hours=6), timedelta(hours=22))
"""When a provider's own records are searched for an unknown attempt; they need a while to be complete."""
ASSUMED_SENT_AFTER = timedelta(hours=24)
DELIVERED_AFTER = timedelta(hours=48)
REMEMBERED = timedelta(days=400)
DUE_SHARDS = 8
MOST_WAITING = 200
"""Sends that may wait for one recipient: more would be a flood, and a row that grows without end."""


class SendRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A send that was admitted. `attempt` counts assignments, from 1; `hand` is the one that claimed the last."""

    request: SendRequested
    state: SendState
    attempt: int = 0
    assignment: SendAssigned | None = None
    hand: str = ""
    first_mailbox: MailboxAddress = MailboxAddress("")
    provider_id: str = ""


class Suppression(msgspec.Struct, frozen=True):
    """Why a recipient gets no mail; `client` "" means from nobody."""

    client: ClientId
    reason: str
    rule: str


class RecipientRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A recipient's suppressions and the sends that wait for them ("client/send_id")."""

    suppressions: tuple[Suppression, ...] = ()
    waiting: tuple[str, ...] = ()


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


ROW_TYPES: dict[str, type[msgspec.Struct]] = {
    "send": SendRow,
    "recipient": RecipientRow,
    "due": DueRow,
    "cursor": CursorRow,
    "stop": StopRow,
    "token": TokenRow,
}
CURSOR: RowKey = ("cursor", "")


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
    return "due", f"{hour_text(at)}/{int(recipient[:8], 16) % DUE_SHARDS}"


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

    def stopped_by(self, scope: StopScope, name: str) -> str:
        """Who stopped this, "" when nobody did."""
        row = self._rows.get(("stop", f"{scope}/{name}"))
        return row.by if isinstance(row, StopRow) and row.stopped else ""

    def cursor(self) -> CursorRow | None:
        """The last hour and shard done."""
        row = self._rows.get(CURSOR)
        return row if isinstance(row, CursorRow) else None
