"""The HTML report of a study: both policies day by day, who was out, what was held back; one file, no network."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from html import escape
from pathlib import Path

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ops.what_if.findings import CANNOT_KNOW, Fidelity, Pause, Sums, fidelity, pauses, sums, total
from ops.what_if.policy_file import changed
from ops.what_if.study import Study, Word

THEN, OTHER = "#37474f", "#c62828"
BARS = {"mails": "#cfd8dc", "hard_bounces": "#cfd8dc", "complaints": "#ffe0b2"}
MOST_ROWS = 2_000


def write_report(path: Path, study: Study, name: str) -> None:
    """Write the report; the file stands alone."""
    both = [pauses(study, column) for _, column in study.columns]
    plots = _figure(study, both).to_html(full_html=False, include_plotlyjs=True, config={"responsive": True})
    page = PAGE.format(
        title=escape(f"What if: {name}, {study.begin:%Y-%m-%d} to {study.until:%Y-%m-%d %H:%M} UTC"),
        trust=escape(_trust(fidelity(study))),
        knows="".join(f"<li>{escape(sentence)}</li>" for sentence in CANNOT_KNOW),
        policies=_table((client, "; ".join(_changes(study, client))) for client in study.policies),
        clients=_table([*_rows(sums(study, "client")), *_rows({"all": total(study)})]),
        plots=plots,
        pauses=_table(_pauses(both)),
        mailboxes=_table(_rows({k: one for k, one in sums(study, "mailbox").items() if one.what_if["mails"]})),
    )
    path.write_text(page, "utf-8")


def _trust(found: Fidelity) -> str:
    return (
        f"Fidelity: the policies of then, run through the same machine, decide {found.decisions:.1%} as the journal "
        f"has it and let {found.sends:.1%} of its {found.mails:,} mails go. Where this is low, do not believe the rest."
    )


def _changes(study: Study, client: str) -> list[str]:
    then = study.policies[client]  # type: ignore[index]  # a client of the study
    return changed(then, study.other.of(client)) or ["the same policy as then"]  # type: ignore[arg-type]


def _rows(found: dict[str, Sums]) -> list[tuple[str, ...]]:
    words: tuple[Word, ...] = ("mails", "accepted", "hard_bounces", "complaints", "blocks", "deferrals")
    return [
        (name, *(f"{one.recorded[w]:,} − {one.then[w]:,} / {one.what_if[w]:,}" for w in words))
        for name, one in list(found.items())[:MOST_ROWS]
    ]


def _pauses(both: list[list[Pause]]) -> list[tuple[str, ...]]:
    rows = [(pause, word) for word, found in zip(("then", "other"), both, strict=True) for pause in found]
    rows.sort(key=lambda row: (row[0].who, row[0].since, row[1] == "other"))
    return [
        (
            f"{pause.scope} {pause.name or pause.client}",
            pause.client,
            "policy of then" if word == "then" else "other policy",
            f"{pause.since:%Y-%m-%d %H:%M}",
            f"{pause.until:%Y-%m-%d %H:%M}" if pause.until else "the end",
            pause.evidence,
        )
        for pause, word in rows[:MOST_ROWS]
    ]


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    return "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)


# ── the plots ────────────────────────────────────────────────────────────────────────────────────


def _figure(study: Study, both: list[list[Pause]]) -> go.Figure:
    titles = ("Mails a day", "Hard bounces and complaints of the day's mails", "Mailboxes out of rotation on the day")
    figure = make_subplots(rows=3, cols=1, subplot_titles=titles, vertical_spacing=0.08)
    days = sums(study, "day")
    _kept(figure, days, "mails", 1, "mails")
    _kept(figure, days, "hard_bounces", 2, "hard bounces")
    _kept(figure, days, "complaints", 2, "complaints")
    for found, name, colour in zip(both, ("policy of then", "other policy"), (THEN, OTHER), strict=True):
        counts = _out_by_day(found, list(days), study.until)
        figure.add_scatter(x=list(days), y=counts, name=f"out, {name}", line={"color": colour}, row=3, col=1)
    figure.update_yaxes(rangemode="tozero")
    figure.update_layout(height=1100, barmode="overlay", template="plotly_white", margin={"l": 50, "r": 20, "t": 40})
    return figure


def _kept(figure: go.Figure, days: dict[str, Sums], word: Word, row: int, name: str) -> None:
    """The recorded number as a bar, what each policy lets go as a line."""
    recorded = [one.recorded[word] for one in days.values()]
    figure.add_bar(x=list(days), y=recorded, name=f"{name}, recorded", marker={"color": BARS[word]}, row=row, col=1)
    then = [one.recorded[word] - one.then[word] for one in days.values()]
    other = [one.recorded[word] - one.what_if[word] for one in days.values()]
    dash = "dot" if word == "complaints" else "solid"
    for values, policy, colour in ((then, "policy of then", THEN), (other, "other policy", OTHER)):
        line = {"color": colour, "dash": dash}
        figure.add_scatter(x=list(days), y=values, name=f"{name}, {policy}", line=line, row=row, col=1)


def _out_by_day(found: Iterable[Pause], days: list[str], until: datetime) -> list[int]:
    out: Counter[str] = Counter()
    boxes = {(pause.name, day) for pause in found if pause.scope == "mailbox" for day in _days(pause, until)}
    out.update(day for _, day in boxes)
    return [out[day] for day in days]


def _days(pause: Pause, until: datetime) -> list[str]:
    last = min(pause.until or until, until).date()
    first = pause.since.date()
    return [(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 75rem; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; width: 100% }}
td, th {{ border-top: 1px solid #ddd; padding: .3rem .5rem; vertical-align: top; text-align: left }}
div {{ overflow-x: auto }}
</style></head><body>
<h1>{title}</h1>
<p><strong>{trust}</strong></p>
<ul>{knows}</ul>
<h2>What differs</h2>
<table>{policies}</table>
<h2>Clients: recorded − held back with the policy of then / with the other policy</h2>
<div><table><tr><th>client<th>mails<th>accepted<th>hard bounces<th>complaints<th>blocks<th>deferrals</tr>{clients}
</table></div>
{plots}
<h2>Out of rotation (times UTC)</h2>
<div><table><tr><th>who<th>client<th>under<th>from<th>until<th>why</tr>{pauses}</table></div>
<h2>Mailboxes that would have sent less</h2>
<div><table><tr><th>mailbox<th>mails<th>accepted<th>hard bounces<th>complaints<th>blocks<th>deferrals</tr>{mailboxes}
</table></div>
</body></html>
"""
