"""What may be done to probabilities once they are blended. Both were said to help in competitions;
here each is measured like everything else, and reported when it loses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from judge.errors import ArenaJudgeError
from judge.metrics import log_loss

Floats = npt.NDArray[np.float64]

BINS = 10
SHARES = (0.25, 0.5, 1.0)
MOVED = (0.05, 0.1, 0.2, 0.4)
_DOUBT = 20.0
_MOST_PULL = 0.99


@dataclass(frozen=True)
class SelfEnsemble:
    """Over-confident predictions pulled down by the frequencies of a validation set.

    Battles are put in bins by their largest probability. Where that was right less often than it
    said, the predictions of the bin are mixed with the uniform one,

        p' = p + share * pull * (1/3 - p)      pull = (mean largest p - frequency)
                                                      / (mean largest p - 1/3)

    which with share 1 brings the bin's mean down to its frequency and keeps the order of the three.
    It is the mean of the prediction and of what the validation set says, with `share` the weight of
    the latter; a prediction that was not too sure is left alone.

    Attributes:
        edges: between the bins, rising.
        pull: of each bin, from 0 to less than 1.
        share: from 0 to 1.
    """

    edges: tuple[float, ...]
    pull: tuple[float, ...]
    share: float

    def __post_init__(self) -> None:
        edges, pull = np.array(self.edges), np.array(self.pull)
        rising = np.isfinite(edges).all() and (np.diff(edges) > 0).all()
        if not rising or len(pull) != len(edges) + 1 or not ((pull >= 0) & (pull < 1)).all():
            raise ArenaJudgeError("blend: bins of a self-ensemble make no sense")
        if not 0.0 <= self.share <= 1.0:
            raise ArenaJudgeError(f"blend: share is {self.share}, not from 0 to 1")

    def apply(self, proba: Floats) -> Floats:
        """(N, 3) from (N, 3); NaN rows stay."""
        pull = np.array(self.pull)[np.searchsorted(self.edges, proba.max(axis=1))]
        return np.asarray(proba + self.share * pull[:, None] * (1 / 3 - proba))

    def settings(self) -> dict[str, object]:
        """For a judge.yaml."""
        return {"edges": list(self.edges), "pull": list(self.pull), "share": self.share}


@dataclass(frozen=True)
class TiesMoved:
    """A share of the tie's probability given to A and B, in proportion to theirs.

    Attributes:
        share: from 0 to less than 1.
    """

    share: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.share < 1.0:
            raise ArenaJudgeError(f"blend: share is {self.share}, not from 0 to less than 1")

    def apply(self, proba: Floats) -> Floats:
        """(N, 3) from (N, 3); NaN rows stay."""
        sides = proba[:, 0] + proba[:, 1]
        tie = np.where(sides > 0, proba[:, 2] * (1.0 - self.share), proba[:, 2])
        gain = (1.0 - tie) / np.where(sides > 0, sides, 1.0)
        return np.column_stack([proba[:, 0] * gain, proba[:, 1] * gain, tie])

    def settings(self) -> dict[str, object]:
        """For a judge.yaml."""
        return {"share": self.share}


def fit_self_ensemble(labels: Floats, proba: Floats) -> SelfEnsemble:
    """Bins of equally many battles, whose frequencies are taken with 20 battles' worth of doubt,
    and the share of `SHARES` with the least log loss.

    Args:
        labels: (N, 3).
        proba: (N, 3) of battles that were not learned from.
    """
    top = proba.max(axis=1)
    largest = proba == top[:, None]
    right = (largest * labels).sum(axis=1) / largest.sum(axis=1)
    edges = np.unique(np.quantile(top, np.arange(1, BINS) / BINS))
    place = np.searchsorted(edges, top)
    size = len(edges) + 1
    number = np.bincount(place, minlength=size)
    over = np.maximum(np.bincount(place, top - right, minlength=size), 0.0) / (number + _DOUBT)
    above = np.bincount(place, top - 1 / 3, minlength=size) / np.maximum(number, 1)
    pull = np.divide(over, above, where=above > 1e-9, out=np.zeros(size))
    pulls = tuple(np.minimum(pull, _MOST_PULL).tolist())
    tried = [SelfEnsemble(tuple(edges.tolist()), pulls, share) for share in SHARES]
    return min(tried, key=lambda one: log_loss(labels, one.apply(proba)))


def fit_ties_moved(labels: Floats, proba: Floats) -> TiesMoved:
    """The share of `MOVED` with the least log loss; arguments as for `fit_self_ensemble`."""
    tried = [TiesMoved(share) for share in MOVED]
    return min(tried, key=lambda one: log_loss(labels, one.apply(proba)))
