"""One judge's figures on labelled battles: the means that have intervals, and the rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.comparing.agreement import cohen_kappa, confusion, krippendorff_alpha, macro_f1
from judge.comparing.bootstrap import Means, Tallies
from judge.comparing.reliability import calibration_by_chance, reliability, wilson
from judge.comparing.scores import NAN, Interval, JudgeScore, Matrix
from judge.metrics import (
    Floats,
    accuracy_rows,
    brier_rows,
    calibration_error,
    classwise_calibration_error,
    decided_rows,
    entropy_rows,
    log_loss_rows,
    ranked_probability_rows,
)

Bools = npt.NDArray[np.bool_]

LOG_LOSS = "log_loss"

# Each mean, and what it lies between.
_RANGES = {
    LOG_LOSS: (0.0, np.inf),
    "brier": (0.0, 2.0),
    "ranked_probability": (0.0, 1.0),
    "accuracy": (0.0, 1.0),
    "decided_accuracy": (0.0, 1.0),
    "entropy": (0.0, float(np.log(3.0))),
    "confidence": (1.0 / 3.0, 1.0),
    "lean": (-2.0, 2.0),
}
_SHARES = ("accuracy", "decided_accuracy")


@dataclass(frozen=True)
class Tallied:
    """Where the means of a judge are among all that are resampled together.

    Attributes:
        places: in `Tallies`, by the mean's name.
        loss: (N,) log loss, NaN where unjudged.
    """

    places: dict[str, int]
    loss: Floats


def tally(tallies: Tallies, labels: Floats, proba: Floats, judged: Bools) -> Tallied:
    """Adds the means of one judge.

    Args:
        tallies: over all N battles.
        labels: (N, 3).
        proba: (N, 3), distributions where judged.
        judged: (N,).
    """
    y, p = labels[judged], proba[judged]
    places, loss = {}, np.full(len(labels), np.nan)
    for name, values, sizes in _rows(y, p):
        if name == LOG_LOSS:
            loss[judged] = values
        places[name] = tallies.add(_spread(values, judged), _spread(sizes, judged))
    return Tallied(places, loss)


def _rows(y: Floats, p: Floats) -> Iterator[tuple[str, Floats, Floats]]:
    """Each mean: its name, the values of the battles, and what they are divided by."""
    one = np.ones(len(y))
    yield LOG_LOSS, log_loss_rows(y, p), one
    yield "brier", brier_rows(y, p), one
    yield "ranked_probability", ranked_probability_rows(y, p), one
    yield "accuracy", accuracy_rows(y, p), one
    yield "decided_accuracy", *decided_rows(y, p)
    yield "entropy", entropy_rows(p), one
    yield "confidence", p.max(axis=1), one
    yield "lean", (p[:, 0] - p[:, 1]) - (y[:, 0] - y[:, 1]), one


def _spread(values: Floats, judged: Bools) -> Floats:
    """(N,) the values where judged, else 0."""
    if judged.all():
        return values
    whole = np.zeros(len(judged))
    whole[judged] = values
    return whole


def score(
    name: str,
    labels: Floats,
    proba: Floats,
    judged: Bools,
    means: Means,
    tallied: Tallied,
    longer: Floats | None = None,
) -> JudgeScore:
    """A judge's row, without what it takes others to say.

    Args:
        name: of the judge.
        labels: (N, 3).
        proba: (N, 3).
        judged: (N,), at least one.
        means, tallied: what was made of its means, and where they are.
        longer: (N,) how much longer A is than B; NaN where not known.
    """
    y, p = labels[judged], proba[judged]
    value = {mean: float(means.value[place]) for mean, place in tallied.places.items()}
    intervals = {mean: _interval(means, place, mean) for mean, place in tallied.places.items()}
    matrix, loss = confusion(y, p), intervals.pop(LOG_LOSS)
    return JudgeScore(
        name=name,
        battles=len(y),
        unjudged=len(judged) - len(y),
        log_loss=value[LOG_LOSS],
        low=loss.low,
        high=loss.high,
        brier=value["brier"],
        ranked_probability=value["ranked_probability"],
        accuracy=value["accuracy"],
        decided_accuracy=value["decided_accuracy"],
        macro_f1=macro_f1(matrix),
        kappa=cohen_kappa(matrix),
        alpha=krippendorff_alpha(matrix),
        calibration_error=calibration_error(y, p),
        calibration_error_adaptive=calibration_error(y, p, adaptive=True),
        calibration_error_classwise=classwise_calibration_error(y, p),
        calibration_error_by_chance=calibration_by_chance(p),
        entropy=value["entropy"],
        confidence=value["confidence"],
        lean=value["lean"],
        length_correlation=rank_correlation(
            None if longer is None else longer[judged], p[:, 0] - p[:, 1]
        ),
        confusion=_matrix(matrix),
        reliability=reliability(y, p),
        intervals=intervals,
    )


def _interval(means: Means, place: int, name: str) -> Interval:
    """The interval of a mean, within what it can be at all.

    A share that is 0 or 1 in every prompt has no spread to be resampled; Wilson's interval, with
    each prompt a trial, says what may be.
    """
    low, high = float(means.low[place]), float(means.high[place])
    value, prompts = float(means.value[place]), float(means.prompts[place])
    if name in _SHARES and means.error[place] == 0 and value in (0.0, 1.0) and prompts > 1:
        return Interval(*wilson(value, prompts))
    least, most = _RANGES[name]
    return Interval(NAN, NAN) if low != low else Interval(max(low, least), min(high, most))


def _matrix(matrix: Floats) -> Matrix:
    return tuple((float(a), float(b), float(tie)) for a, b, tie in matrix.tolist())


def rank_correlation(first: Floats | None, second: Floats) -> float:
    """Spearman's correlation, equal values sharing their ranks; NaN where one of the two does not
    vary, or the first is not known."""
    if first is None:
        return NAN
    known = np.isfinite(first) & np.isfinite(second)
    ranks = [pd.Series(values[known]).rank().to_numpy() for values in (first, second)]
    gaps = [rank - rank.mean() for rank in ranks] if known.any() else []
    scale = float(np.sqrt(np.prod([(gap**2).sum() for gap in gaps]))) if gaps else 0.0
    return float(np.clip((gaps[0] * gaps[1]).sum() / scale, -1.0, 1.0)) if scale > 0 else NAN
