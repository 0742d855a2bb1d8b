"""One HTTP/1.1 request out of a worker thread, held back by the claim: for libraries that block.

Connection and TLS stand, and the whole request is written down, before the claim is asked; its first octet leaves
directly after the yes. An exchange sends at most once, and says for sure whether anything may have left.
"""

import asyncio
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.sending import Stage

CONNECT_S = 10.0
ANSWER_S = 60.0
CLAIM_S = 60.0
"""A claim without an answer for so long is a no; the hands give up after 20 s."""
IDLE_S = 5.0
"""Short: a server that closes an idle connection in the moment of the next request makes an Unknown."""

FAILURES = (OSError, http.client.HTTPException, ValueError)
"""What networks and servers do to an exchange; ValueError is a request or an answer outside the grammar."""


class ClaimRefused(Exception):
    """The claim said no: nothing left."""


class Gate:
    """Holds a thread before its request until the claim, asked on the event loop, has an answer: the first counts."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.reached = asyncio.Event()
        self._loop = loop
        self._settled = threading.Event()
        self._lock = threading.Lock()
        self._yes = False

    def stand(self) -> bool:
        """Called by the thread: say that it stands here, and return the answer."""
        try:
            self._loop.call_soon_threadsafe(self.reached.set)
        except RuntimeError:
            return self.settle(yes=False)  # the loop is closed: nobody is left to ask
        self._settled.wait(CLAIM_S)
        return self.settle(yes=False)

    def settle(self, *, yes: bool) -> bool:
        """Answer the thread, unless that was done before; return the word that counts."""
        with self._lock:
            if not self._settled.is_set():
                self._yes = yes
                self._settled.set()
            return self._yes


@dataclass(frozen=True)
class Origin:
    """Where requests go; `tls` is None for plain HTTP."""

    host: str
    port: int
    tls: ssl.SSLContext | None

    @property
    def authority(self) -> str:
        """What the Host header says (RFC 9110 7.2): without the scheme's own port."""
        return self.host if self.port == (80 if self.tls is None else 443) else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Answer:
    """A whole answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """One connection to an origin. Any thread may break it off; all else is the business of the thread that has it."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self._socket: socket.socket | None = None
        self._http = http.client.HTTPConnection(origin.host, origin.port)
        self._http.auto_open = 0  # it would connect anew, behind the claim
        self.idle_since = 0.0

    def open(self, exchange: "Exchange") -> None:
        """Connect and, where the origin has it, do the TLS handshake. Raises OSError."""
        self._socket = socket.create_connection((self.origin.host, self.origin.port), CONNECT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # head and body are two writes
        if self.origin.tls is not None:
            exchange.stage = "tls"
            secured = self.origin.tls.wrap_socket(
                self._socket, server_hostname=self.origin.host, do_handshake_on_connect=False
            )
            self._socket = secured
            secured.do_handshake()
        self._http.sock = self._socket

    def alive(self) -> bool:
        """Whether the server neither hung up nor said anything unasked."""
        if self._socket is None or self._http.sock is None:
            return False
        self._socket.settimeout(0)
        try:
            self._socket.recv(1)  # a look is not enough: TLS 1.3 sends tickets unasked
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        return False

    def prepare(self, method: str, target: str, headers: Mapping[str, str]) -> None:
        """Write the head down; nothing leaves. Raises ValueError for what no head may hold."""
        self._http.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        self._http.putheader("Host", self.origin.authority)
        for name, value in headers.items():
            self._http.putheader(name, value)

    def request(self, body: bytes, answer_s: float) -> tuple[Answer, bool]:
        """Send what was prepared; return the answer and whether the connection can be used again."""
        assert self._socket is not None
        self._socket.settimeout(answer_s)
        self._http.endheaders(body)
        response = self._http.getresponse()
        answer = Answer(
            response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        )
        return answer, not response.will_close

    def break_off(self) -> None:
        """Make whoever waits for the server stop waiting."""
        if self._socket is not None:
            try:
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # an SSL socket's own would touch its state
            except OSError:
                return  # it is broken off already

    def close(self) -> None:
        """Hang up."""
        self._http.close()
        if self._socket is not None:
            self._socket.close()


class Connections:
    """Idle connections, by origin; threads take and put back."""

    def __init__(self) -> None:
        self._idle: dict[Origin, list[Connection]] = {}
        self._lock = threading.Lock()

    def take(self, origin: Origin) -> Connection:
        """Return a connection that is alive, else a new one that is not open yet."""
        while True:
            with self._lock:
                idle = self._idle.get(origin)
                found = idle.pop() if idle else None
            if found is None:
                return Connection(origin)
            if time.monotonic() - found.idle_since < IDLE_S and found.alive():
                return found
            found.close()

    def put_back(self, connection: Connection) -> None:
        """Keep an idle connection for the next."""
        connection.idle_since = time.monotonic()
        with self._lock:
            self._idle.setdefault(connection.origin, []).append(connection)

    def close(self) -> None:
        """Hang up all that are idle."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()


class Exchange:
    """One request and its answer; `left` is true from the moment that an octet of the request may be on its way."""

    def __init__(self, gate: Gate | None, answer_s: float = ANSWER_S) -> None:
        self.stage: Stage = "connect"
        self.left = False
        self.answer: Answer | None = None
        self._gate = gate
        self._answer_s = answer_s
        self._begun = False
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._reusable = False

    def run(self, connection: Connection, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send the request, once the claim says yes. Raises FAILURES and ClaimRefused; `left` tells what they mean."""
        if self._begun:
            raise http.client.CannotSendRequest("an exchange sends once: a repetition would need a claim of its own")
        self._begun = True
        with self._lock:
            self._connection = connection
        if not connection.alive():
            connection.open(self)
        self.stage = "request"
        connection.prepare(method, target, headers)
        self._pass_the_gate(connection)
        self.left = True
        self.answer, self._reusable = connection.request(body, self._answer_s)
        return self.answer

    def _pass_the_gate(self, connection: Connection) -> None:
        self.stage = "claim"
        if self._gate is not None and not self._gate.stand():
            raise ClaimRefused("the claim was refused")
        if not connection.alive():
            raise ConnectionResetError("the server hung up before the request")

    def break_off(self) -> None:
        """Wait no longer: what was asked and not answered ends now."""
        if self._gate is not None:
            self._gate.settle(yes=False)
        with self._lock:
            if self._connection is not None:
                self._connection.break_off()

    def end(self, connections: Connections, *, understood: bool) -> None:
        """Let the connection go: to the next, when the server speaks as it should, else hang up."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is None:
            return
        if understood and self._reusable:
            connections.put_back(connection)
        else:
            connection.close()
