"""Pipelines on a real Slurm of one node: the same results, in the right order, and what is killed
goes on. Where Slurm is not installed, or cannot be started, they say so and are left out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from finetune.pipeline.graph import Graph
from finetune.pipeline.recipe import read_recipe
from finetune.pipeline.slurm import submit
from judge.cli.main import cli
from judge.errors import ArenaJudgeError
from tests.finetune.pipeline.cluster import awaited, idle, run, slurm
from tests.finetune.small import battles_file

__all__ = ["slurm"]

RECIPE = """
variables: {battles: b.csv}
stages:
  scores: {run: "score {battles} -o {out}", out: "scores-{part}.csv", each: {part: [a, b, c]}}
  folds: {run: "finetune folds {battles} -k 2 -o {out} --force"}
  measured:
    run: "compare {battles} {scores} --rounds 100 -o {out}"
    out: measured.csv
"""


def told(folder: Path, recipe: str = RECIPE, output: str = "run") -> list[str]:
    battles = battles_file(folder / "b.csv", 60)
    file = folder / "quick.yaml"
    file.write_text(recipe, encoding="utf-8")
    return [str(file), "-o", str(folder / output), "--set", f"battles={battles}"]


def pipeline(words: list[str], *more: str) -> Any:
    return CliRunner().invoke(cli, ["finetune", "pipeline", *words, *more])


@pytest.mark.slow
@pytest.mark.xdist_group("slurm")
def test_slurm_gives_what_one_machine_gives(slurm: Path, tmp_path: Path) -> None:
    words = told(tmp_path)
    submitted = pipeline(words, "--on", "slurm", "--json")
    assert submitted.exit_code == 0, submitted.output
    jobs = json.loads(submitted.stdout)
    assert {job["stage"]: job["tasks"] for job in jobs} == {"scores": 3, "folds": 1, "measured": 1}
    awaited(idle, 240, "jobs do not end")
    logs = "\n".join(p.read_text() for p in (tmp_path / "run" / "logs").glob("*.out"))
    plan = json.loads(pipeline(words, "--dry-run", "--json").stdout)
    assert {one["state"] for one in plan} == {"done"}, logs
    here = [*words]
    here[2] = str(tmp_path / "here")
    assert pipeline(here).exit_code == 0
    for part in "abc":
        name = f"scores-{part}.csv"
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    nothing = pipeline(words, "--on", "slurm", "--json")
    assert json.loads(nothing.stdout) == []


@pytest.mark.slow
@pytest.mark.xdist_group("slurm")
def test_a_task_that_is_killed_is_submitted_again(slurm: Path, tmp_path: Path) -> None:
    words = told(tmp_path)
    jobs = json.loads(pipeline(words, "--on", "slurm", "--json").stdout)
    scores = next(job["number"] for job in jobs if job["stage"] == "scores")
    log = tmp_path / "run" / "logs" / "scores.b.log"
    awaited(log.is_file, 120, "the task does not begin")  # it is killed in the middle of its work
    run("scancel", "--signal=KILL", "--full", f"{scores}_1")
    run("scancel", f"{scores}_2")
    awaited(idle, 240, "jobs do not end")
    again = json.loads(pipeline(words, "--on", "slurm", "--json").stdout)
    assert [job["stage"] for job in again] == ["scores", "measured"]
    done = list((tmp_path / "run").glob("scores-*.csv"))
    before = {path: path.stat().st_mtime_ns for path in done}
    awaited(idle, 240, "jobs do not end")
    assert {path: path.stat().st_mtime_ns for path in done} == before
    plan = json.loads(pipeline(words, "--dry-run", "--json").stdout)
    assert {one["state"] for one in plan} == {"done"}


def test_what_sbatch_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    file = tmp_path / "quick.yaml"
    file.write_text(
        "variables: {battles: b.csv}\nstages:\n"
        "  folds: {run: 'finetune folds {battles} -o {out}'}\n"
        "  teach:\n    run: 'finetune teach {battles} --folds {folds} --fold {n} -o {out}'\n"
        "    each: {n: 3}\n"
        "  average: {run: 'finetune average {teach} {folds} -o {out}'}\n"
    )
    graph = Graph(read_recipe(file), folder)
    sent: list[tuple[list[str], str]] = []

    def send(command: list[str], script: str) -> str:
        sent.append((command, script))
        return f"{100 + len(sent)};cluster\n"

    environment = {"ARENA_JUDGE_CPUS": "7", "ARENA_JUDGE_TOGETHER": "2", "ARENA_JUDGE_GRES": ""}
    jobs = submit(graph, graph.recipe.stages, ["r"], environment=environment, run=send)
    assert [job.number for job in jobs] == ["101", "102", "103"]
    first, second, third = (command for command, _ in sent)
    assert "--cpus-per-task=7" in first
    assert not any(word.startswith(("--dependency", "--gres", "--array")) for word in first)
    assert "--array=0-2%2" in second
    assert "--dependency=afterok:101" in second
    assert "--dependency=afterok:102:101" in third
    assert '--only teach --task "$SLURM_ARRAY_TASK_ID"' in sent[1][1]
    assert sys.executable in sent[0][1]
    with pytest.raises(ArenaJudgeError, match="no job's number"):
        submit(graph, graph.recipe.stages, [], environment={}, run=lambda *_: "no", queued=set)

    # what waits or runs is not submitted twice, and what comes after it waits for it
    sent.clear()
    again = submit(
        graph,
        graph.recipe.stages,
        ["r"],
        environment=environment,
        run=send,
        queued=lambda: {"102", "7"},
    )
    assert [(job.stage, job.number, job.new) for job in again] == [
        ("folds", "101", True),
        ("teach", "102", False),
        ("average", "102", True),
    ]
    assert "--dependency=afterok:102:101" in sent[1][0]
    # told otherwise it is another job
    other = submit(
        graph,
        graph.recipe.stages,
        ["r", "--fast"],
        environment={},
        run=send,
        queued=lambda: {"102"},
    )
    assert all(job.new for job in other)
