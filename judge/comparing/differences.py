"""Whether one judge is better than another, or whether these battles cannot tell.

Differences are paired: battle by battle, on battles that all judges have judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from judge.comparing.bootstrap import students_quantile

Floats = npt.NDArray[np.float64]

ALPHA = 0.05
POWER = 0.8


@dataclass(frozen=True)
class Difference:
    """A judge's log loss less another's on the battles that all judges judged; negative is better.

    Attributes:
        value: mean difference in nats.
        low, high: 95 % studentised bootstrap interval, clustered by prompt; NaN with one prompt.
        p_value: two-sided, for this difference alone (see `p_value`).
        p_holm: the same after Holm's correction for all that are tested with it.
        error: standard error, clustered by prompt.
        more_battles: how many more battles would tell the two apart (see `more_battles`): 0 where
            they are, infinite where nothing differs.
    """

    value: float
    low: float
    high: float
    p_value: float
    p_holm: float = float("nan")
    error: float = float("nan")
    more_battles: float = float("nan")

    @property
    def told_apart(self) -> bool:
        """Whether the corrected p-value is under 0.05."""
        return self.p_holm < ALPHA

    def turned(self) -> Difference:
        """The same seen from the other judge."""
        return replace(self, value=0.0 - self.value, low=0.0 - self.high, high=0.0 - self.low)


@dataclass(frozen=True)
class Pair:
    """Two judges, and the log loss of the first less that of the second."""

    first: str
    second: str
    difference: Difference


def differences(
    values: Floats, errors: Floats, lows: Floats, highs: Floats, prompts: int, battles: int
) -> list[Difference]:
    """What is made of K mean differences that are tested together.

    Args:
        values, errors, lows, highs: (K,) as in `judge.comparing.bootstrap.Means`.
        prompts, battles: that they are over.
    """
    tests = len(values)
    numbers = [
        (float(value), float(error), float(low), float(high))
        for value, error, low, high in zip(values, errors, lows, highs, strict=True)
    ]
    alone = [p_value(v, e, low, high, prompts) for v, e, low, high in numbers]
    corrected = holm(alone)
    return [
        Difference(
            value,
            low,
            high,
            alone[k],
            corrected[k],
            error,
            0.0 if corrected[k] < ALPHA else more_battles(value, error, battles, tests),
        )
        for k, (value, error, low, high) in enumerate(numbers)
    ]


def p_value(value: float, error: float, low: float, high: float, prompts: int) -> float:
    """Two-sided p-value of a difference, from its interval.

    It is Student's, with one degree of freedom less than there are prompts, stretched so that 0.05
    is where the bootstrap interval ends. Counting rounds beyond zero would be the same there, but
    2,000 rounds cannot tell 0.001 from less, and Holm's correction needs to. Nor does it fall
    under 2 / 2**prompts, which is as sure as one can be when each prompt speaks for the same judge.

    Args:
        value, error: the difference and its standard error.
        low, high: its 95 % interval.
        prompts: that it is over.
    """
    if prompts < 2 or math.isnan(value):
        return float("nan")
    if value == 0:
        return 1.0
    least = 2.0 ** (1 - min(prompts, 1000))
    reach = value - low if value > 0 else high - value
    if error == 0 or reach <= 0:
        return least
    from scipy.special import stdtr

    far = abs(value) / reach * students_quantile(prompts)
    return max(least, min(1.0, 2.0 * float(stdtr(prompts - 1, -far))))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the chance that one of the differences found is none stays under
    5 % if those with a corrected value under 0.05 are found (Holm 1979). NaN stays NaN, and counts
    as a test."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")  # NaN comes last
    steps = p[order] * np.arange(len(p), 0, -1)
    known = np.isnan(steps)
    raised = np.maximum.accumulate(np.where(known, -np.inf, steps))
    found = np.empty(len(p))
    found[order] = np.where(known, np.nan, np.minimum(raised, 1.0))
    return [float(value) for value in found]


def more_battles(value: float, error: float, battles: int, tests: int = 1) -> float:
    """How many more battles, as many to a prompt as here, would tell two judges apart.

    With so many, a difference that is truly as large as the one seen comes out with a power of
    80 % at the level 0.05 / `tests`, the strictest that Holm's correction may ask for:

        battles x ((z(1 - level / 2) + z(0.8)) x error / value)**2, less those there are

    (the sample size of a paired z-test with its clustered standard error; Miller 2024, "Adding
    Error Bars to Evals", arXiv 2411.00640). Infinite where the difference is 0.

    Args:
        value, error: the difference and its standard error.
        battles: that it is over.
        tests: how many differences are tested together.
    """
    if math.isnan(error) or math.isnan(value):
        return float("nan")
    if value == 0:
        return math.inf
    normal = NormalDist()
    reach = normal.inv_cdf(1 - ALPHA / (2 * max(tests, 1))) + normal.inv_cdf(POWER)
    needed = battles * (reach * error / value) ** 2
    return float(max(0, math.ceil(needed - battles - 1e-9)))


def runs_together(names: Sequence[str], pairs: Mapping[tuple[str, str], bool]) -> list[list[str]]:
    """The groups of judges no two of which can be told apart, as far as they can be.

    Args:
        names: by rising log loss.
        pairs: whether two, in the order of the names, are told apart.

    Returns:
        Runs of neighbours, the longest that there are: a run within another is left out. A judge
        that differs from its neighbours is a run of its own.
    """
    found: list[list[str]] = []
    end = 0
    for start in range(len(names)):
        stop = start + 1
        while stop < len(names) and not any(
            pairs[names[one], names[stop]] for one in range(start, stop)
        ):
            stop += 1
        if stop > end:
            found.append(list(names[start:stop]))
            end = stop
    return found
