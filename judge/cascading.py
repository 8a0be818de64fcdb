"""What a cascade of a cheap judge and a dear one is worth at each threshold, and which to choose.

Both judges' probabilities are at hand, so every threshold is tried on the same battles and differs
from the others only in who answers. A threshold that is chosen and measured on the same battles
flatters itself; so the choice is made once more in each fold without the battles of the fold, and
what it comes to there is the figure to believe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.comparing.bootstrap import Tallies, group_codes
from judge.errors import ArenaJudgeError
from judge.folds import grouped_folds
from judge.metrics import log_loss_rows

Floats = npt.NDArray[np.float64]

STEPS = 20
ALL = 1.0 + 1e-9
"""A threshold that no probability reaches: every battle goes to the dear judge."""

ROUNDING = 1e-12
"""A probability that falls short of a threshold by no more has reached it: thresholds are taken
from probabilities that were seen, and with the responses exchanged rounding may differ."""


@dataclass(frozen=True)
class Step:
    """A cascade at one threshold, on N battles.

    Attributes:
        sure: the cheap judge answers where its most probable outcome has this probability.
        sent: the share of battles that the dear judge is asked about.
        log_loss: mean, with its 95 % interval `low` to `high` over prompts.
        gap: log loss less the dear judge's own, paired, with its interval; negative is better.
        cost: a battle, in what the judges' costs are given in.
    """

    sure: float
    sent: float
    log_loss: float
    low: float
    high: float
    gap: float
    gap_low: float
    gap_high: float
    cost: float


@dataclass(frozen=True)
class Curve:
    """A cascade from never asking the dear judge to always.

    Attributes:
        steps: by the share that is sent on, least first.
        chosen: place of the cheapest step whose log loss is within `within` of the least.
        within: nats.
        honest: log loss and share sent on of the threshold chosen without the battles it is
            measured on; NaN with fewer than three prompts.
        battles, prompts: labelled and judged by both.
        left_out: labelled, but unjudged by one of them.
    """

    steps: tuple[Step, ...]
    chosen: int
    within: float
    honest: tuple[float, float]
    battles: int
    prompts: int
    left_out: int = 0

    @property
    def best(self) -> Step:
        """The step that is chosen."""
        return self.steps[self.chosen]

    def to_frame(self) -> pd.DataFrame:
        """One row a threshold."""
        return pd.DataFrame([asdict(step) for step in self.steps])


def cascade_curve(
    labels: Floats,
    cheap: Floats,
    dear: Floats,
    groups: npt.ArrayLike,
    *,
    costs: Sequence[float] = (0.0, 1.0),
    within: float = 0.002,
    folds: int = 5,
    rounds: int = 2000,
    seed: int = 0,
) -> Curve:
    """Tries thresholds on battles that both judges have judged.

    Args:
        labels: (N, 3) shares of A, B and tie; NaN rows are unlabelled.
        cheap, dear: (N, 3) what the judges say; NaN rows are unjudged. Battles that one of them
            left unjudged are left out.
        groups: (N,) values that are equal for battles about one prompt.
        costs: of a battle, by the cheap and by the dear judge.
        within: how many nats a cheaper threshold may lose.
        folds: of the honest figure.
        rounds, seed: of the bootstrap, and the seed of the folds.

    Raises:
        ArenaJudgeError: no battle is labelled and judged by both.
    """
    kept = np.flatnonzero(~np.isnan(np.hstack([labels, cheap, dear])).any(axis=1))
    if len(kept) == 0:
        raise ArenaJudgeError("no battle is labelled and judged by both judges")
    codes = group_codes(np.asarray(groups)[kept])
    top = cheap[kept].max(axis=1)
    loss = np.stack([log_loss_rows(labels[kept], each[kept]) for each in (cheap, dear)])
    limits = _limits(top)
    sent = top < limits[:, None] - ROUNDING
    losses = np.where(sent, loss[1], loss[0])
    expense = costs[0] + sent.mean(axis=1) * costs[1]
    steps = _steps(limits, sent, losses, loss[1], expense, codes, rounds, seed)
    return Curve(
        steps=steps,
        chosen=_cheapest(losses.mean(axis=1), expense, within),
        within=within,
        honest=_honest(losses, sent, expense, codes, within, folds, seed),
        battles=len(kept),
        prompts=int(codes.max()) + 1,
        left_out=int((~np.isnan(labels).any(axis=1)).sum()) - len(kept),
    )


def _limits(top: Floats) -> Floats:
    """Thresholds that send on about 0, 5, 10 … 100 % of the battles, no two the same ones."""
    found = np.quantile(top, np.linspace(0, 1, STEPS + 1)[1:-1], method="nearest")
    return np.unique(np.concatenate([[0.0], found[found > top.min()], [ALL]]))


def _steps(
    limits: Floats,
    sent: npt.NDArray[np.bool_],
    losses: Floats,
    dear: Floats,
    expense: Floats,
    codes: npt.NDArray[np.intp],
    rounds: int,
    seed: int,
) -> tuple[Step, ...]:
    tallies, one = Tallies(codes), np.ones(len(codes))
    for row in losses:
        tallies.add(row, one)
    for row in losses:
        tallies.add(row - dear, one)
    means, half = tallies.means(rounds=rounds, seed=seed), len(limits)
    return tuple(
        Step(
            sure=float(limits[k]),
            sent=float(sent[k].mean()),
            log_loss=float(means.value[k]),
            low=float(means.low[k]),
            high=float(means.high[k]),
            gap=float(means.value[half + k]),
            gap_low=float(means.low[half + k]),
            gap_high=float(means.high[half + k]),
            cost=float(expense[k]),
        )
        for k in range(half)
    )


def _cheapest(losses: Floats, expense: Floats, within: float) -> int:
    """The cheapest of those that lose no more than `within` on the best; of equals, the better."""
    good = np.flatnonzero(losses <= losses.min() + within)
    return int(min(good.tolist(), key=lambda k: (expense[k], losses[k])))


def _honest(
    losses: Floats,
    sent: npt.NDArray[np.bool_],
    expense: Floats,
    codes: npt.NDArray[np.intp],
    within: float,
    folds: int,
    seed: int,
) -> tuple[float, float]:
    """Log loss, and share sent on, of thresholds chosen on the other folds."""
    if codes.max() < 2:
        return float("nan"), float("nan")
    fold = grouped_folds(codes, folds, seed)
    loss, share = np.zeros(len(codes)), np.zeros(len(codes))
    for held in range(int(fold.max()) + 1):
        inside = fold == held
        k = _cheapest(losses[:, ~inside].mean(axis=1), expense, within)
        loss[inside], share[inside] = losses[k, inside], sent[k, inside]
    return float(loss.mean()), float(share.mean())
