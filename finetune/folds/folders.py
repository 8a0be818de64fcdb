"""A folder of judges of folds: the mark by which it is known, and what its judges come to together.

In the folder are `folds.yaml`, which says of which folds it is, `fold-0`, `fold-1` and so on, each
a judge folder with what the judge says of its fold, and in the end `out-of-fold.csv` for all
battles.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from finetune.folds.table import Folds, read_folds
from finetune.measuring.labelled import Measured
from finetune.measuring.scoring import OUT_OF_FOLD, Score, score
from finetune.rows.sifting import kin
from finetune.rows.sources import read_pool
from judge.battles import ID
from judge.errors import InputError
from judge.files.atomic import explained, written_whole
from judge.files.labelling import PROBABILITIES
from judge.judges.recipes import FILE as RECIPE
from judge.judges.recipes import made_from, plain, read_recipe
from judge.predictions import read_predictions, write_predictions

FILE = "folds.yaml"
"""By which a folder of judges of folds is known: of which folds they are."""
ALL = "out of fold"


@dataclass(frozen=True)
class Taught:
    """The judge of a fold.

    Attributes:
        fold: which one, from 0.
        folder: where it is.
        score: on the fold, which it has not learned from; None if it was not measured on it.
        new: whether it was made just now.
        notes: what there is to say of it.
    """

    fold: int
    folder: Path
    score: Score | None
    new: bool
    notes: tuple[str, ...] = ()


Some = TypeVar("Some", bound=Taught)


@dataclass(frozen=True)
class Course(Generic[Some]):
    """What became of the folds.

    Attributes:
        folder: of the judges.
        taught: those that are there, in order.
        missing: folds without a judge as yet.
        whole: on all battles, each by the judge that has not learned from it; None before all are
            there, or where one was not measured on its fold.
    """

    folder: Path
    taught: tuple[Some, ...]
    missing: tuple[int, ...]
    whole: Score | None


def folds_of(folder: str, which: Sequence[int]) -> Folds:
    """The folds of a folder.

    Raises:
        InputError: they cannot be read, or have none of those numbers.
    """
    folds = read_folds(folder)
    for fold in which:
        if not 0 <= fold < folds.k:
            what = f"has folds 0 to {folds.k - 1}, and no fold {fold}"
            raise InputError(what, file=folder)
    return folds


def folder_of(folder: Path, fold: int) -> Path:
    """Where the judge of a fold is."""
    return folder / f"fold-{fold}"


def check_mark(folder: Path, folds: Folds) -> None:
    """Sees to it that a folder is for judges of these folds.

    Raises:
        InputError: it is for others, or for something else.
    """
    mark = folder / FILE
    if not mark.is_file():
        # Others may be writing the mark at this moment.
        if folder.is_dir() and any(FILE not in one.name for one in folder.iterdir()):
            what = "is there already and is no folder of judges of folds"
            raise InputError(what, file=folder, mend="choose another folder, or add --force")
        return
    if _read_mark(mark).get("folds") != folds.fingerprint:
        what = "has judges of other folds"
        raise InputError(what, file=folder, mend="choose another folder, or add --force")


def stated_folds(folder: Path) -> int:
    """How many judges of folds a folder is to have; 0 if it does not say so."""
    k = _read_mark(folder / FILE).get("k")
    return k if isinstance(k, int) else 0


def _read_mark(mark: Path) -> dict[str, Any]:
    import yaml

    try:
        said = yaml.safe_load(mark.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return said if isinstance(said, dict) else {}


def write_mark(folder: Path, folds: Folds) -> None:
    """Makes the folder one for judges of these folds."""
    import yaml

    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    said = {"folds": folds.fingerprint, "k": folds.k, "by": folds.by, "seed": folds.seed}
    with written_whole(folder / FILE) as file:
        file.write(yaml.safe_dump(said, sort_keys=False).encode())


def check_files(
    folder: Path,
    settings: Mapping[str, object],
    learned_from: Iterable[Path],
    held_out: Iterable[str],
    mend: str,
) -> None:
    """Sees to it that the judge in a folder, which says such settings, was made from these files
    while these were held out.

    Raises:
        InputError: it was not.
    """
    if settings.get("made_from") != plain(made_from(learned_from)):
        raise InputError("was made from other files", file=folder, mend=mend)
    if settings.get("kept_out") != plain(made_from(map(Path, held_out))):
        raise InputError("was made while other battles were held out", file=folder, mend=mend)


def stated_score(folder: Path, fold: int) -> Score:
    """How good the judge of a fold says that it is on it.

    Raises:
        InputError: it does not say so.
    """
    name = f"fold {fold}"
    try:
        found = read_recipe(folder / RECIPE).settings["measured"][name]
        numbers = {
            key: float("nan") if found[key] is None else float(found[key])
            for key in ("log_loss", "low", "high", "accuracy")
        }
        return Score(name, int(found["battles"]), **numbers)
    except (KeyError, TypeError, ValueError):
        raise unsaid(folder) from None


def unsaid(folder: Path) -> InputError:
    """What is wrong with a judge that does not say how good it is."""
    what = "does not say how good it is on its fold"
    return InputError(what, file=folder / RECIPE, mend="add --force to make it anew")


def whole_of(folder: Path, folds: Folds, file: str, seed: int, workers: int) -> Score:
    """All battles, each as judged by the judge that has not learned from it; writes them down.

    Args:
        folder: of the judges of all folds.
        folds: of the battles.
        file: of the battles that were dealt out.
        seed: of the interval.
        workers: threads.

    Raises:
        InputError: a judge's predictions are not of its fold.
    """
    pool = read_pool([file], labelled=False, workers=workers)
    fold = folds.fold[folds.places(pool.battles, file, pool.marks.battles)]
    labelled = ~np.isnan(pool.labels).any(axis=1)
    proba = np.full((len(pool), 3), np.nan)
    for number in range(folds.k):
        rows = np.flatnonzero(labelled & (fold == number))
        said = read_predictions(folder_of(folder, number) / OUT_OF_FOLD)
        if said[ID].tolist() != pool.battles[ID].iloc[rows].tolist():
            what = "does not have the battles of the fold"
            mend = "add --force to make the judge anew"
            raise InputError(what, file=folder_of(folder, number) / OUT_OF_FOLD, mend=mend)
        proba[rows] = said[list(PROBABILITIES)].to_numpy()
    rows = np.flatnonzero(labelled & (fold >= 0))
    held = pool.take(rows)
    write_predictions(folder / OUT_OF_FOLD, held.battles[ID], proba[rows])
    measured = Measured(ALL, held.battles, held.labels, np.ones(len(rows)), kin(held.marks))
    return score(measured, proba[rows], seed)
