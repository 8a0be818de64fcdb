"""Which way to blend, if any: all are cross-fitted, and the simplest is kept unless it is beaten.

The best single judge is the simplest, then come the plain means, then weights, then stacking, then
what may be done to the best of these afterwards. One takes the place of a simpler one if its log
loss on battles it has not seen is lower by more than the standard error of the paired difference
and by more than `LEAST`. The choice itself is not cross-fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from judge.blending.afterwards import (
    SelfEnsemble,
    TiesMoved,
    fit_self_ensemble,
    fit_ties_moved,
)
from judge.blending.kinds import MOVE_TIES, SELF_ENSEMBLE, Blend
from judge.blending.learning import (
    Members,
    advantage_weights,
    best_weights,
    choose_penalty,
    rank,
    stack,
)
from judge.blending.pools import Pool, equal, equal_logs
from judge.choosing import (
    Gap,
    cross_fit,
    deals,
    enough_prompts,
    mean_loss,
    paired_gap,
    simplest,
)
from judge.comparing.bootstrap import group_codes
from judge.errors import ArenaJudgeError
from judge.metrics import checked, log_loss_rows

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

BEST, MEAN, LOG_MEAN, ADVANTAGE, WEIGHTS, STACKING = METHODS = (
    "best",
    "mean",
    "log-mean",
    "advantage",
    "weights",
    "stacking",
)
"""The simplest first."""
OPTIONS = (SELF_ENSEMBLE, MOVE_TIES)
LEAST = 0.001
_VALIDATION_FOLDS = 5
_MOST_DEALS = 3


@dataclass(frozen=True)
class Entry:
    """A way to blend, and how well it does on battles it has not seen.

    Attributes:
        name: a method, or a method and an option.
        log_loss: cross-fitted, in nats.
        against_best, against_mean: the same less the best member's and less the plain mean's,
            paired. Which member is best is itself found out without the battle's prompt.
    """

    name: str
    log_loss: float
    against_best: Gap
    against_mean: Gap


@dataclass(frozen=True)
class Alone:
    """A member by itself.

    Attributes:
        name: its name.
        battles: labelled battles that it judged; `unjudged` it did not, and another did.
        log_loss: on these; NaN where there are none.
        against_mean: less the plain mean's on these; None where there are none.
    """

    name: str
    battles: int
    unjudged: int
    log_loss: float
    against_mean: Gap | None


@dataclass(frozen=True)
class Blending:
    """A blend, how it was chosen, and how well such a one does.

    Attributes:
        names: the members, in the order that the blend wants.
        blend: fitted on all labelled battles that one member at least judged.
        entries: every way that was tried, the simplest first.
        alone: the members.
        proba: (N, 3) for each battle what blends of the chosen kind said that were fitted without
            the battles about its prompt, their mean where folds were dealt several times; for a
            battle without a label, what `blend` says of it; NaN where no member judged.
        battles, prompts: what it was learned from.
        folds, seed: of the cross-fitting.
    """

    names: tuple[str, ...]
    blend: Blend
    entries: tuple[Entry, ...]
    alone: tuple[Alone, ...]
    proba: Floats
    battles: int
    prompts: int
    folds: int
    seed: int

    @property
    def chosen(self) -> Entry:
        """The entry that was chosen."""
        return next(entry for entry in self.entries if entry.name == self.blend.method)


def blend(
    labels: npt.ArrayLike,
    predictions: Mapping[str, npt.ArrayLike],
    groups: npt.ArrayLike | None = None,
    *,
    method: str | None = None,
    option: str | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Blending:
    """Learns how to blend judges.

    Args:
        labels: (N, 3) shares of A, B and tie; NaN rows are unlabelled.
        predictions: a name and (N, 3) probabilities of each member; NaN rows are unjudged.
        groups: (N,) values that are equal for battles about one prompt; None takes every battle for
            a prompt of its own.
        method: one of `METHODS`, which is then taken whether it is better or not.
        option: one of `OPTIONS`, which is then taken as well.
        folds: of the cross-fitting.
        seed: of the folds, and of the order of the battles where that matters.

    Raises:
        ArenaJudgeError: shapes that do not fit, fewer than two members, no such method, or too few
            labelled battles that were judged, or prompts.
    """
    y, said = _checked(labels, predictions)
    if method is not None and method not in METHODS:
        raise ArenaJudgeError(f"no method is called {method!r}; there are {', '.join(METHODS)}")
    if option is not None and option not in OPTIONS:
        raise ArenaJudgeError(f"no option is called {option!r}; there are {', '.join(OPTIONS)}")
    judged = ~np.isnan(said).any(axis=2).all(axis=0)
    kept = np.flatnonzero(judged & ~np.isnan(y).any(axis=1))
    if len(kept) == 0:
        raise ArenaJudgeError("no battle is both labelled and judged, so nothing can be learned")
    codes = group_codes(np.arange(len(y))[kept] if groups is None else np.asarray(groups)[kept])
    enough_prompts(codes, "blend")
    data = _Data(Members(checked(y[kept], "labels"), said[:, kept], codes), seed)
    times = min(deals(codes), _MOST_DEALS)
    tried = cross_fit({n: partial(data.learn, n, None) for n in METHODS}, codes, folds, seed, times)
    losses = {name: mean_loss(data.members.labels, tried[name]) for name in METHODS}
    base = method or min(METHODS, key=lambda name: float(losses[name].mean()))
    more = {_called(base, one): partial(data.learn, base, one) for one in OPTIONS}
    tried |= cross_fit(more, codes, folds, seed, times)
    losses = {name: mean_loss(data.members.labels, proba) for name, proba in tried.items()}
    chosen = _called(base, option) if method or option else simplest(losses, codes, [*tried], LEAST)
    made = data.fit(*_parts(chosen), np.arange(len(kept)))
    proba = np.full(y.shape, np.nan)
    proba[judged] = made.apply(said[:, judged])
    proba[kept] = tried[chosen].mean(axis=0)
    return Blending(
        names=tuple(predictions),
        blend=made,
        entries=tuple(_entry(name, losses, codes) for name in tried),
        alone=tuple(
            _alone(name, data.members.labels, proba, losses[MEAN], codes)
            for name, proba in zip(predictions, data.members.said, strict=True)
        ),
        proba=proba,
        battles=len(kept),
        prompts=int(codes.max()) + 1,
        folds=folds,
        seed=seed,
    )


def _checked(
    labels: npt.ArrayLike, predictions: Mapping[str, npt.ArrayLike]
) -> tuple[Floats, Floats]:
    """(N, 3) labels and (M, N, 3) probabilities."""
    y = np.asarray(labels, dtype=np.float64)
    if y.ndim != 2 or y.shape[1] != 3:
        raise ArenaJudgeError(f"labels must have the shape (N, 3), not {y.shape}")
    if len(predictions) < 2:
        raise ArenaJudgeError("a blend is made of two judges at least")
    parts = []
    for name, values in predictions.items():
        proba = np.array(values, dtype=np.float64)
        if proba.shape != y.shape:
            raise ArenaJudgeError(f"{name}: {len(y)} battles but probabilities {proba.shape}")
        there = ~np.isnan(proba).any(axis=1)
        if there.any():
            checked(proba[there], f"probabilities of {name}")
        proba[~there] = np.nan
        parts.append(proba)
    return y, np.stack(parts)


def _called(method: str, option: str | None) -> str:
    return method if option is None else f"{method} + {option}"


def _parts(name: str) -> tuple[str, str | None]:
    method, _, option = name.partition(" + ")
    return method, option or None


@dataclass(frozen=True)
class _Data:
    """Members' judgments, to learn from; the penalties that stacking has chosen are kept by the
    rows they are for, since the options build on the same."""

    members: Members
    seed: int
    penalties: dict[bytes, float] = field(default_factory=dict)

    def learn(self, method: str, option: str | None, rows: Ints) -> Callable[[Ints], Floats]:
        made = self.fit(method, option, rows)
        return lambda others: made.apply(self.members.said[:, others])

    def fit(self, method: str, option: str | None, rows: Ints) -> Blend:
        data = self.members.take(rows)
        penalty = self._penalty(data, rows) if method == STACKING else 0.0
        pool = _pool(method, data, penalty, self.seed)
        if option is None:
            return Blend(method, pool)
        return Blend(_called(method, option), pool, self._then(method, option, data, penalty))

    def _penalty(self, data: Members, rows: Ints) -> float:
        key = rows.tobytes()
        if key not in self.penalties:
            # Another seed than the outer folds': within them, the same deal would leave one empty.
            self.penalties[key] = choose_penalty(data, self.seed + 1)
        return self.penalties[key]

    def _then(
        self, method: str, option: str, data: Members, penalty: float
    ) -> SelfEnsemble | TiesMoved:
        """The option, learned from what the method says of battles that it did not learn from."""

        def learner(rows: Ints) -> Callable[[Ints], Floats]:
            pool = _pool(method, data.take(rows), penalty, self.seed)
            return lambda others: pool.apply(data.said[:, others])

        validation = cross_fit(
            {method: learner}, data.codes, _VALIDATION_FOLDS, self.seed + 2, times=1
        )
        fit = fit_self_ensemble if option == SELF_ENSEMBLE else fit_ties_moved
        return fit(data.labels, validation[method][0])


def _pool(method: str, data: Members, penalty: float, seed: int) -> Pool:
    if method == BEST:
        return rank(data)
    if method == MEAN:
        return equal(len(data.said))
    if method == LOG_MEAN:
        return equal_logs(len(data.said))
    if method == ADVANTAGE:
        return advantage_weights(data, seed)
    return best_weights(data) if method == WEIGHTS else stack(data, penalty)


def _entry(name: str, losses: Mapping[str, Floats], codes: Ints) -> Entry:
    return Entry(
        name,
        float(losses[name].mean()),
        paired_gap(losses[name], losses[BEST], codes),
        paired_gap(losses[name], losses[MEAN], codes),
    )


def _alone(name: str, labels: Floats, proba: Floats, mean: Floats, codes: Ints) -> Alone:
    judged = ~np.isnan(proba).any(axis=1)
    number = int(judged.sum())
    if not number:
        return Alone(name, 0, len(labels), float("nan"), None)
    loss = log_loss_rows(labels[judged], proba[judged])
    gap = paired_gap(loss, mean[judged], codes[judged])
    return Alone(name, number, len(labels) - number, float(loss.mean()), gap)
