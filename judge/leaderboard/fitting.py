"""Strengths of models from who met whom and what each won: Bradley-Terry, also beside covariates.

P(first wins) = 1 / (1 + exp(-(s_first - s_second + x . effects))), a tie counting as half a win for
each (Bradley and Terry 1952; Chiang et al. 2024 for boards of language models). A label or a
judge's probabilities are a share of the battle won, so soft outcomes need nothing of their own.

Every model also draws `prior` battles against a model of average strength. One such battle is
Jeffreys' prior for a single proportion: it keeps finite what only ever won or lost, and weighs
nothing beside a hundred real battles. Half won and half lost, it takes part in the bootstrap as
well, so that two battles won out of two are no certainty.

The plain fit is evalica's. Newton's method takes the last steps, and does what evalica does not:
covariates, resampled clusters from a warm start, and the curvature that standard errors need.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from judge.errors import ArenaJudgeError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_STEPS = 100
_TOLERANCE = 1e-9
# Resampled fits are only read as quantiles: this many nats are 0.002 on the board.
_ROUGH = 1e-5
# A round's draw of half a battle of the prior is at least this part of the prior.
_LEAST = 1e-3
# What keeps a curvature invertible that rounding would make singular, as a part of its largest.
_RIDGE = 1e-13
# Longer steps than this, in nats, may overshoot, and are checked.
_SAFE_STEP = 1.0


@dataclass(frozen=True, eq=False)
class Meetings:
    """N battles between models, as numbers.

    Attributes:
        first, second: (N,) which models met, from 0; never one model with itself.
        share: (N,) what the first won of the battle: 1, 0, a tie 0.5, or between.
        prompts: (N,) the number of the prompt, from 0 to `clusters` - 1.
        style: (N, K) covariates, positive where they speak of the first; K may be 0.
        models, clusters: how many there are; some may have no battle.
    """

    first: Ints
    second: Ints
    share: Floats
    prompts: Ints
    style: Floats
    models: int
    clusters: int

    def weighed(self) -> Weighed:
        """All battles once, as rows to fit: battles themselves where they have covariates, else
        the pairs of models that met."""
        if self.style.shape[1]:
            rows, place = self, np.arange(len(self.first))
            share = self.share
        else:
            low, high = np.minimum(self.first, self.second), np.maximum(self.first, self.second)
            pairs, place = np.unique(low * self.models + high, return_inverse=True)
            first, second = np.divmod(pairs, self.models)
            rows = replace(self, first=first, second=second, style=np.zeros((len(pairs), 0)))
            share = np.where(self.first == low, self.share, 1.0 - self.share)
        return Weighed(rows, place.astype(np.int64), share, self.prompts)


@dataclass(frozen=True, eq=False)
class Weighed:
    """Rows to fit (`rows`: who met whom, and covariates), and which row each battle belongs to.

    Attributes:
        place: (N,) each battle's row.
        share: (N,) what the row's first model won of it.
        prompts: (N,) each battle's prompt.
    """

    rows: Meetings
    place: Ints
    share: Floats
    prompts: Ints

    def totals(self, times: Floats | None = None) -> tuple[Floats, Floats]:
        """(rows,) battles, and those won by the first, each prompt counted `times`, (clusters,)."""
        weight = np.ones(len(self.place)) if times is None else times[self.prompts]
        size = len(self.rows.first)
        battles = np.bincount(self.place, weight, size).astype(np.float64)
        return battles, np.bincount(self.place, weight * self.share, size).astype(np.float64)


def fit(meetings: Meetings, prior: float) -> Floats:
    """(models + K,) strengths and effects, in nats; the average model's strength is 0."""
    weighed = meetings.weighed()
    battles, won = weighed.totals()
    start = np.zeros(meetings.models + meetings.style.shape[1])
    start[: meetings.models] = _evalica(weighed.rows, battles, won, prior)
    return _climb(_target(weighed, prior), start, _TOLERANCE)


def resampled(
    meetings: Meetings, fitted: Floats, prior: float, rounds: int, seed: int
) -> Iterator[Floats]:
    """(models + K,) strengths and effects of each round of a Bayesian bootstrap (Rubin 1981).

    A round counts every prompt, with all battles about it, a random number of times: exponential,
    1 in the mean. The halves of the prior's battles are counted gamma-many times likewise, which
    makes the rounds of a single proportion draws from its posterior under Jeffreys' prior; where
    outcomes are softer than wins and losses, so are those battles (see `_dispersion`). The same
    seed draws the same numbers for other outcomes of the same battles: boards may be compared in
    pairs.
    """
    weighed = meetings.weighed()
    inverse = _inverse(_target(weighed, prior), fitted)
    soft = _dispersion(meetings, fitted, prior)
    prompts, halves = (np.random.default_rng([seed, stream]) for stream in (0, 1))
    for _ in range(rounds):
        times = prompts.standard_exponential(meetings.clusters)
        drawn = soft * halves.standard_gamma(prior / 2 / soft, (2, meetings.models))
        battles, won = weighed.totals(times)
        # Gammas of a small shape are zero as often as not; a prior must not vanish.
        ups, downs = np.maximum(drawn, _LEAST * prior)
        target = Target(weighed.rows, battles, won, ups, downs, prior)
        yield _climb(target, fitted, _ROUGH, inverse)


def covariance(meetings: Meetings, fitted: Floats, prior: float) -> Floats:
    """(models + K, models + K) of the estimates, by the sandwich formula with battles about one
    prompt taken together (Liang and Zeger 1986), times G / (G - 1) for G prompts. The halves of the
    prior's battles are observations like others."""
    from scipy.sparse import csr_matrix

    weighed = meetings.weighed()
    bread = _inverse(_target(weighed, prior), fitted)
    rest = meetings.share - _expit(_logits(meetings, fitted))
    battles, effects = meetings.style.shape
    columns = [meetings.first, meetings.second]
    values = [rest, -rest]
    for k in range(effects):
        columns.append(np.full(battles, meetings.models + k))
        values.append(rest * meetings.style[:, k])
    at = np.tile(meetings.prompts, 2 + effects)
    shape = (meetings.clusters, len(fitted))
    by_prompt = csr_matrix((np.concatenate(values), (at, np.concatenate(columns))), shape=shape)
    meat = np.asarray((by_prompt.T @ by_prompt).todense())
    groups = len(np.unique(meetings.prompts))
    meat *= groups / max(groups - 1, 1)
    average, own = _expit(fitted[: meetings.models]), np.arange(meetings.models)
    halves = _dispersion(meetings, fitted, prior) * prior / 2
    meat[own, own] += halves * (average**2 + (1.0 - average) ** 2)
    return np.asarray(bread @ meat @ bread)


def _dispersion(meetings: Meetings, fitted: Floats, prior: float) -> float:
    """The outcomes' variance over that of wins and losses with the fit's probabilities: near 1 for
    plain labels, near 0 for a judge's probabilities. The prior's battles count as wins and losses,
    so that a few ties do not pass for certainty."""
    p, average = _expit(_logits(meetings, fitted)), _expit(fitted[: meetings.models])
    rest, drawn = meetings.share - p, prior * float(average @ (1.0 - average))
    return min(1.0, float(rest @ rest + drawn) / float(p @ (1.0 - p) + drawn))


def _evalica(rows: Meetings, battles: Floats, won: Floats, prior: float) -> Floats:
    """(models,) log strengths by evalica, the average model being one more that all have met."""
    try:
        import evalica
    except ImportError:
        raise ArenaJudgeError(
            "a leaderboard needs evalica; pip install 'arena-judge[leaderboard]'"
        ) from None
    import pandas as pd

    models, size = np.arange(rows.models), len(rows.first)
    average = np.full(rows.models, rows.models)
    winners = [evalica.Winner.X] * size + [evalica.Winner.Y] * size
    result = evalica.bradley_terry(
        np.concatenate([rows.first, rows.first, models]).tolist(),
        np.concatenate([rows.second, rows.second, average]).tolist(),
        winners + [evalica.Winner.Draw] * rows.models,
        index=pd.RangeIndex(rows.models + 1),
        weights=np.concatenate([won, battles - won, np.full(rows.models, prior)]).tolist(),
        tolerance=1e-8,
        limit=1000,
    )
    found = result.scores.sort_index().to_numpy(dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(found[:-1] / found[-1])
    # Far apart, strengths leave the range that their ratios can be taken in; Newton starts nearer.
    return np.asarray(np.clip(np.nan_to_num(logs), -10.0, 10.0))


@dataclass(frozen=True, eq=False)
class Target:
    """What a fit maximises: a log-likelihood, with a prior.

    Attributes:
        rows: who met whom, and covariates.
        battles, won: (rows,) how often, and how much of that the first model won.
        ups, downs: (models,) what each won of the average model, and lost to it.
        ridge: the precision of a normal prior of the effects. An effect is the log-odds of one
            standard deviation of a covariate; it stays finite even where that decides every battle.
    """

    rows: Meetings
    battles: Floats
    won: Floats
    ups: Floats
    downs: Floats
    ridge: float


def _target(weighed: Weighed, prior: float) -> Target:
    half = np.full(weighed.rows.models, prior / 2)
    return Target(weighed.rows, *weighed.totals(), half, half, prior)


def _climb(
    target: Target, start: Floats, tolerance: float, inverse: Floats | None = None
) -> Floats:
    """The maximum, which is one alone: the target is strictly concave.

    Newton's method, but the curvature's inverse is taken anew only where steps with the old one
    stop halving: from a good start, one that is near enough will do to the end.
    """
    at, before = start, np.inf
    for _ in range(_STEPS):
        if inverse is None:
            inverse = _inverse(target, at)
        step = inverse @ _gradient(target, at)
        longest = float(np.abs(step).max())
        if longest > _SAFE_STEP:
            here = _value(target, at)
            while longest > _SAFE_STEP and not _value(target, at + step) >= here:
                step, longest = step / 2, longest / 2
        at = at + step
        if longest < tolerance:
            break
        if longest > min(before / 2, _SAFE_STEP):
            inverse = None
        before = longest
    return at


def _logits(rows: Meetings, parameters: Floats) -> Floats:
    strengths, effects = parameters[: rows.models], parameters[rows.models :]
    logits = strengths[rows.first] - strengths[rows.second]
    return np.asarray(logits + rows.style @ effects if len(effects) else logits)


def _expit(logits: Floats) -> Floats:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * logits))  # without overflow at either end


def _value(target: Target, parameters: Floats) -> float:
    models = target.rows.models
    logits = _logits(target.rows, parameters)
    strengths, effects = parameters[:models], parameters[models:]
    likelihood = target.won @ logits - target.battles @ np.logaddexp(0.0, logits)
    drawn = target.ups @ strengths
    drawn -= (target.ups + target.downs) @ np.logaddexp(0.0, strengths)
    return float(likelihood + drawn - 0.5 * target.ridge * effects @ effects)


def _gradient(target: Target, parameters: Floats) -> Floats:
    """(models + K,)"""
    rows, models = target.rows, target.rows.models
    rest = target.won - target.battles * _expit(_logits(rows, parameters))
    gradient = np.empty(len(parameters))
    gradient[:models] = np.bincount(rows.first, rest, models)
    gradient[:models] -= np.bincount(rows.second, rest, models)
    drawn = target.ups + target.downs
    gradient[:models] += target.ups - drawn * _expit(parameters[:models])
    gradient[models:] = rest @ rows.style - target.ridge * parameters[models:]
    return gradient


def _inverse(target: Target, parameters: Floats) -> Floats:
    """(models + K, models + K) the inverse of the negative second derivatives."""
    rows, models, style = target.rows, target.rows.models, target.rows.style
    p, average = _expit(_logits(rows, parameters)), _expit(parameters[:models])
    weight = target.battles * p * (1.0 - p)
    met = np.bincount(rows.first * models + rows.second, weight, models * models)
    met = met.reshape(models, models)
    met = met + met.T
    curvature = np.zeros((len(parameters), len(parameters)))
    curvature[:models, :models] = -met
    own = met.sum(axis=1) + (target.ups + target.downs) * average * (1.0 - average)
    curvature[np.arange(models), np.arange(models)] += own
    weighted = style * weight[:, None]
    for k in range(style.shape[1]):
        column = np.bincount(rows.first, weighted[:, k], models)
        column -= np.bincount(rows.second, weighted[:, k], models)
        curvature[:models, models + k] = curvature[models + k, :models] = column
    curvature[models:, models:] = style.T @ weighted + target.ridge * np.eye(style.shape[1])
    diagonal = np.diag_indices(len(parameters))
    curvature[diagonal] += _RIDGE * curvature[diagonal].max()
    return np.asarray(np.linalg.inv(curvature))
