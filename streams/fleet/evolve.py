"""How the fleet stage's rows follow from decided facts. Each function reads one row and one fact."""

from collections.abc import Iterable
from datetime import datetime

import msgspec

from schemas.fleet import ClientDeclared, DomainDeclared, MailboxDeclared, RouteDeclared
from schemas.ids import MailboxAddress
from schemas.registry import Fact
from schemas.sending import (
    CancelNoted,
    Release,
    SendAssigned,
    SendEnded,
    SendLapsed,
    SendQueued,
    SendRequeued,
)
from streams.fleet.decide import declared_key
from streams.fleet.quota import give_back, hold
from streams.fleet.state import (
    BacklogRow,
    CancelRow,
    ClientRow,
    DomainRow,
    MailboxRow,
    RouteRow,
    backlog_key,
)
from streams.log.rows import RowKey


def rows_of(fact: Fact, _at: datetime) -> Iterable[RowKey]:
    """Return the rows that a decided fact changes."""
    match fact:
        case ClientDeclared() | DomainDeclared() | RouteDeclared() | MailboxDeclared():
            yield declared_key(fact)
        case SendQueued(request):
            yield backlog_key(request.ref.client, request.ref.send_id)
        case SendAssigned():
            yield backlog_key(fact.ref.client, fact.ref.send_id)
            yield "mailbox", fact.sender.mailbox
        case SendRequeued() | SendEnded():
            yield backlog_key(fact.ref.client, fact.ref.send_id)
            if fact.release is not None:
                yield "mailbox", fact.release.mailbox
        case SendLapsed():
            yield backlog_key(fact.ref.client, fact.ref.send_id)
        case CancelNoted():
            yield "cancel", f"{fact.client}/{fact.send_id}"
        case _:
            return


def evolve(key: RowKey, row: msgspec.Struct | None, fact: Fact, _at: datetime) -> msgspec.Struct:
    """Return the row after the fact."""
    match fact:
        case ClientDeclared():
            return ClientRow(fact)
        case DomainDeclared():
            return DomainRow(fact)
        case RouteDeclared():
            return RouteRow(fact, row.out_until if isinstance(row, RouteRow) else None)
        case MailboxDeclared():
            return msgspec.structs.replace(row, declared=fact) if isinstance(row, MailboxRow) else MailboxRow(fact)
        case CancelNoted():
            return CancelRow(fact.by)
    if key[0] == "mailbox" and isinstance(row, MailboxRow):
        return _mailbox(row, fact)
    return _backlog(row if isinstance(row, BacklogRow) else None, fact)


def _mailbox(row: MailboxRow, fact: Fact) -> MailboxRow:
    if isinstance(fact, SendAssigned):
        name = f"{fact.ref.client}/{fact.ref.send_id}/{fact.attempt}"
        return msgspec.structs.replace(row, open=name, used=hold(row.used, fact.quota_day))
    assert isinstance(fact, SendRequeued | SendEnded)
    release = fact.release
    assert isinstance(release, Release)
    mine = row.open == f"{fact.ref.client}/{fact.ref.send_id}/{fact.attempt}"
    return msgspec.structs.replace(
        row,
        open="" if mine else row.open,
        free_at=max(row.free_at, release.free_at) if mine else row.free_at,
        used=give_back(row.used, release.quota_day) if release.gave_back else row.used,
    )


def _backlog(row: BacklogRow | None, fact: Fact) -> BacklogRow:
    if isinstance(fact, SendQueued):
        request = fact.request
        soonest = request.not_before or request.requested_at
        return BacklogRow(request.ref.recipient, "admitted", request=request, not_before=soonest)
    if row is None:
        raise ValueError(f"{type(fact).__name__} of a send that was never queued")
    match fact:
        case SendAssigned():
            return msgspec.structs.replace(
                row,
                state="assigned",
                attempt=fact.attempt,
                mailbox=fact.sender.mailbox,
                quota_day=fact.quota_day,
            )
        case SendRequeued():
            return msgspec.structs.replace(
                row,
                state="admitted",
                tries=row.tries + (1 if fact.counts else 0),
                not_before=fact.not_before,
                stay_with=fact.stay_with,
                mailbox=MailboxAddress(""),
            )
        case SendEnded(state="unknown"):
            return msgspec.structs.replace(row, state="unknown")
        case SendEnded():
            return BacklogRow(row.recipient, fact.state, row.attempt, row.tries)
        case SendLapsed():
            return BacklogRow(row.recipient, "expired", row.attempt, row.tries)
        case _:
            raise ValueError(f"{type(fact).__name__} changes no send")
