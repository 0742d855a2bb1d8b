"""What becomes of mail after its 250, as those report it who carry it on."""

from datetime import datetime
from typing import Literal

import msgspec

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
