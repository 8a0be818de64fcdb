"""A statistical judge for each fold, in a folder as `finetune teach` writes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from finetune.folds.folders import (
    Course,
    Taught,
    check_files,
    check_mark,
    folder_of,
    folds_of,
    stated_score,
    whole_of,
    write_mark,
)
from finetune.folds.table import FILE as FOLDS_FILE
from finetune.folds.table import Folds
from finetune.statistical.making import make, options_of
from finetune.statistical.material import Ground, Told, read_ground, sides_of
from judge.errors import InputError
from judge.files.folders import folder_target
from judge.judges.recipes import FILE as RECIPE
from judge.judges.recipes import read_recipe


def teach(
    told: Told,
    folder: Path,
    which: Sequence[int] = (),
    *,
    force: bool = False,
    workers: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> Course[Taught]:
    """Makes the judges of folds; those that are there already are left as they are.

    Args:
        told: what each is told; `folds` names the folds.
        folder: where their folders are, or are to be.
        which: the folds; none for all.
        force: make those anew that are there.
        workers: threads that read.
        say: takes what there is to say meanwhile.

    Raises:
        ArenaJudgeError: a file cannot be used, or the folder has judges of other folds, or ones
            that were told otherwise.
    """
    folds = _folds(told, which)
    chosen = sorted(set(which)) or list(range(folds.k))
    if folder.exists() and not folder.is_dir():
        raise InputError("is a file", file=folder, mend="name a folder")
    inputs = [*told.read, str(Path(str(told.folds)) / FOLDS_FILE)]
    targets = {
        fold: folder_target(str(folder_of(folder, fold)), inputs=inputs, force=force)
        for fold in chosen
    }
    if not force:
        check_mark(folder, folds)
        for fold, target in targets.items():
            if (target / RECIPE).is_file():
                _check(target, told, folds, fold)
    made: dict[int, tuple[str, ...]] = {}
    ground: Ground | None = None
    for fold, target in targets.items():
        if (target / RECIPE).is_file() and not force:
            say(f"fold {fold}: {target} is there")
            continue
        if ground is None:
            ground = read_ground(told, workers=workers)
        sides = sides_of(ground, fold)
        write_mark(folder, folds)
        say(f"fold {fold}: learns from {len(sides.learned):,} battles of the others")
        name = f"{told.name or folder.resolve().name} fold {fold}"
        own = replace(ground, told=replace(told, name=name))
        made[fold] = make(own, sides, target, say).notes
    return _course(told, folder, folds, made, workers)


def _folds(told: Told, which: Sequence[int]) -> Folds:
    """The folds that are named."""
    if told.folds is None:
        raise InputError("judges of folds want folds", mend="name them: --folds FOLDER")
    return folds_of(told.folds, which)


def _check(target: Path, told: Told, folds: Folds, fold: int) -> None:
    """Sees to it that a judge is the one that would be made.

    Raises:
        InputError: it is another.
    """
    mend = "add --force to make it anew, or choose another folder"
    settings = read_recipe(target / RECIPE).settings
    if settings.get("folds") != folds.fingerprint or settings.get("fold") != fold:
        raise InputError("is no judge of this fold", file=target, mend=mend)
    if settings["kind"] != "statistical":
        what = f"is a judge of the kind {settings['kind']}"
        raise InputError(what, file=target, mend=mend)
    by = settings.get("made_by")
    for name, asked in options_of(told).items():
        known = by.get(name) if isinstance(by, dict) else None
        if known != asked:
            what = f"was made with {name} {known}, and {asked} is asked for"
            raise InputError(what, file=target, mend=mend)
    check_files(target, settings, told.learned_from, told.held_out, mend)


def _course(
    told: Told, folder: Path, folds: Folds, made: dict[int, tuple[str, ...]], workers: int
) -> Course[Taught]:
    """What is there, and what it comes to where nothing is missing."""
    taught = []
    for fold in range(folds.k):
        target = folder_of(folder, fold)
        settings = read_recipe(target / RECIPE).settings if (target / RECIPE).is_file() else {}
        if settings.get("folds") == folds.fingerprint and settings.get("fold") == fold:
            score = stated_score(target, fold)
            taught.append(Taught(fold, target, score, fold in made, made.get(fold, ())))
    there = {one.fold for one in taught}
    missing = tuple(fold for fold in range(folds.k) if fold not in there)
    whole = None if missing else whole_of(folder, folds, told.battles, told.seed, workers)
    return Course(folder, tuple(taught), missing, whole)
