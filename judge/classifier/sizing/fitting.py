"""Settings that fit the memory there is: what is lowered, and in which order.

fit = fit_settings("meta-llama/Llama-3.1-8B", Run(lora_r=16), named("RTX-3090"))
fit.fits, fit.steps, fit.run.settings()
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from judge.classifier.sizing.anatomy import Anatomy
from judge.classifier.sizing.devices import GIB, Hardware, detected
from judge.classifier.sizing.memory import Memory, training_memory
from judge.classifier.sizing.runs import Run

# Below these nothing is lowered: smaller passes only cost time, and shorter battles say too little.
_LEAST_LENGTH, _LEAST_RANK = 256, 4
# What is left free, since no estimate is exact.
MARGIN = 0.05
NOTHING_HELPS = "nothing that can be lowered makes it fit: take a smaller model or more memory"


@dataclass(frozen=True)
class Fit:
    """What came of lowering.

    Attributes:
        run: the run as lowered.
        memory: what it takes.
        steps: what was lowered, in words, in the order it was done.
        fits: whether it fits now.
    """

    run: Run
    memory: Memory
    steps: tuple[str, ...]
    fits: bool

    def settings(self) -> dict[str, dict[str, Any]]:
        """The tree that `arena-judge finetune train --config` reads."""
        return self.run.settings()


def fits(memory: Memory) -> bool:
    """Whether a device has as much, and some to spare."""
    return memory.total <= memory.available * (1 - MARGIN)


def verdict(memory: Memory) -> str:
    """Whether a device has as much, in words and GiB."""
    total, there, spare = (
        f"{one / GIB:,.2f}" if abs(one) < 100 * GIB else f"{one / GIB:,.0f}"
        for one in (memory.total, memory.available, abs(memory.spare))
    )
    if fits(memory):
        return f"fits: {total} of {there} GiB, {spare} to spare"
    if memory.fits:
        return f"fits barely: {total} of {there} GiB, and an estimate is not exact"
    return f"does not fit: {total} GiB where there are {there}, {spare} too many"


def fit_settings(base: str | Anatomy, run: Run, hardware: Hardware | None = None) -> Fit:
    """A run that fits: batches are made smaller, then layers worked through twice, then battles cut
    shorter, then weights shared out or held in 8 and in 4 bits, and at last ranks lowered; no more
    than has to be.

    What went before is taken back where a later step makes it needless.

    Args:
        base: a model, or what it is made of.
        run: what is wanted.
        hardware: what there is; by default what is found here.

    Raises:
        InputError: the model cannot be looked up.
    """
    if isinstance(base, Anatomy):
        anatomy = base
    else:
        from judge.classifier.sizing.sources import look_up

        anatomy = look_up(base).anatomy
    there = detected(measure=False) if hardware is None else hardware
    lowered = run
    for candidate in _lowered(run, there):
        lowered = candidate
        if fits(training_memory(anatomy, lowered, there)):
            lowered = _eased(anatomy, run, lowered, there)
            break
    memory = training_memory(anatomy, lowered, there)
    return Fit(lowered, memory, told(run, lowered), fits(memory))


def _lowered(run: Run, hardware: Hardware) -> Iterator[Run]:
    """The run itself, then ever smaller ones."""
    yield run
    together = 2 if run.form == "single" else 1
    while run.batch_tokens > together * run.max_length:
        run = replace(run, batch_tokens=max(run.batch_tokens // 2, together * run.max_length))
        yield run
    if not run.checkpointing:
        run = replace(run, checkpointing=True)
        yield run
    while run.max_length > _LEAST_LENGTH:
        run = _shorter(run, max(run.max_length // 2, _LEAST_LENGTH))
        yield run
    if hardware.count > 1 and can_share(run):
        shared = replace(run, fsdp=True)
        yield shared
        if run.full:
            run = shared
    if not run.full and hardware.cuda:
        for quantize in ("8bit", "4bit")[0 if run.quantize is None else 1 :]:
            run = replace(run, quantize=quantize, fsdp=False)
            yield run
    while run.lora_r > _LEAST_RANK:
        run = replace(run, lora_r=max(run.lora_r // 2, _LEAST_RANK))
        yield run


def can_share(run: Run) -> bool:
    """Whether weights can be shared out that are not yet: not those of few bits, nor of judges that
    write; gradients of shared weights that learn cannot be scaled, as float16 needs."""
    scaled = run.full and run.dtype == "float16"
    return not (run.fsdp or run.quantize or run.objective == "votes" or scaled)


def _shorter(run: Run, length: int) -> Run:
    together = 2 if run.form == "single" else 1
    return replace(run, max_length=length, batch_tokens=together * length)


def _eased(anatomy: Anatomy, wanted: Run, run: Run, hardware: Hardware) -> Run:
    """A run that fits with what was lowered for nothing taken back: length first, then batches,
    then checkpointing."""

    def room(candidate: Run) -> bool:
        return fits(training_memory(anatomy, candidate, hardware))

    together = 2 if run.form == "single" else 1
    while run.max_length < wanted.max_length:
        length = min(run.max_length * 2, wanted.max_length)
        longer = replace(
            run, max_length=length, batch_tokens=max(run.batch_tokens, together * length)
        )
        if not room(longer):
            break
        run = longer
    if run.checkpointing and not wanted.checkpointing:
        plain = replace(run, checkpointing=False)
        run = plain if room(plain) else run
    while run.batch_tokens < wanted.batch_tokens:
        larger = replace(run, batch_tokens=min(run.batch_tokens * 2, wanted.batch_tokens))
        if not room(larger):
            break
        run = larger
    return run


def told(before: Run, after: Run) -> tuple[str, ...]:
    """What was lowered, as options of `arena-judge finetune train`."""
    steps = []
    if after.batch_tokens != before.batch_tokens:
        steps.append(f"--batch-tokens {after.batch_tokens} in place of {before.batch_tokens}")
    if after.checkpointing and not before.checkpointing:
        steps.append("--checkpointing")
    if after.max_length != before.max_length:
        steps.append(f"--max-length {after.max_length} in place of {before.max_length}")
    if after.fsdp and not before.fsdp:
        steps.append("--fsdp")
    if after.quantize != before.quantize:
        steps.append(f"--quantize {after.quantize}")
    if after.lora_r != before.lora_r:
        steps.append(f"--lora-r {after.lora_r} in place of {before.lora_r}")
    return tuple(steps)
