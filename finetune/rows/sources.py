"""The files that a judge is trained on, read into one table with the marks of its battles."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.battles import ID, iter_battles, labels
from judge.comparing.marks import Marks, battle_marks, joined
from judge.errors import InputError
from judge.files.rows import as_text, quoted
from judge.files.turns import TEXTS
from judge.parallel import ordered_map

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

COLUMNS = (ID, *TEXTS)
WEIGHT = "weight"
"""A column that says what a battle counts for, beside what its file does."""
_WEIGHTED = re.compile(r"([^*]*)\*(.+)", re.DOTALL)


@dataclass(frozen=True)
class Extra:
    """A file that is trained on beside the main one.

    Attributes:
        file: its path.
        weight: what a battle of it counts for, where one of the main file counts 1.
    """

    file: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight > 0):
            mend = f"write 0.5*{self.file} for half"
            raise InputError(f"weight {self.weight:g} is not above 0", file=self.file, mend=mend)


def parse_extra(text: str) -> Extra:
    """An extra file as it is written on the command line, `FILE` or `WEIGHT*FILE`.

    Raises:
        InputError: the weight is none.
    """
    found = _WEIGHTED.fullmatch(text)
    if found is None or Path(text).exists():
        return Extra(text)
    try:
        weight = float(found[1])
    except ValueError:
        mend = "write 0.5*FILE for half"
        raise InputError(f"{found[1]!r} is no weight", file=found[2], mend=mend) from None
    return Extra(found[2], weight)


@dataclass(frozen=True)
class Pool:
    """N battles of several files, those of a file side by side.

    Attributes:
        battles: their ids and texts.
        labels: (N, 3) in the order A, B, tie; NaN rows unlabelled.
        marks: of each; prompts without text are marked apart, since they are about nothing.
        source: (N,) which file each is from.
        rows: (N,) its number there, from 0.
        names: what the files are called.
        weights: (N,) what each counts for, as its file says; 1 where that says nothing.
    """

    battles: pd.DataFrame
    labels: Floats
    marks: Marks
    source: Ints
    rows: Ints
    names: tuple[str, ...]
    weights: Floats

    def __len__(self) -> int:
        return len(self.source)

    def take(self, rows: Ints) -> Pool:
        """Those of the chosen battles."""
        return Pool(
            self.battles.iloc[rows].reset_index(drop=True),
            self.labels[rows],
            self.marks.take(rows),
            self.source[rows],
            self.rows[rows],
            self.names,
            self.weights[rows],
        )


def read_pool(
    files: Sequence[str], *, labelled: bool = True, chunk_rows: int = 2048, workers: int = 1
) -> Pool:
    """All battles of files.

    Args:
        files: of battles; none may be named twice.
        labelled: whether each must have labels.
        chunk_rows: battles that are marked at once.
        workers: threads that mark them.

    Raises:
        InputError: a file cannot be read, has no labels, or is named twice.
    """
    paths = [file if file == "-" else str(Path(file).resolve()) for file in files]
    for place, path in enumerate(paths):
        if path in paths[:place]:
            raise InputError("is named twice", file=files[place], mend="name every file once")
    tables, said, marks, weights = [], [], [], []
    counts = []
    for file in files:
        count = 0
        with closing(iter_battles(file, chunk_rows=chunk_rows)) as batches:  # type: ignore[type-var]
            for table, marked in ordered_map(_marked, batches, workers):
                tables.append(table[list(COLUMNS)])
                said.append(_labels(file, table, labelled))
                marks.append(marked)
                weights.append(weights_of(file, table))
                count += len(table)
        counts.append(count)
    battles = pd.concat(tables, ignore_index=True) if tables else _no_battles()
    return Pool(
        battles,
        np.concatenate(said) if said else np.zeros((0, 3)),
        about_something(joined(marks)),
        np.repeat(np.arange(len(files)), counts),
        np.concatenate([np.arange(count) for count in (*counts, 0)]),
        _names(files),
        np.concatenate(weights) if weights else np.ones(0),
    )


def weights_of(file: str, battles: pd.DataFrame) -> Floats:
    """(N,) what a table's column says; an empty cell counts 1.

    Raises:
        InputError: a cell that is no number above 0.
    """
    found = np.ones(len(battles))
    if WEIGHT not in battles.columns:
        return found
    for place, cell in enumerate(battles[WEIGHT].tolist()):
        text = as_text(cell)
        if text is None or not text.strip():
            continue
        try:
            found[place] = float(text)
        except ValueError:
            found[place] = np.nan
        if not (math.isfinite(found[place]) and found[place] > 0):
            what = f"is {quoted(cell)}, and a battle counts for a number above 0"
            row = row_number(battles, place, file)
            raise InputError(what, file=file, row=row, column=WEIGHT, mend="or rename the column")
    return found


def row_number(battles: pd.DataFrame, row: int, file: str | Path | None = None) -> int:
    """The row of a file, as an editor counts, that a battle table's row is from: in CSV the header
    is row 1."""
    header = 0 if {".jsonl", ".ndjson", ".parquet"} & set(Path(str(file)).suffixes) else 1
    return int(battles.index[row]) + 1 + header


def _marked(battles: pd.DataFrame) -> tuple[pd.DataFrame, Marks]:
    return battles, battle_marks(battles)


def _labels(file: str, battles: pd.DataFrame, wanted: bool) -> Floats:
    found = labels(battles)
    if found is None and wanted:
        mend = "add winner_model_a, winner_model_b and winner_tie, or winner"
        raise InputError("has no labels, and they are what is learned", file=file, mend=mend)
    return np.full((len(battles), 3), np.nan) if found is None else found


def about_something(marks: Marks) -> Marks:
    """Battles whose prompt says nothing share no prompt."""
    nothing = battle_marks(_no_battles(("",))).prompts[0]
    prompts = np.where(marks.prompts == nothing, marks.battles, marks.prompts)
    return Marks(prompts, marks.battles, marks.turned, marks.sketches)


def _no_battles(texts: tuple[str, ...] = ()) -> pd.DataFrame:
    """A table of no battles, or of one that has nothing but the texts given."""
    rows = [("", texts, texts, texts)] if texts else []
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)


def _names(files: Sequence[str]) -> tuple[str, ...]:
    """By the file's name, by its path where two are called alike."""
    names = [Path(file).name for file in files]
    return tuple(
        file if names.count(name) > 1 else name for file, name in zip(files, names, strict=True)
    )
