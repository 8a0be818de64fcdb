"""Several judges, or what they have predicted, as one: for folds, whose judges are alike.

What was learned of how to make one of many, and what to do with judges that are not alike, is in
`judge.blending`; here it is applied.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.blending.kinds import Blend
from judge.blending.pools import LinearPool, LogPool
from judge.comparing.matching import align
from judge.errors import InputError
from judge.judges.recipes import FILE, as_member, read_recipe

Floats = npt.NDArray[np.float64]

PROBABILITIES, LOGITS = AVERAGE = ("probabilities", "logits")
_TURNED = [1, 0, 2]


def mean_blend(weights: Sequence[float], average: str = PROBABILITIES) -> Blend:
    """The weighted mean of probabilities, or of logits."""
    values = tuple(weights)
    if average == LOGITS:
        return Blend("log-mean", LogPool(values, values))
    return Blend("mean", LinearPool(values))


# --- predictions ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gathered:
    """What several files predict of N battles.

    Attributes:
        ids: of the battles.
        said: (M, N, 3), NaN rows where a file says nothing.
    """

    ids: list[str]
    said: Floats


def gathered(
    tables: Sequence[pd.DataFrame], files: Sequence[str], ids: Sequence[str] | None = None
) -> Gathered:
    """Lays predictions side by side.

    Args:
        tables: of M files (see `judge.predictions`).
        files: their names, for messages.
        ids: of the battles that are wanted; None for those that any file has, in the order in
            which they come.

    Raises:
        InputError: ids that cannot be told apart, or a file that has none of the battles.
    """
    lists = [table["id"].tolist() for table in tables]
    if ids is None:
        alike = all(one == lists[0] for one in lists[1:])
        ids = lists[0] if alike else list(dict.fromkeys(name for one in lists for name in one))
    said = [align(ids, table, file=file).proba for table, file in zip(tables, files, strict=True)]
    return Gathered(list(ids), np.stack(said))


@dataclass(frozen=True)
class Symmetrised:
    """Predictions made the same whichever way round the responses stand.

    Attributes:
        proba: (N, 3); of a battle that was judged in one order alone, what was said there.
        both: how many battles were judged in both orders.
        agree: of these, the share in which both orders favour the same.
        moved: the mean over these of how far half of the probability mass moved.
    """

    proba: Floats
    both: int
    agree: float
    moved: float


def symmetrised(proba: Floats, swapped: Floats) -> Symmetrised:
    """The mean of predictions and of those made of the same battles with responses exchanged,
    turned back.

    Args:
        proba: (N, 3) of the battles as they are.
        swapped: (N, 3) of the exchanged ones, as they were given: P(A) is of what is response B.
    """
    turned = swapped[:, _TURNED]
    there = [np.asarray(~np.isnan(one).any(axis=1)) for one in (proba, turned)]
    both = there[0] & there[1]
    found = np.where(there[0][:, None], proba, turned)
    found[both] = (proba[both] + turned[both]) / 2.0
    if not both.any():
        return Symmetrised(found, 0, float("nan"), float("nan"))
    agree = float(np.mean(proba[both].argmax(axis=1) == turned[both].argmax(axis=1)))
    moved = float(np.abs(proba[both] - turned[both]).sum(axis=1).mean() / 2.0)
    return Symmetrised(found, int(both.sum()), agree, moved)


# --- judges ---------------------------------------------------------------------------------------


def composed(
    judges: Sequence[str],
    folder: Path,
    weights: Sequence[float],
    *,
    average: str = PROBABILITIES,
    share: bool | None = None,
) -> dict[str, Any]:
    """The recipe of judges as one.

    Args:
        judges: by folder or name.
        folder: where the recipe will lie.
        weights: of each, 1 together.
        average: of probabilities or logits.
        share: whether they are adapters of one base, to be in memory once; None for finding out.

    Raises:
        InputError: they are to share what they have not.
    """
    bases = [adapter_base(one) for one in judges]
    alike = bases[0] is not None and len(set(bases)) == 1
    if share and not alike:
        odd = next(
            (one for one, base in zip(judges, bases, strict=True) if base is None), judges[-1]
        )
        what = "is no adapter of the base that others have, which so cannot be shared"
        raise InputError(what, file=odd, mend="leave out --share-base")
    shared = alike and share is not False and len(judges) > 1
    named = [as_member(one, folder) for one in judges]
    return {
        "kind": "adapters" if shared else "blended",
        "adapters" if shared else "judges": named,
        "blend": mean_blend(weights, average).settings(),
    }


def adapter_base(judge: str) -> str | None:
    """The base of a judge that is a LoRA adapter; None for another judge."""
    file = Path(judge) / FILE
    if not file.is_file():
        return None
    settings: Mapping[str, Any] = read_recipe(file).settings
    if settings["kind"] != "classifier" or settings.get("weights") != "lora":
        return None
    base = str(settings.get("base", ""))
    beside = Path(judge) / base
    return os.path.realpath(beside) if beside.is_dir() else base
