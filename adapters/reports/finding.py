"""What one message says of one recipient: the result of parsing, before anybody says what it means."""

from typing import Literal

import msgspec

from schemas.sending import Stage

Kind = Literal["bounce", "success", "complaint", "auto_reply", "challenge", "reply", "unknown"]


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One recipient of one report. Carries addresses: it never becomes a fact as it is.

    `code` is the SMTP code that was quoted, 0 when none was; `status` the enhanced code, "" when none;
    `stage` where the quoted reply stood, as far as the report says; `provider` a guess at who refused.
    """

    kind: Kind
    recipient: str
    family: str  # which reader found it: dsn, arf, nonstandard, autoreply, none
    token: str = ""
    message_id: str = ""  # of the returned original, or what a reply answers
    status: str = ""
    action: str = ""  # failed | delayed | delivered | relayed | expanded; of a complaint: its feedback type
    code: int = 0
    text: str = ""
    stage: Stage = "body"
    reporting_mta: str = ""
    remote_mta: str = ""
    provider: str = ""
