"""A chart as a picture of its own: an SVG file that needs no page around it."""

from __future__ import annotations

from importlib import resources

from judge.report.charts import Chart
from judge.report.drawing import safe, tag

_STYLE = "page.css"
_OWN = "svg { background: var(--paper); font: 14px system-ui, 'Segoe UI', Roboto, sans-serif; }"


def standalone(chart: Chart) -> str:
    """The picture with its colours, in light and in dark, its title and what is to be seen in it.

    Args:
        chart: one that has a picture.
    """
    style = resources.files("judge.report").joinpath(_STYLE).read_text("utf-8")
    told = f"<title>{safe(chart.title)}</title><desc>{safe(chart.summary, 1000)}</desc>"
    opened, inner = chart.svg.split(">", 1)
    opened = opened.replace(' aria-hidden="true"', ' role="img"')
    opened = opened.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return f"{opened}>{told}{tag('style', f'{style}{_OWN}')}{inner}\n"
