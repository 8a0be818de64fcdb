"""What a statistical judge is made of: the battles of the files that a user names, and which of
them it learns the strength from, the head from, and is measured on.

    ground = read_ground(told)
    sides = sides_of(ground, fold)
    ground.main.table.take(sides.rows)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from finetune.folds.sides import Fold, read_fold
from finetune.folds.table import TABLE as FOLDS_TABLE
from finetune.measuring.labelled import Measured, labelled_of
from finetune.rows.data import Extra, TrainingSet, exchanged_responses, training_of
from finetune.rows.shuffling import turns
from finetune.rows.sources import Pool, read_pool
from finetune.statistical.authors import SOFTENING
from finetune.statistical.strength import TREES
from finetune.statistical.tables import Table, prepare
from judge.battles import MODELS, iter_battles
from judge.comparing.marks import Marks, joined
from judge.errors import InputError
from judge.files.atomic import STANDARD_STREAM

CROSSINGS = 5

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Names = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Told:
    """What a judge is told.

    Attributes:
        battles: the file that it is for and learns from.
        head: natural battles for the tie and the scale; None for the same.
        extras: files that the strength is learned from besides.
        held_out: files that it is measured on; their prompts are not learned from.
        folds: the folder of folds, where there is a judge for each.
        soften: what the models' strengths say of a label, from 0 to 1.
        anonymous: names that stand for no one model.
        crossings: folds in which the strengths are learned that the head is learned from, where
            both learn from the same battles.
        trees: of the forests together.
        seed: of folds, forests and of which responses of extras are exchanged.
        name: what the judge is called in tables.
    """

    battles: str
    head: str | None = None
    extras: tuple[Extra, ...] = ()
    held_out: tuple[str, ...] = ()
    folds: str | None = None
    soften: float = SOFTENING
    anonymous: tuple[str, ...] = ()
    crossings: int = CROSSINGS
    trees: int = TREES
    seed: int = 0
    name: str | None = None

    @property
    def learned_from(self) -> list[Path]:
        """The files that its weights depend on."""
        files = [self.battles, *([] if self.head is None else [self.head])]
        files += [extra.file for extra in self.extras]
        files += [] if self.folds is None else [str(Path(self.folds) / FOLDS_TABLE)]
        return [Path(file) for file in files]

    @property
    def read(self) -> list[str]:
        """All files that are read."""
        return [*map(str, self.learned_from), *self.held_out]


@dataclass(frozen=True, eq=False)
class Source:
    """N battles that are learned from.

    Attributes:
        files: that they are from.
        pool: as they stand there.
        seed: of which responses of all files but the first are exchanged.
        workers: threads.
    """

    files: tuple[str, ...]
    pool: Pool
    seed: int
    workers: int

    @cached_property
    def turned(self) -> Bools:
        """(N,) those whose responses are exchanged, as `finetune.rows.data` does."""
        return np.asarray(turns(self.pool.marks, self.seed) & (self.pool.source > 0))

    @cached_property
    def table(self) -> Table:
        """Their features, with exchanged responses."""
        battles = exchanged_responses(self.pool.battles, self.turned)
        return prepare(battles, self.pool.labels, workers=self.workers)

    @cached_property
    def models(self) -> Names:
        """(N, 2) who wrote the responses, exchanged with them; None where that is not said."""
        found: list[Names] = []
        for file in self.files:
            for battles in iter_battles(file, labels=False):
                names = np.full((len(battles), 2), None, dtype=object)
                for side, column in enumerate(MODELS):
                    if column in battles.columns:
                        names[:, side] = [name or None for name in battles[column]]
                found.append(names)
        names = np.concatenate(found)
        return np.where(self.turned[:, None], names[:, ::-1], names)


@dataclass(frozen=True)
class Ground:
    """All that is read.

    Attributes:
        told: what is asked for.
        main: the battles and the extras.
        head: natural battles; None where they are the battles themselves.
        held_out: labelled ones to measure on.
        apart: marks of these.
    """

    told: Told
    main: Source
    head: Source | None
    held_out: tuple[Measured, ...]
    apart: Marks


@dataclass(frozen=True)
class Sides:
    """What one judge learns from, and what it is measured on.

    Attributes:
        learned: the battles that the strength is learned from, `rows` of the main ones.
        head: those that the head is learned from, `head_rows` of the natural ones; None where both
            are the same.
        fold: the fold that is held out, with its labelled battles first in `measured`.
        measured: what the judge is measured on in the end.
    """

    learned: TrainingSet
    rows: Ints
    head: TrainingSet | None
    head_rows: Ints
    fold: Fold | None
    measured: tuple[Measured, ...]


def read_ground(told: Told, *, workers: int = 1) -> Ground:
    """Reads what is named.

    Raises:
        InputError: a file cannot be read, has no labels or battles, or is named twice.
    """
    files = (told.battles, *(extra.file for extra in told.extras))
    for file in (*files, told.head, *told.held_out):
        if file == STANDARD_STREAM:
            mend = "write it to a file, by which it is known again"
            raise InputError("cannot be learned from", file="standard input", mend=mend)
    _named_once([*files, *([] if told.head is None else [told.head]), *told.held_out])
    main = _source(files, told.seed, workers)
    head = None if told.head is None else _source((told.head,), told.seed, workers)
    held = [read_pool([file], workers=workers) for file in told.held_out]
    apart = read_pool(told.held_out, labelled=False, workers=workers).marks
    measured = tuple(
        labelled_of(pool.names[0], pool, file)
        for pool, file in zip(held, told.held_out, strict=True)
    )
    return Ground(told, main, head, measured, apart)


def _named_once(files: Sequence[str]) -> None:
    paths = [Path(file).resolve() for file in files]
    for place, path in enumerate(paths):
        if path in paths[:place]:
            raise InputError("is named twice", file=files[place], mend="name every file once")


def _source(files: Sequence[str], seed: int, workers: int) -> Source:
    pool = read_pool(files, workers=workers)
    for number, file in enumerate(files):
        if not (pool.source == number).any():
            raise InputError("has no battles", file=file)
    return Source(tuple(files), pool, seed, workers)


def sides_of(ground: Ground, number: int | None = None) -> Sides:
    """What a judge learns from and is measured on.

    Nothing that is measured on, nor nearly one of these battles, nor their prompts are learned
    from; nor does the strength learn from prompts of natural battles that the head learns from.

    Args:
        ground: what is read.
        number: the fold that is held out; None without folds.

    Raises:
        InputError: nothing is left to learn from, or too few prompts; or the folds are of others.
    """
    told, pool = ground.told, ground.main.pool
    fold, apart, measured = None, ground.apart, ground.held_out
    rows = np.arange(len(pool))
    if told.folds is not None and number is not None:
        fold = read_fold(told.folds, number, pool, told.battles)
        held = pool.take(np.flatnonzero(fold.held))
        apart = joined([apart, held.marks])
        measured = (labelled_of(fold.name, held, told.battles), *measured)
        rows = np.flatnonzero(fold.learned)
    head, head_rows = None, np.zeros(0, dtype=np.int64)
    if ground.head is not None and told.head is not None:
        head = training_of(ground.head.pool, apart, seed=told.seed, file=told.head)
        head_rows = head.places
        apart = joined([apart, ground.head.pool.marks])
    learned = training_of(pool.take(rows), apart, told.extras, seed=told.seed, file=told.battles)
    _enough(learned if head is None else head, told)
    return Sides(learned, rows[learned.places], head, head_rows, fold, measured)


def _enough(natural: TrainingSet, told: Told) -> None:
    """Sees to it that the head can be learned from some prompts and measured on others."""
    prompts = np.unique(natural.prompts[natural.source == 0])
    if len(prompts) < 2:
        what = (
            "has battles about one prompt only to learn from"
            if len(prompts)
            else ("leaves no battle to learn from")
        )
        mend = "ties and how sure to be are learned from some prompts and tried on others: "
        mend += "name battles about more" + ("" if told.head else ", or natural ones with --head")
        raise InputError(what, file=told.head or told.battles, mend=mend)
