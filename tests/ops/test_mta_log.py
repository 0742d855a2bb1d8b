"""What Postfix writes in its log (postfix_3_7.log is what 3.7.11 wrote) becomes facts about sends: the right ones,
without addresses, none lost over rotations and crashes."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.mail.smtp import SmtpAdapter
from adapters.secrets import Secrets
from ops.embedded import EmbeddedKafka
from ops.postfix.log_lines import MOST_MAILS, Followed, MtaLog, time_of
from ops.postfix.log_reader import LogFile, Place, follow, read_state
from schemas import registry
from schemas.envelope import from_wire
from schemas.ids import ClientId, RouteId, SendId
from schemas.reports import MtaLineSeen
from schemas.sending import Accepted, RouteCall
from schemas.topics import DELIVERY_INPUTS, partition_of
from streams.delivery.identity import delivery_key, key_in, recipient_of, token_is_ours, token_of
from streams.log.kafka import Connection, Reader
from streams.log.topics import create
from tests.adapters.benches import until
from tests.adapters.samples import mail_of, request_of
from tests.conftest import ROOT, Mta

LINES = (Path(__file__).parent / "postfix_3_7.log").read_text().splitlines()
NOW = datetime(2026, 11, 25, 20, 0, tzinfo=UTC)
KEY = b"k" * 32


@pytest.fixture
def host_in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The host that wrote the lines kept UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def facts(lines: list[str]) -> list[MtaLineSeen]:
    """Return what the lines say."""
    mta = MtaLog(clock=lambda: NOW)
    return [seen for line in lines if (seen := mta.read(line)) is not None]


def story(letters: str) -> list[tuple[str, str]]:
    """Return (status, dsn) of all lines about the send whose token begins so."""
    return [(seen.status, seen.dsn) for seen in facts(LINES) if seen.token.startswith(letters)]


# ── lines ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("host_in_utc")
def test_a_delivery_names_send_queue_id_receiver_and_what_it_said() -> None:
    assert facts(LINES)[0] == MtaLineSeen(
        token="a" * 39,
        queue_id="4jZLyM6CsXzn1Pk",
        status="sent",
        at=datetime(2026, 11, 25, 14, 4, 11, tzinfo=UTC),
        dsn="2.0.0",
        relay="127.0.0.1[127.0.0.1]:23747",
        text="250 2.0.0 Ok",
    )


def test_a_send_is_known_by_its_message_id_where_the_sender_is_the_mailbox() -> None:
    assert story("aeaq") == [("bounced", "5.1.1")]


def test_a_bounce_says_what_the_receiver_said_without_the_address() -> None:
    (seen,) = [seen for seen in facts(LINES) if seen.dsn == "5.1.1"]
    assert seen.text == (
        "host 127.0.0.1[127.0.0.1] said: 550 5.1.1 <recipient>: Recipient address rejected: User unknown "
        "(in reply to RCPT TO command)"
    )


def test_a_refusal_of_the_body_keeps_its_words() -> None:
    (seen,) = [seen for seen in facts(LINES) if seen.dsn == "5.7.1"]
    assert "rejected as spam" in seen.text
    assert "in reply to end of DATA command" in seen.text


@pytest.mark.parametrize(
    ("letters", "dsn"), [("aiba", "4.2.1"), ("ambq", "4.4.1"), ("aucq", "4.3.0"), ("aydam", "4.4.2")]
)
def test_a_mail_that_waits_is_deferred_at_each_try_and_expires_with_the_last_reason(letters: str, dsn: str) -> None:
    said = story(letters)
    assert said[-1] == ("expired", dsn)
    assert set(said[:-1]) == {("deferred", dsn)}
    assert len(said) > 3
    last = [seen for seen in facts(LINES) if seen.token.startswith(letters)][-1]
    assert last.text


def test_where_no_receiver_was_reached_there_is_no_relay() -> None:
    assert {seen.relay for seen in facts(LINES) if seen.dsn == "4.4.1"} == {""}


def test_bounces_that_are_delivered_here_are_not_taken_for_sends() -> None:
    assert all(seen.relay != "virtual" for seen in facts(LINES))
    assert [seen.queue_id for seen in facts(LINES) if seen.status == "sent"] == ["4jZLyM6CsXzn1Pk"]


def test_no_fact_has_an_address() -> None:
    assert "@" not in "".join(
        orjson.dumps(msgspec.to_builtins(seen, builtin_types=(datetime,))).decode() for seen in facts(LINES)
    )


def test_nothing_is_remembered_of_mails_that_are_done() -> None:
    mta = MtaLog(clock=lambda: NOW)
    for line in LINES:
        mta.read(line)
    assert mta.mails == {}


def test_the_sender_is_found_again_by_who_begins_in_the_middle() -> None:
    middle = next(n for n, line in enumerate(LINES) if "status=deferred" in line and "4jZLyM6ht8zn1Pn" in line) + 1
    assert [seen for seen in facts(LINES[middle:]) if seen.token.startswith("aiba")]


def test_what_is_remembered_has_a_bound() -> None:
    mta = MtaLog({f"{n:06d}": Followed("a" * 39) for n in range(MOST_MAILS)})
    mta.read(f"Nov 25 14:04:11 mx1 postfix/cleanup[1]: NEWONE1: message-id=<{'b' * 39}@firm.test>")
    assert len(mta.mails) == MOST_MAILS
    assert "000000" not in mta.mails
    assert "NEWONE1" in mta.mails


@pytest.mark.parametrize(
    "line",
    [
        "Nov 25 14:04:11 mx1 postfix/google/smtp[7]: 4jZLyM6CsXzn1Pk: to=<a@gmail.test>, "
        "relay=mx.gmail.test[192.0.2.1]:25, conn_use=3, delay=0.05, delays=0.01/0.02/0.02/0, dsn=2.0.0, "
        "status=sent (250 2.0.0 OK  1795615451 - gsmtp)",
        "2026-11-25T14:04:11.123456+01:00 mx1 postfix/relay/smtp[7]: 4jZLyM6CsXzn1Pk: to=<a@b.test>, "
        "orig_to=<c@d.test>, relay=mx.b.test[192.0.2.1]:25, delay=0.05, delays=0.01/0.02/0.02/0, "
        "dsn=2.0.0, status=sent (250 ok",
        "2026-11-25T14:04:11+0000 mx1 postfix/error[7]: 4jZLyM6CsXzn1Pk: to=<a@b.test>, relay=none, delay=0.05, "
        "delays=0.01/0.02/0.02/0, dsn=4.4.1, status=deferred (delivery temporarily suspended: connect to mx: refused)",
    ],
    ids=["own service, used connection", "rsyslog, rewritten recipient, cut short", "journalctl, suspended"],
)
def test_lines_of_other_services_and_loggers_are_read(line: str) -> None:
    mta = MtaLog({"4jZLyM6CsXzn1Pk": Followed("a" * 39)}, clock=lambda: NOW)
    seen = mta.read(line)
    assert seen is not None
    assert seen.status in {"sent", "deferred"}
    assert seen.text


@given(st.text())
def test_any_line_can_be_read(text: str) -> None:
    mta = MtaLog({"4jZLyM6CsXzn1Pk": Followed("a" * 39)}, clock=lambda: NOW)
    mta.read(text)
    mta.read(f"Nov 25 14:04:11 mx1 postfix/smtp[7]: 4jZLyM6CsXzn1Pk: {text}")


@pytest.mark.parametrize(
    ("text", "now", "at"),
    [
        ("Dec 31 23:59:58", datetime(2027, 1, 1, 0, 5, tzinfo=UTC), datetime(2026, 12, 31, 23, 59, 58, tzinfo=UTC)),
        ("Jan  1 00:00:01", datetime(2026, 12, 31, 23, 59, tzinfo=UTC), datetime(2027, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ("Feb 29 12:00:00", datetime(2029, 1, 1, tzinfo=UTC), datetime(2028, 2, 29, 12, tzinfo=UTC)),
        ("2026-11-25T14:04:11.5+01:00", NOW, datetime(2026, 11, 25, 13, 4, 11, 500_000, tzinfo=UTC)),
    ],
)
@pytest.mark.usefixtures("host_in_utc")
def test_a_date_without_a_year_is_the_last_one_that_was(text: str, now: datetime, at: datetime) -> None:
    assert time_of(text, now) == at


# ── the file ─────────────────────────────────────────────────────────────────────────────────────


class Log:
    """A log that is written, rotated and read in a folder."""

    def __init__(self, folder: Path) -> None:
        self.path, self.state = folder / "postfix.log", folder / "state.json"
        self.told: list[MtaLineSeen] = []
        self.break_after = 10**9

    def write(self, *lines: str, end: str = "\n") -> None:
        """Append lines."""
        with self.path.open("a") as file:
            file.write("\n".join(lines) + end)

    def rotate(self, suffix: str) -> None:
        """Rename, as `postfix logrotate` does."""
        self.path.rename(self.path.with_name(f"postfix.log.{suffix}"))

    def read(self) -> list[MtaLineSeen]:
        """Run the reader to the end of what is there; return all it ever published."""

        async def publish(seen: MtaLineSeen) -> None:
            if len(self.told) >= self.break_after:
                raise ConnectionError("killed")
            self.told.append(seen)

        async def go() -> None:
            file = LogFile(self.path, read_state(self.state))
            await follow(file, self.state, publish, asyncio.Event(), once=True)

        asyncio.run(go())
        return self.told


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """An empty log."""
    return Log(tmp_path)


def same(found: list[MtaLineSeen]) -> list[tuple[str, str, str]]:
    """Return what of the facts does not depend on the year."""
    return [(seen.queue_id, seen.status, seen.text) for seen in found]


ALL = same(facts(LINES))


def test_a_reader_that_is_started_again_goes_on_where_it_was(log: Log) -> None:
    for n in range(0, len(LINES), 7):
        log.write(*LINES[n : n + 7])
        log.read()
    assert same(log.told) == ALL


def test_a_line_that_is_not_whole_yet_is_waited_for(log: Log) -> None:
    log.write(*LINES[:8], LINES[8][:60], end="")
    assert log.read() == []
    log.write(LINES[8][60:], *LINES[9:])
    assert same(log.read()) == ALL


def test_a_log_rotated_between_two_runs_loses_no_line(log: Log) -> None:
    log.write(*LINES[:20])
    log.read()
    log.write(*LINES[20:40])
    log.rotate("20261125-150000")
    log.write(*LINES[40:])
    assert same(log.read()) == ALL


async def test_a_log_rotated_under_the_reader_loses_no_line(log: Log) -> None:
    stop = asyncio.Event()

    async def publish(seen: MtaLineSeen) -> None:
        log.told.append(seen)
        if len(log.told) == len(ALL):
            stop.set()

    log.write(*LINES[:20])
    reading = asyncio.ensure_future(follow(LogFile(log.path, Place()), log.state, publish, stop))
    assert await until(lambda: bool(log.told))
    log.write(*LINES[20:30])
    log.rotate("1")
    log.write(*LINES[30:])
    await asyncio.wait_for(reading, 20)
    assert same(log.told) == ALL


def test_a_line_written_between_the_last_look_and_the_renaming_is_read(log: Log) -> None:
    class Racing(LogFile):
        def _rotated(self) -> bool:
            if not log.path.with_name("postfix.log.1").exists():
                log.write("second")
                log.rotate("1")
                log.write("third")
            return super()._rotated()

    log.write("first")
    file = Racing(log.path, Place())
    assert list(file.lines()) == ["first", "second", "third"]
    file.close()


def test_a_reader_that_is_killed_repeats_lines_and_loses_none(log: Log) -> None:
    log.write(*LINES)
    for more in (3, 9, 10**9):
        log.break_after = len(log.told) + more
        if more < 10**9:
            with pytest.raises(ConnectionError):
                log.read()
        else:
            log.read()
    assert same(log.told)[-len(ALL) :] == ALL


def test_a_log_that_was_cut_short_is_read_from_its_beginning(log: Log) -> None:
    log.write(*LINES)
    log.read()
    log.path.write_text("")
    log.read()
    log.write(*LINES[:9])
    assert same(log.read()) == [*ALL, *same(facts(LINES[:9]))]


def test_no_log_yet_is_no_trouble(log: Log) -> None:
    assert log.read() == []
    log.write(*LINES)
    assert same(log.read()) == ALL


# ── the whole way ────────────────────────────────────────────────────────────────────────────────


def test_a_token_leads_to_the_partition_of_its_recipient() -> None:
    recipient = recipient_of("anna@takes.test", KEY)
    token = token_of(recipient, ClientId("acme"), SendId("s-1"), KEY)
    assert key_in(token) == delivery_key(recipient)
    with pytest.raises(ValueError, match="24 octets"):
        key_in("a" * 31)


def test_what_a_real_mta_did_reaches_delivery_inputs(
    mta: Mta, kafka: EmbeddedKafka, topic_prefix: str, tmp_path: Path
) -> None:
    connection = Connection(kafka.bootstrap)
    topic = topic_prefix + DELIVERY_INPUTS.name
    create(connection, {topic: (DELIVERY_INPUTS.partitions, DELIVERY_INPUTS.config())})
    environment = {**os.environ, "KAFKA_BROKERS": kafka.bootstrap, "MAILFLEET_PREFIX": topic_prefix}
    command = [sys.executable, "-m", "ops.postfix.log_reader", str(mta.postfix.log), "--state", str(tmp_path / "state")]
    sends = {"anna@takes.test": "sent", "anna@refuses.test": "bounced", "anna@waits.test": "deferred"}
    with subprocess.Popen(command, cwd=ROOT, env=environment) as reader:
        queue_ids = asyncio.run(_send(mta, tmp_path, list(sends)))
        found = asyncio.run(_reports(connection, topic, set(queue_ids.values())))
        reader.send_signal(signal.SIGTERM)
        assert reader.wait(20) == 0
    for address, status in sends.items():
        seen = found[queue_ids[address]]
        assert seen.status == status
        assert token_is_ours(seen.token, KEY)
        assert abs(seen.at - datetime.now(UTC)) < timedelta(minutes=5)
    assert read_state(tmp_path / "state").offset > 0


async def _send(mta: Mta, folder: Path, addresses: list[str]) -> dict[str, str]:
    (folder / "password").write_text(mta.password)
    (folder / "password").chmod(0o600)
    (folder / "ca.pem").write_bytes(mta.postfix.certificate.read_bytes())
    call = RouteCall(
        RouteId("own"),
        "smtp",
        "127.0.0.1",
        mta.postfix.ports["submission"],
        username=mta.user,
        secret_ref="file:password",
        ca_file_ref="file:ca.pem",
    )
    adapter = SmtpAdapter(Secrets(folder))

    async def yes() -> bool:
        return True

    ids = {}
    for address in addresses:
        token = token_of(recipient_of(address, KEY), ClientId("acme"), SendId(f"s-{address}"), KEY)
        outcome = await adapter.submit(call, mail_of(request_of(to=address), token), yes)
        assert isinstance(outcome, Accepted)
        ids[address] = outcome.provider_id
    await adapter.close()
    return ids


async def _reports(connection: Connection, topic: str, queue_ids: set[str]) -> dict[str, MtaLineSeen]:
    """Return the first report of each queue id, each from the partition of its key."""
    reader = Reader(connection)
    found: dict[str, MtaLineSeen] = {}
    deadline = time.monotonic() + 60
    while set(found) < queue_ids and time.monotonic() < deadline:
        for partition in range(DELIVERY_INPUTS.partitions):
            start, end = await reader.bounds(topic, partition)
            async for chunk in reader.read(topic, partition, start, end):
                for record in chunk:
                    envelope = from_wire(record.value)
                    assert partition_of(record.key or b"", DELIVERY_INPUTS.partitions) == partition
                    seen = registry.fact_of(envelope.type, envelope.v, envelope.data)
                    assert isinstance(seen, MtaLineSeen)
                    found.setdefault(seen.queue_id, seen)
    await reader.close()
    return {queue_id: seen for queue_id, seen in found.items() if queue_id in queue_ids}
