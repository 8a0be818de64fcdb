"""The curve of a run: `curve.csv`, and TensorBoard's files where it is installed."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from judge.errors import InputError
from judge.files.atomic import written_whole

FILE, BOARD = "curve.csv", "tensorboard"


@dataclass(frozen=True)
class Point:
    """A step.

    Attributes:
        step: its number, from 1.
        epoch: how far the run is.
        tokens: worked through so far.
        loss: of the step, before it.
        lr: its learning rate.
        dev_log_loss: of the dev battles after it; None where nobody looked.
        norm: of its gradient, before it was bounded.
        seconds: of training so far.
    """

    step: int
    epoch: float
    tokens: int
    loss: float
    lr: float
    dev_log_loss: float | None
    norm: float
    seconds: float


COLUMNS = tuple(field.name for field in fields(Point))


def row(point: Point) -> str:
    """A line of the file."""
    cells = ["" if value is None else f"{value:.9g}" for value in asdict(point).values()]
    cells[0], cells[2] = str(point.step), str(point.tokens)
    return ",".join(cells) + "\n"


class Curve:
    """A file that grows by a line a step.

    Args:
        folder: where it is.
        step: the run goes on after this step; what the file has of later ones is left out.
        board: write for TensorBoard too, if it can be imported.
    """

    def __init__(self, folder: Path, step: int = 0, *, board: bool = False) -> None:
        self._path = folder / FILE
        kept = [point for point in read_curve(self._path) if point.step <= step]
        with written_whole(self._path) as file:
            file.write((",".join(COLUMNS) + "\n" + "".join(map(row, kept))).encode())
        self._file = self._path.open("a", encoding="utf-8")
        self._board = _board(folder / BOARD, step) if board else None

    def add(self, point: Point) -> None:
        """A step is done."""
        self._file.write(row(point))
        self._file.flush()
        if self._board is not None:
            self._board.add_scalar("train/loss", point.loss, point.step)
            self._board.add_scalar("train/lr", point.lr, point.step)
            self._board.add_scalar("train/gradient_norm", point.norm, point.step)
            if point.dev_log_loss is not None:
                self._board.add_scalar("dev/log_loss", point.dev_log_loss, point.step)

    def close(self) -> None:
        """Writes what is left."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_curve(path: Path) -> list[Point]:
    """The points of a file; none where there is no file. A last line that a kill broke off is left
    out.

    Raises:
        InputError: it is no such file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    lines = text[: text.rfind("\n") + 1]
    rows = list(csv.reader(io.StringIO(lines)))
    if rows and tuple(rows[0]) != COLUMNS:
        raise InputError("is no curve of training", file=path)
    return [_point(cells) for cells in rows[1:]]


def _point(cells: Sequence[str]) -> Point:
    values: dict[str, Any] = {
        name: None if cell == "" else float(cell) for name, cell in zip(COLUMNS, cells, strict=True)
    }
    values["step"], values["tokens"] = int(cells[0]), int(cells[2])
    return Point(**values)


def _board(folder: Path, step: int) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except (ImportError, AttributeError):  # it is not installed, or for other versions
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
