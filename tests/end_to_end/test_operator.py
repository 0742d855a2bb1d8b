"""An operator's day at the command line: plan, apply, send, look, stop, start, dead letters, doctor."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from ops import receiver
from ops.site import Site
from projections.migrate import migrate
from tests.faults.story import Story, fleet_text, requests

ROOT = Path(__file__).parent.parent.parent


class Shell:
    """Runs `mailfleet` as a person does, against one site."""

    def __init__(self, site: Site) -> None:
        self._environment = {**os.environ, **site.environment}

    def run(self, *arguments: str, code: int = 0, answer: str = "") -> str:
        """Run; return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "ops.cli", *arguments],
            cwd=ROOT,
            env=self._environment,
            input=answer,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stdout + done.stderr

    def json(self, *arguments: str, code: int = 0) -> Any:
        """Run with --json; return what it says."""
        return orjson.loads(self.run(*arguments, "--json", code=code))


@pytest.fixture
def shell(site: Site) -> Shell:
    """A shell for the site."""
    return Shell(site)


def _write(path: Path, text: str, site: Site) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.replace("port = 0", f"port = {site.smtp_port}"))
    return path


def test_a_fleet_is_planned_applied_watched_stopped_and_started(site: Site, database: str, shell: Shell) -> None:
    migrate(database)
    site.stack.start_all()
    story = Story(site, database)
    fleet = _write(site.folder / "fleet.toml", fleet_text(40), site)

    plan = shell.json("apply", str(fleet), "--dry-run")
    assert len(plan["added"]) == 2 + 2 + 2 + 2 + 40
    assert shell.json("apply", str(fleet), "--dry-run") == plan, "a dry run changes nothing"
    assert "Apply this?" in shell.run("apply", str(fleet), answer="n\n", code=130)
    shell.run("apply", str(fleet), answer="y\n")
    story.wait(lambda: not shell.json("apply", str(fleet), "--dry-run")["added"], 20, "the fleet is taken")

    asked = site.folder / "requests.jsonl"
    asked.write_bytes(b"".join(orjson.dumps(request) + b"\n" for request in requests(400)))
    assert "400 requests published" in shell.run("send", str(asked))
    story.wait_done(20)
    shell.run("stop", "all")
    ordered = time.monotonic()
    story.let_pass(5)
    sent = len(receiver.copies(site.received))
    story.let_pass(4)
    assert len(receiver.copies(site.received)) == sent, f"mail went {time.monotonic() - ordered:.0f} s after the stop"
    assert sent < 400
    assert shell.json("status")["stopped"][0]["scope"] == "all"
    shell.run("start", "all")
    story.asked = 400
    story.check(unknown_allowed=False)

    status = shell.json("status")
    assert {row["state"]: row["count"] for row in status["sends"] if row["client"] == "acme"} == {"accepted": 200}
    assert not status["stopped"]
    told = shell.json("why", "acme/s0")
    assert told["send"][0]["state"] == "accepted"
    assert told["attempts"][-1]["outcome"] == "accepted"
    box = told["attempts"][-1]["mailbox"]
    assert shell.json("why", box)["mailbox"][0]["stands still because"]
    assert "nothing is known" in shell.run("why", "nobody", code=1)

    changed = _write(site.folder / "fleet.toml", fleet_text(38, quota=7), site)
    plan = shell.json("apply", str(changed), "--yes")
    assert (len(plan["added"]), len(plan["changed"]), len(plan["gone"])) == (0, 38, 2)
    assert plan["capacity"]["acme"] == {"now": 20_000, "after": 19 * 7}

    good = {finding["what"]: finding["good"] for finding in shell.json("doctor")}
    assert good == {
        "Kafka": True,
        "Postgres": True,
        "fleet key": True,
        "disk": True,
        "secrets": True,
        "route acme/own": True,
        "route birch/own": True,
    }
    site.stop_receiver()
    assert {f["what"] for f in shell.json("doctor", code=1) if not f["good"]} == {"route acme/own", "route birch/own"}
    assert shell.json("verify", "--wait", "20")["equal"]


def test_a_stop_holds_while_postgres_is_down(site: Site, database: str, shell: Shell, postgres: Any) -> None:
    story = Story(site, database)
    story.begin(fleet_text(40))
    story.ask(requests(300))
    story.wait_done(10)
    postgres.stop()
    try:
        shell.run("stop", "client", "acme")
        time.sleep(5)  # what is tested is that five seconds are enough
        sent = _by_client(site)
        deadline = time.monotonic() + 30
        while _by_client(site)["birch"] < sent["birch"] + 10:
            assert time.monotonic() < deadline, "the other client's mail stood still"
            time.sleep(0.1)
        assert _by_client(site)["acme"] == sent["acme"]
        shell.run("start", "client", "acme")
    finally:
        postgres.start()
    story.check(unknown_allowed=False)


def _by_client(site: Site) -> dict[str, int]:
    """Return how many mails of each client the receiver took, by its senders' domains."""
    found = {"acme": 0, "birch": 0}
    for line in (site.received / "received.jsonl").read_bytes().splitlines():
        found[orjson.loads(line)["from"].rpartition("@")[2].partition(".")[0]] += 1
    return found


def test_what_goes_wrong_is_one_sentence_and_an_exit_code(site: Site, shell: Shell) -> None:
    assert "is not JSON" in shell.run("send", str(_write(site.folder / "bad.jsonl", "{no", site)), code=1)
    wrong = fleet_text(4).replace('postal_address = "Street 1"', 'postal_address = ""')
    said = shell.run("apply", str(_write(site.folder / "wrong.toml", wrong, site)), code=1)
    assert said.count("postal_address is empty") == 2
    assert "give a NAME" in shell.run("stop", "client", code=2)
    assert "CLIENT/CAMPAIGN" in shell.run("stop", "campaign", "spring", code=2)
    assert "run `mailfleet migrate`" in shell.run("status", code=1)
    assert "no dead letter" in shell.run("dead-letters", "show", "a/0/1", code=1)
    assert shell.json("dead-letters", "list") == []
