"""Plots: heights are to scale, figures can be read, odd numbers break nothing."""

import re
from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from ops.page.plots import BOTTOM, HEIGHT, TOP, WIDTH, bars, days_until

DAYS = days_until(date(2026, 11, 25), 7)


def rects(svg: str) -> list[dict[str, float]]:
    """The drawn parts of bars, without the areas that only take a touch."""
    found = []
    for rect in re.findall(r"<rect [^>]*c\d[^>]*>", svg):
        found.append({key: float(value) for key, value in re.findall(r'(x|y|width|height)="([\d.]+)"', rect)})
    return found


def test_parts_of_a_bar_stand_on_each_other_to_scale() -> None:
    svg = bars("Mails", DAYS, {"good": [0, 0, 0, 30, 0, 0, 0], "bad": [0, 0, 0, 10, 0, 0, 0]})
    low, high = rects(svg)
    whole = HEIGHT - TOP - BOTTOM
    assert abs(low["height"] - whole * 0.75) < 0.2  # the scale ends at 40
    assert abs(high["height"] - whole * 0.25) < 0.2
    assert abs(high["y"] + high["height"] - low["y"]) < 0.2
    assert "22 November: good 30, bad 10" in svg


def test_days_without_anything_say_so_instead_of_an_empty_grid() -> None:
    assert "nothing in these days" in bars("Mails", DAYS, {"good": [0] * 7})
    assert "<svg" not in bars("Mails", DAYS, {"good": [0] * 7})


@given(
    st.lists(st.lists(st.floats(0, 1e9), min_size=7, max_size=7), min_size=1, max_size=3), st.sampled_from(["", " %"])
)
def test_no_bar_leaves_the_picture(series: list[list[float]], unit: str) -> None:
    for part in rects(bars("x", DAYS, {str(n): values for n, values in enumerate(series)}, unit)):
        assert 0 <= part["x"] <= part["x"] + part["width"] <= WIDTH
        assert TOP - 0.1 <= part["y"] <= part["y"] + part["height"] <= HEIGHT - BOTTOM + 0.2
