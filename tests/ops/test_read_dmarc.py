"""`mailfleet read-dmarc`: piles of saved reports, read without Kafka when a fleet file says whose domains they are."""

from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner
from rich.console import Console

from ops.cli import cli
from tests.adapters.dmarc_samples import FAILED, google, mail, outlook, packed, record, yahoo, zipped

FLEET = """
[clients.acme]
campaigns = ["welcome"]
postal_address = "Acme GmbH, Hauptstrasse 1, 10115 Berlin"
unsubscribe_url = "https://u.acme-mail.com/"
domains = ["acme-mail.com"]
[clients.acme.routes.own]
provider = "smtp"
host = "mx.acme-mail.com"
options = { dns_ips = "192.0.2.25" }
[[clients.acme.mailboxes]]
domain = "acme-mail.com"
names = ["anna"]
route = "own"
daily_quota = 40
secret = "file:acme"
"""


@pytest.fixture
def pile(tmp_path: Path) -> Path:
    """A folder with a report in each form, letters beside them, and one that is damaged."""
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "a.zip").write_bytes(zipped(google(record(mails=40), FAILED)))
    (folder / "b.xml.gz").write_bytes(packed(outlook(record(mails=2, dkim="fail"))))
    (folder / "c.xml").write_bytes(yahoo(record("192.0.2.25", 3, dkim="fail", spf="fail")))
    stamp = f"From x Mon Mar  2 09:00:00 {datetime.now(UTC).year}\n".encode()
    letter = b"From: ann@firm.example\nSubject: hello\n\nhello\n\n"
    report = mail(zipped(google(record(mails=5), report_id="77")), text="x")
    (folder / "box.mbox").write_bytes(stamp + letter + stamp + report)
    (folder / "d.gz").write_bytes(b"\x1f\x8bdamaged")
    return folder


def run(tmp_path: Path, *arguments: str) -> tuple[int, str]:
    """Run the command with the fleet file and no Kafka."""
    fleet = tmp_path / "fleet.toml"
    fleet.write_text(FLEET)
    done = CliRunner().invoke(cli, ["read-dmarc", *arguments, "--fleet", str(fleet), "--dry-run"])
    return done.exit_code, done.output


def test_every_report_of_a_pile_is_read_and_a_letter_is_none(tmp_path: Path, pile: Path) -> None:
    code, said = run(tmp_path, str(pile), "--json")
    *lines, counts = [orjson.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert (code, counts) == (1, {"published": False, "reports": 4, "not_read": 1})
    told = {Path(line["file"]).name: line.get("data") or line["not_read"] for line in lines}
    assert told["d.gz"] == "its file is damaged"
    assert {name: data["org"] for name, data in told.items() if name != "d.gz"} == {
        "a.zip": "google.com",
        "b.xml.gz": "Outlook.com",
        "c.xml": "Yahoo",
        "box.mbox": "google.com",
    }


def test_the_table_says_what_is_wrong(tmp_path: Path, pile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.commands.read_dmarc.out", Console(width=120))
    (pile / "d.gz").unlink()
    code, said = run(tmp_path, str(pile))
    assert code == 0
    assert "would publish: 4 reports; 0 not read" in said
    yahoos = next(line for line in said.splitlines() if "Yahoo" in line)
    assert [cell.strip() for cell in yahoos.replace("┃", "│").split("│")[1:-1]] == [
        "2026-03-02",
        "acme-mail.com",
        "Yahoo",
        "reject",
        "3",
        "3",
        "3",
        "0",
    ]
