"""Letters passed on over a real socket: each at most once, whatever the server, Kafka and the process do."""

import asyncio
import contextlib
import email
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path

import pytest
import pytest_asyncio

from adapters.forwarded import forwarded
from adapters.secrets import Secrets
from schemas.ids import ClientId, MailboxAddress
from schemas.mail import RepliesForwarded
from schemas.metrics import REPLIES_FORWARDED
from streams.agents.forward_replies import MOST_KEPT, MOST_WAITING, RESULTS, TRIES, Forwarder
from streams.log.kafka import AppendUncertain
from streams.settings import ForwardSettings, SettingMissing, from_environment
from tests.adapters.scripted_smtp import Behaviour, Cut, Say, ScriptedSmtp, Silence, Step

ANNA, ACME = MailboxAddress("anna@firm.test"), ClientId("acme")
SALES, DESK = "sales@acme.test", "desk@agency.test"
AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
LETTER = b"From: Rita <rita@example.test>\r\nTo: anna@firm.test\r\nSubject: Re: x\r\n\r\nYes.\r\n.\r\nRita\r\n"
DEADLINE_S = 10.0


class Desk:
    """An SMTP account, the record of what was passed on, and the process's lives."""

    def __init__(self, server: ScriptedSmtp, folder: Path) -> None:
        self.server = server
        self.rows: list[RepliesForwarded] = []
        self.kafka_is_away = False
        self.refused = 0
        self._folder = folder
        self.forwarder = self.new_life()

    def new_life(self, retry_s: float = 0.0) -> Forwarder:
        """Return a forwarder that knows what the one before put on record."""
        given = ForwardSettings("127.0.0.1", self.server.port, "none", DESK, DESK, "")
        self.forwarder = Forwarder(given, Secrets(self._folder), self._write, retry_s)
        for row in self.rows:
            self.forwarder.recall(row)
        return self.forwarder

    async def _write(self, row: RepliesForwarded) -> None:
        if self.kafka_is_away:
            self.refused += 1
            raise AppendUncertain("Kafka does not answer")
        self.rows.append(row)

    async def take(self, name: str = "m1/0", raw: bytes = LETTER) -> None:
        """Read a letter."""
        await self.forwarder.take(ANNA, ACME, name, SALES, raw, AT, cut=False)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let the forwarder work."""
        task = asyncio.create_task(self.forwarder.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until_told(self, result: str, count: int = 1) -> None:
        """Work until that many letters came to this end."""
        async with self.running(), asyncio.timeout(DEADLINE_S):
            while told(result) < count:  # noqa: ASYNC110 - a counter, not an event of ours
                await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A good server on loopback."""
    server = ScriptedSmtp("none", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), {})
    await server.start()
    REPLIES_FORWARDED.clear()
    yield Desk(server, tmp_path)
    await server.stop()


def told(result: str) -> float:
    """How many letters came to this end."""
    return float(REPLIES_FORWARDED.labels(result)._value.get())


def attached(raw: bytes) -> tuple[Message, bytes]:
    """Return the mail and what is attached to it."""
    mail = email.message_from_bytes(raw)
    parts = mail.get_payload()
    assert isinstance(parts, list)
    letter = parts[1]
    assert isinstance(letter, Message)
    if letter.get_content_type() == "message/rfc822":
        return mail, raw.partition(b"message/rfc822\r\n\r\n")[2].rpartition(b"\r\n--letter-")[0]
    payload = letter.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return mail, payload


async def test_a_letter_goes_once_and_whole_and_is_on_record_before_it_leaves(desk: Desk) -> None:
    await desk.take()
    await desk.until_told("forwarded")
    (kept,) = desk.server.kept
    assert (kept.envelope_from, kept.recipients) == (DESK, (SALES,))
    mail, letter = attached(kept.raw)
    assert letter == LETTER
    assert (mail["From"], mail["To"], mail["Auto-Submitted"]) == (DESK, SALES, "auto-generated")
    assert [(row.begun, row.open) for row in desk.rows] == [
        ((), ("m1/0",)),
        (("m1/0",), ("m1/0",)),
        (("m1/0",), ()),
    ]
    assert "rita" not in repr(desk.rows)


async def test_a_letter_read_again_goes_no_second_time_in_this_life_or_the_next(desk: Desk) -> None:
    await desk.take()
    await desk.take()
    await desk.until_told("forwarded")
    await desk.take()
    desk.new_life()
    await desk.take()
    await desk.take("m2/0")
    await desk.until_told("forwarded", 2)
    assert len(desk.server.kept) == 2


async def test_a_server_that_hangs_up_after_the_dot_leaves_a_doubt_that_is_told_and_not_sent_again(desk: Desk) -> None:
    desk.server.script["dot", 1] = Cut()
    await desk.take()
    await desk.until_told("in_doubt")
    await desk.take()
    desk.new_life()
    await desk.take()
    await desk.take("m2/0")
    await desk.until_told("forwarded")
    assert [attached(kept.raw)[0]["Message-ID"] for kept in desk.server.kept].count(None) == 0
    assert told("in_doubt") == 1
    assert desk.server.connections == 2, "nobody tried the first letter again"


async def test_a_process_that_ends_after_the_dot_leaves_a_doubt_that_the_next_life_tells(desk: Desk) -> None:
    desk.server.script["dot"] = Silence()
    await desk.take()
    async with desk.running(), asyncio.timeout(DEADLINE_S):
        while not any(row.begun for row in desk.rows):  # noqa: ASYNC110 - rows, not events of ours
            await asyncio.sleep(0.01)
    del desk.server.script["dot"]
    connections = desk.server.connections
    desk.new_life()
    await desk.forwarder.tell_left_over()
    assert told("in_doubt") == 1
    await desk.take()
    async with desk.running():
        await asyncio.sleep(0)
    assert desk.server.connections == connections
    desk.new_life()
    await desk.forwarder.tell_left_over()
    assert told("in_doubt") == 1, "told once"


async def test_a_process_that_ends_before_it_tried_tells_that_nothing_left_and_a_second_reading_passes_on(
    desk: Desk,
) -> None:
    await desk.take()
    desk.new_life()
    await desk.forwarder.tell_left_over()
    assert (told("failed"), told("in_doubt")) == (1, 0)
    await desk.take()
    await desk.until_told("forwarded")
    assert len(desk.server.kept) == 1


@pytest.mark.parametrize(
    ("step", "behaviour"),
    [
        ("banner", Say("421 4.3.2 not now")),
        ("banner", Cut()),
        ("mail", Say("421 4.3.2 not now")),
        ("rcpt", Say("450 4.2.1 greylisted")),
        ("data", Cut()),
        ("dot", Say("451 4.3.0 try later")),
    ],
)
async def test_what_provably_did_not_leave_is_tried_again(
    desk: Desk, step: Step, behaviour: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    desk.server.script[step] = behaviour
    desk.new_life(retry_s=0.05)
    await desk.take()
    async with desk.running(), asyncio.timeout(DEADLINE_S):
        while "passed on later" not in caplog.text:  # noqa: ASYNC110 - of another's socket
            await asyncio.sleep(0.001)
        desk.server.script.clear()
        while not told("forwarded"):  # noqa: ASYNC110 - a counter
            await asyncio.sleep(0.005)
    assert (told("failed"), told("in_doubt"), len(desk.server.kept)) == (0, 0, 1)


@pytest.mark.parametrize("step", ["rcpt", "dot"])
async def test_a_definite_refusal_of_the_letter_is_told_and_not_repeated(desk: Desk, step: Step) -> None:
    desk.server.script[step] = Say("550 5.7.1 we do not want this")
    await desk.take()
    await desk.until_told("failed")
    assert desk.server.connections == 1


async def test_a_server_that_never_takes_it_ends_in_a_failure_after_bounded_tries(desk: Desk) -> None:
    desk.server.script["banner"] = Say("554 5.3.2 no service")
    await desk.take()
    await desk.until_told("failed")
    assert desk.server.connections == TRIES


async def test_without_a_record_nothing_leaves(desk: Desk) -> None:
    desk.new_life(retry_s=0.5)  # twelve tries must not be over before Kafka is back
    await desk.take()
    desk.kafka_is_away = True
    async with desk.running(), asyncio.timeout(DEADLINE_S):
        while desk.server.connections < 1 or not desk.refused:  # noqa: ASYNC110 - of another's socket
            await asyncio.sleep(0.005)
    assert desk.server.kept == []
    with pytest.raises(AppendUncertain):
        await desk.take("m2/0")
    desk.kafka_is_away = False
    await desk.take("m2/0")
    await desk.until_told("forwarded")
    assert desk.server.kept


async def test_letters_that_wait_and_names_that_are_kept_are_bounded(desk: Desk) -> None:
    for n in range(MOST_WAITING + 3):
        await desk.take(f"m{n}/0")
    assert told("failed") == 3
    desk.rows = [RepliesForwarded(ANNA, ACME, tuple(f"old{n}" for n in range(MOST_KEPT)))]
    desk.new_life()
    await desk.take()
    await desk.until_told("forwarded")
    assert (len(desk.rows[-1].begun), desk.rows[-1].begun[-1]) == (MOST_KEPT, "m1/0")


def test_the_account_comes_from_the_environment_and_what_is_wrong_with_it_is_said() -> None:
    def given(**more: str) -> ForwardSettings:
        return from_environment({"KAFKA_BROKERS": "k:1", **more}).forward

    assert not given().host
    assert not given(FORWARD_SMTP="", FORWARD_FROM="").host, "as docker-compose.yml has it"
    assert given(FORWARD_SMTP="smtp.test", FORWARD_FROM=DESK, FORWARD_SECRET="file:x") == ForwardSettings(
        "smtp.test", 587, "starttls", DESK, DESK, "file:x"
    )
    assert given(FORWARD_SMTP="smtp.test:465", FORWARD_FROM=DESK, FORWARD_TLS="implicit").port == 465
    with pytest.raises(SettingMissing, match="FORWARD_FROM"):
        given(FORWARD_SMTP="smtp.test")
    for wrong in ({"FORWARD_SMTP": "smtp.test:x"}, {"FORWARD_SMTP": "smtp.test", "FORWARD_TLS": "tls"}):
        with pytest.raises(SettingMissing, match="FORWARD_TLS"):
            given(FORWARD_FROM=DESK, **wrong)


def test_every_result_can_be_seen_before_the_first(tmp_path: Path) -> None:
    REPLIES_FORWARDED.clear()

    async def write(_row: RepliesForwarded) -> None:
        raise AssertionError

    Forwarder(ForwardSettings(), Secrets(tmp_path), write)
    assert {s.labels["result"] for m in REPLIES_FORWARDED.collect() for s in m.samples} == set(RESULTS)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (LETTER, "message/rfc822"),
        (b"Subject: x\n\nlone feeds\n", "message/rfc822"),
        ("Subject: x\r\n\r\nGrüße\r\n".encode(), "application/octet-stream"),
        (b"Subject: x\r\n\r\n" + b"y" * 999, "application/octet-stream"),
        (b"\0", "application/octet-stream"),
        (b"", "message/rfc822"),
    ],
)
def test_a_letter_of_whatever_octets_is_attached_whole_in_7_bits(raw: bytes, kind: str) -> None:
    made = forwarded(raw, name="m1/0", mailbox=ANNA, sender=DESK, to=SALES, at=AT)
    assert made.isascii()
    assert b"\n" not in made.replace(b"\r\n", b"")
    assert max(len(line) for line in made.split(b"\r\n")) <= 998
    mail, letter = attached(made)
    assert letter.replace(b"\r\n", b"\n") == raw.replace(b"\r\n", b"\n")
    assert mail.get_payload()[1].get_content_type() == kind  # type: ignore[index, union-attr]  # a multipart's


def test_a_letter_that_was_read_by_its_beginning_says_so() -> None:
    made = [forwarded(b"x", name="n", mailbox=ANNA, sender=DESK, to=SALES, at=AT, cut=cut) for cut in (True, False)]
    assert [b"it is longer" in raw for raw in made] == [True, False]
