"""A graph run on this machine: a process for each task, one after the other, or one on each GPU.

What commands say goes to a log each. A task that fails ends the run with the last of its words;
those beside it are ended too, and go on where they were the next time.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue

from finetune.pipeline.graph import Graph, Task
from finetune.pipeline.recipe import Stage
from finetune.pipeline.records import Record, size_of
from judge.errors import ArenaJudgeError

LOGS = "logs"
# Commands that go on with what they have written; of others it is removed first.
RESUMING = ("finetune teach", "finetune distill", "finetune logits", "synth run")
_LAST = 15

Say = Callable[[str], None]


class LocalRun:
    """Runs stages that are not done.

    Args:
        graph: what is run, and where.
        gpus: their numbers, of which each task has one to itself; none for one task at a time that
            sees everything.
        say: is told what begins and ends.
    """

    def __init__(
        self, graph: Graph, *, gpus: Sequence[str] = (), say: Say = lambda line: None
    ) -> None:
        self._graph, self._say = graph, say
        self._places: SimpleQueue[str | None] = SimpleQueue()
        for place in gpus or (None,):
            self._places.put(place)
        self._width = max(len(gpus), 1)
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._lock, self._ended = threading.Lock(), False

    def stages(self, chosen: Sequence[Stage]) -> int:
        """Runs what is to be done of them; how many tasks ran.

        Raises:
            ArenaJudgeError: a command failed, or what stages take from is not there.
        """
        left = {stage.name: stage for stage in chosen}
        self._graph.ready(chosen)
        running: dict[Future[int], str] = {}
        count = 0
        with ThreadPoolExecutor(self._width) as pool:
            try:
                while left or running:
                    waited = {*left, *running.values()}
                    for name, stage in list(left.items()):
                        if not waited & set(self._graph.recipe.needs(stage)):
                            running[pool.submit(self._stage, stage)] = left.pop(name).name
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        del running[future]
                        count += future.result()
            except BaseException:
                self._end()
                raise
            finally:
                self._graph.records.save()
        return count

    def task(self, task: Task) -> bool:
        """Runs a task unless it is done; whether it ran.

        Raises:
            ArenaJudgeError: its command failed.
        """
        if self._graph.done(task):
            self._say(f"{task.name}: done already")
            return False
        key = self._graph.key(task)
        with self._lock:
            self._clear(task, key)
            self._graph.records.begin(task.name, key)
        log = self._graph.folder / LOGS / f"{task.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        task.out.parent.mkdir(parents=True, exist_ok=True)
        place = self._places.get()
        try:
            self._say(f"{task.name}: arena-judge {' '.join(task.words[:2])} ...")
            began = time.monotonic()
            status, memory = self._command(task.words, log, place)
            seconds = time.monotonic() - began
        finally:
            self._places.put(place)
        if status or not task.out.exists():
            raise ArenaJudgeError(_failure(task, status, log))
        record = Record(key, task.words, round(seconds, 2), memory, size_of(task.out))
        self._graph.records.keep(task.name, record)
        self._say(f"{task.name}: done in {seconds:.0f} s")
        return True

    # --- parts ---

    def _stage(self, stage: Stage) -> int:
        """Tasks of a stage are run in one thread, unless there are GPUs to spread them over."""
        tasks = self._graph.tasks(stage)
        if self._width == 1 or len(tasks) == 1:
            return sum(map(self.task, tasks))
        with ThreadPoolExecutor(self._width) as own:
            return sum(own.map(self.task, tasks))

    def _clear(self, task: Task, key: str) -> None:
        """Removes what was made with other inputs or settings, or is unfinished and of no use."""
        goes_on = " ".join(task.words[:2]) in RESUMING
        old = self._graph.records.of(task.name)
        begun = self._graph.records.begun(task.name)
        same = key in (begun, None if old is None else old.key)
        if not task.out.exists() or (goes_on and same):
            return
        siblings = (one for one in self._graph.tasks(task.stage) if one.name != task.name)
        if any(one.out == task.out and self._counts(one) for one in siblings):
            return  # what they made lies there too; the command sees to its own part
        self._say(f"{task.name}: {task.out} was made of something else and is made anew")
        if task.out.is_dir():
            shutil.rmtree(task.out)
        else:
            task.out.unlink()

    def _counts(self, task: Task) -> bool:
        """Whether a task has done, or begun, what it would do now."""
        begun = self._graph.records.begun(task.name)
        return self._graph.done(task) or begun == self._graph.key(task)

    def _command(self, words: Sequence[str], log: Path, place: str | None) -> tuple[int, int]:
        """A command's exit status, and the most memory that it held, in bytes."""
        environment = dict(os.environ)
        if place is not None:
            environment["CUDA_VISIBLE_DEVICES"] = place
        with log.open("ab") as file:
            file.write(f"$ arena-judge {' '.join(words)}\n".encode())
            file.flush()
            with self._lock:
                if self._ended:
                    raise ArenaJudgeError("another task has failed")
                process = subprocess.Popen(
                    [sys.executable, "-m", "judge", *words],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env=environment,
                )
                self._running[process.pid] = process
            try:
                _, status, used = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            finally:
                with self._lock:
                    self._running.pop(process.pid, None)
        return process.returncode, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def _end(self) -> None:
        with self._lock:
            self._ended = True
            for process in self._running.values():
                process.send_signal(signal.SIGTERM)


def _failure(task: Task, status: int, log: Path) -> str:
    how = f"was ended by signal {-status}" if status < 0 else f"failed ({status})"
    if status == 0:
        how = f"made no {task.out}"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST:]
    last = next((line for line in reversed(lines) if "error" in line.lower()), "")
    said = f": {last.strip()}" if last else ""
    return f"the stage {task.name} {how}{said}; all that it said is in {log}"
