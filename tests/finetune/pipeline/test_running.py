"""Pipelines that run: what is done is not done again, what changed is, what failed is said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from judge.cli.main import cli
from tests.finetune.small import battles_file

RECIPE = """
about: What is quick.
variables: {battles: b.csv, k: 2}
stages:
  folds: {run: "finetune folds {battles} -k {k} -o {out} --force", out: folds}
  scores: {run: "score {battles} -o {out}", out: "scores-{part}.csv", each: {part: [a, b]}}
  others: {run: "finetune folds {battles} --seed 1 -k 2 -o {out} --force", out: others}
measure:
  battles: "{battles}"
  rows:
    style: {judge: statistical}
    calibrated: {judge: statistical, calibrate: true, than: style}
"""


@pytest.fixture
def told(tmp_path: Path) -> list[str]:
    battles = battles_file(tmp_path / "b.csv", 40)
    file = tmp_path / "quick.yaml"
    file.write_text(RECIPE, encoding="utf-8")
    return [str(file), "-o", str(tmp_path / "run"), "--set", f"battles={battles}"]


def run(told: list[str], *more: str) -> Any:
    return CliRunner().invoke(cli, ["finetune", "pipeline", *told, *more])


def states(told: list[str], *more: str) -> dict[str, str]:
    found = json.loads(run(told, "--dry-run", "--json", *more).stdout)
    return {one["stage"]: one["state"] for one in found}


@pytest.mark.slow
def test_all_is_run_once(told: list[str], tmp_path: Path) -> None:
    assert states(told) == {"folds": "to do", "scores": "to do", "others": "to do"}
    first = run(told)
    assert first.exit_code == 0, first.output
    assert "4 tasks run, 0 done before" in first.stderr
    assert "calibrated" in first.stdout
    made = tmp_path / "run"
    assert (made / "folds" / "folds.json").is_file()
    assert (made / "scores-a.csv").read_bytes() == (made / "scores-b.csv").read_bytes()
    steps = pd.read_csv(made / "steps.csv")
    assert steps["step"].tolist() == ["style", "calibrated"]
    assert (steps["low"] < steps["log_loss"]).all()
    assert (steps["log_loss"] < steps["high"]).all()
    assert steps["than"].fillna("").tolist() == ["", "style"]
    gained = steps["log_loss"][1] - steps["log_loss"][0]
    assert steps["less"][1] == pytest.approx(gained, abs=1e-12)
    drawn = (made / "steps.svg").read_text("utf-8")
    assert all(name in drawn for name in ("style", "calibrated", f"{steps['log_loss'][0]:.4f}"))
    assert "$ arena-judge score" in (made / "logs" / "scores.a.log").read_text()
    times = {path: path.stat().st_mtime_ns for path in made.glob("scores-*.csv")}
    again = run(told)
    assert "0 tasks run, 4 done before" in again.stderr
    assert again.stdout == first.stdout
    assert times == {path: path.stat().st_mtime_ns for path in made.glob("scores-*.csv")}
    told_ = json.loads(run(told, "--dry-run", "--json").stdout)
    assert all(one["minutes"] > 0 and one["memory_gib"] > 0.01 for one in told_)

    # another setting: what hangs on it is due, and nothing else
    assert states(told, "--set", "k=3") == {"folds": "changed", "scores": "done", "others": "done"}
    (made / "scores-b.csv").unlink()
    assert states(told)["scores"] == "changed"
    # other battles under the same name
    battles_file(tmp_path / "b.csv", 41)
    assert set(states(told).values()) == {"changed"}
    last = run(told, "--only", "folds")
    assert "made of something else" in last.stderr
    assert "1 task run" in last.stderr
    assert json.loads((made / "folds" / "folds.json").read_text())["k"] == 2


@pytest.mark.slow
def test_what_fails_is_said_and_the_rest_goes_on_later(told: list[str], tmp_path: Path) -> None:
    failed = run(told, "--set", "k=1000")
    assert failed.exit_code != 0
    (line,) = [one for one in failed.stderr.splitlines() if "error" in one.lower()]
    assert "the stage folds failed" in line
    assert str(tmp_path / "run" / "logs" / "folds.log") in line
    assert "Traceback" not in failed.output
    assert run(told, "--only", "folds").exit_code == 0


@pytest.mark.slow
def test_a_killed_run_goes_on(told: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "judge", "finetune", "pipeline", *told]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=tmp_path
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "scores.a: done" in line:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    ended = run(told)
    assert ended.exit_code == 0, ended.output
    assert "done before" in ended.stderr
    assert "0 done before" not in ended.stderr
    assert states(told) == {"folds": "done", "scores": "done", "others": "done"}


@pytest.mark.slow
def test_of_tasks_side_by_side_the_one_that_failed_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are ended for it are not, and come before it in the recipe."""
    monkeypatch.chdir(tmp_path)
    battles_file(tmp_path / "many.csv", 20_000)
    file = tmp_path / "r.yaml"
    file.write_text(
        "stages:\n"
        "  work:\n"
        "    run: score {which}.csv -o {out}\n"
        "    out: said-{which}.csv\n"
        "    each: {which: [many, none]}\n"
    )
    found = run([str(file), "-o", "run"], "--gpus", "0,1")
    assert found.exit_code != 0
    (line,) = [one for one in found.stderr.splitlines() if "error" in one.lower()]
    assert "the stage work.none failed" in line
    assert "signal" not in line
    assert not (tmp_path / "run" / "said-many.csv").exists()


def test_a_stage_whose_inputs_are_not_there(told: list[str], tmp_path: Path) -> None:
    file = tmp_path / "needs.yaml"
    file.write_text(
        "variables: {battles: b.csv}\nstages:\n"
        "  first: {run: 'finetune folds {battles} -o {out}'}\n"
        "  second: {run: 'score {battles} --judge {first} -o {out}'}\n"
    )
    found = run([str(file), *told[1:]], "--only", "second")
    assert found.exit_code != 0
    assert "second takes from first, which is not done" in found.output
    assert states([str(file), *told[1:]]) == {"first": "to do", "second": "after others"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--task", "1"], "--task is a number of a task of the one --only stage"),
        (["--only", "scores", "--task", "2"], "--task is a number"),
        (["--gpus", "0,0"], "GPUs are numbers"),
        (["--set", "k"], "is not NAME=VALUE"),
        (["--from", "nothing"], "has no stage nothing"),
    ],
)
def test_words_that_cannot_be(told: list[str], more: list[str], said: str) -> None:
    found = run(told, *more)
    assert found.exit_code != 0
    assert said in " ".join(found.output.split())


def test_the_plan_says_what_comes_after_what(told: list[str]) -> None:
    found = run(told, "--dry-run")
    assert found.exit_code == 0
    assert [line.split()[0] for line in found.stdout.splitlines()[-3:]] == [
        "folds",
        "scores",
        "others",
    ]
    assert "to go; What is quick." in found.stderr
