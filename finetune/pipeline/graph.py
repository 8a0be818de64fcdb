"""The tasks of a recipe in a run's folder: their commands, and which of them are to be done yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.pipeline.recipe import OUT, Recipe, Stage, filled
from finetune.pipeline.records import Record, Records
from judge.errors import InputError

DONE, STALE, NEW, WAITS = "done", "changed", "to do", "after others"


@dataclass(frozen=True)
class Task:
    """A command that is to be run.

    Attributes:
        name: `stage`, or `stage.value`.
        stage: what it is part of.
        words: the command without `arena-judge`.
        out: where it writes.
    """

    name: str
    stage: Stage
    words: tuple[str, ...]
    out: Path


@dataclass(frozen=True)
class Standing:
    """How far a stage is.

    Attributes:
        stage: the stage.
        state: DONE; STALE if it was done with other inputs or settings; NEW; or WAITS if that
            cannot be known before others have run.
        records: of its tasks, as far as they are done.
    """

    stage: Stage
    state: str
    records: tuple[Record, ...]


class Graph:
    """A recipe that is run in a folder.

    Args:
        recipe: what is run.
        folder: where everything is written.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        self.records = Records(folder)

    def tasks(self, stage: Stage) -> tuple[Task, ...]:
        """A stage's commands, with paths for references."""
        variables = self.recipe.variables
        made = {one.name: self.outs(one) for one in self.recipe.stages}
        patterns = {
            one.name: str(one.made(self.folder)) for one in self.recipe.stages if len(one.tasks) > 1
        }
        tasks = []
        for own, out in zip(stage.tasks, self._each_out(stage), strict=True):
            local = {name: (value,) for name, value in own.items()}
            known: Mapping[str, tuple[str, ...]] = {**variables, **made, **local, OUT: (out,)}
            words = (part for word in stage.words for part in filled(word, known, patterns))
            name = ".".join((stage.name, *own.values()))
            tasks.append(Task(name, stage, tuple(words), Path(out)))
        return tuple(tasks)

    def _each_out(self, stage: Stage) -> tuple[str, ...]:
        """Where each task writes."""
        outs = []
        for own in stage.tasks:
            local = {name: (value,) for name, value in own.items()}
            (out,) = filled(stage.out, {**self.recipe.variables, **local})
            outs.append(str(self.folder / out))
        return tuple(outs)

    def outs(self, stage: Stage) -> tuple[str, ...]:
        """What a stage makes, each path once."""
        return tuple(dict.fromkeys(self._each_out(stage)))

    def key(self, task: Task) -> str:
        """What a task hangs on now."""
        return self.records.key(task.words, str(task.out))

    def done(self, task: Task) -> bool:
        """Whether a task was run with what it would be run with now, and what it made is there."""
        record = self.records.of(task.name)
        return (
            record is not None
            and task.out.exists()
            and all((task.out / name).exists() for name in record.entries)
            and record.key == self.key(task)
        )

    def ready(self, stages: Sequence[Stage]) -> None:
        """
        Raises:
            InputError: stages take from others that are neither among them nor done.
        """
        names = {stage.name for stage in stages}
        for stage in stages:
            for name in self.recipe.needs(stage):
                tasks = self.tasks(self.recipe.stage(name))
                if name not in names and not all(task.out.exists() for task in tasks):
                    mend = f"run it first, or leave --from at {name}"
                    raise InputError(
                        f"{stage.name} takes from {name}, which is not done", mend=mend
                    )

    def standings(self, chosen: tuple[Stage, ...]) -> Iterator[Standing]:
        """How far stages are, each as if those before it ran first."""
        open_: set[str] = set()
        for stage in chosen:
            tasks = self.tasks(stage)
            records = tuple(filter(None, (self.records.of(task.name) for task in tasks)))
            if all(map(self.done, tasks)) and not open_ & set(self.recipe.needs(stage)):
                yield Standing(stage, DONE, records)
                continue
            state = STALE if records else NEW
            if open_ & set(self.recipe.needs(stage)):
                state = WAITS
            open_.add(stage.name)
            yield Standing(stage, state, records)


def chosen(
    recipe: Recipe,
    *,
    start: str | None = None,
    until: str | None = None,
    only: tuple[str, ...] = (),
) -> tuple[Stage, ...]:
    """The stages that are to be looked at.

    Args:
        start: this one and what takes from it, directly or through others.
        until: this one and what it takes from.
        only: these and no others.

    Raises:
        InputError: no such stage, or nothing is left.
    """
    names = [stage.name for stage in recipe.stages]
    for name in filter(None, (start, until, *only)):
        recipe.stage(name)
    kept = set(only or names)
    if until is not None:
        kept &= _before(recipe, until)
    if start is not None:
        kept &= {name for name in names if start in _before(recipe, name)}
    if not kept:
        raise InputError(f"no stage of {recipe.name} is from {start} on and until {until}")
    return tuple(stage for stage in recipe.stages if stage.name in kept)


def _before(recipe: Recipe, name: str) -> set[str]:
    """A stage and all that it takes from."""
    found, left = set[str](), [name]
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left += recipe.needs(recipe.stage(one))
    return found
