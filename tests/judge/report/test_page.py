"""Pages: one file, nothing from elsewhere, numbers behind every chart, readable anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from judge.calibration.measuring import study
from judge.comparison import compare
from judge.leaderboard import rank_models
from judge.leaderboard.boards import Boards
from judge.report.calibrating import calibration_page
from judge.report.comparing import comparison_page
from judge.report.leaning import PEOPLE, leaning
from judge.report.page import Page, render, write_page
from judge.report.ranking import leaderboard_page
from judge.report.scoring import Scored, score_page

HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>\u202e'
VIEWS = [("light", 1200), ("dark", 1200), ("light", 360)]


def drawn(count: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, a judge's probabilities, lengths and prompts."""
    generator = np.random.default_rng(3)
    length = generator.normal(size=count)
    logits = np.column_stack([length, -length, np.zeros(count)]) / 2
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    choice = (generator.random(count)[:, None] > np.cumsum(proba, axis=1)).sum(axis=1)
    return np.eye(3)[np.minimum(choice, 2)], proba, length, np.arange(count) // 2


def comparison() -> Page:
    labels, proba, length, prompts = drawn()
    said = {HOSTILE: proba, "sure": np.where(proba == proba.max(axis=1, keepdims=True), 0.9, 0.05)}
    said = {name: rows / rows.sum(axis=1, keepdims=True) for name, rows in said.items()}
    result = compare(labels, said, groups=prompts, length_difference=length, rounds=200)
    leans = leaning(labels, said, length, prompts, rounds=100)
    return comparison_page(result, source=HOSTILE, leans=leans, warnings=[HOSTILE])


def calibration() -> Page:
    labels, proba, _, prompts = drawn()
    sharp = proba**3 / (proba**3).sum(axis=1, keepdims=True)
    return calibration_page(
        study(labels, sharp, prompts, prompts % 5 == 0), judge=HOSTILE, source="x"
    )


def board() -> Page:
    labels, _, _, prompts = drawn()
    names = [HOSTILE, "two", "three"]
    a = [names[n % 3] for n in range(len(labels))]
    b = [names[(n + 1 + n // 3 % 2) % 3] for n in range(len(labels))]
    found = rank_models(a, b, labels, prompts=prompts, name=HOSTILE, rounds=50)
    return leaderboard_page(Boards(found), source="x", words=[HOSTILE])


def scored() -> Page:
    labels, proba, _, _ = drawn()
    proba[:7] = np.nan
    gathered = Scored()
    gathered.add(proba[:200], labels[:200], dict.fromkeys(range(7), HOSTILE), None)
    gathered.add(proba[200:], None, {}, None)
    return score_page(gathered, judge=HOSTILE, source="x", words=[HOSTILE])


class _Loads(HTMLParser):
    """Collects what a page is made of and where it points to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: set[str | None] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses |= {
            value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")
        }
        assert not any(name.startswith("on") for name, _ in attrs)


PAGES: dict[str, Callable[[], Page]] = {
    "compare": comparison,
    "calibrate": calibration,
    "leaderboard": board,
    "score": scored,
}


@pytest.mark.parametrize("kind", PAGES)
def test_a_page_is_complete_in_itself(kind: str) -> None:
    page = PAGES[kind]()
    html = render(page)
    assert "<script" not in html
    assert "onerror=&#34;" in html or "onerror=&quot;" in html
    loads = _Loads()
    loads.feed(html)
    assert loads.addresses <= {"#content", *(f"#part-{n}" for n in range(1, 9))}
    assert not loads.tags & {"script", "img", "iframe", "link", "object", "foreignObject"}
    assert "url(" not in html
    assert "\u202e" not in html
    assert len(html) < 400_000
    charts = [chart for section in page.sections for chart in section.charts]
    assert len(charts) >= 2
    assert html.count("<figure>") == len(charts)
    for chart in charts:
        assert chart.title
        assert chart.summary
        assert chart.table.rows
        assert all(len(row) == len(chart.table.header) for row in chart.table.rows)


def test_the_same_figures_give_the_same_page() -> None:
    assert render(comparison()) == render(comparison())


def test_nothing_is_left_of_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    target = tmp_path / "nowhere" / "page.html"
    with pytest.raises(Exception, match=r"page\.html"):
        write_page(scored(), target)
    assert list(tmp_path.iterdir()) == []


def test_leaning_finds_who_takes_length_for_quality() -> None:
    labels, proba, length, prompts = drawn(2000)
    biased = np.column_stack([1 / (1 + np.exp(-5 * length)), 1 / (1 + np.exp(5 * length))])
    biased = np.column_stack([biased, np.zeros(2000)])
    people, fair, long = leaning(labels, {"fair": proba, "long": biased}, length, prompts)
    assert (people.name, fair.name, long.name) == (PEOPLE, "fair", "long")
    inside = [
        low < y < high
        for (_, _, low, high), (_, y, *_) in zip(people.points, fair.points, strict=True)
    ]
    assert sum(inside) >= 7
    assert long.points[-1][1] > people.points[-1][3]
    assert long.points[0][1] < people.points[0][2]
    assert leaning(labels[:5], {}, length[:5], prompts[:5]) == []


def test_a_page_of_nothing_but_unjudged_battles() -> None:
    gathered = Scored()
    gathered.add(np.full((3, 3), np.nan), None, {0: "no", 1: "no", 2: "why"}, None)
    html = render(score_page(gathered, judge="j", source="s"))
    assert "Why battles are unjudged" in html
    assert "How sure" not in html


@pytest.mark.parametrize("kind", PAGES)
def test_in_a_browser(kind: str, tmp_path: Path, visit: Callable[..., Any]) -> None:
    path = tmp_path / "page.html"
    write_page(PAGES[kind](), path)
    for scheme, width in VIEWS:
        seen = visit(path.as_uri(), color_scheme=scheme, viewport={"width": width, "height": 800})
        page = seen.page
        assert not seen.complaints
        assert not seen.abroad
        assert page.title() not in ("1", "2")
        # Nothing but the parts that say so scroll sideways.
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        background, ink = page.evaluate(
            "(style => [style.backgroundColor, style.color])(getComputedStyle(document.body))"
        )
        light = [sum(map(int, re.findall(r"\d+", color)[:3])) for color in (background, ink)]
        assert (light[0] > light[1]) == (scheme == "light")
    assert page.get_by_role("heading", level=1).count() == 1
    first = page.locator("details").first
    first.locator("summary").focus()
    page.keyboard.press("Enter")
    assert first.locator("table").is_visible()
    figures = page.get_by_role("figure").count()
    assert figures == page.locator("figure table").count() > 0
    page.emulate_media(media="print")
    assert page.locator("main").is_visible()
