"""Logits as a plain array, without a word of which battles they are of: `.npy` files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from finetune.logits.table import VALUES, Logits, logits_of
from judge.errors import InputError
from judge.files.atomic import explained, written_whole

Floats = npt.NDArray[np.float64]


def read_npy(
    path: str | Path,
    battles: pd.DataFrame,
    *,
    teacher: str | None = None,
    about: Mapping[str, Any] | None = None,
) -> Logits:
    """Logits of an (N, 3) array in a `.npy` file, in the order of N battles; NaN rows unjudged.

    Raises:
        InputError: another shape, or a value that is no number.
    """
    name = str(path)
    try:
        values = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError("is not there", file=name) from None
    except (OSError, ValueError, EOFError):
        raise InputError("is no array of numbers in NumPy's format", file=name) from None
    if not isinstance(values, np.ndarray) or values.shape != (len(battles), 3):
        shape = getattr(values, "shape", "no array")
        what = f"has the shape {shape}, and {len(battles):,} battles need ({len(battles)}, 3)"
        mend = "give it a row a battle, in the order of the file: A, B, tie"
        raise InputError(what, file=name, mend=mend)
    if values.dtype.kind not in "fiu":
        raise InputError(f"holds {values.dtype}, and logits are numbers", file=name)
    values = values.astype(np.float64)
    unjudged = np.isnan(values).all(axis=1)
    bad = np.argwhere(~np.isfinite(values) & ~unjudged[:, None])
    if len(bad):
        row, place = map(int, bad[0])
        what = f"is {values[row, place]:g}, and logits are numbers (or all three NaN)"
        raise InputError(what, file=name, row=row + 1, column=VALUES[place])
    made = logits_of(battles, values, teacher=teacher or Path(path).stem, about=about)
    return replace(made, file=name)


def write_npy(path: str | Path, values: Floats) -> None:
    """Writes an (N, 3) array, whole or not at all."""
    with written_whole(path) as stream, explained(path):
        np.save(stream, np.asarray(values, dtype=np.float64), allow_pickle=False)
