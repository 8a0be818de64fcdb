"""The steps that hand judges to one another: post-pretrain, merge, teach, and their logits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch")

from judge.battles import read_battles
from judge.cli.main import cli
from judge.judges.recipes import read_recipe
from tests.finetune.small import battles_file
from tests.finetune.taught import folds_file, predictions
from tests.finetune.tiny import tiny_model

SHORT = ["--max-length", "64", "--step-battles", "6", "--lr", "0.01", "--device", "cpu"]
SHORT += ["--no-tensorboard", "--dtype", "float32"]


def finetune(*arguments: object) -> str:
    done = CliRunner().invoke(cli, ["finetune", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_teachers_go_on_from_what_other_preferences_taught(tmp_path: Path) -> None:
    """A base learns from other people's battles, the adapter goes into it, and the judge of each
    fold begins from there with an adapter of its own and the head that was learned."""
    base = tiny_model("llama", tmp_path / "base")
    other = battles_file(tmp_path / "other.csv", 24, seed=3)
    battles = battles_file(tmp_path / "battles.csv", 16)
    folds = folds_file(tmp_path / "folds", battles, 2)
    finetune("train", other, "--base", base, *SHORT, "-o", tmp_path / "post")
    finetune("merge", tmp_path / "post", "-o", tmp_path / "merged", "--dtype", "float32")
    table = read_battles(battles)

    merged = predictions(tmp_path / "merged", table)
    np.testing.assert_allclose(merged, predictions(tmp_path / "post", table), atol=1e-5)
    teachers = tmp_path / "teachers"
    shared = (battles, "--folds", folds, "--init", tmp_path / "merged", "--lora", *SHORT)
    # With a rate of nothing the judges of folds are what they began as.
    finetune("teach", *shared, "--lr", "0", "-o", tmp_path / "still")
    for fold in range(2):
        np.testing.assert_allclose(
            predictions(tmp_path / "still" / f"fold-{fold}", table), merged, atol=1e-5
        )
    told = json.loads(finetune("teach", *shared, "-o", teachers, "--json"))
    assert told["missing"] == []
    for fold in range(2):
        settings = read_recipe(teachers / f"fold-{fold}" / "judge.yaml").settings
        assert settings["weights"] == "lora"
        assert (teachers / f"fold-{fold}" / settings["base"]).resolve() == tmp_path / "merged"
        assert np.abs(predictions(teachers / f"fold-{fold}", table) - merged).max() > 1e-3
    assert (
        np.abs(
            predictions(teachers / "fold-0", table) - predictions(teachers / "fold-1", table)
        ).max()
        > 1e-3
    )
