"""Which judge is better, and how sure that is: several judges on the same labelled battles.

Every judge is measured on the battles it judged. Differences between judges are taken battle by
battle on those that all of them judged, and their intervals come from a bootstrap that resamples
prompts, not battles: two battles about one prompt tell less than two about two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from judge.comparing.bootstrap import Means, Tallies, group_codes
from judge.comparing.differences import Difference, Pair, differences, runs_together
from judge.comparing.measuring import Tallied, rank_correlation, score, tally
from judge.comparing.scores import Comparison, Effort, JudgeScore
from judge.errors import ArenaJudgeError
from judge.metrics import checked, class_prior

if TYPE_CHECKING:
    from judge.consistency import Consistency

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

PRIOR = "class prior"


@dataclass(frozen=True)
class Known:
    """What is known of judges beyond their probabilities, by their names.

    Attributes:
        orders: what their ballots say of them.
        efforts: what a battle takes them.
    """

    orders: Mapping[str, Consistency]
    efforts: Mapping[str, Effort]


NOTHING = Known({}, {})


def compare(
    labels: npt.ArrayLike,
    predictions: Mapping[str, npt.ArrayLike],
    *,
    groups: npt.ArrayLike | None = None,
    length_difference: npt.ArrayLike | None = None,
    known: Known = NOTHING,
    rounds: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Measures judges on the same battles and compares them pairwise.

    The class prior is fitted on these very labels: the best constant there is for them, so a judge
    that beats it has learned something, and one that does not may still beat an honest constant.

    Differences to the class prior are tested together, one a judge, and differences between judges
    together, one a pair: which judge is best was seen in the same data, so those against the best
    are picked from all.

    Args:
        labels: (N, 3) in the order A, B, tie; NaN rows are unlabelled and left out.
        predictions: a name and (N, 3) probabilities for each judge; NaN rows are unjudged.
        groups: (N,) values that are equal for battles about the same prompt; None takes every
            battle for a prompt of its own.
        length_difference: (N,) how much longer response A is than B, in any measure; NaN where not
            known.
        known: what else there is to be told of the judges.
        rounds: bootstrap rounds.
        seed: of the bootstrap, from 0; the same seed gives the same intervals.

    Raises:
        ArenaJudgeError: shapes that do not fit, no labels, no judge that judged anything, or no
            battle that all of those judged.
    """
    y, kept = _labelled(labels)
    if not predictions or PRIOR in predictions:
        raise ArenaJudgeError(f"compare needs judges, none of them called {PRIOR!r}")
    longer = None if length_difference is None else _numbers(length_difference, kept)
    tallies = Tallies(_codes(groups, kept))
    prior = class_prior(y)
    proba = {PRIOR: np.tile(prior, (len(y), 1))}
    proba |= {name: _judged(name, values, kept) for name, values in predictions.items()}
    judged = {name: _complete(p) for name, p in proba.items()}
    common = _common(judged)
    tallied = {
        name: tally(tallies, y, p, judged[name]) for name, p in proba.items() if judged[name].any()
    }
    ranked = _ranked(tallied, common)
    places = _paired(tallies, tallied, ranked, common)
    means = tallies.means(rounds=rounds, seed=seed)
    pairs, against_prior = _differences(means, places, ranked, int(common.sum()))
    scores = [
        score(name, y, proba[name], judged[name], means, tallied[name], longer) for name in ranked
    ]
    scores += [JudgeScore(name, 0, len(y)) for name in proba if name not in tallied]
    apart = {(pair.first, pair.second): pair.difference.told_apart for pair in pairs}
    return Comparison(
        scores=tuple(_complemented(one, ranked, pairs, against_prior, known) for one in scores),
        best=ranked[1],
        battles=len(y),
        unlabelled=int((~kept).sum()),
        common=int(common.sum()),
        prompts=tallies.number,
        common_prompts=len(np.unique(tallies.prompts[common])),
        prior=(float(prior[0]), float(prior[1]), float(prior[2])),
        rounds=rounds,
        seed=seed,
        pairs=tuple(pairs),
        together=tuple(map(tuple, runs_together(ranked[1:], apart))),
        held_back_by=_held_back_by(judged),
        length_correlation=rank_correlation(longer, y[:, 0] - y[:, 1]),
    )


# --- what is given ---


def _labelled(labels: npt.ArrayLike) -> tuple[Floats, Bools]:
    """The labels of the labelled battles, and (N,) which those are."""
    values = np.asarray(labels, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != 3:
        raise ArenaJudgeError(f"labels must have the shape (N, 3), not {values.shape}")
    kept = _complete(values)
    if not kept.any():
        raise ArenaJudgeError("no battle has a label, and judges are compared by labels")
    return checked(values[kept], "labels"), kept


def _complete(values: Floats) -> Bools:
    """(N,) rows without NaN."""
    return np.asarray(~np.isnan(values).any(axis=1), dtype=np.bool_)


def _codes(groups: npt.ArrayLike | None, kept: Bools) -> npt.NDArray[np.intp]:
    """(kept,) a number for each battle's prompt."""
    if groups is None:
        return np.arange(int(kept.sum()))
    values = np.asarray(groups)
    if values.shape != kept.shape:
        raise ArenaJudgeError(f"{len(kept)} battles but groups of shape {values.shape}")
    return group_codes(values[kept])


def _numbers(length_difference: npt.ArrayLike, kept: Bools) -> Floats:
    values = np.asarray(length_difference, dtype=np.float64)
    if values.shape != kept.shape:
        raise ArenaJudgeError(f"{len(kept)} battles but length differences {values.shape}")
    return values[kept]


def _judged(name: str, values: npt.ArrayLike, kept: Bools) -> Floats:
    """What a judge says of the labelled battles; distributions, or NaN rows."""
    proba = np.asarray(values, dtype=np.float64)
    if proba.shape != (len(kept), 3):
        raise ArenaJudgeError(f"{name}: {len(kept)} battles but probabilities {proba.shape}")
    proba = proba[kept]
    judged = _complete(proba)
    if judged.any():
        checked(proba[judged], f"probabilities of {name}")
    return proba


def _common(judged: Mapping[str, Bools]) -> Bools:
    """(N,) which battles all judges have judged, of those that judged any."""
    some = {name: mask for name, mask in judged.items() if mask.any()}
    if len(some) < 2:
        number = len(next(iter(judged.values())))
        names = ", ".join(name for name in judged if name != PRIOR)
        raise ArenaJudgeError(f"{names} judged none of the {number} labelled battles")
    common = np.logical_and.reduce(list(some.values()))
    if not common.any():
        counts = ", ".join(f"{name} {int(mask.sum())}" for name, mask in some.items())
        raise ArenaJudgeError(f"no battle was judged by all ({counts}); compare them apart")
    return np.asarray(common, dtype=np.bool_)


def _held_back_by(judged: Mapping[str, Bools]) -> tuple[str, int] | None:
    """The judge without which most battles would be common, if at least twice as many, and how
    many."""
    some = {name: mask for name, mask in judged.items() if mask.any()}
    times = np.sum(list(some.values()), axis=0)
    common = int((times == len(some)).sum())
    without = {name: int((times - mask == len(some) - 1).sum()) for name, mask in some.items()}
    name = max(without, key=without.__getitem__)
    return (name, without[name]) if len(some) > 2 and without[name] >= 2 * common else None


# --- differences ---


def _ranked(tallied: Mapping[str, Tallied], common: Bools) -> list[str]:
    """The prior, then the judges by rising log loss on the common battles."""
    losses = {name: float(one.loss[common].mean()) for name, one in tallied.items()}
    return [PRIOR, *sorted((name for name in tallied if name != PRIOR), key=losses.__getitem__)]


def _paired(
    tallies: Tallies, tallied: Mapping[str, Tallied], ranked: Sequence[str], common: Bools
) -> dict[tuple[str, str], int]:
    """Adds the mean difference of every two, and says where.

    Differences are summed as differences: judges that agree then differ by exactly zero.
    """
    sizes = common.astype(np.float64)
    return {
        (first, second): tallies.add(
            np.where(common, tallied[first].loss - tallied[second].loss, 0.0), sizes
        )
        for first, second in combinations(ranked, 2)
    }


def _differences(
    means: Means, places: Mapping[tuple[str, str], int], ranked: Sequence[str], battles: int
) -> tuple[list[Pair], dict[str, Difference]]:
    """Every two judges, and each judge less the prior."""
    families = (list(combinations(ranked[1:], 2)), [(PRIOR, name) for name in ranked[1:]])
    found = []
    for names in families:
        at = np.array([places[pair] for pair in names], dtype=np.intp)
        prompts = int(means.prompts[at].max()) if len(at) else 0
        of_family = differences(
            means.value[at], means.error[at], means.low[at], means.high[at], prompts, battles
        )
        found.append([Pair(*pair, one) for pair, one in zip(names, of_family, strict=True)])
    return found[0], {pair.second: pair.difference.turned() for pair in found[1]}


def _complemented(
    row: JudgeScore,
    ranked: Sequence[str],
    pairs: Sequence[Pair],
    against_prior: Mapping[str, Difference],
    known: Known,
) -> JudgeScore:
    """A row with its differences to the prior and to the best judge, and what else is known."""
    best = ranked[1]
    against = {pair.second: pair.difference.turned() for pair in pairs if pair.first == best}
    against[PRIOR] = against_prior[best].turned()
    return replace(
        row,
        against_prior=against_prior.get(row.name),
        against_best=against.get(row.name),
        order=known.orders.get(row.name),
        effort=known.efforts.get(row.name, Effort()),
    )


__all__ = [
    "NOTHING",
    "PRIOR",
    "Comparison",
    "Difference",
    "Effort",
    "JudgeScore",
    "Known",
    "compare",
]
