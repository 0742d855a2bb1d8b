"""An IMAP server by RFC 3501 with one mailbox and one bad habit."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path


class ScriptedImap:
    """`messages`: UID → octets; whoever fetches one of `poison` is hung up on. `drips`: EXAMINE's answer has no end."""

    def __init__(self, messages: dict[int, bytes], poison: set[int], *, drips: bool = False) -> None:
        self.messages = messages
        self.poison = poison
        self.drips = drips
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client."""
        with contextlib.suppress(OSError, asyncio.CancelledError):
            writer.write(b"* OK IMAP4rev1 at your service\r\n")
            while line := await reader.readline():
                tag, _, said = line.decode().strip().partition(" ")
                while self.drips and said.startswith("EXAMINE") and not reader.at_eof():
                    writer.write(b"* OK wait\r\n")
                    await asyncio.sleep(0.05)  # the pace of the drops
                answer = self._answer(said.upper())
                if answer is None:
                    break
                writer.write(answer + f"{tag} OK done\r\n".encode())
                await writer.drain()
        writer.close()

    def _answer(self, said: str) -> bytes | None:
        match said.split()[:2]:
            case ["CAPABILITY", *_]:
                return b"* CAPABILITY IMAP4rev1\r\n"
            case ["EXAMINE", *_]:
                last = max(self.messages)
                return (
                    f"* {len(self.messages)} EXISTS\r\n* OK [UIDVALIDITY 9]\r\n* OK [UIDNEXT {last + 1}]\r\n".encode()
                )
            case ["UID", "SEARCH"]:
                found = re.search(r"UID (\d+):", said)
                first = int(found[1]) if found else 1
                return f"* SEARCH {' '.join(str(uid) for uid in self.messages if uid >= first)}\r\n".encode()
            case ["UID", "FETCH"]:
                most = re.search(r"<0\.(\d+)>", said)
                return self._fetched([int(uid) for uid in said.split()[2].split(",")], int(most[1]) if most else 0)
            case ["LOGOUT", *_]:
                return b"* BYE\r\n"
            case _:
                return b""

    def _fetched(self, uids: list[int], most: int) -> bytes | None:
        if self.poison & set(uids):
            return None
        found = b""
        for number, uid in enumerate(uids, 1):
            raw = self.messages[uid][: most or None]
            head = f'* {number} FETCH (UID {uid} INTERNALDATE "02-Mar-2026 09:00:00 +0000" BODY[]<0> {{{len(raw)}}}\r\n'
            found += head.encode() + raw + b")\r\n"
        return found


@contextlib.asynccontextmanager
async def running(server: ScriptedImap, certificate: Path, key: Path) -> AsyncIterator[ScriptedImap]:
    """Run it over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context) as listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server
