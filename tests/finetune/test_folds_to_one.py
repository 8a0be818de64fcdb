"""From battles to one judge by way of folds, each step a command as a user gives it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("torch")

from judge.battles import read_battles
from judge.cli.main import cli
from judge.judges import load_judge
from judge.judges.classifier_settings import ClassifierSettings
from tests.finetune.small import battles_file
from tests.finetune.tiny import tiny_model

SHORT = ("--max-length", 64, "--step-battles", 5, "--lr", 0.01, "--device", "cpu", "--max-steps", 4)
ON_CPU = ("--device", "cpu", "--dtype", "float32")


def finetune(*arguments: object) -> Result:
    done = CliRunner().invoke(cli, ["finetune", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done


@pytest.mark.slow
def test_from_folds_to_one_judge(tmp_path: Path) -> None:
    battles, dev = battles_file(tmp_path / "b.csv"), battles_file(tmp_path / "dev.csv", 9, seed=7)
    base = tiny_model("llama", tmp_path / "base")
    folds, teachers = tmp_path / "folds", tmp_path / "teachers"
    finetune("folds", battles, "-k", 2, "-o", folds)
    told = ("--base", base, "--folds", folds, "-o", teachers, "--lora", "--lora-r", 4)
    finetune("teach", battles, *told, *SHORT, "--no-tensorboard")

    evaluated = finetune("evaluate", battles, teachers, "--folds", folds, "--json", *ON_CPU)
    found = json.loads(evaluated.stdout)
    assert [one["battles"] for one in found["folds"]] == [12, 12]

    # Judges of folds begin alike, so that even their factors have a mean.
    factors = tmp_path / "factors"
    made = finetune("average", teachers, "-o", factors, "--how", "factors", "--weights", "cv")
    assert "did not begin alike" not in made.stderr
    averaged, merged = tmp_path / "averaged", tmp_path / "merged"
    tried = ("--dev", dev, "--force-merge", "--json", *ON_CPU)
    made = finetune("average", teachers, "-o", averaged, "--rank", "exact", *tried)
    told_of = json.loads(made.stdout)
    assert told_of["rank"] == 8
    assert len(told_of["scores"]) == 4
    finetune("merge", averaged, "-o", merged, "--dtype", "float32")
    together = tmp_path / "together.yaml"
    finetune("ensemble", teachers, "-o", together)

    running = ClassifierSettings(device=("cpu",), dtype="float32")
    table = read_battles(dev)
    one, two = (load_judge(x, running=running).predict_proba(table) for x in (averaged, merged))
    np.testing.assert_allclose(one, two, atol=1e-5)
    arguments = (dev, averaged, merged, teachers, f"blend={together}", "--json", *ON_CPU)
    compared = json.loads(finetune("evaluate", *arguments).stdout)["comparison"]
    losses = {score["name"]: score["log_loss"] for score in compared["scores"]}
    assert losses["averaged"] == pytest.approx(losses["merged"], abs=1e-5)
    assert losses["blend"] == pytest.approx(losses["teachers"], abs=1e-5)
    assert losses["averaged"] == pytest.approx(told_of["scores"][0]["log_loss"], abs=1e-4)
