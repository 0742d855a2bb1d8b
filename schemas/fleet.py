"""Facts of the fleet: what the fleet file declares, what operators order, who is left out. Keyed by client."""

from datetime import date, datetime
from typing import Literal

import msgspec

from schemas.health import Evidence
from schemas.ids import CampaignId, ClientId, DomainName, MailboxAddress, RouteId
from schemas.sending import BasisType

StopScope = Literal["all", "client", "campaign", "domain"]
WITH_CONSENT: tuple[BasisType, ...] = ("express_consent", "existing_customer", "transactional")
EVERY_BASIS: tuple[BasisType, ...] = ("express_consent", "existing_customer", "transactional", "legitimate_interest")


class Pace(msgspec.Struct, frozen=True):
    """How a client's mailboxes may send. Hours are local to the mailbox; 0-24 is all day.

    `time_zone` is an IANA name or a fixed offset such as "UTC+05:30".
    """

    time_zone: str = "UTC"
    hour_from: int = 9
    hour_to: int = 17
    gap_seconds: int = 120  # between two mails of one mailbox
    gap_jitter_seconds: int = 60  # added on top, 0..this, derived from the send_id
    slot_seconds: int = 180  # how long an assignment holds
    first_retry_seconds: int = 900  # doubled at each further one
    max_attempts: int = 5
    company_gap_seconds: int = 900  # between two mails of one client to one company's domain; freemail is no company


class BounceMailbox(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a client's bounces come back to when a route has a return path of its own (VERP). Read over IMAPS."""

    address: MailboxAddress
    host: str
    secret_ref: str
    port: int = 993
    username: str = ""  # "" is the address
    ca_file_ref: str = ""
    after_reading: str = ""  # what becomes of a machine's report that was read: "" nothing, "seen", "move:FOLDER"
    folder: str = ""  # "" is INBOX


class ClientDeclared(msgspec.Struct, frozen=True, omit_defaults=True):
    """A client with its campaigns, identity and pace."""

    client: ClientId
    campaigns: tuple[CampaignId, ...]
    postal_address: str
    pace: Pace
    unsubscribe_url: str = ""
    without_consent_in: tuple[str, ...] = ("US", "GB")  # countries (ISO 3166) where legitimate interest is enough
    active: bool = True
    unsubscribe_from_all: bool = False  # whether who unsubscribes here hears from no client of the agency any more
    bounce_mailbox: BounceMailbox | None = None
    unsubscribe_mailto: str = ""  # who writes to it, with the token after a plus sign, is unsubscribed
    dmarc_mailbox: BounceMailbox | None = None  # where the domains' DMARC records send their reports (rua)
    forward_replies_to: str = ""  # the person whom letters of recipients are passed on to; "" = nobody


class DomainDeclared(msgspec.Struct, frozen=True, omit_defaults=True):
    """A sending domain of a client; `daily_quota` bounds all its mailboxes together, 0 does not."""

    client: ClientId
    domain: DomainName
    daily_quota: int = 0
    active: bool = True


class RouteDeclared(msgspec.Struct, frozen=True, omit_defaults=True):
    """A client's way out. Ceilings are this client's share of the account's; 0 is no ceiling.

    `account` names the provider account when several clients share it, `shared_with` the others: a trip
    of one stops all.
    """

    client: ClientId
    route: RouteId
    provider: str
    host: str
    port: int
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    ca_file_ref: str = ""
    max_connections: int = 5
    ceiling_24h: int = 0  # in any 24 hours
    ceiling_per_second: float = 0.0
    accepts_basis: tuple[BasisType, ...] = EVERY_BASIS
    account: str = ""
    shared_with: tuple[ClientId, ...] = ()
    monthly_usd: float = 0.0  # this client's share
    per_thousand_usd: float = 0.0
    options: dict[str, str] = {}  # as RouteCall has them
    pause_seconds: int = 300  # of its breaker after the first trip; doubled with each further one, to an hour
    active: bool = True


class MailboxDeclared(msgspec.Struct, frozen=True, omit_defaults=True):
    """A mailbox that sends. Its domain is the part after the @; `routes` in the order of preference.

    `secret_ref` names where hands find the password; the password is never a fact.
    """

    client: ClientId
    mailbox: MailboxAddress
    routes: tuple[RouteId, ...]
    daily_quota: int
    name: str = ""
    username: str = ""
    secret_ref: str = ""
    active: bool = True


class CostDeclared(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a client pays a month for one thing beside its routes, by a price that `source` asked on `priced_on`."""

    client: ClientId
    item: str
    monthly_usd: float
    source: str
    priced_on: date
    active: bool = True


class StopOrdered(msgspec.Struct, frozen=True, omit_defaults=True):
    """An operator stops all, a client, a campaign ("client/campaign") or a sending domain: no further claim."""

    scope: StopScope
    name: str  # "" for all
    by: str
    client: ClientId = ClientId("")


class StartOrdered(msgspec.Struct, frozen=True, omit_defaults=True):
    """An operator takes a stop of the same scope and name back."""

    scope: StopScope
    name: str
    by: str
    client: ClientId = ClientId("")


class MailboxWarmed(msgspec.Struct, frozen=True):
    """A mailbox was warmed before it came here: it needs no warm-up."""

    client: ClientId
    mailbox: MailboxAddress
    since: datetime
    evidence: str


class MailboxLeftOut(msgspec.Struct, frozen=True):
    """A mailbox gets no sends until `until`, by `rule`, on this evidence."""

    client: ClientId
    mailbox: MailboxAddress
    until: datetime
    rule: str
    evidence: str


class DomainLeftOut(msgspec.Struct, frozen=True):
    """No mailbox of the domain gets sends until `until`."""

    client: ClientId
    domain: DomainName
    until: datetime
    rule: str
    evidence: str


class RouteFailed(msgspec.Struct, frozen=True):
    """A proven failure that is the route's own; several in a row trip it."""

    client: ClientId
    route: RouteId
    rule: str


class RouteTripped(msgspec.Struct, frozen=True, omit_defaults=True):
    """The route's breaker is open until `until`; then one probe decides (half-open)."""

    client: ClientId
    route: RouteId
    until: datetime
    rule: str
    evidence: str
    account: str = ""
    tell: tuple[ClientId, ...] = ()  # the clients that share the account
    why: Evidence | None = None  # None in journals of before it was told


class AccountTripped(msgspec.Struct, frozen=True):
    """Another client's route tripped on an account that this client shares."""

    client: ClientId
    account: str
    until: datetime
    rule: str
    evidence: str


class ReceiverThrottled(msgspec.Struct, frozen=True, omit_defaults=True):
    """One receiver gets too much from us over the route: its mail waits until `until`, all other mail goes on.

    `receiver` is a receiving provider or, where none is known, the recipients' domain; `times` counts in a row.
    """

    client: ClientId
    route: RouteId
    receiver: str
    until: datetime
    times: int
    rule: str
    evidence: str
    why: Evidence | None = None  # None in journals of before it was told


class ReceiverEased(msgspec.Struct, frozen=True, omit_defaults=True):
    """A receiver that throttled took a mail again: `passed` since its rest; `over` when nothing bounds it any more."""

    client: ClientId
    route: RouteId
    receiver: str
    passed: int
    evidence: str
    over: bool = False


class RouteRecovered(msgspec.Struct, frozen=True, omit_defaults=True):
    """A mail went through again: the route's breaker is closed. `evidence`: which attempt, and what was said."""

    client: ClientId
    route: RouteId
    evidence: str = ""


class RouteProven(msgspec.Struct, frozen=True):
    """A receiver took a mail over the route after others throttled: they mean themselves, and not us.

    `evidence`: which attempt, and what was said.
    """

    client: ClientId
    route: RouteId
    evidence: str
