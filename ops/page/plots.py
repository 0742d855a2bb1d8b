"""Plots as SVG: stacked bars by day, with a grid, a legend and the figures of each day on its bar."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from ops.page.html import Html, tag

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 400, 170, 40, 18, 8


def days_until(last: date, count: int = 30) -> list[date]:
    """Return `count` days, the last one last."""
    return [last - timedelta(days=back) for back in reversed(range(count))]


def bars(title: str, days: Sequence[date], series: Mapping[str, Sequence[float]], unit: str = "") -> Html:
    """Return one bar a day, the series stacked on each other from below; each has the class c0, c1, ... in its turn."""
    most = max((sum(parts) for parts in zip(*series.values(), strict=True)), default=0)
    top = _round_up(most if unit else max(most, 2))
    drawn = tag(
        "svg", _grid(top, unit), _dates(days), (_bar(n, days, series, top, unit) for n in range(len(days))),
        viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title,
    )  # fmt: skip
    keys = (tag("li", name, class_=f"c{n}") for n, name in enumerate(series))
    empty = tag("p", "nothing in these days", class_="none") if not any(map(any, series.values())) else ""
    return tag("figure", tag("figcaption", title), empty or (drawn, tag("ul", keys, class_="legend")))


def _round_up(most: float) -> float:
    """Return the next of these steps times a power of ten: the top of the scale."""
    power = 10.0 ** (len(str(int(most))) - 1) if most >= 1 else 0.1 if most >= 0.1 else 0.01
    return next(step * power for step in (1, 1.5, 2, 3, 4, 6, 8, 10) if step * power >= most)


def _y(value: float, top: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top)


def _grid(top: float, unit: str) -> list[Html]:
    drawn = []
    for step in (0, top / 2, top):
        y = f"{_y(step, top):.1f}"
        label = f"{step:,.4g}{unit}" if step < 10_000 else f"{step / 1000:,.4g}k{unit}"
        drawn.append(tag("line", x1=LEFT, x2=WIDTH, y1=y, y2=y, class_="grid"))
        drawn.append(tag("text", label, x=LEFT - 4, y=y, dy="0.35em", class_="up"))
    return drawn


def _dates(days: Sequence[date]) -> list[Html]:
    wide = (WIDTH - LEFT) / len(days)
    shown = range(len(days) - 1, -1, -7)
    return [
        tag("text", f"{days[n]:%d %b}", x=f"{LEFT + wide * (n + 0.5):.1f}", y=HEIGHT - 4, class_=_anchor(n, days))
        for n in shown
    ]


def _anchor(n: int, days: Sequence[date]) -> str:
    return "last" if n == len(days) - 1 else "along"


def _bar(n: int, days: Sequence[date], series: Mapping[str, Sequence[float]], top: float, unit: str) -> Html:
    wide = (WIDTH - LEFT) / len(days)
    x, stacked, drawn = f"{LEFT + wide * n + 0.75:.1f}", 0.0, []
    for number, values in enumerate(series.values()):
        high, low = _y(stacked + values[n], top), _y(stacked, top)
        if values[n]:
            drawn.append(tag("rect", x=x, y=f"{high:.1f}", width=f"{wide - 1.5:.1f}", height=f"{low - high:.1f}",
                             class_=f"c{number}"))  # fmt: skip
        stacked += values[n]
    told = ", ".join(f"{name} {values[n]:,.4g}{unit}" for name, values in series.items())
    whole = tag("rect", x=x, y=TOP, width=f"{wide - 1.5:.1f}", height=HEIGHT - TOP - BOTTOM, class_="touch")
    return tag("g", tag("title", f"{days[n]:%d %B}: {told}"), drawn, whole)
