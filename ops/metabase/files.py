"""The dashboards as files say them: TOML in dashboards/, what may be filtered in filters.toml, keys in keys.toml."""

import re
import tomllib
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Literal, TypeVar

import msgspec

Shape = TypeVar("Shape")
GRID_COLUMNS = 24
_TAG = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_OPTIONAL = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
Display = Literal["scalar", "line", "bar", "area", "row", "pie", "table"]


class DashboardFileWrong(Exception):
    """A dashboard's file cannot be used; the text names the file and what is wrong with it."""


class Filter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A filter of dashboards. `values` is the SQL whose first column is offered; "" lets people type."""

    name: str
    type: Literal["text", "date"]
    values: str = ""


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A question and its place: `at` is column, row, width, height on the grid; `x` and `y` are columns of a chart."""

    name: str
    sentence: str
    display: Display
    at: tuple[int, int, int, int]
    sql: str
    x: tuple[str, ...] = ()
    y: tuple[str, ...] = ()
    stacked: bool = False

    @property
    def tags(self) -> tuple[str, ...]:
        """The filters that the SQL names, in their order."""
        return tuple(dict.fromkeys(_TAG.findall(self.sql)))


class Dashboard(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A dashboard with its filters."""

    name: str
    sentence: str
    filters: tuple[str, ...]
    cards: tuple[Card, ...]


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What Metabase cannot see of views: "view.column" → its semantic type, or the column that it points at."""

    types: dict[str, str]
    points_at: dict[str, str]


def _folder() -> Traversable:
    return files("ops.metabase")


def read_filters() -> dict[str, Filter]:
    """Return the filters by tag. Raises DashboardFileWrong."""
    return _read(_folder() / "filters.toml", dict[str, Filter])


def read_keys() -> Keys:
    """Return the keys. Raises DashboardFileWrong."""
    return _read(_folder() / "keys.toml", Keys)


def read_dashboards() -> list[Dashboard]:
    """Return every dashboard, by file name. Raises DashboardFileWrong."""
    found = sorted((f for f in (_folder() / "dashboards").iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    known = read_filters()
    dashboards = [_read(file, Dashboard) for file in found]
    for file, dashboard in zip(found, dashboards, strict=True):
        check(dashboard, known, file.name)
    return dashboards


def check(dashboard: Dashboard, known: dict[str, Filter], where: str) -> None:
    """Raise DashboardFileWrong unless filters are known and used, and cards stand on the grid beside one another."""
    taken: dict[tuple[int, int], str] = {}
    for card in dashboard.cards:
        if unknown := set(card.tags) - set(dashboard.filters):
            raise DashboardFileWrong(f"{where}, {card.name}: {sorted(unknown)} are no filters of the dashboard")
        left, top, width, height = card.at
        if min(left, top) < 0 or min(width, height) < 1 or left + width > GRID_COLUMNS:
            raise DashboardFileWrong(f"{where}, {card.name}: at = {card.at} is not on the {GRID_COLUMNS} columns")
        for place in ((x, y) for x in range(left, left + width) for y in range(top, top + height)):
            if place in taken:
                raise DashboardFileWrong(f"{where}: {card.name} lies over {taken[place]}")
            taken[place] = card.name
    used = {tag for card in dashboard.cards for tag in card.tags}
    if set(dashboard.filters) - used or set(dashboard.filters) - set(known):
        raise DashboardFileWrong(f"{where}: each filter must stand in filters.toml and in a card's SQL")


def fill_in(sql: str, values: dict[str, str]) -> str:
    """Return the SQL as Metabase fills it in: `[[...]]` falls away where one of its filters has no value.

    `values` are SQL literals by tag. Raises KeyError for a filter outside of brackets that has no value.
    """

    def optional(found: re.Match[str]) -> str:
        return found[1] if all(tag in values for tag in _TAG.findall(found[1])) else ""

    return _TAG.sub(lambda found: values[found[1]], _OPTIONAL.sub(optional, sql))


def _read(file: Traversable, shape: type[Shape]) -> Shape:
    try:
        return msgspec.convert(tomllib.loads(file.read_text("utf-8")), shape)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise DashboardFileWrong(f"{file.name}: {error}") from error
