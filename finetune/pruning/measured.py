"""Whether leaving battles out, or weighing them, makes a judge better.

A reference judge is fitted twice on the same folds, on all battles and on what is left of them, and
both are asked of the battles held out, all of which keep the labels that people gave. It is linear
in the features of the responses (`judge.features`), with the symmetry of `judge.davidson`: cheap,
and the same for every table of logits. How strongly it is held is chosen for either by what does
best on battles held out, which flatters both alike: it shall not be a matter of having learned too
much from too few. What helps it need not help a transformer, and a difference
within its interval says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.choosing import Gap, paired_gap
from judge.davidson import Block, fit_linear, probabilities
from judge.errors import ArenaJudgeError
from judge.features.extraction import extract
from judge.files.turns import TEXTS
from judge.metrics import class_prior, log_loss, log_loss_rows

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_BATCH = 256
_PENALTIES = (3.0, 30.0, 300.0, 3000.0)
_BOUND = 4.0


@dataclass(frozen=True)
class Features:
    """What the reference judge sees of N battles.

    Attributes:
        sides: (N, k) differences of response A's features less B's.
        context: (N, m) what stays when the responses are swapped.
    """

    sides: Floats
    context: Floats


@dataclass(frozen=True)
class Measurement:
    """The reference judge on battles held out.

    Attributes:
        before, after: its log loss fitted on all battles, and on what was made of them.
        prior: the log loss of the shares of the labels, for comparison.
        gap: after less before, paired; with its interval, clustered by prompt.
        battles: that it was measured on.
        folds: how many.
    """

    before: float
    after: float
    prior: float
    gap: Gap
    battles: int
    folds: int

    @property
    def verdict(self) -> str:
        """In words."""
        if self.gap.high < 0:
            return "it helped"
        return "it hurt" if self.gap.low > 0 else "these battles cannot tell whether it helped"


def features_of(battles: pd.DataFrame) -> Features:
    """The features of a battle table."""
    sides, context = [], []
    for start in range(0, len(battles), _BATCH):
        part = battles.iloc[start : start + _BATCH]
        found = extract(*(part[name].tolist() for name in TEXTS))
        both = [values[0] - values[1] for values in found.responses.values()]
        sides.append(np.concatenate(both, axis=1))
        context.append(np.asarray(found.context, dtype=np.float64))
    return Features(np.concatenate(sides), np.concatenate(context))


def measure(
    features: Features,
    labels: Floats,
    fold: Ints,
    learns: Bools,
    prompts: Ints,
    weights: Floats,
) -> Measurement:
    """Fits the reference judge with and without weights.

    Args:
        features: of N battles.
        labels: (N, 3), NaN rows without.
        fold: (N,) that holds each out; below 0 for none.
        learns: (k, N) which battles each fold may learn from.
        prompts: (N,) a number for each prompt.
        weights: (N,) what each battle counts for in training; 0 for what is left out.

    Raises:
        ArenaJudgeError: a fold has nothing to learn from, or nothing is held out.
    """
    known = ~np.isnan(labels).any(axis=1)
    rows = np.flatnonzero(known & (fold >= 0))
    if not len(rows):
        raise ArenaJudgeError("no labelled battle is held out, so nothing can be measured")
    losses = {}
    for name, use in (("before", np.ones(len(labels))), ("after", weights)):
        said = _held_out(features, labels, fold, learns & known, rows, use)
        each = [log_loss_rows(labels[rows], proba[rows]) for proba in said]
        losses[name] = min(each, key=lambda loss: float(loss.mean()))
    prior = np.tile(class_prior(labels[rows]), (len(rows), 1))
    return Measurement(
        float(losses["before"].mean()),
        float(losses["after"].mean()),
        log_loss(labels[rows], prior),
        paired_gap(losses["after"], losses["before"], prompts[rows]),
        len(rows),
        len(np.unique(fold[rows])),
    )


def _held_out(
    features: Features, labels: Floats, fold: Ints, learns: Bools, rows: Ints, weights: Floats
) -> list[Floats]:
    """For each penalty (N, 3) what reference judges say of `rows` that have learned from others."""
    said = [np.full(labels.shape, np.nan) for _ in _PENALTIES]
    for one in np.unique(fold[rows]).tolist():
        held = rows[fold[rows] == one]
        learned = np.flatnonzero(learns[one] & (weights > 0))
        if not len(learned):
            raise ArenaJudgeError(f"nothing is left to learn from in fold {one}")
        for proba, penalty in zip(said, _PENALTIES, strict=True):
            fitted = _Reference(features, labels, learned, weights[learned], penalty)
            proba[held] = fitted(held)
    return said


class _Reference:
    """A reference judge of some battles; called with rows, it gives their (n, 3) probabilities."""

    def __init__(
        self, features: Features, labels: Floats, rows: Ints, weights: Floats, penalty: float
    ) -> None:
        self._features = features
        spread = np.sqrt(np.square(features.sides[rows]).mean(axis=0))
        self._scale = np.where(spread > 0, spread, 1.0)
        self._middle = features.context[rows].mean(axis=0)
        width = features.context[rows].std(axis=0)
        self._width = np.where(width > 0, width, 1.0)
        side, tie = self._columns(rows)
        # Weights of mean 1, so that the penalty means the same with and without.
        share = labels[rows] * (weights / weights.mean())[:, None]
        flat = np.append(np.full(tie.shape[1] - 1, penalty), 1e-3)
        self._side, self._tie = fit_linear([Block(side, penalty)], [Block(tie, flat)], share)

    def _columns(self, rows: Ints) -> tuple[Floats, Floats]:
        side = np.clip(self._features.sides[rows] / self._scale, -_BOUND, _BOUND)
        apart = (self._features.context[rows] - self._middle) / self._width
        tie = [np.clip(apart, -_BOUND, _BOUND), np.abs(side), np.ones((len(rows), 1))]
        return side, np.concatenate(tie, axis=1)

    def __call__(self, rows: Ints) -> Floats:
        side, tie = self._columns(rows)
        return probabilities(side @ self._side, tie @ self._tie)
