"""How often the sets of judges that may abstain hold the label: over all battles, and by slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.comparing.slicing import parts
from judge.conformal import Coverage, measure, parse_sets

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

WHOLE = ("all", "")


@dataclass(frozen=True)
class Covered:
    """A judge's sets on some of the battles.

    Attributes:
        judge: its name.
        by, slice: which battles; ("all", "") for all.
        found: how well the sets hold what they promise there.
    """

    judge: str
    by: str
    slice: str
    found: Coverage


def covered(
    labels: Floats,
    proba: Mapping[str, Floats],
    sets: Mapping[str, Bools],
    groups: npt.ArrayLike,
    facts: pd.DataFrame | None = None,
    by: Sequence[str] = (),
    least: int = 50,
) -> list[Covered]:
    """Measures sets on battles that are labelled and judged.

    Args:
        labels: (N, 3), NaN rows unlabelled.
        proba: (N, 3) of each judge, NaN rows unjudged.
        sets: (N, 3) of those judges that have some.
        groups: (N,) equal for battles about the same prompt.
        facts: of the battles, to slice by (see `judge.comparing.facts`).
        by: what to slice by.
        least: slices of fewer battles are pooled.
    """
    known = ~np.isnan(labels).any(axis=1)
    codes = np.asarray(groups)
    everything = [(*WHOLE, np.ones(len(labels), dtype=np.bool_))]
    if facts is not None:
        everything += [
            (part.by, part.name, part.rows) for name in by for part in parts(facts, name, least)
        ]
    found = []
    for judge, own in sets.items():
        judged = known & ~np.isnan(proba[judge]).any(axis=1)
        for kind, name, rows in everything:
            inside = judged & rows
            if inside.any():
                here = measure(labels[inside], own[inside], codes[inside])
                found.append(Covered(judge, kind, name, here))
    return found


def sets_of_file(ids: Sequence[str], predictions: pd.DataFrame) -> Bools | None:
    """(N, 3) the sets that a file of predictions has for battles; None where it has none. A battle
    that it does not name, or not once, is left open.

    Raises:
        ArenaJudgeError: a cell is no set.
    """
    if "set" not in predictions.columns:
        return None
    cells = [None if value != value else value for value in predictions["set"].tolist()]
    given = predictions["id"].tolist()
    if given == list(ids):
        return parse_sets(cells)
    by_id = dict(zip(given, cells, strict=True))
    return parse_sets([by_id.get(name) for name in ids])
