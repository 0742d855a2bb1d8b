"""Who gets no mail: recipients and whole domains, for one client or for all; what waits for them is cancelled.

Complaints and unsubscribes never end, whatever an operator orders or a later success says.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from schemas.ids import ClientId, Recipient
from schemas.registry import Fact
from schemas.reports import (
    DomainSuppressOrdered,
    DomainSwept,
    RecipientUnsuppressed,
    SuppressOrdered,
    UnsuppressOrdered,
    UnsuppressRefused,
)
from schemas.sending import (
    RecipientSuppressed,
    SendCancelled,
    SendRequested,
    SuppressionImported,
    SuppressionReason,
)
from streams.delivery.state import WAITING, DeliveryState, SendRow, Suppression, hour_text

FOR_EVER: tuple[SuppressionReason, ...] = ("complaint", "unsubscribe")
HOURS_PER_STEP = 24
MOST_PER_STEP = 1000
"""Cancels after which one step of a sweep ends: an entry is one Kafka record."""


def suppressed(state: DeliveryState, request: SendRequested) -> str:
    """Return why this client may not write to the recipient, under whatever spelling, "" when it may."""
    client = request.ref.client
    exact = state.recipient(request.ref.recipient).suppressions
    wide = [s for s in state.recipient(request.recipient_loose).suppressions if s.reason != "hard_bounce"]
    held = next((s.reason for s in (*exact, *wide) if s.client in ("", client)), "")
    return held or _domain_suppressed(state, request)


def _domain_suppressed(state: DeliveryState, request: SendRequested) -> str:
    labels = request.recipient_domain.split(".")
    for first in range(len(labels) - 1):
        name = ".".join(labels[first:])
        if state.domain("", name) is not None or state.domain(request.ref.client, name) is not None:
            return f"domain {name}"
    return ""


def suppress(
    state: DeliveryState,
    who: tuple[Recipient, Recipient],
    client: ClientId,
    reason: SuppressionReason,
    rule: str,
    *,
    by: str = "",
    but: str = "",
) -> list[Fact]:
    """Suppress (recipient, its loose form) once, and cancel what waits, save the send `but` ("client/send_id").

    A hard bounce says nothing of other spellings: plus-tags and dots may lead to another mailbox.
    """
    names = dict.fromkeys(who[:1] if reason == "hard_bounce" else filter(None, who))
    found: list[Fact] = [
        RecipientSuppressed(recipient, reason, rule, client, by)
        for recipient in names
        if not any(s.client == client and s.reason == reason for s in state.recipient(recipient).suppressions)
    ]
    waits = waiting(state, names)
    return found + [
        SendCancelled(row.request.ref, "suppression")
        for row in waits
        if client in ("", row.request.ref.client) and f"{row.request.ref.client}/{row.request.ref.send_id}" != but
    ]


def waiting(state: DeliveryState, recipients: Iterable[Recipient]) -> list[SendRow]:
    """Return the sends that have not started, to these recipients and to the spellings of a loose one."""
    names = [n for r in recipients for n in (*state.recipient(r).waiting, *state.recipient(r).recent)]
    rows = (state.send_named(name) for name in dict.fromkeys(names))
    wanted = set(recipients)
    return [
        row
        for row in rows
        if row is not None
        and row.state in WAITING
        and (row.request.ref.recipient in wanted or row.request.recipient_loose in wanted)
    ]


# ── orders ───────────────────────────────────────────────────────────────────────────────────────


def ordered(state: DeliveryState, fact: SuppressOrdered, _at: datetime) -> list[Fact]:
    """Take an operator's or a provider's suppression, once."""
    who = (fact.recipient, fact.recipient_loose)
    return suppress(state, who, fact.client, fact.reason, fact.rule, by=fact.by)


def imported(state: DeliveryState, fact: SuppressionImported, _at: datetime) -> list[Fact]:
    """Take an imported suppression, once."""
    return suppress(state, (fact.recipient, Recipient("")), fact.client, "manual", f"imported: {fact.reason}")


def taken_back(state: DeliveryState, fact: UnsuppressOrdered, _at: datetime) -> list[Fact]:
    """Allow mail again, unless the recipient complained or unsubscribed; of the same scope, for all or one client."""
    names = [r for r in dict.fromkeys((fact.recipient, fact.recipient_loose)) if r]
    held: dict[Recipient, list[Suppression]] = {
        r: [s for s in state.recipient(r).suppressions if s.client == fact.client] for r in names
    }
    final = next((s.reason for r in names for s in held[r] if s.reason in FOR_EVER), None)
    if final is not None:
        why = f"a suppression by {final} is never taken back"
        return [UnsuppressRefused(fact.recipient, fact.client, why, fact.by)]
    found: list[Fact] = [RecipientUnsuppressed(r, fact.client, fact.reason, fact.by) for r in names if held[r]]
    scope = f"for {fact.client}" if fact.client else "for all clients"
    return found or [UnsuppressRefused(fact.recipient, fact.client, f"there is no suppression {scope}", fact.by)]


# ── whole domains ────────────────────────────────────────────────────────────────────────────────


def domain_ordered(state: DeliveryState, fact: DomainSuppressOrdered, _at: datetime) -> list[Fact]:
    """Take the order, or take it back; from the next claim on. What waits is cancelled at the next ticks."""
    return [] if (state.domain(fact.client, fact.domain) is not None) is fact.suppressed else [fact]


def swept(state: DeliveryState) -> list[Fact]:
    """Cancel what was admitted in some more hours and waits at a suppressed domain."""
    sweep = next(iter(state.sweeps()), None)
    if sweep is None:
        return []
    hour, found = sweep.since, list[Fact]()
    for _ in range(HOURS_PER_STEP):
        if hour > sweep.until or len(found) >= MOST_PER_STEP:
            break
        found += [
            SendCancelled(row.request.ref, "suppression")
            for row in state.queued(hour)
            if row.state in WAITING
            and sweep.client in ("", row.request.ref.client)
            and f".{row.request.recipient_domain}".endswith(f".{sweep.domain}")
        ]
        hour = hour_text(datetime.fromisoformat(hour + ":00:00+00:00") + timedelta(hours=1))
    return [*found, DomainSwept(sweep.domain, sweep.client, hour)]
