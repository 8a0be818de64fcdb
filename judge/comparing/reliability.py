"""Whether probabilities come true: curves of what was said against what happened.

A bin of a curve has the battles whose probability of something lies in a range; its frequency is
how often that something was so. The band round it is Wilson's 95 % interval for a share, for
battles that are independent of one another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from judge.metrics import BINS, CLASSES, Floats, bin_places, checked, shared_maximum

TOP = "verdict"
LEVEL = 0.95


@dataclass(frozen=True)
class Bin:
    """Some battles.

    Attributes:
        battles: how many, at least one.
        probability: mean of what the judge said.
        frequency: share of the votes for it.
        low, high: Wilson's 95 % interval of the frequency.
    """

    battles: int
    probability: float
    frequency: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """A reliability curve.

    Attributes:
        of: "verdict" for the largest of the three probabilities, or "A", "B", "tie".
        bins: those that have battles, by rising probability.
    """

    of: str
    bins: tuple[Bin, ...]


def wilson(share: float, count: float, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a share seen in `count` independent trials (Wilson 1927)."""
    z2 = NormalDist().inv_cdf(0.5 + level / 2) ** 2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    spread = share * (1 - share) / count + z2 / (4 * count**2)
    half = math.sqrt(z2 * max(spread, 0.0)) / (1 + z2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def reliability(
    labels: npt.ArrayLike, proba: npt.ArrayLike, *, bins: int = BINS, adaptive: bool = False
) -> tuple[Curve, ...]:
    """The curves of the verdict, of A, of B and of a tie.

    Args:
        labels: (N, 3).
        proba: (N, 3).
        bins: how many, at most.
        adaptive: of equally many battles instead of equal width (see `judge.metrics.bin_places`).
    """
    y, p = checked(labels, "labels"), checked(proba, "probabilities")
    said = {TOP: p.max(axis=1)} | {name: p[:, place] for place, name in enumerate(CLASSES)}
    was = {TOP: (shared_maximum(p) * y).sum(axis=1)}
    was |= {name: y[:, place] for place, name in enumerate(CLASSES)}
    return tuple(Curve(name, _bins(said[name], was[name], bins, adaptive)) for name in said)


def _bins(probability: Floats, outcome: Floats, bins: int, adaptive: bool) -> tuple[Bin, ...]:
    place = bin_places(probability, bins, adaptive)
    counts = np.bincount(place, minlength=bins)
    means, shares = (
        np.bincount(place, weights=values, minlength=bins) / np.maximum(counts, 1)
        for values in (probability, outcome)
    )
    found = []
    for number in np.flatnonzero(counts).tolist():
        share, count = float(np.clip(shares[number], 0.0, 1.0)), int(counts[number])
        found.append(Bin(count, float(means[number]), share, *wilson(share, count)))
    return tuple(found)


def calibration_by_chance(proba: npt.ArrayLike, *, bins: int = BINS) -> float:
    """What `judge.metrics.calibration_error` can be expected to find, with bins of equal width, in
    as many battles of a judge whose every probability is true, one vote each.

    No sample is so large that the error is 0, and small ones seem badly calibrated whoever judges
    them. A bin's error is then close to normal about 0, so its size has the mean
    sqrt(2 / pi) x its standard deviation (compare the consistency bars of Bröcker and Smith 2007).
    """
    p = checked(proba, "probabilities")
    top = p.max(axis=1)
    place = bin_places(top, bins)
    variance = np.bincount(place, weights=top * (1.0 - top), minlength=bins)
    return float(np.sqrt(np.maximum(variance, 0.0) * 2.0 / np.pi).sum() / len(p))
