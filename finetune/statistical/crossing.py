"""What judges make of battles that they have not learned from: each battle by one that was fitted
without the battles about its prompt."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from finetune.statistical.heads import Parts, fit_heads, strengths_of
from finetune.statistical.tables import Table
from judge.ballots import CRITERIA
from judge.judges.statistical_weights import Weights

FOLDS = 10

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def out_of_fold(weights: Weights, parts: Parts, table: Table, groups: Ints, seed: int) -> Floats:
    """(N, 3) probabilities of each battle by a head fitted without the battles of its fold; NaN for
    those of no group, which are learned from in every fold."""
    proba = np.full((len(table.labels), 3), np.nan)
    fold = grouped_folds(groups, FOLDS, seed)
    for k in range(FOLDS):
        held = fold == k
        proba[held] = fit_heads(weights, parts, table, ~held).proba[held]
    return proba


def grouped_folds(groups: Ints, folds: int, seed: int) -> Ints:
    """(N,) each battle's fold; the battles of a group share theirs, and group -1 is in none."""
    order = np.random.default_rng(seed).permutation(int(groups.max()) + 1)
    return np.where(groups < 0, -1, order[groups] % folds)


def crossed_strengths(table: Table, fold: Ints, learn: Callable[[Ints], Weights]) -> Parts:
    """What both parts of the strength say of each battle, learned without the battles of its fold.

    Args:
        table: N battles.
        fold: (N,) of each, from 0.
        learn: makes weights from the rows of battles that are learned from.
    """
    found = Parts(*(np.zeros((len(table), len(CRITERIA))) for _ in range(2)))
    for k in np.unique(fold).tolist():
        held = np.flatnonzero(fold == k)
        parts = strengths_of(table.take(held), learn(np.flatnonzero(fold != k)))
        found.linear[held], found.forest[held] = parts.linear, parts.forest
    return found
