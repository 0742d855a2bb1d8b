"""Facts of the fleet: what the fleet file declares. Keyed by client."""

from typing import Literal

import msgspec

from schemas.ids import CampaignId, ClientId, DomainName, MailboxAddress, RouteId


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


class ClientDeclared(msgspec.Struct, frozen=True, omit_defaults=True):
    """A client with its campaigns, identity and pace."""

    client: ClientId
    campaigns: tuple[CampaignId, ...]
    postal_address: str
    pace: Pace
    unsubscribe_url: str = ""


class DomainDeclared(msgspec.Struct, frozen=True):
    """A sending domain of a client."""

    client: ClientId
    domain: DomainName


class RouteDeclared(msgspec.Struct, frozen=True, omit_defaults=True):
    """A way out. `secret_ref` names where hands find the password; the password is never a fact."""

    client: ClientId
    route: RouteId
    provider: str
    host: str
    port: int
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    ca_file_ref: str = ""
    max_connections: int = 5


class MailboxDeclared(msgspec.Struct, frozen=True, omit_defaults=True):
    """A mailbox that sends. Its domain is the part after the @."""

    client: ClientId
    mailbox: MailboxAddress
    route: RouteId
    daily_quota: int
    name: str = ""
    username: str = ""
    secret_ref: str = ""
    active: bool = True
