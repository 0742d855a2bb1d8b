"""The mail reader as a process of its own, on real Kafka and Dovecot: from an applied fleet file to reports."""

import asyncio
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from imapclient import IMAPClient

from ops.embedded.postfix import EmbeddedDovecot
from ops.fleet_plan import known
from ops.site import Site
from schemas import registry
from schemas.envelope import from_wire
from schemas.ids import ClientId, SendId
from schemas.mail import MailboxRead
from schemas.registry import Fact
from schemas.reports import ReportSeen
from schemas.topics import DELIVERY_INPUTS, MAIL_POSITIONS, Topic, partition_of
from streams.delivery.identity import delivery_key, recipient_of, token_of
from streams.log.kafka import Reader
from tests.agents.test_mail_reports import dsn, reply
from tests.conftest import ROOT
from tests.end_to_end.test_dns_watcher import wait

BOX = "anna@firm.test"
PASSWORD = "a password"
FLEET = """
[clients.acme]
campaigns = ["welcome"]
postal_address = "Acme GmbH, Hauptstrasse 1, 10115 Berlin"
domains = ["firm.test"]

[clients.acme.routes.own]
provider = "smtp"
port = 0
ca_file = "imap-ca.pem"
options = { imap_host = "127.0.0.1", imap_port = "IMAP" }

[[clients.acme.mailboxes]]
domain = "firm.test"
names = ["anna"]
route = "own"
daily_quota = 40
secret = "file:imap.password"
"""


@pytest.fixture
def dovecot(privileged: None, run_folder: Path) -> Iterator[EmbeddedDovecot]:
    """Anna's mail server."""
    server = EmbeddedDovecot(run_folder / "annas", {BOX: PASSWORD})
    server.start()
    yield server
    server.stop()


def facts(site: Site, topic: Topic) -> list[tuple[int, Fact]]:
    """Return (partition, fact) of everything in a topic."""

    async def read() -> list[tuple[int, Fact]]:
        reader, name, found = Reader(site.settings.connection), site.settings.topic(topic), []
        try:
            for partition in range(topic.partitions):
                first, end = await reader.bounds(name, partition)
                async for chunk in reader.read(name, partition, first, end):
                    envelopes = [from_wire(record.value) for record in chunk]
                    found += [(partition, registry.fact_of(e.type, e.v, e.data)) for e in envelopes]
        finally:
            await reader.close()
        return found

    return asyncio.run(read())


def read_mail(site: Site, *arguments: str, code: int = 0) -> list[dict[str, object]]:
    """Run `mailfleet read-mail --json`; return its lines."""
    done = subprocess.run(
        [sys.executable, "-m", "ops.cli", "read-mail", "--json", *arguments],
        cwd=ROOT,
        env={**site.stack._environment, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return [orjson.loads(line) for line in done.stdout.splitlines()]


def test_what_lies_in_a_declared_mailbox_is_reported_once_and_saved_mail_beside_it(
    site: Site, dovecot: EmbeddedDovecot, tmp_path: Path
) -> None:
    site.keep_secret("imap.password", PASSWORD)
    site.keep_secret("imap-ca.pem", dovecot.certificate.read_text())
    rita = recipient_of("rita@example.test", site.settings.fleet_key())
    token = token_of(rita, ClientId("acme"), SendId("s1"), site.settings.fleet_key())
    context = ssl.create_default_context(cafile=str(dovecot.certificate))
    with IMAPClient("127.0.0.1", dovecot.port, ssl_context=context) as client:
        client.login(BOX, PASSWORD)
        client.append("INBOX", dsn(message_id=f"<{token}@firm.test>"))
    (tmp_path / "fleet.toml").write_text(FLEET)
    site.stack.add("fleet", "fleet")
    declared = site.apply(tmp_path / "fleet.toml", {"IMAP": str(dovecot.port)})
    wait(lambda: len(asyncio.run(known(site.settings))) == declared, 40, "the fleet stage takes the file")
    site.stack.end("fleet")
    mail = site.stack.add("mail", "mail")
    wait(lambda: len(facts(site, MAIL_POSITIONS)) == 1, 30, "the mailbox is read")
    ((partition, report),) = facts(site, DELIVERY_INPUTS)
    assert isinstance(report, ReportSeen)
    assert partition == partition_of(delivery_key(rita), DELIVERY_INPUTS.partitions)
    assert (report.kind, report.token, report.client, report.mailbox) == ("bounce", token, "acme", BOX)
    ((_, told),) = facts(site, MAIL_POSITIONS)
    assert isinstance(told, MailboxRead)
    assert told.last_uid == 1

    mail.process.send_signal(signal.SIGTERM)  # it waits in IDLE
    assert mail.process.wait(10) == 0
    assert mail.log.read_text() == ""
    with IMAPClient("127.0.0.1", dovecot.port, ssl_context=context) as client:
        client.login(BOX, PASSWORD)
        client.append("INBOX", reply(f"<{token}@firm.test>"))
        client.select_folder("INBOX", readonly=True)
        assert client.search("UNSEEN") == [1, 2]
    site.stack.add("mail", "mail")
    wait(lambda: len(facts(site, MAIL_POSITIONS)) == 2, 20, "the new message is read")
    assert sorted(fact.kind for _, fact in facts(site, DELIVERY_INPUTS)) == ["bounce", "reply"]  # type: ignore[attr-defined]

    (tmp_path / "saved.eml").write_bytes(dsn())
    would, counts = read_mail(site, "--dry-run", str(tmp_path / "saved.eml"))
    assert counts == {"published": False, "kinds": {"bounce": 1}}
    assert len(facts(site, DELIVERY_INPUTS)) == 2
    assert read_mail(site, "--mailbox", "nobody@firm.test", str(tmp_path / "saved.eml"), code=2) == []
    for _ in range(2):
        assert read_mail(site, str(tmp_path / "saved.eml"))[0] == would
    saved = [fact for _, fact in facts(site, DELIVERY_INPUTS) if getattr(fact, "event_id", "").startswith("saved/")]
    assert len(saved) == 2
    assert saved[0] == saved[1]
