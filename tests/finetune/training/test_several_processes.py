"""Runs of several processes that are killed, and that share weights in float16."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from finetune.training.checkpoints import place_of
from finetune.training.curves import read_curve
from tests.finetune.small import battles_file
from tests.finetune.tiny import tiny_model
from tests.finetune.training.test_resume import curve_of, weights_of

pytestmark = pytest.mark.slow

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture
def battles(tmp_path: Path) -> Path:
    return battles_file(tmp_path / "battles.csv")


def command(battles: Path, base: Path, target: Path, *more: str, several: bool = True) -> list[str]:
    told = ["--base", str(base), "--max-length", "64", "--epochs", "2", "--lr", "0.01"]
    told += ["--step-battles", "3", "--batch-tokens", "128", "--device", "cpu", "--eval-every", "1"]
    start = [sys.executable, *(TORCHRUN if several else ())]
    whole = [*start, "-m", "judge", "finetune", "train", str(battles), *told, *more]
    return [*whole, "--no-tensorboard", "-o", str(target)]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def finished(arguments: list[str]) -> None:
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def workers_of(agent: int) -> list[int]:
    """The processes that torchrun has started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = entry.read_text().rpartition(")")[2].split()[1]
        except OSError:  # it has ended by now
            continue
        if int(parent) == agent:
            found.append(int(entry.parent.name))
    return sorted(found)


def killed_at(step: int, arguments: list[str], which: str) -> None:
    """Starts a run and kills it once a step is done: one of its processes, as a machine does that
    runs out of memory, or all of them and torchrun, as when the power goes."""
    run = subprocess.Popen(
        arguments, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert run.stderr is not None
    for line in run.stderr:
        if line.startswith(f"step {step} "):
            break
    else:
        raise AssertionError(f"it ended before step {step}")
    workers = workers_of(run.pid)
    assert len(workers) == 2
    if which == "all":
        run.kill()
    for pid in workers if which == "all" else workers[1:]:
        os.kill(pid, signal.SIGKILL)
    for _ in run.stderr:  # until the last of them has let go of it
        pass
    assert run.wait() != 0
    run.stderr.close()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to find processes in")
@pytest.mark.parametrize("more", [[], ["--fsdp"]], ids=["ddp", "fsdp"])
def test_processes_that_were_killed_go_on_with_the_same_curve(
    more: list[str], battles: Path, tmp_path: Path
) -> None:
    base = tiny_model("bert", tmp_path / "base")  # with its dropout
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finished(command(battles, base, whole, *more))
    steps = len(curve_of(whole))
    assert steps > 8
    killed_at(3, command(battles, base, broken, *more), "one")
    assert place_of(broken).is_dir()
    assert not broken.exists()
    killed_at(steps - 3, command(battles, base, broken, *more), "all")
    assert not broken.exists()
    finished(command(battles, base, broken, *more))
    assert curve_of(broken) == curve_of(whole)
    assert not place_of(broken).exists()
    one, other = weights_of(whole), weights_of(broken)
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize("more", [["--checkpointing"], ["--ema", "0.5"]])
def test_adapters_learn_in_float16_beside_shared_weights(
    more: list[str], battles: Path, tmp_path: Path
) -> None:
    base = tiny_model("llama", tmp_path / "base")
    losses: list[Any] = []
    for name, several in (("one", False), ("two", True)):
        told = ["--dtype", "float16", *more, *(["--fsdp"] if several else [])]
        finished(command(battles, base, tmp_path / name, *told, several=several))
        losses.append([point.loss for point in read_curve(tmp_path / name / "curve.csv")])
    np.testing.assert_allclose(losses[0], losses[1], atol=0.02)


def test_what_cannot_learn_so_is_refused_by_all(battles: Path, tmp_path: Path) -> None:
    base = tiny_model("bert", tmp_path / "base")
    told = ["--dtype", "float16", "--fsdp", "--no-lora"]
    done = subprocess.run(
        command(battles, base, tmp_path / "judge", *told),
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "all weights cannot learn in float16 with --fsdp" in done.stderr
    assert not (tmp_path / "judge").exists()
