"""`check-domain` and `dns-records` as a person meets them, without Kafka: a fleet file and a real name server."""

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapters.dns.dkim import key_record, own_public_key
from ops.dns_records import Line, merged
from tests.conftest import ROOT
from tests.knot import Knot, txt

FLEET = """
[clients.acme]
campaigns = ["welcome"]
postal_address = "Acme GmbH, Hauptstrasse 1, 10115 Berlin"
domains = ["firm.test"]

[clients.acme.routes.own]
provider = "smtp"
host = "out1.firm.test"
options = { dns_ips = "192.0.2.25", dns_helo = "out1.firm.test", dns_dkim_selector = "s1" }

[clients.acme.routes.mailgun]
provider = "mailgun"
options = { domain = "mg.firm.test", secret_ref = "file:mailgun.key", dns_dkim_selector = "k1" }

[[clients.acme.mailboxes]]
domain = "firm.test"
names = ["anna"]
routes = ["own", "mailgun"]
daily_quota = 40
secret = "file:acme.password"
"""
PRESENT = ["@ MX 10 out1", "out1 A 192.0.2.25", *txt("@", "v=spf1 include:_spf.firm.test -all")]
INCLUDED = txt("_spf", "v=spf1 ip4:203.0.113.0/24 -all")
MAILGUN = txt("@", "v=spf1 ip4:198.51.100.0/24 -all")


@pytest.fixture
def knot(needs: Callable[[str, str], None], tmp_path: Path) -> Iterator[Knot]:
    """A name server with a domain that has only the half of what its routes need."""
    needs("knotd", "knot")
    zones = {
        "firm.test": [*PRESENT, *INCLUDED],
        "test": ["nothing A 192.0.2.1"],
        "2.0.192.in-addr.arpa": ["25 PTR out1.firm.test."],
        "mailgun.org": MAILGUN,
    }
    made = Knot(tmp_path / "knot", zones)
    made.start()
    yield made
    made.stop()


def mailfleet(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command in a folder with the fleet file; no broker is known."""
    (folder / "fleet.toml").write_text(FLEET)
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", *arguments],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "300",
            "DNS_RDAP_URL": "off",
            "MAILFLEET_HOME": str(folder / "home"),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def findings(done: "subprocess.CompletedProcess[str]") -> dict[tuple[str, str], str]:
    """Return {(route, check): verdict} of --json."""
    return {(row["route"], row["check"]): row["verdict"] for row in json.loads(done.stdout)}


def test_what_dns_records_prints_makes_check_domain_content(knot: Knot, tmp_path: Path) -> None:
    asked = {"DNS_RESOLVERS": str(knot.resolver())}
    before = mailfleet(tmp_path, "check-domain", "Firm.test", "--fleet", "fleet.toml", "--json", **asked)
    assert before.returncode == 1
    found = findings(before)
    assert found["own", "spf"] == "broken"
    assert found["own", "dkim"] == found["own", "dmarc"] == found["mailgun", "spf"] == "missing"

    printed = mailfleet(tmp_path, "dns-records", "firm.test", "--fleet", "fleet.toml", **asked)
    assert printed.returncode == 0, printed.stderr
    key = tmp_path / "home" / "secrets" / "dkim.firm.test.s1.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    lines = printed.stdout.splitlines()
    assert 'firm.test. 3600 IN TXT "v=spf1 include:_spf.firm.test ip4:192.0.2.25 -all"' in lines
    assert 'mg.firm.test. 3600 IN TXT "v=spf1 include:mailgun.org ~all"' in lines
    assert any(re.match(r"; mg.firm.test: DKIM of route mailgun: set k1._domainkey.mg.firm.test", x) for x in lines)
    assert "PRIVATE" not in printed.stdout + printed.stderr

    pasted = [
        line for line in printed.stdout.splitlines() if "._domainkey" in line or "spf1" in line or "_dmarc" in line
    ]
    knot.change("firm.test", [*PRESENT[:2], *INCLUDED, "mg MX 10 out1", *pasted])
    after = mailfleet(
        tmp_path, "check-domain", "firm.test", "--route", "own", "--fleet", "fleet.toml", "--json", **asked
    )
    assert set(findings(after).values()) == {"good"}, after.stdout
    assert after.returncode == 0
    again = mailfleet(tmp_path, "dns-records", "firm.test", "--fleet", "fleet.toml", **asked)
    record = key_record(own_public_key(key.read_text(), "key"))
    assert str(Line("s1._domainkey.firm.test", "TXT", record)) in again.stdout
    assert "the DMARC record at _dmarc.firm.test stays as it is" in again.stdout


def test_reports_go_to_the_mailbox_that_counts_them_and_a_foreign_one_must_agree(knot: Knot, tmp_path: Path) -> None:
    box = 'dmarc_mailbox = { address = "dmarc@agency.test", host = "imap.agency.test", secret = "file:dmarc" }'
    (tmp_path / "reports.toml").write_text(FLEET.replace("[clients.acme]\n", f"[clients.acme]\n{box}\n", 1))
    asked = {"DNS_RESOLVERS": str(knot.resolver())}
    first = mailfleet(tmp_path, "dns-records", "firm.test", "--fleet", "reports.toml", **asked).stdout.splitlines()
    record = '_dmarc.firm.test. 3600 IN TXT "v=DMARC1; p=none; rua=mailto:dmarc@agency.test"'
    agreed = 'firm.test._report._dmarc.agency.test. 3600 IN TXT "v=DMARC1"'
    assert {record, agreed} <= set(first)
    knot.change("firm.test", [*PRESENT, *INCLUDED, *txt("_dmarc", "v=DMARC1; p=reject; rua=mailto:x@firm.test")])
    again = mailfleet(tmp_path, "dns-records", "firm.test", "--fleet", "reports.toml", **asked).stdout
    assert "; firm.test: add mailto:dmarc@agency.test to rua= in the DMARC record at _dmarc.firm.test" in again
    assert agreed in again


def test_a_table_says_what_to_do_and_a_hanging_server_breaks_nothing(knot: Knot, tmp_path: Path) -> None:
    asked = ("--fleet", "fleet.toml", "--resolver", str(knot.resolver()))
    told = mailfleet(tmp_path, "check-domain", "firm.test", *asked)
    assert told.returncode == 1
    assert 'put ip4:192.0.2.25 into the SPF record of firm.test, before its "all"' in told.stdout
    knot.stop()
    unknown = mailfleet(tmp_path, "check-domain", "firm.test", *asked, "--json")
    assert unknown.returncode == 0
    assert set(findings(unknown).values()) == {"could_not_be_checked", "good"}


def test_a_domain_of_nobody_is_checked_without_routes(knot: Knot, tmp_path: Path) -> None:
    done = mailfleet(tmp_path, "check-domain", "firm.test", "--json", DNS_RESOLVERS=str(knot.resolver()))
    assert findings(done) == {
        ("", "mx"): "good",
        ("", "spf"): "good",
        ("", "dmarc"): "missing",
        ("", "return_path"): "good",
    }
    assert "no fleet is known here" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "says"),
    [
        (("check-domain", "nonsense"), {}, 2, "DOMAIN nonsense"),
        (("check-domain", "firm.test", "--fleet", "fleet.toml", "--route", "ses"), {}, 2, "uses a route ses"),
        (("check-domain", "firm.test"), {"DNS_RESOLVERS": "dns.test"}, 1, "DNS_RESOLVERS"),
        (("dns-records", "firm.test"), {"DNS_BLOCKLISTS": "sorbs"}, 1, "DNS_BLOCKLISTS names sorbs"),
    ],
)
def test_what_is_wrong_is_a_sentence(
    tmp_path: Path, arguments: tuple[str, ...], environment: dict[str, str], code: int, says: str
) -> None:
    done = mailfleet(tmp_path, *arguments, **environment)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_addresses_of_an_own_server_are_checked_with_the_fleet_file(tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text(FLEET.replace("192.0.2.25", "192.0.2.256"))
    done = mailfleet(tmp_path, "dns-records", "firm.test", "--fleet", "wrong.toml")
    assert done.returncode == 1
    assert "route own: dns_ips must be addresses" in done.stderr


@pytest.mark.parametrize(
    ("present", "terms", "record"),
    [
        ([], ["include:a.test"], "v=spf1 include:a.test ~all"),
        (["v=spf1 mx -all"], ["include:a.test"], "v=spf1 mx include:a.test -all"),
        (["v=spf1 include:a.test ~all"], ["include:a.test"], "v=spf1 include:a.test ~all"),
        (["v=spf1 a ~all", "v=spf1 mx -all"], [], "v=spf1 a mx ~all"),
        (["v=spf1 a +all"], [], "v=spf1 a ~all"),
        (["v=spf1 a all"], [], "v=spf1 a ~all"),
        (["v=spf1 redirect=b.test"], ["ip4:192.0.2.1"], "v=spf1 ip4:192.0.2.1 redirect=b.test"),
    ],
)
def test_what_stands_in_an_spf_record_stays(present: list[str], terms: list[str], record: str) -> None:
    assert merged(present, terms) == record


def test_a_long_record_is_cut_into_strings_that_a_zone_can_hold() -> None:
    line = str(Line("a.test", "TXT", 'x"' + "y" * 600))
    strings = re.findall(r'"((?:[^"\\]|\\.)*)"', line)
    assert [len(s.replace("\\", "")) for s in strings] == [255, 255, 92]
    assert "".join(s.replace("\\", "") for s in strings) == 'x"' + "y" * 600
