"""One bench for each provider: it starts the provider's server, makes it behave and shows what reached it.

A provider joins the contract suite by a class here and a line in BENCHES.
"""

import asyncio
import base64
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from adapters.interface import Mail, MailAdapter
from adapters.mail import claimed_request, smtp_session
from adapters.mail.mailgun import MailgunAdapter
from adapters.mail.memory import MemoryAdapter
from adapters.mail.ses import SesAdapter
from adapters.mail.smtp import SmtpAdapter
from adapters.mail.zoho import ZohoAdapter
from adapters.secrets import Secrets
from ops.receiver import make_certificate
from schemas.ids import RouteId
from schemas.sending import RouteCall, Stage
from tests.adapters import mailgun_server, ses_server
from tests.adapters.mailgun_server import Answer, MailgunServer
from tests.adapters.scripted_smtp import Behaviour, Cut, Mode, Raw, Say, ScriptedSmtp, Silence, Step
from tests.adapters.ses_server import Fault, SesServer

DEADLINE_S = 10.0
GARBAGE = b"\xff\xfe\x00 this is no reply\r\n"


@dataclass(frozen=True)
class Trouble:
    """Something that servers and networks do; `stage` is where an honest NotSent says it stood."""

    name: str
    stage: Stage
    after_claim: bool = False
    big_mail: bool = False
    short_patience: bool = False


@dataclass(frozen=True)
class Arrived:
    """One message as the server has it."""

    envelope_from: str
    recipient: str
    raw: bytes


class Bench(Protocol):
    """What the contract suite needs to know of a provider."""

    refusals: ClassVar[Sequence[Stage]]
    """Stages at which the server can say no."""
    troubles: ClassVar[Sequence[Trouble]]
    statuses: ClassVar[Mapping[int, int]]
    """The HTTP status that stands for an SMTP code, where the server speaks HTTP."""

    @property
    def adapter(self) -> MailAdapter:
        """The adapter under test."""

    @property
    def call(self) -> RouteCall:
        """The route to the bench's server."""

    @property
    def secret_words(self) -> Sequence[str]:
        """What may stand in no outcome, exception or log."""

    async def start(self, folder: Path, patience_s: float) -> None:
        """Start the server; the adapter waits `patience_s` for each of its answers."""

    async def stop(self) -> None:
        """Stop the server."""

    def refuse(self, stage: Stage, code: int, text: str) -> None:
        """Make the server say no at a stage."""

    def trouble(self, trouble: Trouble) -> None:
        """Make the server or the network misbehave."""

    def relent(self) -> None:
        """Let the server be good again."""

    def vanish(self) -> None:
        """Break every connection off."""

    def arrived(self) -> Sequence[Arrived]:
        """Return what the server has whole, in order."""

    async def all_but_the_last_word(self, mail: Mail) -> None:
        """Return when the server has all of `mail` that may reach it before the claim."""

    async def note_claim(self) -> None:
        """Note that the claim is asked now: what the server is told from here on is after it."""

    def steps_after_claim(self) -> Sequence[str]:
        """Return what the server was told after the claim was asked."""


async def until(condition: Callable[[], bool], deadline_s: float = DEADLINE_S) -> bool:
    """Return whether the condition came true before the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.002)
    return True


async def all_hung_up() -> None:
    """Wait until the loop watches only itself: a TLS connection ends when both sides have said so."""
    selector = vars(asyncio.get_running_loop())["_selector"]
    assert await until(lambda: len(selector.get_map()) <= 1)


# ── memory ───────────────────────────────────────────────────────────────────────────────────────


class MemoryBench:
    """The adapter is its own server; there is no network to break."""

    refusals: ClassVar[Sequence[Stage]] = ("rcpt",)
    statuses: ClassVar[Mapping[int, int]] = {}
    troubles: ClassVar[Sequence[Trouble]] = ()
    secret_words: Sequence[str] = ()
    call = RouteCall(RouteId("m"), "memory")

    async def start(self, folder: Path, patience_s: float) -> None:
        """Make the adapter."""
        self.adapter = MemoryAdapter(Secrets(folder))

    async def stop(self) -> None:
        """Nothing runs."""

    def refuse(self, stage: Stage, code: int, text: str) -> None:
        """Refuse Anna."""
        self.adapter.refusing["anna"] = (code, text)

    def trouble(self, trouble: Trouble) -> None:
        """Nothing can go wrong."""
        raise AssertionError(trouble)

    def vanish(self) -> None:
        """There is no connection."""

    def relent(self) -> None:
        """Refuse nobody."""
        self.adapter.refusing.clear()

    def arrived(self) -> Sequence[Arrived]:
        """Return what was kept."""
        return [Arrived(mail.envelope_from, mail.recipient, mail.raw) for mail in self.adapter.kept]

    async def all_but_the_last_word(self, mail: Mail) -> None:
        """Nothing arrives before the claim."""

    async def note_claim(self) -> None:
        """Keeping is the one step."""

    def steps_after_claim(self) -> Sequence[str]:
        """Return nothing: there are no steps on a wire."""
        return []


# ── SMTP ─────────────────────────────────────────────────────────────────────────────────────────

STEPS: Mapping[Step, Stage] = {
    "banner": "connect",
    "ehlo": "ehlo",
    "starttls": "tls",
    "handshake": "tls",
    "ehlo_tls": "tls",
    "auth": "auth",
    "mail": "mail",
    "rcpt": "rcpt",
    "data": "data",
}
BREAKS: Mapping[str, Behaviour] = {
    "cut": Cut(),
    "end": Cut(politely=True),
    "silence": Silence(),
    "garbage": Raw(GARBAGE),
}
NO_ANSWERS: Mapping[str, Behaviour] = {
    **BREAKS,
    "half an answer": Raw(b"25"),
    "no reply code": Raw(b"100 hm\r\n"),
    "354 again": Raw(b"354 go ahead\r\n"),
}
WAITED_FOR = ("silence", "half an answer")


def _scripts() -> Iterator[tuple[Trouble, Step, Behaviour]]:
    for word, how in BREAKS.items():
        for step, stage in STEPS.items():
            if (word, step) != ("end", "handshake"):  # a TLS server cannot end in order what has not begun
                yield Trouble(f"{word} at {step}", stage, short_patience=word in WAITED_FOR), step, how
    yield Trouble("cut within the body", "body", big_mail=True), "body", Cut()
    yield Trouble("silence within the body", "body", big_mail=True, short_patience=True), "body", Silence(deaf=True)
    for word, how in NO_ANSWERS.items():
        yield Trouble(f"{word} at dot", "dot", after_claim=True, short_patience=word in WAITED_FOR), "dot", how


SCRIPTS: Mapping[Trouble, tuple[Step, Behaviour]] = {trouble: (step, how) for trouble, step, how in _scripts()}
NOBODY_LISTENS = Trouble("nobody listens", "connect")


class SmtpBench:
    """A scripted server with STARTTLS and AUTH, on a socket of loopback."""

    refusals: ClassVar[Sequence[Stage]] = ("connect", "ehlo", "tls", "auth", "mail", "rcpt", "data", "dot")
    statuses: ClassVar[Mapping[int, int]] = {}
    troubles: ClassVar[Sequence[Trouble]] = (NOBODY_LISTENS, *SCRIPTS)
    user = "bob@firm.test"
    password = "correct horse battery"
    provider = "smtp"
    made_by: type[SmtpAdapter] | type[ZohoAdapter] = SmtpAdapter
    adapter: MailAdapter

    def __init__(self, mode: Mode = "starttls") -> None:
        self.mode: Mode = mode
        plain = base64.b64encode(f"\0{self.user}\0{self.password}".encode()).decode()
        self.secret_words: Sequence[str] = (
            self.password,
            base64.b64encode(self.password.encode()).decode(),
            plain,
            plain.rstrip("="),
        )

    async def start(self, folder: Path, patience_s: float) -> None:
        """Start the server, with a certificate that the route trusts."""
        certificate, key = make_certificate(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        (folder / "smtp-password").write_text(self.password)
        (folder / "smtp-password").chmod(0o600)
        self.server = ScriptedSmtp(self.mode, context, {self.user: self.password})
        await self.server.start()
        smtp_session.CONNECT_S = smtp_session.BODY_S = patience_s
        self.adapter = self.made_by(Secrets(folder), step_s=patience_s, dot_s=patience_s)
        self.call = RouteCall(
            RouteId("r"),
            self.provider,
            host="127.0.0.1",
            port=self.server.port,
            tls=self.mode,
            username=self.user,
            secret_ref="file:smtp-password",
            ca_file_ref=f"file:{certificate.name}" if self.mode != "none" else "",
        )

    async def stop(self) -> None:
        """Hang up on both sides."""
        await self.adapter.close()
        await self.server.stop()

    def refuse(self, stage: Stage, code: int, text: str) -> None:
        """Answer with this reply at the step of the stage."""
        step: Step = next((step for step, at in STEPS.items() if at == stage), "dot")
        self.server.script[step] = Say(f"{code} {text}")

    def trouble(self, trouble: Trouble) -> None:
        """Put the trouble into the script."""
        if trouble is NOBODY_LISTENS:
            self.server.stop_listening()
            return
        step, how = SCRIPTS[trouble]
        self.server.script[step] = how

    def vanish(self) -> None:
        """Reset all connections."""
        self.server.hang_up()

    def relent(self) -> None:
        """Forget the script."""
        self.server.script.clear()

    def arrived(self) -> Sequence[Arrived]:
        """Return the messages that came with their final dot."""
        return [Arrived(kept.envelope_from, ",".join(kept.recipients), kept.raw) for kept in self.server.kept]

    async def all_but_the_last_word(self, mail: Mail) -> None:
        """The whole body, dots doubled, but no final dot."""
        await until(lambda: self.server.body_octets >= len(mail.raw))

    async def note_claim(self) -> None:
        """Mark the place in the server's memory."""
        self.server.events.append("claim")

    def steps_after_claim(self) -> Sequence[str]:
        """Return the commands after the mark."""
        events = self.server.events
        return events[events.index("claim") + 1 :] if "claim" in events else []


class ZohoBench(SmtpBench):
    """Zoho takes mail as any SMTP server does; its Sent folder has its own tests (test_zoho.py)."""

    provider = "zoho"
    made_by = ZohoAdapter


# ── Mailgun ──────────────────────────────────────────────────────────────────────────────────────

MAILGUN_BREAKS: Mapping[str, mailgun_server.Behaviour] = {
    "cut": Cut(),
    "end": Cut(politely=True),
    "silence": Silence(),
    "garbage": Raw(GARBAGE + b"\r\n"),
}
MAILGUN_NO_ANSWERS: Mapping[str, mailgun_server.Behaviour] = {
    "half a status line": Raw(b"HTTP/1.1 2"),
    "half an answer": Raw(b'HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n{"id": "<'),
    "an answer cut off": Answer(200, b'{"id": "<', {"Content-Length": "9", "Connection": "close"}),
    "a page of somebody else": Answer(200, b"<html>Welcome to our hotel's network</html>"),
    "an empty 200": Answer(200),
    "204": Answer(204),
    "see other": Answer(303, b"", {"Location": "/"}),
    "bad gateway": Answer(502, b"<html>502 Bad Gateway</html>"),
    "gateway time-out": Answer(504, b"<html>504 Gateway Time-out</html>"),
}
MAILGUN_WAITED_FOR = ("silence", "half a status line", "half an answer")


def _mailgun_scripts() -> Iterator[tuple[Trouble, mailgun_server.Step, mailgun_server.Behaviour]]:
    for word, how in MAILGUN_BREAKS.items():
        yield Trouble(f"{word} at TLS", "tls", short_patience=word in WAITED_FOR), "handshake", how
    steps: tuple[mailgun_server.Step, ...] = ("headers", "body", "verdict", "answer")
    for step in steps:
        for word, how in MAILGUN_BREAKS.items():
            short = word in MAILGUN_WAITED_FOR
            yield Trouble(f"{word} at {step}", "request", after_claim=True, short_patience=short), step, how
    for word, how in MAILGUN_NO_ANSWERS.items():
        yield Trouble(word, "request", after_claim=True, short_patience=word in MAILGUN_WAITED_FOR), "verdict", how


MAILGUN_SCRIPTS = {trouble: (step, how) for trouble, step, how in _mailgun_scripts()}


class MailgunBench:
    """The API on a socket of loopback with TLS."""

    refusals: ClassVar[Sequence[Stage]] = ("request",)
    statuses: ClassVar[Mapping[int, int]] = {}
    troubles: ClassVar[Sequence[Trouble]] = (NOBODY_LISTENS, *MAILGUN_SCRIPTS)
    key = "key-3ax6xnjp29jd6fds4gc373sgvjxteol0"
    domain = "firm.test"

    def __init__(self) -> None:
        self.secret_words: Sequence[str] = (self.key, base64.b64encode(f"api:{self.key}".encode()).decode())
        self._told_before_claim: int | None = None

    async def start(self, folder: Path, patience_s: float) -> None:
        """Start the server, with a certificate that the route trusts."""
        certificate, key = make_certificate(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        (folder / "mailgun-key").write_text(self.key)
        (folder / "mailgun-key").chmod(0o600)
        self.server = MailgunServer(context, self.key, self.domain)
        await self.server.start()
        self.adapter = MailgunAdapter(Secrets(folder), connect_s=patience_s, answer_s=patience_s)
        self.call = RouteCall(
            RouteId("g"),
            "mailgun",
            secret_ref="file:mailgun-key",
            ca_file_ref=f"file:{certificate.name}",
            options={"domain": self.domain, "base_url": f"https://127.0.0.1:{self.server.port}"},
        )

    async def stop(self) -> None:
        """Hang up on both sides."""
        await self.adapter.close()
        await self.server.stop()

    def refuse(self, stage: Stage, code: int, text: str) -> None:
        """Answer the request with this status and text."""
        self.server.script["verdict"] = Answer(code, text)

    def trouble(self, trouble: Trouble) -> None:
        """Put the trouble into the script."""
        if trouble is NOBODY_LISTENS:
            self.server.stop_listening()
            return
        step, how = MAILGUN_SCRIPTS[trouble]
        self.server.script[step] = how

    def vanish(self) -> None:
        """Reset all connections."""
        self.server.hang_up()

    def relent(self) -> None:
        """Forget the script."""
        self.server.script.clear()

    def arrived(self) -> Sequence[Arrived]:
        """Return the messages that were queued."""
        return [Arrived(kept.sender, ",".join(kept.recipients), kept.raw) for kept in self.server.kept]

    async def all_but_the_last_word(self, mail: Mail) -> None:
        """A connection with TLS, and not an octet of the request on it."""
        await until(lambda: self.server.connections > 0)

    async def note_claim(self) -> None:
        """Remember how many requests the server was told."""
        self._told_before_claim = len(self.server.told)

    def steps_after_claim(self) -> Sequence[str]:
        """Return the requests after that."""
        return [] if self._told_before_claim is None else self.server.told[self._told_before_claim :]


# ── SES ──────────────────────────────────────────────────────────────────────────────────────────

SES_NO_ANSWERS: Mapping[str, ses_server.Behaviour] = {
    "half a status line": Raw(b"HTTP/1."),
    "half an answer": Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n{"),
    "200 that is no JSON": Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"),
    "200 without MessageId": Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
    "200 of another shape": Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"),
    "202": Raw(b'HTTP/1.1 202 OK\r\nContent-Length: 17\r\n\r\n{"MessageId":"x"}'),
    "a redirect": Raw(b"HTTP/1.1 301 Moved\r\nLocation: https://127.0.0.1/\r\nContent-Length: 0\r\n\r\n"),
    "500": Fault("InternalFailure", "We encountered an internal error. Please try again."),
    "500 without words": Raw(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"),
    "502 of a proxy": Raw(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 21\r\n\r\n<html>bad gateway</ht"),
    "503": Fault("ServiceUnavailable", "The request has failed due to a temporary failure of the server."),
    "a drip": ses_server.Drip(0.1),
}


def _ses_scripts() -> Iterator[tuple[Trouble, ses_server.Step, ses_server.Behaviour]]:
    broken: Mapping[str, ses_server.Behaviour] = {
        "cut": Cut(),
        "end": Cut(politely=True),
        "silence": Silence(),
        "garbage": Raw(GARBAGE),
    }
    after: tuple[ses_server.Step, ...] = ("head", "body", "request", "answer")
    for word, how in broken.items():
        short = word == "silence"
        yield Trouble(f"{word} at handshake", "tls", short_patience=short), "handshake", how
        for step in after:
            yield Trouble(f"{word} at {step}", "request", after_claim=True, short_patience=short), step, how
    for word, how in SES_NO_ANSWERS.items():
        yield Trouble(word, "request", after_claim=True, short_patience=word == "a drip"), "answer", how


SES_SCRIPTS: Mapping[Trouble, tuple[ses_server.Step, ses_server.Behaviour]] = {
    trouble: (step, how) for trouble, step, how in _ses_scripts()
}


class SesBench:
    """SES over TLS on a socket of loopback, with a verified domain and a configuration set."""

    refusals: ClassVar[Sequence[Stage]] = ("request",)
    statuses: ClassVar[Mapping[int, int]] = {421: 429, 451: 429, 550: 400}
    troubles: ClassVar[Sequence[Trouble]] = (NOBODY_LISTENS, *SES_SCRIPTS)
    access_key = "AKIAIOSFODNN7EXAMPLE"
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    secret_words: Sequence[str] = (secret,)

    def __init__(self, *, secure: bool = True) -> None:
        self._secure = secure

    async def start(self, folder: Path, patience_s: float) -> None:
        """Start the server, with a certificate that the route trusts."""
        certificate, key = make_certificate(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.keys_file = folder / "ses-keys"
        self.keys_file.write_text(f"{self.access_key}:{self.secret}")
        self.keys_file.chmod(0o600)
        self.server = SesServer(context if self._secure else None, {self.access_key: self.secret})
        self.server.identities["firm.test"] = ses_server.Identity()
        self.server.configuration_sets["fleet"] = True
        await self.server.start()
        claimed_request.CONNECT_S = patience_s
        self.adapter = SesAdapter(Secrets(folder), answer_s=patience_s)
        self.call = RouteCall(
            RouteId("s"),
            "ses",
            secret_ref=f"file:{self.keys_file.name}",
            ca_file_ref=f"file:{certificate.name}",
            options={
                "region": self.server.region,
                "endpoint_url": self.server.url,
                "configuration_set": "fleet",
                "identity": "firm.test",
            },
        )

    async def stop(self) -> None:
        """Hang up on both sides."""
        await self.adapter.close()
        await self.server.stop()

    def refuse(self, stage: Stage, code: int, text: str) -> None:
        """Answer with the error of SES that has this status."""
        name = {400: "BadRequestException", 404: "NotFoundException", 429: "TooManyRequestsException"}[code]
        self.server.script["request"] = Fault(name, text)

    def trouble(self, trouble: Trouble) -> None:
        """Put the trouble into the script."""
        if trouble is NOBODY_LISTENS:
            self.server.stop_listening()
            return
        step, how = SES_SCRIPTS[trouble]
        self.server.script[step] = how

    def vanish(self) -> None:
        """Reset all connections."""
        self.server.hang_up()

    def relent(self) -> None:
        """Forget the script."""
        self.server.script.clear()

    def arrived(self) -> Sequence[Arrived]:
        """Return the mails that SendEmail took."""
        return [Arrived(taken.feedback_to, ",".join(taken.recipients), taken.raw) for taken in self.server.taken]

    async def all_but_the_last_word(self, mail: Mail) -> None:
        """Connection and TLS stand; no octet of the request may be there."""
        await until(lambda: self.server.connections > 0)

    async def note_claim(self) -> None:
        """Mark the place in the server's memory."""
        self.server.log.append("claim")

    def steps_after_claim(self) -> Sequence[str]:
        """Return the requests after the mark."""
        log = self.server.log
        return log[log.index("claim") + 1 :] if "claim" in log else []


BENCHES: Mapping[str, Callable[[], Bench]] = {
    "smtp": SmtpBench,
    "zoho": ZohoBench,
    "ses": SesBench,
    "mailgun": MailgunBench,
    "memory": MemoryBench,
}
