"""All steps of a run: which rows each learns from, in which epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from finetune.settings.config import Config
from finetune.training.ordering import Steps, epoch_steps

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Phase:
    """A part of a run.

    Attributes:
        share: of the epochs.
        rows: what is learned from.
    """

    share: float
    rows: Ints


@dataclass(frozen=True)
class _Pass:
    """Once through some rows, or the beginning of it.

    Attributes:
        rows: which ones.
        number: of the pass, from 0.
        begin: how far the run is before it, in epochs.
        whole: steps of it, if it is not ended before.
        count: steps that are made.
    """

    rows: Ints
    number: int
    begin: float
    whole: int = 0
    count: int = -1


class Plan:
    """All steps of a run.

    Args:
        lengths: (N,) tokens of each row.
        config: what the run is told.
        batch_tokens: tokens at once.
        padded: whether batches are padded.
        phases: parts of the run that learn from some rows each; none: all from all.
    """

    def __init__(
        self,
        lengths: Ints,
        config: Config,
        batch_tokens: int,
        padded: bool,
        phases: Sequence[Phase] = (),
    ) -> None:
        how = config.optimisation
        self.lengths, self._seed = lengths, config.run.seed
        self.sizes = Steps(how.step_tokens, how.step_battles, batch_tokens, padded)
        self._passes: list[_Pass] = []
        begin = 0.0
        for phase in phases or (Phase(1.0, np.arange(len(lengths))),):
            self._add(phase, begin, round(how.epochs * phase.share, 9))
            begin += how.epochs * phase.share
        if how.max_steps and len(self) > how.max_steps:
            self._shorten(phases, how.max_steps)
        self.tokens = sum(
            int(lengths[rows].sum()) for one in self._passes for rows in self._steps(one)
        )

    def __len__(self) -> int:
        return sum(one.count for one in self._passes)

    def after(self, step: int) -> Iterator[tuple[int, float, Ints]]:
        """The epoch of each step after the first so many, how far the run is after it, and its
        rows."""
        done = 0
        for epoch, one in enumerate(self._passes):
            if done + one.count > step:
                steps = self._steps(one)
                for place in range(max(step - done, 0), one.count):
                    yield epoch, one.begin + (place + 1) / one.whole, steps[place]
            done += one.count

    def _add(self, phase: Phase, begin: float, epochs: float) -> None:
        """The passes of a phase, the last of them perhaps in part."""
        whole, part = int(epochs), epochs - int(epochs)
        for number in range(whole + (part > 0)):
            one = _Pass(phase.rows, len(self._passes), begin + number)
            steps = len(self._steps(one))
            count = steps if number < whole else math.ceil(part * steps)
            self._passes.append(replace(one, whole=steps, count=count))

    def _shorten(self, phases: Sequence[Phase], most: int) -> None:
        """Leaves out the last steps: of each of two phases, so that they keep their shares."""
        rows = phases[0].rows if phases else None
        early = [one for one in self._passes if one.rows is rows]
        late = [one for one in self._passes if one.rows is not rows]
        share = phases[0].share if phases else 0.0
        first = max(round(share * most), most - sum(one.count for one in late))
        parts = ((early, min(first, most)), (late, most))
        taken = 0
        self._passes = []
        for passes, until in parts:
            for one in passes:
                count = max(min(one.count, until - taken), 0)
                taken += count
                self._passes.append(replace(one, count=count))

    def _steps(self, one: _Pass) -> list[Ints]:
        """The rows of each step of a pass."""
        lengths = self.lengths[one.rows]
        steps = epoch_steps(lengths, self.sizes, seed=self._seed, epoch=one.number)
        return [one.rows[places] for places in (steps if one.count < 0 else steps[: one.count])]
