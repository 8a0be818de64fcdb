"""The recipe for two cores in its fast form, with a tiny encoder: killed, gone on with, changed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from judge.cli.main import cli
from tests.finetune.small import battles_file
from tests.finetune.tiny import tiny_model

pytest.importorskip("torch")
pytest.importorskip("lightgbm")

ROWS = [
    "labels alone, averaged",
    "students, mean of folds",
    "students averaged",
    "averaged, in 8 bits",
    "statistical, mean of folds",
    "statistical, natural ties",
    "blended",
]
# What hangs on the students.
LATER = {"students", "averaged", "together", "quantized"}


@pytest.fixture
def told(tmp_path: Path) -> list[str]:
    values = {
        "battles": battles_file(tmp_path / "b.csv", 80, asked=40),
        "held-out": battles_file(tmp_path / "h.csv", 40, asked=20, seed=5),
        "base": tiny_model("bert", tmp_path / "base"),
        "how": "--form single --dev-share 0.2 --no-measure-fold --device cpu --no-tensorboard",
        "size": "--max-steps 3 --step-battles 6 --lr 0.01",
        "forest": "--seed 0 --trees 6 --crossings 2",
    }
    words = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    return ["cpu", "--fast", "-o", str(tmp_path / "run"), *words]


def run(told: list[str], *more: str) -> Any:
    return CliRunner().invoke(cli, ["finetune", "pipeline", *told, *more])


def due(told: list[str], *more: str) -> set[str]:
    """The stages that are not done."""
    found = json.loads(run(told, "--dry-run", "--json", *more).stdout)
    return {one["stage"] for one in found if one["state"] != "done"}


def losses(told: list[str]) -> dict[str, float]:
    table = pd.read_csv(Path(told[3]) / "steps.csv")
    return dict(zip(table["step"], table["log_loss"], strict=True))


@pytest.mark.slow
def test_the_recipe_for_two_cores(told: list[str], tmp_path: Path) -> None:
    # Killed when the first of the students is there.
    command = [sys.executable, "-m", "judge", "finetune", "pipeline", *told]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=tmp_path
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "students.0: done" in line:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert "students.0: done" in said[-1], said
    first = tmp_path / "run" / "students" / "fold-0" / "model.safetensors"
    written = first.stat().st_mtime_ns
    assert due(told) == LATER
    ended = run(told)
    assert ended.exit_code == 0, ended.output
    assert first.stat().st_mtime_ns == written
    before = losses(told)
    assert list(before) == ROWS
    assert all(0 < value < 3 for value in before.values())
    assert due(told) == set()
    again = run(told)
    assert "0 tasks run, 16 done before" in again.stderr
    assert again.stdout == ended.stdout

    # A mistyped option costs nothing of what was made.
    mistyped = run(told, "--set", "size=--max-stepz 3")
    assert mistyped.exit_code != 0
    assert "No such option" in mistyped.stderr
    assert due(told) == set()
    assert first.stat().st_mtime_ns == written

    # A fold's judge that is gone is made again, and nothing comes out otherwise.
    shutil.rmtree(tmp_path / "run" / "students" / "fold-1")
    assert "students" in due(told)
    assert run(told).exit_code == 0
    assert losses(told) == before

    # Students that learn otherwise are measured anew, as are those that are made of them.
    other = [*told, "--set", "mix=--alpha 0.1"]
    assert due(other) == LATER
    changed = run(other)
    assert changed.exit_code == 0, changed.output
    after = losses(told)
    same = {name for name in ROWS if after[name] == before[name]}
    assert same >= {ROWS[0], ROWS[4], ROWS[5]}
    assert not same & set(ROWS[1:4])
    predictions = [np.load(path) for path in (tmp_path / "run" / "predictions").glob("*.npy")]
    assert all(np.isfinite(one).all() for one in predictions)
