"""The primary route dies in mid-campaign, then the backup: every send ends once, at most one copy, and they return."""

import asyncio
import signal
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from ops import receiver
from ops.site import Site
from tests.adapters.mailgun_server import Answer, MailgunServer
from tests.faults.story import Story, fleet_text, requests

DOMAIN = "mg.acme.test"
KEY = "key-of-the-stand-in"
WAYS = f"""
[clients.acme.routes.mailgun]
provider = "mailgun"
options = {{ domain = "{DOMAIN}", base_url = "http://127.0.0.1:MAILGUN", secret_ref = "file:mailgun.key" }}
max_connections = 5
pause_seconds = 4
"""


@pytest.fixture
def mailgun() -> Iterator[MailgunServer]:
    """Mailgun's API in a thread of its own."""
    loop = asyncio.new_event_loop()
    server = MailgunServer(None, KEY, DOMAIN)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    yield server
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def _copies(site: Site, mailgun: MailgunServer) -> Counter[str]:
    found = Counter(receiver.copies(site.received))
    for kept in mailgun.kept:
        headers = kept.raw.split(b"\r\n\r\n", 1)[0].splitlines()
        found[next(line for line in headers if line.lower().startswith(b"message-id:"))[11:].strip().decode()] += 1
    return found


def test_a_campaign_goes_on_while_its_routes_die_and_return(site: Site, database: str, mailgun: MailgunServer) -> None:
    site.keep_secret("mailgun.key", KEY)
    text = fleet_text(60, clients=("acme",), connections=5)
    text = text.replace("max_connections = 5", "max_connections = 5\npause_seconds = 4")
    text = text.replace('route = "own"', 'routes = ["own", "mailgun"]')
    text = text.replace(
        "[[clients.acme.mailboxes]]", WAYS.replace("MAILGUN", str(mailgun.port)) + "[[clients.acme.mailboxes]]"
    )
    story = Story(site, database)
    story.begin(text)
    story.ask(requests(400, clients=("acme",)))
    story.wait_done(40)

    port = site.smtp_port
    site.stop_receiver(signal.SIGKILL)
    story.wait(lambda: len(mailgun.kept) >= 40, 60, "mail over the backup")
    assert story.query("select 1 from decisions where decision = 'tripped' and subject = 'acme/own'")

    mailgun.script["verdict"] = Answer(500, "Internal Server Error")
    story.wait(
        lambda: bool(story.query("select 1 from decisions where decision = 'tripped' and subject = 'acme/mailgun'")),
        60,
        "the backup's trip",
    )
    mailgun.script.clear()
    site.start_receiver(port)
    story.wait_done(400, 120)

    copies = _copies(site, mailgun)
    found = story.found()
    assert max(copies.values()) == 1, "no recipient got the same send twice"
    assert found.get("accepted", 0) <= len(copies) <= found.get("accepted", 0) + found.get("unknown", 0)
    assert sum(found.values()) == 400
    recovered = story.query("select subject from decisions where decision = 'recovered' and subject = 'acme/own'")
    assert recovered, "the primary came back by a probe"
    evidence = story.query("select evidence from decisions where decision = 'tripped'")
    assert all(text for (text,) in evidence)
