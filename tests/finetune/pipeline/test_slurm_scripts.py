"""The job scripts, from folds to a quantised student, on a real Slurm with a tiny model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from judge.judges import load_judge
from tests.finetune.pipeline.cluster import awaited, idle, slurm
from tests.finetune.small import battles_file
from tests.finetune.tiny import tiny_model

pytest.importorskip("torch")

__all__ = ["slurm"]

SCRIPTS = Path(__file__).parents[3] / "scripts" / "slurm"
STEPS = (
    *("folds", "teach", "logits", "merge-logits", "calibrate-logits", "prune", "distill"),
    *("ensemble", "average", "quantize", "evaluate"),
)


@pytest.mark.slow
@pytest.mark.xdist_group("slurm")
def test_all_steps_one_after_the_other(slurm: Path, tmp_path: Path) -> None:
    battles = battles_file(tmp_path / "b.csv", 40)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "SCRATCH": str(tmp_path),
        "BATTLES": str(battles),
        "HELD_OUT": str(battles_file(tmp_path / "h.csv", 20, seed=5)),
        "BASE": str(tiny_model("bert", tmp_path / "base")),
        "FOLDS": "2",
        "SHARDS": "2",
        "TRAIN": "--form single --max-length 32 --max-steps 3 --step-battles 6 --device cpu",
        "SBATCH": "--gres=none",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["sh", str(SCRIPTS / "submit.sh")],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    jobs = dict(line.split() for line in done.stderr.splitlines())
    assert tuple(jobs) == STEPS
    awaited(idle, 900, "jobs do not end")
    said = "\n".join(path.read_text() for path in sorted(tmp_path.glob("*.out")))
    made = tmp_path / "arena-judge"
    assert (made / "table.csv").is_file(), said
    assert (made / "weighed.parquet").is_file(), said
    assert len(list((made / "shards").glob("teacher-*.parquet"))) == 2
    table = (made / "table.csv").read_text()
    assert "quantized" in table
    assert "students together" in table
    assert load_judge(str(made / "students.yaml")).members
    assert load_judge(str(made / "quantized")).name


def test_there_is_a_script_for_every_step() -> None:
    here = {path.stem for path in SCRIPTS.glob("*.sbatch")}
    assert set(STEPS) | {"post-pretrain", "merge", "pipeline"} == here
    for path in SCRIPTS.glob("*.s*"):
        subprocess.run(["sh", "-n", str(path)], check=True)
