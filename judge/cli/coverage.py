"""`compare --coverage`: whether sets of outcomes hold what they promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from judge.cli import options
from judge.cli.console import clean, say, table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from judge.cli.entrants import Entrant
    from judge.comparing.covering import Covered
    from judge.comparing.slices import Slices
    from judge.labelled import Labelled

HEADER = (
    "judge",
    "battles",
    "holds the label [95 % interval]",
    "outcomes a set",
    "decided",
    "right where decided",
)

option = click.option(
    "--coverage",
    "coverage_share",
    type=options.Finite(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Measure how often judges' sets of outcomes hold the label; see score --coverage. With "
    "--slices, on slices too.",
)


def measured(
    field: Sequence[Entrant],
    battles: Labelled,
    share: float | None,
    slices: Slices | None,
) -> list[Covered]:
    """What `--coverage` found; nothing where it was not said.

    Judges' sets are made for `share`; those that stand in a file of predictions are taken as they
    are. Who has none is named.
    """
    if share is None:
        return []
    from judge.comparing.covering import covered, sets_of_file

    sets: dict[str, npt.NDArray[np.bool_]] = {}
    for one in field:
        found = None
        if one.predictions is not None:
            found = sets_of_file(battles.ids, one.predictions)
        elif one.judge is not None and one.judge.conformity is not None:
            found = one.judge.conformity.sets(battles.proba[one.name], share)
        if found is None:
            say(f"note: {clean(one.name)} has no sets of outcomes to measure")
        else:
            sets[one.name] = found
    by = [] if slices is None else list(dict.fromkeys(part.by for part in slices.slices))
    least = 0 if slices is None else slices.least
    return covered(battles.labels, battles.proba, sets, battles.prompts, battles.facts, by, least)


def lines(found: Sequence[Covered], share: float | None) -> list[str]:
    """A table for all battles, and one for each thing that they are sliced by."""
    said: list[str] = []
    for by in dict.fromkeys(one.by for one in found):
        rows = [_row(one) for one in found if one.by == by]
        what = "all battles" if by == "all" else f"by {by}"
        said += ["", f"Sets of outcomes that are to hold the label {share:.0%} of the time, {what}"]
        said += table(HEADER, rows)
    return said


def _row(one: Covered) -> list[str]:
    found = one.found
    name = clean(f"{one.judge}, {one.slice}" if one.slice else one.judge)
    interval = f"[{found.low:.3f}, {found.high:.3f}]" if found.low == found.low else "[-]"
    right = f"{found.right:.1%}" if found.right == found.right else "-"
    return [
        name,
        f"{found.battles:,}",
        f"{found.covered:.3f} {interval}",
        f"{found.size:.2f}",
        f"{found.answered:.1%}",
        right,
    ]


def as_list(found: Sequence[Covered]) -> list[dict[str, Any]]:
    """For `--json`."""
    return [
        {
            "judge": one.judge,
            "by": one.by,
            "slice": one.slice,
            **{k: None if v != v else v for k, v in asdict(one.found).items()},
        }
        for one in found
    ]
