"""A graph handed to Slurm: a job for each stage, an array of them where a stage has several tasks,
each after those that it takes from.

Every job runs `arena-judge finetune pipeline RECIPE --only STAGE --task N` on its node, so that
what is done is known in the same way as on one machine, and submitting again submits what is left
and is not in Slurm's queue yet.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.pipeline.graph import DONE, Graph
from finetune.pipeline.recipe import Stage
from judge.errors import ArenaJudgeError, InputError
from judge.files.atomic import written_whole

LOGS = "logs"
# What the environment says about jobs, and the option of sbatch that it becomes; sbatch itself
# takes SBATCH_ACCOUNT, SBATCH_PARTITION, SBATCH_TIMELIMIT and others from there.
SETTINGS = {
    "ARENA_JUDGE_GRES": "--gres",
    "ARENA_JUDGE_CPUS": "--cpus-per-task",
    "ARENA_JUDGE_MEMORY": "--mem",
}
_JOBS = "_jobs.json"
_TOGETHER = "ARENA_JUDGE_TOGETHER"


@dataclass(frozen=True)
class Job:
    """A job that was submitted.

    Attributes:
        stage: what it runs.
        number: Slurm's.
        tasks: how many of them.
        new: whether it was submitted just now, and not before.
    """

    stage: str
    number: str
    tasks: int
    new: bool = True


def submit(
    graph: Graph,
    stages: Sequence[Stage],
    again: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    run: Callable[[list[str], str], str] | None = None,
    queued: Callable[[], set[str]] | None = None,
) -> list[Job]:
    """Submits what is neither done nor in the queue; jobs of both kinds in the end.

    Args:
        graph: what is run, and where.
        stages: those that are looked at.
        again: the words after `arena-judge finetune pipeline` that name recipe, folder and values.
        environment: says what jobs are told; by default that of this process.
        run: submits a script by a command and gives what it printed; by default Slurm's sbatch.
        queued: the numbers of jobs that wait or run; by default what Slurm's squeue says.

    Raises:
        ArenaJudgeError: there is no Slurm, or it refuses a job.
    """
    told = os.environ if environment is None else environment
    send = run or _sbatch
    if run is None and shutil.which("sbatch") is None:
        raise InputError("there is no sbatch here", mend="run where Slurm's commands are")
    (graph.folder / LOGS).mkdir(parents=True, exist_ok=True)
    numbers: dict[str, str] = {}
    jobs = []
    known = _Submitted(graph.records.folder / _JOBS)
    waiting = (queued or _queue)() if known.jobs else set()
    for standing in graph.standings(tuple(stages)):
        if standing.state == DONE:
            continue
        stage = standing.stage
        after = [numbers[name] for name in graph.recipe.needs(stage) if name in numbers]
        text = script(stage, again)
        before = known.number(stage.name, text)
        if before in waiting:
            numbers[stage.name] = before
            jobs.append(Job(stage.name, before, len(stage.tasks), new=False))
            continue
        said = send(_command(graph, stage, after, told), text)
        found = re.match(r"\s*(\d+)", said)
        if found is None:
            raise ArenaJudgeError(f"sbatch said {said.strip()[:200]!r} and no job's number")
        numbers[stage.name] = found[1]
        known.keep(stage.name, found[1], text)
        jobs.append(Job(stage.name, found[1], len(stage.tasks)))
    graph.records.save()
    return jobs


class _Submitted:
    """The jobs of a run that were submitted last, by their stages."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.jobs: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            read = json.loads(file.read_text(encoding="utf-8"))
            self.jobs = read if isinstance(read, dict) else {}

    def number(self, stage: str, text: str) -> str:
        """Of the job that runs such a script for a stage; empty if none does."""
        job = self.jobs.get(stage)
        if not isinstance(job, dict) or job.get("script") != text:
            return ""
        return str(job.get("number", ""))

    def keep(self, stage: str, number: str, text: str) -> None:
        self.jobs[stage] = {"number": number, "script": text}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(self._file) as file:
            file.write(json.dumps(self.jobs, indent=1).encode())


def _queue() -> set[str]:
    """The numbers of this user's jobs; of arrays the array's."""
    if shutil.which("squeue") is None:
        return set()
    command = ["squeue", "--noheader", "--me", "--format=%F"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split()) or f"status {done.returncode}"
        raise ArenaJudgeError(f"squeue does not say what is in the queue ({reason[:300]})")
    return set(done.stdout.split())


def script(stage: Stage, again: Sequence[str]) -> str:
    """What a job runs."""
    import shlex

    words = [sys.executable, "-m", "judge", "finetune", "pipeline", *again, "--only", stage.name]
    task = ' --task "$SLURM_ARRAY_TASK_ID"' if stage.each is not None else ""
    return f"#!/bin/sh\nset -eu\nexec {shlex.join(words)}{task}\n"


def _command(
    graph: Graph, stage: Stage, after: Sequence[str], told: Mapping[str, str]
) -> list[str]:
    log = "%x.%a.out" if stage.each is not None else "%x.out"
    command = ["sbatch", "--parsable", f"--job-name={stage.name}"]
    command += [f"--output={graph.folder.resolve() / LOGS / log}", f"--chdir={Path.cwd()}"]
    command += [f"{option}={told[name]}" for name, option in SETTINGS.items() if told.get(name)]
    if stage.each is not None:
        together = f"%{told[_TOGETHER]}" if told.get(_TOGETHER) else ""
        command.append(f"--array=0-{len(stage.tasks) - 1}{together}")
    if after:
        command += [f"--dependency=afterok:{':'.join(after)}", "--kill-on-invalid-dep=yes"]
    return command


def _sbatch(command: list[str], text: str) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split()) or f"status {done.returncode}"
        raise ArenaJudgeError(f"sbatch refuses the job ({reason[:300]})")
    return done.stdout
