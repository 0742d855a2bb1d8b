"""Requests and senders that the tests of this folder send."""

from datetime import UTC, datetime
from typing import Any

from adapters.interface import Mail
from adapters.message import build, envelope_recipient, envelope_sender, identity
from schemas.ids import CampaignId, ClientId, MailboxAddress, SendId
from schemas.requests import SendRequest
from schemas.sending import Basis, Sender

DATE = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
TOKEN = "abcdefghijklmnopqrstuvwxyz234567abcdefg"
SENDER = Sender(
    MailboxAddress("bob@firm.test"),
    name="Bob",
    postal_address="Firm Ltd, 1 Road, 12345 Town",
    unsubscribe_url="https://unsubscribe.firm.test/a/",
)


def request_of(**fields: Any) -> SendRequest:
    """Return a request to Anna with these fields changed."""
    given: dict[str, Any] = {
        "client": ClientId("acme"),
        "campaign": CampaignId("spring"),
        "send_id": SendId("s-1"),
        "to": "anna@customer.test",
        "subject": "Hello",
        "text": "Hello Anna,\n{{unsubscribe_url}}\n{{postal_address}}\n",
        "basis": Basis("express_consent", "form", DATE),
    }
    return SendRequest(**(given | fields))


def raw_of(request: SendRequest, sender: Sender = SENDER, token: str = TOKEN) -> bytes:
    """Return the message as it would leave."""
    return build(request, sender, identity(token, sender.mailbox), DATE)


def mail_of(request: SendRequest | None = None, token: str = TOKEN, attempt: int = 1) -> Mail:
    """Return the mail of a request as the hands make it."""
    request = request or request_of()
    raw = raw_of(request, token=token)
    return Mail(envelope_sender(SENDER, token), envelope_recipient(request.to), raw, token, attempt)
