"""Stands before a server and counts: how many connections at once, how many bytes came out."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

ESTABLISHED = 1  # TCP_INFO's first octet, tcp(7)


@dataclass
class Turnstile:
    """What was counted."""

    port: int = 0
    open: list[asyncio.StreamWriter] = field(default_factory=list)
    most: int = 0
    in_all: int = 0
    octets: int = 0
    carried: set[asyncio.Task[None]] = field(default_factory=set)

    async def pass_on(self, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        task = asyncio.current_task()
        assert task is not None
        self.carried.add(task)
        self.in_all += 1
        self.open.append(writer)
        self.most = max(self.most, sum(map(_is_established, self.open)))
        there, back = await asyncio.open_connection("127.0.0.1", target)
        try:
            await asyncio.gather(self._carry(reader, back), self._carry(there, writer, count=True))
        finally:
            self.open.remove(writer)
            for end in (writer, back):
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()
            self.carried.discard(task)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, count: bool = False) -> None:
        with contextlib.suppress(OSError):
            while octets := await source.read(65_536):
                self.octets += len(octets) if count else 0
                sink.write(octets)
                await sink.drain()
            if sink.can_write_eof():
                sink.write_eof()


def _is_established(writer: asyncio.StreamWriter) -> bool:
    """Whether the client has not hung up, as the kernel knows it: our loop may hear of that later than of the next."""
    state: int = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state == ESTABLISHED


@contextlib.asynccontextmanager
async def turnstile(target: int) -> AsyncIterator[Turnstile]:
    """Run one before a port of this host."""
    made = Turnstile()
    async with await asyncio.start_server(lambda r, w: made.pass_on(target, r, w), "127.0.0.1", 0) as server:
        made.port = server.sockets[0].getsockname()[1]
        yield made
        await asyncio.wait_for(asyncio.gather(*made.carried), 10)
