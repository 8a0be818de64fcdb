"""Which judge is better, and how sure that is: several judges on the same labelled battles.

Every judge is measured on the battles it judged. Differences between judges are taken battle by
battle on those that all of them judged, and their intervals come from a bootstrap that resamples
prompts, not battles: two battles about one prompt tell less than two about two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.errors import ArenaJudgeError, InputError
from judge.metrics import (
    accuracy,
    brier,
    calibration_error,
    checked,
    class_prior,
    log_loss_rows,
)

Floats = npt.NDArray[np.float64]

PRIOR = "class prior"
_PROBA = ["winner_model_a", "winner_model_b", "winner_tie"]
_QUANTILES = (0.025, 0.975)
_BLOCK_BYTES = 1 << 25


@dataclass(frozen=True)
class Difference:
    """A judge's log loss less another's on the battles that all judges judged; negative is better.

    Attributes:
        value: mean difference in nats.
        low, high: 95 % percentile interval of the paired bootstrap (NaN with a single prompt).
        p_value: two-sided, the share of rounds on the other side of zero, twice.
    """

    value: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class JudgeScore:
    """One judge, measured on the labelled battles it judged.

    Attributes:
        name: the judge's name.
        battles: labelled battles it judged; `unjudged` are those it left out.
        log_loss: mean, in nats, with its 95 % interval `low` to `high`.
        against_prior, against_best: paired differences; None for the row that is itself that one.
    """

    name: str
    battles: int
    unjudged: int
    log_loss: float
    low: float
    high: float
    accuracy: float
    brier: float
    calibration_error: float
    against_prior: Difference | None
    against_best: Difference | None


@dataclass(frozen=True)
class Comparison:
    """Judges compared on the same labelled battles.

    Attributes:
        scores: the class prior first, then the judges, least log loss on the common battles first.
        best: name of the judge with the least log loss on the common battles.
        battles: labelled battles; `unlabelled` were left out.
        common: battles that every judge judged, on which differences are taken.
        prompts: groups the bootstrap resampled.
        prior: the mean label, which the class prior predicts for every battle.
        rounds, seed: of the bootstrap.
    """

    scores: tuple[JudgeScore, ...]
    best: str
    battles: int
    unlabelled: int
    common: int
    prompts: int
    prior: tuple[float, float, float]
    rounds: int
    seed: int

    def to_frame(self) -> pd.DataFrame:
        """One row a judge, differences spread over columns `against_prior`, `..._low`, ..."""
        return pd.DataFrame([_flat(score) for score in self.scores])


def _flat(score: JudgeScore) -> dict[str, object]:
    row = asdict(score)
    for name in ("against_prior", "against_best"):
        difference = row.pop(name) or asdict(Difference(*[float("nan")] * 4))
        row[name] = difference.pop("value")
        row |= {f"{name}_{key}": value for key, value in difference.items()}
    return row


def compare(
    labels: npt.ArrayLike,
    predictions: Mapping[str, npt.ArrayLike],
    *,
    groups: npt.ArrayLike | None = None,
    rounds: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Measures judges on the same battles and compares them pairwise.

    The class prior is fitted on these very labels: the best constant there is for them, so a judge
    that beats it has learnt something, and one that does not may still beat an honest constant.

    Args:
        labels: (N, 3) in the order A, B, tie; NaN rows are unlabelled and left out.
        predictions: a name and (N, 3) probabilities for each judge; NaN rows are unjudged.
        groups: (N,) values that are equal for battles about the same prompt; None takes every
            battle for a prompt of its own.
        rounds: bootstrap rounds.
        seed: of the bootstrap; the same seed gives the same intervals.

    Raises:
        ArenaJudgeError: shapes that do not fit, no labels, a judge that judged nothing, or no
            battle that all judged.
    """
    y, kept = _labelled(labels)
    if not predictions or PRIOR in predictions:
        raise ArenaJudgeError(f"compare needs judges, none of them called {PRIOR!r}")
    if rounds < 1:
        raise ArenaJudgeError(f"the bootstrap needs one round at least, not {rounds}")
    codes = _group_codes(groups, kept)
    prior = class_prior(y)
    proba = {PRIOR: np.tile(prior, (len(y), 1))}
    proba |= {name: _judged(name, values, kept) for name, values in predictions.items()}
    loss = np.column_stack([_losses(name, y, p) for name, p in proba.items()])
    common = _complete(loss)
    if not common.any():
        counts = ", ".join(f"{n} {(~np.isnan(p[:, 0])).sum()}" for n, p in proba.items())
        raise ArenaJudgeError(f"no battle was judged by all ({counts}); compare them apart")
    means = loss[common].mean(axis=0)
    best = 1 + int(np.argmin(means[1:]))
    samples = _resample(_group_sums(loss, common, best, codes), rounds, seed)
    names = list(proba)
    order = [0, *(1 + np.argsort(means[1:], kind="stable"))]
    scores = []
    for k in order:
        prior_gap, best_gap = float(means[k] - means[0]), float(means[k] - means[best])
        against_prior = _difference(prior_gap, samples.against_prior[:, k]) if k != 0 else None
        against_best = _difference(best_gap, samples.against_best[:, k]) if k != best else None
        interval = _interval(samples.own[:, k])
        scores.append(
            _score(names[k], y, proba[names[k]], loss[:, k], interval, against_prior, against_best)
        )
    return Comparison(
        scores=tuple(scores),
        best=names[best],
        battles=len(y),
        unlabelled=int((~kept).sum()),
        common=int(common.sum()),
        prompts=int(codes.max()) + 1,
        prior=(float(prior[0]), float(prior[1]), float(prior[2])),
        rounds=rounds,
        seed=seed,
    )


def _labelled(labels: npt.ArrayLike) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """The labels of the labelled battles, and (N,) which those are."""
    values = np.asarray(labels, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != 3:
        raise ArenaJudgeError(f"labels must have the shape (N, 3), not {values.shape}")
    kept = _complete(values)
    if not kept.any():
        raise ArenaJudgeError("no battle has a label, and judges are compared by labels")
    return checked(values[kept], "labels"), kept


def _complete(values: Floats) -> npt.NDArray[np.bool_]:
    """(N,) rows without NaN."""
    return np.asarray(~np.isnan(values).any(axis=1), dtype=np.bool_)


def _group_codes(groups: npt.ArrayLike | None, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """(kept,) group numbers in order of appearance: what a group is called changes nothing."""
    if groups is None:
        return np.arange(int(kept.sum()))
    values = np.asarray(groups)
    if values.shape != kept.shape:
        raise ArenaJudgeError(f"{len(kept)} battles but groups of shape {values.shape}")
    return np.asarray(pd.factorize(values[kept], use_na_sentinel=False)[0], dtype=np.intp)


def _judged(name: str, values: npt.ArrayLike, kept: npt.NDArray[np.bool_]) -> Floats:
    proba = np.asarray(values, dtype=np.float64)
    if proba.shape != (len(kept), 3):
        raise ArenaJudgeError(f"{name}: {len(kept)} battles but probabilities {proba.shape}")
    return proba[kept]


def _losses(name: str, y: Floats, proba: Floats) -> Floats:
    """(N,) log loss of each battle, NaN where unjudged."""
    judged = _complete(proba)
    if not judged.any():
        raise ArenaJudgeError(f"{name} judged none of the {len(y)} labelled battles")
    loss = np.full(len(y), np.nan)
    loss[judged] = log_loss_rows(y[judged], checked(proba[judged], f"probabilities of {name}"))
    return loss


@dataclass(frozen=True)
class _Samples:
    """Bootstrap means, one row a round and one column a judge; NaN where a round drew none."""

    own: Floats
    against_prior: Floats
    against_best: Floats


def _group_sums(
    loss: Floats, common: npt.NDArray[np.bool_], best: int, codes: npt.NDArray[np.intp]
) -> Floats:
    """(G, 4K + 1) sums over each group: own loss, own count, the two differences, common count.

    Differences are summed as differences: judges that agree then differ by exactly zero.
    """
    judged = ~np.isnan(loss)
    shared = np.where(common[:, None], loss, 0.0)
    columns = np.column_stack(
        [
            np.where(judged, loss, 0.0),
            judged.astype(np.float64),
            shared - shared[:, :1],
            shared - shared[:, best : best + 1],
            common.astype(np.float64),
        ]
    )
    return np.column_stack([np.bincount(codes, weights=column) for column in columns.T])


def _resample(sums: Floats, rounds: int, seed: int) -> _Samples:
    """Cluster bootstrap of ratio means (Davison and Hinkley 1997, section 3.8): draws as many
    groups as there are, with replacement. A round is a row of counts, so a block of rounds is one
    matrix product with the groups' sums, whatever the number of judges."""
    groups, width = sums.shape
    judges = (width - 1) // 4
    totals = np.full((rounds, width), np.nan)
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK_BYTES // (8 * groups))
    for start in range(0, rounds if groups > 1 else 0, block):
        size = min(block, rounds - start)
        weights = np.empty((size, groups))
        for row in weights:
            row[:] = np.bincount(generator.integers(groups, size=groups), minlength=groups)
        totals[start : start + size] = weights @ sums
    with np.errstate(invalid="ignore", divide="ignore"):
        own = totals[:, :judges] / totals[:, judges : 2 * judges]
        paired = totals[:, 2 * judges : -1] / totals[:, -1:]
    return _Samples(own, paired[:, :judges], paired[:, judges:])


def _interval(samples: Floats) -> tuple[float, float]:
    drawn = samples[~np.isnan(samples)]
    if len(drawn) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(drawn, _QUANTILES)
    return float(low), float(high)


def _difference(value: float, samples: Floats) -> Difference:
    drawn = samples[~np.isnan(samples)]
    low, high = _interval(drawn)
    if len(drawn) == 0:
        return Difference(value, low, high, float("nan"))
    # One is added to both, or a p-value of 0 would be claimed from finitely many rounds.
    tail = (1 + min((drawn <= 0).sum(), (drawn >= 0).sum())) / (1 + len(drawn))
    return Difference(value, low, high, min(1.0, 2.0 * float(tail)))


def _score(
    name: str,
    y: Floats,
    proba: Floats,
    loss: Floats,
    interval: tuple[float, float],
    against_prior: Difference | None,
    against_best: Difference | None,
) -> JudgeScore:
    judged = ~np.isnan(loss)
    y, proba = y[judged], proba[judged]
    return JudgeScore(
        name=name,
        battles=len(y),
        unjudged=len(loss) - len(y),
        log_loss=float(loss[judged].mean()),
        low=interval[0],
        high=interval[1],
        accuracy=accuracy(y, proba),
        brier=brier(y, proba),
        calibration_error=calibration_error(y, proba),
        against_prior=against_prior,
        against_best=against_best,
    )


@dataclass(frozen=True)
class Alignment:
    """A predictions file laid beside battles.

    Attributes:
        proba: (N, 3), NaN rows where the file has no prediction.
        missing: battles the file does not name.
        unknown: predictions for ids that no battle has.
    """

    proba: Floats
    missing: int
    unknown: int


def align(
    ids: Sequence[str], predictions: pd.DataFrame, *, file: str | Path | None = None
) -> Alignment:
    """Lays a predictions table (see `judge.predictions`) beside battles.

    The same ids in the same order go by position, even when some are alike; otherwise ids decide,
    and must be unique on both sides.

    Args:
        ids: the battles' ids, N of them.
        predictions: `id` and the three probabilities.
        file: the table's name, for messages.

    Raises:
        InputError: ids that occur twice and so cannot be told apart, or none that fits.
    """
    values = predictions[_PROBA].to_numpy(dtype=np.float64)
    wanted, given = (
        pd.Index(pd.Series(ids, dtype=object)),
        pd.Index(predictions["id"].astype(object)),
    )
    if wanted.equals(given):
        return Alignment(values, 0, 0)
    for index, where in ((given, "the predictions"), (wanted, "the battles")):
        if not index.is_unique:
            twice = index[index.duplicated()][0]
            raise InputError(
                f"id {twice!r} occurs more than once in {where}, and the rows are not the same",
                file=file,
                column="id",
                mend="give every battle an id of its own, or score this very file again",
            )
    place = given.get_indexer(wanted)
    found = place >= 0
    if not found.any():
        raise InputError(
            "none of its ids is among the battles", file=file, column="id", mend="is it the file?"
        )
    proba = np.where(found[:, None], values[place], np.nan)
    return Alignment(proba, int((~found).sum()), len(values) - int(found.sum()))
