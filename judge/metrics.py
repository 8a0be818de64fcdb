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


def shared_maximum(distributions: Floats) -> Floats:
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
    """Mean multi-class Brier score, 0 to 2; a uniform prediction of hard labels has 2/3.

    Where several people voted it measures the distance from their shares, which is less than the
    mean over the voters by an amount that no judge has a part in.
    """
    return float(brier_rows(labels, proba).mean())


def ranked_probability_rows(labels: npt.ArrayLike, proba: npt.ArrayLike) -> Floats:
    """(N,) ranked probability score with the outcomes in the order A < tie < B, 0 to 1.

    The mean over the two cuts of the order of the squared difference of what lies below: to give
    mass to a tie where A won costs less than to give it to B (Epstein 1969, "A scoring system for
    probability forecasts of ranked categories", normalised as Murphy 1971 does; the order is that
    of home, draw, away in Constantinou and Fenton 2012).
    """
    y, p = _pair(labels, proba)
    # Below the upper cut is all but B, so its difference is B's own.
    return np.asarray(((p - y)[:, :2] ** 2).sum(axis=1) / 2.0, dtype=np.float64)


def ranked_probability(labels: npt.ArrayLike, proba: npt.ArrayLike) -> float:
    """Mean ranked probability score, A < tie < B (see `ranked_probability_rows`)."""
    return float(ranked_probability_rows(labels, proba).mean())


def accuracy_rows(labels: npt.ArrayLike, proba: npt.ArrayLike) -> Floats:
    """(N,) share of the battle's votes that went to the most probable class: 1 or 0 where one
    person voted.

    Where several classes are the most probable, the value is what a choice among them by lot can
    expect: neither A nor B gains by coming first.
    """
    y, p = _pair(labels, proba)
    return np.asarray((y * shared_maximum(p)).sum(axis=1), dtype=np.float64)


def accuracy(labels: npt.ArrayLike, proba: npt.ArrayLike) -> float:
    """Share of votes for the class that the judge finds most probable (see `accuracy_rows`)."""
    return float(accuracy_rows(labels, proba).mean())


def decided_rows(labels: npt.ArrayLike, proba: npt.ArrayLike) -> tuple[Floats, Floats]:
    """(N,) votes for the side, A or B, that has the larger probability, as a share of the battle's
    votes, and (N,) the share for either side. P(tie) plays no part; equal sides share."""
    y, p = _pair(labels, proba)
    side = (1.0 + np.sign(p[:, 0] - p[:, 1])) / 2.0
    return side * y[:, 0] + (1.0 - side) * y[:, 1], y[:, 0] + y[:, 1]


def decided_accuracy(labels: npt.ArrayLike, proba: npt.ArrayLike) -> float:
    """Share of the votes for A or B that went to the side with the larger probability; NaN where
    all votes were ties."""
    hits, decided = decided_rows(labels, proba)
    total = decided.sum()
    return float(hits.sum() / total) if total > 0 else float("nan")


def entropy_rows(proba: npt.ArrayLike) -> Floats:
    """(N,) Shannon entropy in nats, from 0 (certain) to ln 3 = 1.0986 (uniform)."""
    p = checked(proba, "probabilities")
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    return np.asarray(-(p * logs).sum(axis=1), dtype=np.float64)


def entropy(proba: npt.ArrayLike) -> float:
    """Mean entropy in nats: how sharp the judge is, whether it is right or not."""
    return float(entropy_rows(proba).mean())


def confidence(proba: npt.ArrayLike) -> float:
    """Mean of the largest probability, 1/3 to 1: what accuracy the judge claims to have."""
    return float(checked(proba, "probabilities").max(axis=1).mean())


def lean(labels: npt.ArrayLike, proba: npt.ArrayLike) -> float:
    """How much more the judge gives to A than people do, -2 to 2: mean P(A) - P(B), less the same
    of the labels. A judge that favours what it is shown first leans to A."""
    y, p = _pair(labels, proba)
    return float(((p[:, 0] - p[:, 1]) - (y[:, 0] - y[:, 1])).mean())


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
    outcome = (shared_maximum(p) * y).sum(axis=1)
    return _binned_gap(p.max(axis=1), outcome, bins, adaptive)


def classwise_calibration_error(
    labels: npt.ArrayLike, proba: npt.ArrayLike, *, bins: int = BINS, adaptive: bool = False
) -> float:
    """Mean over the three classes of the calibration error of that class's probability (Kull et al.
    2019; with `adaptive`, Nixon et al. 2019). Arguments as for `calibration_error`."""
    y, p = _pair(labels, proba)
    return float(np.mean([_binned_gap(p[:, c], y[:, c], bins, adaptive) for c in range(3)]))


def bin_places(probability: Floats, bins: int, adaptive: bool = False) -> npt.NDArray[np.intp]:
    """(N,) the bin, from 0, that each of the (N,) probabilities falls into.

    Bins of equal width are closed on the right, as in Guo et al., so that 1.0 needs no bin of its
    own; `adaptive` ones hold equally many battles, as far as equal probabilities let them.

    Raises:
        ArenaJudgeError: less than one bin.
    """
    if bins < 1:
        raise ArenaJudgeError(f"calibration needs one bin at least, not {bins}")
    if adaptive:
        rank = np.searchsorted(np.sort(probability), probability, side="left")
        return np.asarray(rank * bins // len(probability), dtype=np.intp)
    return np.searchsorted(np.linspace(0.0, 1.0, bins + 1)[1:-1], probability, side="left")


def _binned_gap(probability: Floats, outcome: Floats, bins: int, adaptive: bool) -> float:
    """Mean over rows of |mean probability - mean outcome| of the row's bin; both (N,)."""
    place = bin_places(probability, bins, adaptive)
    gaps = np.bincount(place, weights=probability - outcome, minlength=bins)
    return float(np.abs(gaps).sum() / len(probability))
