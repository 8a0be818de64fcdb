"""Rows of a file of training data, a dictionary at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from synth.exporting.files import Kinds, RowsFile, rows_file

_ROWS = 256


class Batches:
    """Takes rows, and hands them on a batch at a time.

    Attributes:
        rows: that came.
        battles: that they are of; the rows of one come together.
    """

    def __init__(self, file: RowsFile, kinds: Kinds) -> None:
        self._file, self._names = file, list(kinds)
        self._waiting: list[Mapping[str, object]] = []
        self._last: object = None
        self.rows = self.battles = 0

    def append(self, row: Mapping[str, object]) -> None:
        """Takes a row; what it has beside the file's columns is passed over."""
        self._waiting.append(row)
        self.rows += 1
        self.battles += row["id"] != self._last
        self._last = row["id"]
        if len(self._waiting) == _ROWS:
            self.flush()

    def flush(self) -> None:
        """Hands on what waits."""
        rows, self._waiting = self._waiting, []
        self._file.append({name: [row[name] for row in rows] for name in self._names})


@contextmanager
def batched(path: Path, kinds: Kinds) -> Iterator[Batches]:
    """A file of rows at `path`, whole or not at all."""
    with rows_file(path, kinds) as file:
        batches = Batches(file, kinds)
        yield batches
        batches.flush()
