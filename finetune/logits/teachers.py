"""What teachers say of the battles that a student learns from.

    teachers = read_teachers(["logits/*.parquet"], pool)
    teachers.values                  # (M, N, 3) logits of M teachers; NaN rows where one is silent

Tables are those of `finetune.logits.table`; those that call their teacher the same are parts of
one.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from finetune.logits.table import Logits, aligned, log_softmax, read_logits
from finetune.rows.sources import Pool
from judge.errors import InputError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

IN_FOLD = "in_fold"


@dataclass(frozen=True)
class Teachers:
    """What M teachers say of N battles.

    Attributes:
        names: of the teachers.
        values: (M, N, 3) log-probabilities of A, B and tie; NaN rows where one says nothing.
        files: the tables.
    """

    names: tuple[str, ...]
    values: Floats
    files: tuple[str, ...]

    @property
    def known(self) -> Bools:
        """(N,) battles that any of them speaks of."""
        return np.asarray((~np.isnan(self.values).any(axis=2)).any(axis=0))

    def take(self, rows: npt.NDArray[np.int64], turned: Bools) -> Teachers:
        """What they say of the chosen battles, some of whose responses are exchanged."""
        values = self.values[:, rows]
        return replace(self, values=np.where(turned[:, None], values[..., [1, 0, 2]], values))


def mean_teacher(values: Floats) -> Floats:
    """(1, N, 3) log-probabilities of one teacher whose probabilities are the mean of those of
    (M, N, 3) that speak."""
    speaks = np.asarray(~np.isnan(values).any(axis=2))
    counts = np.maximum(speaks.sum(axis=0), 1)
    summed = np.where(speaks[..., None], np.exp(values), 0.0).sum(axis=0)
    with np.errstate(divide="ignore"):
        found = np.log(summed / counts[:, None])
    found[~speaks.any(axis=0)] = np.nan
    return np.asarray(np.maximum(found, np.log(np.finfo(np.float64).tiny)))[None]


def tables_of(patterns: Sequence[str]) -> list[str]:
    """The files that patterns name, each once, in order.

    Raises:
        InputError: a pattern names none.
    """
    found: list[str] = []
    for pattern in patterns:
        named = sorted(glob.glob(pattern)) or [pattern]
        if named == [pattern] and glob.has_magic(pattern):
            raise InputError("names no table of logits", file=pattern, mend="name one: --teacher")
        found += named
    return list(dict.fromkeys(found))


def read_teachers(patterns: Sequence[str], pool: Pool, *, in_fold: bool = False) -> Teachers:
    """What the tables that patterns name say of the battles of a pool, as they stand in its files.

    Args:
        patterns: files, with `*` for many.
        pool: N battles.
        in_fold: take teachers too that have learned from what they speak of.

    Raises:
        InputError: there are none, one cannot be read, has learned from what it labels, or speaks
            of none of the battles.
    """
    files = tables_of(patterns)
    tables = [read_logits(file) for file in files]
    for table in tables:
        if table.about.get(IN_FOLD) and not in_fold:
            what = f"has logits of {table.teacher} on battles that it has learned from"
            mend = "make them out of fold with `finetune logits --folds`, or add --in-fold"
            raise InputError(what, file=table.file, mend=mend)
    names = tuple(dict.fromkeys(table.teacher for table in tables))
    values = np.full((len(names), len(pool), 3), np.nan)
    for table in tables:
        _fill(values[names.index(table.teacher)], table, pool)
    return Teachers(names, values, tuple(files))


def _fill(values: Floats, table: Logits, pool: Pool) -> None:
    """Puts what a table says where it belongs."""
    file = pool.names[0] if len(pool.names) == 1 else None
    said = aligned(table, pool.battles, file, strict=False, marks=pool.marks)
    speaks = ~np.isnan(said).any(axis=1)
    if not speaks.any():
        mend = "are they the logits of these battles?"
        raise InputError("speaks of none of the battles", file=table.file, mend=mend)
    twice = speaks & ~np.isnan(values).any(axis=1)
    if twice.any():
        name = str(pool.battles["id"].iloc[int(np.flatnonzero(twice)[0])])
        what = f"speaks of {name}, of which another table of {table.teacher} has spoken"
        mend = "give every teacher a name of its own, or every shard battles of its own"
        raise InputError(what, file=table.file, mend=mend)
    values[speaks] = log_softmax(said[speaks])


__all__ = ["Teachers", "mean_teacher", "read_teachers", "tables_of"]
