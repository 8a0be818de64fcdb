"""Tables of what teachers say, for tests."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from finetune.folds.dealing import make_folds
from finetune.folds.table import write_folds
from finetune.logits.table import logits_of, write_logits
from judge.battles import labels, read_battles
from judge.judges import load_judge
from judge.judges.classifier_settings import ClassifierSettings

Floats = npt.NDArray[np.float64]


def labels_of(battles: Path) -> Floats:
    """(N, 3) the labels of a file."""
    found = labels(read_battles(battles))
    assert found is not None
    return found


def says(
    file: Path,
    battles: Path,
    values: Floats | None = None,
    *,
    teacher: str = "t",
    rows: Any = slice(None),
    about: dict[str, Any] | None = None,
    marked: bool = True,
) -> Path:
    """A table of some of a file's battles; by default what the labels say."""
    from dataclasses import replace

    table = read_battles(battles, labels=False)
    if values is None:
        with np.errstate(divide="ignore"):
            values = np.maximum(np.log(labels_of(battles)), -60.0)
    chosen = np.arange(len(table))[rows]
    made = logits_of(table.iloc[chosen], values[chosen], teacher=teacher, about=about)
    write_logits(file, made if marked else replace(made, marks=None, turned=None))
    return file


def predictions(folder: Path, battles: pd.DataFrame) -> Floats:
    """What a judge says, in the numbers that it was trained in."""
    running = ClassifierSettings(device=("cpu",), dtype="float32")
    with closing(load_judge(str(folder), running=running)) as judge:
        return judge.predict_proba(battles)


def folds_file(folder: Path, battles: Path, k: int = 3, seed: int = 0) -> Path:
    """Folds of a file."""
    write_folds(make_folds([str(battles)], k, seed=seed), folder)
    return folder
