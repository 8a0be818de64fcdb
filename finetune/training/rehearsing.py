"""Some steps of training for the time and the memory that they take, before a run is begun."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from finetune.settings.config import Config
from finetune.training.loop import Meter, Trainer
from finetune.training.objectives import Objective
from finetune.training.planning import Plan
from finetune.training.processes import ALONE, Processes
from finetune.training.speed import peak_memory

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Speed:
    """What a dry run found.

    Attributes:
        tokens_second: worked through in a second, real ones.
        rows_second: battles, or ballots.
        share: of the device's peak, where that is known.
        peak_bytes: the most memory held: on a GPU, or by the process.
        total_tokens: of the whole run as planned.
        steps: of it.
    """

    tokens_second: float
    rows_second: float
    share: float | None
    peak_bytes: int
    total_tokens: int
    steps: int

    @property
    def seconds(self) -> float:
        """What the whole run will take, dev battles aside."""
        return self.total_tokens / max(self.tokens_second, 1e-9)


def dry_run(
    objective: Objective,
    config: Config,
    steps: int = 3,
    *,
    processes: Processes = ALONE,
    clock: Callable[[], float] = time.perf_counter,
) -> Speed:
    """Makes some steps, the largest batch first, and says how fast they were and what memory they
    took. The model's weights are changed by them: it is for nothing else."""
    trainer = Trainer(objective, config, processes)
    plan = trainer.plan
    longest = np.argsort(-plan.lengths, kind="stable")
    taken = np.cumsum(plan.lengths[longest]) <= plan.sizes.batch_tokens
    largest = longest[: max(int(taken.sum()), 1)]
    trainer.step(0, largest)  # warms up, and needs as much memory as any
    meter, rows_done, began = Meter(trainer), 0, clock()
    for (epoch, _, rows), _ in zip(_endless(plan), range(max(steps, 1)), strict=False):
        before = clock()
        _, _, tokens = trainer.step(epoch, rows)
        meter.add(tokens, clock() - before, plan.lengths[rows])
        rows_done += len(rows)
    seconds = max(clock() - began, 1e-9)
    return Speed(
        tokens_second=meter.speed,
        rows_second=rows_done / seconds,
        share=meter.share,
        peak_bytes=peak_memory(trainer.device),
        total_tokens=plan.tokens,
        steps=len(plan),
    )


def _endless(plan: Plan) -> Iterator[tuple[int, float, Ints]]:
    while True:
        yield from plan.after(0)
