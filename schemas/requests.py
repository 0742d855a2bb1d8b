"""The public input: what upstream publishes to send-requests (design section 6)."""

import re
from datetime import datetime
from typing import Any

import msgspec

from schemas.envelope import Unreadable, json_object
from schemas.ids import CampaignId, ClientId, SendId
from schemas.sending import Basis

MAX_MESSAGE_BYTES = 700_000
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


class SendRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message to one recipient. Times are RFC 3339 with an offset.

    `text` and `html` may hold {{unsubscribe_url}} and {{postal_address}}; mailfleet fills them.
    """

    client: ClientId
    campaign: CampaignId
    send_id: SendId
    to: str
    subject: str
    text: str
    basis: Basis
    html: str = ""
    to_name: str = ""
    from_name: str = ""
    thread_id: str = ""
    mailbox: str = ""  # the one mailbox that must carry it; any, when none is named
    headers: dict[str, str] = {}
    not_before: datetime | None = None
    expires_at: datetime | None = None
    priority: int = 5
    recipient_country: str = ""
    entity_type: str = ""
    list_id: str = ""
    test: bool = False  # an operator's try of one mailbox: counted in quotas, not in rates


class CancelRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Do not send what has not started. Exactly one of send_id, thread_id, campaign is given."""

    client: ClientId
    send_id: SendId = SendId("")
    thread_id: str = ""
    campaign: CampaignId = CampaignId("")


class Asked(msgspec.Struct, frozen=True):
    """A request as upstream wrapped it: {"type": "send" | "cancel", "v": 1, "data": {...}}."""

    type: str
    v: int
    data: dict[str, Any]


def asked(raw: bytes | None) -> Asked:
    """Return what upstream asks for. Raises Unreadable when it is not of that shape."""
    try:
        return msgspec.convert(json_object(raw), Asked)
    except msgspec.ValidationError as error:
        raise Unreadable(f"not a request: {error}; a request is {{type, v, data}}") from error


def who_asks(data: dict[str, Any]) -> tuple[ClientId, SendId] | None:
    """Return (client, send_id) when both are well formed, so that a refusal can be answered."""
    client, send_id = data.get("client"), data.get("send_id")
    if isinstance(client, str) and isinstance(send_id, str) and is_id(client) and is_id(send_id):
        return ClientId(client), SendId(send_id)
    return None


def is_id(text: str) -> bool:
    """Whether `text` may be a client or a send_id."""
    return _ID.fullmatch(text) is not None
