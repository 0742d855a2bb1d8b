"""What becomes of mail after its 250, as those report it who carry it on or received it."""

from datetime import datetime
from typing import Literal

import msgspec

from schemas.ids import ClientId, DomainName, MailboxAddress, Recipient
from schemas.sending import Carried, Reply, SendRef, SuppressionReason
from schemas.sending import Letter as Letter  # the public answer names it too

ReportKind = Literal[
    "bounce",  # a refusal, or with action "delayed" none yet
    "accepted",  # the provider has it: proof for an unknown attempt
    "delivered",  # the receiver's server took it
    "complaint",
    "unsubscribe",
    "reply",  # a person wrote back
    "auto_reply",
    "challenge",  # somebody's filter asks the sender to prove something
]
StrayKind = Literal[ReportKind, "unknown"]
"""What a report that nobody can be given may be; unknown: a message that says nothing that we know."""
ReportSource = Literal["bounce_mail", "webhook", "provider_log", "one_click", "mta_log"]
MtaStatus = Literal["sent", "deferred", "bounced", "expired"]


class MtaLineSeen(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line in the log of an agency's own MTA: what one try to deliver a mail came to.

    `sent` is the receiver's 250. After `bounced` and `expired` the MTA has given up; `dsn`, `relay` and `text` of
    `expired` are those of the last try. A line may be reported twice.
    """

    token: str  # of the send
    queue_id: str
    status: MtaStatus
    at: datetime
    dsn: str = ""  # enhanced status code (RFC 3463)
    relay: str = ""  # host[address]:port of the receiver; "" when none was reached
    text: str = ""  # what was said, addresses replaced


class ReportSeen(msgspec.Struct, frozen=True, omit_defaults=True):
    """What somebody outside says of one recipient of one mail. Keyed by the recipient.

    `token` carries our MAC (whoever reads a report checks it); without one, `recipient`, `mailbox` and `at` must find
    the send. `event_id` is the reporter's own name of this report: the same one again changes nothing. `letter_id` is
    the name of what a message says of one recipient, wherever it lies and whenever it is read; "" when it has none.
    """

    kind: ReportKind
    source: ReportSource
    event_id: str
    at: datetime  # when it happened, as the report says
    token: str = ""
    attempt: int = 0  # when the provider hands our tag back; 0 = not told
    recipient: Recipient = Recipient("")
    recipient_loose: Recipient = Recipient("")
    client: ClientId = ClientId("")
    mailbox: MailboxAddress = MailboxAddress("")  # that sent it, or in which the report was read
    provider_id: str = ""
    reported_by: str = ""  # the provider whose own system reports, as routes name it ("zoho"); "" = not known
    action: str = ""  # of a DSN: failed | delayed | ...; of a complaint: its feedback type
    reply: Reply | None = None
    letter: Letter | None = None  # where a message that was read lies
    letter_id: str = ""


class ReportTaken(msgspec.Struct, frozen=True):
    """What a message says of a recipient was decided: the same message again, wherever it lies, changes nothing."""

    recipient: Recipient  # as sends have it in `recipient_loose`
    letter_id: str


class ReportForged(msgspec.Struct, frozen=True, omit_defaults=True):
    """A report carries a token that is not ours: it is counted and nothing follows."""

    source: ReportSource
    event_id: str
    at: datetime
    mailbox: MailboxAddress = MailboxAddress("")


class ReportUncorrelated(msgspec.Struct, frozen=True, omit_defaults=True):
    """No send was found for a report: counted and shown, for a person to look at."""

    kind: StrayKind
    source: ReportSource
    event_id: str
    at: datetime
    why: str
    client: ClientId = ClientId("")
    mailbox: MailboxAddress = MailboxAddress("")
    letter: Letter | None = None


class SendComplained(msgspec.Struct, frozen=True, omit_defaults=True):
    """The recipient called a mail spam."""

    ref: SendRef
    attempt: int
    source: ReportSource
    feedback: str = ""  # abuse, fraud ... (RFC 5965)
    carried: Carried | None = None


class SendUnsubscribed(msgspec.Struct, frozen=True, omit_defaults=True):
    """The recipient wants no more mail."""

    ref: SendRef
    attempt: int
    source: ReportSource
    carried: Carried | None = None


class SendReplied(msgspec.Struct, frozen=True, omit_defaults=True):
    """A person wrote back: follow-ups of the thread stop, somebody reads it."""

    ref: SendRef
    attempt: int
    letter: Letter
    carried: Carried | None = None
    thread_id: str = ""


class SendAnsweredByMachine(msgspec.Struct, frozen=True):
    """An automatic reply or a challenge came back: the mail arrived, nothing else follows."""

    ref: SendRef
    attempt: int
    kind: ReportKind


class SuppressOrdered(msgspec.Struct, frozen=True, omit_defaults=True):
    """An operator or a provider's own list forbids mail to a recipient. `client` "" means for all clients."""

    recipient: Recipient
    recipient_loose: Recipient
    client: ClientId
    reason: SuppressionReason
    rule: str
    by: str


class UnsuppressOrdered(msgspec.Struct, frozen=True):
    """An operator takes a suppression back, with a reason and a name; never a complaint or an unsubscribe."""

    recipient: Recipient
    recipient_loose: Recipient
    client: ClientId
    reason: str
    by: str


class RecipientUnsuppressed(msgspec.Struct, frozen=True):
    """Mail to the recipient is allowed again."""

    recipient: Recipient
    client: ClientId
    reason: str
    by: str


class UnsuppressRefused(msgspec.Struct, frozen=True):
    """A suppression was not taken back: it was a complaint or an unsubscribe, or there was none."""

    recipient: Recipient
    client: ClientId
    why: str
    by: str


class DomainSuppressOrdered(msgspec.Struct, frozen=True):
    """No mail to anybody at a recipients' domain, or again; told to every partition of the delivery stage."""

    domain: DomainName
    client: ClientId  # "" means for all clients
    suppressed: bool
    reason: str
    by: str


class DomainSwept(msgspec.Struct, frozen=True):
    """What was admitted before the hour `upto` (UTC, "YYYY-MM-DDTHH") and waits at a suppressed domain is cancelled."""

    domain: DomainName
    client: ClientId
    upto: str


class ProviderLogRead(msgspec.Struct, frozen=True):
    """A provider's event log of a sending domain was read, and is complete, up to `upto`."""

    provider: str
    place: str  # the region's host
    domain: DomainName
    upto: datetime
