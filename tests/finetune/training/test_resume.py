"""A run that is ended anywhere goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch")

from safetensors.torch import load_file, save_file

from finetune.runs.making import Made
from finetune.runs.running import run
from finetune.training.checkpoints import RUN, Checkpoints, State, Tensors, place_of
from finetune.training.curves import read_curve
from judge.battles import read_battles
from judge.errors import InputError
from judge.judges import load_judge
from tests.finetune.small import battles_file, small
from tests.finetune.tiny import tiny_model


class Ended(BaseException):
    """As a kill, as far as that goes within a process."""


class EndAfter:
    """Ends a run after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def begin(self, tokens: int) -> None:
        assert tokens >= 0

    def __call__(self, tokens: int, point: Any, speed: float, share: float | None) -> None:
        if point.step == self.step:
            raise Ended


@pytest.fixture(scope="module")
def battles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return battles_file(tmp_path_factory.mktemp("battles") / "battles.csv")


def curve_of(folder: Path) -> list[tuple[Any, ...]]:
    """All that is alike in two runs: not the seconds."""
    return [
        (p.step, p.epoch, p.tokens, p.loss, p.lr, p.dev_log_loss, p.norm)
        for p in read_curve(folder / "curve.csv")
    ]


def weights_of(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    from safetensors.numpy import load_file

    return {
        f"{file.name}/{name}": weight
        for file in sorted(folder.glob("*.safetensors"))
        for name, weight in load_file(file).items()
    }


@pytest.mark.parametrize(
    ("family", "told"),
    [
        ("bert", {}),  # with its dropout
        ("llama", {"lora__dropout": 0.2, "optimisation__ema": 0.8}),
        ("deberta-v2", {"model__head": "symmetric", "model__form": "single", "run__save_every": 2}),
    ],
)
def test_a_run_that_is_ended_again_and_again_comes_to_the_same(
    family: str, told: dict[str, Any], battles: Path, tmp_path: Path
) -> None:
    base = tiny_model(family, tmp_path / "base")
    config = small(battles, base, optimisation__epochs=2.0, run__eval_every=3, **told)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    made: Made = run(config, whole)
    for step in (1, 4, 5, 6):
        with pytest.raises(Ended):
            run(config, broken, watch=EndAfter(step))
        assert place_of(broken).is_dir()
        assert not broken.exists()
    again: Made = run(config, broken)
    assert again.outcome.resumed >= 5 - config.run.save_every
    assert curve_of(whole) == curve_of(broken)
    assert again.scores == made.scores
    one, other = weights_of(whole), weights_of(broken)
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    assert not place_of(broken).exists()


def test_what_was_trained_by_other_settings_is_not_gone_on_with(
    battles: Path, tmp_path: Path
) -> None:
    base = tiny_model("bert", tmp_path / "base")
    target = tmp_path / "judge"
    config = small(battles, base, run__eval_every=1)
    with pytest.raises(Ended):
        run(config, target, watch=EndAfter(2))
    other = small(battles, base, run__eval_every=1, optimisation__lr=3e-3)
    with pytest.raises(
        InputError, match=r"an unfinished run with lr 0\.01 and not 0\.003.*--fresh"
    ):
        run(other, target)
    assert run(other, target, fresh=True).outcome.resumed == 0
    assert (target / "judge.yaml").is_file()


def test_other_battles_are_another_run(battles: Path, tmp_path: Path) -> None:
    base = tiny_model("bert", tmp_path / "base")
    mine = tmp_path / "mine.csv"
    shutil.copy(battles, mine)
    with pytest.raises(Ended):
        run(small(mine, base), tmp_path / "judge", watch=EndAfter(1))
    battles_file(mine, seed=5)
    with pytest.raises(InputError, match="unfinished run"):
        run(small(mine, base), tmp_path / "judge")


def test_other_weights_of_battles_are_another_run(battles: Path, tmp_path: Path) -> None:
    """As `prune --how weigh` writes them, anew into the same file."""
    base = tiny_model("bert", tmp_path / "base")
    mine = tmp_path / "mine.csv"
    table = pd.read_csv(battles)
    table.assign(weight=1.0).to_csv(mine, index=False)
    with pytest.raises(Ended):
        run(small(mine, base), tmp_path / "judge", watch=EndAfter(1))
    table.assign(weight=np.linspace(0.5, 1.5, len(table))).to_csv(mine, index=False)
    with pytest.raises(InputError, match="unfinished run"):
        run(small(mine, base), tmp_path / "judge")


def test_a_base_that_was_trained_anew_is_another_run(battles: Path, tmp_path: Path) -> None:
    base = tiny_model("bert", tmp_path / "base")
    with pytest.raises(Ended):
        run(small(battles, base), tmp_path / "judge", watch=EndAfter(1))
    weights = load_file(base / "model.safetensors")
    save_file({name: one + 1e-3 for name, one in weights.items()}, base / "model.safetensors")
    with pytest.raises(InputError, match="unfinished run"):
        run(small(battles, base), tmp_path / "judge")


def test_two_runs_do_not_write_one_folder(tmp_path: Path) -> None:
    first = Checkpoints(tmp_path / "x.training", {"lr": 1})
    with pytest.raises(InputError, match="is being written by the same command"):
        Checkpoints(tmp_path / "x.training", {"lr": 1})
    del first
    Checkpoints(tmp_path / "x.training", {"lr": 1})


def test_a_folder_of_something_else_stays(tmp_path: Path) -> None:
    folder = tmp_path / "x.training"
    folder.mkdir()
    (folder / "thesis.txt").write_text("two years of work")
    with pytest.raises(InputError, match="is no unfinished run"):
        Checkpoints(folder, {"lr": 1})
    with pytest.raises(InputError, match="is no unfinished run"):
        Checkpoints(folder, {"lr": 1}, fresh=True)
    assert (folder / "thesis.txt").read_text() == "two years of work"


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_damaged_run_is_one_line(content: str, tmp_path: Path) -> None:
    folder = tmp_path / "x.training"
    folder.mkdir()
    (folder / RUN).write_text(content)
    with pytest.raises(InputError, match="--fresh"):
        Checkpoints(folder, {"lr": 1})
    Checkpoints(folder, {"lr": 1}, fresh=True)
    assert json.loads((folder / RUN).read_text()) == {"lr": 1}


def test_only_what_is_needed_is_kept(tmp_path: Path) -> None:
    import torch

    kept = Checkpoints(tmp_path / "x.training", {})
    weights = {"w": torch.arange(3.0)}
    for step in range(1, 8):
        if step in (2, 5):
            kept.save_best(step, weights)
        best = 5 if step >= 5 else 2 if step >= 2 else None
        kept.save(State(step=step, best_step=best), Tensors(weights, {"w/exp_avg": weights["w"]}))
    folders = sorted(one.name for one in kept.folder.iterdir() if one.is_dir())
    assert folders == ["best-0000005", "step-0000007"]
    assert kept.latest() == State(step=7, best_step=5)
    assert not [one for one in kept.folder.rglob("*") if one.suffix in (".pt", ".bin", ".pkl")]


@pytest.mark.slow
def test_a_killed_process_leaves_nothing_that_matters(battles: Path, tmp_path: Path) -> None:
    """SIGKILL at points of chance, which depend on how fast the machine is: any must do."""
    base = tiny_model("bert", tmp_path / "base")
    # Some times as many steps as there are kills, a checkpoint after each.
    told = ["--base", str(base), "--max-length", "64", "--step-battles", "3", "--epochs", "3"]
    told += ["--lr", "0.01", "--eval-every", "1", "--device", "cpu", "--no-tensorboard"]

    def command(target: Path) -> list[str]:
        return [
            *(sys.executable, "-m", "judge", "finetune", "train", str(battles)),
            *(*told, "-o", str(target)),
        ]

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command(whole), check=True, env=environment, capture_output=True)
    steps = len(curve_of(whole))
    for seed, part in enumerate((0.2, 0.5, 0.8)):
        process = subprocess.Popen(
            command(broken), env=environment, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(f"step {int(part * steps)} "):
                # Somewhere in the work between two lines.
                for _ in range(random.Random(seed).randrange(200_000)):
                    pass
                break
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stderr.close()
    subprocess.run(command(broken), check=True, env=environment, capture_output=True)
    assert curve_of(broken) == curve_of(whole)
    table = read_battles(battles)
    said = []
    for folder in (whole, broken):
        with closing(load_judge(str(folder))) as judge:
            said.append(judge.predict_proba(table))
    np.testing.assert_allclose(*said, atol=1e-5)
