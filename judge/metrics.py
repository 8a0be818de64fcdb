"""How good probabilities are, measured against labels: pure functions over numpy arrays.

Everywhere `labels` is (N, 3), each row a distribution over A, B, tie (one person's choice is a
row with a single 1), and `proba` is (N, 3), each row a prediction in the same order. Functions
ending in `_rows` give a value a battle, which the bootstrap resamples; the others their mean.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from judge.errors import ArenaJudgeError

Floats = npt.NDArray[np.float64]

CLASSES = ("A", "B", "tie")
CLIP = float(np.finfo(np.float64).eps)
BINS = 15
_SUM_TOLERANCE = 1e-6


def checked(values: npt.ArrayLike, what: str) -> Floats:
    """`values` as (N, 3) float64 distributions, or an error saying what they are instead.

    Args:
        values: anything numpy can make an array of.
        what: what the rows are, in the plural, for the message.

    Raises:
        ArenaJudgeError: not (N, 3), no rows, NaN or infinite, outside 0..1, or rows not summing to
            1 within 1e-6.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ArenaJudgeError(f"{what} must be numbers in an (N, 3) array") from None
    if array.ndim != 2 or array.shape[1] != 3:
        raise ArenaJudgeError(f"{what} must have the shape (N, 3), not {array.shape}")
    if len(array) == 0:
        raise ArenaJudgeError(f"{what} are empty; a metric needs one battle at least")
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise ArenaJudgeError(f"{what} hold NaN or infinity in row {row}; leave such rows out")
    off = np.abs(array.sum(axis=1) - 1.0) > _SUM_TOLERANCE
    off |= ((array < -_SUM_TOLERANCE) | (array > 1.0 + _SUM_TOLERANCE)).any(axis=1)
    if off.any():
        row = int(np.flatnonzero(off)[0])
        raise ArenaJudgeError(f"{what} must lie in 0..1 and sum to 1; row {row} does not")
    return array


def _pair(labels: npt.ArrayLike, proba: npt.ArrayLike) -> tuple[Floats, Floats]:
    y, p = checked(labels, "labels"), checked(proba, "probabilities")
    if len(y) != len(p):
        raise ArenaJudgeError(f"{len(y)} labels but {len(p)} probabilities; they must be as many")
    return y, p


def _shared_maximum(distributions: Floats) -> Floats:
    """(N, 3) a row's largest class as 1, or 1/k for each of k classes that share the maximum."""
    top = distributions == distributions.max(axis=1, keepdims=True)
    return np.asarray(top / top.sum(axis=1, keepdims=True), dtype=np.float64)


def log_loss_rows(labels: npt.ArrayLike, proba: npt.ArrayLike) -> Floats:
    """(N,) cross-entropy of each battle in nats: -sum over classes of label x ln(probability).

    Probabilities are clipped to `CLIP` .. 1 - `CLIP` (2.2e-16, as scikit-learn does for float64)
    and not renormalised, so that a certain and wrong prediction costs 36.04 and not infinity.
    """
    y, p = _pair(labels, proba)
    return np.asarray(-(y * np.log(np.clip(p, CLIP, 1.0 - CLIP))).sum(axis=1), dtype=np.float64)


def log_loss(labels: npt.ArrayLike, proba: npt.ArrayLike) -> float:
    """Mean cross-entropy in nats (see `log_loss_rows`): the metric judges are compared by."""
    return float(log_loss_rows(labels, proba).mean())


def brier_rows(labels: npt.ArrayLike, proba: npt.ArrayLike) -> Floats:
    """(N,) sum over the three classes of the squared difference, 0 to 2 (Brier 1950)."""
    y, p = _pair(labels, proba)
    return np.asarray(((p - y) ** 2).sum(axis=1), dtype=np.float64)


def brier(labels: npt.ArrayLike, proba: npt.ArrayLike) -> float:
    """Mean multi-class Brier score, 0 to 2; a uniform prediction of hard labels has 2/3."""
    return float(brier_rows(labels, proba).mean())


def accuracy_rows(labels: npt.ArrayLike, proba: npt.ArrayLike) -> Floats:
    """(N,) 1 where the most probable class is the label, 0 where it is not.

    Where a soft label or a prediction has several largest classes, the value is the chance of a hit
    if each picked one of its own by lot: neither A nor B gains by coming first.
    """
    y, p = _pair(labels, proba)
    return np.asarray((_shared_maximum(y) * _shared_maximum(p)).sum(axis=1), dtype=np.float64)


def accuracy(labels: npt.ArrayLike, proba: npt.ArrayLike) -> float:
    """Share of battles whose most probable class is the label (see `accuracy_rows` for draws)."""
    return float(accuracy_rows(labels, proba).mean())


def class_prior(labels: npt.ArrayLike) -> Floats:
    """(3,) mean label: of all constant predictions, the one with the least log loss on `labels`."""
    return np.asarray(checked(labels, "labels").mean(axis=0), dtype=np.float64)


def calibration_error(
    labels: npt.ArrayLike, proba: npt.ArrayLike, *, bins: int = BINS, adaptive: bool = False
) -> float:
    """Expected calibration error of the most probable class, 0 to 1.

    Battles are put in bins by their largest probability; the error is the mean over battles of the
    bin's |mean probability - mean label of that class| (Naeini et al. 2015; Guo et al. 2017). A
    soft label counts with its mass on the class, classes that share the maximum with their mean.

    Args:
        labels: (N, 3).
        proba: (N, 3).
        bins: how many bins.
        adaptive: bins of equally many battles instead of equal width (Nguyen and O'Connor 2015);
            battles of equal probability are never parted, so the order of rows does not matter.
    """
    y, p = _pair(labels, proba)
    outcome = (_shared_maximum(p) * y).sum(axis=1)
    return _binned_gap(p.max(axis=1), outcome, bins, adaptive)


def classwise_calibration_error(
    labels: npt.ArrayLike, proba: npt.ArrayLike, *, bins: int = BINS, adaptive: bool = False
) -> float:
    """Mean over the three classes of the calibration error of that class's probability (Kull et al.
    2019; with `adaptive`, Nixon et al. 2019). Arguments as for `calibration_error`."""
    y, p = _pair(labels, proba)
    return float(np.mean([_binned_gap(p[:, c], y[:, c], bins, adaptive) for c in range(3)]))


def _binned_gap(probability: Floats, outcome: Floats, bins: int, adaptive: bool) -> float:
    """Mean over rows of |mean probability - mean outcome| of the row's bin; both (N,)."""
    if bins < 1:
        raise ArenaJudgeError(f"calibration needs one bin at least, not {bins}")
    if adaptive:
        rank = np.searchsorted(np.sort(probability), probability, side="left")
        place = rank * bins // len(probability)
    else:
        # Bins are closed on the right, as in Guo et al., so that 1.0 needs no bin of its own.
        place = np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], probability, side="left")
    gaps = np.bincount(place, weights=probability - outcome, minlength=bins)
    return float(np.abs(gaps).sum() / len(probability))
