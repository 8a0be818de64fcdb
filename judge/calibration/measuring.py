"""What calibrating did to a judge's probabilities: before and after, on battles it learned from
(cross-fitted) and on battles that it was kept from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from judge.calibration.choosing import Calibration, calibrate
from judge.choosing import Gap, paired_gap
from judge.comparing.bootstrap import group_codes
from judge.errors import ArenaJudgeError
from judge.metrics import calibration_error, checked, log_loss, log_loss_rows

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def nll(labels: Floats, proba: Floats) -> float:
    """Mean negative log-likelihood in nats of the outcome that has most votes.

    Unlike `judge.metrics.log_loss` it takes a battle's label for certain, however its votes were
    shared (outcomes with equally many votes count by their mean), and does not clip: an outcome
    that was called impossible costs 708, the logarithm of the smallest number there is.
    """
    y, p = checked(labels, "labels"), checked(proba, "probabilities")
    top = y == y.max(axis=1, keepdims=True)
    cost = -np.log(np.maximum(p, np.finfo(np.float64).tiny))
    return float(((top * cost).sum(axis=1) / top.sum(axis=1)).mean())


@dataclass(frozen=True)
class Part:
    """Some battles before and after; everything is (N, 3).

    Attributes:
        labels: shares of A, B and tie.
        before, after: probabilities.
        groups: (N,) equal for battles about one prompt.
    """

    labels: Floats
    before: Floats
    after: Floats
    groups: npt.NDArray[np.intp]

    @property
    def gap(self) -> Gap:
        """The log loss after less that before, paired."""
        rows = [log_loss_rows(self.labels, proba) for proba in (self.after, self.before)]
        return paired_gap(rows[0], rows[1], self.groups)

    def figures(self, name: str) -> dict[str, float]:
        """What is measured, under the names `nll_{name}_before`, ... An improvement is before less
        after: above 0 it is better now."""
        found: dict[str, float] = {}
        for metric, measure in (("nll", nll), ("logloss", log_loss), ("ece", calibration_error)):
            before, after = measure(self.labels, self.before), measure(self.labels, self.after)
            found[f"{metric}_{name}_before"] = before
            found[f"{metric}_{name}_after"] = after
            found[f"{metric}_{name}_improvement"] = before - after
        return found


@dataclass(frozen=True)
class Study:
    """A calibrator, and what it does.

    Attributes:
        calibration: how it was learned; its `proba` has a row for each battle that was given.
        cal: the battles it was learned from; `after` is cross-fitted.
        holdout: battles it was kept from; None where there are none.
    """

    calibration: Calibration
    cal: Part
    holdout: Part | None


def study(
    labels: Floats,
    proba: Floats,
    groups: npt.ArrayLike,
    held: Bools | None = None,
    *,
    context: Floats | None = None,
    method: str | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Study:
    """Learns a calibrator from the battles that are not held out, and measures it on both parts.

    Args:
        labels, proba: (N, 3), NaN rows unlabelled and unjudged.
        groups: (N,) equal for battles about one prompt.
        held: (N,) which battles are held out; a prompt should be on one side only.
        context, method, folds, seed: see `calibrate`.

    Raises:
        ArenaJudgeError: see `calibrate`; or battles are held out, and none is labelled and judged.
    """
    out = np.zeros(len(labels), dtype=np.bool_) if held is None else held
    codes = group_codes(groups)
    usable = ~np.isnan(labels).any(axis=1) & ~np.isnan(proba).any(axis=1)
    seen = np.where(out[:, None], np.nan, labels)
    found = calibrate(seen, proba, codes, context=context, method=method, folds=folds, seed=seed)
    rows = usable & ~out
    cal = Part(labels[rows], proba[rows], found.proba[rows], codes[rows])
    if not out.any():
        return Study(found, cal, None)
    rows = usable & out
    if not rows.any():
        raise ArenaJudgeError("none of the battles held out is both labelled and judged")
    after = found.calibrator.apply(proba[rows], None if context is None else context[rows])
    return Study(found, cal, Part(labels[rows], proba[rows], after, codes[rows]))


def held_out(groups: npt.ArrayLike, share: float, seed: int) -> Bools:
    """(N,) which battles to hold out: about this share of them, whole prompts, drawn by lot."""
    codes = group_codes(groups)
    sizes = np.bincount(codes)
    drawn = np.random.default_rng(seed).permutation(len(sizes))
    # A prompt is taken if that brings the number nearer to what is wanted.
    before = np.cumsum(sizes[drawn]) - sizes[drawn]
    taken = np.zeros(len(sizes), dtype=np.bool_)
    taken[drawn] = before + sizes[drawn] / 2 <= share * len(codes)
    return np.asarray(taken[codes])
