"""What teachers say of battles, in tables: one Parquet file for each teacher.

    logits = read_logits("logits/minilm.parquet")
    values = aligned(logits, battles)            # (N, 3), NaN rows for battles that it has not

A row is a battle, or a battle in one order: `id`, `fold` (the fold whose judge spoke, -1 for none),
`teacher`, `order` (AB, BA, or mean), `logit_a`, `logit_b`, `logit_tie`. Logits are natural-log
scores of the battle as it stands in the file, whichever way round it was shown, up to a constant
for each row; log-probabilities are logits. An unjudged battle's are null. Tables of this package
also have `mark` and `turned` (see `judge.comparing.marks`), by which battles are known by their
text, and logits are turned where the responses of a battle have been exchanged since.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from finetune.folds.table import sound
from finetune.rows.sources import row_number
from judge.battles import ID
from judge.comparing.marks import Marks, battle_marks
from judge.errors import InputError
from judge.files.atomic import explained, written_whole
from judge.files.rows import quoted

Floats = npt.NDArray[np.float64]

COLUMNS = ("id", "fold", "teacher", "order", "logit_a", "logit_b", "logit_tie")
VALUES = COLUMNS[4:]
MEAN = "mean"
ORDERS = ("AB", "BA", MEAN)
VERSION = 1
_KEY = b"arena_judge_logits"
_MEND = "make it with `arena-judge finetune logits`"


@dataclass(frozen=True, eq=False)
class Logits:
    """What a teacher says, in R rows.

    Attributes:
        ids: (R,) of the battles.
        folds: (R,) int16 the fold whose judge spoke; -1 for none.
        teacher: its name.
        orders: (R,) `AB`, `BA` or `mean`.
        values: (R, 3) logits of A, B and tie for the battle as in the file; NaN rows unjudged.
        marks: (R,) uint64 of the battles' texts; None where they are known by id alone.
        turned: (R,) int8 which way round their responses stood (see `judge.comparing.marks`).
        about: what the file says of itself: `judge`, `folds`, `in_fold`, `lengths`, ...
        file: where it was read, for messages.
    """

    ids: tuple[str, ...]
    folds: npt.NDArray[np.int16]
    teacher: str
    orders: tuple[str, ...]
    values: Floats
    marks: npt.NDArray[np.uint64] | None = None
    turned: npt.NDArray[np.int8] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    file: str | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: npt.ArrayLike) -> Logits:
        """The chosen rows."""
        chosen = np.arange(len(self))[np.asarray(rows)]
        return replace(
            self,
            ids=tuple(self.ids[row] for row in chosen.tolist()),
            folds=self.folds[chosen],
            orders=tuple(self.orders[row] for row in chosen.tolist()),
            values=self.values[chosen],
            marks=None if self.marks is None else self.marks[chosen],
            turned=None if self.turned is None else self.turned[chosen],
        )


def logits_of(
    battles: pd.DataFrame,
    values: npt.ArrayLike,
    *,
    teacher: str,
    folds: npt.ArrayLike | None = None,
    order: str = MEAN,
    about: Mapping[str, Any] | None = None,
) -> Logits:
    """A table of what was said of N battles.

    Args:
        battles: a battle table (see `judge.battles`).
        values: (N, 3) logits, NaN rows unjudged.
        teacher, folds, order, about: see `Logits`.
    """
    marks = battle_marks(battles)
    own = np.full(len(battles), -1) if folds is None else np.asarray(folds)
    return Logits(
        tuple(map(sound, battles[ID])),
        own.astype(np.int16),
        teacher,
        (order,) * len(battles),
        np.asarray(values, dtype=np.float64),
        marks.battles,
        marks.turned,
        about or {},
    )


def log_softmax(values: Floats) -> Floats:
    """(N, 3) log-probabilities of logits, A and B added before the tie; NaN rows stay."""
    shifted = values - values.max(axis=1, keepdims=True)
    weights = np.exp(shifted)
    total = (weights[:, 0] + weights[:, 1]) + weights[:, 2]
    return np.asarray(shifted - np.log(total)[:, None])


def probabilities(logits: npt.ArrayLike) -> Floats:
    """(N, 3) probabilities of logits; NaN rows stay."""
    return np.asarray(np.exp(log_softmax(np.asarray(logits, dtype=np.float64))))


def mean_over_orders(logits: Logits) -> Logits:
    """A row a battle: the mean of log-probabilities over its orders, up to a constant. A battle is
    unjudged where one of its orders is."""
    if MEAN in logits.orders and set(logits.orders) == {MEAN}:
        return logits
    keys = _keys(logits)
    codes, first = _codes(keys)
    said = log_softmax(logits.values)
    sums = np.zeros((len(first), 3))
    np.add.at(sums, codes, said)
    counts = np.bincount(codes, minlength=len(first))
    merged = logits.take(first)
    return replace(merged, orders=(MEAN,) * len(first), values=sums / counts[:, None])


def aligned(
    logits: Logits,
    battles: pd.DataFrame,
    file: str | Path | None = None,
    *,
    strict: bool = True,
    marks: Marks | None = None,
) -> Floats:
    """(N, 3) what a teacher says of each battle, the mean over orders; NaN rows for battles that it
    has not, or left unjudged.

    Args:
        logits: the table.
        battles: a battle table; where a battle's responses stand the other way round than when it
            was judged, what is said is turned.
        file: the battles', for messages.
        strict: whether every battle of the table has to be among these.
        marks: of the battles, where they are known already.

    Raises:
        InputError: an id twice, one that no battle has, or that of another text.
    """
    whole = mean_over_orders(logits)
    _once(whole)
    rows: dict[tuple[str, int], int] = {}
    marked = whole.marks is not None
    marks = marks or battle_marks(battles)
    known: dict[str, list[int]] = {}
    own = whole.marks.tolist() if whole.marks is not None else [0] * len(whole)
    for row, (name, mark) in enumerate(zip(whole.ids, own, strict=True)):
        rows[name, mark] = row
        known.setdefault(name, []).append(row)
    found = np.full((len(battles), 3), np.nan)
    taken: dict[int, int] = {}
    theirs = marks.battles.tolist()
    for place, name in enumerate(map(sound, battles[ID])):
        at = rows.get((name, theirs[place] if marked else 0))
        if at is None:
            if name in known and strict:
                what = f"{quoted(name)} was another battle when {_of(whole)} was made"
                number = row_number(battles, place, file)
                mend = "make the logits of this very file"
                raise InputError(what, file=file, row=number, column=ID, mend=mend)
            continue
        if at in taken and not marked:
            before, number = (row_number(battles, one, file) for one in (taken[at], place))
            what = f"{quoted(name)} stands in row {before} too, and logits are known by id"
            mend = "give every battle an id of its own"
            raise InputError(what, file=file, row=number, column=ID, mend=mend)
        taken[at] = place
        found[place] = whole.values[at]
        if whole.turned is not None and whole.turned[at] * marks.turned[place] < 0:
            found[place] = whole.values[at][[1, 0, 2]]
    if strict and len(taken) < len(whole):
        row = next(row for row in range(len(whole)) if row not in taken)
        what = f"{quoted(whole.ids[row])} is no battle of {file or 'these'}"
        mend = "are they the logits of these battles?"
        raise InputError(what, file=whole.file, row=row + 1, column=ID, mend=mend)
    return found


def _of(logits: Logits) -> str:
    return logits.file or f"the table of {logits.teacher}"


def _keys(logits: Logits) -> list[tuple[str, int]]:
    marks = logits.marks.tolist() if logits.marks is not None else [0] * len(logits)
    return list(zip(logits.ids, marks, strict=True))


def _codes(keys: Sequence[tuple[str, int]]) -> tuple[Any, Any]:
    """(R,) a number for each key in order of appearance, and where each is first."""
    numbers: dict[tuple[str, int], int] = {}
    first: list[int] = []
    codes = np.empty(len(keys), dtype=np.int64)
    for row, key in enumerate(keys):
        number = numbers.setdefault(key, len(numbers))
        if number == len(first):
            first.append(row)
        codes[row] = number
    return codes, np.array(first, dtype=np.int64)


def _once(logits: Logits) -> None:
    """Raises where a battle has two rows of one order."""
    seen: dict[tuple[str, int, str], int] = {}
    for row, (key, order) in enumerate(zip(_keys(logits), logits.orders, strict=True)):
        before = seen.setdefault((*key, order), row)
        if before != row:
            what = f"{quoted(key[0])} stands in row {before + 1} too"
            raise InputError(what, file=logits.file, row=row + 1, column=ID, mend="keep one")


# --- files ----------------------------------------------------------------------------------------


def write_logits(path: str | Path, logits: Logits) -> None:
    """Writes a table as Parquet, whole or not at all; the same table makes the same bytes."""
    import pyarrow.parquet as pq

    with written_whole(path) as stream, explained(path):
        pq.write_table(_table(logits), stream, compression="zstd")


def _table(logits: Logits) -> Any:
    import pyarrow as pa

    unjudged = np.isnan(logits.values).any(axis=1)
    columns = {
        "id": pa.array([sound(name) for name in logits.ids], pa.string()),
        "fold": pa.array(logits.folds, pa.int16()),
        "teacher": pa.array([sound(logits.teacher)] * len(logits), pa.string()),
        "order": pa.array(list(logits.orders), pa.string()),
    }
    for place, name in enumerate(VALUES):
        columns[name] = pa.array(logits.values[:, place], pa.float64(), mask=unjudged)
    if logits.marks is not None and logits.turned is not None:
        columns["mark"] = pa.array(logits.marks, pa.uint64())
        columns["turned"] = pa.array(logits.turned, pa.int8())
    about = {"version": VERSION, "teacher": logits.teacher} | dict(logits.about)
    said = json.dumps(about, sort_keys=True, allow_nan=False).encode()
    return pa.table(columns).replace_schema_metadata({_KEY: said})


def read_logits(path: str | Path) -> Logits:
    """The table in a Parquet file.

    Raises:
        InputError: a column is missing or of another type, a value is no number, a battle stands
            twice in one order, or there is more than one teacher; with the row, from 1.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = str(path)
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise InputError("is not there", file=name, mend=_MEND) from None
    except (OSError, pa.ArrowException):
        raise InputError("is no Parquet file that can be read", file=name, mend=_MEND) from None
    for column in COLUMNS:
        if column not in table.column_names:
            has = ", ".join(table.column_names[:12])
            raise InputError(f"has no such column, but {has}", file=name, column=column, mend=_MEND)
    if table.num_rows == 0:
        raise InputError("has no logits", file=name, mend=_MEND)
    ids = _texts(table, "id", name)
    teachers = _texts(table, "teacher", name)
    other = next((row for row, one in enumerate(teachers) if one != teachers[0]), None)
    if other is not None:
        what = f"is {quoted(teachers[other])}, and {quoted(teachers[0])} before"
        mend = "write a file for each teacher"
        raise InputError(what, file=name, row=other + 1, column="teacher", mend=mend)
    orders = _texts(table, "order", name)
    wrong = next((row for row, one in enumerate(orders) if one not in ORDERS), None)
    if wrong is not None:
        what = f"is {quoted(orders[wrong])}, and orders are {', '.join(ORDERS)}"
        raise InputError(what, file=name, row=wrong + 1, column="order")
    marked = {"mark", "turned"} <= set(table.column_names)
    logits = Logits(
        tuple(ids),
        _whole(table, "fold", name, pa.int16()).astype(np.int16),
        teachers[0],
        tuple(orders),
        _values(table, name),
        _whole(table, "mark", name, pa.uint64()).astype(np.uint64) if marked else None,
        _whole(table, "turned", name, pa.int8()).astype(np.int8) if marked else None,
        _about(table, name),
        name,
    )
    _once(logits)
    return logits


def _about(table: Any, file: str) -> dict[str, Any]:
    said = (table.schema.metadata or {}).get(_KEY)
    if said is None:
        return {}
    try:
        found = json.loads(said)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError("says nothing of itself that can be read", file=file, mend=_MEND)
    if found.get("version") != VERSION:
        what = "was written by another version of arena-judge"
        raise InputError(what, file=file, mend="make the logits anew")
    return found


def _texts(table: Any, column: str, file: str) -> list[str]:
    cells = table.column(column).to_pylist()
    for row, cell in enumerate(cells):
        if not isinstance(cell, str) or not cell:
            raise InputError("is no text", file=file, row=row + 1, column=column)
    return list(cells)


def _whole(table: Any, column: str, file: str, kind: Any) -> npt.NDArray[Any]:
    import pyarrow as pa

    try:
        cells = table.column(column).cast(kind)
        if cells.null_count:
            raise pa.ArrowInvalid("empty cells")
    except pa.ArrowException:
        what = f"is not of the type {kind} throughout"
        raise InputError(what, file=file, column=column, mend=_MEND) from None
    return np.asarray(cells.to_numpy())


def _values(table: Any, file: str) -> Floats:
    """(R, 3); a row is null throughout, or numbers throughout."""
    import pyarrow as pa

    found = np.empty((table.num_rows, 3))
    null = np.empty((table.num_rows, 3), dtype=np.bool_)
    for place, column in enumerate(VALUES):
        try:
            cells = table.column(column).cast(pa.float64())
        except pa.ArrowException:
            raise InputError("holds what is no number", file=file, column=column) from None
        null[:, place] = cells.is_null().to_numpy()
        found[:, place] = cells.to_numpy()
    bad = np.argwhere((null != null[:, :1]) | (~np.isfinite(found) & ~null))
    if len(bad):
        row, place = map(int, bad[0])
        what = f"is {found[row, place]:g}, and logits are numbers (or all three empty)"
        raise InputError(what, file=file, row=row + 1, column=VALUES[place])
    return found
