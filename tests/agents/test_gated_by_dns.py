"""From a real name server's answers to who sends: broken, repaired, flapping, lying and silent zones, hour by hour."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.dns.look import Eyes
from adapters.dns.resolver import Resolver
from adapters.secrets import Secrets
from schemas.fleet import DomainDeclared, RouteDeclared
from schemas.health import GateClosed, GateOpened
from schemas.ids import ClientId, DomainName, RouteId
from streams.agents.watch_dns import Subject, doubtful, observe
from tests.decisions.fleet_story import FleetStory
from tests.knot import QUICK_S, Knot, txt

CLIENT, DOMAIN = ClientId("acme"), DomainName("firm.test")
SPF, MX = txt("@", "v=spf1 ip4:127.0.0.1 -all"), ["@ MX 10 out1", "out1 A 127.0.0.1"]
GOOD = [*SPF, *txt("_dmarc", "v=DMARC1; p=none"), *MX]
WITHOUT_SPF = [line for line in GOOD if line not in SPF]
WITHOUT_MX = [line for line in GOOD if line not in MX[:1]]
WAY = RouteDeclared(CLIENT, RouteId("own"), "smtp", "127.0.0.1", 25, options={"dns_spf": "ip4:127.0.0.1"})
SUBJECT = Subject(CLIENT, DOMAIN, (WAY,))


@pytest.fixture(scope="module")
def servers(needs: Callable[[str, str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Knot, Knot]]:
    """Two name servers with the same zone."""
    needs("knotd", "knot")
    made = tuple(Knot(Path(tmp_path_factory.mktemp(name)), {DOMAIN: GOOD}) for name in ("one", "two"))
    for knot in made:
        knot.start()
    yield made[0], made[1]
    for knot in made:
        knot.stop()


@pytest.fixture
def fleet() -> FleetStory:
    """One client that sends for the domain over one route."""
    story = FleetStory()
    story.client(CLIENT)
    story.sees(DomainDeclared(CLIENT, DOMAIN))
    story.sees(WAY)
    story.boxes(CLIENT, DOMAIN, 2)
    return story


async def hours(story: FleetStory, tmp_path: Path, count: int, *asked: Resolver) -> list[str]:
    """Let the watcher look so many times, an hour apart, as it does; return the gates that moved."""
    eyes = Eyes(asked, Secrets(tmp_path))
    before = len(story.journal)
    for _ in range(count):
        story.now += timedelta(hours=1)
        for resolver in asked:
            looks = await observe(eyes, resolver, SUBJECT, story.now, expiry=False)
            for look in looks:
                story.sees(look)
            if not doubtful(looks):
                break
    moved = [fact for _, fact in story.journal[before:] if isinstance(fact, GateClosed | GateOpened)]
    return [f"{'closed' if isinstance(f, GateClosed) else 'opened'} {f.check}" for f in moved]


def sends(story: FleetStory) -> int:
    """Ask for one send and return how many go."""
    before = len(story.assigned)
    story.ask(CLIENT, f"s{story.now:%d%H%M%S}")
    story.tick(2)
    return len(story.assigned) - before


async def test_a_broken_record_closes_the_route_and_the_repaired_one_opens_it(
    servers: tuple[Knot, Knot], fleet: FleetStory, tmp_path: Path
) -> None:
    knot, _ = servers
    asked = knot.resolver()
    knot.change(DOMAIN, GOOD)
    assert (await hours(fleet, tmp_path, 2, asked), sends(fleet)) == ([], 1)
    knot.change(DOMAIN, WITHOUT_SPF)
    assert (await hours(fleet, tmp_path, 1, asked), sends(fleet)) == ([], 1)
    assert (await hours(fleet, tmp_path, 3, asked), sends(fleet)) == (["closed spf"], 0)
    (closed,) = fleet.decided(GateClosed)
    assert isinstance(closed, GateClosed)
    assert "ip4:127.0.0.1" in closed.fix
    knot.change(DOMAIN, GOOD)
    assert await hours(fleet, tmp_path, 1, asked) == ["opened spf"]
    fleet.tick(2)
    assert len(fleet.assigned) == 3, "what waited goes"


async def test_a_domain_without_mx_sends_nothing_over_any_route(
    servers: tuple[Knot, Knot], fleet: FleetStory, tmp_path: Path
) -> None:
    knot, _ = servers
    knot.change(DOMAIN, WITHOUT_MX)
    moved = await hours(fleet, tmp_path, 2, knot.resolver())
    assert (sorted(moved), sends(fleet)) == (["closed mx", "closed return_path"], 0)
    assert fleet.state.gated(CLIENT, DOMAIN)
    knot.change(DOMAIN, GOOD)


async def test_a_flapping_zone_closes_nothing(servers: tuple[Knot, Knot], fleet: FleetStory, tmp_path: Path) -> None:
    knot, _ = servers
    for number in range(6):
        knot.change(DOMAIN, WITHOUT_SPF if number % 2 else GOOD)
        assert await hours(fleet, tmp_path, 1, knot.resolver()) == []
    knot.change(DOMAIN, GOOD)
    assert sends(fleet) == 1


async def test_one_lying_server_of_two_closes_nothing_and_two_that_agree_close_at_once(
    servers: tuple[Knot, Knot], fleet: FleetStory, tmp_path: Path
) -> None:
    liar, honest = servers
    honest.change(DOMAIN, GOOD)
    liar.change(DOMAIN, WITHOUT_SPF)
    assert await hours(fleet, tmp_path, 4, liar.resolver(), honest.resolver()) == []
    assert sends(fleet) == 1
    honest.change(DOMAIN, WITHOUT_SPF)
    assert await hours(fleet, tmp_path, 1, liar.resolver(), honest.resolver()) == ["closed spf"]
    for knot in servers:
        knot.change(DOMAIN, GOOD)


async def test_a_resolver_that_is_down_gates_nothing(
    servers: tuple[Knot, Knot], fleet: FleetStory, tmp_path: Path
) -> None:
    knot, _ = servers
    knot.change(DOMAIN, GOOD)
    await hours(fleet, tmp_path, 1, knot.resolver())
    knot.hang()
    try:
        async with asyncio.timeout(60):
            assert await hours(fleet, tmp_path, 2, knot.resolver(QUICK_S)) == []
    finally:
        knot.go_on()
    assert sends(fleet) == 1
