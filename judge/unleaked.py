"""How a judge does on battles that it has not learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from judge.bootstrap import Tallies, group_codes
from judge.leaks import Leaks
from judge.metrics import log_loss_rows
from judge.near import Kind

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_NAMED = 5


@dataclass(frozen=True)
class Figure:
    """A log loss over some battles, in nats, with its 95 % interval; NaN where there are none."""

    battles: int
    log_loss: float
    low: float
    high: float


@dataclass(frozen=True)
class LeakReport:
    """What a judge has learned from of the labelled battles that it judged.

    Attributes:
        judge: its name.
        seen: battles that it is known to have learned from.
        exact, near: battles that it learned from, as they are and but for small edits.
        prompt: battles of which it learned from the prompt, with other responses.
        first: ids of the first of those that it learned from, then of those with the prompt.
        files: where it learned from them.
        learned: its log loss on battles that it learned from.
        without: the same on the others.
        strange: the same on those of which it has not seen the prompt either.
    """

    judge: str
    seen: int
    exact: int
    near: int
    prompt: int
    first: tuple[str, ...]
    files: tuple[str, ...]
    learned: Figure
    without: Figure
    strange: Figure


def leak_report(
    leaks: Leaks,
    ids: Sequence[str],
    labels: npt.ArrayLike,
    proba: npt.ArrayLike,
    groups: npt.ArrayLike,
    *,
    rounds: int = 2000,
    seed: int = 0,
) -> LeakReport:
    """The leaks of one judge among N battles, and its log loss with them and without.

    Args:
        leaks: see `judge.leaks.find_leaks`.
        ids: of the battles.
        labels, proba: (N, 3), NaN rows unlabelled or unjudged.
        groups: (N,) equal for battles about the same prompt.
        rounds, seed: of the bootstrap, which resamples prompts.
    """
    y, p = np.asarray(labels, np.float64), np.asarray(proba, np.float64)
    there = ~np.isnan(y).any(axis=1) & ~np.isnan(p).any(axis=1)
    loss = np.full(len(y), np.nan)
    if there.any():
        loss[there] = log_loss_rows(y[there], p[there])
    codes = np.asarray(groups)
    counts = {kind: int((leaks.of(kind) & there).sum()) for kind in Kind}
    places = np.flatnonzero((leaks.found.kinds > 0) & there)
    places = places[np.argsort(~leaks.learned[places], kind="stable")]
    known = leaks.of(Kind.EXACT, Kind.NEAR, Kind.PROMPT)
    learned, without, strange = (
        _figure(loss[rows], codes[rows], rounds, seed)
        for rows in (leaks.learned & there, ~leaks.learned & there, ~known & there)
    )
    return LeakReport(
        leaks.judge,
        leaks.seen,
        counts[Kind.EXACT],
        counts[Kind.NEAR],
        counts[Kind.PROMPT],
        tuple(ids[place] for place in places[:_NAMED].tolist()),
        tuple(dict.fromkeys(str(leaks.sources[place]) for place in places.tolist())),
        learned,
        without,
        strange,
    )


def _figure(loss: Floats, groups: npt.NDArray[np.generic], rounds: int, seed: int) -> Figure:
    nan = float("nan")
    if not len(loss):
        return Figure(0, nan, nan, nan)
    tallies = Tallies(group_codes(groups))
    tallies.add(loss, np.ones(len(loss)))
    means = tallies.means(rounds=rounds, seed=seed)
    return Figure(len(loss), float(means.value[0]), float(means.low[0]), float(means.high[0]))
