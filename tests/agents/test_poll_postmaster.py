"""Google is asked once a day for each domain, and what it says becomes one fact; its silence costs nothing else."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from adapters.postmaster import Postmaster
from adapters.secrets import Secrets
from ops.commands.doctor import _gmail
from schemas import registry
from schemas.entry import Entry, Seen
from schemas.envelope import to_wire
from schemas.fleet import DomainDeclared
from schemas.ids import ClientId, DomainName
from schemas.registry import Fact
from schemas.reputation import SpamRatesTold
from schemas.topics import DNS_OBSERVATIONS, FLEET_INPUTS, FLEET_JOURNAL
from streams.agents.poll_postmaster import PostmasterPoller, postmaster_of
from streams.log.kafka import Connection
from streams.settings import PostmasterSettings, SettingMissing, Settings
from tests.adapters.google_server import Google, running
from tests.agents.memory_log import MemoryLog, MemoryReader, MemoryWriter

ACME = ClientId("acme")
START = datetime(2026, 3, 5, 6, 0, tzinfo=UTC)
DEADLINE_S = 10.0


@dataclass
class World:
    """The log, Google, and the clock."""

    google: Google
    home: Path
    log: MemoryLog = field(default_factory=MemoryLog)
    now: datetime = START
    seq: int = 0

    def declare(self, *domains: str, active: bool = True) -> None:
        """Write the fleet's journal as its stage does."""
        for name in domains:
            prev, self.seq = f"e{self.seq}" if self.seq else "", self.seq + 1
            decided = (registry.decided(DomainDeclared(ACME, DomainName(name), active=active)),)
            entry = Entry(f"e{self.seq}", "test", self.seq, prev, START, None, Seen("ticked", 1, {}), decided)
            self.log.put(FLEET_JOURNAL.name, 3, to_wire(entry))

    @property
    def settings(self) -> Settings:
        """With the account's secret."""
        given = PostmasterSettings("file:google.json", self.google.url)
        return Settings(Connection("nowhere"), "", self.home, "dns-1", postmaster=given)

    @contextlib.asynccontextmanager
    async def polling(self) -> AsyncIterator[PostmasterPoller]:
        """A poller after a start: it has remembered."""
        asks = Postmaster(Secrets(self.home / "secrets"), "file:google.json", self.google.url)
        made = PostmasterPoller(self.settings, MemoryReader(self.log), MemoryWriter(self.log), asks, lambda: self.now)
        await made._remember()
        yield made
        await asks.close()

    async def round(self, poller: PostmasterPoller, **later: float) -> list[str]:
        """Let time go on and look once; return whom Google was asked about."""
        self.now += timedelta(**later)
        before = len(self.google.asked)
        await poller._declared.refresh()
        await poller.round()
        return self.google.asked[before:]

    def told(self, topic: str = FLEET_INPUTS.name) -> list[Fact]:
        """What was published."""
        return self.log.facts(topic)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """acme's domain has data of one day, birch's none."""
    (tmp_path / "secrets").mkdir()
    async with running(Google({"acme.test": {date(2026, 3, 3): 0.002}, "birch.test": {}})) as google:
        path = tmp_path / "secrets" / "google.json"
        path.write_text(google.service_account())
        path.chmod(0o600)
        yield World(google, tmp_path)


async def test_each_domain_is_asked_for_once_a_day_and_told_to_stage_and_people(world: World) -> None:
    world.declare("acme.test", "birch.test")
    world.declare("gone.test", active=False)
    async with world.polling() as poller:
        assert await world.round(poller) == ["acme.test", "birch.test"]
        assert await world.round(poller, hours=23) == []
        assert await world.round(poller, hours=1) == ["acme.test", "birch.test"]
    first, second, *_ = world.told()
    since, until = date(2026, 2, 23), date(2026, 3, 4)
    assert first == SpamRatesTold(ACME, DomainName("acme.test"), START, since, until, {"2026-03-03": 0.002})
    assert second == SpamRatesTold(ACME, DomainName("birch.test"), START, since, until, {})
    assert sorted(map(str, world.told(DNS_OBSERVATIONS.name))) == sorted(map(str, world.told()))


async def test_a_restart_asks_nobody_anew(world: World) -> None:
    world.declare("acme.test")
    async with world.polling() as poller:
        await world.round(poller)
    async with world.polling() as poller:
        assert await world.round(poller, hours=12) == []
        assert await world.round(poller, hours=12) == ["acme.test"]


async def test_a_domain_that_google_hides_holds_no_other_up(world: World) -> None:
    world.declare("hidden.test", "acme.test")
    async with world.polling() as poller:
        assert await world.round(poller) == ["hidden.test", "acme.test"]
        assert await world.round(poller, hours=2) == []
    assert [fact.domain for fact in world.told()] == ["acme.test"]  # type: ignore[attr-defined]  # SpamRatesTold


async def test_when_google_is_silent_nobody_is_asked_about_until_it_said(world: World) -> None:
    world.declare("acme.test", "birch.test")
    world.google.answers = [(429, {}, {"Retry-After": "7200"}), (503, {}, {})]
    async with world.polling() as poller:
        assert await world.round(poller) == ["acme.test"]
        assert await world.round(poller, minutes=119) == []
        assert await world.round(poller, minutes=1) == ["acme.test"]
        assert await world.round(poller, minutes=59) == []
        assert await world.round(poller, minutes=1) == ["acme.test", "birch.test"]
    assert len(world.told()) == 2


async def test_it_runs_until_it_is_cancelled(world: World) -> None:
    world.declare("acme.test")
    async with world.polling() as poller:
        task = asyncio.create_task(poller.run())
        async with asyncio.timeout(DEADLINE_S):
            while not world.told():  # noqa: ASYNC110 - rows of a log, not events of ours
                await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def test_without_credentials_nobody_is_asked(tmp_path: Path) -> None:
    assert postmaster_of(Settings(Connection("nowhere"), "", tmp_path, "dns-1")) is None
    unsafe = PostmasterSettings("file:google.json", "http://google.example")
    with pytest.raises(SettingMissing, match="https"):
        postmaster_of(Settings(Connection("nowhere"), "", tmp_path, "dns-1", postmaster=unsafe))


async def test_doctor_says_which_domains_google_tells_of(world: World) -> None:
    world.google.domains["acme.test"] = {datetime.now(UTC).date() - timedelta(days=2): 0.0}
    known = [DomainDeclared(ACME, DomainName(name)) for name in ("acme.test", "birch.test")]
    said = await asyncio.to_thread(_gmail, world.settings, known)
    assert said == "Google takes file:google.json; acme.test has data; birch.test has no data yet"
    hidden = [*known, DomainDeclared(ACME, DomainName("hidden.test"))]
    with pytest.raises(SettingMissing, match=r"1 of 3 domains are not told of: hidden\.test: 403"):
        await asyncio.to_thread(_gmail, world.settings, hidden)
