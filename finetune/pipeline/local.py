"""A graph run on this machine: a process for each task, one after the other, or one on each GPU.

What commands say goes to a log each. A task that fails ends the run with the last of its words;
those beside it are ended too, and go on where they were the next time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue

from finetune.pipeline.aside import UNFINISHED, Aside
from finetune.pipeline.graph import Graph, Task
from finetune.pipeline.recipe import Stage
from finetune.pipeline.records import Record, size_of
from judge.errors import ArenaJudgeError

LOGS = "logs"
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
        self._aside = Aside(graph, say)
        self._places: SimpleQueue[str | None] = SimpleQueue()
        for place in gpus or (None,):
            self._places.put(place)
        self._width = max(len(gpus), 1)
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._failure: BaseException | None = None

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
            except BaseException as error:
                self._end(error)
                # One of those that were ended for it may have come first.
                raise (self._failure or error) from None
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
        if self._failure is not None:
            raise ArenaJudgeError("another task has failed")
        key = self._graph.key(task)
        if not self._aside.begin(task, key):
            self._say(f"{task.name}: done already, and there again")
            return False
        before = _entries(task.out)
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
            self._aside.failed(task)
            error = ArenaJudgeError(_failed(task, status, log))
            self._end(error)
            raise error
        made = size_of(task.out)
        added = tuple(sorted(_entries(task.out) - before))
        record = Record(key, task.words, round(seconds, 2), memory, made, added)
        self._graph.records.keep(task.name, record)
        self._aside.made(task)
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

    def _command(self, words: Sequence[str], log: Path, place: str | None) -> tuple[int, int]:
        """A command's exit status, and the most memory that it held, in bytes."""
        environment = dict(os.environ)
        if place is not None:
            environment["CUDA_VISIBLE_DEVICES"] = place
        with log.open("ab") as file:
            file.write(f"$ arena-judge {' '.join(words)}\n".encode())
            file.flush()
            with self._lock:
                if self._failure is not None:
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

    def _end(self, error: BaseException) -> None:
        """Ends what runs; of what has gone wrong the first counts, which ended the others."""
        with self._lock:
            self._failure = self._failure or error
            for process in self._running.values():
                process.send_signal(signal.SIGTERM)


def _entries(folder: Path) -> set[str]:
    """The names of what is in a folder, but for what is hidden or unfinished."""
    names = [one.name for one in folder.iterdir()] if folder.is_dir() else []
    return {one for one in names if not (one.startswith(".") or one.endswith(UNFINISHED))}


def _failed(task: Task, status: int, log: Path) -> str:
    how = f"was ended by signal {-status}" if status < 0 else f"failed ({status})"
    if status == 0:
        how = f"made no {task.out}"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST:]
    last = next((line for line in reversed(lines) if "error" in line.lower()), "")
    said = f": {last.strip()}" if last else ""
    return f"the stage {task.name} {how}{said}; all that it said is in {log}"
