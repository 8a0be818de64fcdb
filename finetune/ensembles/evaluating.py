"""Judges of folds and others on the same held-out battles.

Of judges of folds each battle is judged by the one that was held out from it (`out_of_fold`); on
battles that none of them has seen, by all, whose probabilities are averaged (`mean_of_folds`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from finetune.folds.judges import check_members, find_fold_judges
from finetune.folds.table import Folds
from finetune.measuring.trials import Watched, unwatched
from judge.blending.pools import equal
from judge.comparing.marks import Marks
from judge.errors import InputError
from judge.judges.base import Judge
from judge.judges.classifier_settings import DEFAULT, ClassifierSettings

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Battles:
    """Battles to evaluate on.

    Attributes:
        file: that they are from.
        table: N of them (see `judge.battles`).
        labels: (N, 3), NaN rows unlabelled.
        prompts: (N,) a number for each prompt.
        marks: of each.
        folds: (N,) the fold that each is held out in, below 0 for none; None without folds.
    """

    file: str
    table: pd.DataFrame
    labels: Floats
    prompts: Ints
    marks: Marks
    folds: Ints | None = None

    def __len__(self) -> int:
        return len(self.table)

    @property
    def ids(self) -> list[str]:
        """(N,) their ids."""
        found: list[str] = self.table["id"].tolist()
        return found

    @property
    def held_out(self) -> npt.NDArray[np.bool_]:
        """(N,) those that are measured on: with folds those that are in one."""
        if self.folds is None:
            return np.ones(len(self), dtype=np.bool_)
        return np.asarray(self.folds >= 0)


def read_battles(file: str, folds: Folds | None = None, workers: int = 1) -> Battles:
    """The battles of a file, labelled or not.

    Raises:
        InputError: it cannot be read, or is not the one that the folds are of.
    """
    from finetune.rows.sifting import kin
    from finetune.rows.sources import read_pool

    pool = read_pool([file], labelled=False, workers=workers)
    if not len(pool):
        raise InputError("has no battles", file=file)
    held = None
    if folds is not None:
        places = folds.places(pool.battles, file, pool.marks.battles)
        held = np.asarray(folds.fold[places], dtype=np.int64)
    return Battles(file, pool.battles, pool.labels, kin(pool.marks), pool.marks, held)


def out_of_fold(
    folder: str | Path,
    battles: Battles,
    folds: Folds,
    running: ClassifierSettings = DEFAULT,
    say: Say = lambda line: None,
    watched: Watched = unwatched,
) -> Floats:
    """(N, 3) what the judge says of each battle that was held out from it; NaN rows for battles in
    no fold.

    Args:
        folder: of the judges, `fold-0`, `fold-1`, ...
        battles: read with these folds.
        folds: which judge was held out from what.
        running: how judges are run.
        say: takes what there is to say meanwhile.
        watched: surrounds the judging.

    Raises:
        InputError: the judges are not those of these folds.
    """
    from judge.judges import load_judge

    judges = find_fold_judges(folder)
    check_members(judges, folds, in_fold=False)
    assert battles.folds is not None
    proba = np.full((len(battles), 3), np.nan)
    for fold, member in judges.members.items():
        rows = np.flatnonzero(battles.folds == fold)
        if len(rows):
            say(f"{member}: judges {len(rows):,} battles of fold {fold}")
            some = battles.table.iloc[rows].reset_index(drop=True)
            with closing(load_judge(member, running=running)) as judge:
                proba[rows] = _judged(judge, some, watched)
    return proba


def mean_of_folds(
    folders: Sequence[Path],
    battles: Battles,
    running: ClassifierSettings = DEFAULT,
    say: Say = lambda line: None,
    watched: Watched = unwatched,
) -> Floats:
    """(N, 3) the mean of what all judges say of each battle."""
    from judge.judges import load_judge

    said = []
    for folder in folders:
        say(f"{folder}: judges {len(battles):,} battles")
        with closing(load_judge(folder, running=running)) as judge:
            tell_known(judge, battles, say)
            said.append(_judged(judge, battles.table, watched))
    return equal(len(said)).apply(np.stack(said))


def tell_known(judge: Judge, battles: Battles, say: Say) -> None:
    """Says which of the battles a judge learned from."""
    from judge.comparing.leaks import find_leaks, seen_by

    seen = seen_by(judge)
    known = 0 if seen is None else int(find_leaks(judge.name, battles.marks, seen).learned.sum())
    if known:
        say(f"note: {judge.name} learned from {known:,} of these battles, so they flatter it")


def _judged(judge: Judge, table: pd.DataFrame, watched: Watched) -> Floats:
    with watched(judge, len(table)):
        return judge.predict_proba(table)


@dataclass(frozen=True)
class FoldScore:
    """Log losses on one fold.

    Attributes:
        fold: its number.
        battles: how many all have judged.
        log_loss: of each, by name.
    """

    fold: int
    battles: int
    log_loss: Mapping[str, float]


def by_fold(battles: Battles, said: Mapping[str, Floats]) -> list[FoldScore]:
    """Log losses fold by fold, over the labelled battles that all have judged."""
    from judge.metrics import log_loss

    if battles.folds is None:
        return []
    known = ~np.isnan(battles.labels).any(axis=1)
    for proba in said.values():
        known &= ~np.isnan(proba).any(axis=1)
    scores = []
    for fold in range(int(battles.folds.max()) + 1):
        rows = np.flatnonzero(known & (battles.folds == fold))
        losses = {
            name: log_loss(battles.labels[rows], proba[rows]) if len(rows) else float("nan")
            for name, proba in said.items()
        }
        scores.append(FoldScore(fold, len(rows), losses))
    return scores
