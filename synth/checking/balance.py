"""What the labels come to: how they fall on A, B and a tie, and how sure they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from judge.aggregation import Floats
from judge.metrics import entropy_rows, shared_maximum
from synth.checking.estimates import NAN, Estimate, Sampling

NEAR_CERTAIN = 0.95
"""A probability from here on is next to certainty."""

Three = tuple[float, float, float]


@dataclass(frozen=True)
class Balance:
    """The labels of the battles that have one.

    Attributes:
        battles: that have a label; `without` have none.
        soft: mean label, in the order A, B, tie.
        hard: shares of the battles by their likeliest outcome; those as likely share a battle.
        lean: mean of P(A) - P(B); people's, on battles drawn the same way, is the one to compare.
        entropy: mean, in nats; ln 3 = 1.0986 is knowing nothing.
        certain: share of the labels with a probability of 0.95 or more.
        quantiles: of the largest probability: 5, 25, 50, 75, 95 %.
        by_verdict: labels that are verdicts; the others are counted from votes.
        human: mean label by people, and `human_hard` its likeliest outcomes, over the battles that
            have both, and `common` of the annotators' labels there; None without such battles.
        people: how many those are.
    """

    battles: int
    without: int
    soft: Three
    hard: Three
    lean: Estimate
    entropy: float
    certain: Estimate
    quantiles: tuple[float, ...]
    by_verdict: int
    people: int = 0
    human: Three | None = None
    human_hard: Three | None = None
    common: Three | None = None


def balance(
    proba: Floats, human: Floats | None, sampling: Sampling, by_verdict: int = 0
) -> Balance:
    """How labels fall.

    Args:
        proba: (N, 3), NaN rows without a label.
        human: (N, 3) by people, NaN rows unlabelled; None where there are none.
        sampling: for intervals.
        by_verdict: how many of the labels are verdicts.
    """
    places = np.flatnonzero(~np.isnan(proba[:, 0]))
    p = proba[places]
    if not len(p):
        nothing = (NAN, NAN, NAN)
        return Balance(0, len(proba), nothing, nothing, Estimate(), NAN, Estimate(), (NAN,) * 5, 0)
    top = p.max(axis=1)
    lean = sampling.means([(places, p[:, 0] - p[:, 1])], -1.0, 1.0)[0]
    certain = sampling.means([(places, top >= NEAR_CERTAIN)])[0]
    found = Balance(
        battles=len(p),
        without=len(proba) - len(p),
        soft=_three(p),
        hard=_three(shared_maximum(p)),
        lean=lean,
        entropy=float(entropy_rows(p).mean()),
        certain=certain,
        quantiles=tuple(map(float, np.quantile(top, [0.05, 0.25, 0.5, 0.75, 0.95]))),
        by_verdict=by_verdict,
    )
    both = np.zeros(len(p), dtype=np.bool_) if human is None else ~np.isnan(human[places, 0])
    if human is None or not both.any():
        return found
    said = human[places[both]]
    return replace(
        found,
        people=int(both.sum()),
        human=_three(said),
        human_hard=_three(shared_maximum(said)),
        common=_three(p[both]),
    )


def _three(rows: Floats) -> Three:
    a, b, tie = rows.mean(axis=0).tolist()
    return a, b, tie
