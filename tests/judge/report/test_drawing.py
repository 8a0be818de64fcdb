"""The strokes of charts: what comes from files is text, numbers find their pixels."""

from __future__ import annotations

import math
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.report.charts import (
    Point,
    Row,
    Series,
    forest,
    grid,
    histogram,
    lines,
    reliability,
    stacked,
)
from judge.report.drawing import Scale, number, plain, safe, scale_over, tag

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a\x00b\x1b[31mc\ud83d\u202ed",
    "x" * 100_000,
    "",
    "&amp; ' \" <",
]
NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


@given(st.text() | st.sampled_from(HOSTILE))
def test_text_is_text(words: str) -> None:
    shown = safe(words)
    assert not set(shown) & set("<>\"'\n\x00\x1b\u202e")
    assert len(plain(words)) <= 200
    element = ElementTree.fromstring(tag("text", safe(words) or " ", title=words))
    assert element.text is not None


def test_lines_stay_words_apart() -> None:
    assert plain("one\ntwo\tthree\r\nfour") == "one two three four"
    assert plain("a\u2066b\u2069") == "ab"
    assert plain("x" * 300) == "x" * 199 + "…"


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(1, 10))
def test_ticks_are_round_and_within(low: float, span: float, about: int) -> None:
    scale = Scale(low, low + span, 0, 100)
    if span < 1e-9 * abs(low):
        return  # numbers that large are further apart than the ticks
    ticks = scale.ticks(about)
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in ticks)
    assert len(ticks) <= 2 * about + 2
    assert ticks == sorted(ticks)


@given(st.lists(NUMBERS, max_size=5), NUMBERS)
def test_every_number_has_a_pixel_on_the_chart(values: list[float], value: float) -> None:
    known = [v for v in values if not math.isfinite(v) or abs(v) < 1e300]
    scale = scale_over(known, 10, 90)
    if math.isfinite(value):
        assert 10 <= scale(value) <= 90


def test_numbers_are_written_for_people() -> None:
    assert number(math.nan) == "–"
    assert number(-0.12345, 3) == "\u22120.123"
    assert number(0.5, 1, sign=True) == "+0.5"


ROW = st.builds(Row, st.sampled_from(HOSTILE), NUMBERS, NUMBERS, NUMBERS, st.just("best"))
BOUNDED = st.floats(0, 1)


@given(st.lists(ROW, max_size=6), st.booleans())
def test_a_forest_is_drawn_of_anything(rows: list[Row], referred: bool) -> None:
    chart = forest("t", "s", rows, "axis", reference=(0.0, HOSTILE[0]) if referred else None)
    _sound(chart.svg)
    assert len(chart.table.rows) == len(rows)


@given(
    st.lists(st.builds(Point, BOUNDED, BOUNDED, BOUNDED, BOUNDED, st.integers(1, 9)), max_size=9)
)
def test_a_reliability_diagram_is_drawn_of_anything(points: list[Point]) -> None:
    chart = reliability("t", "s", [(name, points) for name in ("verdict", "A", "B", "tie")])
    _sound(chart.svg)
    assert len(chart.table.rows) == 4 * len(points)


@pytest.mark.parametrize("size", [1, 3, 9, 40])
def test_a_grid_of_any_size(size: int) -> None:
    names = [f"{HOSTILE[n % 2]} {n}" for n in range(size)]
    values = [[math.nan if r == c else r / size for c in range(size)] for r in range(size)]
    chart = grid("t", "s", names, names, values, corner="won by")
    _sound(chart.svg)
    assert len(chart.table.rows) == size
    assert all(len(row) == size + 1 for row in chart.table.rows)


def test_the_other_charts() -> None:
    _sound(stacked("t", "s", [(HOSTILE[1], [0.2, math.nan, 0.8])], ["A", "B", "tie"]).svg)
    _sound(histogram("t", "s", [0, 0.5, 1], [0, 0], "axis").svg)
    series = [Series(HOSTILE[0], ((0, 1, math.nan, math.nan), (1, 2, 1.5, 2.5)))]
    _sound(lines("t", "s", series, "x", "y", level=0.0).svg)
    _sound(lines("t", "s", [Series("none", ())], "x", "y").svg)


def _sound(svg: str) -> None:
    """XML without a script in it, and numbers only where numbers belong."""
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        assert element.tag in {"svg", "g", "text", "line", "rect", "circle", "path"}
        assert not any(name.startswith("on") or "href" in name for name in element.attrib)
        for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "width", "height"):
            assert math.isfinite(float(element.get(name, "0")))
    assert "nan" not in svg.replace("NaN", "nan").split("<text")[0]
    HTMLParser().feed(svg)
