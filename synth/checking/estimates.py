"""Figures with their intervals: what is resampled are prompts, as everywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from judge.comparing.bootstrap import Tallies
from judge.comparing.reliability import wilson
from synth.checking.records import Ints

NAN = float("nan")


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval.

    Attributes:
        value: NaN where there is nothing to take a mean of.
        low, high: NaN with one prompt.
        of: how many observations it is the mean of.
    """

    value: float = NAN
    low: float = NAN
    high: float = NAN
    of: int = 0

    @property
    def known(self) -> bool:
        """Whether there is anything to say."""
        return not math.isnan(self.value)


UNKNOWN = Estimate()


@dataclass(frozen=True)
class Sampling:
    """How intervals are made.

    Attributes:
        prompts: (N,) a number for each battle's prompt, from 0.
        rounds, seed: of the bootstrap.
    """

    prompts: npt.NDArray[np.intp]
    rounds: int = 1000
    seed: int = 0

    def means(
        self, parts: Sequence[tuple[Ints, npt.ArrayLike]], low: float = 0.0, high: float = 1.0
    ) -> list[Estimate]:
        """Means of observations.

        Args:
            parts: for each mean, (K,) the battle that each observation is of, and (K,) what was
                observed.
            low, high: what observations can be at all.
        """
        if not parts:
            return []
        tallies = Tallies(self.prompts)
        number = len(self.prompts)
        counts = []
        for battle, values in parts:
            found = np.asarray(values, dtype=np.float64)
            sums = np.bincount(battle, found, number).astype(np.float64)
            tallies.add(sums, np.bincount(battle, minlength=number).astype(np.float64))
            counts.append(len(found))
        means = tallies.means(rounds=self.rounds, seed=self.seed)
        estimates = []
        for place, count in enumerate(counts):
            value, below, above = (
                float(part[place]) for part in (means.value, means.low, means.high)
            )
            prompts = int(means.prompts[place])
            # What is the same in every prompt has no spread to be resampled.
            if means.error[place] == 0 and prompts > 1 and (low, high) == (0.0, 1.0):
                if value in (0.0, 1.0):
                    below, above = wilson(value, prompts)
            elif not math.isnan(below):
                below, above = max(below, low), min(above, high)
            estimates.append(Estimate(value, below, above, count))
        return estimates
