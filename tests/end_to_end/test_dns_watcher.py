"""The DNS watcher as a process of its own beside the fleet stage: from an applied fleet file to observations."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import pytest

from ops.fleet_plan import known
from ops.journals import fold_partition
from ops.site import Site
from schemas import registry
from schemas.dns import DomainObserved
from schemas.envelope import from_wire
from schemas.fleet import MailboxDeclared
from schemas.ids import ClientId
from schemas.registry import Fact
from schemas.reputation import SpamRatesTold
from schemas.topics import DNS_OBSERVATIONS, FLEET_JOURNAL, partition_of
from streams.fleet.state import SenderRow, sender_key
from streams.log.kafka import Reader
from tests.adapters.google_server import Google, running
from tests.conftest import ROOT
from tests.knot import Knot, txt

ACME = ClientId("acme")
FLEET = """
[clients.acme]
campaigns = ["welcome"]
postal_address = "Acme GmbH, Hauptstrasse 1, 10115 Berlin"
domains = ["firm.test"]

[clients.acme.routes.own]
provider = "smtp"
tls = "none"
port = 0
options = { dns_ips = "192.0.2.25", dns_dkim_selector = "s1" }

[[clients.acme.mailboxes]]
domain = "firm.test"
names = ["anna"]
route = "own"
daily_quota = 40
secret = "file:demo.password"
"""


@pytest.fixture
def knot(needs: Callable[[str, str], None], tmp_path: Path) -> Iterator[Knot]:
    """A name server with the fleet's domain, whose DKIM key is missing."""
    needs("knotd", "knot")
    records = [*txt("@", "v=spf1 ip4:192.0.2.25 -all"), *txt("_dmarc", "v=DMARC1; p=none"), "@ MX 10 out1"]
    made = Knot(tmp_path / "knot", {"firm.test": [*records, "out1 A 192.0.2.25"]})
    made.start()
    yield made
    made.stop()


@pytest.fixture
def google() -> Iterator[Google]:
    """Google, that tells of yesterday's mail."""
    made, ready, end = Google({"firm.test": {datetime.now(UTC).date() - timedelta(days=1): 0.002}}), Event(), Event()

    async def serve() -> None:
        async with running(made):
            ready.set()
            await asyncio.to_thread(end.wait)

    thread = Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(10)
    yield made
    end.set()
    thread.join()


async def told(site: Site) -> list[Fact]:
    """Return everything in dns-observations."""
    topic, reader, found = site.settings.topic(DNS_OBSERVATIONS), Reader(site.settings.connection), []
    try:
        for partition in range(DNS_OBSERVATIONS.partitions):
            first, end = await reader.bounds(topic, partition)
            async for chunk in reader.read(topic, partition, first, end):
                envelopes = [from_wire(record.value) for record in chunk]
                found += [registry.fact_of(e.type, e.v, e.data) for e in envelopes]
    finally:
        await reader.close()
    return found


async def observations(site: Site) -> list[DomainObserved]:
    """Return what the DNS said."""
    return [fact for fact in await told(site) if isinstance(fact, DomainObserved)]


async def health_of(site: Site) -> str:
    """Return the state of the domain as the fleet's journal has it."""
    reader, partition = Reader(site.settings.connection), partition_of(ACME.encode(), FLEET_JOURNAL.partitions)
    try:
        folded = await fold_partition(site.settings, "fleet", partition, reader)
    finally:
        await reader.close()
    row = dict(folded.rows.all()).get(sender_key("domain", ACME, "firm.test"))
    return row.state if isinstance(row, SenderRow) else ""


def quotas(site: Site) -> list[int]:
    """Return the quotas of the mailboxes as the fleet stage knows them."""
    return [fact.daily_quota for fact in asyncio.run(known(site.settings)) if isinstance(fact, MailboxDeclared)]


def wait(ready: Callable[[], bool], seconds: float, what: str) -> None:
    """Return when it is so; fail after the deadline."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def test_a_declared_domain_is_watched_and_the_fleet_stage_reads_on(
    site: Site, knot: Knot, google: Google, tmp_path: Path
) -> None:
    secret = site.settings.secrets_folder / "google.json"
    secret.write_text(google.service_account())
    secret.chmod(0o600)
    asked = {"POSTMASTER_CREDENTIALS": "file:google.json", "POSTMASTER_URL": google.url}
    site.stack = type(site.stack)(
        {**site.environment, **asked, "DNS_RESOLVERS": str(knot.resolver()), "DNS_RDAP_URL": "off"},
        site.folder / "logs",
    )
    site.stack.add("fleet", "fleet")
    (tmp_path / "fleet.toml").write_text(FLEET)
    declared = site.apply(tmp_path / "fleet.toml")
    wait(lambda: len(asyncio.run(known(site.settings))) == declared, 40, "the fleet stage takes the file")
    watcher = site.stack.add("dns", "dns")
    wait(lambda: len(asyncio.run(observations(site))) >= 2, 30, "both facts are published")
    own = next(fact for fact in asyncio.run(observations(site)) if fact.route == "own")
    assert (own.client, own.domain, own.resolver) == ("acme", "firm.test", str(knot.resolver()))
    found = {finding.check: finding.verdict for finding in own.findings}
    assert (found["spf"], found["dkim"], found["dmarc"]) == ("good", "missing", "good")
    wait(lambda: any(isinstance(f, SpamRatesTold) for f in asyncio.run(told(site))), 20, "Google's word is published")
    assert google.asked == ["firm.test"]
    wait(lambda: asyncio.run(health_of(site)) == "watched", 20, "the fleet stage slows the domain down")

    watcher.process.send_signal(signal.SIGTERM)
    assert watcher.process.wait(10) == 0
    assert watcher.log.read_text() == ""
    site.apply(tmp_path / "fleet.toml", {"daily_quota = 40": "daily_quota = 41"})
    wait(lambda: quotas(site) == [41], 20, "the fleet stage reads past the observations")


def test_a_wrong_setting_ends_the_watcher_with_a_sentence(site: Site) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ops.run", "dns"],
        cwd=ROOT,
        env={**os.environ, **site.environment, "DNS_BLOCKLISTS": "sorbs"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 78
    assert "DNS_BLOCKLISTS names sorbs; known are zen" in done.stdout + done.stderr
