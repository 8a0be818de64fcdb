"""An aggregator's numbers, learned from labels.

The model is linear: d in the directions of the criteria (and the covariates' strengths), t in AB
votes and disagreement (and the covariates' tie strength). Its weights minimise the log loss plus

    penalty / 2 * (temperature**2 + 10 * spread of the criteria's weights**2 + both**2 + ...)

and the covariates' penalised likewise, with the criteria's weights, `both` and `split` held at 0
or above: a convex problem with fewer than twenty numbers, which `judge.loglinear` solves by Newton
steps. An infinite penalty leaves the tie's constant alone, which is the class prior that knows no
sides. A tenth of a vote for each outcome of a battle without evidence is added to the data, so that
ties that never occurred are rare and not impossible.

The penalty is chosen by cross-validation in which battles about one prompt stay together: the
largest whose loss is within half a standard error, over prompts, of the least. So a judge that
tells nothing comes out as the prior, and one that tells little is hardly robbed of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.aggregation import (
    COVARIATES,
    UNFITTED,
    Aggregator,
    Evidence,
    Features,
    Floats,
    combine,
    pool,
)
from judge.ballots import CRITERIA
from judge.errors import ArenaJudgeError
from judge.folds import grouped_folds
from judge.loglinear import Pull, fit_weights
from judge.metrics import log_loss_rows

Ints = npt.NDArray[np.int64]

PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, np.inf)
ABSTAIN = (1.0, 0.5, 0.0)
SMOOTHING = 0.001
_EQUAL = 10.0
_CAUTION = 0.5  # standard errors
_RARE = 0.1  # votes


@dataclass(frozen=True)
class Fit:
    """A fitted aggregator and how well one fitted like it does on battles it has not seen.

    Attributes:
        aggregator: fitted on all labelled battles.
        penalty: what was chosen for it; infinite where the votes tell nothing.
        proba: (N, 3) for each battle what was said by an aggregator that was fitted, its penalty
            chosen and all, without the battles about its prompt; NaN for the unlabelled and
            unjudged.
        prior: (N, 3) the same for the class prior.
    """

    aggregator: Aggregator
    penalty: float
    proba: Floats
    prior: Floats


def fit_aggregator(
    ballots: pd.DataFrame,
    ids: Sequence[str],
    labels: Floats,
    groups: npt.ArrayLike,
    covariates: Floats | None = None,
    *,
    folds: int = 5,
    seed: int = 0,
) -> Fit:
    """Fits an aggregator, and measures by cross-fitting how good such a fit is.

    Args:
        ballots: a ballot table.
        ids: the battles' ids, N of them.
        labels: (N, 3) shares of A, B and tie; NaN rows are unlabelled.
        groups: (N,) values that are equal for battles about one prompt.
        covariates: (N, 6), see `judge.aggregation.COVARIATES`.
        folds: of the cross-fitting and of the choice of the penalty within it.
        seed: of the folds.

    Raises:
        ArenaJudgeError: too few labelled battles with readable ballots, or prompts, to fit on.
    """
    evidence = pool(ballots, ids)
    judged = combine(evidence, UNFITTED).judged
    kept = np.flatnonzero(judged & ~np.isnan(labels).any(axis=1))
    codes = np.unique(np.asarray(groups)[kept], return_inverse=True)[1].reshape(-1)
    if len(kept) == 0:
        raise ArenaJudgeError(f"no labelled battle has a readable ballot; {_why(ballots, ids)}")
    if codes.max() < 2:
        count = int(codes.max()) + 1
        raise ArenaJudgeError(f"{count} prompts are too few to fit on; three are the least")
    data = _Data(
        _rows(evidence, kept), labels[kept], None if covariates is None else covariates[kept]
    )
    proba, prior = np.full((len(labels), 3), np.nan), np.full((len(labels), 3), np.nan)
    fold = grouped_folds(codes, folds, seed)
    for held in range(int(fold.max()) + 1):
        inside, outside = np.asarray(fold != held), np.asarray(fold == held)
        learned, rest = data.take(inside), data.take(outside)
        found, _ = _choose(learned, codes[inside], folds, seed)
        proba[kept[outside]] = found.count(rest.evidence, rest.covariates)
        prior[kept[outside]] = learned.labels.mean(axis=0)
    aggregator, penalty = _choose(data, codes, folds, seed)
    return Fit(aggregator, penalty, proba, prior)


def _why(ballots: pd.DataFrame, ids: Sequence[str]) -> str:
    """What may have gone wrong where no ballot of these battles can be read."""
    about = ballots[ballots["id"].astype(str).isin([str(name) for name in ids])]
    reasons = [str(reason) for reason in about.get("reason", []) if isinstance(reason, str)]
    often = Counter(filter(None, reasons)).most_common(1)
    return f"most often: {often[0][0][:200]}" if often else "are the ids the same?"


@dataclass(frozen=True)
class _Data:
    evidence: Evidence
    labels: Floats
    covariates: Floats | None

    def take(self, rows: npt.NDArray[np.bool_]) -> _Data:
        extra = None if self.covariates is None else self.covariates[rows]
        return _Data(_rows(self.evidence, np.flatnonzero(rows)), self.labels[rows], extra)

    def of(self, juror: int) -> _Data:
        """The same with the ballots of one juror, of the battles that it voted on."""
        e, only = self.evidence, slice(juror, juror + 1)
        arrays = (e.direction, e.both, e.abstained, e.loud, e.ballots)
        alone = Evidence(e.judges[only], *(array[:, only] for array in arrays))
        voted = ~np.isnan(alone.direction).all(axis=(1, 2))
        return _Data(alone, self.labels, None).take(np.asarray(voted))


def _rows(evidence: Evidence, rows: npt.NDArray[np.intp]) -> Evidence:
    e = evidence
    arrays = (e.direction, e.both, e.abstained, e.loud, e.ballots)
    return Evidence(e.judges, *(array[rows] for array in arrays))


@dataclass(frozen=True)
class _Option:
    """What cross-validation chooses among: the say of an NA, the covariates' having one, and the
    penalty."""

    abstain: float
    covariates: bool
    penalty: float


def _options(data: _Data) -> list[_Option]:
    abstains = ABSTAIN if (data.evidence.abstained > 0).any() else ABSTAIN[:1]
    extra = (False, True) if data.covariates is not None else (False,)
    return [_Option(a, c, p) for a in abstains for c in extra for p in PENALTIES]


def _choose(data: _Data, groups: Ints, folds: int, seed: int) -> tuple[Aggregator, float]:
    """The aggregator fitted in the way that cross-validation likes, and the penalty."""
    options = _options(data)
    loss = np.zeros((len(groups), len(options)))
    # Another seed than the outer folds': within them, the same deal would leave a fold empty.
    fold = grouped_folds(np.unique(groups, return_inverse=True)[1].reshape(-1), folds, seed + 1)
    for held in range(int(fold.max()) + 1):
        inside = data.take(np.asarray(fold != held))
        outside = data.take(np.asarray(fold == held))
        jury = _jury(inside)
        for abstain in {option.abstain for option in options}:
            told = replace(jury, abstain=abstain)
            known, unknown = combine(inside.evidence, told), combine(outside.evidence, told)
            for o, option in enumerate(options):
                if option.abstain == abstain:
                    found = _fitted(inside, known, jury, option)
                    proba = found.speak(unknown, outside.covariates)
                    loss[fold == held, o] = log_loss_rows(outside.labels, proba)
    chosen = options[_most_cautious(loss, groups, options)]
    return _fitted_to(data, _jury(data), chosen), chosen.penalty


def _most_cautious(loss: Floats, groups: Ints, options: Sequence[_Option]) -> int:
    """The option of the largest penalty among those that are close to the best; of equal
    ones one without covariates, then the better."""
    best = int(loss.mean(axis=0).argmin())
    gaps = loss - loss[:, best : best + 1]
    sums = np.stack([np.bincount(groups, gaps[:, o]) for o in range(loss.shape[1])], axis=1)
    error = np.sqrt((np.square(sums - sums.mean(axis=0))).sum(axis=0)) / len(loss)
    near = np.flatnonzero(gaps.mean(axis=0) <= _CAUTION * error).tolist()
    means = loss.mean(axis=0)
    return int(min(near, key=lambda o: (-options[o].penalty, options[o].covariates, means[o])))


def _jury(data: _Data) -> Aggregator:
    """Jurors weighted by the temperature that each one's votes alone would be given: who tells
    nothing about the labels has no say."""
    names = data.evidence.judges
    if len(names) < 2:
        return UNFITTED
    alone = _Option(1.0, False, 3.0)
    heat = [_fitted_to(data.of(j), UNFITTED, alone).temperature for j in range(len(names))]
    total = sum(heat)
    if total == 0:
        return UNFITTED
    return replace(
        UNFITTED, judges={n: h * len(names) / total for n, h in zip(names, heat, strict=True)}
    )


# --- penalised likelihood -------------------------------------------------------------------------


def _fitted_to(data: _Data, jury: Aggregator, option: _Option) -> Aggregator:
    """The same as `_fitted`, with the evidence not yet combined."""
    features = combine(data.evidence, replace(jury, abstain=option.abstain))
    return _fitted(data, features, jury, option)


def _fitted(data: _Data, features: Features, jury: Aggregator, option: _Option) -> Aggregator:
    """The aggregator with the jurors' weights of `jury`, everything else fitted."""
    start = replace(jury, abstain=option.abstain)
    k, extra = len(CRITERIA), data.covariates if option.covariates else None
    strength, tie = features.direction, np.column_stack([features.both, features.split])
    if extra is not None:
        strength = np.column_stack([strength, extra[:, :k]])
        tie = np.column_stack([tie, extra[:, k]])
    if np.isinf(option.penalty):
        strength, tie = strength[:, :0], tie[:, :0]
    tie = np.column_stack([np.ones(len(tie)), tie])
    weights = _solve(
        np.vstack([strength, np.zeros(strength.shape[1])]),
        np.vstack([tie, np.eye(tie.shape[1])[0]]),
        np.vstack([data.labels, np.full(3, _RARE)]),
        option.penalty,
    )
    d, t = np.split(weights, [strength.shape[1]])
    d, t = np.append(d, np.zeros(2 * k)), np.append(t, np.zeros(len(COVARIATES)))
    temperature = float(d[:k].sum())
    shares = d[:k] / temperature if temperature > 0 else np.full(k, 1 / k)
    return replace(
        start,
        weights=tuple(map(float, shares)),
        temperature=min(temperature, 100.0),
        tie=float(np.clip(t[0], -10.0, 10.0)),
        both=float(t[1]),
        split=float(t[2]),
        smoothing=SMOOTHING,
        covariates=None if extra is None else (*map(float, d[k : 2 * k]), float(t[3])),
    )


def _solve(strength: Floats, tie: Floats, labels: Floats, penalty: float) -> Floats:
    """The weights of the columns of d and then of t. The first five of d, and the second and third
    of t, are not below 0; the first of t, the constant, is not penalised."""
    wide = strength.shape[1]
    count = wide + tie.shape[1]
    low = np.full(count, -np.inf)
    curve = np.zeros((count, count))
    if wide:
        k = len(CRITERIA)
        low[:k] = low[wide + 1 : wide + 3] = 0.0
        curve += penalty * np.eye(count)
        curve[wide, wide] = 0.0
        alike = penalty * (1.0 + _EQUAL * (np.eye(k) - 1.0 / k))
        for start in range(0, wide, k):  # the criteria, then the covariates' strengths
            curve[start : start + k, start : start + k] = alike
    return fit_weights(
        np.hstack([strength, np.zeros_like(tie)]),
        np.hstack([np.zeros_like(strength), tie]),
        labels,
        Pull(np.zeros(count), curve, low, np.full(count, np.inf)),
    )
