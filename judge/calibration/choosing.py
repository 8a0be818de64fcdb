"""Which calibrator a judge needs, if any: all are cross-fitted, and the judge is left alone unless
one is better beyond doubt.

A calibrator takes the place of a simpler one, the identity being the simplest, if it has a lower
log loss on battles it has not seen, by more than the standard error of the paired difference and by
more than `LEAST`: fine-tuned judges gain a thousandth of a nat from calibration, which is not worth
another thing that can go wrong. The choice itself is not cross-fitted; battles held out tell what
comes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from judge.calibration.context import METHOD as CONTEXT
from judge.calibration.context import checked_covariates, fit_context
from judge.calibration.isotonic import METHOD as ISOTONIC
from judge.calibration.isotonic import fit_isotonic
from judge.calibration.kinds import Calibrator
from judge.calibration.scaling import PARAMETERS, fit_scaling
from judge.choosing import (
    Gap,
    cross_fit,
    enough_prompts,
    mean_loss,
    paired_gap,
    simplest,
)
from judge.comparing.bootstrap import group_codes
from judge.errors import ArenaJudgeError
from judge.metrics import checked

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

METHODS = (*PARAMETERS, ISOTONIC)
"""Those that look at probabilities alone, the simplest first."""
WITH_CONTEXT = (*METHODS, CONTEXT)
"""The same, and the one that looks at battles."""
LEAST = 0.001


@dataclass(frozen=True)
class Candidate:
    """A method, and what it does to battles it has not seen.

    Attributes:
        method: its name.
        log_loss: cross-fitted, in nats.
        gap: the same less the judge's own, paired.
    """

    method: str
    log_loss: float
    gap: Gap


@dataclass(frozen=True)
class Calibration:
    """A calibrator, how it was chosen, and how well such a one does.

    Attributes:
        calibrator: fitted on all labelled battles that were judged.
        temperature: what temperature scaling alone would take: above 1 the judge is too sure, below
            1 not sure enough.
        candidates: every method that could be had, the simplest first.
        proba: (N, 3) for each battle what calibrators of the chosen method said that were fitted
            without the battles about its prompt, their mean where folds were dealt several times;
            for a battle without a label, what `calibrator` says of it; NaN where unjudged.
        battles, prompts: what it was learned from.
        folds, seed: of the cross-fitting.
    """

    calibrator: Calibrator
    temperature: float
    candidates: tuple[Candidate, ...]
    proba: Floats
    battles: int
    prompts: int
    folds: int
    seed: int


def calibrate(
    labels: npt.ArrayLike,
    proba: npt.ArrayLike,
    groups: npt.ArrayLike | None = None,
    *,
    context: npt.ArrayLike | None = None,
    method: str | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Calibration:
    """Learns a calibrator.

    Args:
        labels: (N, 3) shares of A, B and tie; NaN rows are unlabelled.
        proba: (N, 3) what the judge said; NaN rows are unjudged.
        groups: (N,) values that are equal for battles about one prompt; None takes every battle for
            a prompt of its own.
        context: (N, 27) covariates of the battles (see `judge.calibration.covariates`); without
            them there is no method "context".
        method: one of `WITH_CONTEXT`, which is then not asked whether it is better.
        folds: of the cross-fitting.
        seed: of the folds.

    Raises:
        ArenaJudgeError: shapes that do not fit, no such method, or too few labelled battles that
            were judged, or prompts.
    """
    y, p = np.asarray(labels, dtype=np.float64), np.asarray(proba, dtype=np.float64)
    if y.ndim != 2 or y.shape[1:] != (3,) or y.shape != p.shape:
        raise ArenaJudgeError(f"labels are {y.shape} and probabilities {p.shape}, not (N, 3) both")
    if method is not None and method not in WITH_CONTEXT:
        there_are = ", ".join(WITH_CONTEXT)
        raise ArenaJudgeError(f"no method is called {method!r}; there are {there_are}")
    x = None
    if context is not None or method == CONTEXT:
        x = checked_covariates(context, len(y))
    methods = METHODS if x is None else WITH_CONTEXT
    judged = ~np.isnan(p).any(axis=1)
    kept = np.flatnonzero(judged & ~np.isnan(y).any(axis=1))
    if len(kept) == 0:
        raise ArenaJudgeError("no battle is both labelled and judged, so nothing can be learned")
    codes = group_codes(np.arange(len(y))[kept] if groups is None else np.asarray(groups)[kept])
    enough_prompts(codes, "calibrate")
    data = _Data(
        checked(y[kept], "labels"),
        checked(p[kept], "probabilities"),
        None if x is None else x[kept],
        codes,
    )
    learners = {name: partial(data.learn, name) for name in methods}
    said = cross_fit(learners, codes, folds, seed)
    losses = {name: mean_loss(data.labels, said[name]) for name in methods}
    chosen = simplest(losses, codes, methods, LEAST) if method is None else method
    everything = np.arange(len(kept))
    calibrator = data.fit(chosen, everything)
    result = np.full(y.shape, np.nan)
    result[judged] = calibrator.apply(p[judged], None if x is None else x[judged])
    if chosen != "identity":  # of which the mean over deals would be off by rounding
        result[kept] = said[chosen].mean(axis=0)
    plain = data.fit("temperature", everything)
    return Calibration(
        calibrator=calibrator,
        temperature=float(getattr(plain, "temperature", 1.0)),
        candidates=tuple(
            Candidate(n, float(losses[n].mean()), paired_gap(losses[n], losses["identity"], codes))
            for n in methods
        ),
        proba=result,
        battles=len(kept),
        prompts=int(codes.max()) + 1,
        folds=folds,
        seed=seed,
    )


@dataclass(frozen=True)
class _Data:
    """Labelled battles that were judged: (N, 3), (N, 3), (N, 27), (N,)."""

    labels: Floats
    proba: Floats
    context: Floats | None
    codes: Ints

    def fit(self, method: str, rows: Ints) -> Calibrator:
        if method == ISOTONIC:
            return fit_isotonic(self.labels[rows], self.proba[rows])
        if method == CONTEXT and self.context is not None:
            return fit_context(self.labels[rows], self.proba[rows], self.context[rows])
        return fit_scaling(method, self.labels[rows], self.proba[rows])

    def learn(self, method: str, rows: Ints) -> Callable[[Ints], Floats]:
        calibrator = self.fit(method, rows)
        x = self.context
        return lambda others: calibrator.apply(self.proba[others], None if x is None else x[others])
