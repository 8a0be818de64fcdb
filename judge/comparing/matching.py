"""Predictions laid beside the battles that they are for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.errors import InputError

Floats = npt.NDArray[np.float64]

_PROBA = ["winner_model_a", "winner_model_b", "winner_tie"]


@dataclass(frozen=True)
class Alignment:
    """A predictions file laid beside battles.

    Attributes:
        proba: (N, 3), NaN rows where the file has no prediction.
        missing: battles the file does not name.
        unknown: predictions for ids that no battle has.
    """

    proba: Floats
    missing: int
    unknown: int


def align(
    ids: Sequence[str], predictions: pd.DataFrame, *, file: str | Path | None = None
) -> Alignment:
    """Lays a predictions table (see `judge.predictions`) beside battles.

    The same ids in the same order go by position, even when some are alike; otherwise ids decide,
    and must be unique on both sides.

    Args:
        ids: the battles' ids, N of them.
        predictions: `id` and the three probabilities.
        file: the table's name, for messages.

    Raises:
        InputError: ids that occur twice and so cannot be told apart, or none that fits.
    """
    values = predictions[_PROBA].to_numpy(dtype=np.float64)
    wanted, given = (
        pd.Index(pd.Series(ids, dtype=object)),
        pd.Index(predictions["id"].astype(object)),
    )
    if wanted.equals(given):
        return Alignment(values, 0, 0)
    for index, where in ((given, "the predictions"), (wanted, "the battles")):
        if not index.is_unique:
            twice = index[index.duplicated()][0]
            raise InputError(
                f"id {twice!r} occurs more than once in {where}, and the rows are not the same",
                file=file,
                column="id",
                mend="give every battle an id of its own, or score this very file again",
            )
    place = given.get_indexer(wanted)
    found = place >= 0
    if not found.any():
        raise InputError(
            "none of its ids is among the battles", file=file, column="id", mend="is it the file?"
        )
    proba = np.where(found[:, None], values[place], np.nan)
    return Alignment(proba, int((~found).sum()), len(values) - int(found.sum()))
