"""How far verdicts lean to the longer response: a line a judge, and one for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from judge.comparing.bootstrap import Tallies

Floats = npt.NDArray[np.float64]

BINS = 9
PEOPLE = "people"


@dataclass(frozen=True)
class Lean:
    """A line.

    Attributes:
        name: whose verdicts these are.
        points: mean difference in length, mean of P(A) - P(B), and its 95 % interval; NaN where
            there is none.
    """

    name: str
    points: tuple[tuple[float, float, float, float], ...]


def leaning(
    labels: Floats,
    proba: Mapping[str, Floats],
    length_difference: Floats,
    groups: npt.ArrayLike,
    *,
    bins: int = BINS,
    rounds: int = 500,
    seed: int = 0,
) -> list[Lean]:
    """How P(A) - P(B) goes with how much longer A is than B, people first.

    Args:
        labels: (N, 3) shares of A, B and tie; NaN rows are unlabelled.
        proba: (N, 3) of each judge; NaN rows are unjudged.
        length_difference: (N,) logarithm of the ratio of lengths; NaN where not known.
        groups: (N,) equal for battles about the same prompt.
        bins: of equally many battles.
        rounds, seed: of the bootstrap of the intervals.
    """
    known = np.isfinite(length_difference)
    if known.sum() < 2 * bins:
        return []
    edges = np.unique(np.quantile(length_difference[known], np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.searchsorted(edges, length_difference, side="right")
    codes = np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
    return [
        Lean(name, _points(rows, place, known, length_difference, codes, rounds, seed))
        for name, rows in {PEOPLE: labels, **proba}.items()
    ]


def _points(
    rows: Floats,
    place: npt.NDArray[np.intp],
    known: npt.NDArray[np.bool_],
    length: Floats,
    codes: npt.NDArray[np.intp],
    rounds: int,
    seed: int,
) -> tuple[tuple[float, float, float, float], ...]:
    lean = rows[:, 0] - rows[:, 1]
    judged = known & ~np.isnan(lean)
    tallies = Tallies(codes)
    used = [k for k in range(int(place.max()) + 1) if (judged & (place == k)).any()]
    for k in used:
        inside = judged & (place == k)
        tallies.add(np.where(inside, lean, 0.0), inside.astype(np.float64))
    if not used:
        return ()
    means = tallies.means(rounds=rounds, seed=seed)
    across = [float(length[judged & (place == k)].mean()) for k in used]
    return tuple(
        (x, float(means.value[n]), float(means.low[n]), float(means.high[n]))
        for n, x in enumerate(across)
    )
