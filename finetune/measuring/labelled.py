"""Labelled battles that judges are measured on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from finetune.rows.sifting import kin
from finetune.rows.sources import Pool, read_pool
from judge.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Measured:
    """Labelled battles that are measured on.

    Attributes:
        name: what they are called.
        battles, labels, weights: N of them.
        prompts: (N,) a number for each prompt.
    """

    name: str
    battles: pd.DataFrame
    labels: Floats
    weights: Floats
    prompts: Ints

    def __len__(self) -> int:
        return len(self.battles)


def read_measured(file: str, *, workers: int = 1) -> Measured:
    """The labelled battles of a file.

    Raises:
        InputError: it cannot be read, or has none.
    """
    pool = read_pool([file], workers=workers)
    return labelled_of(pool.names[0], pool, file)


def labelled_of(name: str, pool: Pool, file: str) -> Measured:
    """The labelled battles of a pool.

    Raises:
        InputError: there are none.
    """
    pool = pool.take(np.flatnonzero(~np.isnan(pool.labels).any(axis=1)))
    if not len(pool):
        raise InputError("has no labelled battles to measure on", file=file)
    return Measured(name, pool.battles, pool.labels, np.ones(len(pool)), kin(pool.marks))
