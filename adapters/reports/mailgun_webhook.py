"""The envelope of Mailgun's webhooks: who signed it. The event inside is read by mailgun_events.py.

The signature covers timestamp and token, not the event (user manual, securing webhooks, 2026-11): the URL must be
secret and the way to it TLS, and a token counts once.
"""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

import orjson

from adapters.reports.mailgun_events import domain_of
from adapters.reports.provider_event import NotAnEvent, moment, text, within

MAX_TOKEN = 200


@dataclass(frozen=True)
class SigningKey:
    """A webhook signing key, which is not the API key. With a name it is good for that domain or account alone."""

    key: bytes = field(repr=False)
    name: str = ""


@dataclass(frozen=True)
class Signature:
    """One signature: hex of HMAC-SHA256 over timestamp and token."""

    timestamp: str
    token: str
    signature: str

    @property
    def at(self) -> datetime | None:
        """When it was made, None when that is no time."""
        return moment(int(self.timestamp)) if self.timestamp.isdecimal() and len(self.timestamp) <= 11 else None

    def made_with(self, key: bytes) -> bool:
        """Whether the key made it."""
        expected = hmac.new(key, f"{self.timestamp}{self.token}".encode(), hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected.encode(), self.signature.lower().encode())


@dataclass(frozen=True)
class Webhook:
    """What was posted. A sub-account's webhook is signed by its parent's key as well."""

    signatures: tuple[Signature, ...]
    event: object
    names: frozenset[str]

    @property
    def token(self) -> str:
        """The token that counts once."""
        return self.signatures[0].token

    def signer(self, keys: Iterable[SigningKey]) -> Signature | None:
        """Return the signature that one of the keys made, None when none did."""
        fitting = [key for key in keys if not key.name or key.name.lower() in self.names]
        made = [(s, s.made_with(key.key)) for s in self.signatures for key in fitting]
        return next((signature for signature, ours in made if ours), None)


def read(raw: bytes) -> Webhook:
    """Return the webhook. Raises NotAnEvent."""
    try:
        told = orjson.loads(raw)
    except ValueError:
        raise NotAnEvent("no JSON") from None  # the error holds the text
    signatures = tuple(s for name in ("signature", "parent-signature") if (s := _signature(told, name)) is not None)
    event = within(told, "event-data")
    if not signatures or not isinstance(event, dict):
        raise NotAnEvent("no signature or no event-data")
    names = {domain_of(event), text(event, "account", "id").lower(), text(event, "account", "parent-id").lower()}
    return Webhook(signatures, event, frozenset(names - {""}))


def _signature(told: object, name: str) -> Signature | None:
    parts = [text(told, name, part) for part in ("timestamp", "token", "signature")]
    return Signature(*parts) if all(parts) and len(parts[1]) <= MAX_TOKEN else None
