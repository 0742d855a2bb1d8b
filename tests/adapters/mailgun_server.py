"""Mailgun's API on real sockets: messages.mime, the Logs API and a domain's state, and faults by script.

Written to Mailgun's OpenAPI 3.0.0 and the error texts that public code and help pages quote (2026-11).
Without a script it is a good server, which says no to what Mailgun says no to.
"""

import asyncio
import base64
import json
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.utils import format_datetime, parseaddr, parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import parse_qsl

from tests.adapters.scripted_smtp import Cut, Raw, Silence

Step = Literal["handshake", "headers", "body", "verdict", "answer"]
"""TLS · the request's headers are read · a part of its body is · instead of processing it · after processing it."""

MOST_OCTETS = 25 * 1024 * 1024
MOST_OPTIONS = 16 * 1024
MOST_RECIPIENTS = 1000
YES_OR_NO = ("yes", "no", "true", "false")
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "o:tracking": (*YES_OR_NO, "htmlonly"),
    "o:tracking-clicks": (*YES_OR_NO, "htmlonly"),
    "o:tracking-opens": YES_OR_NO,
    "o:dkim": YES_OR_NO,
    "o:require-tls": YES_OR_NO,
    "o:skip-verification": YES_OR_NO,
    "o:testmode": ("yes", "true"),
}
FREE_OPTIONS = ("o:tag", "o:deliverytime", "o:deliver-within", "o:sending-ip", "o:sending-ip-pool")
LOG_EVENTS = (
    "accepted",
    "delivered",
    "failed",
    "rejected",
    "opened",
    "clicked",
    "unsubscribed",
    "complained",
    "stored",
)
LOG_ATTRIBUTES = ("domain", "recipient", "message_id", "tag", "subaccount")
_ADDRESS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_DISPOSITION = re.compile(rb'form-data; *name="([^"]*)"(?:; *filename="([^"]*)")?', re.IGNORECASE)


@dataclass(frozen=True)
class Answer:
    """An answer in place of the server's own; a text is JSON with the key `message`, octets go as they are."""

    status: int
    body: str | bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    pause_s: float = 0.0  # before the answer


@dataclass(frozen=True)
class Drip:
    """Answer for ever, an octet at a time."""

    pause_s: float = 0.02


Behaviour = Answer | Raw | Cut | Silence | Drip


@dataclass(frozen=True)
class Kept:
    """One message that was queued."""

    sender: str  # of its From header: the envelope's is Mailgun's own
    recipients: tuple[str, ...]
    raw: bytes
    fields: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class _Part:
    name: str
    filename: str | None
    value: bytes


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class _HungUp(Exception):
    """The script ended the connection."""


class _No(Exception):
    """The request is refused."""

    def __init__(self, status: int, body: str | bytes) -> None:
        super().__init__(body)
        self.answer = Answer(status, body)


class MailgunServer:
    """`script[step]` is the behaviour at a step. `domains` are the account's, by name."""

    def __init__(self, context: ssl.SSLContext | None, key: str, domain: str) -> None:
        self.script: dict[Step, Behaviour] = {}
        self.key = key
        self.domains: dict[str, dict[str, Any]] = {domain: domain_of(domain)}
        self.unsubscribe_tracking = False
        self.own_message_ids = False  # whether it gives each message an id of its own
        self.late_events = 0  # so many of the last log entries are not to be seen yet
        self.kept: list[Kept] = []
        self.log: list[dict[str, Any]] = []
        self.lists: dict[str, list[dict[str, Any]]] = {}  # bounces, complaints, unsubscribes: their items
        self.told: list[str] = []  # "METHOD path" of each request whose first line came
        self.connections = 0  # that stand, TLS included
        self.met = 0  # that ever stood
        self.body_octets = 0
        self.port = 0
        self._context = context
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen on a free port of loopback."""
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop_listening(self) -> None:
        """Nobody is there any more for new connections."""
        if self._server is not None:
            self._server.close()

    def hang_up(self) -> None:
        """Reset all connections."""
        for writer in self._writers:
            writer.transport.abort()

    def end(self) -> None:
        """End all connections in order."""
        for writer in self._writers:
            writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    async def stop(self) -> None:
        """End everything."""
        self.stop_listening()
        self.hang_up()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # ── connections ──────────────────────────────────────────────────────────────────────────────

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        try:
            await self._serve(reader, writer)
        except (_HungUp, OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the other side, the script or `stop` ended it, which is this server's trade
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._context is not None:
            await self._behave("handshake", writer)
            await writer.start_tls(self._context)
        self.connections += 1
        self.met += 1
        try:
            while await self._exchange(reader, writer):
                pass
        finally:
            self.connections -= 1

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Take one request and answer it; False when the client has hung up."""
        line = await reader.readline()
        if not line:
            return False
        method, path, _version = line.decode("ascii").split(" ", 2)
        self.told.append(f"{method} {path}")
        headers: dict[str, str] = {}
        while (row := (await reader.readline()).decode("latin-1").strip()) != "":
            name, _, value = row.partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", "0"))
        if early := await self._behave("headers", writer):
            writer.write(_octets(early))
            await reader.readexactly(length)
            return True
        body = await reader.read(min(length, 1024))
        await self._behave("body", writer)
        body += await reader.readexactly(length - len(body))
        self.body_octets += len(body)
        request = _Request(method, path, headers, body)
        own = await self._behave("verdict", writer)
        answer = own or self._answer(request)
        if own is None:
            answer = await self._behave("answer", writer) or answer
        await asyncio.sleep(answer.pause_s)
        writer.write(_octets(answer))
        await writer.drain()
        return True

    async def _behave(self, step: Step, writer: asyncio.StreamWriter) -> Answer | None:
        """Do what the script says; return the answer that it gives, None for going on."""
        match self.script.get(step):
            case None:
                return None
            case Answer() as answer:
                return answer
            case Raw(octets):
                writer.write(octets)
                await writer.drain()
                await asyncio.Event().wait()
            case Drip(pause_s):
                writer.write(b"HTTP/1.1 200 OK\r\nX: ")
                while True:
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(pause_s)
            case Cut(politely=True):
                writer.close()
                await writer.wait_closed()
            case Cut():
                writer.transport.abort()
            case Silence():
                await asyncio.Event().wait()
        raise _HungUp

    # ── the API ──────────────────────────────────────────────────────────────────────────────────

    def _answer(self, request: _Request) -> Answer:
        try:
            return self._routed(request)
        except _No as no:
            return no.answer

    def _routed(self, request: _Request) -> Answer:
        path = request.path.partition("?")[0].strip("/").split("/")
        match (request.method, *path):
            case ("POST", "v3", domain, "messages.mime"):
                return self._send(request, domain)
            case ("POST", "v1", "analytics", "logs"):
                self._authorise(request, b"Forbidden")
                return self._logs(request)
            case ("GET", "v3", domain, ("bounces" | "complaints" | "unsubscribes") as name):
                self._authorise(request, b"Forbidden")
                self._domain(domain)
                return self._list(request, domain, name)
            case ("GET", "v4", "domains", name):
                self._authorise(request, "Invalid private key")
                return _json(200, self._domain(name))
            case ("GET", "v3", "domains", name, "tracking"):
                self._authorise(request, "Invalid private key")
                self._domain(name)
                return _json(200, {"tracking": self._tracking()})
            case _:
                return Answer(404, b"404 page not found")

    def _authorise(self, request: _Request, words: str | bytes) -> None:
        expected = "Basic " + base64.b64encode(f"api:{self.key}".encode()).decode()
        if request.headers.get("authorization") != expected:
            raise _No(401, words)

    def _domain(self, name: str) -> dict[str, Any]:
        if name not in self.domains:
            raise _No(404, "Domain not found")
        return self.domains[name]

    def _tracking(self) -> dict[str, Any]:
        return {
            "click": {"active": False},
            "open": {"active": False},
            "unsubscribe": {"active": self.unsubscribe_tracking, "html_footer": "\n", "text_footer": "\n"},
        }

    def _send(self, request: _Request, domain: str) -> Answer:
        self._authorise(request, b"Forbidden")
        if domain not in self.domains:
            raise _No(404, f"Domain not found: {domain}")
        self._may_send(domain)
        if len(request.body) > MOST_OCTETS:
            raise _No(413, "Request Entity Too Large")
        parts = _parts(request)
        fields = _fields(parts)
        recipients = _recipients(fields)
        raw = _message(parts)
        message = message_from_bytes(raw)
        sender = parseaddr(message["From"] or "")[1]
        if not sender:
            raise _No(400, "from parameter is missing")
        self.kept.append(Kept(sender, recipients, raw, fields))
        message_id = (message["Message-ID"] or "").strip("<> ")
        if self.own_message_ids or not message_id:
            message_id = f"20261125120000.{len(self.kept):016x}@{domain}"
        for recipient in recipients:
            self.record("accepted", domain, recipient, message_id, fields)
        return _json(200, {"id": f"<{message_id}>", "message": "Queued. Thank you."})

    def _may_send(self, domain: str) -> None:
        state = self.domains[domain]["domain"]
        if "disabled" in state:
            raise _No(403, f"Domain {domain} is not allowed to send: {state['disabled']['reason']}")
        if state["state"] != "active":
            raise _No(
                400,
                f"Domain {domain} is not allowed to send: The domain is unverified and requires DNS configuration. "
                "Log in to your control panel to view required DNS records.",
            )

    # ── the log ──────────────────────────────────────────────────────────────────────────────────

    def record(
        self,
        event: str,
        domain: str,
        recipient: str,
        message_id: str,
        fields: Mapping[str, tuple[str, ...]],
        at: datetime | None = None,
        **more: Any,
    ) -> None:
        """Write a log entry, shaped as the Logs API's; `more` adds to it, "_" for "-" in names."""
        variables = {name[2:]: values[0] for name, values in fields.items() if name.startswith("v:")}
        self.log.append(
            {
                "id": f"JDhSWf9mT5OFxCkZfp{len(self.log):04d}",
                "event": event,
                "@timestamp": (at or datetime.now(UTC)).isoformat(timespec="milliseconds"),
                "account": {"id": "12345"},
                "domain": {"name": domain},
                "recipient": recipient,
                "recipient-domain": recipient.rpartition("@")[2],
                "recipient-provider": "Other",
                "log-level": "info",
                "message": {"headers": {"message-id": message_id}, "size": 512},
                "user-variables": variables,
                "flags": {"is-test-mode": "o:testmode" in fields},
                "tags": [],
            }
            | {name.replace("_", "-"): value for name, value in more.items()}
        )

    def _list(self, request: _Request, domain: str, name: str) -> Answer:
        """A suppression list, by the page; the last page is an empty one, as the real one's is."""
        query = dict(parse_qsl(request.path.partition("?")[2]))
        limit, skip = int(query.get("limit", "100")), int(query.get("skip", "0"))
        if not 1 <= limit <= 1000:
            raise _No(400, "limit must be within 1-1000")
        found = self.lists.get(name, [])[skip : skip + limit]
        base = f"{'http' if self._context is None else 'https'}://{request.headers['host']}/v3/{domain}/{name}"
        pages = {"first": f"{base}?limit={limit}", "next": f"{base}?page=next&limit={limit}&skip={skip + limit}"}
        return _json(200, {"items": found, "paging": pages | {"previous": "", "last": f"{base}?page=last"}})

    def _logs(self, request: _Request) -> Answer:
        try:
            asked = json.loads(request.body)
            now = datetime.now(UTC)
            start = _time(asked["start"]) if "start" in asked else now - timedelta(days=1)
            end = _time(asked["end"]) if "end" in asked else now
            page = asked.get("pagination", {})
            limit = int(page.get("limit", 10))
            skip = int(base64.b64decode(page["token"]).decode()) if page.get("token") else 0
            predicates = asked.get("filter", {}).get("AND", [])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _No(400, f"invalid request: {error}") from error
        if request.headers.get("content-type") != "application/json" or not 1 <= limit <= 100:
            raise _No(400, "limit must be within 1-100 and the request JSON")
        if page.get("sort") not in ("timestamp:asc", "timestamp:desc"):
            raise _No(400, "invalid sort")
        if any(name not in LOG_EVENTS for name in asked.get("events", [])):
            raise _No(400, "invalid event")
        seen = self.log[: len(self.log) - self.late_events]
        found = [
            entry
            for entry in seen
            if start <= datetime.fromisoformat(entry["@timestamp"]) <= end + timedelta(seconds=1)
            and entry["event"] in asked.get("events", LOG_EVENTS)
            and all(_holds(entry, predicate) for predicate in predicates)
        ]
        found.sort(key=lambda entry: entry["@timestamp"], reverse=page["sort"] == "timestamp:desc")
        following = base64.b64encode(str(skip + limit).encode()).decode()
        pages = {"previous": "", "next": following, "first": "MA==", "last": "", "total": len(found)}
        body = {"start": format_datetime(start), "end": format_datetime(end), "items": found[skip : skip + limit]}
        return _json(200, body | {"pagination": pages, "aggregates": {}})


def domain_of(name: str, state: str = "active") -> dict[str, Any]:
    """Return what GET /v4/domains/{name} says of a domain that is set up well."""
    valid = {"is_active": True, "valid": "valid", "cached": []}
    return {
        "domain": {
            "created_at": "Thu, 13 Oct 2011 18:02:00 GMT",
            "id": "123456789012345678901234",
            "name": name,
            "require_tls": False,
            "smtp_login": f"postmaster@{name}",
            "spam_action": "disabled",
            "state": state,
            "type": "custom",
            "use_automatic_sender_security": True,
            "web_prefix": "email",
            "web_scheme": "http",
        },
        "receiving_dns_records": [valid | {"record_type": "MX", "priority": "10", "value": "mxa.mailgun.org"}],
        "sending_dns_records": [
            valid | {"record_type": "TXT", "name": name, "value": "v=spf1 include:mailgun.org ~all"},
            valid | {"record_type": "TXT", "name": f"mx._domainkey.{name}", "value": "k=rsa; p=M"},
            valid | {"record_type": "CNAME", "name": f"email.{name}", "value": "mailgun.org"},
        ],
    }


def _holds(entry: Mapping[str, Any], predicate: Any) -> bool:
    try:
        attribute, comparator = predicate["attribute"], predicate["comparator"]
        wanted = [value["value"] for value in predicate["values"]]
    except (KeyError, TypeError) as error:
        raise _No(400, "invalid filter") from error
    if attribute not in LOG_ATTRIBUTES or comparator != "=":
        raise _No(400, f"invalid filter attribute or comparator: {attribute} {comparator}")
    has = {
        "domain": entry["domain"]["name"],
        "recipient": entry["recipient"],
        "message_id": entry["message"]["headers"]["message-id"],
    }
    return has.get(attribute) in wanted


def _time(text: str) -> datetime:
    found = parsedate_to_datetime(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _parts(request: _Request) -> list[_Part]:
    kind, _, boundary = request.headers.get("content-type", "").partition("boundary=")
    if not kind.startswith("multipart/form-data") or not boundary:
        raise _No(400, "request is not multipart/form-data")
    mark = b"--" + boundary.strip('"').encode()
    pieces = (b"\r\n" + request.body).split(b"\r\n" + mark)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise _No(400, "the form has no end")
    found = []
    for piece in pieces[1:-1]:
        head, _, value = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        named = _DISPOSITION.search(head)
        if named is None:
            raise _No(400, "a part of the form has no name")
        filename = named[2].decode() if named[2] is not None else None
        found.append(_Part(named[1].decode(), filename, value))
    return found


def _fields(parts: list[_Part]) -> dict[str, tuple[str, ...]]:
    fields: dict[str, tuple[str, ...]] = {}
    for part in parts:
        if part.name != "message":
            fields[part.name] = (*fields.get(part.name, ()), part.value.decode())
    options = {name: values for name, values in fields.items() if name[:2] in ("o:", "h:", "v:", "t:")}
    if sum(len(name) + len(value) for name, values in options.items() for value in values) > MOST_OPTIONS:
        raise _No(400, "Send options (parameters starting with o:, h:, or v:) are limited to 16 kB total")
    for name, values in options.items():
        if name.startswith("o:") and name not in FREE_OPTIONS and not set(values) <= set(OPTIONS.get(name, ())):
            raise _No(400, f"{name} parameter is not valid")
    if "recipient-variables" in fields or len(fields) - len(options) != int("to" in fields):
        raise _No(400, "a parameter is not known to messages.mime")
    return fields


def _recipients(fields: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    if not fields.get("to"):
        raise _No(400, "to parameter is missing")
    found = tuple(dict.fromkeys(one.strip() for value in fields["to"] for one in value.split(",")))
    if not all(_ADDRESS.fullmatch(parseaddr(one)[1]) for one in found):
        raise _No(400, "to parameter is not a valid address. please check documentation")
    if len(found) > MOST_RECIPIENTS:
        raise _No(400, "Too many recipients; max is 1000")
    return found


def _message(parts: list[_Part]) -> bytes:
    found = [part for part in parts if part.name == "message"]
    if not found:
        raise _No(400, "message parameter is missing")
    if found[0].filename is None:
        raise _No(400, "'message' parameter is not a file")
    return found[0].value


def _json(status: int, body: Any) -> Answer:
    return Answer(status, json.dumps(body).encode(), {"Content-Type": "application/json"})


def _octets(answer: Answer) -> bytes:
    body, kind = answer.body, "text/html"
    if isinstance(body, str):
        body, kind = json.dumps({"message": body}).encode(), "application/json"
    headers = {
        "Date": format_datetime(datetime.now(UTC), usegmt=True),
        "Content-Type": kind,
        "Content-Length": str(len(body)),
    } | dict(answer.headers)
    lines = [f"HTTP/1.1 {answer.status} Said", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
