"""An HTTP server for the open net: one request a connection, bounded in size, time and number, and silent about itself.

aiohttp does the protocol. A client that is slow with its head is hung up on, one that is slow with its body or with
reading the answer too.
"""

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from schemas.metrics import DOOR_REFUSED

log = logging.getLogger(__name__)

NAME = "mailfleet"
MAX_LINE = 4_096
MAX_HEADERS = 64
_nobody = logging.Logger("aiohttp of the door", logging.CRITICAL + 1)
"""aiohttp logs what it cannot parse, with the client's address and what was sent."""


@dataclass(frozen=True)
class Bounds:
    """What a client may take: seconds for its head, its body, all of it; octets of body; connections together."""

    head_s: float = 10.0
    body_s: float = 20.0
    whole_s: float = 60.0
    octets: int = 1_048_576
    connections: int = 256


@dataclass(frozen=True)
class Asked:
    """One request, whole."""

    method: str
    path: str
    query: str
    content_type: str
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What is answered."""

    status: int
    body: str = ""
    content_type: str = "text/plain"
    headers: tuple[tuple[str, str], ...] = ()


class _Refused(Exception):
    """The request is not heard; why is counted."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class _Connection(RequestHandler):
    """aiohttp's, without the words it has for errors."""

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what could not be parsed, or failed here, in no words at all."""
        DOOR_REFUSED.labels("not_http" if status == 400 else "failed").inc()
        if status >= 500 and exc is not None:  # its text may hold what was posted
            where = traceback.extract_tb(exc.__traceback__)[-1:]
            log.error("a request ended in %s at %s", type(exc).__name__, [f"{f.filename}:{f.lineno}" for f in where])
        return _response(Answer(status))


class _Server(web.Server):
    """aiohttp's, with a bound on connections and on the life of each."""

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], bounds: Bounds) -> None:
        super().__init__(handler)
        self._bounds = bounds
        self._lives: dict[RequestHandler, asyncio.TimerHandle] = {}

    def __call__(self) -> RequestHandler:
        """Return the protocol of a new connection."""
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=self._bounds.head_s,  # counts from the connection's beginning, too
            access_log=None,  # type: ignore[arg-type]  # None is documented: an access log would hold addresses
            logger=_nobody,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_HEADERS,
            lingering_time=0.0,
            auto_decompress=False,  # a few octets would become gigabytes
        )

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Take a connection, or hang up when there are too many."""
        super().connection_made(handler, transport)
        self._lives[handler] = asyncio.get_running_loop().call_later(self._bounds.whole_s, transport.abort)
        if len(self._lives) > self._bounds.connections:
            DOOR_REFUSED.labels("too_many").inc()
            transport.abort()

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Forget a connection."""
        super().connection_lost(handler, exc)
        life = self._lives.pop(handler, None)
        if life is not None:
            life.cancel()


class DoorServer:
    """Listens until it is closed; `handle` is given whole requests and must raise nothing."""

    def __init__(self, handle: Callable[[Asked], Awaitable[Answer]], bounds: Bounds) -> None:
        self._handle = handle
        self._bounds = bounds
        self._http: _Server | None = None
        self._listening: asyncio.Server | None = None
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        self._http = _Server(self._answer, self._bounds)
        backlog = min(self._bounds.connections, 128)
        self._listening = await asyncio.get_running_loop().create_server(self._http, host, port, backlog=backlog)
        self.port = self._listening.sockets[0].getsockname()[1]

    async def close(self, patience_s: float = 12.0) -> None:
        """Listen no more; what is being answered is answered first."""
        if self._listening is not None and self._http is not None:
            self._listening.close()
            self._http.pre_shutdown()
            await self._http.shutdown(patience_s)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            asked = Asked(request.method, request.path, request.query_string, *await self._content(request))
        except _Refused as refused:
            DOOR_REFUSED.labels(refused.why).inc()
            return _response(Answer(refused.status))
        return _response(await self._handle(asked))

    async def _content(self, request: web.BaseRequest) -> tuple[str, bytes]:
        """Return the content's type and the content. Raises _Refused."""
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise _Refused(415, "encoded")
        if (request.content_length or 0) > self._bounds.octets:
            raise _Refused(413, "too_large")
        body = bytearray()
        try:
            async with asyncio.timeout(self._bounds.body_s):
                async for piece in request.content.iter_any():
                    body += piece
                    if len(body) > self._bounds.octets:
                        raise _Refused(413, "too_large")
        except TimeoutError:
            raise _Refused(408, "too_slow") from None
        except (web.RequestPayloadError, OSError):
            raise _Refused(400, "cut") from None
        return request.headers.get("Content-Type", ""), bytes(body)


def _response(answer: Answer) -> web.Response:
    headers: dict[str, Any] = {"Server": NAME, **dict(answer.headers)}
    made = web.Response(status=answer.status, text=answer.body, content_type=answer.content_type, headers=headers)
    made.force_close()
    return made
