"""The judges of folds, and which of them may speak of a battle.

A folder of judges of folds has `fold-0`, `fold-1` and so on in it, each a judge folder whose
judge.yaml says which `fold` it is and, by their fingerprint, of which `folds`.

*Out of fold*, a battle is judged by the judge of the fold that holds it out, which has not learned
from it. *In fold*, it is judged by all the others, which have: that is how the first place labelled
its training rows, and what such teachers say is surer than what they say of new battles. Battles in
no fold (extras, and what the folds do not know) are judged by all: extras all have learned from,
the others none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune.folds.table import Folds
from judge.errors import InputError
from judge.judges.recipes import FILE, read_recipe

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_NAME = re.compile(r"fold-(\d+)")


@dataclass(frozen=True)
class FoldJudges:
    """Judges of folds.

    Attributes:
        folder: where they lie.
        members: the folder of each, by fold.
        folds: the fingerprint of their folds, as far as all say the same.
    """

    folder: Path
    members: dict[int, Path]
    folds: str | None


def is_folder_of_folds(spec: str) -> bool:
    """Whether a name is that of a folder of judges of folds."""
    path = Path(spec)
    return path.is_dir() and not (path / FILE).is_file() and bool(_members(path))


def _members(folder: Path) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for one in sorted(folder.iterdir()):
        named = _NAME.fullmatch(one.name)
        if named is not None and (one / FILE).is_file():
            found[int(named[1])] = one
    return dict(sorted(found.items()))


def find_fold_judges(folder: str | Path) -> FoldJudges:
    """The judges in a folder.

    Raises:
        InputError: there are none, one cannot be read or is that of another fold, or they are of
            different folds.
    """
    path = Path(folder)
    members = _members(path) if path.is_dir() else {}
    if not members:
        mend = "make them with `arena-judge finetune teach`"
        raise InputError("holds no judges of folds (fold-0, fold-1, ...)", file=path, mend=mend)
    stated = {fold: _stated(one, fold) for fold, one in members.items()}
    known = {said for said in stated.values() if said is not None}
    if len(known) > 1:
        mend = "train the judges of all folds on the same folds"
        raise InputError("holds judges of different folds", file=path, mend=mend)
    whole = known.pop() if known and None not in stated.values() else None
    return FoldJudges(path, members, whole)


def _stated(folder: Path, fold: int) -> str | None:
    """The fingerprint of the folds that a judge is of."""
    settings = read_recipe(folder / FILE).settings
    made: Any = settings.get("made_by")
    said = dict(made) if isinstance(made, dict) else {}
    said |= {key: settings[key] for key in ("fold", "folds") if key in settings}
    if said.get("fold", fold) != fold:
        what = f"is the judge of fold {said['fold']!r}"
        raise InputError(what, file=folder, mend=f"call it fold-{said['fold']}")
    found = said.get("folds")
    return found if isinstance(found, str) else None


def check_members(judges: FoldJudges, folds: Folds | None, *, in_fold: bool) -> None:
    """Sees to it that who has learned from what is known.

    Raises:
        InputError: it is not.
    """
    way = "or take --in-fold, if judges may speak of battles that they learned from"
    if folds is None:
        if in_fold:
            return
        what = "which battles its judges have learned from is not known"
        raise InputError(what, file=judges.folder, mend=f"name the folds (--folds), {way}")
    if judges.folds is None and not in_fold:
        what = f"its judges do not say (`folds` in {FILE}) which folds they are of"
        raise InputError(what, file=judges.folder, mend=f"train them with `finetune teach`, {way}")
    if judges.folds is not None and judges.folds != folds.fingerprint:
        what = "its judges were trained on other folds than these"
        raise InputError(what, file=judges.folder, mend="name the folds that they were trained on")
    missing = [fold for fold in range(folds.k) if fold not in judges.members]
    if missing:
        what = f"has no judge of fold {missing[0]} ({len(judges.members)} of {folds.k} are there)"
        raise InputError(what, file=judges.folder, mend="finish `finetune teach`")
    beyond = [fold for fold in judges.members if fold >= folds.k]
    if beyond:
        what = f"has a judge of fold {beyond[0]}, and there are {folds.k} folds"
        raise InputError(what, file=judges.folder, mend="take it away")


def speakers(fold: Ints, members: list[int], *, in_fold: bool) -> dict[int, Bools]:
    """Which of N battles each judge speaks of.

    Args:
        fold: (N,) that holds the battle out; below 0 for none.
        members: the judges' folds.
        in_fold: whether all but the judge of a battle's fold speak of it, instead of that one.
    """
    none = fold < 0
    return {one: none | ((fold == one) != in_fold) for one in members}
