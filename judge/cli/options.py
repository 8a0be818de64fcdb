"""Options that several commands have, so that they mean the same everywhere."""

from __future__ import annotations

import math
import os
from typing import Any

import click

_MOST_WORKERS = 8


class Finite(click.FloatRange):
    """A number in a range. click's own range takes "nan", which lies in all of them."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number to reckon with.", param, ctx)
        return number


chunk_rows = click.option(
    "--chunk-rows",
    type=click.IntRange(min=1),
    default=4096,
    show_default=True,
    help="Battles a batch; memory goes with it.",
)


def _cpus(context: click.Context, parameter: click.Parameter, value: int | None) -> int:
    if value is not None:
        return value
    usable = getattr(os, "sched_getaffinity", None)  # what a container allows, where it is known
    return min(_MOST_WORKERS, len(usable(0)) if usable else os.cpu_count() or 1)


workers = click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    callback=_cpus,
    help=f"Batches judged at once.  [default: one a CPU, {_MOST_WORKERS} at most]",
)

force = click.option(
    "--force", is_flag=True, help="Replace an output file even if it is no earlier result."
)

report = click.option(
    "--report",
    "report_file",
    metavar="FILE.html",
    help="Draw what was found as one page that needs nothing else to be looked at.",
)
