"""Recipes: which commands make a judge, and what each takes from others.

    about: Two teachers, one student.
    variables: {battles: train.parquet, k: 3}
    fast: {k: 2}
    stages:
      folds: {run: "finetune folds {battles} -k {k} -o {out}", out: folds}
      teach:
        run: "finetune teach {battles} --folds {folds} --fold {fold} --base {base} -o {out}"
        out: teachers
        each: {fold: "{k}"}

A stage's words name variables and other stages in braces; a stage stands for what it makes. `each`
makes a task of every number below one, or of every value of a list. A word that is a variable with
several values, or a stage whose tasks make a file each, becomes several words; as a part of a word,
such a stage is a pattern with stars. Nothing of it is ever a shell's.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from judge.errors import InputError

ENDING = ".yaml"
OUT = "out"
_REFERENCE = re.compile(r"\{([A-Za-z][\w-]*)\}")
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_TOP = ("about", "variables", "fast", "stages", "measure")
_STAGE = ("run", "out", "each", "expect")
_EXPECTED = ("minutes", "memory_gib", "disk_gib")
_ROW = ("judge", "than", "calibrate", "blend")

Values = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Expected:
    """What a stage takes, as it was measured or reckoned; None where nobody knows."""

    minutes: float | None = None
    memory_gib: float | None = None
    disk_gib: float | None = None


@dataclass(frozen=True)
class Stage:
    """A command of the graph.

    Attributes:
        name: what others call it.
        words: the command without `arena-judge`, with references.
        out: what it makes, below the run's folder, with references to what `each` names.
        each: the name that tasks differ in, and its values; None for a single task.
        expected: what it takes.
    """

    name: str
    words: tuple[str, ...]
    out: str
    each: tuple[str, tuple[str, ...]] | None = None
    expected: Expected = Expected()

    @property
    def tasks(self) -> tuple[Mapping[str, str], ...]:
        """What each task calls its own; one that calls nothing so for a single task."""
        if self.each is None:
            return ({},)
        name, values = self.each
        return tuple({name: value} for value in values)

    def made(self, folder: Path) -> Path:
        """The path that others are given: a glob where tasks make a file each."""
        return folder / _REFERENCE.sub("*", self.out)


@dataclass(frozen=True)
class Measured:
    """A row of the table at the end.

    Attributes:
        name: what it is called.
        judge: the judge, with references; empty for a blend.
        than: the row that it is held against.
        calibrate: whether it is calibrated first, cross-fitted on the battles measured on.
        blend: the rows that are blended, cross-fitted, in place of a judge.
    """

    name: str
    judge: str = ""
    than: str | None = None
    calibrate: bool = False
    blend: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """A graph of commands.

    Attributes:
        name: of the recipe.
        about: what it is for.
        variables: what it is told; a value is one word or several.
        stages: each after those that it takes from.
        battles: what judges are measured on in the end, with references; empty for nothing.
        rows: of the table.
    """

    name: str
    about: str
    variables: Values
    stages: tuple[Stage, ...]
    battles: str = ""
    rows: tuple[Measured, ...] = ()

    def stage(self, name: str) -> Stage:
        """The stage of this name.

        Raises:
            InputError: there is none.
        """
        for one in self.stages:
            if one.name == name:
                return one
        known = ", ".join(one.name for one in self.stages)
        raise InputError(f"{self.name} has no stage {name}", mend=f"it has {known}")

    def needs(self, stage: Stage) -> tuple[str, ...]:
        """The stages that a stage takes from, in the order of its words."""
        names = {one.name for one in self.stages} - {stage.name}
        told = [name for word in stage.words for name in _REFERENCE.findall(word)]
        return tuple(dict.fromkeys(name for name in told if name in names))


def recipe_file(name: str) -> Path:
    """The file of a recipe: a path, or the name of one that comes with the package.

    Raises:
        InputError: there is none.
    """
    shipped = Path(str(resources.files("finetune") / "recipes"))
    for path in (Path(name), shipped / f"{name.removesuffix(ENDING)}{ENDING}"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in shipped.glob(f"*{ENDING}")))
    raise InputError("is no recipe", file=name, mend=f"name a file, or one of {known}")


def read_recipe(file: Path, told: Mapping[str, str] | None = None, *, fast: bool = False) -> Recipe:
    """A recipe with its variables.

    Args:
        file: the YAML.
        told: values that go before those of the file; several words as a shell would take them.
        fast: take the values under `fast`.

    Raises:
        InputError: it says what cannot be.
    """
    said = _mapping(_loaded(file), file, "the recipe", _TOP)
    try:
        values = {name: _words(name, value) for name, value in said.get("variables", {}).items()}
        quick = said.get("fast") or {}
        if fast and not quick:
            raise InputError("has no fast form", mend="leave out --fast")
        if fast:
            values |= {name: _words(name, value) for name, value in quick.items()}
        for name, value in (told or {}).items():
            if name not in values:
                known = ", ".join(values) or "none"
                raise InputError(f"has no variable {name}", mend=f"it has {known}")
            values[name] = tuple(shlex.split(value))
        stages = tuple(_stage(name, one, values) for name, one in said.get("stages", {}).items())
        measure = _mapping(said.get("measure") or {}, file, "measure", ("battles", "rows"))
        rows = tuple(_row(name, one) for name, one in (measure.get("rows") or {}).items())
        found = Recipe(
            file.stem,
            " ".join(str(said.get("about", "")).split()),
            values,
            stages,
            str(measure.get("battles", "")),
            rows,
        )
        return replace(found, stages=tuple(_sorted(_checked(found))))
    except InputError as error:
        raise InputError(str(error), file=file) from None


def filled(word: str, values: Values, patterns: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """A word with its references resolved.

    Args:
        word: the word.
        values: what references stand for.
        patterns: what some stand for as parts of words.

    Raises:
        InputError: a part of a word names what has several values, or nobody knows.
    """
    whole = _REFERENCE.fullmatch(word)
    if whole is not None and whole[1] in values:
        return values[whole[1]]

    def one(found: re.Match[str]) -> str:
        if patterns and found[1] in patterns:
            return patterns[found[1]]
        if found[1] not in values:
            raise InputError(f"{word!r} names {found[1]}, and there is none")
        if len(values[found[1]]) != 1:
            raise InputError(f"{word!r} wants one value of {found[1]}, which has several or none")
        return values[found[1]][0]

    return (_REFERENCE.sub(one, word),)


# --- reading --------------------------------------------------------------------------------------


def _loaded(file: Path) -> object:
    import yaml

    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot be read ({error})", file=file) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or type(error).__name__
        row = None if mark is None else mark.line + 1
        raise InputError(f"is not YAML ({what})", file=file, row=row) from None


def _mapping(said: object, file: Path, what: str, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(said, dict):
        raise InputError(f"{what} is no table of names and values", file=file)
    for name in said:
        if name not in known:
            raise InputError(
                f"{what} says {name!r}", file=file, mend=f"it knows {', '.join(known)}"
            )
    for name in ("variables", "fast", "stages", "rows"):
        if said.get(name) is not None and not isinstance(said[name], dict):
            raise InputError(f"{name} is no table of names and values", file=file)
    return said


def _words(name: str, value: object) -> tuple[str, ...]:
    """The values of a variable."""
    if isinstance(value, list):
        return tuple(word for one in value for word in _words(name, one))
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InputError(f"the variable {name} is no text, number or list of them")
    if not re.fullmatch(r"[A-Za-z][\w-]*", str(name)) or name == OUT:
        raise InputError(f"no variable can be called {name!r}")
    return (str(value),)


def _stage(name: str, said: object, values: Values) -> Stage:
    if not _NAME.fullmatch(str(name)) or name in values or name == OUT:
        raise InputError(f"no stage can be called {name!r}", mend="small letters, digits and -")
    if not isinstance(said, dict) or not isinstance(said.get("run"), str):
        raise InputError(f"the stage {name} has no run", mend="say its command, as a text")
    if unknown := set(said) - set(_STAGE):
        raise InputError(f"the stage {name} says {min(unknown)!r}")
    try:
        words = tuple(shlex.split(said["run"]))
    except ValueError as error:
        raise InputError(f"the stage {name} has an open quotation ({error})") from None
    out = str(said.get("out", name))
    if Path(out).is_absolute() or ".." in Path(out).parts or not words:
        raise InputError(f"the stage {name} writes outside the run's folder, or runs nothing")
    return Stage(name, words, out, _each(name, said.get("each"), values), _expected(name, said))


def _each(name: str, said: object, values: Values) -> tuple[str, tuple[str, ...]] | None:
    if said is None:
        return None
    if not isinstance(said, dict) or len(said) != 1:
        raise InputError(f"each of the stage {name} is one name with its values")
    ((one, several),) = said.items()
    if isinstance(several, list):
        found = _words(one, several)
    else:
        (count,) = filled(str(several), values) or ("",)
        if not count.isdigit() or not int(count):
            raise InputError(f"each of the stage {name} counts up to {count!r}, which is no number")
        found = tuple(map(str, range(int(count))))
    if one in values or not found:
        raise InputError(f"each of the stage {name} is called as a variable, or has no values")
    return one, found


def _expected(name: str, said: Mapping[str, Any]) -> Expected:
    told = said.get("expect") or {}
    numbers = isinstance(told, dict) and all(
        isinstance(value, int | float) and value >= 0 for value in told.values()
    )
    if not numbers or set(told) - set(_EXPECTED):
        raise InputError(f"expect of the stage {name} knows {', '.join(_EXPECTED)}, in numbers")
    return Expected(**told)


def _row(name: str, said: object) -> Measured:
    if isinstance(said, str):
        said = {"judge": said}
    if not isinstance(said, dict) or set(said) - set(_ROW):
        raise InputError(f"the row {name!r} of the table knows {', '.join(_ROW)}")
    if ("judge" in said) == ("blend" in said):
        raise InputError(f"the row {name!r} of the table has a judge, or a blend")
    blend = tuple(said.get("blend") or ())
    than = said.get("than")
    judge = str(said.get("judge", ""))
    return Measured(str(name), judge, than, bool(said.get("calibrate")), blend)


def _checked(recipe: Recipe) -> Recipe:
    """The same, if everything that is named is there."""
    if not recipe.stages:
        raise InputError("has no stages")
    known = {**recipe.variables, **{stage.name: ("x",) for stage in recipe.stages}}
    outs: dict[str, str] = {}
    for stage in recipe.stages:
        own = {} if stage.each is None else {stage.each[0]: ("x",)}
        try:
            for word in stage.words:
                filled(word, {**known, **own, OUT: ("x",)})
            filled(stage.out, {**recipe.variables, **own})
        except InputError as error:
            raise InputError(f"the stage {stage.name}: {error}") from None
        if stage.out in outs:
            raise InputError(f"the stages {outs[stage.out]} and {stage.name} make {stage.out} both")
        outs[stage.out] = stage.name
    names: list[str] = []
    for row in recipe.rows:
        for word in filter(None, (row.judge, recipe.battles)):
            filled(word, known)
        for other in (*row.blend, *([] if row.than is None else [row.than])):
            if other not in names:
                raise InputError(f"the row {row.name!r} of the table names {other!r} before it")
        names.append(row.name)
    if recipe.rows and not recipe.battles:
        raise InputError("the table has rows and no battles")
    return recipe


def _sorted(recipe: Recipe) -> Iterator[Stage]:
    """Stages, each after those that it takes from, else as they stand."""
    left = list(recipe.stages)
    done: set[str] = set()
    while left:
        for stage in left:
            if set(recipe.needs(stage)) <= done:
                break
        else:
            raise InputError(f"the stages {', '.join(one.name for one in left)} want each other")
        left.remove(stage)
        done.add(stage.name)
        yield stage
