"""Text on the page can be read: contrast by WCAG 2.2, in light and in dark."""

from __future__ import annotations

import re
from importlib import resources

import pytest

STYLE = (resources.files("judge.view") / "page" / "view.css").read_text()
COLOURS = {
    name: pair for name, *pair in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", STYLE)
}
TEXT = {
    "ink": ("ground", "panel", "raised", "tie-wash", "found"),
    "muted": ("ground", "panel", "raised", "tie-wash"),
    "a": ("ground", "raised", "a-wash", "panel"),
    "b": ("ground", "raised", "b-wash", "panel"),
    "alarm": ("alarm-wash",),
    "ground": ("ink", "a", "b"),
}


def luminance(colour: str) -> float:
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted(map(luminance, (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), [(t, g) for t, gs in TEXT.items() for g in gs])
def test_text_stands_out_from_what_it_is_on(text: str, ground: str, theme: int) -> None:
    assert contrast(COLOURS[text][theme], COLOURS[ground][theme]) >= 4.5


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("share", ["a", "b", "tie"])
def test_parts_of_a_bar_stand_out_from_the_page(share: str, theme: int) -> None:
    assert contrast(COLOURS[share][theme], COLOURS["ground"][theme]) >= 3


def test_the_page_asks_for_nothing_from_elsewhere() -> None:
    for name in ("view.html", "view.css", "view.js", "battle.js", "server.js"):
        text = (resources.files("judge.view") / "page" / name).read_text()
        assert not re.search(r"https?://|url\(|@import|<style|\bon\w+=[\"']| style=", text), name
