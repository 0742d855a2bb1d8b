"""HTML as nested calls: whatever is not Html already is escaped, so no page can forget to."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any
from urllib.parse import urlencode

VOID = frozenset({"input", "link", "meta", "rect", "line"})
"""Elements that hold nothing. Those of SVG must be closed all the same, else what follows stands inside."""


class Html(str):
    """Markup that was made here; a plain str is text."""


EMPTY: tuple[object, ...] = (None, "", [])
Child = object
"""Html, an iterable of children, or what `text` can show."""


def text(value: object) -> Html:
    """Return a value as a person reads it: times in UTC to the minute, thousands apart, nothing for None."""
    if isinstance(value, Html):
        return value
    if value is None:
        return Html("")
    if isinstance(value, datetime):
        at = value.astimezone(UTC)
        return Html(f'<time datetime="{at.isoformat(timespec="seconds")}">{at:%Y-%m-%d %H:%M}</time>')
    if isinstance(value, bool):
        return Html("yes" if value else "no")
    if isinstance(value, float):
        return Html(f"{value:,.1f}" if value % 1 else f"{value:,.0f}")
    return Html(f"{value:,}") if isinstance(value, int) else Html(escape(_printable(str(value))))


def _printable(value: str) -> str:
    """Return it without what no HTML may hold: control characters and lone surrogates."""
    return "".join(c if c >= " " or c in "\n\t" else "\ufffd" for c in value).encode("utf-8", "replace").decode()


def tag(name: str, /, *children: Child, **attributes: object) -> Html:
    """Return an element. `class_` is class, `data_x` data-x; an attribute that is None or False is left out."""
    said = "".join(_attribute(key, value) for key, value in attributes.items() if value not in (None, False))
    return Html(f"<{name}{said} />" if name in VOID else f"<{name}{said}>{inside(children)}</{name}>")


def _attribute(key: str, value: object) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(_printable(str(value)))}"'


def inside(child: Child) -> Html:
    """Return children one after the other."""
    if isinstance(child, Iterable) and not isinstance(child, str):
        return Html("".join(inside(each) for each in child))
    return text(child)


def link(label: Child, path: str, **query: str) -> Html:
    """Return a link within the page."""
    return tag("a", label, href=address(path, **query))


def address(path: str, **query: str) -> str:
    """Return path and query, without what is empty."""
    said = {key: value.encode("utf-8", "replace") for key, value in query.items() if value}
    return f"{path}?{urlencode(said)}" if said else path


def section(title: str, *children: Child, note: str = "") -> Html:
    """Return a part of a page under a heading."""
    return tag("section", tag("h2", title), tag("p", note, class_="note") if note else "", children)


CARDS_FROM = 5
"""Columns from which on a phone shows each row by itself."""


def table(rows: Sequence[Mapping[str, Any]], none: str, cards: bool | None = None) -> Html:
    """Return rows as a table whose columns are the keys that hold anything; as `cards` a phone shows row by row."""
    columns = [key for key in rows[0] if any(row[key] not in EMPTY for row in rows)] if rows else []
    if not columns:
        return tag("p", none, class_="none")
    stacked = len(columns) >= CARDS_FROM if cards is None else cards
    head = tag("tr", (tag("th", key, class_=_side(rows[0][key]), scope="col") for key in columns))
    body = (tag("tr", (_cell(key, row[key]) for key in columns)) for row in rows)
    whole = tag("table", tag("thead", head), tag("tbody", body), class_="cards" if stacked else "plain")
    return tag("div", whole, class_="scroll")


def _cell(key: str, value: object) -> Html:
    return tag("td", value, class_=_side(value), data_label=key)


def downwards(row: Mapping[str, Any]) -> Html:
    """Return one row as a list of names and values, without what is empty."""
    told = ((tag("dt", key), tag("dd", value)) for key, value in row.items() if value not in EMPTY)
    return tag("dl", told)


def _side(value: object) -> str | None:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else None


def badge(word: str, kind: str = "") -> Html:
    """Return a word on its colour: good, watch, bad, test or, else, none."""
    return tag("span", word, class_=f"badge {kind}".strip())


STATES = {"active": "good", "watched": "watch", "unhealthy": "bad", "probation": "test"}
"""A sender's state → its colour."""


def state(word: str) -> Html:
    """Return a sender's state."""
    return badge(word, STATES.get(word, ""))


def gauge(used: int, most: int) -> Html:
    """Return how much of something is used, as figures and a bar."""
    share = min(100.0, 100 * used / most) if most else 0.0
    filled = tag("rect", width=f"{share:.1f}", height=8, class_="used")
    svg = tag("svg", tag("rect", width=100, height=8, class_="whole"), filled, class_="gauge", viewBox="0 0 100 8",
              preserveAspectRatio="none", role="img", aria_label=f"{share:.0f} %")  # fmt: skip
    return tag("span", tag("span", used, tag("small", " of ", most)), svg, class_="gauged")
