"""Whether an average is worth as much as what it is made of: both on the same labelled battles.

ground = read_ground(["dev.csv"])
said = ground.said_by(folder)
trial = tried(ground, names, of_each, averaged)
trial.loses
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.choosing import Gap, paired_gap
from judge.comparing.marks import Marks
from judge.errors import ArenaJudgeError, InputError
from judge.judges.classifier_settings import DEFAULT, ClassifierSettings

if TYPE_CHECKING:
    from finetune.measuring.scoring import Score
    from judge.comparing.leaks import Seen
    from judge.judges.base import Judge

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Watched = Callable[["Judge", int], AbstractContextManager[None]]

AVERAGE, MEAN = "average", "mean of their probabilities"
LEAST = 1e-4
"""Nats by which an average may be worse than what it is made of: rounding, and no loss."""


def unwatched(judge: Judge, battles: int) -> AbstractContextManager[None]:
    """Nobody looks."""
    return nullcontext()


@dataclass(frozen=True)
class Ground:
    """Labelled battles that judges are tried on.

    Attributes:
        names: of the files.
        battles: N of them.
        labels: (N, 3).
        prompts: (N,) a number for each prompt.
        marks: of each.
    """

    names: tuple[str, ...]
    battles: pd.DataFrame
    labels: Floats
    prompts: Ints
    marks: Marks

    def __len__(self) -> int:
        return len(self.battles)

    def said_by(
        self,
        folder: Path,
        running: ClassifierSettings = DEFAULT,
        watched: Watched = unwatched,
    ) -> Floats:
        """(N, 3) what the judge in a folder says of them; NaN rows unjudged. `watched` is told of
        it and of N, and surrounds the judging."""
        from judge.judges import load_judge

        with closing(load_judge(folder, running=running)) as judge, watched(judge, len(self)):
            return judge.predict_proba(self.battles)

    def known_to(self, seen: Seen) -> int:
        """How many of them are among what was learned from."""
        from judge.comparing.leaks import find_leaks

        return int(find_leaks("", self.marks, seen).learned.sum())


def read_ground(files: Sequence[str], workers: int = 1) -> Ground:
    """The labelled battles of files.

    Raises:
        InputError: a file cannot be read, or none has a label.
    """
    from finetune.rows.sifting import kin
    from finetune.rows.sources import read_pool

    pool = read_pool(list(files), workers=workers)
    pool = pool.take(np.flatnonzero(~np.isnan(pool.labels).any(axis=1)))
    if not len(pool):
        raise InputError("has no labelled battles to try judges on", file=files[0])
    return Ground(tuple(pool.names), pool.battles, pool.labels, kin(pool.marks), pool.marks)


@dataclass(frozen=True)
class Trial:
    """What came of a trial.

    Attributes:
        scores: of the average, of the mean of probabilities, and of each judge.
        against_each: the average's log loss less the judges', the mean over them, paired.
        against_mean: the same less that of the mean of their probabilities, which asks all of them.
    """

    scores: tuple[Score, ...]
    against_each: Gap
    against_mean: Gap

    @cached_property
    def loses(self) -> bool:
        """Whether the average is worse than its judges are on the mean."""
        return self.against_each.value > LEAST


class Refused(ArenaJudgeError):
    """An average that loses; nothing was written."""

    exit_code = 1

    def __init__(self, trial: Trial) -> None:
        gap = trial.against_each
        super().__init__(
            f"the average loses against the judges that it is made of, by {gap.value:.4f} "
            f"[{gap.low:.4f}, {gap.high:.4f}], and is not written; try --how, --rank or --weights, "
            "or add --force-merge"
        )
        self.trial = trial


def tried(
    ground: Ground, names: Sequence[str], said: Floats, averaged: Floats, *, seed: int = 0
) -> Trial:
    """Compares an average with its judges.

    Args:
        ground: the battles.
        names: of the judges.
        said: (M, N, 3) what each of them says.
        averaged: (N, 3) what the average says.
        seed: of the bootstrap.

    Raises:
        ArenaJudgeError: no battle was judged by all.
    """
    from finetune.measuring.labelled import Measured
    from finetune.measuring.scoring import score
    from judge.metrics import log_loss_rows

    there = ~np.isnan(averaged).any(axis=1) & ~np.isnan(said).any(axis=(0, 2))
    if not there.any():
        raise ArenaJudgeError("no battle was judged by all, so nothing can be said of the average")
    rows = np.flatnonzero(there)
    labels, prompts = ground.labels[rows], ground.prompts[rows]

    def scored(name: str, proba: Floats) -> Score:
        of = Measured(name, ground.battles.iloc[rows], labels, np.ones(len(rows)), prompts)
        return score(of, proba, seed)

    each = [log_loss_rows(labels, proba[rows]) for proba in said]
    mean = said[:, rows].mean(axis=0)
    own = log_loss_rows(labels, averaged[rows])
    return Trial(
        (
            scored(AVERAGE, averaged[rows]),
            scored(MEAN, mean),
            *(scored(name, proba[rows]) for name, proba in zip(names, said, strict=True)),
        ),
        paired_gap(own, np.mean(each, axis=0), prompts),
        paired_gap(own, log_loss_rows(labels, mean), prompts),
    )
