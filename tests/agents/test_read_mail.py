"""The mail reader on a real Dovecot: each message read once and left as it is, whatever happens to the others."""

import asyncio
import contextlib
import itertools
import logging
import os
import pwd
import re
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from imapclient import IMAPClient

from adapters.reports.imap import Account, Unreadable
from adapters.reports.mime import MAX_BYTES
from ops.commands.doctor import _reports
from ops.embedded.postfix import EmbeddedDovecot
from schemas import registry
from schemas.entry import Entry, Seen
from schemas.envelope import to_wire
from schemas.fleet import BounceMailbox, ClientDeclared, DomainDeclared, MailboxDeclared, Pace, RouteDeclared
from schemas.ids import ClientId, DomainName, MailboxAddress, RouteId
from schemas.mail import MailboxRead, MailboxUnreadable, RepliesForwarded
from schemas.metrics import MAIL_OLDEST_LOOK_SECONDS, MAILBOXES_UNREADABLE
from schemas.registry import Fact
from schemas.reports import ReportForged, ReportSeen, ReportUncorrelated
from schemas.reputation import DmarcReported
from schemas.topics import DELIVERY_INPUTS, FLEET_INPUTS, FLEET_JOURNAL, MAIL_POSITIONS
from streams.agents.read_mail import GIVEN_UP, MailReader, Plan, accounts, report_accounts, watched_of
from streams.log.kafka import Connection
from streams.settings import ForwardSettings, Settings
from tests.adapters.dmarc_samples import google, mail, record, zipped
from tests.adapters.scripted_smtp import ScriptedSmtp
from tests.agents.memory_log import MemoryLog, MemoryReader, MemoryWriter
from tests.agents.scripted_imap import ScriptedImap, running
from tests.agents.test_mail_reports import FOREIGN, TOKEN, dsn, reply
from tests.agents.turnstile import turnstile

ACME = ClientId("acme")
PASSWORD = "p ss"
DEADLINE_S = 20.0
FEW = Plan(every=timedelta(hours=1), declared_s=0.05, watched=0, retry_s=0.05, longest_wait_s=0.05)


def plan(**changes: object) -> Plan:
    """Return a plan that looks once an hour and stays nowhere, with changes."""
    return replace(FEW, **changes)  # type: ignore[arg-type]  # fields of Plan


@pytest.fixture(scope="module")
def dovecot(privileged: None, run_folder: Path) -> Iterator[EmbeddedDovecot]:
    """An IMAP server with 300 mailboxes."""
    server = EmbeddedDovecot(run_folder / "many", {f"box{n}@firm.test": PASSWORD for n in range(300)})
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def unused() -> Iterator[str]:
    """Mailboxes that no other test has."""
    return (f"box{n}@firm.test" for n in itertools.count())


@dataclass
class World:
    """The log, the server's mailboxes, and readers one after the other."""

    server: EmbeddedDovecot
    home: Path
    unused: Iterator[str]
    log: MemoryLog = field(default_factory=MemoryLog)
    seq: int = 0
    said: list[str] = field(default_factory=list)
    forward: ForwardSettings = field(default_factory=ForwardSettings)

    def boxes(self, count: int = 1) -> list[str]:
        """Return fresh mailboxes."""
        return list(itertools.islice(self.unused, count))

    def declare(self, *facts: Fact) -> None:
        """Write the fleet's journal as its stage does."""
        for fact in facts:
            prev, self.seq = f"e{self.seq}" if self.seq else "", self.seq + 1
            decided = (registry.decided(fact),)
            entry = Entry(
                f"e{self.seq}", "test", self.seq, prev, datetime.now(UTC), None, Seen("ticked", 1, {}), decided
            )
            self.log.put(FLEET_JOURNAL.name, 3, to_wire(entry))

    def fleet(self, *boxes: str, port: int = 0, secret: str = "file:password", **options: str) -> None:
        """Declare mailboxes behind one route."""
        given = {"imap_host": "127.0.0.1", "imap_port": str(port or self.server.port), **options}
        name = RouteId(f"r{self.seq}")
        self.declare(RouteDeclared(ACME, name, "smtp", "127.0.0.1", 587, ca_file_ref="file:ca.pem", options=given))
        self.declare(*(MailboxDeclared(ACME, MailboxAddress(b), (name,), 40, secret_ref=secret) for b in boxes))

    def deliver(self, box: str, *letters: bytes) -> None:
        """Put messages into a mailbox, as an MTA does."""
        owner = pwd.getpwnam("nobody")
        folder = self.server.folder / "mail" / box
        for part in (folder, *(folder / name for name in ("new", "cur", "tmp"))):
            part.mkdir(exist_ok=True)
            os.chown(part, owner.pw_uid, owner.pw_gid)
        for letter in letters:
            there = folder / "tmp" / f"{next(_numbers):08}.test"
            there.write_bytes(letter)
            os.chown(there, owner.pw_uid, owner.pw_gid)
            there.rename(folder / "new" / there.name)

    def number_anew(self, box: str) -> None:
        """Give a mailbox another UIDVALIDITY, as a server does that has lost its index."""
        folder = self.server.folder / "mail" / box
        listing = folder / "dovecot-uidlist"
        listing.write_text(re.sub(r" V(\d+) ", lambda found: f" V{int(found[1]) + 1} ", listing.read_text(), count=1))
        for index in folder.glob("dovecot.index*"):
            index.unlink()

    @contextlib.contextmanager
    def client(self, box: str) -> Iterator[IMAPClient]:
        """Yield the owner's own client."""
        context = ssl.create_default_context(cafile=str(self.server.certificate))
        with IMAPClient("127.0.0.1", self.server.port, ssl_context=context) as client:
            client.login(box, PASSWORD)
            yield client

    def reader(self, how: Plan = FEW) -> MailReader:
        """Return a new reader, as after a restart."""
        key = self.home / "fleet.key"
        settings = Settings(Connection("nowhere"), "", self.home, "mail-1", key_file=key, forward=self.forward)
        return MailReader(settings, MemoryReader(self.log), MemoryWriter(self.log), how)

    @contextlib.asynccontextmanager
    async def reading(self, how: Plan = FEW) -> AsyncIterator[MailReader]:
        """Run a reader; it ends in time, without an error."""
        made = self.reader(how)
        running = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            made.stop()
            await asyncio.wait_for(running, DEADLINE_S)

    def reports(self) -> list[ReportSeen | ReportForged | ReportUncorrelated]:
        """Return everything published to the delivery stage."""
        return self.log.facts(DELIVERY_INPUTS.name)  # type: ignore[return-value]  # nobody else writes there

    def forwarded(self, box: str) -> list[RepliesForwarded]:
        """Return what was put on record of the letters passed on."""
        return [fact for fact in self.positions(box) if isinstance(fact, RepliesForwarded)]

    def count(self) -> int:
        """Return how many records were published."""
        return sum(len(records) for (topic, _), records in self.log.records.items() if topic == DELIVERY_INPUTS.name)

    def positions(self, box: str) -> list[Fact]:
        """Return what was said of a mailbox."""
        return [fact for fact in self.log.facts(MAIL_POSITIONS.name) if fact.mailbox == box]  # type: ignore[attr-defined]

    def read_to(self, box: str) -> int:
        """Return the last UID that was told, or 0."""
        told = [fact.last_uid for fact in self.positions(box) if isinstance(fact, MailboxRead)]
        return told[-1] if told else 0

    def is_read_to(self, box: str, uid: int) -> bool:
        """Whether this UID is the last that was told."""
        return self.read_to(box) == uid

    def unseen(self, box: str) -> list[int]:
        """Return the UIDs in INBOX that are as new as they came."""
        with self.client(box) as client:
            client.select_folder("INBOX", readonly=True)
            return list(client.search("UNSEEN"))

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait until it is so."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not condition():  # noqa: ASYNC110 - rows of a log, not events of ours
                    await asyncio.sleep(0.01)
        except TimeoutError:
            pytest.fail(f"not within {DEADLINE_S} s: {what}; {self.log.facts(MAIL_POSITIONS.name)[-3:]}")

    async def read_all(self, box: str, uid: int, how: Plan = FEW) -> None:
        """Run a reader until it has told this UID."""
        async with self.reading(how):
            await self.until(lambda: self.read_to(box) >= uid, f"{box} is read to {uid}")


def _knows(reader: MailReader) -> bool:
    return bool(reader._unreadable and reader._tasks)


_numbers = itertools.count()


@pytest.fixture
def world(
    dovecot: EmbeddedDovecot, unused: Iterator[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Iterator[World]:
    """Nothing is declared yet; the password must not stand in any log line or fact."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "ca.pem").write_bytes(dovecot.certificate.read_bytes())
    for path, text in (("secrets/password", PASSWORD), ("fleet.key", "k" * 32)):
        (tmp_path / path).write_text(text)
        (tmp_path / path).chmod(0o600)
    made = World(dovecot, tmp_path, unused)
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.INFO, logger="imapclient"):  # as ops.logs has it
        yield made
    assert PASSWORD not in caplog.text
    assert PASSWORD not in str(made.log.records)


def kinds(world: World) -> list[str]:
    """Return what was published, in short."""
    return sorted(getattr(fact, "kind", "forged") for fact in world.reports())


# ── once, and nothing changed ────────────────────────────────────────────────────────────────────


async def test_each_message_is_read_once_across_restarts_and_left_as_it_came(world: World) -> None:
    (box,) = world.boxes()
    world.fleet(box)
    world.deliver(box, dsn(message_id=f"<{TOKEN}@firm.test>"), reply(f"<{TOKEN}@firm.test>"), b"From: x@y.test\n\nhi\n")
    await world.read_all(box, 3)
    assert kinds(world) == ["bounce", "reply", "unknown"]
    world.deliver(box, dsn(to=f"b+{FOREIGN}@bounces.firm.test"))
    await world.read_all(box, 4)
    await world.read_all(box, 4)
    assert kinds(world) == ["bounce", "forged", "reply", "unknown"]
    with world.client(box) as client:
        client.select_folder("INBOX", readonly=True)
        assert client.search("UNSEEN") == [1, 2, 3, 4]
        assert client.search("RECENT") == [1, 2, 3, 4]
    (told,) = [fact for fact in world.reports() if isinstance(fact, ReportSeen) and fact.kind == "reply"]
    assert told.letter is not None
    assert re.fullmatch(rf"{box}/INBOX/\d+/2/0", told.event_id)
    assert (told.letter.uid, told.letter.folder, told.letter.message_id) == (2, "INBOX", "<r@example.test>")
    assert datetime.now(UTC) - told.at < timedelta(minutes=5)


async def test_what_kafka_has_but_no_position_tells_is_read_again_and_nothing_is_lost(world: World) -> None:
    """The process dies between the report's acknowledgement and the position's."""
    (box,) = world.boxes()
    world.fleet(box)
    world.deliver(box, dsn(), dsn(recipient="ron@example.test"))
    world.log.held_up[MAIL_POSITIONS.name] = asyncio.Event()
    async with world.reading():
        await world.until(lambda: len(world.reports()) == 2, "both reports are in Kafka")
    assert world.positions(box) == []
    world.log.held_up.clear()
    await world.read_all(box, 2)
    events = [fact.event_id for fact in world.reports()]
    assert sorted(Counter(events).values()) == [2, 2], "each twice, under its own name"


async def test_a_position_is_told_only_after_the_reports_are_acknowledged(world: World) -> None:
    (box,) = world.boxes()
    world.fleet(box)
    world.deliver(box, dsn())
    free = world.log.held_up[DELIVERY_INPUTS.name] = asyncio.Event()
    async with world.reading() as reader:
        await world.until(lambda: reader._lines._value < FEW.connections, "it is at work")
        with world.client(box) as client:
            client.select_folder("INBOX", readonly=True)
            client.noop()
        assert world.positions(box) == []
        free.set()
        await world.until(lambda: world.read_to(box) == 1, "it is told")


async def test_another_uidvalidity_is_read_from_the_start(world: World) -> None:
    (box,) = world.boxes()
    world.fleet(box)
    world.deliver(box, dsn(), dsn(recipient="ron@example.test"))
    await world.read_all(box, 2)
    world.number_anew(box)
    before = len(world.positions(box))
    async with world.reading():
        await world.until(lambda: len(world.positions(box)) > before, "it is read anew")
    first, *_, last = (fact for fact in world.positions(box) if isinstance(fact, MailboxRead))
    assert last.uid_validity == first.uid_validity + 1
    assert len({fact.event_id for fact in world.reports()}) == len(world.reports()) == 4


async def test_mail_from_before_the_fleet_is_not_read(world: World) -> None:
    (box,) = world.boxes()
    world.fleet(box)
    with world.client(box) as client:
        client.append("INBOX", dsn(), msg_time=datetime.now(UTC) - timedelta(days=200))
        client.append("INBOX", dsn(), msg_time=datetime.now(UTC) - timedelta(days=20))
    await world.read_all(box, 2)
    assert [fact.event_id.split("/")[3] for fact in world.reports()] == ["2"]


@pytest.mark.parametrize(("what", "left"), [("seen", ("INBOX", [1, 2, 3])), ("move:Read", ("Read", [1]))])
async def test_what_is_told_to_be_marked_or_moved_is_and_a_persons_letter_stays(
    world: World, what: str, left: tuple[str, list[int]]
) -> None:
    (box,) = world.boxes()
    world.fleet(box, imap_after_reading=what)
    with world.client(box) as client:
        client.create_folder("Read")
    world.deliver(box, dsn(message_id=f"<{TOKEN}@firm.test>"), reply(f"<{TOKEN}@firm.test>"), b"From: x@y.test\n\nhi\n")
    async with world.reading():  # a reader that ends right after it told how far it is has marked nothing
        await world.until(lambda: world.unseen(box) == [2, 3], "what is told was done")
    assert world.read_to(box) == 3
    with world.client(box) as client:
        client.select_folder(left[0], readonly=True)
        assert client.search("ALL") == left[1]
        client.select_folder("INBOX", readonly=True)
        assert client.search("UNSEEN") == [2, 3]


# ── passed on to a person ────────────────────────────────────────────────────────────────────────


async def test_new_letters_of_people_are_passed_on_once_and_nothing_else_is(world: World) -> None:
    (box,) = world.boxes()
    smtp = ScriptedSmtp("none", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), {})
    await smtp.start()
    world.forward = ForwardSettings("127.0.0.1", smtp.port, "none", "desk@agency.test", "", "")
    world.declare(ClientDeclared(ACME, (), "Street 1", Pace(), forward_replies_to="sales@acme.test"))
    world.fleet(box)
    world.deliver(box, dsn(message_id=f"<{TOKEN}@firm.test>"), reply(f"<{TOKEN}@firm.test>"), b"From: x@y.test\n\nhi\n")
    with world.client(box) as client:
        old = reply(f"<{TOKEN}@firm.test>", Message_ID="<old@example.test>")
        client.append("INBOX", old, msg_time=datetime.now(UTC) - timedelta(days=3))
    try:
        async with world.reading():
            await world.until(lambda: world.read_to(box) == 4 and smtp.kept, "all is read, one letter passed on")
            await world.until(lambda: not world.forwarded(box)[-1].open, "it is on record")
        world.number_anew(box)
        before = world.count()
        async with world.reading():
            await world.until(lambda: world.count() == 2 * before, "all is read again")
            await world.until(lambda: world.read_to(box) == 4, "and told")
        (kept,) = smtp.kept
    finally:
        await smtp.stop()
    assert kept.recipients == ("sales@acme.test",)
    assert reply(f"<{TOKEN}@firm.test>").replace(b"\n", b"\r\n") in kept.raw
    assert "call me on" not in str(world.log.records), "nothing of the letter is in Kafka"


# ── odd mail ─────────────────────────────────────────────────────────────────────────────────────


async def test_a_message_of_10_mb_is_read_by_its_beginning(world: World) -> None:
    (box,) = world.boxes()
    world.deliver(box, dsn() + b"x" * 76 * 140_000)
    async with turnstile(world.server.port) as gate:
        world.fleet(box, port=gate.port)
        await world.read_all(box, 1)
    assert kinds(world) == ["bounce"]
    assert gate.octets < MAX_BYTES + 50_000


async def test_broken_messages_are_on_record_and_those_behind_are_read(world: World) -> None:
    (box,) = world.boxes()
    world.fleet(box)
    broken = [
        b"\n",
        b"\xff\xfe" * 3_000,
        b"no header at all",
        b"Content-Type: multipart/report; boundary=\n\n--\n--\n",
        b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\nContent-Type: multipart/mixed; boundary=b\n\n" * 999,
        b"Subject: " + b"=?utf-8?q?x?= " * 20_000,
    ]
    world.deliver(box, *broken, dsn())
    await world.read_all(box, 7)
    assert kinds(world) == ["bounce", *["unknown"] * 6]


async def test_a_message_that_the_server_never_gives_is_passed_over_on_record(world: World) -> None:
    (box,) = world.boxes()
    server = ScriptedImap({4: dsn(), 5: dsn(), 6: dsn(recipient="ron@example.test")}, {5})
    key = world.server.folder / "receiver.key"
    async with running(server, world.server.certificate, key), world.reading():
        world.fleet(box, port=server.port)
        await world.until(lambda: world.read_to(box) == 6, "what is behind is read")
    found = {fact.event_id.split("/")[3]: fact for fact in world.reports()}
    assert sorted(found) == ["4", "5", "6"]
    stray = found["5"]
    assert isinstance(stray, ReportUncorrelated)
    assert stray.why == "the server does not give this message"
    assert GIVEN_UP > 3, "a network that fails now and then costs no message"


# ── DMARC reports ────────────────────────────────────────────────────────────────────────────────


async def test_a_dmarc_report_among_bounces_is_counted_whole_and_is_no_bounce(world: World) -> None:
    (box,) = world.boxes()
    world.declare(DomainDeclared(ACME, DomainName("acme-mail.com")))
    long = google(
        *(record(f"10.0.{n >> 8}.{n & 255}", 1, dkim="fail", spf="fail") for n in range(1_500)), report_id="2"
    )
    letters = {
        4: dsn(),
        5: mail(zipped(google(record(mails=7)))),
        6: mail(long, name="report.xml", kind=("application", "xml"), text="a long one"),
        7: mail(b"\x1f\x8bdamaged", text="x"),
        8: mail(zipped(google(record(header_from="other.example"), domain="other.example")), text="x"),
        9: dsn(recipient="ron@example.test"),
    }
    assert len(letters[6]) > MAX_BYTES
    key = world.server.folder / "receiver.key"
    server = ScriptedImap(letters, set())
    async with running(server, world.server.certificate, key), world.reading():
        world.fleet(box, port=server.port)
        await world.until(lambda: world.read_to(box) == 9, "all are read")
    counted: list[DmarcReported] = world.log.facts(FLEET_INPUTS.name)  # type: ignore[assignment]  # nothing else
    assert [(f.domain, f.report_id, sum(c.mails for c in f.counts)) for f in counted] == [
        ("acme-mail.com", "12830491846273561920", 7),
        ("acme-mail.com", "2", 1_500),
    ]
    strays = [fact for fact in world.reports() if isinstance(fact, ReportUncorrelated)]
    assert [stray.why.partition(": ")[2] for stray in strays] == [
        "its file is damaged",
        "it is about no domain that the fleet file declares",
    ]
    assert kinds(world) == ["bounce", "bounce", "unknown", "unknown"]


async def test_the_mailbox_for_reports_is_read_in_its_folder(world: World) -> None:
    (box,) = world.boxes()
    world.deliver(box, dsn())
    with world.client(box) as client:
        client.create_folder("DMARC")
        client.append("DMARC", mail(zipped(google(record()))))
    address = MailboxAddress("dmarc@acme-mail.com")
    there = BounceMailbox(address, "127.0.0.1", "file:password", world.server.port, box, "file:ca.pem", folder="DMARC")
    world.declare(DomainDeclared(ACME, DomainName("acme-mail.com")))
    client = ClientDeclared(ACME, (), "x", Pace(), dmarc_mailbox=there)
    world.declare(client)
    await world.read_all(address, 1)
    assert len(world.log.facts(FLEET_INPUTS.name)) == 1
    assert world.reports() == []
    (account,) = report_accounts([client])
    settings = Settings(Connection("nowhere"), "", world.home, "doctor")
    said = await asyncio.to_thread(_reports, settings, account)
    assert said == "127.0.0.1 lets dmarc@acme-mail.com in; its folder DMARC can be read"
    with pytest.raises(Unreadable, match=r"NONEXISTENT|doesn't exist"):
        await asyncio.to_thread(_reports, settings, replace(account, folder="Gone"))


def test_a_mailbox_that_is_read_anyway_is_not_read_twice_for_its_reports() -> None:
    shared = BounceMailbox(MailboxAddress("b@acme-mail.com"), "imap.test", "file:x")
    client = ClientDeclared(ACME, (), "x", Pace(), bounce_mailbox=shared, dmarc_mailbox=shared)
    (account,) = accounts([client])
    assert account.bounces_only


# ── trouble of one, not of all ───────────────────────────────────────────────────────────────────


async def test_a_wrong_password_is_told_of_its_mailbox_and_the_others_go_on(world: World) -> None:
    bad, good = world.boxes(2)
    (world.home / "secrets" / "other").write_text("not it")
    (world.home / "secrets" / "other").chmod(0o600)
    world.fleet(bad, secret="file:other")
    world.fleet(good)
    world.deliver(bad, dsn())
    world.deliver(good, dsn())
    async with world.reading(plan(every=timedelta(seconds=0.2))) as reader:
        await world.until(lambda: world.read_to(good) == 1 and world.positions(bad), "one is read, one is told of")
        world.deliver(good, dsn())
        await world.until(lambda: world.read_to(good) == 2, "the other goes on")
        told = world.positions(bad)
        assert isinstance(told[0], MailboxUnreadable)
        assert "refuses the login: [AUTHENTICATIONFAILED]" in told[0].what
        assert len(told) == 1, "told once"
        reader._measure()
        assert MAILBOXES_UNREADABLE._value.get() == 1
        (world.home / "secrets" / "other").write_text(PASSWORD)
        await world.until(lambda: world.read_to(bad) == 1, "the new password is taken without a restart")
        reader._measure()
        assert MAILBOXES_UNREADABLE._value.get() == 0


async def test_a_missing_secret_and_a_stranger_for_a_server_are_told_at_once(world: World, tmp_path: Path) -> None:
    missing, strange = world.boxes(2)
    world.fleet(missing, secret="file:gone")
    route = RouteDeclared(
        ACME,
        RouteId("strange"),
        "smtp",
        "h",
        587,
        options={"imap_host": "127.0.0.1", "imap_port": str(world.server.port)},
    )
    world.declare(route, MailboxDeclared(ACME, MailboxAddress(strange), (route.route,), 1, secret_ref="file:password"))
    async with world.reading():
        await world.until(lambda: world.positions(missing) and world.positions(strange), "both are told of")
    whats = [world.positions(box)[0].what for box in (missing, strange)]  # type: ignore[attr-defined]
    assert whats[0].startswith("secret file:gone cannot be read: no such file; write it to ")
    assert whats[1].startswith("the server's certificate is not trusted")


async def test_a_server_that_drips_without_end_holds_nobody_up(world: World) -> None:
    slow, good = world.boxes(2)
    world.deliver(good, dsn())
    server = ScriptedImap({1: b""}, set(), drips=True)
    key = world.server.folder / "receiver.key"
    async with running(server, world.server.certificate, key), world.reading(plan(connections=1, call_s=0.5)):
        world.fleet(slow, port=server.port)
        await world.until(lambda: world.positions(slow), "after three times people are told")
        world.fleet(good)
        await world.until(lambda: world.read_to(good) == 1, "the only line serves the other")
    assert "did not finish within" in world.positions(slow)[0].what  # type: ignore[attr-defined]


async def test_since_when_a_mailbox_cannot_be_read_survives_a_restart(world: World) -> None:
    (box,) = world.boxes()
    world.fleet(box, secret="file:gone")
    for _ in range(2):
        async with world.reading() as reader:
            await world.until(partial(_knows, reader), "it is known")
    assert len(world.positions(box)) == 1


# ── many ─────────────────────────────────────────────────────────────────────────────────────────


async def test_new_mail_wakes_a_watched_mailbox(world: World) -> None:
    bounces, other = world.boxes(2)
    client = ClientDeclared(
        ACME,
        (),
        "x",
        Pace(),
        bounce_mailbox=BounceMailbox(
            MailboxAddress(bounces), "127.0.0.1", "file:password", world.server.port, ca_file_ref="file:ca.pem"
        ),
    )
    world.declare(client)
    world.fleet(other)
    took: list[float] = []
    async with world.reading(plan(watched=1, watch_s=4.0)):
        await world.until(lambda: world.positions(bounces) and world.positions(other), "both were looked at")
        for count in (1, 2, 3):
            began = time.monotonic()
            world.deliver(bounces, dsn(to=f"b+{TOKEN}@bounces.firm.test"))
            await world.until(partial(world.is_read_to, bounces, count), f"bounce {count} is read")
            took.append(time.monotonic() - began)
    assert min(took) < 3.0, "one may come just as IDLE begins, not all"
    assert kinds(world) == ["bounce"] * 3


async def test_200_mailboxes_are_read_in_turn_over_few_connections(world: World) -> None:
    boxes = world.boxes(200)
    for box in boxes:
        world.deliver(box, dsn())
    bounds = plan(connections=6, per_host=5, watched=1, every=timedelta(seconds=1))
    async with turnstile(world.server.port) as gate:
        world.fleet(*boxes, port=gate.port)
        async with world.reading(bounds) as reader:
            await world.until(lambda: world.count() == 200, "all are read")
            world.deliver(boxes[10], dsn())
            await world.until(lambda: world.count() == 201, "they are looked at again")
            reader._measure()
            assert 0 < MAIL_OLDEST_LOOK_SECONDS._value.get() < 2 * DEADLINE_S
    assert gate.most <= 5
    assert gate.in_all >= 200
    assert {fact.mailbox for fact in world.reports()} == set(boxes)


async def test_a_mailbox_that_goes_is_read_no_more_and_one_that_comes_is(world: World) -> None:
    gone, comes = world.boxes(2)
    world.fleet(gone)
    async with world.reading(plan(every=timedelta(seconds=0.1))):
        await world.until(lambda: world.positions(gone), "it is read")
        world.declare(MailboxDeclared(ACME, MailboxAddress(gone), (RouteId("r0"),), 40, active=False))
        world.fleet(comes)
        await world.until(lambda: world.positions(comes), "the new one is read")
        world.deliver(gone, dsn())
        world.deliver(comes, dsn())
        await world.until(lambda: world.read_to(comes) == 1, "and read again")
    assert world.read_to(gone) == 0


# ── which mailboxes, and how ─────────────────────────────────────────────────────────────────────


def way(name: str, provider: str, host: str = "", **options: str) -> RouteDeclared:
    """Return a route."""
    return RouteDeclared(ACME, RouteId(name), provider, host, 587, options=options, ca_file_ref="file:ca")


@pytest.mark.parametrize(
    ("routes", "host"),
    [
        ([way("a", "zoho", "smtp.zoho.eu")], "imap.zoho.eu"),
        ([way("a", "zoho", "smtppro.zoho.com", imap_host="imap.firm.test")], "imap.firm.test"),
        ([way("a", "smtp", "smtp.firm.test")], None),
        ([way("a", "smtp"), way("b", "smtp", imap_host="imap.firm.test")], "imap.firm.test"),
        ([way("a", "ses", imap_host="imap.firm.test")], None),
        ([way("a", "ses", imap_host="imap.firm.test", secret_ref="file:ses")], "imap.firm.test"),
    ],
    ids=["zoho's region", "named", "not known", "of the second route", "its secret is Amazon's", "a secret of its own"],
)
def test_the_imap_host_follows_from_the_routes(routes: list[RouteDeclared], host: str | None) -> None:
    box = MailboxDeclared(
        ACME, MailboxAddress("anna@firm.test"), tuple(r.route for r in routes), 40, secret_ref="file:x"
    )
    found = accounts([*routes, box])
    assert [account.host for account in found] == ([] if host is None else [host])
    assert all((a.port, a.username, a.ca_file_ref) == (993, "anna@firm.test", "file:ca") for a in found)


def test_a_bounce_mailbox_that_clients_share_is_nobodys() -> None:
    box = BounceMailbox(MailboxAddress("b@bounces.test"), "mx1", "file:x")
    clients = [ClientDeclared(ClientId(name), (), "x", Pace(), bounce_mailbox=box) for name in ("acme", "birch")]
    assert [(a.mailbox, a.client) for a in accounts(clients)] == [("b@bounces.test", "")]
    assert [a.client for a in accounts(clients[:1])] == ["acme"]


def test_watched_mailboxes_are_bounded_and_those_for_bounces_come_first() -> None:
    known = [
        Account(MailboxAddress(f"{n}@firm.test"), ACME, f"host{n % 3}", "", "", bounces_only=n == 29) for n in range(30)
    ]
    chosen = watched_of(known, Plan(watched=7, watched_per_host=3))
    assert len(chosen) == 7
    assert "29@firm.test" in chosen
    assert max(sum(a.host == h for a in known if a.mailbox in chosen) for h in ("host0", "host1", "host2")) <= 3
    assert "29@firm.test" not in watched_of(known, Plan(), without=[MailboxAddress("29@firm.test")])
