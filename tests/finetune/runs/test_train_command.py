"""`arena-judge finetune train` as a user sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("torch")

from finetune.settings.config import read_config
from judge.cli.main import cli
from tests.finetune.small import battles_file
from tests.finetune.tiny import tiny_model

SHORT = ["--max-length", "64", "--step-battles", "5", "--lr", "0.01", "--device", "cpu"]
SHORT += ["--no-tensorboard"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("command")
    return battles_file(folder / "battles.csv"), tiny_model("bert", folder / "base")


def train(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["finetune", "train", *map(str, arguments)])


def test_from_battles_to_predictions(made: tuple[Path, Path], tmp_path: Path) -> None:
    battles, base = made
    target = tmp_path / "judge"
    done = train(battles, "--base", base, "-o", target, *SHORT, "--name", "mine")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("battles")
    assert "dev" in done.stdout
    assert "to choose by" in done.stderr
    assert f"{target}: written; 5 steps" in done.stderr
    scored = CliRunner().invoke(
        cli, ["score", str(battles), "--judge", str(target), "-o", str(tmp_path / "p.csv")]
    )
    assert scored.exit_code == 0, scored.output
    assert f"mine learned from {battles}" in scored.stderr
    table = pd.read_csv(tmp_path / "p.csv")
    assert len(table) == 24
    assert table.iloc[:, 1:].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-9)
    compared = CliRunner().invoke(cli, ["compare", str(battles), str(target)])
    assert "LEAK: mine learned from 24 of the battles here" in compared.output
    other = tmp_path / "calibrated"
    held = battles_file(tmp_path / "other.csv", seed=8)
    calibrated = CliRunner().invoke(
        cli, ["calibrate", str(held), "--judge", str(target), "-o", str(other)]
    )
    assert calibrated.exit_code == 0, calibrated.output


def test_json_and_the_config_that_was_used(made: tuple[Path, Path], tmp_path: Path) -> None:
    battles, base = made
    held = battles_file(tmp_path / "held.csv", 10, seed=4)
    target = tmp_path / "judge"
    arguments = (battles, "--base", base, "-o", target, *SHORT, "--held-out", held, "--json")
    done = train(*arguments)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["measured"]["held.csv"]["battles"] == 10
    assert told["steps"] == told["planned"] == 5
    assert told["tokens"] > 0
    assert told["mfu"] > 0
    config = read_config(target / "train.yaml")
    assert config.optimisation.lr == 0.01
    assert config.data.battles == str(battles)
    again = tmp_path / "again"
    second = train("--config", target / "train.yaml", "-o", again, "--json")
    assert second.exit_code == 0, second.output
    assert json.loads(second.stdout)["measured"] == told["measured"]
    assert (again / "head.safetensors").read_bytes() == (target / "head.safetensors").read_bytes()


def test_stats_only_says_and_writes_nothing(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    battles, base = made
    monkeypatch.chdir(tmp_path)
    extra = battles_file(tmp_path / "extra.csv", 8, seed=2)
    done = train(
        battles, "--base", base, *SHORT, "--extra", f"0.5*{extra}", "--stats-only", "--json"
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [one["battles"] for one in told["files"]] == [24, 8]
    assert told["speed"]["steps"] > 0
    words = train(battles, "--base", base, *SHORT, "--stats-only")
    assert words.exit_code == 0, words.output
    assert "training would be" in words.stderr
    assert sorted(one.name for one in tmp_path.iterdir()) == ["extra.csv"]


def test_what_cannot_be_is_said_before_anything_is_read(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    battles, base = made
    target = tmp_path / "judge"

    def fails(said: str, *arguments: object) -> None:
        done = train(*arguments)
        assert done.exit_code == 2, done.output
        assert said in done.output
        assert "Traceback" not in done.output
        assert not target.exists()

    fails("name the judge folder to write", battles, "--base", base)
    fails("name a file of BATTLES", "--base", base, "-o", target)
    fails("name one: --base MODEL", battles, "-o", target)
    fails("there is no such file", tmp_path / "none.csv", "--base", base, "-o", target)
    fails("is a file", battles, "--base", base, "-o", battles)
    alone = battles_file(tmp_path / "alone.csv", 1)
    fails("cannot be held out", alone, "--base", base, "-o", target)
    fails("the template single@1 is of the form single", battles, "--base", base, "-o", target,
          "--template", "single")  # fmt: skip
    fails("weight", battles, "--base", base, "-o", target, "--extra", f"-1*{battles}")
    fails("named twice", battles, "--base", base, "-o", target, "--extra", battles)
    taken = tmp_path / "mine"
    taken.mkdir()
    (taken / "thesis.txt").write_text("x")
    fails("is there already and is no judge", battles, "--base", base, "-o", taken)
    assert (taken / "thesis.txt").read_text() == "x"


def test_a_base_that_cannot_be_had_is_one_line(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is asked over the network: a process of its own, told that there is none."""
    battles, _ = made
    command = [sys.executable, "-m", "judge", "finetune", "train", str(battles)]
    command += ["--base", "nobody/no-such-model", "-o", str(tmp_path / "judge")]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nobody/no-such-model: the" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "judge").exists()


def test_an_earlier_judge_is_replaced_and_its_base_is_not(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    battles, base = made
    target = tmp_path / "judge"
    assert train(battles, "--base", base, "-o", target, *SHORT).exit_code == 0
    inside = train(battles, "--init", target, "-o", target, *SHORT)
    assert inside.exit_code == 2
    assert "is what training begins with" in inside.output
    assert train(battles, "--base", base, "-o", target, *SHORT, "--seed", "3").exit_code == 0
    assert read_config(target / "train.yaml").run.seed == 3


@pytest.mark.parametrize(
    "rows",
    [
        {"count": 24, "label": (0, 0, 1)},  # all ties
        {"count": 2, "label": None},
    ],
)
def test_odd_battles_are_learned_from(
    rows: dict[str, Any], made: tuple[Path, Path], tmp_path: Path
) -> None:
    _, base = made
    file = battles_file(tmp_path / "odd.csv", rows["count"])
    table = pd.read_csv(file)
    if rows["label"]:
        table[["winner_model_a", "winner_model_b", "winner_tie"]] = rows["label"]
    table.loc[0, "response_a"] = ""
    table.loc[1, "prompt"] = "\x1b[2J [CLS] [SEP] </s> <|end|> \u202e"
    table.to_csv(file, index=False)
    done = train(file, "--base", base, "-o", tmp_path / "judge", *SHORT, "--dev-share", "0.5")
    assert done.exit_code == 0, done.output
    alone = battles_file(tmp_path / "one.csv", 1)
    done = train(alone, "--base", base, "-o", tmp_path / "one", *SHORT, "--dev-share", "0")
    assert done.exit_code == 0, done.output
