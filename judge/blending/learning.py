"""How each way to blend is learned from labelled battles.

In every fit a member that left a battle unjudged is taken to say what the others say on the mean;
the blend itself leaves it out (see `judge.blending.pools`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from judge.blending.pools import LinearPool, LogPool, Ranking
from judge.choosing import cross_fit, mean_loss, paired_gap
from judge.comparing.bootstrap import group_codes
from judge.loglinear import FLOOR, Pull, coordinates, fit_weights

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

PENALTIES = (1000.0, 100.0, 10.0, 1.0)
"""How strongly the weights of stacking are held to one another, the most cautious first."""
DECAY, TEMPERATURE, BOUND = 0.99, 0.05, 3.0
"""Of the weights from advantage."""

_SCALE_PULL, _SHIFT_PULL = 1.0, 0.1
_MOST_WEIGHT, _MOST_SHIFT = 20.0, 20.0
_PSEUDO = 1.0  # battles for each member, so that no weight is 0
_ROUNDS, _CLOSE = 200, 1e-10
_INNER_FOLDS = 5
_CAUTION = 0.5  # standard errors


@dataclass(frozen=True)
class Members:
    """Labelled battles, each judged by one member at least.

    Attributes:
        labels: (N, 3) shares of A, B and tie.
        said: (M, N, 3) probabilities, NaN rows unjudged.
        codes: (N,) prompts, by number.
    """

    labels: Floats
    said: Floats
    codes: Ints

    def take(self, rows: Ints) -> Members:
        return Members(self.labels[rows], self.said[:, rows], group_codes(self.codes[rows]))

    @property
    def likelihood(self) -> Floats:
        """(M, N) each member's log-likelihood of the labels; NaN where unjudged."""
        logs = np.log(np.maximum(self.said, FLOOR))
        return np.asarray((self.labels * logs).sum(axis=2))


def filled(values: Floats) -> Floats:
    """(M, N, ...) with the mean over the others in place of NaN."""
    known = ~np.isnan(values)
    mean = np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)
    return np.where(known, values, mean)


def mean_over(values: Floats) -> Floats:
    """(M,) means over the battles that each judged; where there is none, the others' mean."""
    known = ~np.isnan(values)
    number = known.sum(axis=1)
    means = np.where(known, values, 0.0).sum(axis=1) / np.maximum(number, 1)
    return np.asarray(np.where(number > 0, means, means[number > 0].mean()))


def rank(data: Members) -> Ranking:
    """Members by their log-likelihood less the mean of those who judged the same battle, so that
    nobody is thought better for having judged easy battles."""
    likelihood = data.likelihood
    gain = mean_over(likelihood - filled(likelihood).mean(axis=0))
    return Ranking(tuple(np.argsort(-gain, kind="stable").tolist()))


def advantage_weights(data: Members, seed: int) -> LinearPool:
    """Weights from advantage. The battles come in random order, t = 1, 2, ...; with l the
    log-likelihood and the mean over the members who judged,

        b_1 = mean_m l_m1          b_t+1 = DECAY b_t + (1 - DECAY) mean_m l_mt
        gain_m = mean over the t that m judged of (l_mt - b_t)
        advantage_m = gain_m - mean_m gain_m
        weight = softmax(advantage / TEMPERATURE, held within BOUND of 0)

    The baseline b tells what was to be expected at the time; where all judge all battles it cancels
    out, and a member's advantage is what its log loss is less than the mean member's. With a bound
    of 3 the worst member keeps a four-hundredth of the best one's weight.
    """
    likelihood = data.likelihood[:, np.random.default_rng(seed).permutation(len(data.labels))]
    group = filled(likelihood).mean(axis=0)
    baseline = np.empty(len(group))
    level = float(group[0])
    for t, value in enumerate(group.tolist()):
        baseline[t] = level
        level = DECAY * level + (1.0 - DECAY) * value
    gain = mean_over(likelihood - baseline)
    weights = np.exp(np.clip((gain - gain.mean()) / TEMPERATURE, -BOUND, BOUND))
    return LinearPool(tuple((weights / weights.sum()).tolist()))


def best_weights(data: Members) -> LinearPool:
    """The weights of the mean of probabilities that have the least log loss, with a battle added
    for each member, so that none is 0.

    Of -sum y ln(P w) - sum ln w + (N + M) sum w, which is convex and whose minimum has weights that
    sum to 1 by themselves, by Newton steps that stay inside.
    """
    said = np.maximum(filled(data.said), FLOOR)
    members = len(said)
    rows, classes = np.nonzero(data.labels > 0)
    votes = data.labels[rows, classes]
    hits = said[:, rows, classes].T  # (R, M)
    total = float(votes.sum()) + members * _PSEUDO

    def loss(w: Floats) -> float:
        return float(-votes @ np.log(hits @ w) - _PSEUDO * np.log(w).sum() + total * w.sum())

    weights = np.full(members, 1.0 / members)
    value = loss(weights)
    for _ in range(_ROUNDS):
        ratio = hits / (hits @ weights)[:, None]
        slope = -(votes @ ratio) - _PSEUDO / weights + total
        bend = ratio.T @ (ratio * votes[:, None]) + np.diag(_PSEUDO / weights**2)
        step = -np.linalg.solve(bend, slope)
        if -slope @ step <= _CLOSE * total:
            break
        for size in 0.5 ** np.arange(60):
            tried = weights + size * step
            if (tried > 0).all() and (found := loss(tried)) < value:
                break
        else:
            break  # nothing lower can be told from rounding
        weights, value = tried, found
    return LinearPool(tuple((weights / weights.sum()).tolist()))


@dataclass(frozen=True)
class _Columns:
    """Labelled battles as `judge.loglinear` wants them: (N, K) for d and s, (N, 3) labels."""

    strength: Floats
    tie: Floats
    labels: Floats

    def fit(self, penalty: float, rows: Ints) -> LogPool:
        members = (self.strength.shape[1] - 1) // 2
        weights = fit_weights(
            self.strength[rows], self.tie[rows], self.labels[rows], _held(members, penalty)
        )
        d, s = weights[:members], weights[members:-1]
        return LogPool(tuple(d.tolist()), tuple(s.tolist()), float(weights[-1]))


def _columns(data: Members) -> _Columns:
    d, s = (filled(part).T for part in coordinates(data.said))
    nothing, one = np.zeros_like(d), np.ones((len(d), 1))
    return _Columns(np.hstack([d, nothing, 0.0 * one]), np.hstack([nothing, s, one]), data.labels)


def _held(members: int, penalty: float) -> Pull:
    """Weights are pulled toward 1/M: hardly as to their sum, by the penalty as to being alike."""
    alike = np.eye(members) - 1.0 / members
    block = _SCALE_PULL * np.full((members, members), 1.0 / members) + penalty * alike
    size = 2 * members + 1
    curve = np.zeros((size, size))
    curve[:members, :members] = curve[members:-1, members:-1] = block
    curve[-1, -1] = _SHIFT_PULL
    centre, low, high = np.full(size, 1.0 / members), np.zeros(size), np.full(size, _MOST_WEIGHT)
    centre[-1], low[-1], high[-1] = 0.0, -_MOST_SHIFT, _MOST_SHIFT
    return Pull(centre, curve, low, high)


def choose_penalty(data: Members, seed: int) -> float:
    """How strongly stacking's weights are to be held together: the most cautious penalty whose
    cross-validated log loss is within half a standard error of the least."""
    columns, everything = _columns(data), data.said

    def learner(penalty: float, rows: Ints):  # type: ignore[no-untyped-def]
        pool = columns.fit(penalty, rows)
        return lambda others: pool.apply(everything[:, others])

    learners = {str(penalty): partial(learner, penalty) for penalty in PENALTIES}
    said = cross_fit(learners, data.codes, _INNER_FOLDS, seed, times=1)
    losses = [mean_loss(data.labels, said[str(penalty)]) for penalty in PENALTIES]
    return PENALTIES[_most_cautious(losses, data.codes)]


def _most_cautious(losses: Sequence[Floats], codes: Ints) -> int:
    best = int(np.argmin([loss.mean() for loss in losses]))
    for place, loss in enumerate(losses):
        gap = paired_gap(loss, losses[best], codes)
        if place == best or gap.value <= _CAUTION * gap.error:
            return place
    return best


def stack(data: Members, penalty: float) -> LogPool:
    """Weights in log-probability space, and a shift for the tie, by penalised likelihood."""
    return _columns(data).fit(penalty, np.arange(len(data.labels)))
