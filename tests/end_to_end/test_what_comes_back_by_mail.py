"""What comes back by mail, over the agency's own Postfix, Dovecot and the door, every process running: a bounce that
comes after the 250, a forged one, a complaint, unsubscribes, a reply, an automatic answer."""

import asyncio
import smtplib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest

from ops.embedded.postfix import EmbeddedDovecot, EmbeddedPostfix
from ops.embedded.process import port_for
from ops.site import Site
from schemas.ids import ClientId, SendId
from schemas.topics import SEND_RESULTS
from streams.delivery.identity import recipient_of, token_of
from streams.log.kafka import Reader
from tests.agents.test_mail_reports import dsn, reply
from tests.conftest import Mta, running_mta
from tests.end_to_end.test_what_comes_back import Shell
from tests.faults.story import Story, requests

BOB, BOUNCES = Mta.user, "b@bounces.agency.test"
BOUNCES_PASSWORD = "another horse"
GONE = "rita@refuses.test"
CARLA, URSULA, MAX, PETER, OTTO = (f"{name}@takes.test" for name in ("carla", "ursula", "max", "peter", "otto"))
TO = {"s0": GONE, "s1": CARLA, "s2": URSULA, "s3": MAX, "s4": PETER, "s5": OTTO}
FLEET = """
[pace]
time_zone = "UTC"
hour_from = 0
hour_to = 24
gap_seconds = 1
gap_jitter_seconds = 0
slot_seconds = 30
company_gap_seconds = 0
[policy.warm_up]
enabled = false
[policy.lists]
canary_sends = 0
[clients.acme]
campaigns = ["all"]
postal_address = "Street 1"
unsubscribe_url = "https://door.test/u/"
unsubscribe_mailto = "u@bounces.agency.test"
domains = ["firm.test"]
[clients.acme.bounce_mailbox]
address = "b@bounces.agency.test"
host = "127.0.0.1"
port = IMAP
secret = "file:bounces.password"
ca_file = "imap-ca.pem"
[clients.acme.routes.own]
provider = "smtp"
port = SUBMISSION
ca_file = "mta-ca.pem"
options = { bounce_domain = "bounces.agency.test", imap_host = "127.0.0.1", imap_port = "IMAP", imap_ca_file_ref = "file:imap-ca.pem" }
[[clients.acme.mailboxes]]
domain = "firm.test"
names = ["bob"]
route = "own"
daily_quota = 100
secret = "file:bob.password"
"""  # noqa: E501
COMPLAINT = """\
From: <fbl@isp.test>
To: <bob@firm.test>
Subject: FW: a mail
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="b"

--b
Content-Type: text/plain

This is an email abuse report.

--b
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: SomeGenerator/1.0
Version: 1

--b
Content-Type: message/rfc822

From: <bob@firm.test>
To: <carla@takes.test>
Message-ID: <{token}@firm.test>
Subject: Hello

Hello

--b--
"""


class World:
    """The agency's MTA whose local mail falls into the Maildirs that its Dovecot shows."""

    def __init__(self, postfix: EmbeddedPostfix, dovecot: EmbeddedDovecot) -> None:
        self.postfix, self.dovecot = postfix, dovecot

    def post(self, to: str, raw: bytes, sender: str = "") -> None:
        """Hand a letter in at port 25, as a stranger's server does."""
        with smtplib.SMTP("127.0.0.1", self.postfix.ports["smtp"], timeout=30) as client:
            client.sendmail(sender, [to], raw)


@pytest.fixture
def world(sinks: dict[str, int], site: Site) -> Iterator[World]:
    """Postfix with the mailbox of bounces and Bob's, Dovecot that opens both; the site has their secrets."""
    folder = site.folder / "mta"
    folder.mkdir(parents=True)
    users = {BOB: Mta.password, BOUNCES: BOUNCES_PASSWORD}
    ways = {BOB: BOB, BOUNCES: BOUNCES, "u@bounces.agency.test": BOUNCES}
    settings = {
        "virtual_mailbox_domains": "$bounce_domain, firm.test",
        "virtual_mailbox_base": str(folder / "imap" / "mail"),
        "virtual_mailbox_maps": f"inline:{{ {', '.join(f'{address}={box}/' for address, box in ways.items())} }}",
    }
    with running_mta(folder, sinks, settings) as mta:
        mta.dovecot.stop()
        dovecot = EmbeddedDovecot(folder / "imap", users, mta.postfix.queue)
        dovecot.start()
        site.keep_secret("bob.password", Mta.password)
        site.keep_secret("bounces.password", BOUNCES_PASSWORD)
        site.keep_secret("mta-ca.pem", mta.postfix.certificate.read_text())
        site.keep_secret("imap-ca.pem", dovecot.certificate.read_text())
        try:
            yield World(mta.postfix, dovecot)
        finally:
            dovecot.stop()


def asked(send_id: str, to: str, **more: Any) -> dict[str, Any]:
    """Return a request of the only client's."""
    (plain,) = requests(1, clients=("acme",))
    return {**plain, "data": {**plain["data"], "send_id": send_id, "to": to, "thread_id": f"with {to}", **more}}


def results(site: Site) -> list[dict[str, Any]]:
    """Return what upstream was told."""

    async def read() -> list[dict[str, Any]]:
        reader, name, found = Reader(site.settings.connection), site.settings.topic(SEND_RESULTS), []
        try:
            for partition in range(SEND_RESULTS.partitions):
                first, end = await reader.bounds(name, partition)
                async for chunk in reader.read(name, partition, first, end):
                    found += [orjson.loads(record.value)["data"] for record in chunk if record.value is not None]
        finally:
            await reader.close()
        return found

    return asyncio.run(read())


def test_what_comes_back_by_mail_is_read_understood_and_obeyed(site: Site, database: str, world: World) -> None:
    port = port_for(site.folder / "home", None, "the door")
    site.keep_secret("door.path", "Zm9yLXRoZS1kb29y-path")
    door = {"DOOR_PORT": str(port), "DOOR_PATH": "file:door.path"}
    site.stack = type(site.stack)({**site.environment, **door}, site.folder / "logs")
    story, shell, key = Story(site, database), Shell(site), site.settings.fleet_key()
    submission, imap = world.postfix.ports["submission"], world.dovecot.port
    for role in ("door", "mail"):
        site.stack.add(role, role)
    story.begin(FLEET.replace("SUBMISSION", str(submission)).replace("IMAP", str(imap)))
    later = {"not_before": (datetime.now(UTC) + timedelta(days=1)).isoformat()}
    story.ask([asked(send_id, to) for send_id, to in TO.items()])
    story.ask([asked("s4-follow-up", PETER, **later), asked("s5-follow-up", OTTO, **later)])

    def token(send_id: str, fleet_key: bytes = key) -> str:
        return token_of(recipient_of(TO[send_id], fleet_key), ClientId("acme"), SendId(send_id), fleet_key)

    def states() -> dict[str, str]:
        return dict(story.query("select send_id, state from sends"))

    story.wait(lambda: states().get("s0") == "bounced", 60, "the bounce after the 250")
    story.wait(lambda: story.done() >= len(TO), 30, "all have left")

    forged = token("s5", b"another key that is not ours at all")
    world.post(f"b+{forged}@bounces.agency.test", dsn(recipient=OTTO, message_id=f"<{forged}@firm.test>"))
    world.post(BOB, COMPLAINT.format(token=token("s1")).encode(), "fbl@isp.test")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=15) as client:
        said = client.post(f"/u/{token('s2')}", data={"List-Unsubscribe": "One-Click"})
        assert said.status_code == 200
    wish = f"From: <{MAX}>\nTo: <u+{token('s3')}@bounces.agency.test>\nSubject: unsubscribe\n\n\n".encode()
    world.post(f"u+{token('s3')}@bounces.agency.test", wish, MAX)
    answer = {"From": f"Peter <{PETER}>", "Message_ID": "<answer@takes.test>"}
    world.post(BOB, reply(f"<{token('s4')}@firm.test>", **answer), PETER)
    absent = {"From": f"Otto <{OTTO}>", "Auto_Submitted": "auto-replied", "Subject": "Out of office"}
    world.post(BOB, reply(f"<{token('s5')}@firm.test>", **absent))

    ended = {"s1": "complained", "s2": "unsubscribed", "s3": "unsubscribed", "s4": "replied"}
    story.wait(lambda: states().items() >= ended.items(), 40, "what came back is decided")
    machine = "select 1 from replies where send_id = 's5' and kind = 'auto_reply'"
    story.wait(lambda: bool(story.query(machine)), 20, "the machine's answer")
    story.wait(lambda: bool(story.query("select 1 from stray_reports where what = 'forged'")), 20, "the forged one")
    assert story.query("select what from stray_reports") == [("forged",)]
    assert states()["s5"] == "accepted", "neither the forged bounce nor the machine's answer moves it"
    assert (states()["s4-follow-up"], states()["s5-follow-up"]) == ("cancelled", "admitted")

    held = "select client, reason, count(*) from suppressions where until is null group by 1, 2 order by 1, 2"
    assert story.query(held) == [("", "complaint", 1), ("", "hard_bounce", 1), ("acme", "unsubscribe", 2)]
    told = shell.json("why", "acme/s0")
    assert (told["bounces"][0]["class"], told["bounces"][0]["hard"]) == ("hard", True)
    assert told["the recipient is suppressed"][0]["reason"] == "hard_bounce"
    (letter,) = (result["letter"] for result in results(site) if result.get("state") == "replied")
    assert (letter["mailbox"], letter["folder"], letter["message_id"]) == (BOB, "INBOX", "<answer@takes.test>")
    assert letter["uid"] > 0

    story.ask([asked(f"again-{send_id}", to) for send_id, to in TO.items()])
    refused = "select send_id from refusals where reason = 'suppressed' order by 1"
    shut = [("again-s0",), ("again-s1",), ("again-s2",), ("again-s3",)]
    story.wait(lambda: story.query(refused) == shut, 30, "the four are refused")
    open_ = {"again-s4": "accepted", "again-s5": "accepted"}
    story.wait(lambda: states().items() >= open_.items(), 20, "who only answered is written to")
