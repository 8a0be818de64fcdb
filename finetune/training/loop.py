"""The loop of training, from weights and rows to better weights, readable from end to end.

    outcome = fit(objective, config, folder)

A step is some rows drawn at random, which go through the network in batches of so many tokens; the
gradients of their summed losses are added up and divided by the rows' weight at the end, so that
however a step is cut into batches, or dealt out to processes, it is the same step. What is drawn at
random within it, dropout above all, hangs on the seed, the step and the rows. So a run that was
killed goes on from its last checkpoint with the same curve.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from finetune.settings.config import Config
from finetune.settings.sections import LAST
from finetune.training.checkpoints import (
    Checkpoints,
    State,
    Tensors,
    fill_optimizer,
    optimizer_tensors,
)
from finetune.training.curves import Curve, Point
from finetune.training.objectives import Objective
from finetune.training.optimising import (
    Precision,
    RunningMean,
    clipped,
    make_optimizer,
    schedule,
    set_rate,
    trained,
)
from finetune.training.ordering import batches_of, share_of
from finetune.training.planning import Plan
from finetune.training.processes import ALONE, Processes
from finetune.training.sharding import is_shared, part_of, whole
from finetune.training.speed import effort_of, peak_flops
from judge.errors import ArenaJudgeError

Ints = npt.NDArray[np.int64]

_LOOKS = 10
BATCH_TOKENS = {"cpu": 4096, "cuda": 16384, "mps": 8192}
"""Tokens at once where nothing is said, by the kind of device."""
LR_LORA, LR_FULL = 2e-4, 3e-5


class Watcher(Protocol):
    """Whoever wants to know how a run goes."""

    def begin(self, tokens: int) -> None:
        """So many tokens are left."""

    def __call__(self, tokens: int, point: Point, speed: float, share: float | None) -> None:
        """A step of so many tokens is done; the speed is in tokens a second, and the share that of
        the device's peak."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        steps: that were made; `planned` were to be.
        best_step: after which the weights are kept.
        dev_log_loss: theirs; None without dev battles.
        tokens, seconds: of training altogether.
        share: of the device's peak, where that is known.
        resumed: the step that the run went on from, 0 for the beginning.
    """

    steps: int
    planned: int
    best_step: int
    dev_log_loss: float | None
    tokens: int
    seconds: float
    share: float | None
    resumed: int = 0


class Trainer:
    """What one run holds: weights, what the optimizer remembers, and how far it is.

    Args:
        objective: what is learned.
        config: how.
        processes: this one among those that train together.
    """

    def __init__(self, objective: Objective, config: Config, processes: Processes = ALONE) -> None:
        self.objective, self.config, self._processes = objective, config, processes
        self.model: nn.Module = objective.model
        self.names: dict[Tensor, str] = {one: name for name, one in trained(self.model)}
        if not self.names:
            raise ArenaJudgeError("nothing of the model is to be trained")
        self.parameters = [one for _, one in trained(self.model)]
        self.device = self.parameters[0].device
        self.lr = learning_rate(config, self.model)
        batch = config.run.batch_tokens or BATCH_TOKENS.get(self.device.type, 4096)
        phases = objective.phases
        self.plan = Plan(objective.lengths, config, batch, objective.padded, phases)
        if not len(self.plan):
            raise ArenaJudgeError("there is nothing to train on")
        from judge.classifier.hardware import dtype_of

        self.precision = Precision(
            dtype_of(config.run.dtype, self.device, training=True), self.device
        )
        self.optimizer: torch.optim.Optimizer = make_optimizer(
            self.model, config.optimisation, self.lr
        )
        decay = config.optimisation.ema
        self.mean = RunningMean(self.model, decay) if decay else None
        self.state = State()
        self._kept: dict[str, Tensor] = {}
        self._shared = any(is_shared(one) for one in self.model.parameters())

    def step(self, epoch: int, rows: Ints) -> tuple[float, float, int]:
        """One step: the mean loss before it, the norm of its gradient, and its tokens."""
        how, number = self.config.optimisation, self.state.step
        mine = self._processes
        batches = share_of(
            batches_of(rows, self.plan.lengths, self.plan.sizes),
            self.plan.lengths,
            mine.rank,
            mine.count,
        )
        self.model.train()
        set_rate(self.optimizer, self.lr * schedule(number, len(self.plan), how))
        summed = torch.zeros((), device=self.device)
        weight, tokens = 0.0, 0
        for batch in batches:
            if not len(batch) and not self._shared:
                continue
            nothing = not len(batch)
            if nothing:  # shared weights are put together by all at once
                batch = rows[:1]
            # Dropout hangs on what is shown and when, not on what was before.
            torch.manual_seed(_seed(self.config.run.seed, number, int(batch[0])))
            with self.precision.autocast():
                loss, heavy, long = self.objective.loss(batch, epoch)
            if nothing:
                loss, heavy, long = loss * 0, 0.0, 0
            self.precision.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            summed += loss.detach()
            weight, tokens = weight + heavy, tokens + long
        mine.sum_gradients(self.parameters)
        total, weight, count = mine.sum(float(summed), weight, float(tokens))
        norm = self._update(weight)
        mean = total / weight
        if not math.isfinite(mean):
            raise ArenaJudgeError(
                f"the loss of step {number + 1} is no number; lower --lr, or take --dtype float32"
            )
        return mean, norm, int(count)

    def _update(self, weight: float) -> float:
        """Moves the weights by gradients of losses that weigh so much together."""
        scaler = self.precision.scaler
        scaler.unscale_(self.optimizer)
        for one in self.parameters:
            if one.grad is not None:
                # Of what is shared out, processes have the mean of their gradients.
                one.grad.div_(weight / (self._processes.count if is_shared(one) else 1))
        norm = clipped(self.parameters, self.config.optimisation.clip)
        scaler.step(self.optimizer)
        scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.step += 1
        if self.mean is not None:
            self.mean.update(self.state.step)
        return float(norm)

    def measure(self) -> float | None:
        """How far off the dev rows are, by the running mean of the weights if there is one."""
        if self.mean is not None:
            self.mean.exchange()
        try:
            return self.objective.evaluate(self.precision.autocast, self._processes)
        finally:
            if self.mean is not None:
                self.mean.exchange()

    def weights(self) -> dict[str, Tensor]:
        """What is trained, by name."""
        return {name: whole(one) for one, name in self.names.items()}

    def judged(self) -> dict[str, Tensor]:
        """The weights that a judge would have."""
        if self.mean is None:
            return self.weights()
        return {name: whole(one) for name, one in self.mean.means.items()}

    def keep(self) -> None:
        """Holds on to the weights that a judge would have."""
        self._kept = {name: one.detach().clone() for name, one in self.judged().items()}

    def kept(self) -> dict[str, Tensor]:
        """What was held on to."""
        return self._kept

    @torch.no_grad()
    def fill(self, weights: dict[str, Tensor]) -> None:
        """Takes weights by name."""
        for one, name in self.names.items():
            if name not in weights or weights[name].shape != one.shape:
                raise ArenaJudgeError(f"the checkpoint has no {name} of this shape; add --fresh")
            one.copy_(part_of(weights[name], one))

    def tensors(self) -> Tensors:
        """What a checkpoint keeps."""
        self.state.scaler = self.precision.state()
        mean = None if self.mean is None else self.judged()
        return Tensors(self.weights(), optimizer_tensors(self.optimizer, self.names), mean)

    def go_on(self, state: State, tensors: Tensors) -> None:
        """Takes up what a checkpoint kept."""
        self.fill(dict(tensors.weights))
        fill_optimizer(self.optimizer, tensors.optimizer, self.names)
        if self.mean is not None and tensors.mean is not None:
            for name, one in self.mean.means.items():
                one.copy_(part_of(tensors.mean[name], one))
        self.precision.load(state.scaler)
        self.state = replace(state)


def fit(
    objective: Objective,
    config: Config,
    checkpoints: Checkpoints | None = None,
    *,
    processes: Processes = ALONE,
    watch: Watcher | None = None,
) -> Outcome:
    """Trains, and leaves the best weights in the objective's model.

    Args:
        objective: what is learned.
        config: how.
        checkpoints: where to keep what is unfinished, and to go on from; None for nowhere.
        processes: this one among those that train together.
        watch: is told of every step.

    Raises:
        ArenaJudgeError: nothing to train on, or losses that are no numbers.
    """
    trainer = Trainer(objective, config, processes)
    found = None if checkpoints is None else checkpoints.latest()
    if checkpoints is not None and found is not None:
        trainer.go_on(found, checkpoints.load(found.step))
    start = trainer.state.step
    if watch is not None:
        watch.begin(max(trainer.plan.tokens - trainer.state.tokens, 0))
    writes = checkpoints if processes.first else None
    curve = None
    if writes is not None:
        curve = Curve(writes.folder, start, board=config.run.tensorboard)
    try:
        share = _steps(trainer, writes, curve, watch, keeps=checkpoints is None)
    finally:
        if curve is not None:
            curve.close()
    state = trainer.state
    last = config.run.keep == LAST or state.best_step is None
    best = state.step if last or state.best_step is None else state.best_step
    processes.wait()  # the best weights may still be being written
    if best == state.step:
        trainer.fill(dict(trainer.judged()))
    else:
        trainer.fill(trainer.kept() if checkpoints is None else checkpoints.best(best))
    return Outcome(
        steps=state.step,
        planned=len(trainer.plan),
        best_step=best,
        dev_log_loss=state.last if last else state.best,
        tokens=state.tokens,
        seconds=state.seconds,
        share=share,
        resumed=start,
    )


def _steps(
    trainer: Trainer,
    checkpoints: Checkpoints | None,
    curve: Curve | None,
    watch: Watcher | None,
    *,
    keeps: bool,
) -> float | None:
    """All steps that are left; the share of the device's peak that they had."""
    run, plan, state = trainer.config.run, trainer.plan, trainer.state
    looks = run.eval_every or max(1, math.ceil(len(plan) / _LOOKS))
    saves = run.save_every or looks
    meter = Meter(trainer)
    for epoch, far, rows in plan.after(state.step):
        if 0 < run.patience <= state.stale:
            break
        began = time.perf_counter()
        loss, norm, tokens = trainer.step(epoch, rows)
        spent = time.perf_counter() - began
        meter.add(tokens, spent, trainer.objective.lengths[rows])
        last = state.step == len(plan)
        state.tokens, state.seconds = state.tokens + tokens, state.seconds + spent
        dev = trainer.measure() if last or state.step % looks == 0 else None
        better = dev is not None and (state.best is None or dev < state.best)
        state.last = state.last if dev is None else dev
        if better:
            state.best, state.best_step, state.stale = dev, state.step, 0
        elif dev is not None:
            state.stale += 1
        lr = trainer.lr * schedule(state.step - 1, len(plan), trainer.config.optimisation)
        point = Point(state.step, far, state.tokens, loss, lr, dev, norm, state.seconds)
        if curve is not None:
            curve.add(point)
        # Of weights that are shared out every process gives its part; one writes.
        if better and keeps:
            trainer.keep()
        elif better:
            weights = trainer.judged()
            if checkpoints is not None:
                checkpoints.save_best(state.step, weights)
        if not keeps and (last or state.step % saves == 0 or 0 < run.patience <= state.stale):
            tensors = trainer.tensors()
            if checkpoints is not None:
                checkpoints.save(state, tensors)
        if watch is not None:
            watch(tokens, point, meter.speed, meter.share)
    return meter.share


class Meter:
    """How fast training is."""

    def __init__(self, trainer: Trainer) -> None:
        self._effort = effort_of(trainer.model)
        peak = peak_flops(trainer.device, trainer.precision.dtype)
        self._peak = None if peak is None else peak * trainer._processes.count
        self._tokens, self._seconds, self._flops = 0, 0.0, 0.0

    def add(self, tokens: int, seconds: float, lengths: Ints) -> None:
        """A step is done."""
        self._tokens, self._seconds = self._tokens + tokens, self._seconds + seconds
        looks = float((lengths.astype(float) ** 2).sum() / max(lengths.sum(), 1))
        self._flops += self._effort.of(tokens, looks)

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return self._tokens / max(self._seconds, 1e-9)

    @property
    def share(self) -> float | None:
        """Of the device's peak."""
        if not self._peak or not self._seconds:
            return None
        return self._flops / self._seconds / self._peak


def learning_rate(config: Config, model: nn.Module) -> float:
    """What was asked for, or what suits adapters, or all weights."""
    if config.optimisation.lr is not None:
        return config.optimisation.lr
    backbone = getattr(model, "backbone", model)
    return LR_LORA if hasattr(backbone, "peft_config") else LR_FULL


def _seed(*parts: int) -> int:
    state: Any = np.random.SeedSequence(parts).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))
