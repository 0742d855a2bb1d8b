"""Submission to any SMTP server, through aiosmtplib: STARTTLS or TLS, AUTH, reuse, the claim before the final dot.

What the adapters that speak SMTP are made from; each adds what it knows of its provider's records.

The final dot is sent as a command of its own, so that the body can lie at the server, unclaimed, and be
dropped by hanging up. RFC 5321 4.5.3.2.6 gives the server ten minutes to answer it: a client that is less
patient makes duplicates elsewhere, and Unknowns here.
"""

import asyncio
import re
import ssl
import time
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path

import aiosmtplib

from adapters.interface import Claim, Mail, RouteUnfit, beyond_ascii, reply_of, without_addresses
from adapters.secrets import SecretMissing, Secrets
from schemas.sending import Accepted, NotSent, Outcome, Refused, RouteCall, Stage, Unknown

CONNECT_S = 20.0
STEP_S = 60.0
BODY_S = 120.0
DOT_S = 600.0
IDLE_S = 20.0
MAILS_PER_CONNECTION = 50
CLOSING = 421
CHUNK = 65_536
NOTIFY = "NOTIFY=FAILURE,DELAY"
"""Asked of a server that offers DSN (RFC 3461 4.1): a report of each delivery would be a mail for each mail."""

_LEADING_DOT = re.compile(rb"^\.", re.MULTILINE)
_LINE_END = re.compile(rb"\r\n|\r|\n")
_FAILURES = (aiosmtplib.SMTPException, OSError, asyncio.TimeoutError, ValueError)
"""What servers and networks do; ValueError is the client's, for an address or answer that it cannot encode."""


class _Ended(Exception):
    """The conversation came to an outcome before the claim."""

    def __init__(self, outcome: Outcome, *, reusable: bool = False) -> None:
        super().__init__()
        self.outcome = outcome
        self.reusable = reusable


@dataclass
class _Connection:
    client: aiosmtplib.SMTP
    carried: int = 0
    idle_since: float = field(default_factory=time.monotonic)


class SmtpSession:
    """Submits over SMTP. Idle connections are kept per (host, port, login) and used again."""

    def __init__(self, secrets: Secrets, *, dot_s: float = DOT_S, step_s: float = STEP_S) -> None:
        self._secrets = secrets
        self._dot_s = dot_s
        self._step_s = step_s
        self._contexts: dict[tuple[Path | None, int], ssl.SSLContext] = {}
        self._idle: dict[tuple[str, int, str], list[_Connection]] = {}

    async def submit(self, call: RouteCall, mail: Mail, claim: Claim) -> Outcome:
        """Hand over one mail; see the contract in adapters/interface.py."""
        if (wrong := beyond_ascii(mail)) is not None:
            return wrong
        try:
            connection = await self._ready(call, mail)
        except _Ended as end:
            return end.outcome
        connection.carried += 1
        keep = False
        try:
            await self._body(connection.client, call, mail)
            outcome = await self._dot(connection.client, call, claim)
            keep = isinstance(outcome, Accepted | Refused)
        except _Ended as end:
            outcome, keep = end.outcome, end.reusable
        finally:
            self._put_back(call, connection, keep=keep)
        return outcome

    async def check(self, call: RouteCall) -> str:
        """Connect, TLS and AUTH, then QUIT. Raises RouteUnfit."""
        try:
            client = await self._connect(call)
        except _Ended as end:
            raise RouteUnfit(_unfit(call, end.outcome)) from end
        client.close()
        return f"{call.host}:{call.port} takes the login over {call.tls}"

    async def close(self) -> None:
        """Hang up all idle connections."""
        for connections in self._idle.values():
            for connection in connections:
                connection.client.close()
        self._idle.clear()

    # ── connections ──────────────────────────────────────────────────────────────────────────────

    async def _ready(self, call: RouteCall, mail: Mail) -> _Connection:
        """Return a connection that has taken MAIL FROM. A reused one that died is replaced: nothing left."""
        while (held := self._take_idle(call)) is not None:
            try:
                await self._mail_from(held.client, call, mail)
            except _Ended as end:
                if isinstance(end.outcome, Refused) and end.outcome.reply.code != CLOSING:
                    raise
                continue
            return held
        fresh = _Connection(await self._connect(call))
        await self._mail_from(fresh.client, call, mail)
        return fresh

    def _take_idle(self, call: RouteCall) -> _Connection | None:
        connections = self._idle.get((call.host, call.port, call.username), [])
        while connections:
            connection = connections.pop()
            if connection.client.is_connected and time.monotonic() - connection.idle_since < IDLE_S:
                return connection
            connection.client.close()
        return None

    def _put_back(self, call: RouteCall, connection: _Connection, *, keep: bool) -> None:
        client = connection.client
        if keep and client.is_connected and _in_step(client) and connection.carried < MAILS_PER_CONNECTION:
            connection.idle_since = time.monotonic()
            self._idle.setdefault((call.host, call.port, call.username), []).append(connection)
        else:
            client.close()

    async def _connect(self, call: RouteCall) -> aiosmtplib.SMTP:
        client = aiosmtplib.SMTP(
            hostname=call.host, port=call.port, use_tls=call.tls == "implicit", start_tls=False, timeout=CONNECT_S
        )
        try:
            await self._greet(client, call)
        except BaseException:
            client.close()
            raise
        return client

    async def _greet(self, client: aiosmtplib.SMTP, call: RouteCall) -> None:
        """Connect, EHLO, TLS, AUTH. Raises _Ended."""
        stage: Stage = "connect"
        secret = ""
        try:
            context = self._tls(call)
            await client.connect(tls_context=context)
            stage = "ehlo"
            await client.ehlo(timeout=self._step_s)
            if call.tls == "starttls":
                stage = "tls"
                await client.starttls(tls_context=context, timeout=self._step_s)
                await client.ehlo(timeout=self._step_s)
            if call.secret_ref:
                stage = "auth"
                secret = self._secrets.resolve(call.secret_ref)
                await self._log_in(client, call, secret)
        except SecretMissing as error:
            raise _Ended(NotSent(stage, str(error))) from error
        except aiosmtplib.SMTPResponseException as error:
            said = type(error)(error.code, without_login(error.message, call.username, secret))
            raise _Ended(self._before_claim(call, stage, said)) from None
        except _FAILURES as error:
            raise _Ended(self._before_claim(call, stage, error)) from error

    async def _log_in(self, client: aiosmtplib.SMTP, call: RouteCall, secret: str) -> None:
        """Say who we are: the secret is a password, or with the option `auth = "xoauth2"` an access token."""
        if call.options.get("auth") == "xoauth2":
            await client.auth_xoauth2(call.username, secret, timeout=self._step_s)
        else:
            await client.login(call.username, secret, timeout=self._step_s)

    def _tls(self, call: RouteCall) -> ssl.SSLContext | None:
        return None if call.tls == "none" else self.trust(call)

    def trust(self, call: RouteCall) -> ssl.SSLContext:
        """Return what to check a server of the route by: the system's certificates and the route's own.

        Raises SecretMissing and OSError.
        """
        path = self._secrets.path(call.ca_file_ref) if call.ca_file_ref else None
        try:
            key = (path, path.stat().st_mtime_ns if path is not None else 0)
        except FileNotFoundError as error:
            raise SecretMissing(
                f"certificate {call.ca_file_ref} is not there: put it into MAILFLEET_HOME/secrets"
            ) from error
        if key not in self._contexts:  # reading the system's certificates takes tens of milliseconds
            context = ssl.create_default_context()
            if path is not None:
                context.load_verify_locations(path)
            self._contexts[key] = context
        return self._contexts[key]

    # ── one mail ─────────────────────────────────────────────────────────────────────────────────

    def _before_claim(self, call: RouteCall, stage: Stage, error: BaseException) -> Outcome:
        """Nothing has left: a reply is Refused, anything else NotSent."""
        if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
            error = error.recipients[0]
        if isinstance(error, aiosmtplib.SMTPResponseException) and error.code > 0:
            return Refused(reply_of(call.provider, stage, error.code, error.message))
        return NotSent(stage, without_addresses(f"{type(error).__name__}: {error}"))

    async def _mail_from(self, client: aiosmtplib.SMTP, call: RouteCall, mail: Mail) -> None:
        try:
            await client.mail(mail.envelope_from, options=_mail_options(client, mail), timeout=self._step_s)
        except _FAILURES as error:
            client.close()
            raise _Ended(self._before_claim(call, "mail", error)) from error
        except BaseException:
            client.close()
            raise

    async def _body(self, client: aiosmtplib.SMTP, call: RouteCall, mail: Mail) -> None:
        """RCPT, DATA and the whole body, but for the final dot."""
        stage: Stage = "rcpt"
        try:
            options = [NOTIFY] if client.supports_extension("dsn") else []
            await client.rcpt(mail.recipient, options=options, timeout=self._step_s)
            stage = "data"
            answer = await client.execute_command(b"DATA", timeout=self._step_s)
            if answer.code != 354:
                raise aiosmtplib.SMTPDataError(answer.code, answer.message)
            stage = "body"
            await self._write(client, mail.raw)
            if not _in_step(client):
                raise aiosmtplib.SMTPServerDisconnected("the server says more than it is asked; hung up")
        except aiosmtplib.SMTPResponseException as error:
            outcome = self._before_claim(call, stage, error)
            raise _Ended(outcome, reusable=await self._reset(client)) from error
        except _FAILURES as error:
            raise _Ended(self._before_claim(call, stage, error)) from error

    async def _write(self, client: aiosmtplib.SMTP, raw: bytes) -> None:
        """Write the body and wait until the kernel has all of it."""
        body = stuffed(raw)
        protocol, transport = client.protocol, client.transport
        if protocol is None or transport is None or transport.is_closing():
            raise aiosmtplib.SMTPServerDisconnected("the server hung up before the body")
        async with asyncio.timeout(BODY_S):
            for start in range(0, len(body), CHUNK):  # at once, TLS would push it all past the counted buffer
                protocol.write(body[start : start + CHUNK])
                while isinstance(transport, asyncio.WriteTransport) and transport.get_write_buffer_size() > 0:
                    if transport.is_closing():
                        raise aiosmtplib.SMTPServerDisconnected("the server hung up within the body")
                    await asyncio.sleep(0.005)

    async def _dot(self, client: aiosmtplib.SMTP, call: RouteCall, claim: Claim) -> Outcome:
        if not await claim():
            client.close()
            return NotSent("claim", "the claim was refused")
        if not client.is_connected or client.transport is None or client.transport.is_closing():
            return NotSent("claim", "the server hung up before the final dot")
        try:
            answer = await client.execute_command(b".", timeout=self._dot_s)
        except aiosmtplib.SMTPResponseException as error:
            return self._answer(call, error.code, error.message, client)
        except _FAILURES as error:
            client.close()
            return Unknown(without_addresses(f"after the final dot: {type(error).__name__}: {error}"))
        return self._answer(call, answer.code, answer.message, client)

    def _answer(self, call: RouteCall, code: int, text: str, client: aiosmtplib.SMTP) -> Outcome:
        reply = reply_of(call.provider, "dot", code, text)
        if 200 <= code < 300:
            return Accepted(_queue_id(reply.text), reply)
        if 400 <= code < 600:
            return Refused(reply)
        client.close()
        return Unknown(f"the server answered the final dot with {code}, which is no answer (RFC 5321 4.2)")

    async def _reset(self, client: aiosmtplib.SMTP) -> bool:
        try:
            await client.rset(timeout=5)
        except _FAILURES:
            return False  # the connection is dropped, nothing else depended on it
        return True


def stuffed(raw: bytes) -> bytes:
    """Return the mail as DATA carries it: lines end with CR LF, the last one too, and a leading dot is doubled."""
    whole_lines = raw.count(b"\n") == raw.count(b"\r") == raw.count(b"\r\n")  # as mails of ours are: nothing to mend
    body = raw if whole_lines else _LINE_END.sub(b"\r\n", raw)
    if b"\n." in body or body.startswith(b"."):
        body = _LEADING_DOT.sub(b"..", body)
    return body if body.endswith(b"\r\n") else body + b"\r\n"


def _in_step(client: aiosmtplib.SMTP) -> bool:
    """Whether no answer is left over: it would be taken for the answer to the final dot."""
    return client.protocol is None or not client.protocol._buffer  # aiosmtplib 5.1.3 shows it nowhere else


def _mail_options(client: aiosmtplib.SMTP, mail: Mail) -> list[str]:
    """Ask for the headers only, and that a report names the attempt (RFC 3461 4.3, 4.4), where DSN is offered."""
    if not client.supports_extension("dsn"):
        return []
    return ["RET=HDRS", f"ENVID={mail.token}.{mail.attempt}"] if mail.token.isalnum() else ["RET=HDRS"]


def without_login(text: str, username: str, secret: str) -> str:
    """Some servers repeat the command that they refuse; a login must not come into a fact."""
    said = (f"\0{username}\0{secret}", f"user={username}\1auth=Bearer {secret}\1\1", secret)
    forms = [secret, *(b64encode(words.encode()).decode().rstrip("=") for words in said)]
    for form in forms if secret else []:
        text = text.replace(form, "<secret>")
    return text


def _unfit(call: RouteCall, outcome: Outcome) -> str:
    where = f"{call.host}:{call.port}"
    match outcome:
        case Refused(reply):
            said = f"{reply.code} {reply.enhanced} {reply.text}".replace("  ", " ")
            return f"{where} refuses at {reply.stage}: {said}; check the login and what the provider allows"
        case NotSent(stage, what):
            return f"{where} fails at {stage}: {what}; check host, port, TLS setting and network"
        case _:
            return f"{where} gave no usable answer"


def _queue_id(text: str) -> str:
    """Return the server's own id in its 250 ("Ok: queued as 4XyZ12"), "" when it names none."""
    found = re.search(r"(?:queued as|\bid[ =]+)\s*([A-Za-z0-9._:-]+)", text, re.IGNORECASE)
    return found[1] if found else ""
