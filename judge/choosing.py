"""Choosing among ways to learn from labels: each cross-fitted, the simplest kept unless beaten.

A *learner* is given the rows to learn from and gives back what judges other rows. Battles about one
prompt stay together, so that nothing is measured on a prompt that it has seen. Where prompts are
few, the luck of the deal would decide, so folds are dealt several times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from judge.comparing.bootstrap import group_codes, students_quantile
from judge.errors import ArenaJudgeError
from judge.folds import grouped_folds
from judge.metrics import log_loss_rows

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Learner = Callable[[Ints], Callable[[Ints], Floats]]

LEAST_PROMPTS = 3
_DEALT, _MOST_DEALS = 2000, 10


@dataclass(frozen=True)
class Gap:
    """A mean difference over battles, paired, negative where the first is better.

    Attributes:
        value: in nats.
        error: its standard error, over prompts; NaN with a single prompt.
        prompts: how many there are.
    """

    value: float
    error: float
    prompts: int

    @property
    def low(self) -> float:
        """The lower end of the 95 % interval, by Student's t."""
        return self.value - self._reach

    @property
    def high(self) -> float:
        """The upper end of the 95 % interval."""
        return self.value + self._reach

    @property
    def _reach(self) -> float:
        return self.error * students_quantile(self.prompts) if self.prompts > 1 else float("nan")


def paired_gap(loss: Floats, other: Floats, groups: npt.ArrayLike) -> Gap:
    """The mean of `loss` less `other`, both (N,), with the cluster-robust standard error: the
    squared sums over groups of what differs from the mean, times G / (G - 1) (K.-Y. Liang and S.
    Zeger 1986, Biometrika 73)."""
    gap = loss - other
    codes = group_codes(groups)
    mean = float(gap.mean())
    sums = np.bincount(codes, gap - mean)
    if len(sums) < 2:
        return Gap(mean, float("nan"), len(sums))
    spread = float(np.square(sums).sum()) * len(sums) / (len(sums) - 1)
    return Gap(mean, spread**0.5 / len(gap), len(sums))


def enough_prompts(codes: Ints, what: str) -> None:
    """Sees to it that folds can be made.

    Raises:
        ArenaJudgeError: there are fewer than three prompts.
    """
    prompts = int(codes.max(initial=-1)) + 1
    if prompts < LEAST_PROMPTS:
        word = "prompt is" if prompts == 1 else "prompts are"
        raise ArenaJudgeError(
            f"{prompts} {word} too few to {what} on; {LEAST_PROMPTS} are the least, since each is "
            "to be judged by what was learned from others"
        )


def deals(codes: Ints) -> int:
    """How often folds are dealt: so that two thousand prompts are, or 10 times."""
    return int(np.clip(_DEALT // (int(codes.max()) + 1), 1, _MOST_DEALS))


def cross_fit(
    learners: Mapping[str, Learner],
    groups: npt.ArrayLike,
    folds: int,
    seed: int,
    times: int | None = None,
) -> dict[str, Floats]:
    """(D, N, 3) what each learner says of every battle when it has learned from the other folds, in
    each of D deals.

    Args:
        learners: by name.
        groups: (N,) values that are equal for battles about one prompt.
        folds: how many.
        seed: of the folds.
        times: how often they are dealt; by default as `deals` says.
    """
    codes = group_codes(groups)
    number = deals(codes) if times is None else times
    said = {name: np.full((number, len(codes), 3), np.nan) for name in learners}
    for deal, dealt in enumerate(np.random.SeedSequence(seed).generate_state(number)):
        fold = grouped_folds(codes.astype(np.int64), folds, int(dealt))
        for held in range(int(fold.max()) + 1):
            inside, outside = np.flatnonzero(fold != held), np.flatnonzero(fold == held)
            for name, learner in learners.items():
                said[name][deal, outside] = learner(inside)(outside)
    return said


def mean_loss(labels: Floats, said: Floats) -> Floats:
    """(N,) the log loss of (D, N, 3) probabilities, its mean over the deals."""
    return np.asarray(np.mean([log_loss_rows(labels, proba) for proba in said], axis=0))


def simplest(
    losses: Mapping[str, Floats], groups: npt.ArrayLike, order: Sequence[str], least: float = 0.0
) -> str:
    """The first in `order` that the best does not beat beyond the standard error of the paired
    difference, nor by more than `least` (L. Breiman et al. 1984, "Classification and Regression
    Trees", section 3.4.3).

    Args:
        losses: (N,) of each.
        groups: (N,) values that are equal for battles about one prompt.
        order: names, the simplest first.
        least: what a difference must be, in nats, to be worth anything.
    """
    best = min(order, key=lambda name: float(losses[name].mean()))
    for name in order:
        gap = paired_gap(losses[name], losses[best], groups)
        if name == best or not gap.value > max(gap.error, least):
            return name
    return best
