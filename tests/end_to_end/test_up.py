"""`mailfleet up`: a user's own fleet from nothing to an accepted mail, and nothing left when it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from ops.embedded.process import tail
from ops.site import Site
from tests.faults.story import fleet_text, requests

ROOT = Path(__file__).parent.parent.parent


class Place:
    """A folder of a user's own, without any setting in the environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA", "DATABASE"))}
        nobody = {"DNS_RESOLVERS": "127.0.0.1:9", "DNS_RDAP_URL": "off", "DNS_RECEIVERS": "off"}
        self.environment = {**kept, **nobody, "PYTHONPATH": str(ROOT)}
        (folder / ".mailfleet").mkdir(parents=True)
        (folder / ".mailfleet" / "jars").symlink_to(ROOT / ".mailfleet" / "jars")
        self.log = folder / "up.log"

    def start(self) -> subprocess.Popen[bytes]:
        """Run `mailfleet up`."""
        with self.log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "ops.cli", "up"], cwd=self.folder, env=self.environment, stdout=out, stderr=out
            )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command beside it."""
        return subprocess.run(
            [sys.executable, "-m", "ops.cli", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def wait(self, process: subprocess.Popen[bytes], text: str, seconds: float) -> None:
        """Wait until `up` says so."""
        deadline = time.monotonic() + seconds
        while text not in (self.log.read_text() if self.log.exists() else ""):
            assert process.poll() is None, tail(self.log)
            assert time.monotonic() < deadline, tail(self.log)
            time.sleep(0.1)


@pytest.fixture
def place(run_folder: Path) -> Place:
    """A fresh place."""
    return Place(run_folder / "up")


def test_a_new_user_runs_applies_sends_and_ends(place: Place, site: Site) -> None:
    process = place.start()
    try:
        place.wait(process, "running;", 60)
        secrets = place.folder / ".mailfleet" / "fleet" / "home" / "secrets"
        for name in ("demo.password", "receiver-ca.pem"):  # the receiver is the site's
            (secrets / name).write_bytes((site.folder / "home" / "secrets" / name).read_bytes())
            (secrets / name).chmod(0o600)
        fleet = place.folder / "fleet.toml"
        fleet.write_text(fleet_text(10).replace("port = 0", f"port = {site.smtp_port}"))
        assert place.run("apply", "fleet.toml", "--yes").returncode == 0
        (place.folder / "r.jsonl").write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in requests(10)))
        assert place.run("send", "r.jsonl").returncode == 0
        deadline = time.monotonic() + 60
        while True:
            said = orjson.loads(place.run("status", "--json").stdout)
            if sum(row["count"] for row in said["sends"] if row["state"] == "accepted") == 10:
                break
            assert time.monotonic() < deadline, said
            time.sleep(0.5)
        assert place.run("doctor").returncode == 0
        sent = place.run("test-send", "box1@acme.test", "me@company.test")
        assert sent.returncode == 0, sent.stderr
        shown = place.run("test-send", "box1@acme.test", "me@company.test", "--preview")
        assert "Subject: Test from box1@acme.test" in shown.stdout
        assert place.run("test-send", "nobody@acme.test", "me@company.test").returncode == 1
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
    assert code == 0
    assert not (place.folder / ".mailfleet" / "fleet" / "running.json").exists()
    assert place.run("status").returncode == 78, "without it, commands ask for KAFKA_BROKERS"
    left = subprocess.run(["pgrep", "-f", str(place.folder)], capture_output=True, text=True, check=False).stdout
    assert left == "", "nothing is left running"
