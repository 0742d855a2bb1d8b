"""Stands before a server and counts: how many connections at once, how many bytes came out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass
class Turnstile:
    """What was counted."""

    port: int = 0
    now: int = 0
    most: int = 0
    in_all: int = 0
    octets: int = 0
    carried: set[asyncio.Task[None]] = field(default_factory=set)

    async def pass_on(self, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        task = asyncio.current_task()
        assert task is not None
        self.carried.add(task)
        self.now, self.in_all = self.now + 1, self.in_all + 1
        self.most = max(self.most, self.now)
        there, back = await asyncio.open_connection("127.0.0.1", target)
        try:
            await asyncio.gather(self._carry(reader, back), self._carry(there, writer, count=True))
        finally:
            self.now -= 1
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


@contextlib.asynccontextmanager
async def turnstile(target: int) -> AsyncIterator[Turnstile]:
    """Run one before a port of this host."""
    made = Turnstile()
    async with await asyncio.start_server(lambda r, w: made.pass_on(target, r, w), "127.0.0.1", 0) as server:
        made.port = server.sockets[0].getsockname()[1]
        yield made
        await asyncio.wait_for(asyncio.gather(*made.carried), 10)
