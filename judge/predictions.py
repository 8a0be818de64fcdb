"""Predictions: a file of `id,winner_model_a,winner_model_b,winner_tie`.

Rows stand in the order of the battles and sum to 1 within 1e-9; an unjudged battle's three cells
are empty. Numbers are written with as many digits as it takes to read them back the same.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.errors import ArenaJudgeError, InputError
from judge.files.atomic import explained, is_stream, written_whole
from judge.files.labelling import PROBABILITIES, Floats, read_probabilities, scaled
from judge.files.rows import as_text, quoted, stream_rows

COLUMNS = ("id", *PROBABILITIES)
_TOLERANCE = 1e-6


def read_predictions(path: str | Path) -> pd.DataFrame:
    """The predictions in a file, or on standard input for "-".

    Returns:
        `id` (str), the three probabilities (float64, rows summing to 1, NaN rows unjudged), then
        the file's other columns as they are.

    Raises:
        InputError: for what is missing, or no distribution, with its row and column.
    """
    tables = []
    for rows in stream_rows(path, required=COLUMNS):
        proba = read_probabilities(rows, PROBABILITIES, tolerance=_TOLERANCE)
        columns: dict[str, Any] = {"id": [as_text(cell) or "" for cell in rows.columns["id"]]}
        columns |= dict(zip(PROBABILITIES, proba.T, strict=True))
        columns |= {name: cells for name, cells in rows.columns.items() if name not in COLUMNS}
        tables.append(
            pd.DataFrame(
                {
                    name: pd.Series(cells, dtype=np.float64 if name in PROBABILITIES else object)
                    for name, cells in columns.items()
                }
            )
        )
    if not tables:
        raise InputError("has no predictions", file=path, mend="give it a row a battle")
    return pd.concat(tables, ignore_index=True)


def write_predictions(path: str | Path, ids: Iterable[str], proba: npt.ArrayLike) -> None:
    """Writes all predictions at once; see `PredictionWriter`."""
    with PredictionWriter(path) as writer:
        writer.append(ids, proba)


class PredictionWriter:
    """Writes predictions a chunk at a time, as CSV, JSON lines or Parquet by the file's name.

        with PredictionWriter("predictions.csv") as writer:
            writer.append(ids, proba)

    The file is there when the block ends well. If it does not, nothing of it is left, and what
    was there before stays.

    Args:
        path: a name ending in .csv, .csv.gz, .jsonl, .jsonl.gz or .parquet, or "-" for CSV on
            standard output.
        extra: the names of further columns, of text.

    Raises:
        InputError: on entering, if the path cannot be written to; later, if the disk is full.
    """

    def __init__(self, path: str | Path, *, extra: Sequence[str] = ()) -> None:
        self._path = path
        self._extra = tuple(extra)
        self._format = _format(path)
        self._stack = ExitStack()

    def __enter__(self) -> PredictionWriter:
        with ExitStack() as stack:
            file = stack.enter_context(written_whole(self._path))
            self._table = self._format(file, (*COLUMNS, *self._extra))
            stack.callback(self._close)
            self._stack = stack.pop_all()
        return self

    def append(
        self,
        ids: Iterable[str],
        proba: npt.ArrayLike,
        extra: Mapping[str, Sequence[str | None]] | None = None,
    ) -> None:
        """Writes the next rows.

        Args:
            ids: the battles' ids, N of them.
            proba: (N, 3) in the order A, B, tie; NaN rows are unjudged.
            extra: the cells of each further column, N of them.

        Raises:
            ArenaJudgeError: if a row is no distribution.
        """
        names = list(ids)
        more = [list((extra or {})[name]) for name in self._extra]
        cells = distributions(names, np.asarray(proba, dtype=np.float64))
        with explained(self._path):
            self._table.append([names, *_with_none(cells), *more])

    def _close(self) -> None:
        with explained(self._path):
            self._table.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def distributions(ids: Sequence[str], proba: Floats) -> Floats:
    """(N, 3) rows as they are given to users: scaled to sum to 1 where rounding kept them from it.

    Raises:
        ArenaJudgeError: a row is no distribution, nor NaN throughout.
    """
    if proba.shape != (len(ids), 3):
        raise ValueError(f"expected ({len(ids)}, 3) probabilities, not {proba.shape}")
    unjudged = np.isnan(proba).all(axis=1)
    right = (proba >= 0).all(axis=1) & (np.abs(proba.sum(axis=1) - 1) <= _TOLERANCE)
    wrong = ~(unjudged | right)
    if wrong.any():
        at = int(wrong.argmax())
        row = ", ".join(f"{value:.6g}" for value in proba[at])
        raise ArenaJudgeError(f"battle {quoted(ids[at])} was given {row}, which is no distribution")
    return scaled(proba)


def _with_none(proba: Floats) -> list[list[float | None]]:
    """The three columns, with None for NaN."""
    cells = proba.T.astype(object)
    cells[np.isnan(proba.T)] = None
    columns: list[list[float | None]] = cells.tolist()
    return columns


# --- formats --------------------------------------------------------------------------------------


class _Table(Protocol):
    def append(self, columns: list[list[Any]]) -> None: ...

    def close(self) -> None:
        """Writes what is held back; the file itself stays open."""


class _Csv:
    def __init__(self, file: IO[bytes], names: Sequence[str]) -> None:
        self._text = io.TextIOWrapper(file, "utf-8", newline="")
        self._bare = csv.writer(self._text, lineterminator="\n")
        self._quoted = csv.writer(self._text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        self._bare.writerow(names)

    def append(self, columns: list[list[Any]]) -> None:
        # A float is shown by `repr`, None as nothing. A lone carriage return, which ends a row in
        # a file as much as a line feed does, is left unquoted by some versions of the writer.
        texts = chain(columns[0], *columns[len(COLUMNS) :])
        writer = self._quoted if any("\r" in (text or "") for text in texts) else self._bare
        writer.writerows(zip(*columns, strict=True))

    def close(self) -> None:
        self._text.flush()
        self._text.detach()


class _JsonLines:
    def __init__(self, file: IO[bytes], names: Sequence[str]) -> None:
        self._text = io.TextIOWrapper(file, "utf-8", newline="")
        self._names = names
        self._encode = json.JSONEncoder(ensure_ascii=False).encode

    def append(self, columns: list[list[Any]]) -> None:
        for row in zip(*columns, strict=True):
            fields = dict(zip(self._names, row, strict=True))
            self._text.write(self._encode(fields) + "\n")

    def close(self) -> None:
        self._text.flush()
        self._text.detach()


class _Parquet:
    def __init__(self, file: IO[bytes], names: Sequence[str]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {name: pa.float64() if name in PROBABILITIES else pa.string() for name in names}
        self._schema = pa.schema(types.items())
        self._writer = pq.ParquetWriter(file, self._schema)

    def append(self, columns: list[list[Any]]) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.table(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


class _Zipped:
    """A text format, compressed. The same predictions always give the same bytes."""

    def __init__(self, table: Callable[..., _Table], file: IO[bytes], names: Sequence[str]) -> None:
        self._file = gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0)
        self._table = table(self._file, names)

    def append(self, columns: list[list[Any]]) -> None:
        self._table.append(columns)

    def close(self) -> None:
        self._table.close()
        self._file.close()


_FORMATS: dict[str, Callable[[IO[bytes], Sequence[str]], _Table]] = {
    ".csv": _Csv,
    ".csv.gz": partial(_Zipped, _Csv),
    ".jsonl": _JsonLines,
    ".jsonl.gz": partial(_Zipped, _JsonLines),
    ".parquet": _Parquet,
}


def _format(path: str | Path) -> Callable[[IO[bytes], Sequence[str]], _Table]:
    for ending, table in _FORMATS.items():
        if str(path).lower().endswith(ending):
            return table
    if is_stream(path):
        return _Csv
    mend = f"choose a name that ends in {', '.join(_FORMATS)}"
    raise InputError("has no known ending for predictions", file=path, mend=mend)
