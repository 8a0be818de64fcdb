"""From battles to a board: which battles count, the fit, its uncertainty, the places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.errors import ArenaJudgeError, InputError
from judge.files.rows import quoted
from judge.leaderboard.board import (
    MEAN,
    SCALE,
    Leaderboard,
    LeftOut,
    StyleEffect,
    win_probabilities,
)
from judge.leaderboard.fitting import Meetings, covariance, fit, resampled
from judge.leaderboard.ranking import (
    QUANTILES,
    better_by_covariance,
    better_by_samples,
    islands,
    rank_intervals,
    ranks,
    reach,
    tiers,
    widened,
)
from judge.leaderboard.style import STYLE
from judge.metrics import checked

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

BOOTSTRAP, SANDWICH = "bootstrap", "sandwich"
INTERVALS = (BOOTSTRAP, SANDWICH)
# Everything about pairs of models is a matrix of as many rows and columns.
MOST_MODELS = 1000
LEAST_PRIOR = 1e-9


def rank_models(
    model_a: Sequence[str | None],
    model_b: Sequence[str | None],
    outcomes: npt.ArrayLike,
    *,
    name: str = "labels",
    prompts: npt.ArrayLike | None = None,
    style: npt.ArrayLike | None = None,
    style_names: Sequence[str] = STYLE,
    anchor: tuple[str, float] | None = None,
    prior: float = 1.0,
    intervals: str = BOOTSTRAP,
    rounds: int = 1000,
    seed: int = 0,
) -> Leaderboard:
    """Rates models by the battles between them.

    Boards made from the same battles, in the same order, with the same rounds and seed are
    resampled alike, whatever their outcomes and styles: `agreement` and `shifts` compare them in
    pairs.

    Args:
        model_a, model_b: N names; None, empty or blank is no name.
        outcomes: (N, 3) labels or a judge's probabilities in the order A, B, tie, each a share of
            the battle; NaN rows are unjudged or unlabelled.
        name: whose verdicts they are.
        prompts: (N,) values equal for battles about the same prompt, which are resampled together;
            None takes every battle for a prompt of its own.
        style: (N, K) differences between the responses, positive where A has more, to be held
            constant; None is a plain board.
        style_names: what the K columns are.
        anchor: a model and the score it is fixed at; None makes the average model's score 1000.
        prior: battles that every model draws against an average one; they keep scores finite.
        intervals: "bootstrap", or "sandwich" for a normal approximation without any rounds.
        rounds, seed: of the bootstrap.

    Raises:
        InputError: no battle that counts, too many models, or an anchor that is not among them.
        ArenaJudgeError: shapes that do not fit, outcomes that are no probabilities.
    """
    if intervals not in INTERVALS or rounds < 1 or not LEAST_PRIOR <= prior < np.inf:
        raise ArenaJudgeError(f"no such board: {intervals}, {rounds} rounds, prior {prior:g}")
    field = _field(model_a, model_b, outcomes, prompts)
    differences, deviations, kept = _scaled(style, len(model_a), field.kept)
    meetings = Meetings(
        first=field.first,
        second=field.second,
        share=field.outcomes[:, 0] + field.outcomes[:, 2] / 2,
        prompts=field.prompts,
        style=differences,
        models=len(field.models),
        clusters=field.clusters,
    )
    names = [style_names[k] for k in kept]
    constant = [known for known in style_names if known not in names] if style is not None else []
    fitted = fit(meetings, prior)
    spread = covariance(meetings, fitted, prior)
    seen = len(np.unique(field.prompts))
    samples = np.zeros((0, len(fitted)))
    if seen > 1 and intervals == BOOTSTRAP:
        drawn = np.array(list(resampled(meetings, fitted, prior, rounds, seed)))
        samples = widened(drawn, fitted, seen)
    spread = spread if seen > 1 else np.full_like(spread, np.nan)
    estimate = Estimate(fitted, spread, samples, seen)
    return _board(
        field,
        estimate,
        anchor,
        name=name,
        style=_effects(estimate, names, deviations, len(field.models)),
        constant=tuple(constant),
        prior=prior,
        intervals=intervals,
        rounds=rounds,
        seed=seed,
    )


@dataclass(frozen=True, eq=False)
class Field:
    """The battles that count.

    Attributes:
        models: their names, in order of appearance.
        first, second: (n,) the models of each battle.
        outcomes: (n, 3) who won it.
        prompts: (n,) the prompt of each, out of `clusters` in the whole table.
        kept: (N,) which battles of the table these are.
        left_out: how many are not, and why.
    """

    models: tuple[str, ...]
    first: Ints
    second: Ints
    outcomes: Floats
    prompts: Ints
    clusters: int
    kept: Bools
    left_out: LeftOut


@dataclass(frozen=True, eq=False)
class Estimate:
    """Strengths and effects in nats, their covariance (NaN from one prompt), and (R, ...) samples
    of them (none without a bootstrap), from so many prompts."""

    value: Floats
    covariance: Floats
    samples: Floats
    prompts: int


def _field(
    model_a: Sequence[str | None],
    model_b: Sequence[str | None],
    outcomes: npt.ArrayLike,
    prompts: npt.ArrayLike | None,
) -> Field:
    values = np.asarray(outcomes, dtype=np.float64)
    size = len(model_a)
    if values.shape != (size, 3) or len(model_b) != size:
        raise ArenaJudgeError(
            f"{size} and {len(model_b)} names of models but outcomes of shape {values.shape}"
        )
    groups = np.arange(size) if prompts is None else np.asarray(prompts)
    if groups.shape != (size,):
        raise ArenaJudgeError(f"{size} battles but prompts of shape {groups.shape}")
    codes, models = _numbered([*model_a, *model_b])
    first, second = codes[:size], codes[size:]
    named, judged = (first >= 0) & (second >= 0), ~np.isnan(values).any(axis=1)
    own = named & (first == second)
    kept = named & ~own & judged
    left_out = LeftOut(
        unnamed=int((~named).sum()),
        own=int(own.sum()),
        unjudged=int((named & ~own & ~judged).sum()),
    )
    if not kept.any():
        raise InputError(f"no battle counts for a board ({_why_none(left_out)})")
    used, seen = pd.factorize(np.concatenate([first[kept], second[kept]]))
    if len(seen) > MOST_MODELS:
        raise InputError(
            f"has {len(seen):,} models, and a board takes {MOST_MODELS:,} at most",
            mend="are these names of models?",
        )
    clusters = pd.factorize(groups, use_na_sentinel=False)[0]
    count = int(kept.sum())
    return Field(
        models=tuple(models[number] for number in seen),
        first=used[:count].astype(np.int64),
        second=used[count:].astype(np.int64),
        outcomes=checked(values[kept], "outcomes"),
        prompts=clusters[kept].astype(np.int64),
        clusters=int(clusters.max()) + 1,
        kept=kept,
        left_out=left_out,
    )


def _numbered(names: Sequence[str | None]) -> tuple[Ints, list[str]]:
    """A number for each name, from 0 in order of appearance, -1 for none; and the names."""
    numbers: dict[str, int] = {}
    codes = np.empty(len(names), dtype=np.int64)
    for place, name in enumerate(names):
        blank = not isinstance(name, str) or not name.strip()
        codes[place] = -1 if blank else numbers.setdefault(str(name), len(numbers))
    return codes, list(numbers)


def _why_none(left_out: LeftOut) -> str:
    reasons = {
        "without two models' names": left_out.unnamed,
        "of a model with itself": left_out.own,
        "without a verdict": left_out.unjudged,
    }
    return ", ".join(f"{count:,} {why}" for why, count in reasons.items() if count) or "none there"


def _scaled(
    style: npt.ArrayLike | None, size: int, kept: Bools
) -> tuple[Floats, Floats, list[int]]:
    """The differences in standard deviations about zero, so that swapping A and B still only
    changes their sign; those deviations; and which columns vary at all."""
    if style is None:
        return np.zeros((int(kept.sum()), 0)), np.zeros(0), []
    values = np.asarray(style, dtype=np.float64)
    if values.ndim != 2 or len(values) != size or not np.isfinite(values[kept]).all():
        raise ArenaJudgeError(f"{size} battles but style of shape {values.shape}, or not finite")
    deviations = np.sqrt(np.square(values[kept]).mean(axis=0))
    varies = np.flatnonzero(deviations > 0).tolist()
    return values[kept][:, varies] / deviations[varies], deviations[varies], varies


def _effects(
    estimate: Estimate, names: Sequence[str], deviations: Floats, models: int
) -> tuple[StyleEffect, ...]:
    """The style effects with their intervals."""
    found = []
    for k, (name, deviation) in enumerate(zip(names, deviations.tolist(), strict=True), models):
        value = float(estimate.value[k])
        error = float(np.sqrt(max(estimate.covariance[k, k], 0.0)))
        far = reach(estimate.prompts) * error
        low, high = value - far, value + far
        if len(estimate.samples):
            low, high = np.quantile(estimate.samples[:, k], QUANTILES).tolist()
        found.append(StyleEffect(name, value, low, high, SCALE * value, deviation))
    return tuple(found)


# --- scores ---------------------------------------------------------------------------------------


def _board(
    field: Field, estimate: Estimate, anchor: tuple[str, float] | None, **settings: object
) -> Leaderboard:
    models = len(field.models)
    battles, won, tied = _matrices(field)
    island = islands(battles)
    offset, contrast = _zero(field.models, island, anchor)
    scores = offset + SCALE * (contrast @ estimate.value[:models])
    samples = offset + SCALE * (estimate.samples[:, :models] @ contrast.T)
    spread = SCALE**2 * (contrast @ estimate.covariance[:models, :models] @ contrast.T)
    errors = np.sqrt(np.maximum(np.diag(spread), 0.0))
    far = reach(estimate.prompts) * errors
    low, high = scores - far, scores + far
    better = better_by_covariance(scores, spread, island, estimate.prompts)
    if len(samples):
        low, high = np.quantile(samples, QUANTILES, axis=0)
        better = better_by_samples(samples, island)
    rank_low, rank_high = rank_intervals(better, island)
    # Where scores are equal, in order of appearance: names decide nothing.
    order = np.lexsort((np.arange(models), -np.round(scores, 6), island))
    pairs = np.ix_(order, order)
    names = tuple(field.models[number] for number in order)
    together = tiers(better[pairs], island[order])
    return Leaderboard(
        models=names,
        scores=scores[order],
        low=low[order],
        high=high[order],
        covariance=spread[pairs],
        ranks=ranks(scores, island)[order],
        rank_low=rank_low[order],
        rank_high=rank_high[order],
        win_probability=win_probabilities(scores, island)[order],
        islands=island[order],
        battles=battles[pairs],
        won=won[pairs],
        tied=tied[pairs],
        better=better[pairs],
        tiers=tuple(tuple(names[place] for place in places) for places in together),
        samples=samples[:, order],
        counted=len(field.first),
        prompts=estimate.prompts,
        left_out=field.left_out,
        anchor=anchor,
        **settings,  # type: ignore[arg-type]
    )


def _matrices(field: Field) -> tuple[Floats, Floats, Floats]:
    """(M, M) battles of each pair, those the row won, and those tied."""
    models = len(field.models)
    pair, back = field.first * models + field.second, field.second * models + field.first

    def count(at: Ints, weight: Floats | None = None) -> Floats:
        shape = (models, models)
        return np.bincount(at, weight, models * models).astype(np.float64).reshape(shape)

    a, b, tie = field.outcomes.T
    return (
        count(pair) + count(back),
        count(pair, a) + count(back, b),
        count(pair, tie) + count(back, tie),
    )


def _zero(
    models: Sequence[str], island: Ints, anchor: tuple[str, float] | None
) -> tuple[Floats, Floats]:
    """(M,) the scores' fixed points, and the (M, M) contrasts that take strengths to differences
    from the island's average, or from the anchor on the anchor's island."""
    same = (island[:, None] == island).astype(np.float64)
    reference = same / same.sum(axis=1, keepdims=True)
    offset = np.full(len(models), MEAN)
    if anchor is not None:
        name, score = anchor
        if name not in models:
            close = get_close_matches(name[:200], [model[:200] for model in models], n=1)
            mend = f"did you mean {quoted(close[0])}?" if close else "name a model of the board"
            raise InputError(f"no model {quoted(name)} on the board to anchor it", mend=mend)
        place = list(models).index(name)
        near = island == island[place]
        reference[near] = 0.0
        reference[near, place] = 1.0
        offset[near] = score
    return offset, np.eye(len(models)) - reference
