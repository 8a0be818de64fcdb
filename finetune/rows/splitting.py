"""Battles held out of training: by prompt, and alike in their labels.

A split is made of battles as they stand, before any is shown the other way round, so that no battle
is learned in one order and measured in the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from finetune.rows.data import TrainingSet
from judge.errors import ArenaJudgeError
from judge.folds import held_out, stratified_folds

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Rows to train on and rows to measure on.

    Attributes:
        train, held_out: the rows of each, in their order.
        apart: rows of neither: those of extras about a prompt that is held out.
    """

    train: Ints
    held_out: Ints
    apart: Ints


def split(training: TrainingSet, share: float = 0.1, *, seed: int = 0) -> Split:
    """Holds out battles of the main file.

    Args:
        training: what there is.
        share: of the main file's battles, below 1; or how many of them, from 1.
        seed: of which ones.

    Raises:
        ArenaJudgeError: the main file has fewer than two prompts, or fewer battles than are to be
            held out.
    """
    main = np.flatnonzero(training.source == 0)
    wanted = share * len(main) if share < 1 else share
    prompts = np.unique(training.prompts[main])
    if len(prompts) < 2 or not 0 < wanted < len(main):
        raise ArenaJudgeError(
            f"{wanted:,.0f} of {len(main):,} battles about {len(prompts):,} prompts cannot be held "
            "out; give a file of battles for that"
        )
    chosen = held_out(
        np.searchsorted(prompts, training.prompts[main]),
        strata_of(training.labels[main]),
        wanted / len(main),
        seed,
    )
    of_held = np.isin(training.prompts, training.prompts[main[chosen]])
    return Split(
        np.flatnonzero(~of_held),
        np.flatnonzero(of_held & (training.source == 0)),
        np.flatnonzero(of_held & (training.source > 0)),
    )


def folds_of(labels: Floats, prompts: Ints, folds: int, seed: int = 0) -> Ints:
    """(N,) the fold of each battle, from 0; a prompt is in one fold only, and the folds have about
    as many battles and as many of each label.

    Raises:
        ArenaJudgeError: there are fewer prompts than folds.
    """
    known, groups = np.unique(prompts, return_inverse=True)
    if len(known) < folds:
        raise ArenaJudgeError(f"{len(known):,} prompts cannot be dealt out to {folds} folds")
    return stratified_folds(groups.ravel(), strata_of(labels), folds, seed)


def strata_of(labels: Floats) -> Ints:
    """(N,) which of A, B and tie has most of each label; 3 without one."""
    unlabelled = np.isnan(labels).any(axis=1)
    return np.where(unlabelled, 3, labels.argmax(axis=1)).astype(np.int64)
