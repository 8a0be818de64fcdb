"""A file's own rows and columns again, for a file that is made of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pandas as pd

from judge.battles import ID
from judge.files.rows import stream_rows
from judge.files.turns import TEXTS


def own_rows(file: str, ids: Sequence[str], *, as_text: bool) -> pd.DataFrame:
    """All rows of a file of battles with the columns that it has, `id` first.

    Args:
        file: in any form of `judge.battles`.
        ids: of its N battles, as they were read; rows without an id get theirs, so that the file
            that is made of some of them knows them by the same.
        as_text: whether lists are to be JSON, as in CSV.
    """
    columns: dict[str, list[Any]] = {}
    count = 0
    with closing(stream_rows(file, required=TEXTS)) as chunks:
        for rows in chunks:
            for name, cells in rows.columns.items():
                # JSON lines may name a field late: the rows before have none.
                columns.setdefault(name, [None] * count).extend(cells)
            count += len(rows)
            for cells in columns.values():
                cells.extend([None] * (count - len(cells)))
    columns = {ID: list(ids)} | {name: cells for name, cells in columns.items() if name != ID}
    made = {name: _alike(cells, as_text) for name, cells in columns.items()}
    return pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in made.items()})


def _alike(cells: list[Any], as_text: bool) -> list[Any]:
    """Cells that one column can hold: of one kind, or text."""
    plain = [cell.tolist() if hasattr(cell, "tolist") else cell for cell in cells]
    kinds = {list if isinstance(cell, tuple | list) else type(cell) for cell in plain}
    kinds -= {type(None)}
    numbers = kinds <= {int, float}
    if len(kinds) <= 1 and not (as_text and kinds & {list, dict}) and dict not in kinds:
        return plain
    if numbers and bool not in kinds:
        return plain
    return [
        cell if cell is None or isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)
        for cell in plain
    ]
