"""How fast a device could be, and which share of that training has."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

# Dense bf16 / fp16 peaks with 32-bit sums, in TFLOP/s, by the makers' data sheets.
_PEAKS = (
    ("B200", 2250.0),
    ("H200", 989.0),
    ("H100 PCIe", 756.0),
    ("H100 NVL", 835.0),
    ("H100", 989.0),
    ("H20", 148.0),
    ("GH200", 989.0),
    ("A100", 312.0),
    ("A800", 312.0),
    ("A40", 149.7),
    ("A30", 165.0),
    ("A10G", 70.0),
    ("A10", 125.0),
    ("L40S", 362.0),
    ("L40", 181.0),
    ("L4", 121.0),
    ("RTX 6000 Ada", 364.0),
    ("RTX A6000", 154.8),
    ("RTX 5090", 209.5),
    ("RTX 4090", 165.2),
    ("RTX 4080", 97.5),
    ("RTX 3090", 71.0),
    ("V100", 125.0),
    ("T4", 65.0),
    ("MI300X", 1307.0),
    ("MI250X", 383.0),
)
_SIDE = 512


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """What a device can do in a second: by a table for GPUs; a processor is measured at
    multiplying matrices. None where it is not known."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        known = next((peak for part, peak in _PEAKS if part in name), None)
        if known is None:
            return None
        # In 32 bits the best is TF32's, half of it.
        return known * 1e12 / (2 if dtype == torch.float32 else 1)
    return _measured(dtype) if device.type == "cpu" else None


def _measured(dtype: torch.dtype, seconds: float = 0.1) -> float:
    """The best of some multiplications of matrices, in floating-point operations a second."""
    one = torch.randn(_SIDE, _SIDE).to(dtype)
    best, ends = 0.0, time.perf_counter() + seconds
    with torch.no_grad():
        one @ one
        while time.perf_counter() < ends:
            started = time.perf_counter()
            for _ in range(4):
                one @ one
            best = max(best, 4 * 2 * _SIDE**3 / (time.perf_counter() - started))
    return best


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
