"""Facts of a send's life: what upstream asked, what was decided, what the servers said."""

from datetime import datetime
from typing import Literal

import msgspec

from schemas.ids import CampaignId, ClientId, DomainName, MailboxAddress, Recipient, RouteId, SendId

# ── words ────────────────────────────────────────────────────────────────────────────────────────

RefusedReason = Literal[
    "duplicate",  # another request with this send_id was admitted before
    "suppressed",
    "no_basis",
    "policy",
    "expired",
    "too_old",  # the send_id may have been forgotten: older than 400 days
    "invalid",
    "too_large",
    "unknown_client",
    "unknown_campaign",
]
SendState = Literal[
    "admitted",  # waits for a mailbox
    "assigned",
    "started",  # claimed: from here on never sent again without proof
    "unknown",
    "accepted",
    "delivered",
    "bounced",  # accepted by a server, refused by one behind it
    "replied",  # a person wrote back
    "unsubscribed",
    "complained",
    "failed",
    "cancelled",
    "expired",
    "refused",
    "assumed_sent",
]
Stage = Literal["connect", "ehlo", "tls", "auth", "mail", "rcpt", "data", "body", "claim", "dot", "request"]
"""Where a conversation stood; `dot` is the answer to the final dot, `request` to an HTTP request."""
Fault = Literal["recipient", "message", "mailbox", "domain", "route", "network"]
"""Whose fault a refusal is. Only `recipient` may suppress an address."""
Reach = Literal["recipient", "message", "mailbox", "domain", "route", "network", "receiver"]
"""How far a refusal reaches: as far as its fault, or over its route to one receiver only."""
ReplyClass = Literal[
    "hard",
    "soft",
    "greylisted",
    "mailbox_full",
    "block",
    "rate_limit",
    "auth",
    "policy_auth",
    "policy_content",
    "sender_account",
    "protocol",
    "network",
    "too_large",
    "expired",
    "unknown",
]
WaitLimit = Literal[
    "not_before",  # its own time has not come
    "retry",
    "gap",
    "hours",
    "daily_quota",
    "domain_quota",
    "route_ceiling",
    "route_out",
    "mailbox_out",
    "domain_out",
    "client_out",  # the client's totals are bad, or an operator paused it
    "company_spread",
    "thread_mailbox",  # it waits for the mailbox that began its thread, or that it names
    "basis",  # no route that is in use takes this consent basis
    "stopped",
    "warm_up",  # the mailbox's or domain's warm-up cap of the day
    "resting",
    "reserve",  # the mailboxes that are left are kept in reserve
    "list_canary",  # the first sends of a new list are out: what bounces of them is awaited
    "receiver_ceiling",  # the domain's mail to one receiving provider in any 24 hours
    "receiver_throttles",  # the receiver said that it gets too much over the route
    "dns",  # what the domain name system says closes the domain, or the domain over this route
    "no_mailbox",
    "turn",  # others are before it
]
"""What holds a waiting send back; the public words of send-results."""
SuppressionReason = Literal["hard_bounce", "complaint", "unsubscribe", "manual"]
Action = Literal["suppress", "retry", "retry_same_mailbox", "fail", "pause", "ask"]
BasisType = Literal["express_consent", "existing_customer", "transactional", "legitimate_interest"]


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a server said, as it said it; addresses in `text` are replaced by `<recipient>`.

    `code` is the basic SMTP code or HTTP status, 0 when nothing was said; `enhanced` like "5.1.1" or "".
    """

    provider: str
    stage: Stage
    code: int
    enhanced: str = ""
    text: str = ""
    retry_after_seconds: int | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What a reply means, by which rule; `scope` is how far it reaches: as the fault, or one receiver only."""

    reply_class: ReplyClass
    fault: Fault
    scope: Reach
    action: Action
    rule: str


class SendRef(msgspec.Struct, frozen=True):
    """Which send: unique by (client, send_id); the recipient finds its delivery partition."""

    client: ClientId
    send_id: SendId
    recipient: Recipient


class ContentRef(msgspec.Struct, frozen=True):
    """Where a send's address and body stand: a record of send-requests, valid in one topic generation."""

    topic_id: str
    partition: int
    offset: int
    sha256: str
    size_bytes: int


class Basis(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why this person may be written to: the consent record."""

    type: BasisType
    source: str
    captured_at: datetime
    evidence: str = ""


class Carried(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who carried a mail, when, and to whom: what totals are made over."""

    mailbox: MailboxAddress
    route: RouteId
    receiver: str = ""  # the receiving provider
    list_id: str = ""
    sent_at: datetime | None = None  # the begin of its attempt's slot


class Letter(msgspec.Struct, frozen=True):
    """Where a message lies: what a person needs to open it. Never its content."""

    mailbox: MailboxAddress
    folder: str
    uid_validity: int
    uid: int
    message_id: str


# ── outcomes: what an adapter says ───────────────────────────────────────────────────────────────


class Accepted(msgspec.Struct, frozen=True, tag="accepted"):
    """The server took the message (2xx at the final dot, 200 of the API)."""

    provider_id: str
    reply: Reply


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The server said a definite no, at any stage."""

    reply: Reply


class NotSent(msgspec.Struct, frozen=True, tag="not_sent"):
    """Provably nothing left: no connection, cut before the point of no return, or the claim was refused."""

    stage: Stage
    what: str


class Unknown(msgspec.Struct, frozen=True, tag="unknown"):
    """The message may have left: a cut or silence after the claim."""

    what: str


Outcome = Accepted | Refused | NotSent | Unknown

# ── inputs of the delivery stage ─────────────────────────────────────────────────────────────────


class SendRequested(msgspec.Struct, frozen=True, omit_defaults=True):
    """Upstream asked for a send. Address and body stay in send-requests.

    `recipient_loose` is the HMAC with plus-tag and Gmail dots removed, for complaints and unsubscribes;
    `recipient_domain` is the address's domain in lower case, IDNA.
    """

    ref: SendRef
    campaign: CampaignId
    content: ContentRef
    content_sha256: str  # of what was asked, without position: equal for an honest repetition
    recipient_loose: Recipient
    recipient_domain: DomainName
    basis: Basis
    requested_at: datetime
    expires_at: datetime
    not_before: datetime | None = None
    thread_id: str = ""
    priority: int = 5
    recipient_country: str = ""
    entity_type: str = ""
    list_id: str = ""
    mailbox: MailboxAddress = MailboxAddress("")  # the one that must carry it
    receiver: str = ""  # the receiving provider: a known one's name, else its MX's domain; "" = not looked up
    token: str = ""  # of the send, 39 characters: reports that carry it find the send, and a forged one finds nothing
    test: bool = False  # an operator's: it counts in quotas, in no rate, no warm-up and no list's canary


class RequestRejected(msgspec.Struct, frozen=True):
    """Intake could read who asks (client, send_id) but the request cannot be a send."""

    client: ClientId
    send_id: SendId
    reason: RefusedReason
    detail: str


class RouteCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that a hand needs to call a route; the secret itself is named only by `secret_ref`."""

    route: RouteId
    provider: str  # an adapter's name in adapters/catalogue.py
    host: str = ""
    port: int = 0
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    username: str = ""
    secret_ref: str = ""
    ca_file_ref: str = ""  # a PEM file of certificates to trust beside the system's; "" = system only
    max_connections: int = 5
    options: dict[str, str] = {}  # what the provider's adapter documents: region, domain, base_url ...


class Sender(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who sends: the mailbox and what the law wants said about it."""

    mailbox: MailboxAddress
    name: str = ""
    postal_address: str = ""
    unsubscribe_url: str = ""  # prefix that the token is appended to; "" = none
    bounce_domain: str = ""  # domain of the VERP return path; "" = the mailbox itself is envelope sender
    unsubscribe_from_all: bool = False  # whether who unsubscribes here hears from no client of the agency any more
    unsubscribe_mailto: str = ""  # address whose local part the token is added to after a plus sign; "" = none


class SendAssigned(msgspec.Struct, frozen=True, omit_defaults=True):
    """The fleet stage gave attempt `attempt` to a mailbox and route, for one slot that ends."""

    ref: SendRef
    attempt: int
    sender: Sender
    call: RouteCall
    not_before: datetime
    not_after: datetime
    quota_day: str  # the mailbox's local day, YYYY-MM-DD, whose quota holds this attempt
    rule: str  # why this mailbox now
    thread_id: str = ""
    company: DomainName = DomainName("")  # the recipient's domain, unless it is a freemail provider's
    company_free_at: datetime | None = None
    route_free_at: datetime | None = None  # when the ceiling a second allows the route's next
    bucket: str = ""  # "organisation/receiver" whose 24 hours hold this attempt
    list_id: str = ""  # the list whose canary holds this attempt; "" when it has none, or is cleared
    policy: str = ""  # the version that led; "" in journals of before it was told


class SendTurnedAway(msgspec.Struct, frozen=True):
    """The fleet stage refuses an admitted send (unknown client or campaign, send_id of another recipient)."""

    ref: SendRef
    content: ContentRef
    reason: RefusedReason
    detail: str


class SendGivenUp(msgspec.Struct, frozen=True):
    """The fleet stage plans no further attempt: patience is over."""

    ref: SendRef
    attempt: int
    rule: str


class SendLapsed(msgspec.Struct, frozen=True):
    """The fleet stage found a waiting send past its `expires_at`."""

    ref: SendRef


class CancelRequested(msgspec.Struct, frozen=True, omit_defaults=True):
    """Upstream or an operator wants a send not to happen. Exactly one of the three names it."""

    client: ClientId
    send_id: SendId = SendId("")
    thread_id: str = ""
    campaign: CampaignId = CampaignId("")
    by: str = "upstream"


class CancelOrdered(msgspec.Struct, frozen=True, omit_defaults=True):
    """The fleet stage passes a cancel to the recipient's partition, which alone can decide it."""

    ref: SendRef
    by: str
    sweep: int = 0  # of a cancel that goes in steps: its number


class SuppressionImported(msgspec.Struct, frozen=True):
    """An operator brings a suppression from elsewhere. `client` "" means for all clients."""

    recipient: Recipient
    client: ClientId
    reason: str


class OutcomeReported(msgspec.Struct, frozen=True, omit_defaults=True):
    """A hand whose partition has moved tells the new owner what it saw of attempt `attempt`."""

    ref: SendRef
    attempt: int
    hand: str
    outcome: Outcome


# ── what the delivery stage decides ──────────────────────────────────────────────────────────────


class SendAdmitted(msgspec.Struct, frozen=True):
    """The send is ours now: it will come to one recorded end."""

    request: SendRequested


class SendRefused(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request was refused; an earlier send with the same send_id is not touched.

    `request` is where the request stands in send-requests ("partition/offset"), "" when unknown.
    """

    client: ClientId
    send_id: SendId
    reason: RefusedReason
    detail: str
    request: str = ""
    recipient: Recipient = Recipient("")


class SendWithdrawn(msgspec.Struct, frozen=True):
    """An admitted send was turned away by the fleet stage: it ends as refused."""

    ref: SendRef
    reason: RefusedReason
    detail: str


class AttemptAssigned(msgspec.Struct, frozen=True, omit_defaults=True):
    """The delivery stage took the assignment: a hand may start it.

    `first_mailbox` carried the first attempt: the Message-ID keeps its domain, whoever carries later ones.
    """

    ref: SendRef
    assignment: SendAssigned
    content: ContentRef
    first_mailbox: MailboxAddress = MailboxAddress("")


class SubmissionStarted(msgspec.Struct, frozen=True):
    """The claim: written directly before the point of no return. Only `hand` may go on, and only it knows the end."""

    ref: SendRef
    attempt: int
    clock: datetime  # the claiming hand's own clock
    hand: str


class AttemptAccepted(msgspec.Struct, frozen=True):
    """The provider took it."""

    ref: SendRef
    attempt: int
    mailbox: MailboxAddress
    route: RouteId
    provider_id: str
    reply: Reply


class AttemptRefused(msgspec.Struct, frozen=True):
    """The provider said no; `verdict` says what that means."""

    ref: SendRef
    attempt: int
    mailbox: MailboxAddress
    route: RouteId
    reply: Reply
    verdict: Verdict


class AttemptNotSent(msgspec.Struct, frozen=True):
    """Provably nothing left; the send waits for another attempt."""

    ref: SendRef
    attempt: int
    mailbox: MailboxAddress
    route: RouteId
    stage: Stage
    what: str


PROCESS_GONE = "the process that sent it is gone"


class AttemptUnknown(msgspec.Struct, frozen=True):
    """It may have left: never sent again by itself."""

    ref: SendRef
    attempt: int
    mailbox: MailboxAddress
    route: RouteId
    what: str


class AttemptMissed(msgspec.Struct, frozen=True):
    """The assignment ended before the claim: given back, planned anew."""

    ref: SendRef
    attempt: int
    mailbox: MailboxAddress
    route: RouteId


class EvidenceWanted(msgspec.Struct, frozen=True):
    """An unknown attempt is to be looked up in the provider's own records."""

    ref: SendRef
    attempt: int


class SendFailed(msgspec.Struct, frozen=True):
    """The send ends unsent: refused for good, or patience over."""

    ref: SendRef
    rule: str


class SendCancelled(msgspec.Struct, frozen=True):
    """The send ends before it started."""

    ref: SendRef
    by: str


class CancelCameTooLate(msgspec.Struct, frozen=True):
    """A cancel found the send started or ended."""

    ref: SendRef
    by: str
    state: SendState


class SendExpired(msgspec.Struct, frozen=True):
    """The send ends unsent: `expires_at` passed, or its body is gone."""

    ref: SendRef
    rule: str  # expires_at | content_gone


class SendAssumedSent(msgspec.Struct, frozen=True):
    """No evidence about an unknown attempt in 24 h: counted as sent, never sent again."""

    ref: SendRef
    attempt: int


class SendDelivered(msgspec.Struct, frozen=True, omit_defaults=True):
    """Accepted and no bounce within 48 h (or the provider's own delivery event)."""

    ref: SendRef
    attempt: int
    rule: str
    carried: Carried | None = None


class SendBounced(msgspec.Struct, frozen=True, omit_defaults=True):
    """An accepted send came back; `verdict` says what that means."""

    ref: SendRef
    attempt: int
    reply: Reply
    verdict: Verdict
    carried: Carried | None = None


class SendReturned(msgspec.Struct, frozen=True, omit_defaults=True):
    """The provider itself, after its 250, reports a failure that is not the recipient's: nobody got it, it waits again.

    `reported_at` is when that happened, as the report says: the same report again returns nothing more.
    """

    ref: SendRef
    request: SendRequested
    attempt: int
    mailbox: MailboxAddress
    route: RouteId
    reply: Reply
    verdict: Verdict
    reported_at: datetime
    carried: Carried | None = None


class RecipientSuppressed(msgspec.Struct, frozen=True, omit_defaults=True):
    """No further mail to this recipient. `client` "" means for all clients; `by` names the operator who ordered it."""

    recipient: Recipient
    reason: SuppressionReason
    rule: str
    client: ClientId = ClientId("")
    by: str = ""


# ── decided by the fleet stage about sends ───────────────────────────────────────────────────────


class SendQueued(msgspec.Struct, frozen=True, omit_defaults=True):
    """The send waits in its client's backlog."""

    request: SendRequested
    sweep: int = 0  # the newest cancel in steps that it came after, while some are under way


class Release(msgspec.Struct, frozen=True, omit_defaults=True):
    """An attempt's mailbox is free again from `free_at` on.

    `gave_back` returns what was held: the quota of `quota_day` (mailbox and domain), the route's and the receiver's
    of `hour`, the place in the list's canary.
    """

    mailbox: MailboxAddress
    quota_day: str
    gave_back: bool
    free_at: datetime
    route: RouteId = RouteId("")
    hour: str = ""  # of the assignment, UTC, YYYY-MM-DDTHH
    bucket: str = ""  # as SendAssigned has it
    list_id: str = ""


class SendRequeued(msgspec.Struct, frozen=True, omit_defaults=True):
    """The send waits again, not before `not_before`; `stay_with` is set when one mailbox must carry it."""

    ref: SendRef
    attempt: int
    not_before: datetime
    rule: str
    counts: bool  # whether the attempt counts against patience
    release: Release | None = None
    stay_with: MailboxAddress = MailboxAddress("")
    deferred: bool = False  # by a server's answer


class SendEnded(msgspec.Struct, frozen=True, omit_defaults=True):
    """The send leaves the backlog; a tombstone remembers its send_id and recipient.

    State "unknown" is no end yet: a proven refusal may still bring the send back.
    """

    ref: SendRef
    attempt: int
    state: SendState
    release: Release | None = None


class SendWaits(msgspec.Struct, frozen=True):
    """Why a send waits: the limit that binds, and the earliest time at which that may change."""

    ref: SendRef
    limit: WaitLimit
    earliest: datetime | None = None


class CancelNoted(msgspec.Struct, frozen=True):
    """A cancel came before its send: the send is cancelled as soon as it is known."""

    client: ClientId
    send_id: SendId
    by: str


class CancelSweepBegan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A cancel means more sends than one entry should hold: it goes in steps, and what it is about waits for its end.

    Sweeps of a client are numbered from 1. The same cancel again, while it is under way, begins anew.
    """

    client: ClientId
    number: int
    by: str
    campaign: CampaignId = CampaignId("")
    thread_id: str = ""  # instead of a campaign


class CancelSweepEnded(msgspec.Struct, frozen=True, omit_defaults=True):
    """Every send that waited when the sweep began has been passed on."""

    client: ClientId
    number: int
    campaign: CampaignId = CampaignId("")
    thread_id: str = ""


# ── what the stages see that is no Kafka record ──────────────────────────────────────────────────


class ClaimAsked(msgspec.Struct, frozen=True):
    """A hand stands before the point of no return; `clock` is its real clock, `hand` its own id."""

    ref: SendRef
    attempt: int
    clock: datetime
    hand: str


class OutcomeSeen(msgspec.Struct, frozen=True):
    """A hand of this process finished attempt `attempt`."""

    ref: SendRef
    attempt: int
    hand: str
    outcome: Outcome


class EvidenceSeen(msgspec.Struct, frozen=True):
    """The provider's own records tell what became of an unknown attempt; `source` says which records."""

    ref: SendRef
    attempt: int
    said: Accepted | Refused
    source: str


class PartitionResumed(msgspec.Struct, frozen=True):
    """The partition has a new owner: attempts that were started elsewhere are unknown now."""

    open_elsewhere: tuple[str, ...]  # open attempts that no hand of this process holds: "client/send_id/n"


class Ticked(msgspec.Struct, frozen=True):
    """A second has passed on the broker's clock."""


class HourDone(msgspec.Struct, frozen=True):
    """All that was due in this hour (UTC, "YYYY-MM-DDTHH") in one shard has been decided."""

    hour: str
    shard: int


class InputsLost(msgspec.Struct, frozen=True):
    """Retention took inputs before they were decided: a person must look."""

    topic: str
    partition: int
    first_offset: int
    end_offset: int  # exclusive


class JournalContinued(msgspec.Struct, frozen=True, omit_defaults=True):
    """The journal goes on in topics that were filled from the archive, under the offsets that they had before.

    `topic_ids` are the new generations, `continues` those before, `causes` the last decided offset per input topic.
    `perhaps_sent_before` is set when decisions after the archive's last may be lost: a send that was asked for before
    that time and has not come to its end may have left already, and must not go again.
    """

    topic_ids: dict[str, str]
    continues: dict[str, str]
    causes: dict[str, int]
    perhaps_sent_before: datetime | None = None


# ── the public answer ────────────────────────────────────────────────────────────────────────────


class SendResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """One change of a send's state, for upstream (topic send-results)."""

    client: ClientId
    send_id: SendId
    state: SendState
    at: datetime
    reason: str = ""
    detail: str = ""
    attempt: int = 0
    mailbox: MailboxAddress = MailboxAddress("")
    request: str = ""
    earliest: datetime | None = None  # while it waits
    limit: WaitLimit | None = None
    letter: Letter | None = None  # of a reply: where a person finds it


class LetterDied(msgspec.Struct, frozen=True, omit_defaults=True):
    """A record could not be read: where it stands, its hash and why; never its content."""

    topic: str
    partition: int
    offset: int
    sha256: str
    reason: str
    size_bytes: int = 0
