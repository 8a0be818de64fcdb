"""Tables of battles and annotations in Parquet, a batch at a time in one form throughout."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from judge.ballots import CRITERIA, VOTES
from judge.errors import InputError
from judge.files.atomic import explained

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

TURNS = ("prompt", "response_a", "response_b", "reference")
_SHARES = tuple(f"{name}_{vote}" for name in (*CRITERIA, "verdict") for vote in VOTES)
NUMBERS = {
    *("label_a", "label_b", "label_tie", "votes_a", "votes_b", "votes_tie"),
    *("weight", "time", "seconds", "cost", "closeness"),
    *_SHARES,
}
WHOLE = {
    *("sample", "part", "cut", "attempts", "turn", "shared"),
    *("prompt_tokens", "cached_tokens", "completion_tokens"),
}
RENAMED = "file_"
"""What stands before a file's column that is called as one of ours."""


def renamed(name: str, taken: Collection[str]) -> str:
    """What a file's column is called whose name is one of ours: `file_time`."""
    called = RENAMED + name
    while called in taken:
        called = RENAMED + called
    return called


class TableWriter:
    """Takes tables whose columns are those of the first, and makes one Parquet file of them.

    Columns have the type that their name asks for (turns are lists of text, shares and times
    numbers, everything else text), whatever the cells of the first batch are.

    Args:
        path: for messages.
        file: where it is written.
        turns: the columns that hold turns.
    """

    def __init__(self, path: Path, file: IO[bytes], turns: Sequence[str] = TURNS) -> None:
        self._path, self._file, self._turns = path, file, turns
        self._schema: pa.Schema | None = None
        self._writer: Any = None
        self.rows = 0

    def append(self, table: pd.DataFrame) -> None:
        """Writes rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with explained(self._path):
            if self._writer is None:
                self._schema = pa.schema([(name, self._type(name)) for name in table.columns])
                self._writer = pq.ParquetWriter(self._file, self._schema, compression="zstd")
            columns = [_column(table, field.name, field.type) for field in self._schema or ()]
            self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))
        self.rows += len(table)

    def close(self) -> None:
        """Writes what Parquet keeps for the end; the file itself stays open."""
        if self._writer is not None:
            with explained(self._path):
                self._writer.close()

    def _type(self, name: str) -> pa.DataType:
        import pyarrow as pa

        if name in self._turns:
            return pa.list_(pa.string())
        if name in NUMBERS:
            return pa.float64()
        return pa.int64() if name in WHOLE else pa.string()


@contextmanager
def table_writer(path: Path, turns: Sequence[str] = TURNS) -> Iterator[TableWriter]:
    """A table in a file of a folder that is being written (see `judge.files.folders`)."""
    name = Path(path.name)  # the folder is a draft, of which users know nothing
    with explained(name), path.open("wb") as file:
        writer = TableWriter(name, file, turns)
        try:
            yield writer
        finally:
            writer.close()


def _column(table: pd.DataFrame, name: str, kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    cells = table[name]
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        try:
            return pa.array(cells.to_numpy(), type=kind)
        except pa.ArrowException:
            mend = "rename the column"
            raise InputError("holds what is no number", column=name, mend=mend) from None
    if pa.types.is_list(kind):
        return pa.array([_turns(cell) for cell in cells.tolist()], type=kind)
    return pa.array([_text(cell) for cell in cells.tolist()], type=kind)


def _turns(cell: object) -> list[str] | None:
    if isinstance(cell, str):
        return [_sound(cell)]
    if isinstance(cell, list | tuple):
        return [_sound(str(turn)) for turn in cell]
    return None


def _text(cell: object) -> str | None:
    if cell is None or cell != cell:
        return None
    if isinstance(cell, str):
        return _sound(cell)
    if isinstance(cell, list | tuple | dict):
        return json.dumps(cell, ensure_ascii=False, default=str)
    return str(cell)


def _sound(text: str) -> str:
    """A text that UTF-8 has bytes for: half a surrogate pair has none."""
    return text.encode("utf-8", "replace").decode("utf-8")
