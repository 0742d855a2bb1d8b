"""The fleet stage's mind in one piece, as streams.log.stage wants it: decide, evolve, forward."""

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from schemas.fleet import AccountTripped, RouteTripped
from schemas.health import AlertRaised, AlertResolved
from schemas.registry import Fact
from schemas.sending import (
    CancelOrdered,
    SendAssigned,
    SendGivenUp,
    SendLapsed,
    SendRequeued,
    SendResult,
    SendTurnedAway,
    SendWaits,
)
from schemas.topics import ALERTS, DELIVERY_INPUTS, FLEET_INPUTS, SEND_RESULTS
from streams.fleet import evolve as folds
from streams.fleet.alerting import alerts
from streams.fleet.decide import DECISIONS
from streams.fleet.state import ROW_TYPES, FleetState
from streams.log.mind import Outgoing
from streams.log.rows import RowKey, Rows

TO_DELIVERY = (SendAssigned, SendTurnedAway, SendGivenUp, SendLapsed, CancelOrdered)


class FleetMind:
    """Implements streams.log.mind.Mind."""

    row_types: Mapping[str, type[msgspec.Struct]] = ROW_TYPES

    def open(self, rows: Rows) -> FleetState:
        """Take all rows of the partition into memory and index them."""
        return FleetState(rows)

    def decide(self, state: FleetState, seen: Fact, at: datetime) -> list[Fact]:
        """Return what follows, and whom it wakes; a fact that this stage does not know decides nothing."""
        decision = DECISIONS.get(type(seen))
        facts = [] if decision is None else decision(state, seen, at)
        return [*facts, *alerts(state, facts)]

    def rows_of(self, fact: Fact, at: datetime) -> Iterable[RowKey]:
        """Return the rows that the fact changes."""
        return folds.rows_of(fact, at)

    def evolve(self, key: RowKey, row: msgspec.Struct | None, fact: Fact, at: datetime) -> msgspec.Struct:
        """Return the row after the fact."""
        return folds.evolve(key, row, fact, at)

    def changed(self, state: FleetState, key: RowKey, row: msgspec.Struct) -> None:
        """Index the new row."""
        state.put(key, row)

    def track(self, open_attempts: dict[str, bool], fact: Fact) -> None:
        """The fleet stage holds no hands."""

    def forwards(self, fact: Fact, at: datetime) -> list[Outgoing]:
        """The delivery stage hears of what concerns one recipient, upstream why a send waits, others of a trip, people
        of what should wake them."""
        if isinstance(fact, AlertRaised | AlertResolved):
            return [Outgoing(ALERTS, fact.client.encode(), fact)]
        if isinstance(fact, TO_DELIVERY):
            return [Outgoing(DELIVERY_INPUTS, fact.ref.recipient[:16].encode(), fact)]
        match fact:
            case SendWaits(ref, limit, earliest):
                return [
                    _told(SendResult(ref.client, ref.send_id, "admitted", at, "waits", earliest=earliest, limit=limit))
                ]
            case SendRequeued(ref, attempt, not_before, rule):
                return [
                    _told(
                        SendResult(
                            ref.client,
                            ref.send_id,
                            "admitted",
                            at,
                            "waits",
                            rule,
                            attempt,
                            earliest=not_before,
                            limit="retry",
                        )
                    )
                ]
            case RouteTripped(_, _, until, rule, evidence, account, tell):
                return [
                    Outgoing(FLEET_INPUTS, client.encode(), AccountTripped(client, account, until, rule, evidence))
                    for client in tell
                ]
            case _:
                return []


def _told(result: SendResult) -> Outgoing:
    return Outgoing(SEND_RESULTS, f"{result.client}/{result.send_id}".encode(), result)
