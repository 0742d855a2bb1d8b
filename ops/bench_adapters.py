"""What the ways out cost on this machine: mails a second through each adapter, to a server that only says yes."""

import asyncio
import multiprocessing
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from adapters.interface import Mail, MailAdapter
from adapters.mail.mailgun import MailgunAdapter
from adapters.mail.ses import SesAdapter
from adapters.mail.smtp import SmtpAdapter
from adapters.secrets import Secrets
from ops.embedded.postfix import EmbeddedPostfix
from schemas.ids import RouteId
from schemas.sending import Accepted, RouteCall

AT_ONCE = 32
SMTP_AT_ONCE = 16  # ops/postfix/master.cf lets 20 in on port 25
TOKEN = "abcdefghijklmnopqrstuvwxyz234567abcdefg"
RAW = (
    b"From: bob@firm.test\r\nTo: anna@customer.test\r\nSubject: Hello\r\n\r\n"
    + b"Hello Anna, a line of the text.\r\n" * 100
)


def mailgun_rate(seconds: float) -> float:
    """Return the mails a second that messages.mime takes, over kept connections of plain HTTP.

    TLS costs one handshake a connection on top; what Mailgun itself needs for an answer is left out.
    """
    with _saying_yes(b'{"id": "<1@firm.test>", "message": "Queued. Thank you."}') as port, TemporaryDirectory() as name:
        key = Path(name) / "key"
        key.touch(0o600)
        key.write_text("key-of-the-bench")
        options = {"domain": "firm.test", "base_url": f"http://127.0.0.1:{port}"}
        call = RouteCall(RouteId("bench"), "mailgun", secret_ref="file:key", options=options)
        return asyncio.run(_mails(MailgunAdapter(Secrets(Path(name))), call, seconds)) / seconds


def ses_rate(seconds: float) -> float:
    """Return the mails a second that SendEmail takes, signed, over kept connections of plain HTTP.

    TLS costs one handshake a connection on top; what SES itself needs for an answer is left out.
    """
    with _saying_yes(b'{"MessageId":"0102-ses-000000"}') as port, TemporaryDirectory() as name:
        keys = Path(name) / "keys"
        keys.touch(0o600)
        keys.write_text("AKIAEXAMPLE:secret")
        options = {"region": "eu-west-1", "endpoint_url": f"http://127.0.0.1:{port}", "configuration_set": "fleet"}
        call = RouteCall(RouteId("bench"), "ses", secret_ref="file:keys", options=options)
        return asyncio.run(_mails(SesAdapter(Secrets(Path(name))), call, seconds)) / seconds


@dataclass(frozen=True)
class SmtpRate:
    """Mails a second into one Postfix, the medians of rounds: through the adapter, and from Postfix's own generator."""

    adapter: float
    smtp_source: float
    ratio: float
    """The median of the rounds' own ratios: neighbours on the machine slow both halves of a round."""


def smtp_rate(seconds: float, rounds: int = 5) -> SmtpRate:
    """Return the mails a second that a Postfix on this machine takes, plainly, over kept connections.

    Both get the same number of connections and mails of the same size, in turns, once Postfix's processes run; what
    Postfix takes it throws away. It and the clients share the processors. TLS and AUTH cost once a connection.
    Raises CannotStart (Postfix needs root).
    """
    settings = {"transport_maps": "static:discard:", "smtpd_relay_restrictions": "permit_mynetworks, reject"}
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)  # Postfix's own user goes through it
        postfix = EmbeddedPostfix(Path(name) / "mta", settings)
        postfix.start()
        try:
            port = postfix.ports["smtp"]
            _smtp_source(port, 10 * SMTP_AT_ONCE)
            return _median([_round(port, Path(name), seconds / rounds) for _round_no in range(rounds)])
        finally:
            postfix.stop()


def _round(port: int, home: Path, seconds: float) -> tuple[float, float]:
    call = RouteCall(RouteId("bench"), "smtp", host="127.0.0.1", port=port, tls="none")
    began = time.monotonic()
    taken = asyncio.run(_mails(SmtpAdapter(Secrets(home)), call, seconds, SMTP_AT_ONCE))
    ours = taken / (time.monotonic() - began)
    return ours, _smtp_source(port, max(taken, SMTP_AT_ONCE))


def _median(rounds: list[tuple[float, float]]) -> SmtpRate:
    ours, theirs = zip(*rounds, strict=True)
    return SmtpRate(median(ours), median(theirs), median(mine / other for mine, other in rounds))


def _smtp_source(port: int, mails: int) -> float:
    sizes = ["-s", str(SMTP_AT_ONCE), "-m", str(mails), "-l", str(len(RAW))]
    ends = ["-f", "bob@firm.test", "-t", "anna@customer.test", f"127.0.0.1:{port}"]
    began = time.monotonic()
    subprocess.run(["smtp-source", "-d", *sizes, *ends], check=True, capture_output=True)
    return mails / (time.monotonic() - began)


async def _mails(adapter: MailAdapter, call: RouteCall, seconds: float, at_once: int = AT_ONCE) -> int:
    """Return how many mails the adapter hands over in this time."""
    mail = Mail("bob@firm.test", "anna@customer.test", RAW, TOKEN)
    end = time.monotonic() + seconds

    async def yes() -> bool:
        return True

    async def one_after_the_other() -> int:
        taken = 0
        while time.monotonic() < end:
            outcome = await adapter.submit(call, mail, yes)
            if not isinstance(outcome, Accepted):
                raise RuntimeError(f"the bench's own server gave {outcome}")
            taken += 1
        return taken

    taken = await asyncio.gather(*(one_after_the_other() for _lane in range(at_once)))
    await adapter.close()
    return sum(taken)


# ── a server that says yes, in a process of its own ──────────────────────────────────────────────


@contextmanager
def _saying_yes(body: bytes) -> Iterator[int]:
    """Yield the port of a server that answers every request with 200 and this body."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(body, theirs), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()
        ours.close()
        theirs.close()


def _serve(body: bytes, port: Connection) -> None:
    asyncio.run(_say_yes(body, port))


async def _say_yes(body: bytes, port: Connection) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                writer.write(answer)
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()
