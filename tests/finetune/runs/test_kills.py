"""A run that is killed again and again, wherever it hurts, comes to the same judge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch")

from finetune.training.checkpoints import place_of
from finetune.training.curves import read_curve
from tests.finetune.runs.test_votes import chat_model, messages
from tests.finetune.small import battles_file
from tests.finetune.tiny import tiny_model

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
SHORT = ["--device", "cpu", "--no-tensorboard", "--lr", "0.01", "--eval-every", "1"]
BATTLES = ["--max-length", "64", "--step-battles", "3", "--epochs", "4"]
BALLOTS = ["--max-length", "4000", "--step-battles", "2", "--epochs", "2", "--max-steps", "16"]
# The family of the base, and what a run is told besides.
RUNS: dict[str, tuple[str, list[str]]] = {
    "lora": ("llama", ["--lora", "--lora-dropout", "0.2", "--ema", "0.8"]),
    "full": ("bert", ["--no-lora"]),
    "votes": ("llama", ["--objective", "votes", "--lora", "--lora-dropout", "0.1"]),
}
KINDS = ("backward", "file", "line", "rename", "renamed", "remove")


def plan_of(kind: str, target: Path, arguments: list[str], logs: Path) -> list[dict[str, Any]]:
    """An undisturbed run, one that is killed in every way, each after a number of moments that the
    seed says, and its end."""
    rng = np.random.default_rng(sum(map(ord, kind)))
    kills = [[str(name), int(rng.integers(1, 5))] for name in rng.permutation(KINDS)]
    runs = [("whole", None), *(("broken", kill) for kill in kills), ("broken", None)]
    return [
        {
            "arguments": [*arguments, "-o", str(target / name)],
            "log": str(logs / f"{number}.txt"),
            "kill": kill,
        }
        for number, (name, kill) in enumerate(runs)
    ]


def runs(plan: list[dict[str, Any]], folder: Path) -> list[int]:
    """How the commands of a plan ended."""
    file = folder / "plan.json"
    file.write_text(json.dumps(plan))
    done = subprocess.run(
        [sys.executable, "-m", "tests.finetune.killed", str(file)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[int] = json.loads(done.stdout.splitlines()[-1])
    return found


def told(plan: list[dict[str, Any]]) -> str:
    """What the commands said, for whoever has to find out."""
    return "\n".join(f"{one['kill']}: {Path(one['log']).read_text()}" for one in plan)


def ballots_file(path: Path) -> Path:
    rows = [
        {"id": str(number), "order": order, "messages": messages(word=f"fox {number}")}
        for number in range(12)
        for order in ("AB", "BA")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def weights_of(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    from safetensors.numpy import load_file

    return {
        f"{file.relative_to(folder)}/{name}": weight
        for file in sorted(folder.rglob("*.safetensors"))
        for name, weight in load_file(file).items()
    }


@pytest.mark.parametrize("kind", RUNS)
def test_killed_anywhere_it_comes_to_the_same_predictions(kind: str, tmp_path: Path) -> None:
    family, options = RUNS[kind]
    votes = kind == "votes"
    if votes:
        base = chat_model(family, tmp_path / "base")
        battles = ballots_file(tmp_path / "chat.jsonl")
        options = [*options, *BALLOTS]
    else:
        base = tiny_model(family, tmp_path / "base")
        battles = battles_file(tmp_path / "battles.csv")
        options = [*options, *BATTLES]
    arguments = ["finetune", "train", str(battles), "--base", str(base), *SHORT, *options]
    plan = plan_of(kind, tmp_path, arguments, tmp_path)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    if not votes:
        scored = battles_file(tmp_path / "other.csv", 30, seed=5)
        for folder in (whole, broken):
            score = ["score", str(scored), "--judge", str(folder), "-o", f"{folder}.csv"]
            log = str(tmp_path / f"score-{folder.name}.txt")
            plan.append({"arguments": score, "log": log, "kill": None})
    ends = runs(plan, tmp_path)
    assert ends == [-9 if one["kill"] else 0 for one in plan], told(plan)

    one, other = (read_curve(folder / "curve.csv") for folder in (whole, broken))
    assert [(p.step, p.loss, p.dev_log_loss) for p in one] == [
        (p.step, p.loss, p.dev_log_loss) for p in other
    ]
    assert len(one) > 3 * 4
    assert "goes on after step" in (tmp_path / f"{1 + len(KINDS)}.txt").read_text()
    assert not place_of(broken).exists()
    hidden = [file.name for file in tmp_path.iterdir() if file.name.startswith(".")]
    assert not hidden, "what killed runs have left lies about"
    first, second = weights_of(whole), weights_of(broken)
    assert set(first) == set(second)
    for name, weight in first.items():
        np.testing.assert_allclose(weight, second[name], atol=1e-7, err_msg=name)
    if not votes:
        tables = [pd.read_csv(f"{folder}.csv") for folder in (whole, broken)]
        said = [table.iloc[:, 1:].to_numpy() for table in tables]
        assert np.isfinite(said[0]).all()
        np.testing.assert_allclose(*said, atol=1e-5)


def test_killed_at_its_very_end_it_is_finished_by_the_same_command(tmp_path: Path) -> None:
    """The judge stands, and what was unfinished is half gone."""
    base = tiny_model("bert", tmp_path / "base")
    battles = battles_file(tmp_path / "battles.csv")
    arguments = ["finetune", "train", str(battles), "--base", str(base), *SHORT]
    arguments += ["--max-length", "64", "--max-steps", "1", "-o", str(tmp_path / "judge")]
    plan = [
        {"arguments": arguments, "log": str(tmp_path / f"{number}.txt"), "kill": kill}
        # One step leaves nothing to let go of before the end.
        for number, kill in enumerate((["remove", 1], None))
    ]
    assert runs(plan, tmp_path) == [-9, 0], told(plan)
    assert (tmp_path / "judge" / "judge.yaml").is_file()
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["0.txt", "1.txt", "base", "battles.csv", "judge", "plan.json"]
