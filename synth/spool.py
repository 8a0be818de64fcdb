"""Rows kept on disk, to be read in another order than they were written in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any


class Spool:
    """Rows in a file, each known by a number.

    Args:
        file: empty, to be written to and read from.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: dict[int, tuple[int, int]] = {}

    def put(self, number: int, row: Mapping[str, Any]) -> None:
        """Keeps a row. What JSON has no form for becomes text."""
        line = json.dumps(row, default=str).encode("ascii")
        self._places[number] = (self._file.tell(), len(line))
        self._file.write(line)

    def batches(self, order: Iterable[int], rows: int) -> Iterator[Sequence[dict[str, Any]]]:
        """The rows in another order, so many at a time."""
        batch: list[dict[str, Any]] = []
        for number in order:
            start, length = self._places[number]
            self._file.seek(start)
            batch.append(json.loads(self._file.read(length)))
            if len(batch) == rows:
                yield batch
                batch = []
        if batch:
            yield batch
