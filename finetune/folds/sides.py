"""The two sides of a fold: what its judge learns from, and what it is measured on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from finetune.folds.table import read_folds
from finetune.rows.sources import Pool
from judge.errors import InputError

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Fold:
    """A fold of N battles.

    Attributes:
        number: which one, from 0.
        fingerprint: of the folds.
        learned: (N,) what its judge may learn from.
        held: (N,) what it is measured on.
    """

    number: int
    fingerprint: str
    learned: Bools
    held: Bools

    @property
    def name(self) -> str:
        """What its battles are called in tables."""
        return f"fold {self.number}"


def read_fold(folder: str, number: int, pool: Pool, file: str) -> Fold:
    """The sides that battles are on.

    Extras are on the side that is learned from, unless the folds have them on the other. What is
    nearly a battle that is measured on, or shares its prompt, goes later (see
    `finetune.rows.sifting`).

    Args:
        folder: of the folds.
        number: of the fold, from 0.
        pool: N battles; the main file's are all in the folds.
        file: the main one, for messages.

    Raises:
        InputError: there is no such fold, it holds out none of the battles, or a battle of the main
            file is not in the folds.
    """
    folds = read_folds(folder)
    if not 0 <= number < folds.k:
        raise InputError(f"has folds 0 to {folds.k - 1}, and no fold {number}", file=folder)
    main = np.flatnonzero(pool.source == 0)
    places = folds.places(pool.battles.iloc[main], file, pool.marks.battles[main])
    may = folds.learned(number)
    learned = ~np.isin(pool.marks.battles, folds.marks[~may])
    learned[main] = may[places]
    held = np.zeros(len(pool), dtype=np.bool_)
    held[main] = folds.fold[places] == number
    if not held.any():
        raise InputError(f"has no battle of fold {number}", file=file, mend="name the folds' file")
    return Fold(number, folds.fingerprint, learned, held)
