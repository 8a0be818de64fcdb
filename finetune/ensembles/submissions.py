"""Submissions: the predictions that a competition is sent, and whether it could be scored.

    checked = check_submission("submission.csv", ids)

The columns are `id,winner_model_a,winner_model_b,winner_tie` and no other, a row a battle, every
battle once, in any order; a row is a distribution without noughts, since a nought where the label
stands costs as much as a scorer lets it.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from judge.errors import InputError
from judge.files.rows import quoted
from judge.predictions import COLUMNS, write_predictions

Floats = npt.NDArray[np.float64]

LEAST = 1e-6
"""No probability of a submission that is written here is smaller."""
_SUM = 1e-6


@dataclass(frozen=True)
class Checked:
    """A submission that can be scored.

    Attributes:
        file: its name.
        ids: of its rows.
        proba: (N, 3), in the order of its rows.
        in_order: whether its rows stand as the battles do.
    """

    file: str
    ids: tuple[str, ...]
    proba: Floats
    in_order: bool

    @property
    def least(self) -> float:
        """The smallest probability."""
        return float(self.proba.min())

    @property
    def means(self) -> tuple[float, float, float]:
        """The mean probabilities of A, B and tie."""
        a, b, tie = self.proba.mean(axis=0).tolist()
        return a, b, tie


def write_submission(file: str | Path, ids: Sequence[str], proba: Floats) -> Checked:
    """Writes a submission, and reads it back to check it.

    Args:
        file: a name that ends in .csv.
        ids: of N battles.
        proba: (N, 3), every battle judged.

    Raises:
        InputError: a battle is unjudged, ids are alike, or the file cannot be written.
    """
    missing = np.flatnonzero(np.isnan(proba).any(axis=1)).tolist()
    if missing:
        raise InputError(
            f"{len(missing):,} battles are unjudged, the first {quoted(ids[missing[0]])}, and a "
            "submission has them all",
            file=file,
            mend="judge them, or score with --fill prior",
        )
    check_ids(ids)
    held = np.maximum(proba, LEAST)
    write_predictions(file, ids, held / held.sum(axis=1, keepdims=True))
    return check_submission(file, ids)


def check_submission(file: str | Path, ids: Sequence[str]) -> Checked:
    """Reads a submission.

    Args:
        file: a CSV file.
        ids: of the battles that it is to be about.

    Raises:
        InputError: it could not be scored; with the row and column of the first fault.
    """
    check_ids(ids)
    names: list[str] = []
    rows: list[list[float]] = []
    wanted, seen = set(ids), dict[str, int]()
    try:
        with Path(file).open(encoding="utf-8", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            _header(next(reader, []), file)
            for cells in reader:
                number = reader.line_num
                names.append(_id(cells, wanted, seen, file, number))
                rows.append(_row(cells, file, number))
    except FileNotFoundError:
        raise InputError("not found", file=file) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot be read ({error})", file=file) from None
    left = [name for name in ids if name not in seen]
    if left:
        what = f"lacks {len(left):,} of {len(ids):,} battles, the first {quoted(left[0])}"
        raise InputError(what, file=file, column="id", mend="give every battle a row")
    return Checked(str(file), tuple(names), np.array(rows), names == list(ids))


def check_ids(ids: Sequence[str]) -> None:
    """Sees to it that a submission about battles of these ids can be.

    Raises:
        InputError: there are none, or two are alike.
    """
    if not len(ids):
        raise InputError("there are no battles, so there is nothing to submit")
    if len(set(ids)) < len(ids):
        seen: set[str] = set()
        twice = next(name for name in ids if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InputError(
            f"id {quoted(twice)} stands more than once among the battles",
            mend="give every battle an id of its own",
        )


def _header(cells: list[str], file: str | Path) -> None:
    if cells != list(COLUMNS):
        found = ",".join(cells)[:100]
        what = f"has the columns {quoted(found)}"
        raise InputError(what, file=file, row=1, mend=f"they are {','.join(COLUMNS)}")


def _id(
    cells: list[str], wanted: set[str], seen: dict[str, int], file: str | Path, number: int
) -> str:
    if len(cells) != len(COLUMNS):
        what = f"has {len(cells)} cells, and there are {len(COLUMNS)} columns"
        raise InputError(what, file=file, row=number)
    name = cells[0]
    if name not in wanted:
        raise InputError(f"{quoted(name)} is no battle's", file=file, row=number, column="id")
    if name in seen:
        what = f"{quoted(name)} stands in row {seen[name]} too"
        raise InputError(what, file=file, row=number, column="id", mend="keep one of them")
    seen[name] = number
    return name


def _row(cells: list[str], file: str | Path, number: int) -> list[float]:
    values = []
    for column, cell in zip(COLUMNS[1:], cells[1:], strict=True):
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not 0.0 <= value <= 1.0:
            what = f"is {quoted(cell)}, which is no probability"
            raise InputError(what, file=file, row=number, column=column)
        if value == 0.0:
            raise InputError(
                "is 0, which costs without end where it is the answer",
                file=file,
                row=number,
                column=column,
                mend=f"say {LEAST:g} at least",
            )
        values.append(value)
    if abs(sum(values) - 1.0) > _SUM:
        what = f"has probabilities that sum to {sum(values):.9g}"
        raise InputError(what, file=file, row=number, mend="scale them to sum to 1")
    return values
