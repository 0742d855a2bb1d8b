"""The HTML report of a simulation: volume, warm-up, states and bounce rates, in one file that needs no network."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from statistics import median

import plotly.graph_objects as go
from plotly.subplots import make_subplots

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
    figure = _figure(tally.evenings)
    plots = figure.to_html(full_html=False, include_plotlyjs=True, config={"responsive": True})
    told = [(at, fact) for at, fact in simulation.decided if is_told(fact)]
    count, told = len(told), told[-MOST_SENTENCES:][::-1]
    rows = "".join(f"<tr><td>{at:%Y-%m-%d %H:%M}</td><td>{escape(sentence(fact))}</td></tr>" for at, fact in told)
    path.write_text(PAGE.format(title=escape(title), plots=plots, rows=rows, count=count), "utf-8")


def is_told(fact: Fact) -> bool:
    """Whether the table of decisions has it: what changes who sends; a warm-up's steps up are in the plot."""
    if isinstance(fact, WarmUpStepped):
        return fact.was > fact.now
    return isinstance(fact, TOLD)


def _figure(evenings: Sequence[Evening]) -> go.Figure:
    titles = (
        "Mails a day, and what the mailboxes may send",
        "Warm-up: cap of a mailbox (median, 10 and 90 %)",
        "Mailboxes by state",
        f"Hard bounces of {WINDOW} days against the thresholds",
    )
    figure = make_subplots(rows=4, cols=1, subplot_titles=titles, vertical_spacing=0.07)
    days = [evening.day for evening in evenings]
    _volume(figure, days, evenings)
    for share, name in ((0.9, "90 %"), (0.5, "median"), (0.1, "10 %")):
        caps = [e.caps[int(share * (len(e.caps) - 1))] if e.caps else 0 for e in evenings]
        figure.add_scatter(x=days, y=caps, name=f"cap {name}", row=2, col=1)
    for state in STATES:
        counts = [evening.states[state] for evening in evenings]
        if any(counts):
            line = {"color": COLOURS[state], "width": 0}
            figure.add_scatter(x=days, y=counts, name=state, stackgroup="states", line=line, row=3, col=1)
    _bounces(figure, days, evenings)
    figure.update_yaxes(rangemode="tozero")
    figure.update_layout(height=1500, barmode="stack", template="plotly_white", margin={"l": 50, "r": 20, "t": 40})
    return figure


def clients_of(evenings: Sequence[Evening]) -> list[ClientId]:
    """The clients that sent anything, in order."""
    return sorted({client for evening in evenings for client in evening.assigned})


def _volume(figure: go.Figure, days: list[str], evenings: Sequence[Evening]) -> None:
    for client in clients_of(evenings):
        figure.add_bar(x=days, y=[e.assigned[client] for e in evenings], name=client, row=1, col=1)
    figure.add_scatter(x=days, y=[sum(e.caps) for e in evenings], name="caps together", row=1, col=1)


def _bounces(figure: go.Figure, days: list[str], evenings: Sequence[Evening]) -> None:
    for client in clients_of(evenings):
        rates = [100 * bounce_rate(evenings, client, n) for n in range(len(evenings))]
        figure.add_scatter(x=days, y=rates, name=f"{client} bounces %", row=4, col=1)
    health = Health()
    for limit, word in ((health.bounce_rate_watch, "watched"), (health.bounce_rate_domain, "out")):
        figure.add_hline(y=100 * limit, line_dash="dot", annotation_text=word, row=4, col=1)


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
<h2>What was decided ({count}; the newest first)</h2>
<table>{rows}</table>
</body></html>
"""
