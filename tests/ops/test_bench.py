"""The planning bench measures, and what it measures does not grow with the fleet."""

import statistics

from click.testing import CliRunner

from ops.bench import planning
from ops.cli import cli


def test_planning_a_send_costs_the_same_in_a_fleet_twenty_times_as_large() -> None:
    small = statistics.median(planning(1_000, 300) for _ in range(5))
    large = statistics.median(planning(20_000, 300) for _ in range(5))
    assert large < 3 * small, f"{large:.0f} µs against {small:.0f} µs; a scan would cost about 20 times as much"


def test_the_command_says_it_as_json() -> None:
    done = CliRunner().invoke(
        cli, ["bench", "planning", "--mailboxes", "500", "--sends", "50", "--runs", "1", "--json"]
    )
    assert done.exit_code == 0, done.output
    assert '"500":' in done.output
