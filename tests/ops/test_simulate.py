"""The simulation drives the same rules as the fleet stage: it repeats itself, keeps quotas, and shows what it did."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner
from rich.console import Console

from ops.commands.simulate import days_table, simulate
from ops.simulation.engine import Scenario, Simulation, Wish, declared_fleet
from ops.simulation.mail_world import Outage
from ops.simulation.tally import STATES, Evening, Tally
from ops.simulation.world_file import WorldFileWrong, read_world
from schemas.fleet import RouteTripped
from schemas.ids import ClientId
from schemas.policy import Policy
from tests.scenarios.weather import fleet

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
SAMPLE = Path("ops/sample_fleet.toml")


def ran(scenario: Scenario) -> tuple[Simulation, Tally]:
    simulation, tally = Simulation(scenario), Tally()
    simulation.watchers.append(tally.saw)
    simulation.listeners.append(tally.heard)
    for day in simulation.run():
        tally.close_day(day.day, simulation.now)
    return simulation, tally


def small(days: int = 2, seed: int = 1, outages: tuple[Outage, ...] = (), boxes: int = 24) -> Scenario:
    return Scenario(tuple(declared_fleet(boxes, 3, 3)), MONDAY, days, seed, outages=outages)


def test_the_same_seed_gives_the_same_days_and_another_seed_other_ones() -> None:
    once, again, other = (ran(small(seed=seed))[0] for seed in (1, 1, 2))
    assert [day.counts for day in once.days] == [day.counts for day in again.days]
    assert once.decided == again.decided
    assert once.world.counts == again.world.counts != other.world.counts


def test_no_mailbox_sends_more_than_its_quota_on_any_day() -> None:
    _, tally = ran(small(days=3))
    assert max(tally.per_box_day.values()) <= 30
    assert sum(tally.per_box_day.values()) > 24 * 3


def test_a_mailbox_whose_warm_up_has_not_begun_has_no_cap_yet() -> None:
    _, tally = ran(Scenario(fleet(100, 2, policy=Policy("p")), MONDAY, 1))
    assert sum(tally.evenings[0].assigned.values()) == 50, "the canary alone"
    assert set(tally.evenings[0].caps) == {0, 5}


def test_every_send_that_upstream_asked_for_ends_or_waits() -> None:
    simulation, _ = ran(small(days=4))
    ended = sum(n for day in simulation.days for what, n in day.counts.items() if what.startswith(("ended", "expired")))
    waiting = sum(1 for client in simulation.state.clients() for _ in simulation.state.backlog_of(client))
    asked = sum(simulation.asked.values())
    assert ended + waiting == asked > 0


def test_a_route_that_answers_nobody_trips_and_is_used_again_afterwards() -> None:
    noon = MONDAY + timedelta(hours=12)
    simulation, tally = ran(small(days=2, outages=(Outage(noon, noon + timedelta(hours=1), "own"),)))
    assert any(isinstance(fact, RouteTripped) for _, fact in simulation.decided)
    assert sum(tally.evenings[1].assigned.values()) > 0


def test_a_holiday_is_a_day_without_mail() -> None:
    clients = [ClientId(f"client{n}") for n in range(3)]
    scenario = Scenario(
        tuple(declared_fleet(24, 3, 3)), MONDAY, 3, wishes={client: Wish(off=((1, 2),)) for client in clients}
    )
    _, tally = ran(scenario)
    days = [sum(evening.assigned.values()) for evening in tally.evenings]
    assert days[0] > 50
    assert days[2] > 50
    assert days[1] < days[0] / 4  # what was asked for the evening before


def test_the_command_shows_days_and_writes_a_report_that_stands_alone(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    world = tmp_path / "world.toml"
    world.write_text("[clients.acme]\nper_day = 40\n[clients.birch]\nper_day = 40\n[clients.cedar]\nper_day = 40\n")
    arguments = [str(SAMPLE), "--days", "2", "--begin", "2026-03-02", "--html", str(report), "--world", str(world)]
    done = CliRunner().invoke(simulate, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    days = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert [day["day"] for day in days] == ["2026-03-02", "2026-03-03"]
    assert all(sum(day["mailboxes"].values()) == 1200 for day in days)
    page = report.read_text("utf-8")
    assert "Mailboxes by state" in page
    assert "<script src=" not in page


def test_eighty_columns_show_every_number_of_a_large_fleet() -> None:
    states = Counter({**dict.fromkeys(STATES, 1_999), "active": 12_000})
    mails, bounces, complaints = (Counter({ClientId("acme"): count}) for count in (360_000, 36_000, 3_600))
    evening = Evening("2026-12-31", states, (5, 30, 30), mails, bounces, complaints)
    page = Console(width=80, record=True, file=StringIO())
    page.print(days_table([evening]))
    shown = page.export_text()
    assert shown.split("\n12-31")[1].split()[:4] == ["360,000", "30", "36,000", "3,600"]
    assert shown.count("1,999") == len(STATES) - 1
    assert "…" not in shown


def test_a_wrong_world_file_is_told_with_its_place(tmp_path: Path) -> None:
    world = tmp_path / "world.toml"
    world.write_text("[clients.acme]\nper_week = 40\n")
    with pytest.raises(WorldFileWrong, match="per_week"):
        read_world(world, (), MONDAY, 2, 1)
