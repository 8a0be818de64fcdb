"""Places on a board, and how sure they are.

Which models ever met, directly or by way of others; who is better than whom; between which ranks
a model may stand; which neighbours cannot be told apart.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

LEVEL = 0.05
QUANTILES = (LEVEL / 2, 1 - LEVEL / 2)
# On the board's scale. What is nearer is equal: the fits end within a thousandth of this.
EQUAL = 1e-6


def islands(met: Floats) -> Ints:
    """(M,) the number of each model's island, from 1, that with the most battles first.

    Two models are on one island where a chain of battles leads from one to the other. Strengths of
    models on different islands have nothing to do with each other.

    Args:
        met: (M, M) how many battles each pair of models had.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    count, label = connected_components(csr_matrix(met), directed=False)
    size = np.bincount(label, met.sum(axis=1), count)
    number = np.empty(count, dtype=np.int64)
    number[np.argsort(-size, kind="stable")] = np.arange(1, count + 1)
    return np.asarray(number[label])


def better_by_samples(samples: Floats, island: Ints) -> Bools:
    """(M, M) whether the first is better than the second, by the interval of their difference.

    Args:
        samples: (R, M) scores in R rounds of a bootstrap; what is nearer than `EQUAL` is equal.
        island: (M,) see `islands`; nobody is better than a model of another island.
    """
    rounds, models = samples.shape
    better = np.zeros((models, models), dtype=bool)
    if rounds == 0:
        return better
    for model in range(models):
        behind = (samples[:, [model]] - samples <= EQUAL).sum(axis=0)
        # One is added to both, or certainty would be claimed from finitely many rounds.
        better[model] = (1 + behind) / (1 + rounds) <= LEVEL / 2
    return np.asarray(better & (island[:, None] == island))


def reach(prompts: int) -> float:
    """How many standard errors a 95 % interval reaches to each side: Student's t, for errors known
    from so many prompts."""
    from scipy.stats import t

    return float(t.ppf(QUANTILES[1], max(prompts - 1, 1)))


def widened(samples: Floats, about: Floats, prompts: int) -> Floats:
    """(R, ...) rounds of a bootstrap of few prompts, drawn out about the estimate: their variance
    is (G - 1) / (G + 1) of what it should be, and their quantiles are those of a known variance."""
    few = np.sqrt((prompts + 1) / max(prompts - 1, 1)) * reach(prompts) / reach(10**9)
    return np.asarray(about + few * (samples - about))


def better_by_covariance(scores: Floats, covariance: Floats, island: Ints, prompts: int) -> Bools:
    """(M, M) the same from the (M, M) covariance of the scores."""
    own = np.diag(covariance)
    variance = np.maximum(own[:, None] + own - 2 * covariance, 0.0)
    gap = scores[:, None] - scores
    sure = gap > np.maximum(reach(prompts) * np.sqrt(variance), EQUAL)
    return np.asarray(sure & (island[:, None] == island))


def ranks(scores: Floats, island: Ints) -> Ints:
    """(M,) 1 and how many of the island score higher; equal scores share a rank."""
    ahead = (scores - scores[:, None] > EQUAL) & (island[:, None] == island)
    return np.asarray(1 + ahead.sum(axis=1), dtype=np.int64)


def rank_intervals(better: Bools, island: Ints) -> tuple[Ints, Ints]:
    """(M,) the best and the worst rank a model may have: behind those that are better, ahead of
    those that are worse (as Chatbot Arena ranks, Chiang et al. 2024)."""
    size = np.bincount(island)[island]
    return 1 + better.sum(axis=0), size - better.sum(axis=1)


def tiers(better: Bools, island: Ints) -> list[list[int]]:
    """Neighbours on the board of whom none can be told from another, as the places they take.

    Goes down the board: a model joins those above it unless it can be told from one of them; then
    it starts the next tier. Two models of different tiers may well be alike.

    Args:
        better: (M, M) in the board's order, best first, island by island.
        island: (M,) in the same order.
    """
    found: list[list[int]] = []
    for place in range(len(island)):
        above = found[-1] if found else []
        joins = bool(above) and island[above[0]] == island[place]
        if joins and not (better[above, place] | better[place, above]).any():
            above.append(place)
        else:
            found.append([place])
    return found
