"""The primary route dies in mid-campaign, then the backup: every send ends once, at most one copy, and they return."""

import signal
from collections import Counter

from ops import receiver
from ops.site import Site
from tests.adapters.mailgun_server import Answer, MailgunServer
from tests.end_to_end.mailgun_way import KEY, with_mailgun
from tests.faults.story import Story, fleet_text, requests


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
    text = with_mailgun(text, mailgun.port, 'routes = ["own", "mailgun"]')
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
    evidence = story.query("select evidence from decisions where decision in ('tripped', 'recovered')")
    assert all(text for (text,) in evidence)
    rules = " ".join(rule for (rule,) in story.query("select distinct rule from attempts"))
    assert "probes route own" in rules
    assert "over route mailgun, no. 2 of its mailbox" in rules
