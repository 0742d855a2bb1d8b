"""The door as a process before the whole fleet: a complaint and an unsubscribe are told to it, obeyed and shown."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime

import httpx
import orjson
import pytest
from click.testing import CliRunner

from ops.cli import cli
from ops.embedded.process import port_for
from ops.site import Site
from tests.adapters import webhook_samples as samples
from tests.conftest import ROOT
from tests.faults.story import Story, fleet_text, requests

SECRET = "Zm9yLXRoZS1kb29y-path"


def settings_of(site: Site, port: int) -> dict[str, str]:
    """Return the door's settings, its secrets kept where they say."""
    site.keep_secret("door.path", SECRET)
    site.keep_secret("mailgun.signing", samples.SIGNING_KEY)
    return {"DOOR_PORT": str(port), "DOOR_PATH": "file:door.path", "DOOR_MAILGUN_KEYS": "file:mailgun.signing"}


def tokens(site: Site) -> dict[str, str]:
    """Return the token of the mail that each recipient got."""
    lines = (site.received / "received.jsonl").read_bytes().splitlines()
    return {kept["to"][0]: kept["message_id"][1:40] for kept in map(orjson.loads, lines)}


def posted(token: str, key: str = samples.SIGNING_KEY) -> bytes:
    """Return a webhook of Mailgun's about the mail with this token."""
    now = datetime.now(UTC)
    event = samples.mailgun("complained", id=token[:20], timestamp=now.timestamp(), recipient="someone@there.test")
    event["user-variables"] = {"mailfleet-token": token}
    return samples.webhook(event, signature=samples.signature(key, at=now))


def test_what_is_told_at_the_door_is_obeyed_and_shown(site: Site, database: str) -> None:
    port = port_for(site.folder / "home", None, "the door")
    site.stack = type(site.stack)({**site.environment, **settings_of(site, port)}, site.folder / "logs")
    story = Story(site, database)
    door = site.stack.add("door", "door")
    story.begin(fleet_text(8))
    story.ask(requests(4))
    story.wait_done(4)
    mails = tokens(site)
    first, second = mails["person0@company0.test"], mails["person1@company1.test"]
    forged = samples.FORGED

    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=15) as client:
        story.wait(lambda: client.get("/health").status_code == 200, 20, "the door finds Kafka")
        for body in (posted(first), posted(first), posted(forged)):
            assert client.post(f"/{SECRET}/mailgun", content=body).status_code == 200
        assert client.post(f"/{SECRET}/mailgun", content=posted(second, "another key")).status_code == 404
        assert "<button" in client.get(f"/u/{second}").text
        for _ in range(2):
            said = client.post(f"/u/{second}", data={"List-Unsubscribe": "One-Click"})
            assert (said.status_code, "You are unsubscribed" in said.text) == (200, True)

    wanted = {"complained": 1, "unsubscribed": 1, "accepted": 2}
    story.wait(lambda: story.found() == wanted, 30, "both are decided")
    held = "select client, reason from suppressions where until is null order by reason"
    story.wait(lambda: story.query(held) == [("", "complaint"), ("birch", "unsubscribe")], 20, "both are suppressed")
    strays = "select what from stray_reports"
    story.wait(lambda: story.query(strays) == [("forged",)], 20, "the forged one is counted")

    door.process.send_signal(signal.SIGTERM)
    assert door.process.wait(20) == 0
    words = door.log.read_text()
    assert not any(word in words for word in ("@", first, second, SECRET))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "DOOR_PORT is not set"),
        ({"DOOR_PORT": "1", "DOOR_SNS_TOPICS": "arn:aws:sns:eu-west-1:123456789012:x"}, "DOOR_PATH is not set"),
    ],
)
def test_a_wrong_setting_ends_the_door_with_a_sentence(site: Site, given: dict[str, str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ops.run", "door"],
        cwd=ROOT,
        env={**os.environ, **site.environment, **given},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 78
    assert said in done.stdout + done.stderr


def test_the_command_says_what_to_enter_at_providers_and_keeps_the_path(site: Site) -> None:
    runner = CliRunner(env={**site.environment, "DOOR_PATH": "file:door.path"})
    first, second = (runner.invoke(cli, ["door", "--urls", "https://d.test/", "--json"]) for _ in range(2))
    assert first.exit_code == 0, first.output
    assert first.stdout == second.stdout
    urls = orjson.loads(first.stdout)
    path = (site.settings.secrets_folder / "door.path").read_text()
    assert urls["mailgun"] == f"https://d.test/{path}/mailgun"
    assert urls["unsubscribe_url"] == "https://d.test/u/"
    assert "d.test/u/" in runner.invoke(cli, ["door", "--urls", "https://d.test"]).stdout
