"""Amazon SNS over HTTPS: the envelope, and whether Amazon signed it.

Of the SNS developer guide (verifying the signatures of messages, HTTP/S notification JSON formats), 2026-11, and of
AWS's own validator for the host's name. A good signature says "Amazon", not "ours": whose topic it is, a list of
topics must say. The certificate is taken from SNS alone, over TLS, and must chain up to an authority that is trusted.
"""

import base64
import binascii
import contextlib
import re
import ssl
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import urlsplit

import httpx
import orjson
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import AuthorityInformationAccessOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from adapters.reports.provider_event import NotAnEvent, text, within

_HOST = re.compile(r"sns\.[a-zA-Z0-9-]{3,}\.amazonaws\.com(\.cn)?")
_ISSUERS = re.compile(r"([a-z0-9-]+\.)*amazontrust\.com")
"""Hosts that Amazon's certificates name for the certificates above them."""
MAX_CERTIFICATE = 65_536
CERTIFICATES = 32
FETCH_S = 10.0
REMEMBERED_S = 86_400.0
MOST_INTERMEDIATES = 3

Type = Literal["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"]
_SIGNED: dict[str, tuple[str, ...]] = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
_HASHES: dict[str, type[hashes.SHA1 | hashes.SHA256]] = {"1": hashes.SHA1, "2": hashes.SHA256}


class NotSigned(Exception):
    """Amazon did not sign this; the text says what is wrong, without a word of the message."""


class AmazonSilent(Exception):
    """Amazon could not be asked, for a certificate or to confirm: later it may."""


@dataclass(frozen=True)
class Notice:
    """One message of SNS: what is in it, and what was signed."""

    type: str
    message_id: str
    topic: str
    message: str
    subscribe_url: str
    version: str
    signature: str
    certificate_url: str
    canonical: bytes


def read(raw: bytes) -> Notice:
    """Return the notice; nothing of it is proven yet. Raises NotAnEvent."""
    try:
        told = orjson.loads(raw)
    except ValueError:
        raise NotAnEvent("no JSON") from None  # the error holds the text
    type_ = text(told, "Type")
    if type_ not in _SIGNED:
        raise NotAnEvent("no type of SNS")
    pairs = [(name, within(told, name)) for name in _SIGNED[type_]]
    wanted = [(name, value) for name, value in pairs if name != "Subject" or value is not None]
    if not all(isinstance(value, str) for _, value in wanted):
        raise NotAnEvent(f"{type_} without its parts")
    return Notice(
        type_,
        message_id=text(told, "MessageId"),
        topic=text(told, "TopicArn"),
        message=told["Message"],
        subscribe_url=text(told, "SubscribeURL"),
        version=text(told, "SignatureVersion"),
        signature=text(told, "Signature"),
        certificate_url=text(told, "SigningCertURL"),
        canonical="".join(f"{name}\n{value}\n" for name, value in wanted).encode("utf-8", "surrogatepass"),
    )


def host_of(url: str) -> str:
    """Return the host when an address is one of SNS and of nobody else, "" when it is not."""
    try:
        found = urlsplit(url)
        port = found.port
    except ValueError:
        return ""
    plain = found.scheme == "https" and port is None and found.username is None and found.password is None
    host = found.netloc
    return host.lower() if plain and "\\" not in url and _HOST.fullmatch(host) else ""


class Amazon:
    """Checks signatures, and confirms subscriptions. Certificates are kept for a day, a bounded number of them.

    `trust` has the authorities, for TLS and for the signing certificate alike; `client` is another one in tests.
    """

    def __init__(self, trust: ssl.SSLContext | None = None, client: httpx.AsyncClient | None = None) -> None:
        context = trust or httpx.create_ssl_context()
        self._store = Store(_authorities(context))
        self._client = client or httpx.AsyncClient(verify=context, trust_env=False, timeout=FETCH_S)
        self._kept: OrderedDict[str, tuple[x509.Certificate, datetime]] = OrderedDict()

    async def close(self) -> None:
        """Hang up."""
        await self._client.aclose()

    async def check(self, notice: Notice, now: datetime | None = None) -> None:
        """Return when Amazon signed the notice. Raises NotSigned, AmazonSilent."""
        made_by = _HASHES.get(notice.version)
        if made_by is None:
            raise NotSigned("a signature version that is neither 1 nor 2")
        certificate = await self._certificate(notice.certificate_url, now or datetime.now(UTC))
        key = certificate.public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            raise NotSigned("the certificate's key is not RSA")
        try:
            signature = base64.b64decode(notice.signature, validate=True)
            key.verify(signature, notice.canonical, padding.PKCS1v15(), made_by())
        except (binascii.Error, ValueError, InvalidSignature):
            raise NotSigned("the signature is not of this message") from None

    async def confirm(self, notice: Notice) -> None:
        """Subscribe, as a checked SubscriptionConfirmation asks. Raises NotSigned, AmazonSilent."""
        if not host_of(notice.subscribe_url):
            raise NotSigned("SubscribeURL is no address of SNS")
        await self._fetch(notice.subscribe_url)

    async def _certificate(self, url: str, now: datetime) -> x509.Certificate:
        host = host_of(url)
        if not host or not urlsplit(url).path.endswith(".pem"):
            raise NotSigned("SigningCertURL is no address of SNS")
        kept = self._kept.get(url)
        if kept is not None and (now - kept[1]).total_seconds() < REMEMBERED_S and now < kept[0].not_valid_after_utc:
            return kept[0]
        try:
            chain = x509.load_pem_x509_certificates(await self._fetch(url))
        except ValueError:
            raise NotSigned("there is no certificate at SigningCertURL") from None
        await self._check_chain(chain, host, now)
        self._kept[url] = (chain[0], now)
        self._kept.move_to_end(url)
        if len(self._kept) > CERTIFICATES:
            self._kept.popitem(last=False)
        return chain[0]

    async def _check_chain(self, chain: Sequence[x509.Certificate], host: str, now: datetime) -> None:
        """The certificate is for sns.amazonaws.com, or the region's host, and an authority that is trusted gave it."""
        above = list(chain[1:]) or await self._above(chain[0])
        names = {host, "sns.amazonaws.com.cn" if host.endswith(".cn") else "sns.amazonaws.com"}
        for name in sorted(names):
            verifier = PolicyBuilder().store(self._store).time(now).build_server_verifier(x509.DNSName(name))
            try:
                verifier.verify(chain[0], above)
            except VerificationError:
                continue
            return
        raise NotSigned("the certificate is not of SNS, or of no authority that is trusted")

    async def _above(self, certificate: x509.Certificate) -> list[x509.Certificate]:
        """Return the certificates that a lone one names as its issuer's (RFC 5280 4.2.2.1). The chain proves them."""
        found: list[x509.Certificate] = []
        while len(found) < MOST_INTERMEDIATES and (url := _issuer_url(found[-1] if found else certificate)):
            try:
                found.append(x509.load_der_x509_certificate(await self._fetch(url)))
            except ValueError:
                break
        return found

    async def _fetch(self, url: str) -> bytes:
        """Return what stands there, bounded. Raises AmazonSilent for everything but a 200."""
        body = b""
        try:
            async with self._client.stream("GET", url, follow_redirects=False) as answer:
                if answer.status_code != 200:
                    raise AmazonSilent(f"{urlsplit(url).hostname} answered {answer.status_code}")
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > MAX_CERTIFICATE:
                        raise AmazonSilent(f"{urlsplit(url).hostname} answered more than a certificate")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise AmazonSilent(f"{urlsplit(url).hostname}: {type(error).__name__}") from error
        return body


def _authorities(context: ssl.SSLContext) -> list[x509.Certificate]:
    """Return the authorities that are trusted; an ill-formed one, of which the systems' lists have some, is not."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", CryptographyDeprecationWarning)
        for der in context.get_ca_certs(binary_form=True):
            with contextlib.suppress(ValueError, CryptographyDeprecationWarning):
                found.append(x509.load_der_x509_certificate(der))
    return found


def _issuer_url(certificate: x509.Certificate) -> str:
    if certificate.issuer == certificate.subject:
        return ""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, ValueError):
        return ""
    for one in access:
        if one.access_method == AuthorityInformationAccessOID.CA_ISSUERS and isinstance(
            one.access_location, x509.UniformResourceIdentifier
        ):
            url = urlsplit(one.access_location.value)
            if url.scheme in ("http", "https") and _ISSUERS.fullmatch(url.netloc.lower()):
                return one.access_location.value
    return ""
