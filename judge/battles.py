"""Battles: a prompt and two answers to it, read from a file into a table.

    for battles in iter_battles("battles.csv"):
        ...

A battle table is a pandas DataFrame with a row a battle:

- `id`: str; the row's number from 0 where the file has none. Ids may repeat.
- `prompt`, `response_a`, `response_b`: tuples of str, one a turn, as many in each.
- `model_a`, `model_b`: str or None, where the file has them.
- `label_a`, `label_b`, `label_tie`: float64, rows summing to 1, NaN where nobody said who won;
  where the file has labels. They take the place of the file's own label columns.
- `votes_a`, `votes_b`, `votes_tie`: float64, how many people chose each, where the file has that.
- Every other column of the file under its own name: text in CSV, else what the file holds.

The index is the row's number in the file, from 0. In `judge.files`, `rows` knows the file
formats, `turns` what a cell of text may look like, `labelling` how a file says who won.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.errors import InputError
from judge.files.labelling import LABEL_COLUMNS, LABELS, VOTES, read_labels, read_votes
from judge.files.rows import CHUNK_CHARACTERS, Cells, Rows, as_text, stream_rows
from judge.files.sources import source_name
from judge.files.turns import RESPONSES, TEXTS, json_columns, read_turns

ID = "id"
MODELS = ("model_a", "model_b")

# Enough cells to tell what a column holds; battles are not looked at before so many are read.
_SAMPLE_ROWS = 1024
_SIDES = (RESPONSES, MODELS, LABELS[:2], VOTES[:2])
_NUMBERS = frozenset((*LABELS, *VOTES))


def read_battles(source: str | Path, *, labels: bool = True) -> pd.DataFrame:
    """All battles of a file as one table; see `iter_battles`."""
    tables = list(iter_battles(source, labels=labels))
    battles = pd.concat(tables)
    for name in battles.columns.difference([*tables[0].columns, *_NUMBERS]):
        # JSON lines that name a field late: the rows before have none, which pandas calls NaN.
        battles[name] = battles[name].where(battles[name].notna(), None)
    return battles


def iter_battles(
    source: str | Path, *, chunk_rows: int = 4096, labels: bool = True
) -> Iterator[pd.DataFrame]:
    """The battles of a file in tables of at most `chunk_rows`, read as they are asked for.

    Args:
        source: a CSV, JSON lines or Parquet file, plain or compressed (gz, zst, zip), or "-" for
            standard input.
        chunk_rows: the longest table to hold; where battles are long, tables are shorter.
        labels: read who won. Without, the label columns are left out unread.

    Raises:
        InputError: for whatever in the file cannot be read, with its row and column; what was
            yielded before stands.
    """
    if chunk_rows < 1:
        raise ValueError("chunk_rows must be at least 1")
    with closing(stream_rows(source, required=TEXTS, chunk_rows=chunk_rows)) as chunks:
        head = _head(chunks)
        if not head:
            raise InputError("has no battles", file=source_name(source), mend="give it some rows")
        are_json = json_columns(_sample(head))
        first = 0
        for rows in itertools.chain(_taken(head), chunks):
            yield _table(rows, first, are_json, labels)
            first += len(rows)


def labels(battles: pd.DataFrame) -> npt.NDArray[np.float64] | None:
    """The (N, 3) labels in the order A, B, tie, NaN rows for the unlabelled; None without any."""
    if LABELS[0] not in battles.columns:
        return None
    return battles[list(LABELS)].to_numpy(dtype=np.float64)


def swap(battles: pd.DataFrame) -> pd.DataFrame:
    """The same battles shown the other way round: responses, models and labels exchanged."""
    sides = [(a, b) for a, b in _SIDES if a in battles.columns and b in battles.columns]
    exchanged = dict(sides) | {b: a for a, b in sides}
    return battles.rename(columns=exchanged)[list(battles.columns)]


# --- what a column holds --------------------------------------------------------------------------


def _head(chunks: Iterator[Rows]) -> deque[Rows]:
    """As many chunks as it takes to tell what the columns hold."""
    head: deque[Rows] = deque()
    count = size = 0
    for rows in chunks:
        head.append(rows)
        count += len(rows)
        size += rows.size
        if count >= _SAMPLE_ROWS or size >= CHUNK_CHARACTERS:
            break
    return head


def _sample(head: Iterable[Rows]) -> dict[str, Cells]:
    cells = {name: itertools.chain(*(rows.columns[name] for rows in head)) for name in TEXTS}
    return {name: list(itertools.islice(column, _SAMPLE_ROWS)) for name, column in cells.items()}


def _taken(head: deque[Rows]) -> Iterator[Rows]:
    """Lets go of each chunk as it is handed on."""
    while head:
        yield head.popleft()


# --- a table --------------------------------------------------------------------------------------


def _table(rows: Rows, first: int, are_json: Mapping[str, bool], labelled: bool) -> pd.DataFrame:
    columns: dict[str, Any] = {ID: _ids(rows, first), **read_turns(rows, are_json)}
    for name in MODELS:
        if name in rows.columns:
            columns[name] = [as_text(cell) for cell in rows.columns[name]]
    found = read_labels(rows) if labelled else None
    if found is not None:
        columns |= dict(zip(LABELS, found.T, strict=True))
    votes = read_votes(rows) if labelled else None
    if votes is not None:
        columns |= dict(zip(VOTES, votes.T, strict=True))
    for name, cells in rows.columns.items():
        if name not in columns and name not in LABEL_COLUMNS:
            columns[name] = cells
    index = pd.RangeIndex(first, first + len(rows))
    # Objects stay as they are: what pandas would make of them may differ from chunk to chunk.
    return pd.DataFrame(
        {
            name: pd.Series(cells, index, dtype=np.float64 if name in _NUMBERS else object)
            for name, cells in columns.items()
        }
    )


def _ids(rows: Rows, first: int) -> list[str]:
    cells = rows.columns.get(ID) or [None] * len(rows)
    return [as_text(cell) or str(number) for number, cell in enumerate(cells, first)]
