"""A judge for each fold, learned from the other folds.

    taught = teach(config, "folds", "teachers/minilm")

writes `fold-0`, `fold-1`, ... into a folder, each a judge folder. A fold whose judge is there
already is left as it is, one that was killed goes on, and several processes may each make some of
the folds. When all are there `out-of-fold.csv` beside them has what each judge says of the battles
that it has not learned from: predictions for all battles. Judges that were not to be measured on
their folds have none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.folds.folders import (
    Course,
    Taught,
    check_files,
    check_mark,
    folder_of,
    folds_of,
    stated_score,
    unsaid,
    whole_of,
    write_mark,
)
from finetune.folds.table import Folds
from finetune.runs.making import beginning_of, sources_of, told_of
from finetune.runs.running import check_plain, run
from finetune.runs.targets import judge_target
from finetune.settings import config as configs
from finetune.settings.config import Config, read_config, with_values
from finetune.training.checkpoints import difference
from finetune.training.processes import ALONE, Processes
from judge.errors import InputError
from judge.judges.recipes import FILE as RECIPE
from judge.judges.recipes import read_recipe

if TYPE_CHECKING:
    from finetune.training.loop import Watcher


@dataclass(frozen=True)
class Trained(Taught):
    """The judge of a fold that was trained.

    Attributes:
        steps: that it took; the weights are those after `best_step`.
    """

    steps: int = 0
    best_step: int = 0


def teach(
    config: Config,
    folder: Path,
    which: Sequence[int] = (),
    *,
    processes: Processes = ALONE,
    watching: Callable[[Config], AbstractContextManager[Watcher | None]] = lambda _: nullcontext(),
    force: bool = False,
    fresh: bool = False,
    workers: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> Course[Trained]:
    """Makes the judges of folds.

    Args:
        config: what each is told; `data.folds` names the folds.
        folder: where their folders are, or are to be.
        which: the folds; none for all.
        processes: this one among those that train together.
        watching: makes what is told of the steps of a run.
        force: make those anew that are there.
        fresh, workers, say: see `finetune.runs.running.run`.

    Raises:
        ArenaJudgeError: what is asked for cannot be had, or the folder has judges of other folds,
            or ones that were told otherwise.
    """
    folds = _folds(config, which)
    chosen = sorted(set(which)) or list(range(folds.k))
    if folder.exists() and not folder.is_dir():
        raise InputError("is a file", file=folder, mend="name a folder")
    told = {fold: _told(config, folder, fold) for fold in chosen}
    targets = {fold: judge_target(own, force=force) for fold, own in told.items()}
    if not force:
        check_mark(folder, folds)
        for fold, target in targets.items():
            if (target / RECIPE).is_file():
                _check(target, told[fold], folds)
    if processes.first:
        write_mark(folder, folds)
    processes.wait()
    made: dict[int, tuple[str, ...]] = {}
    for fold, target in targets.items():
        if (target / RECIPE).is_file() and not force:
            say(f"fold {fold}: {target} is there")
            continue
        say(f"fold {fold}: learns from the others")
        with watching(told[fold]) as watch:
            found = run(
                told[fold],
                target,
                processes=processes,
                watch=watch,
                fresh=fresh,
                workers=workers,
                say=say,
            )
        made[fold] = found.notes
    if not processes.first:
        return Course(folder, (), (), None)
    return _course(config, folder, folds, made, workers)


def _folds(config: Config, which: Sequence[int]) -> Folds:
    """The folds that a config names."""
    if config.data.folds is None:
        raise InputError("judges of folds want folds", mend="name them: --folds FOLDER")
    if config.data.battles is None:
        raise InputError("training wants battles", mend="name a file of them")
    check_plain(config)
    return folds_of(config.data.folds, which)


def _told(config: Config, folder: Path, fold: int) -> Config:
    """What the judge of a fold is told."""
    name = f"{config.run.name or folder.resolve().name} fold {fold}"
    output = str(folder_of(folder, fold))
    return with_values(config, {"data.fold": fold, "run.name": name, "run.output": output})


# --- what is there already ------------------------------------------------------------------------


def _check(target: Path, own: Config, folds: Folds) -> None:
    """Sees to it that a judge is the one that would be made.

    Raises:
        InputError: it is another.
    """
    mend = "add --force to make it anew, or choose another folder"
    settings = read_recipe(target / RECIPE).settings
    if settings.get("folds") != folds.fingerprint or settings.get("fold") != own.data.fold:
        raise InputError("is no judge of this fold", file=target, mend=mend)
    known, asked = _settings(read_config(target / configs.FILE)), _settings(own)
    if known != asked:
        raise InputError(f"was made with {difference(known, asked)}", file=target, mend=mend)
    check_files(target, settings, sources_of(own), own.data.held_out, mend)
    by = settings.get("made_by")
    if (by.get("began_as") if isinstance(by, Mapping) else None) != beginning_of(own):
        raise InputError("began with other weights", file=target, mend=mend)


def _settings(config: Config) -> dict[str, Any]:
    """What weights depend on, but for files that are known by their content."""
    tree = told_of(config)
    for section, name in (("data", "battles"), ("data", "folds"), ("distillation", "teacher")):
        tree.get(section, {}).pop(name, None)
    return tree


# --- what came of it ------------------------------------------------------------------------------


def _course(
    config: Config, folder: Path, folds: Folds, made: Mapping[int, tuple[str, ...]], workers: int
) -> Course[Trained]:
    """What is there, and what it comes to where nothing is missing."""
    taught = []
    for fold in range(folds.k):
        file = folder_of(folder, fold) / RECIPE
        settings = read_recipe(file).settings if file.is_file() else {}
        if settings.get("folds") == folds.fingerprint and settings.get("fold") == fold:
            taught.append(_taught(file.parent, fold, settings, made))
    there = {one.fold for one in taught}
    missing = tuple(fold for fold in range(folds.k) if fold not in there)
    battles, seed = str(config.data.battles), config.run.seed
    whole = None
    if not missing and all(one.score is not None for one in taught):
        whole = whole_of(folder, folds, battles, seed, workers)
    return Course(folder, tuple(taught), missing, whole)


def _taught(
    folder: Path, fold: int, settings: Mapping[str, Any], made: Mapping[int, tuple[str, ...]]
) -> Trained:
    asked = read_config(folder / configs.FILE).data.measure_fold
    own = stated_score(folder, fold) if asked else None
    try:
        steps, best = (int(settings["made_by"][name]) for name in ("steps", "best_step"))
    except (KeyError, TypeError, ValueError):
        raise unsaid(folder) from None
    return Trained(fold, folder, own, fold in made, made.get(fold, ()), steps, best)
