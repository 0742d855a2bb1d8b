"""Passes the letters of people on to whom the fleet file names: each at most once, in doubt not again.

Before the final dot it is on record that a letter may have left. What a crash leaves open is told, and stays where it
lies: the mailbox has every letter, forwarding is a comfort.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from adapters.forwarded import forwarded
from adapters.interface import Mail
from adapters.mail.smtp_session import SmtpSession
from adapters.secrets import Secrets
from schemas.ids import ClientId, MailboxAddress, RouteId
from schemas.mail import RepliesForwarded
from schemas.metrics import REPLIES_FORWARDED
from schemas.sending import Accepted, Outcome, Refused, RouteCall, Unknown
from streams.log.kafka import AppendUncertain
from streams.settings import ForwardSettings

log = logging.getLogger(__name__)

LATEST = timedelta(days=2)
"""How old a letter may be: a first look goes months back, and nobody wants months of letters."""
MOST_KEPT = 500
MOST_WAITING = 100
TRIES = 12
BEFORE_THE_LETTER = ("connect", "ehlo", "tls", "auth")
"""Where a refusal says nothing of the letter: somebody may mend the account meanwhile."""
RESULTS = ("forwarded", "failed", "in_doubt")
Write = Callable[[RepliesForwarded], Awaitable[None]]


def account_of(given: ForwardSettings) -> RouteCall:
    """Return the operator's account as the SMTP session wants it."""
    return RouteCall(
        route=RouteId("forward"),
        provider="smtp",
        host=given.host,
        port=given.port,
        tls=given.tls,
        username=given.username,
        secret_ref=given.secret_ref,
        ca_file_ref=given.ca_ref,
    )


@dataclass
class _Job:
    """A letter on its way. `name` is its own, wherever it lies."""

    mailbox: MailboxAddress
    name: str
    to: str
    raw: bytes
    cut: bool
    at: datetime
    tries: int = 0


class Forwarder:
    """One for a mail reader. `write` puts a mailbox's record where the next life reads it. Raises AppendUncertain."""

    def __init__(self, given: ForwardSettings, secrets: Secrets, write: Write, retry_s: float = 300.0) -> None:
        self._given = given
        self._session = SmtpSession(secrets)
        self._write_row = write
        self._retry_s = retry_s
        self._rows: dict[MailboxAddress, RepliesForwarded] = {}
        self._writing = asyncio.Lock()
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue()
        self._waiting = 0
        for result in RESULTS:
            REPLIES_FORWARDED.labels(result)

    def recall(self, fact: RepliesForwarded) -> None:
        """Take a mailbox's record, the last one first read last."""
        self._rows[fact.mailbox] = fact

    async def tell_left_over(self) -> None:
        """Tell what an earlier life left open: it is not tried again. Raises AppendUncertain."""
        for row in list(self._rows.values()):
            for name in row.open:
                self._tell(row.mailbox, "in_doubt" if name in row.begun else "failed", "the reader ended meanwhile")
            if row.open:
                await self._write(row.mailbox, row.client, lambda now: msgspec.structs.replace(now, open=()))

    async def take(
        self, mailbox: MailboxAddress, client: ClientId, name: str, to: str, raw: bytes, at: datetime, *, cut: bool
    ) -> None:
        """Take a letter, once. Raises AppendUncertain: then nothing was taken."""
        row = self._rows.get(mailbox)
        if row is not None and (name in row.begun or name in row.open):
            return
        if self._waiting >= MOST_WAITING:
            self._tell(mailbox, "failed", f"{MOST_WAITING} letters wait already")
            return
        await self._write(mailbox, client, lambda now: msgspec.structs.replace(now, open=(*now.open, name)))
        self._waiting += 1
        self._jobs.put_nowait(_Job(mailbox, name, to, raw, cut, at))

    async def run(self) -> None:
        """Pass letters on, one after the other, for ever."""
        try:
            while True:
                job = await self._jobs.get()
                await self._try(job)
        finally:
            await self._session.close()

    async def _try(self, job: _Job) -> None:
        job.tries += 1
        match await self._submit(job):
            case Accepted():
                await self._end(job, "forwarded", "")
            case Unknown(what):
                await self._end(job, "in_doubt", what)
            case Refused(reply) if reply.code >= 500 and reply.stage not in BEFORE_THE_LETTER:
                await self._end(job, "failed", f"{reply.stage}: {reply.code} {reply.enhanced} {reply.text}")
            case other if job.tries >= TRIES:
                await self._end(job, "failed", f"{TRIES} tries, the last: {other}")
            case other:
                log.info("a letter in %s is passed on later: %s", job.mailbox, other)
                asyncio.get_running_loop().call_later(self._retry_s, self._jobs.put_nowait, job)

    async def _submit(self, job: _Job) -> Outcome:
        given = self._given
        raw = forwarded(
            job.raw, name=job.name, mailbox=job.mailbox, sender=given.sender, to=job.to, at=job.at, cut=job.cut
        )

        async def claim() -> bool:
            return await self._begin(job)

        return await self._session.submit(account_of(given), Mail(given.sender, job.to, raw), claim)

    async def _begin(self, job: _Job) -> bool:
        """Put on record that the letter may have left from now on."""
        try:
            await self._change(job, lambda now: msgspec.structs.replace(now, begun=_with(now.begun, job.name)))
        except AppendUncertain as error:
            log.warning("a letter in %s is passed on later: %s", job.mailbox, error)
            return False
        return True

    async def _end(self, job: _Job, result: str, why: str) -> None:
        self._waiting -= 1
        try:
            await self._change(
                job, lambda now: msgspec.structs.replace(now, open=tuple(n for n in now.open if n != job.name))
            )
        except AppendUncertain as error:  # told once more by the next life, never sent again
            log.warning("%s: the end of a forwarding is not on record: %s", job.mailbox, error)
        self._tell(job.mailbox, result, why)

    def _tell(self, mailbox: MailboxAddress, result: str, why: str) -> None:
        REPLIES_FORWARDED.labels(result).inc()
        if result != "forwarded":
            log.error("a letter in %s was not passed on for sure (%s): %s", mailbox, result, why)

    async def _change(self, job: _Job, change: Callable[[RepliesForwarded], RepliesForwarded]) -> None:
        await self._write(job.mailbox, self._rows[job.mailbox].client, change)

    async def _write(
        self, mailbox: MailboxAddress, client: ClientId, change: Callable[[RepliesForwarded], RepliesForwarded]
    ) -> None:
        async with self._writing:
            row = change(self._rows.get(mailbox) or RepliesForwarded(mailbox, client))
            await self._write_row(row)
            self._rows[mailbox] = row


def _with(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return names if name in names else (*names, name)[-MOST_KEPT:]
