"""DKIM keys (RFC 6376 3.6, RFC 8301, RFC 8463): the selector's record, its key, and whether it is ours."""

import base64
import binascii
import re

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)

from adapters.dns.needs import Needs
from adapters.dns.resolver import Resolver
from adapters.dns.tags import TagsWrong, tags
from adapters.secrets import SecretMissing, Secrets
from schemas.dns import Finding

LEAST_BITS = 1024  # RFC 8301 3.2: verifiers must not take less
GOOD_BITS = 2048

PublicKey = RSAPublicKey | Ed25519PublicKey


class KeyWrong(Exception):
    """A key record cannot be used; the text says why."""


class PrivateKeyWrong(Exception):
    """Our own private key cannot be used; the text names it and says what to do."""


def new_key() -> bytes:
    """Return a new RSA key of 2048 bits as PEM: what every receiver takes and a TXT record can hold."""
    made = generate_private_key(65537, GOOD_BITS)
    return made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def own_public_key(pem: str, ref: str) -> PublicKey:
    """Return the public half of our key. Raises PrivateKeyWrong."""
    try:
        private = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PrivateKeyWrong(f"{ref} is no private key in PEM without a password") from error
    if not isinstance(private, RSAPrivateKey | Ed25519PrivateKey):
        raise PrivateKeyWrong(f"{ref} is neither an RSA nor an Ed25519 key")
    return private.public_key()


def key_record(key: PublicKey) -> str:
    """Return the TXT value that publishes the key."""
    kind = "rsa" if isinstance(key, RSAPublicKey) else "ed25519"
    return f"v=DKIM1; k={kind}; p={base64.b64encode(_octets(key)).decode()}"


def _octets(key: PublicKey) -> bytes:
    if isinstance(key, RSAPublicKey):
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def parse_key(record: str) -> tuple[PublicKey, list[str]]:
    """Return (key, what to better) of a key record. Raises KeyWrong."""
    try:
        found = tags(record)
    except TagsWrong as error:
        raise KeyWrong(str(error)) from error
    if found.get("v", "DKIM1") != "DKIM1":
        raise KeyWrong(f"v={found['v']} is not DKIM1")
    if "p" not in found:
        raise KeyWrong("it has no p=, so no key")
    if not found["p"]:
        raise KeyWrong("p= is empty: the key is revoked")
    if "sha256" not in (h.strip() for h in found.get("h", "sha256").split(":")):
        raise KeyWrong(f"h={found['h']} does not allow sha256")
    if not {"*", "email"} & {s.strip() for s in found.get("s", "*").split(":")}:
        raise KeyWrong(f"s={found['s']} does not allow mail")
    key = _public(found.get("k", "rsa"), found["p"])
    better = ["t=y says that it is a test: take it out"] if "y" in found.get("t", "").split(":") else []
    if isinstance(key, RSAPublicKey) and key.key_size < LEAST_BITS:
        raise KeyWrong(f"the RSA key has {key.key_size} bits, receivers ignore less than {LEAST_BITS}")
    if isinstance(key, RSAPublicKey) and key.key_size < GOOD_BITS:
        better.append(f"the RSA key has {key.key_size} bits: make one of {GOOD_BITS}")
    return key, better


def _public(kind: str, text: str) -> PublicKey:
    try:
        octets = base64.b64decode(re.sub(r"\s", "", text), validate=True)
        if kind == "ed25519":
            return Ed25519PublicKey.from_public_bytes(octets)
        if kind != "rsa":
            raise KeyWrong(f"k={kind} is neither rsa nor ed25519")
        key = load_der_public_key(octets)
    except (binascii.Error, ValueError, UnsupportedAlgorithm) as error:
        raise KeyWrong(f"p= is no {kind} key") from error
    if not isinstance(key, RSAPublicKey):
        raise KeyWrong("p= is no rsa key")
    return key


async def check_dkim(resolver: Resolver, needs: Needs, secrets: Secrets) -> Finding:
    """Check the selector's record and compare it with our key. Raises Unanswered."""
    if not needs.selector:
        said = f"no selector of route {needs.route} is known"
        return Finding("dkim", "could_not_be_checked", said, "set dns_dkim_selector in the route's options")
    name = f"{needs.selector}._domainkey.{needs.dkim_domain}"
    fix = f"set {name} as `mailfleet dns-records {needs.domain}` or the provider's console says"
    records = await resolver.ask(name, "TXT")
    if not records:
        return Finding("dkim", "missing", f"{name} has no TXT record", fix)
    if len(records) > 1:
        return Finding("dkim", "broken", f"{name} has {len(records)} TXT records; which is the key?", fix)
    try:
        key, better = parse_key(records[0])
    except KeyWrong as error:
        return Finding("dkim", "broken", f"{name}: {error}", fix)
    size = f"rsa, {key.key_size} bits" if isinstance(key, RSAPublicKey) else "ed25519"
    return _compared(needs, secrets, key, f"{name}: {size}", better, fix)


def _compared(needs: Needs, secrets: Secrets, key: PublicKey, said: str, better: list[str], fix: str) -> Finding:
    if not needs.key_ref:
        return Finding("dkim", "good", said, "; ".join(better))
    try:
        own = own_public_key(secrets.resolve(needs.key_ref), needs.key_ref)
    except (SecretMissing, PrivateKeyWrong) as error:
        return Finding("dkim", "good", f"{said}; not compared with our key: {error}", "; ".join(better))
    if _octets(own) != _octets(key):
        return Finding("dkim", "broken", f"{said}; it is not the key that signs ({needs.key_ref})", fix)
    return Finding("dkim", "good", f"{said}; matches {needs.key_ref}", "; ".join(better))
