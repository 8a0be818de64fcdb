"""Rows in files of training data: Parquet, JSON lines or CSV, a batch at a time, of fixed types.

Parquet gets the type that a column was said to have, whatever its first cells are, so that readers
find the same in every file; CSV has lists as JSON.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from judge.errors import InputError
from judge.files.atomic import explained, written_whole

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

TEXT, NUMBER, WHOLE, TURNS, MESSAGES = "text", "number", "whole", "turns", "messages"
_LARGEST_WHOLE = 2**63

Kinds = Mapping[str, str]
"""The kind of each column, in their order."""


class RowsFile:
    """Takes columns of rows for one open file.

    Args:
        path: by whose name the form is chosen, and errors speak.
        file: to write to.
        kinds: of the columns.
    """

    def __init__(self, path: Path, file: IO[bytes], kinds: Kinds) -> None:
        self._path, self._file, self._kinds = path, file, dict(kinds)
        self._ending = path.suffix.lower()
        self._writer: Any = None
        self.rows = 0
        with explained(path):
            if self._ending == ".parquet":
                self._open_parquet()
            elif self._ending == ".csv":
                self._write_csv([list(self._kinds)])

    def append(self, columns: Mapping[str, Sequence[object]]) -> None:
        """Writes rows, given as columns of one length."""
        cells = [[_cell(c, kind) for c in columns[name]] for name, kind in self._kinds.items()]
        if not cells or not cells[0]:
            return
        with explained(self._path):
            if self._ending == ".parquet":
                self._write_parquet(cells)
            elif self._ending == ".csv":
                self._write_csv(zip(*cells, strict=True))
            else:
                self._write_lines(zip(*cells, strict=True))
        self.rows += len(cells[0])

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._file.tell()

    def close(self) -> None:
        """Writes what Parquet keeps for the end; the file itself stays open."""
        if self._writer is not None:
            with explained(self._path):
                self._writer.close()

    def _open_parquet(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._schema = pa.schema([(name, _type(kind)) for name, kind in self._kinds.items()])
        self._writer = pq.ParquetWriter(self._file, self._schema, compression="zstd")

    def _write_parquet(self, cells: list[list[object]]) -> None:
        import pyarrow as pa

        arrays = [pa.array(c, type=f.type) for c, f in zip(cells, self._schema, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def _write_csv(self, rows: Any) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for row in rows:
            writer.writerow(
                [json.dumps(c, ensure_ascii=False) if isinstance(c, list) else c for c in row]
            )
        self._file.write(text.getvalue().encode("utf-8"))

    def _write_lines(self, rows: Any) -> None:
        lines = (
            json.dumps(dict(zip(self._kinds, row, strict=True)), ensure_ascii=False) for row in rows
        )
        self._file.write("".join(f"{line}\n" for line in lines).encode("utf-8"))


@contextmanager
def rows_file(path: Path, kinds: Kinds) -> Iterator[RowsFile]:
    """A file of rows at `path`, whole or not at all."""
    with written_whole(path) as file:
        rows = RowsFile(path, file, kinds)
        try:
            yield rows
        finally:
            rows.close()


def check_ending(name: str, endings: Sequence[str]) -> None:
    """Sees to it that a file's name says a form that it can have.

    Raises:
        InputError: it says another, or none.
    """
    if Path(name).suffix.lower() not in endings:
        mend = f"end it in {', '.join(endings[:-1])} or {endings[-1]}"
        raise InputError("has no ending that says its form", file=name, mend=mend)


def column_kind(cells: pd.Series[Any]) -> str:
    """The kind of a column that nothing else is known of: what all of its cells are."""
    if cells.dtype.kind == "f":
        return NUMBER
    if cells.dtype.kind in "iu":
        return WHOLE
    found = {_kind_of(cell) for cell in cells.tolist()} - {""}
    if found == {WHOLE, NUMBER}:
        return NUMBER
    return found.pop() if len(found) == 1 else TEXT


def sound(text: str) -> str:
    """A text that UTF-8 has bytes for: half a surrogate pair has none."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _kind_of(cell: object) -> str:
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, list | tuple):
        return TURNS if all(isinstance(turn, str) for turn in cell) else TEXT
    if isinstance(cell, bool):
        return TEXT
    if isinstance(cell, int):
        return WHOLE if abs(cell) < _LARGEST_WHOLE else TEXT
    return NUMBER if isinstance(cell, float) else TEXT


def _cell(cell: Any, kind: str) -> object:
    """A cell as its kind of column has it; None for nothing."""
    if cell is None:
        return None
    if kind == TURNS:
        return [sound(turn) for turn in ([cell] if isinstance(cell, str) else cell)]
    if kind == MESSAGES:
        return [{"role": one["role"], "content": sound(one["content"])} for one in cell]
    if isinstance(cell, float) and not math.isfinite(cell):
        return None
    if kind == NUMBER:
        return float(cell)
    if kind == WHOLE:
        return int(cell)
    if isinstance(cell, list | tuple | dict):
        return sound(json.dumps(cell, ensure_ascii=False, default=str))
    return sound(str(cell))


def _type(kind: str) -> pa.DataType:
    import pyarrow as pa

    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    return {
        TEXT: pa.string(),
        NUMBER: pa.float64(),
        WHOLE: pa.int64(),
        TURNS: pa.list_(pa.string()),
        MESSAGES: pa.list_(message),
    }[kind]
