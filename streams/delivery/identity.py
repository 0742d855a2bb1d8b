"""Who a recipient is and which send a report belongs to: keyed hashes, never addresses (design section 4)."""

import base64
import hashlib
import hmac
import re

from schemas.ids import ClientId, DomainName, Recipient, SendId

_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_DEVIATIONS = re.compile("[ßẞς\u200c\u200d]")  # other letters in IDNA 2003 (Python's) than in 2008: another domain
_GMAIL = ("gmail.com", "googlemail.com")
TOKEN_LENGTH = 39


class AddressInvalid(ValueError):
    """No mail can be sent to this address; the text says why."""


def normalise(address: str) -> str:
    """Return the address in lower case, its domain in IDNA. Raises AddressInvalid."""
    local, at, domain = address.strip().rpartition("@")
    if not at or not local:
        raise AddressInvalid("an address has a name and a domain with an @ between them")
    if not local.isascii():
        raise AddressInvalid("the local part is not ASCII; routes without SMTPUTF8 cannot carry it")
    if len(local) > 64 or not _LOCAL.fullmatch(local):
        raise AddressInvalid("the local part is not a dot-atom of at most 64 characters (RFC 5321)")
    if _DEVIATIONS.search(domain):
        raise AddressInvalid("the domain has a letter that IDNA 2003 and 2008 read differently: give its xn-- form")
    try:
        name = domain.encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise AddressInvalid(f"the domain is not valid: {error}") from error
    labels = name.split(".")
    if len(labels) < 2 or len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressInvalid("the domain is not a host name with a dot")
    return f"{local.lower()}@{name}"


def domain_of(normalised: str) -> DomainName:
    """Return the domain of a normalised address."""
    return DomainName(normalised.rpartition("@")[2])


def loose(normalised: str) -> str:
    """Return the address without plus-tag and, at Gmail, without dots: one person, many spellings."""
    local, _, domain = normalised.rpartition("@")
    local = local.partition("+")[0] or local
    if domain in _GMAIL:
        return f"{local.replace('.', '')}@gmail.com"
    return f"{local}@{domain}"


def recipient_of(normalised: str, key: bytes) -> Recipient:
    """Return the recipient's id, 64 hex digits: HMAC-SHA256 under the fleet's key.

    Its first 8 bytes are those of the loose address, so that all spellings of one person's address stand in
    one partition and a suppression of one can be seen by the others.
    """
    first = hmac.new(key, loose(normalised).encode(), hashlib.sha256).hexdigest()[:16]
    return Recipient(first + hmac.new(key, normalised.encode(), hashlib.sha256).hexdigest()[16:])


def recipients_of(address: str, key: bytes) -> tuple[Recipient, Recipient]:
    """Return the ids of an address and of its loose form. Raises AddressInvalid."""
    known = normalise(address)
    return recipient_of(known, key), recipient_of(loose(known), key)


def recipients_named(text: str, key: bytes) -> tuple[Recipient, Recipient]:
    """Return the same of what a report names as its recipient; ids are "" when that is no address."""
    try:
        return recipients_of(text, key)
    except AddressInvalid:
        return Recipient(""), Recipient("")


def key_of_nobody(name: str) -> bytes:
    """Return a Kafka key of a delivery key's form for what concerns no known recipient, spread by its name."""
    return hashlib.sha256(name.encode()).hexdigest()[:16].encode()


def delivery_key(recipient: Recipient) -> bytes:
    """Return the Kafka key of everything about this recipient: the first 8 bytes of its id, as hex."""
    return recipient[:16].encode()


def token_of(recipient: Recipient, client: ClientId, send_id: SendId, key: bytes) -> str:
    """Return the send's token, 39 characters: delivery key 8 ‖ H(client, send_id) 8 ‖ MAC 8, base32."""
    body = bytes.fromhex(recipient[:16]) + hashlib.sha256(f"{client}\0{send_id}".encode()).digest()[:8]
    mac = hmac.new(key, b"token" + body, hashlib.sha256).digest()[:8]
    return base64.b32encode(body + mac).decode().rstrip("=").lower()


def key_in(token: str) -> bytes:
    """Return the delivery key that a token carries, ours or forged. Raises ValueError when it is no token."""
    raw = base64.b32decode(token.upper() + "=")
    if len(raw) != 24:
        raise ValueError(f"a token has 24 octets, this has {len(raw)}")
    return raw[:8].hex().encode()


def token_is_ours(token: str, key: bytes) -> bool:
    """Return whether the token carries our MAC; a forged report does not."""
    try:
        raw = base64.b32decode(token.upper() + "=")
    except ValueError:
        return False
    return len(raw) == 24 and hmac.compare_digest(
        raw[16:], hmac.new(key, b"token" + raw[:16], hashlib.sha256).digest()[:8]
    )
