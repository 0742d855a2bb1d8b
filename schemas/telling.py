"""What people were told of alerts, and what they answered. Keyed by the post."""

from datetime import datetime

import msgspec


class AlertPosting(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message is about to be sent to a chat: written before, so that a crash between is seen afterwards.

    `offsets` are those of the alerts in topic alerts that it tells; `after` is the last message that the chat is
    known to hold: the new one can only be a later one.
    """

    post: str
    chat: int
    text: str
    offsets: tuple[int, ...] = ()
    after: int = 0


class AlertPosted(msgspec.Struct, frozen=True):
    """The chat holds this message, with this text."""

    post: str
    chat: int
    message_id: int
    text: str


class AlertAcknowledged(msgspec.Struct, frozen=True):
    """A person has seen the alerts of a post and looks after them."""

    post: str
    by: str
    at: datetime
