"""From sections to a page: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from judge.report.charts import Chart, Table
from judge.report.drawing import plain


@dataclass(frozen=True)
class Fact:
    """A figure that stands at the head of a page: what it is, and its value in words."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: its heading.
        paragraphs: what is to be known before the charts.
        charts: pictures, each with its table.
        table: a table that is shown and not behind anything.
    """

    title: str
    paragraphs: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    table: Table | None = None


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: what it is about.
        lead: the finding, in a sentence or two.
        facts: figures at its head.
        sections: in reading order.
        origin: what it was made from and how, a line each.
    """

    title: str
    lead: str
    facts: tuple[Fact, ...] = ()
    sections: tuple[Section, ...] = ()
    origin: tuple[str, ...] = field(default=())


def render(page: Page) -> str:
    """The page as HTML.

    Text is escaped by the template and by the charts; the charts' pictures, which have escaped
    theirs, are the only markup that is taken as it is.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    folder = files("judge.report")
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters["plain"] = lambda value: plain(value, 2000)
    environment.filters["drawn"] = Markup
    template = environment.from_string((folder / "page.html").read_text("utf-8"))
    style = Markup((folder / "page.css").read_text("utf-8"))
    return template.render(page=page, style=style, anchors=_anchors(page.sections))


def write_page(page: Page, path: Path) -> None:
    """Writes the page whole, or not at all.

    Raises:
        InputError: the path cannot be written to.
    """
    from judge.files.atomic import written_whole

    html = render(page)
    with written_whole(path) as file:
        file.write(html.encode("utf-8"))


def _anchors(sections: Sequence[Section]) -> list[str]:
    return [f"part-{place + 1}" for place in range(len(sections))]


def origin(command: str, seed: int | None = None) -> tuple[str, ...]:
    """How a page was made: which command of which version, and when."""
    from datetime import UTC, datetime

    from judge import __version__

    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    drawn = "" if seed is None else f", seed {seed}"
    return (f"Made by arena-judge {__version__}, {command}{drawn}, on {when}.",)
