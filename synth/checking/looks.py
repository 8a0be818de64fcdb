"""Whether labels go by looks: the longer response, the one with more headings, lists or code.

People prefer longer responses, too; what counts is whether the annotators do so more than people
do on the same battles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from judge.aggregation import Floats
from judge.comparing.measuring import rank_correlation
from judge.leaderboard.style import STYLE
from judge.loglinear import Pull, fit_weights
from synth.checking.estimates import NAN, Estimate, Sampling

LOOKS = ("characters", *STYLE)
# Weights that nothing pulls on would run away where all is decided; this is next to no pull.
_PULL = 1e-3


@dataclass(frozen=True)
class Look:
    """How labels go with one thing that responses have more or less of.

    Attributes:
        name: what; `characters`, or one of `judge.leaderboard.style.STYLE`.
        won: share of the battles won by the response with more, of those that label and look tell
            apart.
        human: the same of people's labels, over battles that both have labelled.
        here: that of the annotators, over those battles.
        beyond: `here` less `human`, battle by battle; above 0 where annotators go by it more than
            people.
        rank: Spearman's correlation of P(A) - P(B) with the difference; `human_rank` people's, on
            the battles that have both.
    """

    name: str
    won: Estimate
    human: Estimate
    here: Estimate
    beyond: Estimate
    rank: float
    human_rank: float


@dataclass(frozen=True)
class Looks:
    """All of them, and the slope by length.

    Attributes:
        looks: in the order of `LOOKS`.
        slope: the log-odds of A against B that come with A being e times as long, by the symmetric
            fit of `judge.loglinear`; `human_slope` that of people on the battles that have both,
            and `common_slope` of the annotators there. NaN where it is not known.
    """

    looks: tuple[Look, ...]
    slope: float
    human_slope: float
    common_slope: float


def looks(proba: Floats, human: Floats | None, more: Floats, sampling: Sampling) -> Looks:
    """How labels go by looks.

    Args:
        proba: (N, 3) labels, NaN rows without one.
        human: (N, 3) people's; None where there are none.
        more: (N, 6) how much more A has of each of `LOOKS`; the first in logarithms of lengths.
        sampling: for intervals.
    """
    people = np.full_like(proba, np.nan) if human is None else human
    both = ~np.isnan(proba[:, 0]) & ~np.isnan(people[:, 0])
    shares, gaps = [], []
    for column in more.T:
        own, theirs = _won(proba, column), _won(people, column)
        apart, known = (np.flatnonzero(~np.isnan(won)) for won in (own, own + theirs))
        shares += [(apart, own[apart]), (known, theirs[known]), (known, own[known])]
        gaps.append((known, own[known] - theirs[known]))
    means, beyond = sampling.means(shares), sampling.means(gaps, -1.0, 1.0)
    found = [
        Look(
            name,
            means[3 * place],
            means[3 * place + 1],
            means[3 * place + 2],
            beyond[place],
            _rank(proba, more[:, place]),
            _rank(np.where(both[:, None], people, np.nan), more[:, place]),
        )
        for place, name in enumerate(LOOKS)
    ]
    return Looks(
        tuple(found),
        _slope(proba, more[:, 0]),
        _slope(people[both], more[both, 0]),
        _slope(proba[both], more[both, 0]),
    )


def _rank(proba: Floats, more: Floats) -> float:
    known = ~np.isnan(proba[:, 0])
    return rank_correlation(more[known], proba[known, 0] - proba[known, 1]) if known.any() else NAN


def _won(proba: Floats, more: Floats) -> Floats:
    """(N,) 1 where the response with more is the likeliest outcome, 0 where the other is; NaN for
    ties, for what has as much, and without a label."""
    filled = np.nan_to_num(proba)
    a, b, tie = filled.T
    side = np.where((a > b) & (a >= tie), 1.0, np.where((b > a) & (b >= tie), -1.0, 0.0))
    lead = np.sign(np.nan_to_num(more))
    return np.where((side != 0) & (lead != 0), (side == lead).astype(np.float64), np.nan)


def _slope(proba: Floats, more: Floats) -> float:
    known = ~np.isnan(proba[:, 0]) & np.isfinite(more)
    if known.sum() < 2 or not np.ptp(more[known]):
        return NAN
    zero, one = np.zeros(int(known.sum())), np.ones(int(known.sum()))
    pull = Pull(np.zeros(2), _PULL * np.eye(2), np.full(2, -20.0), np.full(2, 20.0))
    strength, tie = np.column_stack([more[known], zero]), np.column_stack([zero, one])
    return float(fit_weights(strength, tie, proba[known], pull)[0])
