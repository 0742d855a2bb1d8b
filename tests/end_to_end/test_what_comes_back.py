"""Reports and orders through the whole fleet: correlated, decided, obeyed, told in Postgres and by the commands."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from click.testing import CliRunner

from ops.cli import cli
from ops.site import Site
from schemas.ids import ClientId, MailboxAddress, SendId
from schemas.registry import Fact
from schemas.reports import Letter, ReportForged, ReportSeen
from schemas.sending import Reply
from schemas.topics import DELIVERY_INPUTS
from streams.agents.facts import append
from streams.delivery.identity import delivery_key, recipients_of, token_of
from streams.log.kafka import Writer
from tests.faults.story import Story, fleet_text, requests

UNKNOWN_USER = Reply("gmail", "dot", 550, "5.1.1", "The email account that you tried to reach does not exist.")


class Shell:
    """Runs `mailfleet` in this process, against one site: a dozen commands without a dozen starts."""

    def __init__(self, site: Site) -> None:
        self._runner = CliRunner(env=dict(site.environment))

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run; return what it prints."""
        done = self._runner.invoke(cli, arguments)
        assert done.exit_code == code, (arguments, done.exit_code, done.output, done.exception)
        return done.output if code else done.stdout

    def json(self, *arguments: str, code: int = 0) -> Any:
        """Run with --json; return what it says."""
        done = self._runner.invoke(cli, [*arguments, "--json"])
        assert done.exit_code == code, (arguments, done.exit_code, done.output, done.exception)
        return orjson.loads(done.stdout)


def address(n: int) -> str:
    """Return whom request n of the story is for."""
    return f"person{n}@company{n % 30}.test"


def report(site: Site, kind: Any, n: int, **more: Any) -> ReportSeen:
    """Return what a reader of mail or a webhook says of send n."""
    key = site.settings.fleet_key()
    client, send_id = ClientId(("acme", "birch")[n % 2]), SendId(f"s{n}")
    recipient, loose = recipients_of(address(n), key)
    token = token_of(recipient, client, send_id, key)
    said = {"token": token, "recipient": recipient, "recipient_loose": loose, **more}
    return ReportSeen(kind, "bounce_mail", f"event-{kind}-{n}", datetime.now(UTC), **said)


async def publish(site: Site, *facts: tuple[int, Fact]) -> None:
    """Append facts about recipients to delivery-inputs, each twice, as a reader that was killed does."""
    writer = Writer(site.settings.connection)
    try:
        for n, fact in facts * 2:
            key = delivery_key(recipients_of(address(n), site.settings.fleet_key())[0])
            await append(writer, site.settings, DELIVERY_INPUTS, fact, key, "mail reader")
    finally:
        await writer.close()


def test_what_comes_back_is_understood_acted_upon_and_told(site: Site, database: str, tmp_path: Path) -> None:
    story, shell = Story(site, database), Shell(site)
    story.begin(fleet_text(40))
    story.ask(requests(8))
    story.wait_done(8)
    letter = Letter(MailboxAddress("box0@acme.test"), "INBOX", 1, 418, "<r@there.test>")
    stray = report(site, "bounce", 7, token="", mailbox=MailboxAddress("nobody@acme.test"), reply=UNKNOWN_USER)
    forged = ReportForged("bounce_mail", "forged-1", datetime.now(UTC))
    asyncio.run(
        publish(
            site,
            (0, report(site, "bounce", 0, reply=UNKNOWN_USER)),
            (1, report(site, "complaint", 1)),
            (2, report(site, "unsubscribe", 2)),
            (3, report(site, "reply", 3, letter=letter)),
            (4, report(site, "delivered", 4)),
            (5, forged),
            (7, stray),
        )
    )

    wanted = {"bounced", "complained", "unsubscribed", "replied", "delivered"}
    story.wait(lambda: set(story.found()) >= wanted, 30, "what comes back is decided")
    strays = "select what from stray_reports order by 1"
    story.wait(lambda: story.query(strays) == [("forged",), ("uncorrelated",)], 20, "stray reports are counted once")
    status = shell.json("status")
    assert {row["state"] for row in status["sends"]} == {*wanted, "accepted"}
    assert {(row["what"], row["count"]) for row in status["reports of no send"]} == {
        ("forged", 1),
        ("uncorrelated", 1),
    }
    assert {(row["client"], row["reason"], row["count"]) for row in status["suppressed"]} == {
        ("", "hard_bounce", 1),
        ("", "complaint", 1),
        ("acme", "unsubscribe", 1),
    }
    told = shell.json("why", "acme/s0")
    assert (told["bounces"][0]["class"], told["bounces"][0]["hard"]) == ("hard", True)
    assert told["the recipient is suppressed"][0]["reason"] == "hard_bounce"
    assert shell.json("why", "birch/s3")["replies"][0]["uid"] == 418
    (lies,) = shell.json("replies", "--client", "birch")
    assert (lies["send"], lies["uid"], lies["message id"]) == ("birch/s3", 418, "<r@there.test>")
    assert shell.json("replies", "--client", "acme") == []
    (nobodys,) = shell.json("replies", "--uncorrelated")
    assert (nobodys["kind"], nobodys["mailbox"]) == ("bounce", "nobody@acme.test")

    for order in (("suppress", address(1)), ("unsuppress", address(0), "--reason", "x")):
        assert "no client amce is declared (declared: acme, birch)" in shell.run(*order, "--client", "amce", code=2)
    answer = shell.json("unsuppress", address(1), "--reason", "please", "--by", "lena", code=1)
    assert answer["answer"] == "refused"
    assert "complaint is never taken back" in answer["why"]
    assert shell.json("unsuppress", address(0), "--reason", "typing error", "--by", "lena")["answer"] == "taken back"
    assert "nothing is ordered" in shell.run("suppress", address(1), "@nodot", code=2)
    shell.run("suppress", address(4), "@company5.test", "--reason", "asked by phone", "--by", "lena")
    kept = shell.json("forget", address(6), "--yes", "--by", "lena")
    assert "14 days" in kept["expires"]

    story.ask([{**r, "data": {**r["data"], "send_id": f"again-{r['data']['send_id']}"}} for r in requests(8)])
    story.wait_done(16)
    # 0 was taken back, 2 and 3 are open to the other client or were only answered, 7 is a stray's
    shut = {f"again-s{n}" for n in (1, 2, 4, 5, 6)}
    refused_now = story.query("select send_id from refusals where reason = 'suppressed'")
    assert {send_id for (send_id,) in refused_now} == shut

    held = tmp_path / "held.csv"
    shell.run("suppressions", "export", str(held))
    assert "@" not in held.read_text(), "keyed hashes only"
    assert shell.json("suppressions", "import", str(held))["ordered"] == len(held.read_text().splitlines()) - 1
    person = shell.json("export", address(3))
    assert {request["request"]["data"]["to"] for request in person["requests"]} == {address(3)}
    assert {"send.admitted", "send.replied", "send.queued"} <= {fact["fact"] for fact in person["facts"]}
    assert person["postgres"]["replies"][0]["uid"] == 418
    assert shell.json("export", "nobody@nowhere.test", code=1)["facts"] == []
    assert shell.json("verify", "--wait", "20")["equal"]
