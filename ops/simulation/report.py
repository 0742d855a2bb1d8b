"""The HTML report of a simulation: volume, warm-up, states and bounce rates, in one file that needs no network."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from statistics import median

import plotly.graph_objects as go

from ops.sentences import sentence
from ops.simulation.engine import Simulation
from ops.simulation.tally import STATES, Evening, Tally
from schemas.fleet import ReceiverThrottled, RouteRecovered, RouteTripped
from schemas.health import (
    GateClosed,
    GateOpened,
    HealthChanged,
    ListChanged,
    ReserveChanged,
    RestBegan,
    WarmUpStepped,
)
from schemas.ids import ClientId
from schemas.policy import Health
from schemas.registry import Fact

COLOURS = {
    "active": "#2e7d32",
    "watched": "#f9a825",
    "probation": "#0277bd",
    "unhealthy": "#c62828",
    "resting": "#90a4ae",
    "reserve": "#6a1b9a",
}
TOLD = (
    HealthChanged,
    ListChanged,
    GateClosed,
    GateOpened,
    ReserveChanged,
    RestBegan,
    RouteTripped,
    RouteRecovered,
    ReceiverThrottled,
)
"""An alert says what one of these said already."""
WINDOW = 7
MOST_SENTENCES = 400


def write_report(path: Path, simulation: Simulation, tally: Tally, title: str) -> None:
    """Write the report; the file stands alone."""
    told = [(at, fact) for at, fact in simulation.decided if is_told(fact)]
    count, told = len(told), told[-MOST_SENTENCES:][::-1]
    rows = "".join(f"<tr><td>{at:%Y-%m-%d %H:%M}</td><td>{escape(sentence(fact))}</td></tr>" for at, fact in told)
    page = PAGE.format(title=escape(title), plots=_plots(tally.evenings), rows=rows, count=count, shown=len(told))
    path.write_text(page, "utf-8")


def is_told(fact: Fact) -> bool:
    """Whether the table of decisions has it: what changes who sends. A warm-up's steps up and a mailbox's weekly rest
    are in the plots alone."""
    if isinstance(fact, WarmUpStepped):
        return fact.was > fact.now
    if isinstance(fact, RestBegan):
        return fact.scope == "domain"
    return isinstance(fact, TOLD)


def _plots(evenings: Sequence[Evening]) -> str:
    """Return the four plots under their headings, the first with the library in it."""
    found: list[str] = []
    for title, draw in (
        ("Mails a day, and what the mailboxes may send", _volume),
        ("Warm-up: cap of a mailbox (median, 10 and 90 %)", _caps),
        ("Mailboxes by state", _states),
        (f"Hard bounces of {WINDOW} days against the thresholds, in %", _bounces),
    ):
        figure = go.Figure()
        draw(figure, [evening.day for evening in evenings], evenings)
        figure.update_yaxes(rangemode="tozero")
        figure.update_layout(
            height=360,
            barmode="stack",
            template="plotly_white",
            margin={"l": 50, "r": 20, "t": 10, "b": 10},
            legend={"orientation": "h", "y": -0.15},
            showlegend=True,
        )
        config = {"responsive": True, "displayModeBar": False}
        plot = figure.to_html(full_html=False, include_plotlyjs=not found, config=config)
        found.append(f"<h2>{escape(title)}</h2>{plot}")
    return "".join(found)


def _caps(figure: go.Figure, days: list[str], evenings: Sequence[Evening]) -> None:
    for share, name in ((0.9, "90 %"), (0.5, "median"), (0.1, "10 %")):
        caps = [e.caps[int(share * (len(e.caps) - 1))] if e.caps else 0 for e in evenings]
        figure.add_scatter(x=days, y=caps, name=name)


def _states(figure: go.Figure, days: list[str], evenings: Sequence[Evening]) -> None:
    for state in STATES:
        counts = [evening.states[state] for evening in evenings]
        if any(counts):
            line = {"color": COLOURS[state], "width": 0}
            figure.add_scatter(x=days, y=counts, name=state, stackgroup="states", line=line)


def clients_of(evenings: Sequence[Evening]) -> list[ClientId]:
    """The clients that sent anything, in order."""
    return sorted({client for evening in evenings for client in evening.assigned})


def _volume(figure: go.Figure, days: list[str], evenings: Sequence[Evening]) -> None:
    for client in clients_of(evenings):
        figure.add_bar(x=days, y=[e.assigned[client] for e in evenings], name=client)
    figure.add_scatter(x=days, y=[sum(e.caps) for e in evenings], name="what all caps allow")


def _bounces(figure: go.Figure, days: list[str], evenings: Sequence[Evening]) -> None:
    for client in clients_of(evenings):
        rates = [100 * bounce_rate(evenings, client, n) for n in range(len(evenings))]
        figure.add_scatter(x=days, y=rates, name=client)
    health = Health()
    for limit, word in ((health.bounce_rate_watch, "watched"), (health.bounce_rate_domain, "out")):
        figure.add_hline(y=100 * limit, line_dash="dot", annotation_text=word)


def bounce_rate(evenings: Sequence[Evening], client: ClientId, last: int) -> float:
    """Hard bounces of the client's mail in the days up to `last`, as a share of 1."""
    recent = evenings[max(0, last - WINDOW + 1) : last + 1]
    sent = sum(e.assigned[client] for e in recent)
    return sum(e.bounced[client] for e in recent) / sent if sent else 0.0


def middle(evening: Evening) -> float:
    """The median cap."""
    return median(evening.caps) if evening.caps else 0


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 70rem; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; width: 100% }}
td {{ border-top: 1px solid #ddd; padding: .3rem .5rem; vertical-align: top }}
td:first-child {{ white-space: nowrap; color: #555 }}
</style></head><body>
<h1>{title}</h1>
<p>The same rules that lead the fleet, on a simulated clock against a modelled mail world. A model shows the rules at
work; it foretells nothing.</p>
{plots}
<h2>What was decided</h2>
<p>{count} decisions changed who sends; the newest {shown}, newest first.</p>
<table>{rows}</table>
</body></html>
"""
