"""How fast a device could be, and which share of that training has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """What a device can do in a second: by `doctor`'s table for GPUs; a processor is measured at
    multiplying matrices. None where it is not known."""
    from judge.classifier.sizing.devices import multiplied, peak_of

    name = str(dtype).removeprefix("torch.")
    if device.type == "cuda":
        return peak_of(torch.cuda.get_device_name(device), name)
    return multiplied(name) if device.type == "cpu" else None


@dataclass(frozen=True)
class Effort:
    """What training takes, in floating-point operations: for a token, and for a token and each that
    it looks at."""

    token: float
    pair: float

    def of(self, tokens: int, looks: float) -> float:
        """For so many tokens, of which each looks at `looks` others on average."""
        return tokens * (self.token + self.pair * looks)


def effort_of(model: nn.Module) -> Effort:
    """What a forward and a backward pass take: 2 operations a weight of a matrix and token forward,
    2 backward for the states and 2 more for the weights where these learn (Kaplan et al. 2020,
    appendix B; Chowdhery et al. 2022, appendix B). Layers that are worked through again to save
    memory do not count."""
    matrices = learning = 0
    for name, one in model.named_parameters():
        if one.ndim < 2 or "emb" in name:
            continue
        matrices += one.numel()
        learning += one.numel() if one.requires_grad else 0
    backbone = getattr(model, "backbone", model)
    config: Any = cast(Any, backbone).config.get_text_config()
    looking = 12.0 * config.num_hidden_layers * config.hidden_size
    return Effort(4.0 * matrices + 2.0 * learning, looking)


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process has held, on a GPU or altogether."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import resource
    import sys

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most if sys.platform == "darwin" else most * 1024)
