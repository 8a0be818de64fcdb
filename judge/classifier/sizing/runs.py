"""What is to be run, as far as memory and time hang on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from judge.errors import InputError

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
QUANTIZED = ("8bit", "4bit")
OBJECTIVES = ("preference", "votes")
ALL = "all-linear"


@dataclass(frozen=True)
class Run:
    """A run of training.

    Attributes:
        base: the model, as it is called on the command line.
        objective: `preference` or `votes`.
        form: `pair` or `single`.
        max_length: the most tokens of a sequence.
        batch_tokens: tokens of a pass, on each device.
        step_tokens: tokens of a step, on all devices and over all passes.
        checkpointing: layers are worked through again in the backward pass.
        quantize: how the base's weights are held: None, `8bit` or `4bit`.
        lora_r: the adapters' rank; 0 where all weights learn.
        lora_targets: the layers with adapters.
        dtype: of what is computed.
        epochs: times through the battles.
        fsdp: weights, gradients and the optimiser's states are shared out over devices.
        ema: a running mean of the weights is kept.
    """

    base: str = ""
    objective: str = "preference"
    form: str = "pair"
    max_length: int = 1024
    batch_tokens: int = 8192
    step_tokens: int = 8192
    checkpointing: bool = False
    quantize: str | None = None
    lora_r: int = 16
    lora_targets: str | tuple[str, ...] = ALL
    dtype: str = "bfloat16"
    epochs: float = 1.0
    fsdp: bool = False
    ema: bool = False

    def __post_init__(self) -> None:
        """
        Raises:
            InputError: values that cannot be, or not together.
        """
        for name, allowed in (("dtype", tuple(BYTES)), ("objective", OBJECTIVES)):
            _one_of(name, getattr(self, name), allowed)
        _one_of("form", self.form, ("pair", "single"))
        if self.quantize is not None:
            _one_of("quantize", self.quantize, QUANTIZED)
        if self.max_length < 8 or self.batch_tokens < 1 or self.lora_r < 0 or self.epochs < 0:
            raise InputError("a length, a batch or a rank cannot be", mend="write a larger one")
        if self.full and self.quantize is not None:
            raise InputError(
                "weights of 8 or 4 bits cannot learn", mend="take adapters, or leave --quantize out"
            )

    @property
    def full(self) -> bool:
        """Whether all weights learn."""
        return self.lora_r == 0

    @property
    def size(self) -> int:
        """Bytes of a number that is computed with."""
        return BYTES[self.dtype]

    @property
    def pass_tokens(self) -> int:
        """Tokens of a pass: a batch, no more than a step; or the longest sequences that must go
        together."""
        together = 2 if self.form == "single" else 1
        return max(min(self.batch_tokens, self.step_tokens), together * self.max_length)

    def settings(self) -> dict[str, dict[str, Any]]:
        """The same as the tree that `arena-judge finetune train --config` reads."""
        lora: dict[str, Any] = {"lora": not self.full}
        if not self.full:
            lora["r"] = self.lora_r
            if self.lora_targets != ALL:
                lora["targets"] = list(self.lora_targets)
        model: dict[str, Any] = {"base": self.base} if self.base else {}
        model |= {"form": self.form, "max_length": self.max_length, "quantize": self.quantize}
        return {
            "model": model,
            "lora": lora,
            "optimisation": {
                "objective": self.objective,
                "epochs": self.epochs,
                "step_tokens": self.step_tokens,
            },
            "run": {
                "dtype": self.dtype,
                "batch_tokens": self.batch_tokens,
                "checkpointing": self.checkpointing,
                "fsdp": self.fsdp,
            },
        }


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InputError(f"{value!r} is no {name}", mend=f"it is one of {', '.join(allowed)}")
