"""Mailgun: the finished MIME message over its HTTP API; what became of an attempt, from its Logs API.

Facts are of Mailgun's OpenAPI 3.0.0 (mailgun/mailgun-mcp-server, read 2026-11). An API key and a domain live in
one region. There is no idempotency key, so a request is sent once and never repeated here.

Options of a route:
    domain       the sending domain at Mailgun; needed
    region       "us" (the default) or "eu"
    base_url     another address in place of the region's, https (http on loopback only)
    secret_ref   where the API key stands, when the mailbox's own secret is another
    require_tls  "yes": bounce rather than deliver without TLS
    test_mode    "yes": taken and logged, never delivered
"""

import asyncio
import base64
import json
import logging
import re
import select
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from adapters.interface import (
    Claim,
    Mail,
    RecordsUnavailable,
    RouteUnfit,
    Sought,
    beyond_ascii,
    reply_of,
    without_addresses,
)
from adapters.secrets import SecretMissing, Secrets
from schemas.sending import Accepted, NotSent, Outcome, Refused, Reply, RouteCall, Stage, SuppressionReason, Unknown

log = logging.getLogger(__name__)
_T = TypeVar("_T")

CONNECT_S = 20.0
ANSWER_S = 120.0
IDLE_S = 20.0
LOOK_BACK = timedelta(minutes=2)
"""How far Mailgun's clock may be behind; of entries that name no attempt, those of an earlier one are older."""
ACCEPTED_WITHIN = timedelta(minutes=30)
PAGE = 100  # the most that the Logs API gives at once
MOST_PAGES = 30
LOGGED = ("accepted", "delivered", "failed", "rejected", "complained", "unsubscribed")
LISTED = 1_000  # the most that a list gives at once
LISTS: Mapping[str, SuppressionReason] = {
    "bounces": "hard_bounce",
    "complaints": "complaint",
    "unsubscribes": "unsubscribe",
}
"""Mailgun's lists of a domain, and what each is for; an unsubscribe of one tag counts as one of all."""

REGIONS = {"us": "https://api.mailgun.net", "eu": "https://api.eu.mailgun.net"}
TOKEN_VARIABLE = "mailfleet-token"
ATTEMPT_VARIABLE = "mailfleet-attempt"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
GATEWAY_GAVE_UP = (502, 504)
"""A gateway speaks for a server that it did not hear out (RFC 9110 15.6.3, 15.6.5): the mail may be taken."""
MOVED = (301, 302, 307, 308)
"""The address is wrong and nothing was done there (RFC 9110 15.4); 303 could follow a deed."""

_AFTER_SECONDS = re.compile(r"try again after (\d{1,7}) seconds?", re.IGNORECASE)
_AFTER_DATE = re.compile(r"try again after ([A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{4} [\d:]{8} (?:UTC|GMT|[+-]\d{4}))")
_FAILURES = (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError)
"""What servers and networks do (TimeoutError is an OSError); ValueError is ssl's and the client's own."""
_PEER_GONE = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR


class _Ended(Exception):
    """It came to an outcome before anything left."""

    def __init__(self, outcome: NotSent) -> None:
        super().__init__(outcome.what)
        self.outcome = outcome


@dataclass
class _Line:
    """One connection to the API, and the client that keeps it."""

    client: httpx.AsyncClient
    stream: Any = None  # httpcore's network stream, once there is one

    def hung_up(self) -> bool:
        """Whether the server closed; unread TLS tickets make the socket readable, so reading would not tell."""
        socket = self.stream.get_extra_info("socket")
        if socket is None or socket.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(socket.fileno(), _PEER_GONE)
        return bool(poll.poll(0))


@dataclass
class _Gate:
    """Follows one request by httpcore's trace; its first octet waits here for the claim.

    "started" of the request's headers is traced once TCP and TLS stand and before anything is written
    (httpcore 1.0.9, _async/http11.py); what is raised here ends the request and closes the connection.
    """

    line: _Line
    claim: Claim
    on_yes: Callable[[], None]
    stage: Stage = "connect"
    claimed: bool = False

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        """Hear one event of the trace."""
        if event == "connection.connect_tcp.complete":
            self.line.stream, self.stage = info["return_value"], "tls"
        elif event == "connection.start_tls.complete":
            self.line.stream = info["return_value"]
        elif event == "http11.send_request_headers.started":
            self.stage = "claim"
            if not await self.claim():
                raise _Ended(NotSent("claim", "the claim was refused"))
            if self.line.hung_up():
                raise _Ended(NotSent("claim", "the server hung up before the request"))
            self.claimed = True
            self.on_yes()


@dataclass(frozen=True)
class _Place:
    """Where and as whom a route calls."""

    base_url: str
    domain: str
    key: str

    def url(self, path: str) -> str:
        return f"{self.base_url}{path.format(domain=quote(self.domain, safe=''))}"

    @property
    def auth(self) -> httpx.BasicAuth:
        return httpx.BasicAuth("api", self.key)

    def without_key(self, text: str) -> str:
        """Return the text without the key, in case a server repeats what it was told."""
        for form in (self.key, base64.b64encode(f"api:{self.key}".encode()).decode()):
            text = text.replace(form, "<secret>") if form else text
        return text


class MailgunAdapter:
    """Submits over HTTP. Idle connections are kept per (address, CA file) and used again."""

    def __init__(self, secrets: Secrets, *, connect_s: float = CONNECT_S, answer_s: float = ANSWER_S) -> None:
        self._secrets = secrets
        self._connect_s = connect_s
        self._answer_s = answer_s
        self._contexts: dict[tuple[Path | None, int], ssl.SSLContext] = {}
        self._idle: dict[tuple[str, str], list[_Line]] = {}

    async def submit(self, call: RouteCall, mail: Mail, claim: Claim) -> Outcome:
        """Hand over one mail; see the contract in adapters/interface.py."""
        if (wrong := beyond_ascii(mail)) is not None:
            return wrong
        try:
            place = self._place(call)
            line = self._take_line(call, place)
        except _Ended as end:
            return end.outcome
        keep = False
        try:
            outcome = await self._post(line, call, place, mail, claim)
            keep = isinstance(outcome, Accepted | Refused)
        finally:
            await self._put_back(call, place, line, keep=keep)
        return outcome

    async def find(self, call: RouteCall, sought: Sought) -> Accepted | Refused | None:
        """Look for the attempt's events, by Message-ID, else through all that its domain sent at that time."""
        try:
            place = self._place(call)
            line = self._take_line(call, place)
        except _Ended as end:
            log.warning("route %s: Mailgun's records cannot be read: %s", call.route, end.outcome.what)
            return None
        keep = False
        try:
            events = await self._events(line, place, sought)
            keep = True
        except (*_FAILURES, msgspec.MsgspecError) as error:
            log.warning("route %s: Mailgun's records cannot be read: %s", call.route, _why(error))
            return None
        finally:
            await self._put_back(call, place, line, keep=keep)
        return _settled(call, place, events)

    async def check(self, call: RouteCall) -> str:
        """Read the domain's state and DNS as Mailgun sees them. Raises RouteUnfit."""
        try:
            place = self._place(call)
            line = self._take_line(call, place)
        except _Ended as end:
            raise RouteUnfit(end.outcome.what) from end
        keep = False
        try:
            domain = await line.client.get(place.url("/v4/domains/{domain}"), auth=place.auth)
            tracking = await line.client.get(place.url("/v3/domains/{domain}/tracking"), auth=place.auth)
            keep = True
        except _FAILURES as error:
            raise RouteUnfit(
                f"{place.base_url} cannot be reached: {_why(error)}; check base_url and network"
            ) from error
        finally:
            await self._put_back(call, place, line, keep=keep)
        return _fitness(call, place, domain, tracking)

    async def close(self) -> None:
        """Hang up all idle connections."""
        lines = [line for held in self._idle.values() for line in held]
        self._idle.clear()
        for line in lines:
            await line.client.aclose()

    # ── connections ──────────────────────────────────────────────────────────────────────────────

    def _place(self, call: RouteCall) -> _Place:
        """Return where the route calls; the key is read anew. Raises _Ended."""
        domain, region = call.options.get("domain", ""), call.options.get("region", "us")
        base_url = call.options.get("base_url", "") or REGIONS.get(region, "")
        if not domain:
            raise _Ended(NotSent("connect", "the route has no option `domain`: name the sending domain at Mailgun"))
        if not base_url:
            raise _Ended(NotSent("connect", "the route's option `region` is neither us nor eu"))
        try:
            url = httpx.URL(base_url)
        except httpx.InvalidURL as error:
            raise _Ended(NotSent("connect", f"the route's option `base_url` is no address: {error}")) from error
        if url.scheme != "https" and not (url.scheme == "http" and url.host in LOOPBACK):
            raise _Ended(NotSent("connect", "the route's option `base_url` must be https: the API key goes there"))
        try:
            key = self._secrets.resolve(call.options.get("secret_ref", "") or call.secret_ref)
        except SecretMissing as error:
            raise _Ended(NotSent("auth", str(error))) from error
        return _Place(base_url.rstrip("/"), domain, key)

    def _take_line(self, call: RouteCall, place: _Place) -> _Line:
        """Return an idle connection, or a client that will connect. Raises _Ended."""
        held = self._idle.get((place.base_url, call.ca_file_ref), [])
        if held:
            return held.pop()  # httpcore looks whether it is still good, and else connects anew
        try:
            context = self._tls(call)
        except (SecretMissing, OSError, ValueError) as error:
            raise _Ended(NotSent("tls", f"the route's CA file cannot be used: {_why(error)}")) from error
        client = httpx.AsyncClient(
            verify=context,
            timeout=httpx.Timeout(self._answer_s, connect=self._connect_s, pool=self._connect_s),
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=IDLE_S),
            headers={"User-Agent": "mailfleet"},
            trust_env=False,  # behind a proxy the trace would ask the claim for the CONNECT to it
            follow_redirects=False,
        )
        return _Line(client)

    async def _put_back(self, call: RouteCall, place: _Place, line: _Line, *, keep: bool) -> None:
        if keep:
            self._idle.setdefault((place.base_url, call.ca_file_ref), []).append(line)
        else:
            await line.client.aclose()

    def _tls(self, call: RouteCall) -> ssl.SSLContext:
        path = self._secrets.path(call.ca_file_ref) if call.ca_file_ref else None
        key = (path, path.stat().st_mtime_ns if path is not None else 0)
        if key not in self._contexts:  # reading the system's certificates takes tens of milliseconds
            context = ssl.create_default_context()
            if path is not None:
                context.load_verify_locations(path)
            self._contexts[key] = context
        return self._contexts[key]

    # ── one mail ─────────────────────────────────────────────────────────────────────────────────

    async def _post(self, line: _Line, call: RouteCall, place: _Place, mail: Mail, claim: Claim) -> Outcome:
        patience = asyncio.timeout(None)

        def begin() -> None:
            """From the claim's yes on: no drip of octets outlives it."""
            patience.reschedule(asyncio.get_running_loop().time() + self._answer_s)

        gate = _Gate(line, claim, begin)
        try:
            async with patience:
                request = line.client.build_request(
                    "POST",
                    place.url("/v3/{domain}/messages.mime"),
                    data=_fields(call, mail),
                    files={"message": ("message.mime", mail.raw, "message/rfc822")},
                    extensions={"trace": gate},
                )
                request.read()  # as one piece: else each part of the form is a write of its own
                response = await line.client.send(request, auth=place.auth)
        except _Ended as end:
            return end.outcome
        except _FAILURES as error:
            if gate.claimed:
                return Unknown(place.without_key(f"after the request: {_why(error)}"))
            return NotSent(gate.stage, place.without_key(_why(error)))
        return _answer(call, place, response)

    # ── records ──────────────────────────────────────────────────────────────────────────────────

    async def _events(self, line: _Line, place: _Place, sought: Sought) -> "Sequence[_Event]":
        """Return the attempt's events. Raises what servers and networks do."""
        since = sought.claimed_at - LOOK_BACK
        known_as = sought.message_id.strip("<>")
        filters = {"domain": place.domain, "message_id": known_as}
        found = [event async for event in self._log(line, place, since, None, filters) if event.is_of(sought)]
        if found:
            return found
        until = min(sought.claimed_at + ACCEPTED_WITHIN, datetime.now(UTC))
        filters = {"domain": place.domain}  # an id that Mailgun made itself: the variable still tells
        return [event async for event in self._log(line, place, since, until, filters) if event.is_of(sought)]

    async def _log(
        self, line: _Line, place: _Place, since: datetime, until: datetime | None, equal: Mapping[str, str]
    ) -> "AsyncIterator[_Event]":
        """Yield the account's events, page by page; the last page is an empty one or names no next."""
        token = ""
        for _page in range(MOST_PAGES):
            asked: dict[str, Any] = {
                "start": format_datetime(since),
                "end": format_datetime(until or datetime.now(UTC)),
                "events": ["accepted", "delivered", "failed", "rejected"],
                "filter": {
                    "AND": [
                        {"attribute": name, "comparator": "=", "values": [{"label": value, "value": value}]}
                        for name, value in equal.items()
                    ]
                },
                "include_subaccounts": True,
                "pagination": {"sort": "timestamp:asc", "limit": PAGE} | ({"token": token} if token else {}),
            }
            response = await line.client.post(place.url("/v1/analytics/logs"), auth=place.auth, json=asked)
            if response.status_code != 200:
                reply = _reply("mailgun", place, response)
                raise OSError(f"the Logs API answered {reply.code} {reply.text}")
            page = msgspec.json.decode(response.content, type=_Page)
            for event in page.items:
                yield event
            if not page.items or page.pagination.next in ("", token):
                return
            token = page.pagination.next

    # ── logs and lists, whole ────────────────────────────────────────────────────────────────────

    async def log(self, call: RouteCall, since: datetime, until: datetime) -> AsyncIterator[list[Any]]:
        """Yield a domain's log from `since` to `until`, oldest first, in pages of entries as Mailgun writes them.

        Entries come into the log late and out of order. Raises RecordsUnavailable.
        """
        place = self._reachable(call)
        asked = {
            "start": format_datetime(since),
            "end": format_datetime(until),
            "events": list(LOGGED),
            "filter": {"AND": [_equals("domain", place.domain)]},
            "include_subaccounts": True,
        }
        token = ""
        while True:
            pages = {"sort": "timestamp:asc", "limit": PAGE} | ({"token": token} if token else {})
            url = place.url("/v1/analytics/logs")
            page = await self._asked(call, place, "POST", url, _RawPage, json=asked | {"pagination": pages})
            if page.items:
                yield page.items
            if not page.items or page.pagination.next in ("", token):
                return
            token = page.pagination.next

    async def suppressions(self, call: RouteCall) -> AsyncIterator[tuple[str, SuppressionReason]]:
        """Yield each address on the domain's lists, with the reason. Raises RecordsUnavailable."""
        place = self._reachable(call)
        for name, reason in LISTS.items():
            url = place.url(f"/v3/{{domain}}/{name}") + f"?limit={LISTED}"
            while url:
                if not url.startswith(f"{place.base_url}/"):
                    raise RecordsUnavailable(f"Mailgun's list of {name} goes on at another host: the key stays here")
                page = await self._asked(call, place, "GET", url, _ListPage)
                for one in page.items:
                    yield one.address, reason
                url = page.paging.next if page.items and page.paging.next != url else ""

    def _reachable(self, call: RouteCall) -> _Place:
        try:
            return self._place(call)
        except _Ended as end:
            raise RecordsUnavailable(end.outcome.what) from end

    async def _asked(self, call: RouteCall, place: _Place, method: str, url: str, shape: type[_T], **body: Any) -> _T:
        """Return the answer to one question. Raises RecordsUnavailable."""
        try:
            line = self._take_line(call, place)
        except _Ended as end:
            raise RecordsUnavailable(end.outcome.what) from end
        keep = False
        try:
            response = await line.client.request(method, url, auth=place.auth, **body)
            if response.status_code != 200:
                reply = _reply("mailgun", place, response)
                raise RecordsUnavailable(f"Mailgun answered {reply.code} {reply.text}", reply.retry_after_seconds)
            found = msgspec.json.decode(response.content, type=shape)
            keep = True
        except (*_FAILURES, msgspec.MsgspecError) as error:
            raise RecordsUnavailable(place.without_key(_why(error))) from error
        finally:
            await self._put_back(call, place, line, keep=keep)
        return found


def _equals(attribute: str, value: str) -> dict[str, Any]:
    return {"attribute": attribute, "comparator": "=", "values": [{"label": value, "value": value}]}


def _fields(call: RouteCall, mail: Mail) -> dict[str, str]:
    """The form beside the message. No tracking: it rewrites links and adds a pixel, which were never agreed to."""
    fields = {
        "to": mail.recipient,
        "o:tracking": "no",
        "o:tracking-clicks": "no",
        "o:tracking-opens": "no",
    }
    if mail.token:
        fields[f"v:{TOKEN_VARIABLE}"] = mail.token
    if mail.token and mail.attempt:
        fields[f"v:{ATTEMPT_VARIABLE}"] = str(mail.attempt)
    if call.options.get("require_tls") == "yes":
        fields["o:require-tls"] = "yes"
    if call.options.get("test_mode") == "yes":
        fields["o:testmode"] = "yes"
    return fields


# ── what was said ────────────────────────────────────────────────────────────────────────────────


def _answer(call: RouteCall, place: _Place, response: httpx.Response) -> Outcome:
    """Return what the answer to the request says."""
    code, reply = response.status_code, _reply(call.provider, place, response)
    if code == 200:
        provider_id = _field(response, "id").strip("<>")
        if provider_id:
            return Accepted(provider_id, reply)
        return Unknown("200, but no id of Mailgun's: who answered is not known")
    if code in GATEWAY_GAVE_UP:
        return Unknown(f"a gateway gave up with {code}: {reply.text}")
    if 400 <= code < 600 or code in MOVED:
        return Refused(reply)
    return Unknown(f"the API answered {code}, which it never does")


def _reply(provider: str, place: _Place, response: httpx.Response) -> Reply:
    text = _field(response, "message") or _field(response, "Reason") or response.text or response.reason_phrase
    reply = reply_of(provider, "request", response.status_code, place.without_key(text))
    return msgspec.structs.replace(reply, retry_after_seconds=_retry_after(response, text))


def _field(response: httpx.Response, name: str) -> str:
    """Return a text of the JSON answer, "" when there is none: 401 is the bare word Forbidden."""
    try:
        body = json.loads(response.content)
    except ValueError:
        return ""
    found = body.get(name) if isinstance(body, dict) else None
    return found if isinstance(found, str) else ""


def _retry_after(response: httpx.Response, text: str) -> int | None:
    """Return the seconds to wait: of the header, else of either text that Mailgun is known to write."""
    asked = response.headers.get("Retry-After", "")
    if asked.isdecimal():
        return int(asked[:7])
    if found := _AFTER_SECONDS.search(text):
        return int(found[1])
    dated = _AFTER_DATE.search(text)
    until = _date(asked) or (_date(dated[1]) if dated else None)
    if until is None:
        return None
    now = _date(response.headers.get("Date", "")) or datetime.now(UTC)  # its own clock, where it tells it
    return max(0, int((until - now).total_seconds()))


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _why(error: BaseException) -> str:
    return without_addresses(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


# ── Logs API ─────────────────────────────────────────────────────────────────────────────────────


class _Delivery(msgspec.Struct, rename="kebab"):
    code: int | str | None = None
    message: str | None = None
    description: str | None = None
    enhanced_code: str | None = None


class _Headers(msgspec.Struct, rename="kebab"):
    message_id: str | None = None


class _Message(msgspec.Struct):
    headers: _Headers | None = None


class _Reject(msgspec.Struct):
    reason: str | None = None
    description: str | None = None


class _Event(msgspec.Struct, rename="kebab"):
    """One log entry, as far as it is read here; entries have other fields, and not each has all of these."""

    event: str
    severity: str | None = None
    reason: str | None = None
    message: _Message | None = None
    delivery_status: _Delivery | None = None
    reject: _Reject | None = None
    user_variables: dict[str, Any] | str | None = None  # as a JSON text too, seen 2026-11 in Ghost's client

    @property
    def message_id(self) -> str:
        """The Message-ID without its <>, "" when the entry has none."""
        headers = self.message.headers if self.message is not None else None
        return (headers.message_id or "").strip("<>") if headers is not None else ""

    def variable(self, name: str) -> str | None:
        """A variable of ours as text; None when the entry has none."""
        variables = self.user_variables
        if isinstance(variables, str):
            try:
                variables = json.loads(variables)
            except ValueError:
                return None
        found = variables.get(name) if isinstance(variables, dict) else None
        return str(found) if isinstance(found, str | int) else None

    @property
    def names_attempt(self) -> bool:
        """Whether the entry says which attempt it is of; entries of before 2026-11 do not, time alone tells."""
        return self.variable(ATTEMPT_VARIABLE) is not None

    def is_of(self, sought: Sought) -> bool:
        """Whether the entry is about this attempt's mail."""
        if self.names_attempt and sought.attempt and self.variable(ATTEMPT_VARIABLE) != str(sought.attempt):
            return False
        token = self.variable(TOKEN_VARIABLE)
        if token is not None:
            return token == sought.token
        return bool(self.message_id) and self.message_id == sought.message_id.strip("<>")


class _Next(msgspec.Struct):
    next: str = ""


class _Page(msgspec.Struct):
    items: list[_Event]
    pagination: _Next = msgspec.field(default_factory=_Next)


class _RawPage(msgspec.Struct):
    items: list[Any]
    pagination: _Next = msgspec.field(default_factory=_Next)


class _Listed(msgspec.Struct):
    address: str


class _ListPage(msgspec.Struct):
    items: list[_Listed]
    paging: _Next = msgspec.field(default_factory=_Next)


def _settled(call: RouteCall, place: _Place, events: "Sequence[_Event]") -> Accepted | Refused | None:
    """Return what the events, oldest first, prove: a delivery outweighs all, a later refusal the taking.

    A failure that names no attempt counts only after a taking: else it may be an earlier one's, and a second mail go.
    """
    delivered = [event for event in events if event.event == "delivered"]
    first = next((n for n, event in enumerate(events) if event.event == "accepted"), len(events))
    failed = [
        event
        for n, event in enumerate(events)
        if event.event == "failed" and event.severity == "permanent" and (n > first or event.names_attempt)
    ]
    refused = failed or [event for event in events if event.event == "rejected"]
    if refused and not delivered:
        return Refused(_recorded(call, place, refused[-1]))
    taken = delivered or [e for e in events if e.event == "accepted" or e.severity == "temporary"]
    if not taken:
        return None
    said = _recorded(call, place, taken[-1]) if delivered else _noted(call, "accepted, says Mailgun's log")
    return Accepted(taken[-1].message_id, said)


def _recorded(call: RouteCall, place: _Place, event: _Event) -> Reply:
    """Return the reply in the entry: the receiving server's, or Mailgun's own where none was asked."""
    if event.event == "rejected":
        reject = event.reject or _Reject()
        words = reject.reason or reject.description or event.reason or "rejected"
        return reply_of(call.provider, "request", 0, place.without_key(words))
    status = event.delivery_status or _Delivery()
    words = status.message or status.description or event.reason or event.event
    code = str(status.code)
    reply = reply_of(call.provider, "dot", int(code) if code.isdecimal() else 0, place.without_key(words))
    return msgspec.structs.replace(reply, enhanced=reply.enhanced or status.enhanced_code or "")


def _noted(call: RouteCall, text: str) -> Reply:
    return reply_of(call.provider, "request", 200, text)


# ── the domain's state ───────────────────────────────────────────────────────────────────────────


class _Record(msgspec.Struct):
    record_type: str = ""
    valid: str = ""
    name: str = ""


class _Disabled(msgspec.Struct):
    reason: str | None = None
    code: str | None = None


class _Domain(msgspec.Struct):
    state: str
    type: str = ""
    is_disabled: bool = False
    disabled: _Disabled | None = None


class _DomainAnswer(msgspec.Struct):
    domain: _Domain
    sending_dns_records: list[_Record] = []


class _Switch(msgspec.Struct):
    active: bool | str = False


class _Tracking(msgspec.Struct):
    unsubscribe: _Switch = msgspec.field(default_factory=_Switch)


class _TrackingAnswer(msgspec.Struct):
    tracking: _Tracking = msgspec.field(default_factory=_Tracking)


def _fitness(call: RouteCall, place: _Place, answer: httpx.Response, tracking: httpx.Response) -> str:
    """Return a sentence, or raise RouteUnfit with what is wrong and what to do."""
    name = place.domain
    if answer.status_code != 200:
        raise RouteUnfit(_no_domain(place, answer))
    try:
        found = msgspec.json.decode(answer.content, type=_DomainAnswer)
        settings = _TrackingAnswer()
        if tracking.status_code == 200:
            settings = msgspec.json.decode(tracking.content, type=_TrackingAnswer)
    except msgspec.MsgspecError as error:
        raise RouteUnfit(f"{place.base_url} does not answer as Mailgun does: {error}; check base_url") from error
    domain = found.domain
    if domain.disabled is not None or domain.is_disabled or domain.state == "disabled":
        why = domain.disabled or _Disabled()
        said = without_addresses(why.reason or why.code or "no reason given")
        raise RouteUnfit(f"domain {name} is disabled at Mailgun ({said}); ask Mailgun's support")
    wrong = [without_addresses(f"{r.record_type} {r.name}") for r in found.sending_dns_records if _matters(r)]
    if wrong:
        raise RouteUnfit(f"domain {name}: Mailgun finds these DNS records wrong: {', '.join(wrong)}; correct them")
    if domain.state != "active":
        state = without_addresses(domain.state)
        raise RouteUnfit(f"domain {name} is {state} at Mailgun; set its DNS records and press verify there")
    if domain.type == "sandbox" and call.options.get("test_mode") != "yes":
        raise RouteUnfit(f"domain {name} is a sandbox, which reaches five addresses at most; add a domain of your own")
    if settings.tracking.unsubscribe.active is True:
        raise RouteUnfit(f"domain {name}: unsubscribe tracking adds a second footer and header; switch it off there")
    return f"{name} is active at {place.base_url} and its DNS is right"


def _no_domain(place: _Place, answer: httpx.Response) -> str:
    reply = _reply("mailgun", place, answer)
    said = f"{reply.code} {reply.text}"
    if reply.code in (401, 403):
        return (
            f"{place.base_url} refuses the key ({said}); check secret_ref and region: a key holds in one region, "
            "and a domain sending key can send but not read the domain"
        )
    if reply.code == 404:
        return f"{place.base_url} does not know domain {place.domain} ({said}); check options domain and region"
    return f"{place.base_url} answered {said}; try again later"


def _matters(record: _Record) -> bool:
    """Whether a record is wrong and mail needs it: not the CNAME of tracking; "unknown" is not wrong."""
    needed = record.record_type != "CNAME" or "_domainkey" in record.name
    return needed and record.valid == "invalid"
