"""How far off a judge is that was made, as it is told in tables and in judge.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from finetune.measuring.labelled import Measured

Floats = npt.NDArray[np.float64]

OUT_OF_FOLD = "out-of-fold.csv"
"""What the judge of a fold says of the battles that are held out there."""
_ROUNDS = 1000


@dataclass(frozen=True)
class Score:
    """How far off a judge is.

    Attributes:
        name: of the battles.
        battles: how many.
        log_loss: in nats, with its 95 % interval, resampled by prompt.
        accuracy: share of them whose label it favours.
    """

    name: str
    battles: int
    log_loss: float
    low: float
    high: float
    accuracy: float

    def settings(self) -> dict[str, Any]:
        """The same for judge.yaml and JSON."""
        numbers = {name: _rounded(getattr(self, name)) for name in ("log_loss", "low", "high")}
        return {"battles": self.battles, **numbers, "accuracy": _rounded(self.accuracy)}


def score(measured: Measured, proba: Floats, seed: int) -> Score:
    """How far off probabilities are on labelled battles."""
    from judge.comparing.bootstrap import group_codes, ratio_means
    from judge.metrics import accuracy_rows, log_loss_rows

    codes = group_codes(measured.prompts)
    rows = log_loss_rows(measured.labels, proba)
    size = int(codes.max()) + 1
    sums = np.bincount(codes, rows, minlength=size)
    counts = np.bincount(codes, minlength=size).astype(np.float64)
    means = ratio_means(sums[None], counts[None], [0], rounds=_ROUNDS, seed=seed)
    return Score(
        measured.name,
        len(measured),
        float(means.value[0]),
        float(means.low[0]),
        float(means.high[0]),
        float(np.mean(accuracy_rows(measured.labels, proba))),
    )


def _rounded(value: float) -> float | None:
    return round(value, 5) if np.isfinite(value) else None
