"""Probabilities whose logarithms are linear in a few numbers, fitted to labels.

A battle is seen in two coordinates, which say all that three probabilities can say:

    d = ln P(A) - ln P(B)                     changes its sign when A and B are exchanged
    s = ln P(tie) - (ln P(A) + ln P(B)) / 2   does not

They are the strengths of the Davidson form: `judge.davidson.probabilities(d, s)` gives the
probabilities back. Whatever makes a new d of d's alone, by multiplying, and a new s of what does
not change, keeps the symmetry exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from judge.davidson import gradient, probabilities

Floats = npt.NDArray[np.float64]

FLOOR = 1e-6
"""A probability below this counts as this: one judge's 0 is no certainty."""

_ROUNDS = 100
_CLOSE = 1e-9  # nats, of all battles together, that a step may still promise


def logs(proba: Floats) -> Floats:
    """(..., 3) logarithms, of `FLOOR` at least; NaN where unjudged."""
    return np.asarray(np.log(np.maximum(proba, FLOOR)))


def coordinates(proba: Floats) -> tuple[Floats, Floats]:
    """(...) d and s of (..., 3) probabilities."""
    log = logs(proba)
    return log[..., 0] - log[..., 1], log[..., 2] - (log[..., 0] + log[..., 1]) / 2.0


@dataclass(frozen=True)
class Pull:
    """What holds the weights near values that are known to be sober: the loss is raised by

        1/2 (w - centre)' curve (w - centre)

    and the weights stay within `low` and `high`.

    Attributes:
        centre: (K,).
        curve: (K, K), positive semidefinite.
        low, high: (K,), infinite where there is no bound.
    """

    centre: Floats
    curve: Floats
    low: Floats
    high: Floats


def fit_weights(strength: Floats, tie: Floats, labels: Floats, pull: Pull) -> Floats:
    """(K,) weights w that minimise the log loss of d = strength @ w, s = tie @ w, and the pull.

    Convex, and solved by Newton steps on the weights that are not held at a bound (D. Bertsekas
    1982, "Projected Newton methods", SIAM J. Control 20); no randomness, and the order of rows does
    not matter but for rounding.

    Args:
        strength, tie: (N, K) columns; a weight may have its say in both.
        labels: (N, 3) shares of A, B and tie.
        pull: which way the weights are drawn.
    """

    def loss(weights: Floats) -> tuple[float, Floats]:
        value, by_d, by_s = gradient(strength @ weights, tie @ weights, labels)
        off = weights - pull.centre
        slope = strength.T @ by_d + tie.T @ by_s + pull.curve @ off
        return float(value.sum() + 0.5 * off @ pull.curve @ off), slope

    weights = np.clip(pull.centre, pull.low, pull.high)
    value, slope = loss(weights)
    for _ in range(_ROUNDS):
        held = (weights <= pull.low) & (slope > 0) | (weights >= pull.high) & (slope < 0)
        free = ~held
        proba = probabilities(strength @ weights, tie @ weights)
        bend = _curvature(strength[:, free], tie[:, free], proba) + pull.curve[np.ix_(free, free)]
        step = np.zeros(len(weights))
        step[free] = -np.linalg.lstsq(bend, slope[free], rcond=None)[0]
        if -slope @ step <= _CLOSE:
            break
        for size in 0.5 ** np.arange(40):
            tried = np.clip(weights + size * step, pull.low, pull.high)
            found = loss(tried)
            if found[0] < value:
                break
        else:
            break  # nothing lower can be told from rounding
        weights, (value, slope) = tried, found
    return weights


def _curvature(strength: Floats, tie: Floats, proba: Floats) -> Floats:
    """(K, K) second derivatives of the log loss by the weights; labels do not matter to them."""
    gap = (proba[:, 0] - proba[:, 1]) / 2.0
    by_dd = (proba[:, 0] + proba[:, 1]) / 4.0 - gap**2
    by_ds = -gap * proba[:, 2]
    by_ss = proba[:, 2] * (1.0 - proba[:, 2])
    cross = strength.T @ (tie * by_ds[:, None])
    own = strength.T @ (strength * by_dd[:, None]) + tie.T @ (tie * by_ss[:, None])
    return np.asarray(own + cross + cross.T)
