"""Measures how many mails a second an adapter alone hands over: claims say yes at once, and so does the server.

The server runs in a process of its own, with TLS, and keeps nothing: what is measured is the adapter's work.
"""

import asyncio
import multiprocessing
import ssl
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from adapters.interface import Mail, MailAdapter
from adapters.mail.mailgun import MailgunAdapter
from adapters.secrets import Secrets
from ops.receiver import make_certificate
from schemas.ids import RouteId
from schemas.sending import Accepted, RouteCall

LANES = 20
TOKEN = "abcdefghijklmnopqrstuvwxyz234567abcdefg"
RAW = (
    b"From: Bob <bob@firm.test>\r\nTo: anna@customer.test\r\nSubject: Hello\r\n"
    b"Message-ID: <" + TOKEN.encode() + b"@firm.test>\r\n\r\n" + b"A line of a mail of the usual length.\r\n" * 60
)
MAIL = Mail("bob@firm.test", "anna@customer.test", RAW, TOKEN)
MAILGUN_YES = b'{"id": "<1@firm.test>", "message": "Queued. Thank you."}'


def mailgun_rate(seconds: float) -> float:
    """Return the mails a second that the Mailgun adapter hands over in 20 lanes."""
    with tempfile.TemporaryDirectory(prefix="mailfleet-bench-") as name:
        folder = Path(name)
        (folder / "key").touch(mode=0o600)
        (folder / "key").write_text("key-of-the-bench")
        certificate, _key = make_certificate(folder)
        here, there = multiprocessing.Pipe()
        server = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, name, MAILGUN_YES))
        server.start()
        try:
            if not here.poll(30):
                raise RuntimeError("the bench's server did not start; look at its error above")
            call = RouteCall(
                RouteId("bench"),
                "mailgun",
                secret_ref="file:key",
                ca_file_ref=f"file:{certificate.name}",
                options={"domain": "firm.test", "base_url": f"https://127.0.0.1:{here.recv()}"},
            )
            return asyncio.run(_rate(MailgunAdapter(Secrets(folder)), call, seconds))
        finally:
            server.terminate()
            server.join()
            here.close()
            there.close()


async def _rate(adapter: MailAdapter, call: RouteCall, seconds: float) -> float:
    """Submit in all lanes for so many seconds; a mail that is not accepted ends the measuring."""
    began = time.perf_counter()

    async def yes() -> bool:
        return True

    async def lane() -> int:
        done = 0
        while time.perf_counter() - began < seconds:
            outcome = await adapter.submit(call, MAIL, yes)
            if not isinstance(outcome, Accepted):
                raise RuntimeError(f"a mail of the bench was not accepted: {outcome}")
            done += 1
        return done

    try:
        done = sum(await asyncio.gather(*(lane() for _ in range(LANES))))
    finally:
        await adapter.close()
    return done / (time.perf_counter() - began)


def _serve(told: Connection, folder: str, body: bytes) -> None:
    """Answer each HTTP request with 200 and `body`, until terminated; tell the port."""
    asyncio.run(_answer_all(told, Path(folder), body))


async def _answer_all(told: Connection, folder: Path, body: bytes) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_certificate(folder))
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = head.encode() + body

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                headers = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = headers.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length or b"0"))
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            writer.close()  # the adapter has hung up

    server = await asyncio.start_server(meet, "127.0.0.1", 0, ssl=context)
    told.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()
