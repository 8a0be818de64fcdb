"""From the label columns of a table to a distribution over A, B and tie.

Files say who won in three ways: a probability for each outcome, how many people voted for each,
or a word. Where a table has several, a row takes the first of them that says something.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from judge.errors import InputError
from judge.files.rows import Rows, quoted

Floats = npt.NDArray[np.float64]

LABELS = ("label_a", "label_b", "label_tie")
PROBABILITIES = ("winner_model_a", "winner_model_b", "winner_tie")
VOTES = ("votes_a", "votes_b", "votes_tie")
WINNER = "winner"
LABEL_COLUMNS = frozenset((*LABELS, *PROBABILITIES, *VOTES, WINNER))

# Shares rounded to two digits, in threes, are off by up to this.
_LABEL_TOLERANCE = 1e-2
_A, _B, _TIE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
_NONE = (np.nan, np.nan, np.nan)
_OUTCOMES = {
    "a": _A,
    "model_a": _A,
    "b": _B,
    "model_b": _B,
    "tie": _TIE,
    "both": _TIE,
    "bothbad": _TIE,
    "both_bad": _TIE,
    "tie (bothbad)": _TIE,
    "": _NONE,
}
_WORDS = {"true": 1.0, "false": 0.0, "": np.nan, "null": np.nan, "none": np.nan}
_ALLOWED = "write a, b or tie (or model_a, model_b, both, tie (bothbad)), or leave it empty"


def read_labels(rows: Rows) -> Floats | None:
    """The (N, 3) distributions over A, B and tie, NaN rows for the unlabelled; None if the table
    has no label columns.

    Raises:
        InputError: for a label that isn't one, or a column that lacks its companions.
    """
    found = [
        read_probabilities(rows, columns, tolerance=_LABEL_TOLERANCE)
        for columns in (LABELS, PROBABILITIES)
        if _has(rows, columns)
    ]
    votes = read_votes(rows)
    if votes is not None:
        found.append(_shares(votes))
    if WINNER in rows.columns:
        found.append(_winners(rows))
    if not found:
        return None
    labels = found[0]
    for other in found[1:]:
        labels = np.where(np.isnan(labels), other, labels)
    return labels


def read_votes(rows: Rows) -> Floats | None:
    """The (N, 3) numbers of people who chose A, B and tie, NaN rows where that is not said; None if
    the table has no such columns.

    Raises:
        InputError: for what is no number of votes, or a column that lacks its companions.
    """
    if not _has(rows, VOTES):
        return None
    votes = _numbers(rows, VOTES)
    _refuse(rows, VOTES, votes, (votes < 0) | np.isinf(votes), "is not a number of votes")
    return votes


def read_probabilities(rows: Rows, columns: Sequence[str], *, tolerance: float) -> Floats:
    """Three columns of probabilities as an (N, 3) array, NaN rows where all three are empty.

    Args:
        rows: the rows, with the three columns among them.
        columns: the names for A, B and tie.
        tolerance: how far a row's sum may be from 1; rows are then scaled to sum to 1.

    Raises:
        InputError: for a cell that is no number from 0 to 1, a row filled in part, or a sum off 1.
    """
    values = _numbers(rows, columns)
    _refuse(rows, columns, values, (values < 0) | (values > 1), "is not from 0 to 1")
    sums = values.sum(axis=1)
    off = np.abs(sums - 1) > tolerance * (1 + 1e-9)  # three times 0.33 is off by a hair more
    if off.any():
        at = int(off.argmax())
        message = f"sums with {columns[1]} and {columns[2]} to {sums[at]:.8g}, not to 1"
        raise rows.error(message, at, columns[0], "give each row probabilities that sum to 1")
    return scaled(values)


def scaled(proba: Floats) -> Floats:
    """(N, 3) rows made to sum to 1; those that do within 1e-9 stay as they are, digit by digit."""
    sums = proba.sum(axis=1, keepdims=True)
    result: Floats = proba / np.where(np.abs(sums - 1) <= 1e-9, 1.0, sums)
    return result


def _has(rows: Rows, columns: Sequence[str]) -> bool:
    missing = [name for name in columns if name not in rows.columns]
    if missing and len(missing) < len(columns):
        there = next(name for name in columns if name in rows.columns)
        mend = f"add it, or rename {there} if it is no label"
        raise InputError(f"is missing beside {there}", file=rows.file, column=missing[0], mend=mend)
    return not missing


def _shares(votes: Floats) -> Floats:
    """Of the voters; NaN where nobody voted."""
    total = votes.sum(axis=1, keepdims=True)
    shares: Floats = votes / np.where(total > 0, total, np.nan)
    return shares


def _winners(rows: Rows) -> Floats:
    outcomes = []
    for at, cell in enumerate(rows.columns[WINNER]):
        outcome = _outcome(cell)
        if outcome is None:
            raise rows.error(f"is {quoted(cell)}, which is no winner", at, WINNER, _ALLOWED)
        outcomes.append(outcome)
    return np.array(outcomes)


def _outcome(cell: object) -> tuple[float, float, float] | None:
    if isinstance(cell, str):
        return _OUTCOMES.get(cell.strip().lower())
    return _NONE if cell is None or cell != cell else None  # NaN alone differs from itself


# --- numbers --------------------------------------------------------------------------------------


def _numbers(rows: Rows, columns: Sequence[str]) -> Floats:
    """(N, columns); a row is NaN throughout or nowhere."""
    values = np.column_stack([_column(rows, name) for name in columns])
    empty = np.isnan(values)
    partly = empty.any(axis=1) & ~empty.all(axis=1)
    if partly.any():
        at = int(partly.argmax())
        filled, hollow = int(empty[at].argmin()), int(empty[at].argmax())
        message = f"is empty where {columns[filled]} is not"
        raise rows.error(message, at, columns[hollow], "fill in all three or none")
    return values


def _column(rows: Rows, name: str) -> Floats:
    cells = rows.columns[name]
    try:
        return np.array([float(cell) for cell in cells])  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return np.array([_number(rows, at, name, cell) for at, cell in enumerate(cells)])


def _number(rows: Rows, at: int, name: str, cell: object) -> float:
    if isinstance(cell, str) and cell.strip().lower() in _WORDS:
        return _WORDS[cell.strip().lower()]
    if cell is None:
        return np.nan
    try:
        return float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise rows.error(f"is {quoted(cell)}, not a number", at, name, "write a number") from None


def _refuse(
    rows: Rows, columns: Sequence[str], values: Floats, wrong: npt.NDArray[np.bool_], what: str
) -> None:
    if wrong.any():
        at, column = (int(place) for place in np.argwhere(wrong)[0])
        raise rows.error(f"is {values[at, column]:g}, which {what}", at, columns[column])
