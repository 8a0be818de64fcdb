"""The strokes that charts are made of: SVG elements as text, scales, ticks.

Whatever comes from a file (names of judges, models, categories) is escaped here and nowhere else.
Colours are classes that the page's style gives a colour to in light and in dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

# Characters that would turn text around, or that nothing can be drawn for.
_UNSAFE: dict[int, str | None] = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)))
_UNSAFE |= dict.fromkeys((0x200E, 0x200F, 0x061C))
_UNSAFE |= dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF))
_UNSAFE |= dict.fromkeys((*range(0xD800, 0xE000), 0xFFFE, 0xFFFF))
_UNSAFE |= dict.fromkeys(map(ord, "\t\n\v\f\r\x85"), " ")


def plain(text: object, longest: int = 200) -> str:
    """Text of one line without control characters, cut where it is too long."""
    line = " ".join(str(text)[: longest * 4].translate(_UNSAFE).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def safe(text: object, longest: int = 200) -> str:
    """`plain` text, escaped for HTML and for attributes."""
    return escape(plain(text, longest))


def tag(name: str, inner: str = "", **attributes: object) -> str:
    """An element. Attributes are escaped, `inner` is markup already. Underscores in names stand for
    hyphens, and one at the end for nothing."""
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{safe(_short(value), 4000)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{said}>{inner}</{name}>" if inner else f"<{name}{said}/>"


def _short(value: object) -> object:
    """Coordinates to a tenth of a pixel: a page of many marks stays small."""
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value


def text(x: float, y: float, words: object, kind: str = "", anchor: str = "start") -> str:
    """Words at a place; their baseline is at y."""
    said = anchor if anchor != "start" else None
    return tag("text", safe(words, 80), x=x, y=y, class_=kind or None, text_anchor=said)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def box(x: float, y: float, width: float, height: float, kind: str, **more: object) -> str:
    wide, high = max(0.0, width), max(0.0, height)
    return tag("rect", "", x=x, y=y, width=wide, height=high, class_=kind, **more)


def dot(x: float, y: float, radius: float, kind: str) -> str:
    return tag("circle", cx=x, cy=y, r=radius, class_=kind)


def path(points: Iterable[tuple[float, float]], kind: str, *, closed: bool = False) -> str:
    """A line through points, or the area within them."""
    steps = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return tag("path", d=f"M{steps}{'Z' if closed else ''}", class_=kind)


@dataclass(frozen=True)
class Scale:
    """From numbers to pixels.

    Attributes:
        low, high: numbers at the two ends.
        start, stop: pixels there.
    """

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """The pixel of a number; beyond the ends it stays at the end."""
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.5
        return self.start + min(1.0, max(0.0, share)) * (self.stop - self.start)

    def ticks(self, about: int = 5) -> list[float]:
        """Round numbers within the ends, about so many."""
        span = self.high - self.low
        if not (math.isfinite(span) and span > 0):
            return [self.low]
        raw = span / max(1, about)
        power = 10.0 ** math.floor(math.log10(raw))
        step = min((power * m for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(s - raw))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [n * step for n in range(first, last + 1)]


def scale_over(
    values: Iterable[float], start: float, stop: float, *, keep: Sequence[float] = ()
) -> Scale:
    """A scale that has all finite values on it, with some room at both ends."""
    known = [value for value in (*values, *keep) if math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    room = 0.04 * (high - low) or max(abs(low), 1.0) * 0.05
    return Scale(low - room, high + room, start, stop)


def number(value: float, digits: int = 4, *, sign: bool = False) -> str:
    """A number for a table; a dash for what is not known."""
    if not math.isfinite(value):
        return "–"
    return f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def tick_label(value: float) -> str:
    """A number beside an axis."""
    return f"{value:.6g}".replace("-", "−")
