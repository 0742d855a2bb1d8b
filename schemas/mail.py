"""Facts of the mail reader: how far each mailbox is read, and which cannot be read. Keyed by mailbox."""

from datetime import datetime

import msgspec

from schemas.ids import ClientId, MailboxAddress


class MailboxRead(msgspec.Struct, frozen=True):
    """Everything in the folder up to `last_uid` is read, and what it reports is in Kafka.

    A UID means something only under its `uid_validity` (RFC 3501 2.3.1.1): under another one reading begins anew.
    """

    mailbox: MailboxAddress
    client: ClientId
    folder: str
    uid_validity: int
    last_uid: int
    at: datetime


class MailboxUnreadable(msgspec.Struct, frozen=True):
    """A mailbox cannot be read since `since`; a later MailboxRead ends it. `what` has neither secret nor address."""

    mailbox: MailboxAddress
    client: ClientId
    since: datetime
    what: str


class RepliesForwarded(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which letters of a mailbox were passed on to a person, by their own names, never by their content.

    `begun` are the last whose final dot may have been sent: none of them goes again. `open` are those whose end is
    not known: in `begun` as well, it is in doubt; else nothing left.
    """

    mailbox: MailboxAddress
    client: ClientId
    begun: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
