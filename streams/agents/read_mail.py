"""The mail reader: reads every mailbox whose IMAP host is known and publishes what came back to delivery-inputs,
and the DMARC reports among it to fleet-inputs.

A plain asyncio process over threads. It decides nothing. How far a mailbox is read is a fact, written after Kafka has
acknowledged all that was read up to there: a crash reads some messages again, it loses none.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

from adapters.mail.zoho import imap_host_beside
from adapters.reports.dmarc import MAX_OCTETS, NotAReport
from adapters.reports.imap import FOLDER, Account, Inbox, Message, Trust, Unreadable
from adapters.reports.mime import MAX_BYTES
from adapters.secrets import Secrets
from schemas.fleet import BounceMailbox, ClientDeclared, MailboxDeclared, RouteDeclared
from schemas.ids import ClientId, MailboxAddress
from schemas.mail import MailboxRead, MailboxUnreadable, RepliesForwarded
from schemas.metrics import MAIL_FORGED, MAIL_OLDEST_LOOK_SECONDS, MAIL_READ, MAILBOXES_UNREADABLE
from schemas.registry import Fact
from schemas.reports import ReportForged, ReportSeen
from schemas.topics import DELIVERY_INPUTS, FLEET_INPUTS, FLEET_JOURNAL, MAIL_POSITIONS, Topic, partition_of
from streams.agents.declared import Declarations
from streams.agents.dmarc_reports import Domains, domains, facts_in
from streams.agents.facts import append, remembered
from streams.agents.forward_replies import LATEST, Forwarder
from streams.agents.mail_reports import ODD, Found, Place, is_for_a_person, not_given, not_taken, reports_but_dmarc
from streams.agents.side_by_side import side_by_side
from streams.log.kafka import AppendUncertain, LogUnreachable, Reader, Writer
from streams.settings import Settings

log = logging.getLogger(__name__)
T = TypeVar("T")

LOOK_BACK = timedelta(days=90)
"""How old a message may be that a first look reads: what came before we sent is no report of ours."""
TOLD_EVERY = timedelta(days=1)
BATCH = 8  # of at most 256 kB each, on every line: the bound of the memory
TRANSIENT = 3  # failures of the network in a row before people are told
GIVEN_UP = 5  # tries for one message
API_PROVIDERS = ("ses", "mailgun")


@dataclass(frozen=True)
class Plan:
    """How many connections there may be, and how often a mailbox is read.

    40 lines that each take 2 s read 1,200 mailboxes in a minute; `watched` of them stay in IDLE.
    """

    every: timedelta = timedelta(minutes=5)
    declared_s: float = 15.0  # between two looks at what is declared
    connections: int = 40
    per_host: int = 16
    watched: int = 16
    watched_per_host: int = 8
    watch_s: float = 30.0  # of IDLE before a look: the longest that mail goes unheard
    call_s: float = 180.0  # for one step at a server, however slowly it drips
    retry_s: float = 60.0
    forward_again_s: float = 300.0
    longest_wait_s: float = 1_800.0


# ── which mailboxes, and how ─────────────────────────────────────────────────────────────────────


def accounts(facts: Iterable[Fact]) -> list[Account]:
    """Return every mailbox that can be read, given everything that is declared; bounce mailboxes first."""
    declared = list(facts)
    ways = {(f.client, f.route): f for f in declared if isinstance(f, RouteDeclared) and f.active}
    boxes = [f for f in declared if isinstance(f, MailboxDeclared) and f.active]
    bounces = [
        _bounce_account(f.client, f.bounce_mailbox)
        for f in declared
        if isinstance(f, ClientDeclared) and f.active and f.bounce_mailbox is not None
    ]
    found = _shared(bounces)
    for box in sorted(boxes, key=lambda box: box.mailbox):
        account = next((a for r in box.routes if (a := _account(box, ways.get((box.client, r)))) is not None), None)
        if account is not None:
            found.setdefault(account.mailbox, account)
    shared = {account.mailbox: account for account in report_accounts(declared)}
    return list({**shared, **found}.values())  # what is read already is read for these, too


def report_accounts(facts: Iterable[Fact]) -> list[Account]:
    """Return the mailboxes that are declared for DMARC reports."""
    reports = [
        replace(_bounce_account(f.client, f.dmarc_mailbox), bounces_only=False)
        for f in facts
        if isinstance(f, ClientDeclared) and f.active and f.dmarc_mailbox is not None
    ]
    return list(_shared(reports).values())


def _shared(known: list[Account]) -> dict[MailboxAddress, Account]:
    """Return each mailbox once; one that several clients share is nobody's: only a token says whose a report is."""
    found = {account.mailbox: account for account in known}
    for account in known:
        if account.client != found[account.mailbox].client:
            found[account.mailbox] = replace(account, client=ClientId(""))
    return found


def imap_host_of(way: RouteDeclared) -> str:
    """Return the IMAP host of the mailboxes that use this route, or "" when none is known."""
    return way.options.get("imap_host") or (imap_host_beside(way.host) if way.provider == "zoho" else "")


def _account(box: MailboxDeclared, way: RouteDeclared | None) -> Account | None:
    if way is None or not (host := imap_host_of(way)):
        return None
    if way.provider in API_PROVIDERS and not way.options.get("secret_ref"):
        return None  # the mailbox's secret is the provider's key then, and no mail server's business
    port = way.options.get("imap_port", "993")
    return Account(
        box.mailbox,
        box.client,
        host,
        box.username or box.mailbox,
        box.secret_ref,
        int(port) if port.isdecimal() else 0,  # nobody listens at 0: people are told
        way.options.get("imap_ca_file_ref") or way.ca_file_ref,
        way.options.get("imap_after_reading", ""),
        auth=way.options.get("auth", ""),
    )


def _bounce_account(client: ClientId, box: BounceMailbox) -> Account:
    user = box.username or box.address
    folder = box.folder or FOLDER
    return Account(
        box.address, client, box.host, user, box.secret_ref, box.port, box.ca_file_ref, box.after_reading, True, folder
    )


def watched_of(known: Iterable[Account], plan: Plan, *, without: Iterable[MailboxAddress] = ()) -> set[MailboxAddress]:
    """Return which mailboxes stay connected in IDLE: bounce mailboxes first, within the bounds of the plan."""
    skipped, per_host = set(without), Counter[str]()
    chosen: set[MailboxAddress] = set()
    for account in sorted(known, key=lambda a: (not a.bounces_only, a.mailbox)):
        free = len(chosen) < plan.watched and per_host[account.host] < plan.watched_per_host
        if free and account.mailbox not in skipped:
            chosen.add(account.mailbox)
            per_host[account.host] += 1
    return chosen


# ── the reader ───────────────────────────────────────────────────────────────────────────────────


class MailReader:
    """One reader process; two would only read twice."""

    def __init__(
        self,
        settings: Settings,
        reader: Reader,
        writer: Writer,
        plan: Plan = Plan(),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._key = settings.fleet_key()
        self._secrets = Secrets(settings.secrets_folder)
        self._trust = Trust(self._secrets)
        self._reader = reader
        self._writer = writer
        self._plan = plan
        self._now = now
        self._declared = Declarations(settings.topic(FLEET_JOURNAL), reader)
        self._domains = Domains()
        self._known: dict[MailboxAddress, Account] = {}
        self._tasks: dict[MailboxAddress, asyncio.Task[None]] = {}
        self._read: dict[MailboxAddress, MailboxRead] = {}
        self._unreadable: dict[MailboxAddress, MailboxUnreadable] = {}
        self._looked: dict[MailboxAddress, datetime] = {}
        self._stuck = Counter[tuple[MailboxAddress, int]]()
        self._watched: set[MailboxAddress] = set()
        self._unwatchable: set[MailboxAddress] = set()
        self._lines = asyncio.Semaphore(plan.connections)
        self._lines_of: dict[str, asyncio.Semaphore] = {}
        self._threads = ThreadPoolExecutor(plan.connections + 1, thread_name_prefix="mail")
        self._forward_to: dict[ClientId, str] = {}
        self._forwarder: Forwarder | None = None
        if settings.forward.host:
            self._forwarder = Forwarder(settings.forward, self._secrets, self._tell_forwarded, plan.forward_again_s)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Hang up everywhere and end: what is in hand is read again."""
        self._stopping.set()

    async def run(self) -> None:
        """Read until stopped. Raises JournalBroken."""
        try:
            passing_on = [] if self._forwarder is None else [self._forwarder.run()]
            await side_by_side(self._work(), *passing_on, self._stopping.wait())
        finally:
            await self._end(self._tasks.values())
            self._threads.shutdown(wait=False)
            await self._writer.close()
            await self._reader.close()

    async def _work(self) -> None:
        remembered = False
        while True:
            try:
                if not remembered:
                    await self._remember()
                    remembered = True
                await self._declared.refresh()
                self._domains = domains(self._declared.held.values())
                self._forward_to = self._whom()
                await self._follow(accounts(self._declared.held.values()))
            except (LogUnreachable, AppendUncertain) as error:
                log.warning("the mail reader tries again in %s s: %s", self._plan.declared_s, error)
            self._measure()
            await self._a_while()

    def _whom(self) -> dict[ClientId, str]:
        """Return to whom each client's letters are passed on."""
        clients = [f for f in self._declared.held.values() if isinstance(f, ClientDeclared) and f.active]
        found = {client.client: client.forward_replies_to for client in clients if client.forward_replies_to}
        if found and self._forwarder is None and found != self._forward_to:
            log.error("letters for %s are not passed on: FORWARD_SMTP is not set", ", ".join(sorted(found)))
        return found

    async def _a_while(self) -> None:
        """Wait until the next look at what is declared, or until a mailbox's task ends, which it never should."""
        if not self._tasks:
            await asyncio.sleep(self._plan.declared_s)
            return
        done, _ = await asyncio.wait(
            self._tasks.values(), timeout=self._plan.declared_s, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            task.result()

    async def _follow(self, wanted: list[Account]) -> None:
        """Begin with new mailboxes, end with those that went, begin anew with those that changed."""
        want = {account.mailbox: account for account in wanted}
        gone = [mailbox for mailbox in self._tasks if want.get(mailbox) != self._known[mailbox]]
        await self._end([self._tasks.pop(mailbox) for mailbox in gone])
        for mailbox in gone:
            self._unwatchable.discard(mailbox)
            self._unreadable.pop(mailbox, None)
            self._looked.pop(mailbox, None)
        self._known = want
        self._watched = watched_of(wanted, self._plan, without=self._unwatchable)
        for mailbox, account in want.items():
            if mailbox not in self._tasks:
                self._looked[mailbox] = self._now()
                self._tasks[mailbox] = asyncio.create_task(self._keep(account))

    async def _end(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        ending = list(tasks)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    def _measure(self) -> None:
        now = self._now()
        ages = [(now - at).total_seconds() for at in self._looked.values()]
        MAIL_OLDEST_LOOK_SECONDS.set(max(ages, default=0.0))
        MAILBOXES_UNREADABLE.set(len(self._unreadable.keys() & self._known.keys()))

    # ── one mailbox ──────────────────────────────────────────────────────────────────────────────

    async def _keep(self, account: Account) -> None:
        """Read a mailbox again and again; its troubles are its own."""
        failures = 0
        while True:
            wait = self._plan.every.total_seconds()
            try:
                await self._visit(account)
                failures = 0
            except Unreadable as error:
                failures += 1
                wait = min((wait if error.lasting else self._plan.retry_s) * 2 ** (failures - 1), self._longest())
                log.warning("%s cannot be read, tried again in %.0f s: %s", account.mailbox, wait, error)
                if error.lasting or failures >= TRANSIENT:
                    await self._tell_unreadable(account, str(error))
            except AppendUncertain as error:
                wait = self._plan.retry_s
                log.warning("%s is read again in %.0f s: %s", account.mailbox, wait, error)
            await asyncio.sleep(wait)

    def _longest(self) -> float:
        return max(self._plan.longest_wait_s, self._plan.every.total_seconds())

    async def _visit(self, account: Account) -> None:
        """Connect, read on, and stay while the mailbox is a watched one. Raises Unreadable, AppendUncertain."""
        lines_there = self._lines_of.setdefault(account.host, asyncio.Semaphore(self._plan.per_host))
        async with lines_there, self._lines:
            inbox = Inbox(account, self._secrets, self._trust)
            try:
                validity = await self._step(inbox, inbox.open)
                await self._read_on(account, inbox, validity)
                while account.mailbox in self._watched and await self._is_told(account, inbox):
                    await self._read_on(account, inbox, validity)
            finally:
                await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._threads, inbox.close))

    async def _is_told(self, account: Account, inbox: Inbox) -> bool:
        """Wait for new mail, not for ever; False when the server does not offer that."""
        seconds = self._plan.watch_s
        told = await self._step(inbox, lambda: inbox.wait(seconds), seconds + self._plan.call_s)
        if not told:
            self._unwatchable.add(account.mailbox)
        return told

    async def _step(self, inbox: Inbox, work: Callable[[], T], seconds: float = 0.0) -> T:
        """Do one thing at a server in a thread; hang up when it takes too long or we end. Raises Unreadable."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        seconds = seconds or self._plan.call_s
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(future)
        except (TimeoutError, asyncio.CancelledError) as error:
            inbox.hang_up()
            with contextlib.suppress(Unreadable):
                await future
            if isinstance(error, TimeoutError):
                raise Unreadable(f"the server did not finish within {seconds:.0f} s") from None
            raise

    async def _read_on(self, account: Account, inbox: Inbox, validity: int) -> None:
        """Publish what came since the last time, then say how far that is."""
        known = self._read.get(account.mailbox)
        if known is None or (known.folder, known.uid_validity) != (account.folder, validity):
            since = self._now() - LOOK_BACK
            uids, last = await self._step(inbox, lambda: inbox.uids_since(since)), max(inbox.uid_next - 1, 0)
        else:
            last = known.last_uid
            uids = await self._step(inbox, lambda: inbox.uids_after(known.last_uid))
        while uids:
            size = 1 if self._stuck[account.mailbox, uids[0]] else BATCH
            batch, uids = uids[:size], uids[size:]
            done = await self._read_batch(account, inbox, validity, batch)
            await self._tell_read(account, validity, batch[-1] if uids else max(last, batch[-1]))
            last = max(last, batch[-1])
            if done and account.after_reading:
                await self._step(inbox, partial(inbox.settle, done))
        now = self._now()
        self._looked[account.mailbox] = now
        told = self._read.get(account.mailbox)
        if (
            told is None
            or (told.folder, told.uid_validity, told.last_uid) != (account.folder, validity, last)
            or account.mailbox in self._unreadable
            or now - told.at >= TOLD_EVERY
        ):
            await self._tell_read(account, validity, last)

    async def _read_batch(self, account: Account, inbox: Inbox, validity: int, batch: list[int]) -> list[int]:
        """Publish what a few messages report; return the UIDs of those that no person has to see.

        A message that cannot be had is passed over at last, on record.
        """
        first = account.mailbox, batch[0]
        place = Place("", account.mailbox, account.client, self._now(), account.folder, validity)
        try:
            messages = await self._step(inbox, lambda: inbox.fetch(batch))
        except Unreadable:
            self._stuck[first] += 1
            if len(batch) == 1 and self._stuck[first] >= GIVEN_UP:
                await self._publish([not_given(_at(place, Message(batch[0], b"", None)))])
                await self._tell_read(account, validity, batch[0])
                del self._stuck[first]
            raise
        self._stuck.pop(first, None)
        done: list[int] = []
        for message in messages:
            there = _at(place, message)
            found = await self._aside(reports_but_dmarc, message.raw, there, self._key)
            if found is None:
                found = await self._count(inbox, message, there)
            await self._publish(found)
            await self._pass_on(account, message, found)
            if not any(is_for_a_person(report.fact) for report in found):
                done.append(message.uid)
        return done

    async def _aside(self, work: Callable[..., T], *given: object) -> T:
        """Do what takes a while in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *given)

    async def _count(self, inbox: Inbox, message: Message, there: Place) -> list[Found]:
        """Publish what a DMARC report says of our domains; return what is told of one that does not count."""
        raw = message.raw
        if len(raw) >= MAX_BYTES:
            whole = await self._step(inbox, partial(inbox.fetch, [message.uid], MAX_OCTETS + 1))
            raw = whole[0].raw if whole else raw
        try:
            facts = await self._aside(facts_in, raw, self._domains, self._now())
        except NotAReport as error:
            return [not_taken(there, str(error))]
        except ODD as error:  # its reader bears all that was ever tried on it; the messages behind must not wait
            log.error("%s: a DMARC report could not be understood: %s", there.event, type(error).__name__)
            return [not_taken(there, f"it could not be understood ({type(error).__name__})")]
        for fact in facts:
            await self._append(FLEET_INPUTS, fact.client.encode(), fact)
        MAIL_READ.labels("dmarc").inc()
        return []

    async def _pass_on(self, account: Account, message: Message, found: list[Found]) -> None:
        """Give a person's letter to the forwarder. Raises AppendUncertain: then it is read again."""
        to, at, now = self._forward_to.get(account.client, ""), message.at, self._now()
        if self._forwarder is None or not to or now - (at or now) > LATEST:
            return
        for fact in (report.fact for report in found):
            if isinstance(fact, ReportSeen) and fact.kind == "reply":
                name, cut = fact.letter_id or fact.event_id, len(message.raw) >= MAX_BYTES
                await self._forwarder.take(account.mailbox, account.client, name, to, message.raw, now, cut=cut)

    # ── facts ────────────────────────────────────────────────────────────────────────────────────

    async def _publish(self, found: list[Found]) -> None:
        for report in found:
            fact = report.fact
            await self._append(DELIVERY_INPUTS, report.key, fact)
            if isinstance(fact, ReportForged):
                MAIL_FORGED.inc()
            else:
                MAIL_READ.labels(fact.kind).inc()

    async def _tell_read(self, account: Account, validity: int, last_uid: int) -> None:
        fact = MailboxRead(account.mailbox, account.client, account.folder, validity, last_uid, self._now())
        await self._position(account.mailbox, account.mailbox, fact)
        self._read[account.mailbox] = fact
        self._unreadable.pop(account.mailbox, None)

    async def _tell_unreadable(self, account: Account, what: str) -> None:
        """Say it once; the same trouble again is the same story."""
        known = self._unreadable.get(account.mailbox)
        if known is not None and known.what == what:
            return
        since = self._now() if known is None else known.since
        fact = MailboxUnreadable(account.mailbox, account.client, since, what)
        try:
            await self._position(account.mailbox, f"{account.mailbox}/unreadable", fact)
        except AppendUncertain as error:
            log.warning("that %s cannot be read is told later: %s", account.mailbox, error)
            return
        self._unreadable[account.mailbox] = fact

    async def _tell_forwarded(self, fact: RepliesForwarded) -> None:
        await self._position(fact.mailbox, f"{fact.mailbox}/forwarded", fact)

    async def _position(self, mailbox: MailboxAddress, key: str, fact: Fact) -> None:
        """The last record of a key stays: where a mailbox is read to and why it is not have a key each."""
        partition = partition_of(mailbox.encode(), MAIL_POSITIONS.partitions)
        await self._append(MAIL_POSITIONS, key.encode(), fact, partition)

    async def _append(self, topic: Topic, key: bytes, fact: Fact, partition: int | None = None) -> None:
        by = f"mail-reader/{self._settings.name}"
        await append(self._writer, self._settings, topic, fact, key, by, partition=partition)

    async def _remember(self) -> None:
        """Read back how far every mailbox is read. Raises LogUnreachable."""
        async for fact in remembered(self._reader, self._settings, MAIL_POSITIONS):
            self._recall(fact)
        if self._forwarder is not None:
            await self._forwarder.tell_left_over()
        self._unreadable = {
            mailbox: told
            for mailbox, told in self._unreadable.items()
            if mailbox not in self._read or self._read[mailbox].at < told.since
        }

    def _recall(self, fact: Fact) -> None:
        if isinstance(fact, MailboxRead):
            self._read[fact.mailbox] = fact
        elif isinstance(fact, MailboxUnreadable):
            self._unreadable[fact.mailbox] = fact
        elif isinstance(fact, RepliesForwarded) and self._forwarder is not None:
            self._forwarder.recall(fact)


def _at(place: Place, message: Message) -> Place:
    """Return where a message lies, and when it came there."""
    event = f"{place.mailbox}/{place.folder}/{place.uid_validity}/{message.uid}"
    at = message.at or place.at
    return Place(event, place.mailbox, place.client, at, place.folder, place.uid_validity, message.uid)
