"""`mailfleet simulate`: a fleet's next months in minutes."""

import gc
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ops.fleet_file import read_fleet
from ops.simulation.engine import Simulation
from ops.simulation.report import bounce_rate, clients_of, middle, write_report
from ops.simulation.tally import STATES, Evening, Tally
from ops.simulation.world_file import read_world

out = Console()
errors = Console(stderr=True)
MOST_ROWS = 30
SHORT = {
    "watched": "watch-\ned",
    "probation": "proba-\ntion",
    "unhealthy": "un-\nhealthy",
    "resting": "rest-\ning",
    "reserve": "re-\nserve",
}
"""The states' names in two lines: a table of 80 columns holds all of them."""


@click.command()
@click.argument("fleet", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--days", default=90, show_default=True, type=click.IntRange(1, 1000))
@click.option("--seed", default=1, show_default=True, help="Of the modelled mail world: the same gives the same run.")
@click.option("--begin", type=click.DateTime(["%Y-%m-%d"]), help="First day (UTC); default: today.")
@click.option(
    "--world",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A TOML file: what clients want, how good their lists are, what breaks when.",
)
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Where to write the report with plots.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a day, for programs.")
def simulate(
    fleet: Path, days: int, seed: int, begin: datetime | None, world: Path | None, html: Path | None, as_json: bool
) -> None:
    """Run the rules of the fleet file FLEET on a simulated clock against a modelled mail world.

    Nothing is sent, no Kafka is needed. The model is no forecast: it shows what the rules do with a fleet, good
    lists or bad ones, throttles and outages. A world file:

    \b
        [clients.acme]
        per_day = 4000              # mails wanted a day; default 90 % of the quotas
        dead = 0.01                 # share of dead addresses
        complaints = 0.0002
        days_off = [[20, 27]]       # from day 20 to day 26 nothing is asked for
        lists = [{ name = "bought", dead = 0.14, complaints = 0.004 }]   # its second list
        [[outages]]
        route = "own"               # or receiver = "gmail" with throttles = true
        from_day = 30
        to_day = 30.5
    """
    first = (begin or datetime.now()).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)
    simulation = Simulation(read_world(world, tuple(read_fleet(fleet)), first, days, seed))
    tally = Tally()
    simulation.watchers.append(tally.saw)
    simulation.listeners.append(tally.heard)
    _run(simulation, tally, days, as_json=as_json)
    if html is not None:
        write_report(html, simulation, tally, f"{fleet.name}: {days} days from {first:%Y-%m-%d}, seed {seed}")
        errors.print(f"the report stands in {html}", highlight=False)
    if not as_json:
        out.print(days_table(tally.evenings))


def _run(simulation: Simulation, tally: Tally, days: int, *, as_json: bool) -> None:
    """Run all days; rows and facts make no circles, and the collector that looks for some costs a tenth of the time."""
    gc.disable()
    try:
        with Progress(console=errors, transient=True) as progress:
            task = progress.add_task("simulating days", total=days)
            for day in simulation.run():
                tally.close_day(day.day, simulation.now)
                progress.advance(task)
                if as_json:
                    sys.stdout.write(orjson.dumps(_row(tally.evenings[-1])).decode() + "\n")
    finally:
        gc.enable()


def _row(evening: Evening) -> dict[str, object]:
    return {
        "day": evening.day,
        "assigned": sum(evening.assigned.values()),
        "hard_bounces": sum(evening.bounced.values()),
        "complaints": sum(evening.complained.values()),
        "cap_median": middle(evening),
        "caps": sum(evening.caps),
        "mailboxes": dict(evening.states),
        "clients": dict(evening.assigned),
    }


def days_table(evenings: list[Evening]) -> Table:
    """Return the table of days, at most about MOST_ROWS of them."""
    first, last = evenings[0].day, evenings[-1].day
    table = Table(title=f"Simulated days, {first} to {last}", box=SIMPLE_HEAD, padding=0, show_edge=False)
    seen = [state for state in STATES if any(evening.states[state] for evening in evenings)]
    table.add_column("day", no_wrap=True)
    counts = ("mails", "cap", "hard\nbounce", "com-\nplaints")
    for column in (*counts, *(SHORT.get(state, state) for state in seen), "worst"):
        table.add_column(column, justify="right", no_wrap=True)
    table.caption = "cap: the median mailbox's; worst: the client with most hard bounces in 7 days"
    step = max(1, -(-len(evenings) // MOST_ROWS))
    for number, evening in enumerate(evenings):
        if number % step and number != len(evenings) - 1:
            continue
        worst = max((bounce_rate(evenings, client, number) for client in clients_of(evenings)), default=0.0)
        table.add_row(
            evening.day[5:],
            f"{sum(evening.assigned.values()):,}",
            f"{middle(evening):g}",
            f"{sum(evening.bounced.values()):,}",
            f"{sum(evening.complained.values()):,}",
            *(f"{evening.states[state]:,}" for state in seen),
            f"{worst:.1%}",
        )
    return table
