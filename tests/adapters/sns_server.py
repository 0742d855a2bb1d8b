"""Amazon SNS on real sockets of loopback: certificates of an authority of its own, signed notices, confirmations.

Written to the SNS developer guide (2026-11). `client` reaches it under Amazon's names, with real TLS.
"""

import base64
import ssl
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

HOST = "sns.eu-west-1.amazonaws.com"
PEM = f"https://{HOST}/SimpleNotificationService-0123456789abcdef.pem"
ISSUER = "https://crt.r2m01.amazontrust.com/r2m01.cer"
_DAY = timedelta(days=1)
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class Issued:
    """A certificate with its key."""

    def __init__(self, certificate: x509.Certificate, key: Key) -> None:
        self.certificate, self.key = certificate, key

    @property
    def pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def issue(
    name: str, issuer: Issued | None, *hosts: str, key: Key | None = None, above: str = "", age: int = 0
) -> Issued:
    """Issue a certificate: an authority when it is for no hosts. `age` in days is how long ago it ended."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    giver = issuer.certificate.subject if issuer else subject
    signing = issuer.key if issuer else key
    now = datetime.now(UTC) - age * _DAY
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(giver)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 30 * _DAY)
        .not_valid_after(now + (_DAY / 2 if age == 0 else timedelta(0)))
        .add_extension(x509.BasicConstraints(ca=not hosts, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
        .add_extension(_usage(authority=not hosts), critical=True)
    )
    if hosts:
        built = built.add_extension(x509.SubjectAlternativeName([x509.DNSName(h) for h in hosts]), critical=False)
        built = built.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    if above:
        place = x509.UniformResourceIdentifier(above)
        access = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, place)
        built = built.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
    return Issued(built.sign(signing, hashes.SHA256()), key)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


class _ToLoopback(httpx.AsyncBaseTransport):
    """Connects to loopback whatever the host's name is; TLS still asks for that name."""

    def __init__(self, server: "SnsServer", trust: ssl.SSLContext) -> None:
        self._server = server
        self._inner = httpx.AsyncHTTPTransport(verify=trust)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sni_hostname"] = request.url.host
        request.url = request.url.copy_with(host="127.0.0.1", port=self._server.port)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


class SnsServer:
    """`answers[path]` is what stands at a path: octets, or a status alone."""

    def __init__(self, folder: Path) -> None:
        self.root = issue("Amazon Test Root CA", None)
        self.middle = issue("Amazon Test RSA 2048", self.root)
        self.signing_key = rsa.generate_private_key(65_537, 2048)
        self.signing = self.signing_certificate()
        self.answers: dict[str, bytes | int] = {
            PEM.removeprefix(f"https://{HOST}"): self.signing.pem + self.middle.pem,
            "/r2m01.cer": self.middle.certificate.public_bytes(serialization.Encoding.DER),
            "/": b"<ConfirmSubscriptionResponse/>",
        }
        self.asked: list[str] = []
        self.port = 0
        self.trust = ssl.create_default_context(cadata=self.root.pem.decode())
        self._folder = folder
        self._runner: web.AppRunner | None = None

    def signing_certificate(self, *hosts: str, **how: Any) -> Issued:
        """Issue a certificate for the key that signs."""
        given: dict[str, Any] = {"issuer": self.middle, "key": self.signing_key} | how
        return issue("sns.amazonaws.com", given.pop("issuer"), *(hosts or ("sns.amazonaws.com",)), **given)

    def client(self, trust: ssl.SSLContext | None = None) -> httpx.AsyncClient:
        """Return a client that takes this server for Amazon's, if it trusts its authority."""
        return httpx.AsyncClient(transport=_ToLoopback(self, trust or self.trust), follow_redirects=True, timeout=5.0)

    async def start(self) -> None:
        """Listen on a free port of loopback."""
        own = issue("sns", self.middle, HOST, "crt.r2m01.amazontrust.com")
        chain, key = self._folder / "sns.pem", self._folder / "sns.key"
        chain.write_bytes(own.pem + self.middle.pem)
        form = serialization.PrivateFormat.PKCS8
        key.write_bytes(own.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Hang up."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path_qs)
        found = self.answers.get(request.path, 404)
        if isinstance(found, int):
            where = {"Location": "/elsewhere.pem"} if 300 <= found < 400 else {}
            return web.Response(status=found, headers=where)
        return web.Response(body=found)

    def notice(
        self, message: str, topic: str, type_: str = "Notification", *, version: str = "2", **more: Any
    ) -> dict[str, Any]:
        """Return a signed notice of SNS; `more` is put in before it is signed."""
        made: dict[str, Any] = {
            "Type": type_,
            "MessageId": str(uuid.uuid4()),
            "TopicArn": topic,
            "Message": message,
            "Timestamp": "2026-11-25T12:00:01.675Z",
            "SignatureVersion": version,
            "SigningCertURL": PEM,
        }
        if type_ == "Notification":
            made["UnsubscribeURL"] = f"https://{HOST}/?Action=Unsubscribe&SubscriptionArn={topic}:1"
        else:
            made["Token"] = "2336412f37fb687f5d51e6e2425dacbbffff"
            made["SubscribeURL"] = f"https://{HOST}/?Action=ConfirmSubscription&TopicArn={topic}&Token=2336"
        return self.sign(made | more)

    def sign(self, notice: dict[str, Any]) -> dict[str, Any]:
        """Return the notice, signed as Amazon documents it."""
        confirming = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
        telling = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
        names = telling if notice["Type"] == "Notification" else confirming
        said = "".join(f"{name}\n{notice[name]}\n" for name in names if name in notice).encode()
        made_by = hashes.SHA1() if notice["SignatureVersion"] == "1" else hashes.SHA256()
        signed = self.signing_key.sign(said, padding.PKCS1v15(), made_by)
        return notice | {"Signature": base64.b64encode(signed).decode()}
