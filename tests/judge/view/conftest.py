"""Battles, predictions and ballots for the page, harmless and hostile."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

LABELS = ("winner_model_a", "winner_model_b", "winner_tie")
ONE_HOT = {"a": (1, 0, 0), "b": (0, 1, 0), "tie": (0, 0, 1), "": ("", "", "")}
ROOT = Path(__file__).parents[3]


def write_battles(path: Path, rows: Sequence[dict[str, object]]) -> str:
    """Rows with `prompt`, `a`, `b` (a text or turns), and perhaps `id`, `models`, `label`."""
    names = ["id", "model_a", "model_b", "prompt", "response_a", "response_b", *LABELS]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for number, row in enumerate(rows):
            texts = [row[name] for name in ("prompt", "a", "b")]
            turns = [text if isinstance(text, list) else [text] for text in texts]
            models = row.get("models", ("one", "two"))
            label = ONE_HOT[str(row.get("label", ""))]
            cells = [json.dumps(turn, ensure_ascii=False) for turn in turns]
            writer.writerow([row.get("id", f"b{number}"), *models, *cells, *label])  # type: ignore[misc]
    return path.name


def write_predictions(
    path: Path, proba: dict[str, Sequence[float] | None], **extra: Sequence[str]
) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *LABELS, *extra])
        for place, (battle, row) in enumerate(proba.items()):
            cells = ("", "", "") if row is None else row
            writer.writerow([battle, *cells, *(column[place] for column in extra.values())])
    return path.name


PLAIN = (
    {"prompt": "What is two and two?", "a": "It is **four**.", "b": "Five.", "label": "a"},
    {"prompt": "Name a colour", "a": "Blue", "b": "Straße, in Grün", "label": "b"},
    {"prompt": "Say hello", "a": "Hello", "b": "Hello", "label": "tie"},
    {"prompt": ["First", "Second"], "a": ["one", "two"], "b": ["uno", "dos"], "label": "a"},
    {"prompt": "Nobody said who won", "a": "left", "b": "right"},
)
SURE = {
    "b0": (0.9, 0.05, 0.05),
    "b1": (0.8, 0.1, 0.1),
    "b2": (0.1, 0.2, 0.7),
    "b3": (0.34, 0.33, 0.33),
    "b4": None,
}
OTHER = {
    "b0": (0.2, 0.7, 0.1),
    "b1": (0.7, 0.2, 0.1),
    "b2": (0.2, 0.2, 0.6),
    "b3": (0.5, 0.3, 0.2),
    "b4": (0.2, 0.6, 0.2),
}


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A folder with battles.csv, sure.csv and other.csv."""
    write_battles(tmp_path / "battles.csv", PLAIN)
    write_predictions(tmp_path / "sure.csv", SURE)
    write_predictions(tmp_path / "other.csv", OTHER)
    return tmp_path


class Served:
    """`arena-judge view` as a process of its own."""

    def __init__(self, folder: Path, arguments: Sequence[str]) -> None:
        program = [sys.executable, "-m", "judge", "view", "--no-browser", *arguments]
        self.process = subprocess.Popen(
            program,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A job in the background is started deaf to SIGINT, and so would be all it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert self.process.stdout
        self.url = self.process.stdout.readline().strip()
        if not self.url.startswith("http"):
            raise AssertionError(self.process.communicate()[1])

    def end(self, with_signal: signal.Signals = signal.SIGINT) -> tuple[int, str, str]:
        """The exit code, what was left of standard output, and standard error."""
        self.process.send_signal(with_signal)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def served() -> Iterator[Callable[..., Served]]:
    """Starts the page for a folder: `served(folder, "sure.csv", "battles.csv")`."""
    running: list[Served] = []

    def start(folder: Path, *arguments: str) -> Served:
        running.append(Served(folder, arguments))
        return running[-1]

    yield start
    for one in running:
        if one.process.poll() is None:
            one.end(signal.SIGKILL)
