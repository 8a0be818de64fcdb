"""One's own labels in a CSV file: id,winner_model_a,winner_model_b,winner_tie,note,time.

The file is written whole at every label and takes the place of the one before, so a kill at any
moment leaves all labels that were given. `arena-judge compare` reads it, as it reads any labels.
"""

from __future__ import annotations

import csv
import io
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from judge.errors import InputError
from judge.files.atomic import written_whole
from judge.files.labelling import PROBABILITIES
from judge.files.rows import as_text, quoted, stream_rows

ENDING = ".csv"
COLUMNS = ("id", *PROBABILITIES)
CHOICES = ("a", "b", "tie")
NOTE, TIME = "note", "time"
_CELLS = {
    choice: tuple("01"[place == at] for place in range(3)) for at, choice in enumerate(CHOICES)
}
_NUMBERS = {"0": "0", "0.0": "0", "1": "1", "1.0": "1", "": ""}


@dataclass(frozen=True)
class OwnLabel:
    """What one says of a battle: "a", "b", "tie" or nothing, and a note or none."""

    choice: str | None = None
    note: str = ""


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class LabelFile:
    """The labels in a file, which need not be there yet.

    Args:
        path: a .csv file, by an earlier run or of the same form.
        now: gives the time, as text.

    Raises:
        InputError: the file is no such file, or cannot be read.
    """

    def __init__(self, path: str | Path, *, now: Callable[[], str] = _now) -> None:
        if Path(path).suffix.lower() != ENDING:
            raise InputError("has no known ending for labels", file=path, mend="name it .csv")
        self.path = Path(path)
        self._now = now
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._rows: dict[str, dict[str, str]] = {}
        self._refresh()

    def __len__(self) -> int:
        """How many battles have a label."""
        return sum(1 for row in self._rows.values() if _choice(row) is not None)

    def get(self, battle: str) -> OwnLabel:
        row = self._rows.get(battle, {})
        return OwnLabel(_choice(row), row.get(NOTE, ""))

    def labelled(self) -> set[str]:
        """The ids of the battles that have a label."""
        return {battle for battle, row in list(self._rows.items()) if _choice(row) is not None}

    def put(self, battle: str, label: OwnLabel) -> None:
        """Gives a battle a label, or takes it away, and saves the file.

        Raises:
            InputError: the file cannot be written, or was changed into something else; what was
                known before stands.
        """
        with self._lock:
            self._refresh()
            rows = dict(self._rows)
            row = dict(rows.get(battle, {"id": battle}))
            row |= dict(zip(PROBABILITIES, _CELLS.get(label.choice or "", ("",) * 3), strict=True))
            row |= {NOTE: label.note, TIME: self._now()}
            if label == OwnLabel() and row.keys() <= {*COLUMNS, NOTE, TIME}:
                rows.pop(battle, None)
            else:
                rows[battle] = row
            self._write(rows)
            self._rows = rows

    def _refresh(self) -> None:
        """Reads the file again if somebody else changed it; one that is gone is written anew."""
        seen = _state(self.path)
        if seen not in (None, self._seen):
            self._rows = _read(self.path)
        self._seen = seen

    def _write(self, rows: dict[str, dict[str, str]]) -> None:
        names = dict.fromkeys((*COLUMNS, NOTE, TIME))
        for row in rows.values():
            names |= dict.fromkeys(row)
        text = io.StringIO()
        # A lone carriage return ends a row as a line feed does, and not every writer quotes it.
        lone = any("\r" in cell for row in rows.values() for cell in row.values())
        writer = csv.DictWriter(
            text,
            list(names),
            "",
            lineterminator="\n",
            quoting=csv.QUOTE_ALL if lone else csv.QUOTE_MINIMAL,
        )
        writer.writeheader()
        writer.writerows(rows.values())
        with written_whole(self.path) as file:
            file.write(text.getvalue().encode("utf-8", "replace"))
        self._seen = _state(self.path)


def _state(path: Path) -> tuple[int, ...] | None:
    """What differs when a file is another one; None where there is none."""
    try:
        state = os.stat(path)
    except FileNotFoundError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


def _read(path: Path) -> dict[str, dict[str, str]]:
    """The rows by id, cells as they are in the file."""
    if path.stat().st_size == 0:
        return {}
    found: dict[str, dict[str, str]] = {}
    for rows in stream_rows(path, required=COLUMNS):
        names = list(rows.columns)
        for at, cells in enumerate(zip(*rows.columns.values(), strict=True)):
            row = {name: str(cell) for name, cell in zip(names, cells, strict=True)}
            battle = as_text(row["id"])
            if battle is None:
                raise rows.error("is empty", at, "id", "say which battle it is")
            if battle in found:
                raise rows.error(f"{quoted(battle)} is there twice", at, "id", "keep one of them")
            for name in PROBABILITIES:
                number = _NUMBERS.get(row[name].strip())
                if number is None:
                    message = f"is {quoted(row[name])}, and a label of one person is 0 or 1"
                    raise rows.error(message, at, name, "name another file with --labels")
                row[name] = number
            if _choice(row) is None and any(row[name] for name in PROBABILITIES):
                message = "is no label with the two columns after it"
                raise rows.error(message, at, PROBABILITIES[0], "give one of the three a 1")
            found[battle] = row
    return found


def _choice(row: dict[str, str]) -> str | None:
    cells = tuple(row.get(name, "") for name in PROBABILITIES)
    return next((choice for choice, of in _CELLS.items() if of == cells), None)
