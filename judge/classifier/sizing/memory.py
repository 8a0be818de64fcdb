"""How much memory training and judging take, part by part, on each device.

memory = training_memory(anatomy, Run(lora_r=16, checkpointing=True), hardware)
memory.total, memory.parts
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from judge.classifier.sizing.activations import kept, passing
from judge.classifier.sizing.anatomy import Anatomy
from judge.classifier.sizing.devices import Hardware
from judge.classifier.sizing.runs import Run

# Bytes of a weight of a linear layer in NF4 with double quantisation: 4 bits, 8 for every 64, and
# 32 for every 256 of these (Dettmers et al. 2023, arXiv 2305.14314, section 3).
_FOUR = (4 + 8 / 64 + 32 / (64 * 256)) / 8
# In 8 bits: one byte, and a float32 for each output (Dettmers et al. 2022, arXiv 2208.07339).
_EIGHT = 1.0
_ADAM = 8  # two float32 a weight that learns
_TRAINED = 4  # weights that learn, and their gradients, are float32


@dataclass(frozen=True)
class Memory:
    """Bytes on each device.

    Attributes:
        parts: what takes how many; each is there when most is taken.
        available: what the device has; 0 where that is not known.
    """

    parts: dict[str, float]
    available: float

    @property
    def total(self) -> float:
        """All parts together."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether the device has as much."""
        return self.total <= self.available

    @property
    def spare(self) -> float:
        """What is left, or below nought what is missing."""
        return self.available - self.total


def weight_bytes(anatomy: Anatomy, run: Run, size: int) -> float:
    """Of the model's weights, as they are held; `votes` has a head over the vocabulary too."""
    plain = anatomy.embeddings + anatomy.rest
    if run.objective == "votes":
        plain += anatomy.lm_head
    return plain * size + _linear_bytes(anatomy, run.quantize, size)


def _linear_bytes(anatomy: Anatomy, quantize: str | None, size: int) -> float:
    if quantize is None:
        return float(anatomy.linear * size)
    biases = anatomy.linear - anatomy.multiplied
    if quantize == "4bit":
        return anatomy.multiplied * _FOUR + biases * size
    rows = anatomy.layers * sum(one.outputs for one in anatomy.linears)
    return anatomy.multiplied * _EIGHT + 4.0 * rows + biases * size


def trainable(anatomy: Anatomy, run: Run) -> int:
    """Parameters that learn: all, or the adapters; and a linear head for three outcomes."""
    head = 3 * anatomy.hidden + 3 if run.objective == "preference" else 0
    if run.full:
        return anatomy.backbone + (anatomy.lm_head if run.objective == "votes" else 0) + head
    return anatomy.lora(run.lora_r, run.lora_targets) + head


def training_memory(anatomy: Anatomy, run: Run, hardware: Hardware) -> Memory:
    """What each device holds when a training step holds most.

    That is in the backward pass of the longest batch, when gradients of an earlier one are there.
    """
    learning = trainable(anatomy, run)
    shards = hardware.count if run.fsdp else 1
    held = weight_bytes(anatomy, run, _TRAINED if run.full else run.size)
    parts = {"weights": held / shards}
    if run.fsdp and hardware.count > 1:
        # One block at work and the next one on its way, whole.
        parts["weights"] += 2 * held / max(anatomy.layers, 1)
    if run.full and run.size < 4:
        # Autocast keeps short copies of the weights of linear layers for the backward pass; with
        # checkpointing those of a block.
        blocks = 1 if run.checkpointing or run.fsdp else anatomy.layers
        parts["short copies"] = 2.0 * blocks * anatomy.block
    if not run.full:
        parts["adapters"] = float(_TRAINED * learning) / shards
    parts["gradients"] = float(_TRAINED * learning) / shards
    parts["optimiser"] = float(_ADAM * learning) / shards
    if run.ema:
        parts["running mean"] = float(_TRAINED * learning) / shards
    parts |= _activations(anatomy, run, cuda=hardware.cuda)
    if run.objective == "votes":
        parts["logits"] = _logits(anatomy, run)
    if not hardware.cuda:
        parts["gaps"] = _gaps(run) * (parts["activations"] + parts["workspace"])
    parts["reserve"] = hardware.reserve
    return Memory(parts, hardware.memory)


def _gaps(run: Run) -> float:
    """What glibc's allocator does not give back on a processor, as a share of what comes and goes:
    chosen on the ten runs of scripts/bench/doctor_memory.py, so rough elsewhere.

    The adapters' many small tensors part free memory; MALLOC_MMAP_THRESHOLD_=1048576 in the
    environment does away with it."""
    if os.environ.get("MALLOC_MMAP_THRESHOLD_"):
        return 0.05
    if run.full:
        return 0.45
    return 3.0 if run.checkpointing else 0.9


def _activations(anatomy: Anatomy, run: Run, *, cuda: bool) -> dict[str, float]:
    """What is kept for the backward pass, and what comes and goes in it."""
    tokens, size = float(run.pass_tokens), run.size
    adapted = None if run.full else anatomy.adapted(run.lora_targets)
    keep = kept(anatomy, size, adapted=adapted, r=run.lora_r, cuda=cuda)
    block = tokens * (keep.token + keep.pair * run.max_length) + keep.block
    if run.checkpointing:
        # What goes into each block, and all of the one that is at work.
        states = tokens * anatomy.hidden * (4 if run.full else size)
        activations = anatomy.layers * states + block
    else:
        activations = anatomy.layers * block
    token, pair = passing(anatomy, size, training=True)
    work = tokens * (token + pair * run.max_length)
    if run.quantize is not None:
        # The largest layer's weights as they are computed with.
        work += size * max(one.parameters for one in anatomy.linears)
    return {"activations": activations + tokens * keep.ends, "workspace": work}


def _logits(anatomy: Anatomy, run: Run) -> float:
    """Scores over the vocabulary with their gradients, and the same in float32."""
    return float(run.pass_tokens) * anatomy.vocabulary * (2 * run.size + 8) * _REPLY


# Share of a ballot's tokens that are the reply, on which alone there is a loss.
_REPLY = 0.15


def judging_memory(anatomy: Anatomy, run: Run, hardware: Hardware) -> Memory:
    """What each device holds when it judges; nothing is kept of a token for another one."""
    tokens, size = float(run.pass_tokens), run.size
    parts = {"weights": weight_bytes(anatomy, run, size)}
    if run.objective == "votes":
        parts["keys and values"] = tokens * kv_bytes(anatomy, size)
    token, pair = passing(anatomy, size, training=False)
    parts["activations"] = tokens * (token + pair * run.max_length)
    if run.quantize is not None:
        parts["activations"] += size * max(one.parameters for one in anatomy.linears)
    parts["reserve"] = hardware.reserve
    return Memory(parts, hardware.memory)


def kv_bytes(anatomy: Anatomy, size: int) -> float:
    """Of the keys and values of one token in all blocks."""
    return 2.0 * anatomy.layers * anatomy.kv_heads * anatomy.head_dim * size
