"""Charts: each a picture with a title, a sentence that says what it shows, and its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from judge.report.drawing import (
    Scale,
    box,
    dot,
    line,
    number,
    path,
    scale_over,
    tag,
    text,
    tick_label,
)

WIDTH = 720.0
_ROW = 26.0
_LABELS = 210.0
_MARGIN = 14.0
_AXIS = 40.0
_FIRM = 0.01


@dataclass(frozen=True)
class Table:
    """The numbers behind a chart, as they are read out.

    Attributes:
        header: names of the columns; the first one names the rows.
        rows: cells as they are shown.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Chart:
    """A picture and what is needed to do without it.

    Attributes:
        title: what is shown.
        summary: what is to be seen, in a sentence.
        svg: the picture; its text is escaped. Empty where a table says it all.
        table: its numbers.
    """

    title: str
    summary: str
    svg: str
    table: Table


@dataclass(frozen=True)
class Row:
    """A value with its interval.

    Attributes:
        name: what it is of.
        value, low, high: NaN where not known.
        kind: how it is drawn: "", "best" or "quiet"; "head" stands over the rows that follow.
    """

    name: str
    value: float
    low: float
    high: float
    kind: str = ""


def _svg(height: float, inner: str, width: float = WIDTH) -> str:
    """A picture as wide as its place; it is described by the chart that it is part of."""
    return tag("svg", inner, viewBox=f"0 0 {width:.0f} {height:.0f}", aria_hidden="true")


def _x_axis(scale: Scale, top: float, bottom: float, title: str) -> str:
    marks = [
        line(scale(value), top, scale(value), bottom, "grid")
        + text(scale(value), bottom + 16, tick_label(value), "tick", "middle")
        for value in scale.ticks(6)
    ]
    middle = (scale.start + scale.stop) / 2
    return "".join(marks) + text(middle, bottom + 33, title, "axis", "middle")


def forest(
    title: str,
    summary: str,
    rows: Sequence[Row],
    axis: str,
    *,
    reference: tuple[float, str] | None = None,
    digits: int = 4,
    sign: bool = False,
) -> Chart:
    """Values with their intervals, one below the other.

    Args:
        title, summary: see `Chart`.
        rows: from top to bottom.
        axis: what is measured, and in what.
        reference: a value that the others are read against, and its name.
        digits, sign: of the numbers in the table.
    """
    keep = () if reference is None else (reference[0],)
    values = [v for row in rows for v in (row.value, row.low, row.high)]
    scale = scale_over(values, _LABELS, WIDTH - 92, keep=keep)
    top = 24.0 if reference else 8.0
    bottom = top + _ROW * len(rows)
    parts = [_x_axis(scale, top, bottom, axis)]
    if reference:
        at = scale(reference[0])
        parts += [line(at, top, at, bottom, "reference")]
        parts += [text(at, top - 8, reference[1], "tick", "middle")]
    for place, row in enumerate(rows):
        y = top + _ROW * (place + 0.5)
        if row.kind == "head":
            parts.append(text(0, y + 4, row.name, "label best"))
            continue
        parts.append(text(_LABELS - 12, y + 4, _fitted(row.name), f"label {row.kind}", "end"))
        if not math.isfinite(row.value):
            parts.append(text(_LABELS, y + 4, "not known", "tick"))
            continue
        if math.isfinite(row.low) and math.isfinite(row.high):
            parts.append(line(scale(row.low), y, scale(row.high), y, f"whisker {row.kind}"))
        parts.append(dot(scale(row.value), y, 4.5, f"point {row.kind}"))
        shown = number(row.value, digits, sign=sign)
        parts.append(text(WIDTH - 84, y + 4, shown, "value"))
    cells = tuple(
        (row.name, *(number(v, digits, sign=sign) for v in (row.value, row.low, row.high)))
        for row in rows
    )
    table = Table(("", axis, "95 % from", "to"), cells)
    return Chart(title, summary, _svg(bottom + _AXIS, "".join(parts)), table)


def _fitted(name: str, longest: int = 27) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"


@dataclass(frozen=True)
class Point:
    """What was said and what was so, of some battles.

    Attributes:
        said, was: mean probability and frequency.
        low, high: 95 % interval of the frequency.
        battles: how many.
    """

    said: float
    was: float
    low: float
    high: float
    battles: int


def reliability(title: str, summary: str, curves: Sequence[tuple[str, Sequence[Point]]]) -> Chart:
    """Small diagrams beside one another, each with the diagonal on which a judge keeps its word.

    Args:
        title, summary: see `Chart`.
        curves: what each is of (a name that is also the class of its colour), and its points.
    """
    size, gap = 150.0, 30.0
    columns = 4
    parts, cells = [], []
    most = max((p.battles for _, points in curves for p in points), default=1)
    for place, (name, points) in enumerate(curves):
        left = 34.0 + (place % columns) * (size + gap)
        top = 24.0 + (place // columns) * (size + 54)
        across, up = Scale(0, 1, left, left + size), Scale(0, 1, top + size, top)
        colour = f"of-{name.lower()}"
        parts.append(text(left + size / 2, top - 8, name, "label", "middle"))
        parts.append(box(left, top, size, size, "frame"))
        for value in (0.0, 0.5, 1.0):
            parts.append(text(across(value), top + size + 14, tick_label(value), "tick", "middle"))
            if place % columns == 0:
                parts.append(text(left - 6, up(value) + 4, tick_label(value), "tick", "end"))
        parts.append(line(across(0), up(0), across(1), up(1), "reference"))
        # A handful of battles come true or they don't; a line through them would be noise.
        total = sum(p.battles for p in points)
        firm = [p for p in points if p.battles >= max(5, _FIRM * total)]
        band = [(across(p.said), up(p.high)) for p in firm]
        band += [(across(p.said), up(p.low)) for p in reversed(firm)]
        if len(firm) > 1:
            parts.append(path(band, f"band {colour}", closed=True))
            parts.append(path([(across(p.said), up(p.was)) for p in firm], f"curve {colour}"))
        for p in points:
            radius = 1.5 + 3.5 * math.sqrt(p.battles / most)
            parts.append(dot(across(p.said), up(p.was), radius, f"point {colour}"))
            cells.append(
                (name, *(number(v, 3) for v in (p.said, p.was, p.low, p.high)), f"{p.battles:,}")
            )
    rows = (len(curves) + columns - 1) // columns
    header = ("of", "probability said", "frequency", "95 % from", "to", "battles")
    svg = _svg(24 + rows * (size + 54), "".join(parts), 40 + columns * (size + gap))
    return Chart(title, summary, svg, Table(header, tuple(cells)))


def stacked(
    title: str,
    summary: str,
    rows: Sequence[tuple[str, Sequence[float]]],
    names: Sequence[str],
) -> Chart:
    """Shares of a whole, a bar a row.

    Args:
        title, summary: see `Chart`.
        rows: a name, and its shares in the order of `names`; they sum to 1.
        names: what the shares are of, each also the class of its colour.
    """
    scale = Scale(0, 1, _LABELS, WIDTH - _MARGIN)
    parts = [
        box(_LABELS + 84 * k, 2, 12, 12, f"of-{name.lower()}")
        + text(_LABELS + 84 * k + 18, 12, name, "tick")
        for k, name in enumerate(names)
    ]
    top = 24.0
    for place, (name, shares) in enumerate(rows):
        y = top + _ROW * place
        parts.append(text(_LABELS - 12, y + 17, _fitted(name), "label", "end"))
        begin = 0.0
        for kind, share in zip(names, shares, strict=True):
            if not math.isfinite(share):
                continue
            x, width = scale(begin), scale(begin + share) - scale(begin)
            parts.append(box(x, y + 3, width, _ROW - 6, f"of-{kind.lower()}"))
            if share >= 0.07:
                parts.append(text(x + width / 2, y + 17, f"{share:.0%}", "inside", "middle"))
            begin += share
    cells = tuple((name, *(number(100 * s, 1) + " %" for s in shares)) for name, shares in rows)
    svg = _svg(top + _ROW * len(rows) + 6, "".join(parts))
    return Chart(title, summary, svg, Table(("", *names), cells))


def grid(
    title: str,
    summary: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float]],
    *,
    corner: str = "",
    percent: bool = True,
) -> Chart:
    """Shares from 0 to 1 in rows and columns, the darker the more.

    Args:
        title, summary: see `Chart`.
        rows, columns: their names.
        values: (rows, columns); NaN cells are empty.
        corner: what rows and columns are.
        percent: shown as percentages.
    """
    few = len(columns) <= 8
    left = _LABELS if few else 150.0
    width = min(120.0, (WIDTH - left - _MARGIN) / max(1, len(columns)))
    height = 38.0 if few else max(14.0, min(26.0, width))
    top = 30.0 if few else 24.0
    parts = [text(left - 12, top - 10, corner, "tick", "end")]
    for k, name in enumerate(columns):
        # Numbers of two digits want room of their own.
        every = 5 if width < 20 else 1
        numbered = str(k + 1) if k == 0 or (k + 1) % every == 0 else ""
        label = _fitted(name, 16) if few else numbered
        parts.append(text(left + width * (k + 0.5), top - 10, label, "tick", "middle"))
    for n, name in enumerate(rows):
        y = top + height * n
        label = _fitted(name) if few else f"{_fitted(name, 18)} {n + 1}"
        kind = "label" if few else "tick"
        parts.append(text(left - 12, y + height / 2 + 4, label, kind, "end"))
        for k, value in enumerate(values[n]):
            if not math.isfinite(value):
                continue
            x = left + width * k
            depth = f"{min(1.0, max(0.0, value)):.2f}"
            parts.append(
                box(x + 1, y + 1, width - 2, height - 2, "cell", style=f"fill-opacity:{depth}")
            )
            if few or width >= 26:
                shown = f"{value:.0%}" if percent else number(value, 2)
                kind = "over" if value > 0.75 else "value"
                words = shown if few else shown.removesuffix("%")
                parts.append(text(x + width / 2, y + height / 2 + 4, words, kind, "middle"))
    cells = tuple(
        (name, *((number(100 * v, 1) + " %") if percent else number(v, 3) for v in row))
        for name, row in zip(rows, values, strict=True)
    )
    svg = _svg(top + height * len(rows) + 6, "".join(parts))
    return Chart(title, summary, svg, Table((corner, *columns), cells))


def histogram(
    title: str, summary: str, edges: Sequence[float], counts: Sequence[int], axis: str
) -> Chart:
    """How many battles there are at which values.

    Args:
        title, summary: see `Chart`.
        edges: of the bins, one more than there are counts.
        counts: battles in each.
        axis: what the values are.
    """
    bottom, most = 170.0, max([*counts, 1])
    across = Scale(edges[0], edges[-1], 60, WIDTH - _MARGIN)
    up = Scale(0, most, bottom, 10)
    parts = [_x_axis(across, 10, bottom, axis)]
    parts += [text(52, up(v) + 4, f"{v:,.0f}", "tick", "end") for v in up.ticks(3)]
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        x = across(low)
        parts.append(box(x + 0.5, up(count), across(high) - x - 1, bottom - up(count), "bar"))
    cells = tuple(
        (f"{number(low, 2)} to {number(high, 2)}", f"{count:,}")
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    )
    return Chart(
        title, summary, _svg(bottom + _AXIS, "".join(parts)), Table((axis, "battles"), cells)
    )


@dataclass(frozen=True)
class Series:
    """A line with its band.

    Attributes:
        name: what it is; also the class of its colour.
        points: x, y, and the ends of the interval there; NaN for none.
    """

    name: str
    points: tuple[tuple[float, float, float, float], ...]


def lines(
    title: str,
    summary: str,
    series: Sequence[Series],
    across: str,
    up: str,
    *,
    level: float | None = None,
    digits: int = 3,
) -> Chart:
    """Lines over a common axis.

    Args:
        title, summary: see `Chart`.
        series: the lines.
        across, up: what the axes are.
        level: a height that the others are read against.
        digits: of the numbers in the table.
    """
    top, bottom = 52.0, 250.0
    flat = [p for one in series for p in one.points]
    x = scale_over((p[0] for p in flat), 70, WIDTH - _MARGIN)
    keep = () if level is None else (level,)
    y = scale_over((v for p in flat for v in p[1:]), bottom, top, keep=keep)
    parts = [_x_axis(x, top, bottom, across), text(8, top - 12, up, "axis")]
    for value in y.ticks(4):
        parts.append(line(70, y(value), WIDTH - _MARGIN, y(value), "grid"))
        parts.append(text(62, y(value) + 4, tick_label(value), "tick", "end"))
    if level is not None:
        parts.append(line(70, y(level), WIDTH - _MARGIN, y(level), "reference"))
    for place, one in enumerate(series):
        colour = f"line-{place}"
        parts.append(box(70 + 170 * place, 4, 12, 12, f"key {colour}"))
        parts.append(text(88 + 170 * place, 14, _fitted(one.name, 22), "tick"))
        banded = [p for p in one.points if math.isfinite(p[2]) and math.isfinite(p[3])]
        if len(banded) > 1:
            outline = [(x(p[0]), y(p[3])) for p in banded]
            outline += [(x(p[0]), y(p[2])) for p in reversed(banded)]
            parts.append(path(outline, f"band {colour}", closed=True))
        if len(one.points) > 1:
            parts.append(path([(x(p[0]), y(p[1])) for p in one.points], f"curve {colour}"))
        parts += [dot(x(p[0]), y(p[1]), 3, f"point {colour}") for p in one.points]
    cells = tuple((one.name, *(number(v, digits) for v in p)) for one in series for p in one.points)
    table = Table(("", across, up, "95 % from", "to"), cells)
    return Chart(title, summary, _svg(bottom + _AXIS, "".join(parts)), table)
