"""What the fleet's mind decides about its senders, each with the evidence that made it do so. Keyed by client."""

from datetime import datetime
from typing import Literal

import msgspec

from schemas.dns import Check
from schemas.ids import ClientId, DomainName, MailboxAddress, RouteId

Scope = Literal["mailbox", "domain", "route", "client"]
HealthState = Literal["active", "watched", "unhealthy", "probation"]
Severity = Literal["info", "warning", "critical"]
ReserveState = Literal["none", "enough", "low", "exhausted"]
Sign = Literal[
    "accepted",
    "delivered",
    "hard_bounce",  # the recipient does not exist, said at once or after the 250
    "complaint",
    "block",  # a refusal for reputation's sake
    "deferral",  # later, please; greylisting and full mailboxes are no sign
    "refusal",  # any other no
]
"""What an attempt says about those who sent it."""


class Evidence(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why: the rule, the policy version it stands in, and the numbers it was held against.

    `numerator` of `denominator` (0 = a plain count) in `window`, against `threshold`; `said` is what a server or a
    person said.
    """

    rule: str
    policy: str
    window: str = ""
    numerator: float = 0
    denominator: float = 0
    threshold: float = 0
    said: str = ""


class SignCounted(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of an attempt counts for its mailbox, domain, route and client.

    `late`: it came after the 250, of a mail of `sent_at`. `told`: the route's provider reports complaints, so that
    their rates mean something. `again`: the send was deferred before, which is counted already.
    """

    client: ClientId
    mailbox: MailboxAddress
    route: RouteId
    sign: Sign
    late: bool = False
    told: bool = False
    again: bool = False
    sent_at: datetime | None = None


class HealthChanged(msgspec.Struct, frozen=True, omit_defaults=True):
    """A sender goes from one state to another.

    Unhealthy ends at `until`, or by a person when that is None, in the state `then`. A watched sender may use `share`
    of its quota.
    """

    client: ClientId
    scope: Scope
    name: str  # the mailbox's address, the domain, the route; "" for the client
    was: HealthState
    now: HealthState
    evidence: Evidence
    until: datetime | None = None
    then: HealthState = "probation"
    share: float = 1.0


class WarmUpStepped(msgspec.Struct, frozen=True, omit_defaults=True):
    """A mailbox's or a domain's cap of the day has changed: grown, held, fallen back, or `anew`: the ramp begins."""

    client: ClientId
    scope: Scope
    name: str
    day: str  # local, YYYY-MM-DD: the first for which `now` holds
    was: int
    now: int
    evidence: Evidence
    anew: bool = False


class GateClosed(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the DNS says closes a domain, or the domain over one route."""

    client: ClientId
    domain: DomainName
    check: Check
    evidence: Evidence
    fix: str
    route: RouteId = RouteId("")


class GateOpened(msgspec.Struct, frozen=True, omit_defaults=True):
    """The record is good again."""

    client: ClientId
    domain: DomainName
    check: Check
    evidence: Evidence
    route: RouteId = RouteId("")


class ListChanged(msgspec.Struct, frozen=True, omit_defaults=True):
    """A list of recipients: its canary is out, was good, or was bad; or a person let it go on.

    `list_id` is upstream's own, or "campaign/NAME" for the sends of a campaign that name none.
    """

    client: ClientId
    list_id: str
    was: Literal["new", "canary", "cleared", "held"]
    now: Literal["canary", "cleared", "held"]
    evidence: Evidence
    until: datetime | None = None


class ListSignCounted(msgspec.Struct, frozen=True):
    """A mail of a list's canary came back for good, or was called spam."""

    client: ClientId
    list_id: str
    sign: Literal["hard_bounce", "complaint"]


class ListReleaseOrdered(msgspec.Struct, frozen=True):
    """An operator lets a list go on whatever its canary says, by name and with a reason."""

    client: ClientId
    list_id: str
    by: str
    reason: str


class RestBegan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A mailbox or a whole domain rests until `until`; it still finishes its threads."""

    client: ClientId
    scope: Scope
    name: str
    until: datetime
    evidence: Evidence


class ReserveChanged(msgspec.Struct, frozen=True, omit_defaults=True):
    """A mailbox goes into the reserve, or joins the others."""

    client: ClientId
    mailbox: MailboxAddress
    now: Literal["reserve", "in_use"]
    evidence: Evidence


class CapacityPlanned(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a client stands on a local day: mails that can be carried, mails that are wanted, who rests and waits."""

    client: ClientId
    day: str
    capacity: int
    demand: int
    in_reserve: int  # mailboxes
    resting: int  # mailboxes
    reserve: ReserveState
    evidence: Evidence


class PauseOrdered(msgspec.Struct, frozen=True):
    """An operator takes a sender out."""

    client: ClientId
    scope: Scope
    name: str
    by: str
    reason: str


class ResumeOrdered(msgspec.Struct, frozen=True):
    """An operator lets a sender back: into probation, under the same rules."""

    client: ClientId
    scope: Scope
    name: str
    by: str
    reason: str


class AlertRaised(msgspec.Struct, frozen=True, omit_defaults=True):
    """A person should know or act. The same `alert` again is the same story going on."""

    client: ClientId
    alert: str  # "mailbox_unhealthy/anna@acme-mail.com": what it is, of whom
    severity: Severity
    title: str
    detail: str
    runbook: str  # ops/runbooks/<runbook>.md


class AlertResolved(msgspec.Struct, frozen=True):
    """The story of an alert has ended."""

    client: ClientId
    alert: str
    how: str
