"""How well anybody could do: what people who vote on the same battle agree on.

Where several people voted on a battle, their shares are its label, and no judge can expect less log
loss than the entropy of what people would say if all were asked. That is not the entropy of the few
votes there are, which is too low. So a Dirichlet distribution of what people say of battles is
fitted to all counts by maximum likelihood (Minka 2000, "Estimating a Dirichlet distribution"), and
the entropy of a battle is the mean over what its votes leave open (Wolpert and Wolf 1995,
"Estimating functions of probability distributions from a finite set of samples", equation 8).

One human against the others is what a judge does who knows how all but one voted: each person is
predicted by the others on the same battle, smoothed by the same Dirichlet. Where a battle has few
votes, a judge that reads texts can beat that; it cannot beat the entropy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from judge.comparing.bootstrap import Tallies, group_codes, students_quantile

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

CEILING, ONE_HUMAN = "human ceiling", "one human against the others"
# Labels that are the shares of the votes are so up to rounding in files.
_ROUNDING = 1e-2
# The share of the battles with several votes that this must be so for.
_OF_VOTES = 0.95
# Of the logs of the sum of the concentration and of the odds of its parts.
_BOUNDS = [(math.log(1e-4), math.log(1e5)), (-12.0, 12.0), (-12.0, 12.0)]
_STEP = 1e-4


@dataclass(frozen=True)
class CeilingRow:
    """A row beside those of judges.

    Attributes:
        name: of the row.
        log_loss: mean in nats, with its 95 % interval `low` to `high`; NaN with one prompt.
        accuracy: how often one person says what most of the others say, with its interval; of
            several choices that have as many, each counts for its part. NaN for the ceiling.
    """

    name: str
    log_loss: float
    low: float
    high: float
    accuracy: float = float("nan")
    accuracy_low: float = float("nan")
    accuracy_high: float = float("nan")


@dataclass(frozen=True)
class Ceiling:
    """What people agree on.

    Attributes:
        rows: the ceiling, then one human against the others.
        battles, prompts, votes: with several votes each, which is all that this is about.
        of: labelled battles, these and those with one vote or none.
        concentration: (3,) of the fitted Dirichlet, in the order A, B, tie: the larger their sum,
            the more alike are battles in what people say of them.
        unanimous: share of the battles on which all votes are the same.
    """

    rows: tuple[CeilingRow, CeilingRow]
    battles: int
    prompts: int
    votes: int
    of: int
    concentration: tuple[float, float, float]
    unanimous: float


def human_ceiling(
    labels: npt.ArrayLike,
    votes: npt.ArrayLike,
    *,
    groups: npt.ArrayLike,
    rounds: int = 2000,
    seed: int = 0,
) -> Ceiling | None:
    """What people agree on, from battles whose label is the shares of two or more votes.

    Args:
        labels: (N, 3) as judges are measured by them; NaN rows unlabelled.
        votes: (N, 3) how many people chose A, B, tie; NaN rows where that is not known.
        groups: (N,) equal for battles about the same prompt.
        rounds, seed: of the bootstrap, which resamples prompts.

    Returns:
        None where there are fewer than two such battles, or where labels are not made of the votes:
        one of all people's choices, say, or another's.
    """
    said, counts = np.asarray(labels, np.float64), np.asarray(votes, np.float64)
    several = voted_on(said, counts)
    whole = ~np.isnan(said).any(axis=1) & (np.nan_to_num(counts.sum(axis=1)) >= 2)
    # Those whose label happens to be what all said would be a choice of the clear ones.
    if several.sum() < max(2, _OF_VOTES * whole.sum()):
        return None
    c = counts[several]
    prompts = group_codes(np.asarray(groups)[several])
    point = _likeliest(c)
    alpha = _concentration(point)
    best = float(expected_entropy(c, alpha).mean())
    reach = students_quantile(int(prompts.max()) + 1) * _error(c, point, prompts)
    low = best - reach if math.isnan(reach) else max(0.0, best - reach)
    loss, hits = one_against_others(c, alpha)
    tallies = Tallies(prompts)
    for values in (loss, hits):
        tallies.add(values, np.ones(len(c)))
    means = tallies.means(rounds=rounds, seed=seed)
    other, hit = (
        (float(means.value[k]), float(means.low[k]), float(means.high[k])) for k in range(2)
    )
    return Ceiling(
        (
            CeilingRow(CEILING, best, low, best + reach),
            CeilingRow(ONE_HUMAN, *other, *hit),
        ),
        battles=len(c),
        prompts=tallies.number,
        votes=round(float(c.sum())),
        of=int((~np.isnan(said).any(axis=1)).sum()),
        concentration=(float(alpha[0]), float(alpha[1]), float(alpha[2])),
        unanimous=float((c.max(axis=1) == c.sum(axis=1)).mean()),
    )


def voted_on(labels: Floats, votes: Floats) -> Bools:
    """(N,) battles on which two people or more voted, and whose label is the shares of the votes:
    labels from elsewhere are not theirs. Votes that are no whole numbers are no counts."""
    total = np.nan_to_num(votes.sum(axis=1))
    shares = votes / np.where(total > 0, total, np.nan)[:, None]
    with np.errstate(invalid="ignore"):
        same = (np.abs(shares - labels) <= _ROUNDING).all(axis=1)
        whole = (votes == np.round(votes)).all(axis=1)
    return np.asarray((total >= 2) & same & whole, dtype=np.bool_)


def fit_dirichlet(counts: Floats) -> Floats:
    """(3,) the concentration of the Dirichlet under which (N, 3) counts are likeliest. Its sum is
    from 1e-4 to 1e5: people who always agree, and battles that are all alike, have none."""
    return _concentration(_likeliest(counts))


def _concentration(point: Floats) -> Floats:
    """(3,) from the coordinates that are fitted: the log of its sum, and the log-odds of B and of a
    tie against A. In these the sum may reach its bound while the shares are still open."""
    odds = np.exp([0.0, point[1], point[2]])
    return np.asarray(np.exp(point[0]) * odds / odds.sum(), dtype=np.float64)


def _likeliest(counts: Floats) -> Floats:
    """(3,) the coordinates of the likeliest concentration."""
    from scipy.optimize import minimize
    from scipy.special import gammaln

    rows, times = np.unique(counts, axis=0, return_counts=True)
    total = rows.sum(axis=1)

    def loss(point: Floats) -> tuple[float, Floats]:
        alpha = _concentration(point)
        value = gammaln(alpha.sum()) - gammaln(alpha.sum() + total)
        value += (gammaln(alpha + rows) - gammaln(alpha)).sum(axis=1)
        return -float(times @ value) / len(counts), -(times @ _slopes(rows, point)) / len(counts)

    share = np.log((counts.sum(axis=0) + 0.5) / (counts.sum() + 1.5))
    start = np.array([np.log(2.0), share[1] - share[0], share[2] - share[0]])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=_BOUNDS)
    return np.asarray(found.x, dtype=np.float64)


def _slopes(counts: Floats, point: Floats) -> Floats:
    """(N, 3) of the log-likelihood of each battle's counts, by the coordinates."""
    from scipy.special import digamma

    alpha = _concentration(point)
    mass = alpha.sum()
    whole = digamma(mass) - digamma(mass + counts.sum(axis=1))
    logs = (whole[:, None] + digamma(alpha + counts) - digamma(alpha)) * alpha
    turned = np.eye(3) - alpha / mass
    turned[:, 0] = 1.0
    return np.asarray(logs @ turned, dtype=np.float64)


def _error(counts: Floats, point: Floats, prompts: npt.NDArray[np.intp]) -> float:
    """Standard error of the mean expected entropy, clustered by prompt; NaN with one prompt.

    Each battle has a part in the mean itself and in the concentration that was fitted: the
    sandwich of an estimate in two steps (Newey and McFadden 1994, "Large sample estimation and
    hypothesis testing", section 6).
    """
    groups = int(prompts.max()) + 1
    if groups < 2:
        return float("nan")
    bounds = np.array(_BOUNDS)
    free = np.flatnonzero((point > bounds[:, 0] + _STEP) & (point < bounds[:, 1] - _STEP))
    curvature, pull = np.zeros((3, 3)), np.zeros(3)
    for k in free.tolist():
        up, down = (point + sign * _STEP * np.eye(3)[k] for sign in (1, -1))
        bend = _slopes(counts, down).mean(axis=0) - _slopes(counts, up).mean(axis=0)
        curvature[:, k] = bend / (2 * _STEP)
        higher, lower = (expected_entropy(counts, _concentration(at)).mean() for at in (up, down))
        pull[k] = (higher - lower) / (2 * _STEP)
    weights = np.zeros(3)
    weights[free] = np.linalg.lstsq(curvature[np.ix_(free, free)].T, pull[free], rcond=None)[0]
    own = expected_entropy(counts, _concentration(point))
    parts = own - own.mean() + _slopes(counts, point) @ weights
    sums = np.bincount(prompts, weights=parts, minlength=groups) / len(counts)
    return float(np.sqrt((sums**2).sum() * groups / (groups - 1)))


def expected_entropy(counts: Floats, alpha: Floats) -> Floats:
    """(N,) mean entropy, in nats, of what people say of a battle, given its votes."""
    from scipy.special import digamma

    mass = counts + alpha
    total = mass.sum(axis=1, keepdims=True)
    return np.asarray(
        (mass / total * (digamma(total + 1.0) - digamma(mass + 1.0))).sum(axis=1), dtype=np.float64
    )


def one_against_others(counts: Floats, alpha: Floats) -> tuple[Floats, Floats]:
    """Each of a battle's voters predicted by its others, and the mean over its voters.

    Returns:
        (N,) log loss in nats of the others' shares, smoothed; (N,) how often the one says what most
        of the others say.
    """
    total = counts.sum(axis=1)
    loss, hits = np.zeros(len(counts)), np.zeros(len(counts))
    for choice in range(3):
        own = np.eye(3)[choice]
        share = counts[:, choice] / total
        others = np.maximum(counts - own, 0.0)
        proba = (others[:, choice] + alpha[choice]) / (total - 1.0 + alpha.sum())
        loss -= np.where(share > 0, share * np.log(proba), 0.0)
        top = others == others.max(axis=1, keepdims=True)
        hits += share * top[:, choice] / top.sum(axis=1)
    return loss, hits
