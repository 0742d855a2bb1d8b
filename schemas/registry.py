"""Which class stands behind (type, version), and how older versions are raised to the newest.

A published shape is never edited: a new shape is a new version with an upcaster on dicts, which runs
before any class is built. Upcasters of one type form an unbroken chain.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from schemas import dns, fleet, health, mail, policy, reports, reputation, sending, telling
from schemas.entry import Decided, Seen
from schemas.envelope import Envelope, Origin, Unreadable

Fact = msgspec.Struct
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

_CLASSES: tuple[type[Fact], ...] = (
    sending.SendRequested,
    sending.RequestRejected,
    sending.SendAssigned,
    sending.SendTurnedAway,
    sending.SendGivenUp,
    sending.SendLapsed,
    sending.CancelRequested,
    sending.CancelOrdered,
    sending.CancelNoted,
    sending.CancelSweepBegan,
    sending.CancelSweepEnded,
    sending.OutcomeReported,
    sending.SuppressionImported,
    sending.SendAdmitted,
    sending.SendRefused,
    sending.SendWithdrawn,
    sending.AttemptAssigned,
    sending.SubmissionStarted,
    sending.AttemptAccepted,
    sending.AttemptRefused,
    sending.AttemptNotSent,
    sending.AttemptUnknown,
    sending.AttemptMissed,
    sending.EvidenceWanted,
    sending.SendFailed,
    sending.SendCancelled,
    sending.CancelCameTooLate,
    sending.SendExpired,
    sending.SendAssumedSent,
    sending.SendDelivered,
    sending.SendBounced,
    sending.SendReturned,
    sending.RecipientSuppressed,
    sending.SendQueued,
    sending.SendRequeued,
    sending.SendEnded,
    sending.SendWaits,
    sending.ClaimAsked,
    sending.OutcomeSeen,
    sending.EvidenceSeen,
    sending.PartitionResumed,
    sending.Ticked,
    sending.HourDone,
    sending.InputsLost,
    sending.JournalContinued,
    sending.SendResult,
    sending.LetterDied,
    reports.MtaLineSeen,
    reports.ReportSeen,
    reports.ReportTaken,
    reports.ReportForged,
    reports.ReportUncorrelated,
    reports.SendComplained,
    reports.SendUnsubscribed,
    reports.SendReplied,
    reports.SendAnsweredByMachine,
    reports.SuppressOrdered,
    reports.UnsuppressOrdered,
    reports.RecipientUnsuppressed,
    reports.UnsuppressRefused,
    reports.DomainSuppressOrdered,
    reports.DomainSwept,
    reports.ProviderLogRead,
    fleet.ClientDeclared,
    fleet.DomainDeclared,
    fleet.RouteDeclared,
    fleet.MailboxDeclared,
    fleet.CostDeclared,
    fleet.StopOrdered,
    fleet.StartOrdered,
    fleet.MailboxWarmed,
    fleet.MailboxLeftOut,
    fleet.DomainLeftOut,
    fleet.RouteFailed,
    fleet.RouteTripped,
    fleet.AccountTripped,
    fleet.RouteRecovered,
    fleet.RouteProven,
    fleet.ReceiverThrottled,
    fleet.ReceiverEased,
    dns.DomainObserved,
    reputation.SpamRatesTold,
    reputation.DmarcReported,
    reputation.ReputationChanged,
    mail.MailboxRead,
    mail.MailboxUnreadable,
    mail.RepliesForwarded,
    policy.PolicyApplied,
    health.SignCounted,
    health.HealthChanged,
    health.WarmUpStepped,
    health.GateClosed,
    health.GateOpened,
    health.ListChanged,
    health.ListSignCounted,
    health.ListReleaseOrdered,
    health.RestBegan,
    health.ReserveChanged,
    health.CapacityPlanned,
    health.PauseOrdered,
    health.ResumeOrdered,
    health.AlertRaised,
    health.AlertResolved,
    telling.AlertPosting,
    telling.AlertPosted,
    telling.AlertAcknowledged,
)


def _wire_name(cls: type[Fact]) -> str:
    """MailboxPaused → mailbox.paused; AttemptNotSent → attempt.not_sent."""
    first, *rest = re.findall(r"[A-Z][a-z]*", cls.__name__)
    return ".".join(filter(None, (first.lower(), "_".join(word.lower() for word in rest))))


CLASS_OF: Mapping[str, type[Fact]] = {_wire_name(cls): cls for cls in _CLASSES}
TYPE_OF: Mapping[type[Fact], str] = {cls: name for name, cls in CLASS_OF.items()}
VERSION_OF: Mapping[str, int] = {**dict.fromkeys(CLASS_OF, 1), "client.declared": 2, "mailbox.declared": 2}


def _client_2(data: dict[str, Any]) -> dict[str, Any]:
    """Version 2 spreads the recipients of one company; before, nothing did."""
    return {**data, "pace": {**data["pace"], "company_gap_seconds": 0}}


def _mailbox_2(data: dict[str, Any]) -> dict[str, Any]:
    """Version 2 has routes in the order of preference; before, there was one."""
    return {**{name: value for name, value in data.items() if name != "route"}, "routes": [data["route"]]}


UPCASTERS: Mapping[tuple[str, int], Upcaster] = {
    ("client.declared", 1): _client_2,
    ("mailbox.declared", 1): _mailbox_2,
}
"""(type, version) → the function that makes version + 1 of it."""


def data_of(fact: Fact) -> dict[str, Any]:
    """Return the fact's data as plain JSON values; times stay datetimes for the encoder."""
    data: dict[str, Any] = msgspec.to_builtins(fact, builtin_types=(datetime,))
    return data


def enveloped(fact: Fact, *, id: str, at: datetime, key: str, by: str, origin: Origin | None = None) -> Envelope:
    """Return the fact in its envelope, under its newest version."""
    name = TYPE_OF[type(fact)]
    return Envelope(id, name, VERSION_OF[name], at, key, by, data_of(fact), origin=origin)


def fact_of(type_: str, version: int, data: dict[str, Any]) -> Fact:
    """Return the fact under (type, version), raised to the newest version. Raises Unreadable."""
    cls = CLASS_OF.get(type_)
    if cls is None:
        raise Unreadable(f"unknown type {type_!r}")
    if not 1 <= version <= VERSION_OF[type_]:
        raise Unreadable(f"{type_} version {version} is not known here (newest: {VERSION_OF[type_]})")
    try:
        for step in range(version, VERSION_OF[type_]):
            data = UPCASTERS[type_, step](data)
        return msgspec.convert(data, cls)
    except (KeyError, TypeError) as error:  # an upcaster met data that was never of its version
        raise Unreadable(f"{type_} v{version}: {error!r}") from error
    except msgspec.ValidationError as error:
        raise Unreadable(f"{type_} v{version}: {error}") from error


def decided(fact: Fact) -> Decided:
    """Return the fact as an entry carries it."""
    name = TYPE_OF[type(fact)]
    return Decided(name, VERSION_OF[name], data_of(fact))


def fact_in(record: Decided | Seen) -> Fact:
    """Return the fact that an entry carries. Raises Unreadable."""
    return fact_of(record.type, record.v, record.data)
