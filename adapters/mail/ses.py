"""Amazon SES by its API v2: SendEmail with the raw message, one recipient a call, no retries.

botocore makes, signs and reads; the request itself leaves by claimed_request.py, in answer to botocore's
`before-send` event. Options of a route: `region` (needed), `configuration_set` (without one SES publishes no
events and no tags), `identity` (a domain whose state `check` looks at), `secret_ref` (where the keys stand, when the
mailbox's own secret is another), `endpoint_url`. A secret is `ACCESS_KEY_ID:SECRET_ACCESS_KEY`, or JSON with
access_key_id, secret_access_key and, if any, session_token.

SES writes Message-ID and Date anew (developer guide, header fields, 2026-11): a recipient's reply names
`<MessageId@REGION.amazonses.com>`, so the MessageId that SES returns is kept as provider_id, and the send's token
goes along as the tag `mailfleet-token`, the attempt's number as `mailfleet-attempt`. It also makes its own return
path: the envelope sender is where it forwards bounces to, and must be of a verified domain as well.
"""

import asyncio
import json
import logging
import os
import re
import ssl
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from botocore.session import Session

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
from adapters.mail.claimed_request import ANSWER_S, FAILURES, ClaimRefused, Connections, Exchange, Gate, Origin
from adapters.secrets import SecretMissing, Secrets
from schemas.sending import Accepted, NotSent, Outcome, Refused, RouteCall, SuppressionReason, Unknown

OPTIONS = frozenset({"region", "configuration_set", "identity", "endpoint_url", "secret_ref"})
TOKEN_TAG = "mailfleet-token"
ATTEMPT_TAG = "mailfleet-attempt"
LISTED = 1_000  # the most that ListSuppressedDestinations gives at once
LIST_REASONS: Mapping[str, SuppressionReason] = {"BOUNCE": "hard_bounce", "COMPLAINT": "complaint"}
THREADS = 64
CLIENTS = 64
LOOPBACK = ("127.0.0.1", "::1", "localhost")

_VISIBLE = re.compile(r"[!-~]+")
_BROKEN = (*FAILURES, BotoCoreError, ClientError, ResponseParserError, AttributeError, KeyError, TypeError)
"""What a call can raise; the last three are botocore's, for an answer that is JSON of another shape."""

logging.getLogger("botocore").setLevel(logging.INFO)  # at DEBUG it logs bodies, addresses and session tokens


class _Misset(ValueError):
    """The route's options cannot be used; the text says what to do."""


@dataclass(frozen=True)
class _Keys:
    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


class _Body(BytesIO):
    """A body that is read already, in the form that botocore reads."""

    def stream(self, **_how: object) -> list[bytes]:
        """Return it in one piece."""
        return [self.getvalue()]


class SesAdapter:
    """Submits by SendEmail from a bounded pool of threads; clients and idle connections are kept and used again."""

    def __init__(self, secrets: Secrets, *, answer_s: float = ANSWER_S) -> None:
        self._secrets = secrets
        self._answer_s = answer_s
        self._threads = ThreadPoolExecutor(THREADS, "ses")
        self._connections = Connections()
        self._under_way: set[Exchange] = set()
        self._here = threading.local()  # the exchange of the call that this thread makes
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._clients: OrderedDict[tuple[_Keys, str, str, str], Any] = OrderedDict()
        self._contexts: dict[tuple[Path | None, int], ssl.SSLContext] = {}

    async def submit(self, call: RouteCall, mail: Mail, claim: Claim) -> Outcome:
        """Hand over one mail; see the contract in adapters/interface.py.

        A status of 4xx is a definite no. 5xx is none: a server that fails may have taken the mail before.
        """
        if (wrong := beyond_ascii(mail)) is not None:
            return wrong
        loop = asyncio.get_running_loop()
        gate = Gate(loop)
        exchange = Exchange(gate, self._answer_s)
        self._under_way.add(exchange)
        working = loop.run_in_executor(self._threads, self._submit, call, mail, exchange)
        standing = loop.create_task(gate.reached.wait())
        patience: asyncio.TimerHandle | None = None
        try:
            first: list[asyncio.Future[Any]] = [working, standing]
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if not working.done() and gate.settle(yes=await claim()):
                patience = loop.call_later(self._answer_s, exchange.break_off)  # also for one that drips
            return await working
        finally:
            gate.settle(yes=False)
            standing.cancel()
            if patience is not None:
                patience.cancel()
            self._under_way.discard(exchange)

    async def find(self, _call: RouteCall, _sought: Sought) -> Accepted | Refused | None:
        """SES has no search: what became of a mail is published as events of its configuration set, and only there.

        They come in as reports, with the tags of token and attempt, and settle an unknown attempt from there.
        """
        return None

    async def check(self, call: RouteCall) -> str:
        """Look at account, configuration set and identity. Raises RouteUnfit."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._look, call)

    async def close(self) -> None:
        """Hang up; what still waits for an answer ends, so that the process can."""
        for exchange in set(self._under_way):
            exchange.break_off()
        self._connections.close()

    async def suppressions(self, call: RouteCall) -> AsyncIterator[tuple[str, SuppressionReason]]:
        """Yield each address on the account's suppression list of the region. Raises RecordsUnavailable."""
        loop, token = asyncio.get_running_loop(), ""
        while True:
            params = {"PageSize": LISTED} | ({"NextToken": token} if token else {})
            try:
                page = await loop.run_in_executor(
                    self._threads, self._seen, call, "list_suppressed_destinations", params, "the suppression list"
                )
            except RouteUnfit as error:
                raise RecordsUnavailable(str(error)) from error
            for one in page.get("SuppressedDestinationSummaries", []):
                yield one["EmailAddress"], LIST_REASONS.get(one.get("Reason", ""), "hard_bounce")
            if page.get("NextToken", "") in ("", token):
                return
            token = page["NextToken"]

    # ── in a thread ──────────────────────────────────────────────────────────────────────────────

    def _submit(self, call: RouteCall, mail: Mail, exchange: Exchange) -> Outcome:
        understood = False
        try:
            outcome = self._outcome(call, mail, exchange)
            understood = isinstance(outcome, Accepted | Refused)
        finally:
            exchange.end(self._connections, understood=understood)
        return outcome

    def _outcome(self, call: RouteCall, mail: Mail, exchange: Exchange) -> Outcome:
        try:
            said = self._ask(call, exchange, "send_email", _send_email(call, mail))
        except SecretMissing as error:
            return NotSent("auth", str(error))
        except ClaimRefused as error:
            return NotSent("claim", str(error))
        except _BROKEN as error:
            return _failed(call, exchange, error)
        message_id = said.get("MessageId")
        answer = exchange.answer
        if answer is None or answer.status != 200 or not isinstance(message_id, str) or not message_id:
            return Unknown("the answer to the request is no answer of SendEmail: it names no MessageId")
        return Accepted(message_id, reply_of(call.provider, "request", 200, f"MessageId {message_id}"))

    def _ask(self, call: RouteCall, exchange: Exchange, operation: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Call an operation of the API. Raises SecretMissing, ClaimRefused and _BROKEN."""
        client = self._client(call)
        self._here.exchange, self._here.tls = exchange, self._tls(call)
        asked: Callable[..., Mapping[str, Any]] = getattr(client, operation)
        return asked(**params)

    def _send(self, request: AWSPreparedRequest, **_event: object) -> AWSResponse:
        """Answer botocore's `before-send` event: the request is signed, and leaves by this thread's exchange."""
        url = urlsplit(request.url)
        tls = self._here.tls if url.scheme == "https" else None
        origin = Origin(url.hostname or "", url.port or (80 if tls is None else 443), tls)
        exchange: Exchange = self._here.exchange
        body = request.body or b""
        connection = self._connections.take(origin)
        path = f"{url.path}?{url.query}" if url.query else url.path
        answer = exchange.run(connection, request.method, path, dict(request.headers), body)
        return AWSResponse(request.url, answer.status, answer.headers, _Body(answer.body))

    def _client(self, call: RouteCall) -> Any:
        """Return the client of these keys and options. Raises SecretMissing, _Misset and botocore's for a region."""
        region, endpoint_url = _options(call)
        keys = _keys(_secret_ref(call), self._secrets.resolve(_secret_ref(call)))
        wanted = (keys, region, endpoint_url, call.ca_file_ref)
        with self._lock:
            if wanted in self._clients:
                self._clients.move_to_end(wanted)
                return self._clients[wanted]
            client = self._new_client(keys, region, endpoint_url)
            self._clients[wanted] = client
            if len(self._clients) > CLIENTS:  # keys that were rotated away go, too
                self._clients.popitem(last=False)
            return client

    def _new_client(self, keys: _Keys, region: str, endpoint_url: str) -> Any:
        if self._session is None:
            nothing = {"profile": None, "config_file": os.devnull, "credentials_file": os.devnull}
            # A route is what the fleet file says, on any machine.
            self._session = Session({name: (None, None, value, None) for name, value in nothing.items()})
        config = Config(
            retries={"total_max_attempts": 1, "mode": "standard"},
            ignore_configured_endpoint_urls=True,
            use_fips_endpoint=False,
            use_dualstack_endpoint=False,
        )
        client = self._session.create_client(
            "sesv2",
            region_name=region,
            endpoint_url=endpoint_url or None,
            aws_access_key_id=keys.access_key_id,
            aws_secret_access_key=keys.secret_access_key,
            aws_session_token=keys.session_token or None,
            config=config,
        )
        client.meta.events.register("before-send.sesv2", self._send)
        return client

    def _tls(self, call: RouteCall) -> ssl.SSLContext:
        path = self._secrets.path(call.ca_file_ref) if call.ca_file_ref else None
        key = (path, path.stat().st_mtime_ns if path is not None else 0)
        with self._lock:
            if key not in self._contexts:  # reading the system's certificates takes tens of milliseconds
                context = ssl.create_default_context()
                if path is not None:
                    context.load_verify_locations(path)
                self._contexts[key] = context
            return self._contexts[key]

    # ── check ────────────────────────────────────────────────────────────────────────────────────

    def _look(self, call: RouteCall) -> str:
        region = call.options.get("region", "")
        found = [_account(region, self._seen(call, "get_account", {}, f"SES in {region}"))]
        if name := call.options.get("configuration_set"):
            what = f"configuration set {name}"
            found.append(_set(what, self._seen(call, "get_configuration_set", {"ConfigurationSetName": name}, what)))
        if domain := call.options.get("identity"):
            what = f"identity {domain}"
            found.append(_identity(what, self._seen(call, "get_email_identity", {"EmailIdentity": domain}, what)))
        return without_addresses("; ".join(found))

    def _seen(self, call: RouteCall, operation: str, params: Mapping[str, str | int], what: str) -> Mapping[str, Any]:
        """Return the API's answer to a question that sends no mail. Raises RouteUnfit."""
        exchange = Exchange(None, self._answer_s)
        try:
            return self._ask(call, exchange, operation, params)
        except (SecretMissing, _Misset) as error:
            raise RouteUnfit(str(error)) from None
        except _BROKEN as error:
            match _failed(call, exchange, error):
                case Refused(reply) if reply.code == 404:
                    raise RouteUnfit(f"{what} is not known to this account and region: create it there") from None
                case Refused(reply) if reply.code in (401, 403):
                    said = f"SES refuses the keys of {_secret_ref(call)}: {reply.text}"
                    raise RouteUnfit(f"{said}; check the keys, their rights (IAM) and this machine's clock") from None
                case Refused(reply):
                    raise RouteUnfit(f"{what}: {reply.code} {reply.text}; look at the account in the console") from None
                case NotSent(stage, said):
                    raise RouteUnfit(f"{what} fails at {stage}: {said}; check region, network and TLS") from None
                case _:
                    raise RouteUnfit(f"{what} gave no usable answer; try again later") from None
        finally:
            exchange.end(self._connections, understood=True)


# ── what is asked and what is said ───────────────────────────────────────────────────────────────


def _send_email(call: RouteCall, mail: Mail) -> Mapping[str, Any]:
    """Return the parameters of SendEmail. From stands in the message: the parameter would write it anew."""
    asked: dict[str, Any] = {
        "Destination": {"ToAddresses": [mail.recipient]},
        "FeedbackForwardingEmailAddress": mail.envelope_from,
        "Content": {"Raw": {"Data": mail.raw}},
    }
    if name := call.options.get("configuration_set"):
        asked["ConfigurationSetName"] = name
    if mail.token:
        tags = {TOKEN_TAG: mail.token} | ({ATTEMPT_TAG: str(mail.attempt)} if mail.attempt else {})
        asked["EmailTags"] = [{"Name": name, "Value": value} for name, value in tags.items()]
    return asked


def _options(call: RouteCall) -> tuple[str, str]:
    """Return (region, endpoint URL or ""). Raises _Misset."""
    unknown = sorted(name for name in set(call.options) - OPTIONS if not name.startswith("imap_"))  # the mail reader's
    if unknown:
        raise _Misset(f"option {unknown[0]} is not known to ses; known are {', '.join(sorted(OPTIONS))}")
    region = call.options.get("region", "")
    if not region:
        raise _Misset("option region is missing: name the AWS region of the account, such as eu-west-1")
    endpoint_url = call.options.get("endpoint_url", "")
    url = urlsplit(endpoint_url)
    if endpoint_url and (not url.hostname or (url.scheme != "https" and url.hostname not in LOOPBACK)):
        raise _Misset("option endpoint_url must be an https address; only a loopback host may have http")
    return region, endpoint_url


def _secret_ref(call: RouteCall) -> str:
    return call.options.get("secret_ref", "") or call.secret_ref


def _keys(ref: str, secret: str) -> _Keys:
    """Return the keys in a secret. Raises SecretMissing, without a word of it."""
    wrong = SecretMissing(
        f"secret {ref} holds no keys: write ACCESS_KEY_ID:SECRET_ACCESS_KEY, or JSON with access_key_id, "
        "secret_access_key and, if any, session_token"
    )
    parts = dict(zip(("access_key_id", "secret_access_key"), secret.strip().split(":", 1), strict=False))
    if secret.lstrip().startswith("{"):
        try:
            parts = json.loads(secret)
        except ValueError:
            raise wrong from None  # the error holds the text
    try:
        keys = msgspec.convert(parts, _Keys, strict=True)
    except msgspec.ValidationError:
        raise wrong from None
    given = [keys.access_key_id, keys.secret_access_key, *([keys.session_token] if keys.session_token else [])]
    if not all(_VISIBLE.fullmatch(part) for part in given):
        raise wrong  # in a header it would be an error that shows it
    return keys


def _failed(call: RouteCall, exchange: Exchange, error: BaseException) -> Outcome:
    """Return what a call that raised comes to: 4xx is a no, nothing left is NotSent, all else is Unknown."""
    answer = exchange.answer
    if answer is not None and 400 <= answer.status < 500:
        said = _said(error) or answer.body.decode("utf-8", "replace")
        reply = reply_of(call.provider, "request", answer.status, said)
        return Refused(msgspec.structs.replace(reply, retry_after_seconds=_retry_after(answer.headers)))
    if not exchange.left:
        what = str(error) if isinstance(error, _Misset) else f"{type(error).__name__}: {error}"
        return NotSent(exchange.stage, without_addresses(what))
    if answer is not None:
        said = _said(error) or "no answer of this API"
        return Unknown(without_addresses(f"the request was answered with {answer.status}: {said}"))
    return Unknown(without_addresses(f"after the request: {type(error).__name__}: {error}"))


def _said(error: BaseException) -> str:
    """Return the error's name and message as the API says them, "" when it says none."""
    if not isinstance(error, ClientError):
        return ""
    said = error.response.get("Error", {})
    name, message = said.get("Code"), said.get("Message")
    if not isinstance(name, str) or name.isdecimal():  # botocore's stopgap: the status again
        return message if isinstance(message, str) else ""
    return f"{name}: {message or ''}".rstrip(": ")


def _retry_after(headers: Mapping[str, str]) -> int | None:
    """Return the seconds of a Retry-After header (RFC 9110 10.2.3: seconds or a date)."""
    said = headers.get("retry-after", "").strip()
    if said.isascii() and said.isdecimal():
        return int(said[:9])
    try:
        until = parsedate_to_datetime(said)
    except ValueError:
        return None
    now = datetime.now(UTC)
    return max(0, round((until.replace(tzinfo=until.tzinfo or UTC) - now).total_seconds()))


def _account(region: str, said: Mapping[str, Any]) -> str:
    """Return a sentence on the account (GetAccount). Raises RouteUnfit."""
    status = said.get("EnforcementStatus", "")
    if status == "SHUTDOWN":
        raise RouteUnfit(
            f"AWS has shut this account's sending down in {region}: answer its mail or open a support case"
        )
    if not said.get("SendingEnabled", False):
        raise RouteUnfit(f"sending is paused for this account in {region}: read AWS's mail on it, then resume it")
    if not said.get("ProductionAccessEnabled", False):
        raise RouteUnfit(f"the account is in the SES sandbox in {region}: ask for production access in the console")
    quota = said.get("SendQuota", {})
    most, rate, sent = (float(quota.get(k, 0)) for k in ("Max24HourSend", "MaxSendRate", "SentLast24Hours"))
    if 0 <= most <= sent:
        raise RouteUnfit(f"the quota of {most:.0f} mails in 24 hours is used up in {region}: wait or ask for more")
    left = "no quota a day" if most < 0 else f"{most - sent:.0f} of {most:.0f} mails left in 24 hours"
    review = " (AWS reviews the account: PROBATION)" if status == "PROBATION" else ""
    return f"{region}: sending is on{review}, {left}, {rate:g} a second"


def _set(what: str, said: Mapping[str, Any]) -> str:
    if not said.get("SendingOptions", {}).get("SendingEnabled", True):
        raise RouteUnfit(f"sending is off for {what}: turn it on again, or name another")
    return f"{what} is there"


def _identity(what: str, said: Mapping[str, Any]) -> str:
    """Return a sentence on the identity (GetEmailIdentity). Raises RouteUnfit."""
    if not said.get("VerifiedForSendingStatus", False):
        status = said.get("VerificationStatus", "PENDING")
        raise RouteUnfit(f"{what} is not verified ({status}): publish its DNS records and wait for SES to see them")
    dkim = said.get("DkimAttributes", {})
    if not dkim.get("SigningEnabled", False) or dkim.get("Status") != "SUCCESS":
        status = dkim.get("Status", "NOT_STARTED")
        raise RouteUnfit(f"SES does not sign for {what} (DKIM: {status}): turn DKIM on and publish its records")
    mail_from = said.get("MailFromAttributes")
    if mail_from and mail_from.get("MailFromDomainStatus") != "SUCCESS":
        domain, status = mail_from.get("MailFromDomain", ""), mail_from.get("MailFromDomainStatus", "")
        raise RouteUnfit(f"the MAIL FROM domain {domain} of {what} is {status}: publish its MX and SPF records")
    return f"{what} is verified and signs"
