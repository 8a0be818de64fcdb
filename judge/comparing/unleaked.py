"""How a judge does on battles that it has not learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from judge.comparing.bootstrap import Means, Tallies, group_codes
from judge.comparing.leaks import Leaks
from judge.comparing.near import Kind
from judge.metrics import log_loss_rows

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


def leak_reports(
    leaks: Sequence[Leaks],
    ids: Sequence[str],
    labels: npt.ArrayLike,
    proba: Mapping[str, npt.ArrayLike],
    groups: npt.ArrayLike,
    *,
    rounds: int = 2000,
    seed: int = 0,
) -> list[LeakReport]:
    """The leaks of judges among N battles, and their log loss with them and without; of judges that
    have not seen any of the battles there is nothing to report.

    Args:
        leaks: of each judge, see `judge.comparing.leaks.find_leaks`.
        ids: of the battles.
        labels: (N, 3), NaN rows unlabelled.
        proba: (N, 3) of each judge, NaN rows unjudged.
        groups: (N,) equal for battles about the same prompt.
        rounds, seed: of the bootstrap, which resamples prompts.
    """
    y = np.asarray(labels, dtype=np.float64)
    tallies = Tallies(group_codes(groups))
    found: list[tuple[Leaks, Bools, tuple[Bools, ...]]] = []
    for one in leaks:
        p = np.asarray(proba[one.judge], dtype=np.float64)
        there = np.asarray(~np.isnan(y).any(axis=1) & ~np.isnan(p).any(axis=1), dtype=np.bool_)
        if not (there & (one.found.kinds > 0)).any():
            continue
        loss = np.zeros(len(y))
        loss[there] = log_loss_rows(y[there], p[there])
        known = one.of(Kind.EXACT, Kind.NEAR, Kind.PROMPT)
        masks = (one.learned & there, ~one.learned & there, ~known & there)
        for mask in masks:
            tallies.add(np.where(mask, loss, 0.0), mask)
        found.append((one, there, masks))
    if not found:
        return []
    means = tallies.means(rounds=rounds, seed=seed)
    reports = []
    for number, (one, there, parts) in enumerate(found):
        figures = [_figure(means, 3 * number + k, mask) for k, mask in enumerate(parts)]
        reports.append(_report(one, ids, there, figures))
    return reports


def _figure(means: Means, at: int, mask: Bools) -> Figure:
    value, low, high = (float(part[at]) for part in (means.value, means.low, means.high))
    return Figure(int(mask.sum()), value, low, high)


def _report(
    leaks: Leaks, ids: Sequence[str], there: Bools, figures: Sequence[Figure]
) -> LeakReport:
    places = np.flatnonzero((leaks.found.kinds > 0) & there)
    places = places[np.argsort(~leaks.learned[places], kind="stable")]
    exact, near, prompt = (
        int((leaks.of(kind) & there).sum()) for kind in (Kind.EXACT, Kind.NEAR, Kind.PROMPT)
    )
    return LeakReport(
        leaks.judge,
        leaks.seen,
        exact,
        near,
        prompt,
        tuple(ids[place] for place in places[:_NAMED].tolist()),
        tuple(dict.fromkeys(str(leaks.sources[place]) for place in places.tolist())),
        *figures,
    )
