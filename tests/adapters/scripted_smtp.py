"""An SMTP server on real sockets that behaves step by step as its script says, and remembers all it was told.

Without a script it is a good server with STARTTLS (or TLS from the first byte) and AUTH PLAIN.
"""

import asyncio
import base64
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

Step = Literal[
    "banner", "ehlo", "starttls", "handshake", "ehlo_tls", "auth", "mail", "rcpt", "data", "body", "dot", "rset"
]
Mode = Literal["starttls", "implicit", "none"]


@dataclass(frozen=True)
class Say:
    """Answer with this reply; a newline makes it a multi-line one."""

    text: str
    pause_s: float = 0.0  # between single octets: a slow server


@dataclass(frozen=True)
class Raw:
    """Answer with these octets, whatever they are."""

    octets: bytes


@dataclass(frozen=True)
class Cut:
    """Break the connection off (reset), or end it in order."""

    politely: bool = False


@dataclass(frozen=True)
class Silence:
    """Say nothing more but stay connected; a deaf server does not read on either."""

    deaf: bool = False


Behaviour = Say | Raw | Cut | Silence


@dataclass(frozen=True)
class Kept:
    """One message that the server had whole, with its final dot."""

    connection: int
    envelope_from: str
    recipients: tuple[str, ...]
    raw: bytes


class _HungUp(Exception):
    """The script ended the connection."""


@dataclass
class _Connection:
    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    secure: bool
    sender: str | None = None
    recipients: list[str] = field(default_factory=list)


class ScriptedSmtp:
    """`script[step]` is the behaviour at a step, `(step, n)` at connection n only, counted from 1."""

    def __init__(self, mode: Mode, context: ssl.SSLContext, users: dict[str, str]) -> None:
        self.script: dict[Step | tuple[Step, int], Behaviour] = {}
        self.mode = mode
        self.kept: list[Kept] = []
        self.events: list[str] = []
        self.commands: list[str] = []
        self.connections = 0
        self.ended: set[int] = set()
        self.shared_transactions = 0
        self.body_octets = 0
        self._context = context
        self._users = users
        self._open: dict[int, _Connection] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen on a free port of loopback."""
        context = self._context if self.mode == "implicit" else None
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context, limit=2**16)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close everything."""
        self.stop_listening()
        self.hang_up()
        for task in set(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stop_listening(self) -> None:
        """Refuse further connections."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def hang_up(self, last_words: bytes = b"", *, politely: bool = False) -> None:
        """Break every open connection off."""
        for connection in self._open.values():
            if last_words:
                connection.writer.write(last_words)
            if politely or last_words:
                connection.writer.close()
            else:
                connection.writer.transport.abort()

    def per_connection(self) -> list[int]:
        """Return how many mails each connection carried."""
        return [sum(kept.connection == n for kept in self.kept) for n in range(1, self.connections + 1)]

    # ── one connection ───────────────────────────────────────────────────────────────────────────

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        connection = _Connection(self.connections, reader, writer, secure=self.mode == "implicit")
        self._open[connection.number] = connection
        try:
            await self._converse(connection)
        except (_HungUp, OSError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            pass  # a broken conversation is what most scripts are about
        finally:
            del self._open[connection.number]
            self.ended.add(connection.number)
            connection.writer.close()

    async def _converse(self, c: _Connection) -> None:
        await self._act(c, "banner", "220 mx.scripted.test ESMTP")
        answers: dict[str, Callable[[_Connection, str], Awaitable[None]]] = {
            "EHLO": self._ehlo,
            "STARTTLS": self._starttls,
            "AUTH": self._auth,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "RSET": self._rset,
        }
        while line := await c.reader.readline():
            command = line.decode("ascii").rstrip("\r\n")
            verb = command.partition(" ")[0].upper()
            self.events.append(verb)
            self.commands.append(command)
            if verb in answers:
                await answers[verb](c, command)
            else:
                await self._write(c, b"500 5.5.2 what?\r\n")

    async def _ehlo(self, c: _Connection, _command: str) -> None:
        offers = ["mx.scripted.test", "SIZE 900000", "8BITMIME"]
        if self.mode == "starttls" and not c.secure:
            offers.append("STARTTLS")
        offers.append("AUTH PLAIN")
        late = self.mode == "starttls" and c.secure
        await self._act(c, "ehlo_tls" if late else "ehlo", "250 " + "\n".join(offers))

    async def _starttls(self, c: _Connection, _command: str) -> None:
        if not (await self._act(c, "starttls", "220 2.0.0 go ahead")).startswith("220"):
            return
        match self._behaviour(c, "handshake"):
            case None:
                await c.writer.start_tls(self._context)
                c.secure = True
            case Cut():
                c.writer.transport.abort()
                raise _HungUp
            case Silence(deaf):
                await self._wait_for_the_end(c, deaf)
            case Raw(octets):
                await self._write(c, octets)
            case Say():
                raise AssertionError("nothing can be said in a handshake")

    async def _auth(self, c: _Connection, command: str) -> None:
        if command.upper().startswith("AUTH XOAUTH2 "):
            await self._xoauth2(c, command)
            return
        _, user, password = base64.b64decode(command.split(" ")[2]).decode().split("\0")
        good = self._users.get(user) == password
        await self._act(c, "auth", "235 2.7.0 welcome" if good else "535 5.7.8 Error: authentication failed")

    async def _xoauth2(self, c: _Connection, command: str) -> None:
        """Google's XOAUTH2 protocol: a refusal comes as a challenge, and as 535 once that has an empty answer."""
        user, bearer, *_ = base64.b64decode(command.split(" ")[2]).decode().split("\1")
        if bearer.removeprefix("auth=Bearer ") == self._users.get(user.removeprefix("user="), ""):
            await self._act(c, "auth", "235 2.7.0 Accepted")
            return
        await self._write(c, b"334 " + base64.b64encode(b'{"status":"401"}') + b"\r\n")
        assert await c.reader.readline() == b"\r\n"
        await self._act(c, "auth", "535 5.7.8 Username and Password not accepted.")

    async def _mail(self, c: _Connection, command: str) -> None:
        if c.sender is not None:
            self.shared_transactions += 1
        if (await self._act(c, "mail", "250 2.1.0 Ok")).startswith("250"):
            c.sender = command[len("MAIL FROM:<") :].partition(">")[0]
            c.recipients = []

    async def _rcpt(self, c: _Connection, command: str) -> None:
        if (await self._act(c, "rcpt", "250 2.1.5 Ok")).startswith("25"):
            c.recipients.append(command[len("RCPT TO:<") :].partition(">")[0])

    async def _rset(self, c: _Connection, _command: str) -> None:
        c.sender, c.recipients = None, []
        await self._act(c, "rset", "250 2.0.0 Ok")

    async def _data(self, c: _Connection, _command: str) -> None:
        if not (await self._act(c, "data", "354 go ahead")).startswith("354"):
            return
        lines: list[bytes] = []
        self.body_octets = 0
        while (line := await c.reader.readline()) != b".\r\n":
            if not line.endswith(b"\r\n"):
                raise _HungUp  # the body ended without its dot: nothing is kept
            lines.append(line[1:] if line.startswith(b".") else line)
            self.body_octets += len(line)
            if len(lines) == 1:
                await self._act(c, "body", "")
        self.events.append("dot")
        behaviour = self._behaviour(c, "dot")
        if not (isinstance(behaviour, Say) and behaviour.text.startswith(("4", "5"))):
            self.kept.append(Kept(c.number, c.sender or "", tuple(c.recipients), b"".join(lines)))
        c.sender, c.recipients = None, []
        await self._act(c, "dot", f"250 2.0.0 Ok: queued as {len(self.kept):04d}AB")

    # ── the script ───────────────────────────────────────────────────────────────────────────────

    def _behaviour(self, c: _Connection, step: Step) -> Behaviour | None:
        return self.script.get((step, c.number), self.script.get(step))

    async def _act(self, c: _Connection, step: Step, usual: str) -> str:
        """Do what the script says at this step, else give the usual answer; return the reply given."""
        match self._behaviour(c, step) or (Say(usual) if usual else None):
            case Say(text, pause_s):
                await self._write(c, reply_octets(text), pause_s)
                return text
            case Raw(octets):
                await self._write(c, octets)
                return octets.decode("latin-1")
            case Cut(politely):
                if politely:
                    c.writer.close()
                else:
                    c.writer.transport.abort()
                raise _HungUp
            case Silence(deaf):
                await self._wait_for_the_end(c, deaf)
        return ""

    async def _wait_for_the_end(self, c: _Connection, deaf: bool) -> None:
        if deaf:
            await asyncio.Event().wait()
        while await c.reader.read(2**16):
            pass
        raise _HungUp

    async def _write(self, c: _Connection, octets: bytes, pause_s: float = 0.0) -> None:
        for part in [octets] if not pause_s else [octets[i : i + 1] for i in range(len(octets))]:
            c.writer.write(part)
            await c.writer.drain()
            if pause_s:
                await asyncio.sleep(pause_s)


def reply_octets(text: str) -> bytes:
    """Return a reply on the wire; every line but the last carries the code and a hyphen (RFC 5321 4.2.1)."""
    code, lines = text[:3], text[4:].split("\n")
    shown = [f"{code}-{line}" for line in lines[:-1]] + [f"{code} {lines[-1]}"]
    return "".join(f"{line}\r\n" for line in shown).encode("utf-8", "surrogateescape")
