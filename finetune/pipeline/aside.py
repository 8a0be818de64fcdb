"""What lies already where a task is going to write.

What the same command has begun is left to it, if it goes on with such things. What was made with
other inputs or settings is laid aside, with what is known of it, until the task has made something
in its place; a task that ends before it has written anything gets it back, so that a mistyped
option costs nothing. Tasks of a stage may share a folder, and may be begun on several machines.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from finetune.pipeline.graph import Graph, Task

# Commands that go on with what they have written; of others it is taken away first.
RESUMING = (
    *("finetune teach", "finetune distill", "finetune statistical", "finetune logits"),
    "synth run",
)
# What commands keep beside what they are going to write, by the ending of its name.
UNFINISHED = (".training", ".parts")
FOLDER, LOCK, MADE = "aside", "lock", "made"


class Aside:
    """Makes room for tasks.

    Args:
        graph: what is run, and where.
        say: is told what is laid aside.
    """

    def __init__(self, graph: Graph, say: Callable[[str], None]) -> None:
        self._graph, self._say = graph, say
        self._records = graph.records
        self._lock = threading.Lock()

    def begin(self, task: Task, key: str) -> bool:
        """Makes room for a task and writes that it is under way; False if it turns out done."""
        with self._alone():
            if not any(map(self._counts, self._sharing(task))):
                self._bring_back(task)
                if self._graph.done(task):
                    return False
            self._clear(task, key)
            self._records.begin(task.name, key)
        return True

    def made(self, task: Task) -> None:
        """A task has made what was to be made: what was laid aside is of no use any more."""
        with self._alone():
            shutil.rmtree(self._place(task), ignore_errors=True)

    def failed(self, task: Task) -> None:
        """A task has failed: what was there is there again, unless there is something new."""
        with self._alone():
            if not any(self._counts(one) for one in self._others(task)):
                self._bring_back(task)

    # --- parts ---

    def _clear(self, task: Task, key: str) -> None:
        old, begun = self._records.of(task.name), self._records.begun(task.name)
        if begun != key:
            for ending in UNFINISHED:
                shutil.rmtree(task.out.with_name(task.out.name + ending), ignore_errors=True)
        goes_on = " ".join(task.words[:2]) in RESUMING
        same = key in (begun, None if old is None else old.key)
        if not task.out.exists() or (goes_on and same):
            return
        if any(map(self._counts, self._others(task))):
            return  # what they made lies there too; the command sees to its own part
        self._say(f"{task.name}: {task.out} was made of something else and is made anew")
        place = self._place(task)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for one in self._sharing(task):
            self._records.move(one.name, place)
        shutil.move(task.out, place / MADE)

    def _counts(self, task: Task) -> bool:
        """Whether a task has done, or begun, what it would do now."""
        begun = self._records.begun(task.name)
        return self._graph.done(task) or begun == self._graph.key(task)

    def _bring_back(self, task: Task) -> None:
        """What was laid aside is where it was, unless there is something in its place."""
        place = self._place(task)
        if task.out.exists() or not (place / MADE).exists():
            return
        task.out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(place / MADE, task.out)
        self._records.take_back(place)
        shutil.rmtree(place, ignore_errors=True)

    def _sharing(self, task: Task) -> list[Task]:
        """The tasks that write to the same place, this one among them."""
        return [one for one in self._graph.tasks(task.stage) if one.out == task.out]

    def _others(self, task: Task) -> list[Task]:
        return [one for one in self._sharing(task) if one.name != task.name]

    def _place(self, task: Task) -> Path:
        return self._records.folder / FOLDER / self._sharing(task)[0].name

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other threads, processes and machines out, as far as the file system can."""
        self._records.folder.mkdir(parents=True, exist_ok=True)
        with self._lock, (self._records.folder / LOCK).open("ab") as file:
            with suppress(ImportError, OSError):  # Windows has no such locks, nor has every disk
                from fcntl import LOCK_EX, flock

                flock(file, LOCK_EX)
            yield
