"""A receiving mail server for demo and tests: real SMTP on loopback with TLS and AUTH.

How it answers follows from the recipient's local part: `nouser…` gets 550 5.1.1, `grey…` gets 451 4.7.1
the first time. What it accepts stands in `received.jsonl`, one line a copy, written before the 250.
"""

import asyncio
import datetime
import hashlib
import os
import signal
import ssl
import sys
import threading
import time
from email import message_from_bytes
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import orjson
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PASSWORD = "loopback-only"  # the receiver's users exist nowhere else


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 and localhost; return (certificate, key)."""
    crt, key_file = folder / "receiver-ca.pem", folder / "receiver.key"
    if crt.exists() and key_file.exists():
        return crt, key_file
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    key_file.chmod(0o600)
    crt.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return crt, key_file


class Handler:
    """Answers RCPT by the local part and keeps what it accepts."""

    def __init__(self, kept: Path, dot_delay_s: float) -> None:
        self._kept = kept
        self._writing = threading.Lock()
        self._greeted: set[str] = set()
        self._dot_delay_s = dot_delay_s

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, _options: Any) -> str:
        """Answer RCPT TO."""
        local = address.partition("@")[0]
        if local.startswith("nouser"):
            return f"550 5.1.1 <{address}>: Recipient address rejected: User unknown in virtual mailbox table"
        if local.startswith("grey") and address not in self._greeted:
            self._greeted.add(address)
            return "451 4.7.1 Greylisting in action, please come back later"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Keep the message, then say so."""
        raw = bytes(envelope.content)
        message = message_from_bytes(raw)
        line = {
            "message_id": message["Message-ID"],
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "at": time.time(),
            "size": len(raw),
            "sha256": hashlib.sha256(raw).hexdigest(),
        }
        with self._writing, self._kept.open("ab") as out:
            out.write(orjson.dumps(line) + b"\n")
            out.flush()
            os.fsync(out.fileno())
        await asyncio.sleep(self._dot_delay_s)
        return f"250 2.0.0 Ok: queued as {line['sha256'][:12]}"


def _authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
    good = isinstance(data, LoginPassword) and data.password == PASSWORD.encode()
    return AuthResult(success=good, handled=good)


def controller(folder: Path, port: int, dot_delay_s: float = 0.0) -> Controller:
    """Return the server, not yet started; it answers the final dot so many seconds after it kept the mail."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = make_certificate(folder)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return Controller(
        Handler(folder / "received.jsonl", dot_delay_s),
        hostname="127.0.0.1",
        port=port,
        server_hostname="mx.receiver.test",
        tls_context=context,
        require_starttls=True,
        auth_required=True,
        auth_require_tls=True,
        authenticator=_authenticate,
    )


def copies(folder: Path) -> dict[str, int]:
    """Return how many copies of each Message-ID were accepted."""
    found: dict[str, int] = {}
    path = folder / "received.jsonl"
    if path.exists():
        for line in path.read_bytes().splitlines():
            message_id = orjson.loads(line)["message_id"]
            found[message_id] = found.get(message_id, 0) + 1
    return found


def main() -> int:
    """Run until SIGTERM: `python -m ops.receiver FOLDER PORT [DOT_DELAY_S]`."""
    delay = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    server = controller(Path(sys.argv[1]), int(sys.argv[2]), delay)
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    server.start()
    done.wait()
    server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
