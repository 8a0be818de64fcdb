"""Isotonic calibration, one class against the rest, with the symmetry built in.

One rising curve is learned for the sides, from every battle in both orders, and one for the tie
(B. Zadrozny and C. Elkan 2002, "Transforming classifier scores into accurate multiclass
probability estimates", KDD); what they say is scaled to sum to 1. A vote against is added at either
end, for at 0 and against at 1, before the blocks are pooled. So each curve stays strictly between 0
and 1, and no outcome is impossible. Between blocks a curve is a straight line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from judge.errors import ArenaJudgeError

Floats = npt.NDArray[np.float64]

METHOD = "isotonic"
END_VOTES = 1.0
"""How many votes stand against the curve at either end."""


@dataclass(frozen=True)
class Curve:
    """A rising curve from 0..1 into 0..1, straight between its points.

    Attributes:
        at, value: the points; `at` rises strictly, `value` never falls.

    Raises:
        ArenaJudgeError: numbers that make no such curve.
    """

    at: tuple[float, ...]
    value: tuple[float, ...]

    def __post_init__(self) -> None:
        x, y = np.array(self.at, dtype=np.float64), np.array(self.value, dtype=np.float64)
        if len(x) == 0 or len(x) != len(y) or not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise ArenaJudgeError("calibrator: a curve has as many values as points, all numbers")
        if (np.diff(x) <= 0).any() or (np.diff(y) < 0).any():
            raise ArenaJudgeError("calibrator: a curve's points and values must rise")
        if x[0] < 0.0 or x[-1] > 1.0 or y[0] <= 0.0 or y[-1] >= 1.0:
            raise ArenaJudgeError("calibrator: a curve goes from 0..1 to between 0 and 1")

    def __call__(self, probability: Floats) -> Floats:
        """(...) the curve's values; NaN stays."""
        return np.asarray(np.interp(probability, self.at, self.value), dtype=np.float64)


@dataclass(frozen=True)
class Isotonic:
    """A curve for A and B, and one for the tie."""

    sides: Curve
    tie: Curve

    @property
    def method(self) -> str:
        return METHOD

    @property
    def average(self) -> None:
        """It looks at no battle."""

    def apply(self, proba: Floats, covariates: Floats | None = None) -> Floats:
        """(N, 3) better probabilities; NaN rows stay."""
        p = np.asarray(proba, dtype=np.float64)
        said = np.stack([self.sides(p[..., 0]), self.sides(p[..., 1]), self.tie(p[..., 2])], -1)
        total = (said[..., 0] + said[..., 1]) + said[..., 2]  # A and B first: they are exchangeable
        return np.asarray(said / total[..., None])

    def settings(self) -> dict[str, object]:
        """For a judge.yaml; `calibrator_from_settings` reads it back to the last digit."""
        curves = {"sides": self.sides, "tie": self.tie}
        return {"method": METHOD} | {
            name: {"at": list(curve.at), "value": list(curve.value)}
            for name, curve in curves.items()
        }


def fit_isotonic(labels: Floats, proba: Floats) -> Isotonic:
    """The curves of least squared error.

    Args:
        labels: (N, 3) shares of A, B and tie.
        proba: (N, 3), no NaN.
    """
    both = np.concatenate([proba[:, 0], proba[:, 1]])
    return Isotonic(
        fit_curve(both, np.concatenate([labels[:, 0], labels[:, 1]])),
        fit_curve(proba[:, 2], labels[:, 2]),
    )


def fit_curve(probability: Floats, share: Floats) -> Curve:
    """The rising curve of least squared error, with the votes at its ends.

    Args:
        probability: (N,).
        share: (N,) the share of votes for it.
    """
    from scipy.optimize import isotonic_regression

    where = np.concatenate([[0.0], np.clip(probability, 0.0, 1.0), [1.0]])
    votes = np.concatenate([[END_VOTES], np.ones(len(share)), [END_VOTES]])
    # Rows are put in order of both, so that sums do not depend on the order of the battles.
    said = np.concatenate([[1.0], share, [0.0]])
    order = np.lexsort((said, where))
    at, place = np.unique(where[order], return_inverse=True)
    weight = np.bincount(place.reshape(-1), votes[order])
    mean = np.bincount(place.reshape(-1), (votes * said)[order]) / weight
    found = isotonic_regression(mean, weights=weight)
    firsts, lasts = found.blocks[:-1], found.blocks[1:] - 1
    points = np.unique(np.concatenate([firsts, lasts]))
    value = np.maximum.accumulate(np.asarray(found.x, dtype=np.float64)[points])
    return Curve(tuple(at[points].tolist()), tuple(value.tolist()))
