"""From gradients to weights: who learns how fast, the schedule, the numbers computed in, the
running mean of the weights."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from finetune.settings.config import OptimisationConfig
from finetune.training.sharding import whole

_LAYER = re.compile(r"\.(?:layers?|h|blocks?)\.(\d+)\.")


@dataclass(frozen=True)
class Group:
    """Parameters that learn alike.

    Attributes:
        names: theirs, in the model's order.
        rate: their learning rate, as a multiple of the run's.
        decay: whether they are pulled towards 0.
    """

    names: tuple[str, ...]
    rate: float
    decay: bool


def groups_of(model: nn.Module, config: OptimisationConfig) -> list[Group]:
    """What is trained, by how fast it learns.

    Matrices decay; biases, scales and other vectors do not. The head learns faster; with a layer
    decay below 1 the top layer learns at the full rate, and each one below it, and the embeddings
    at last, at that share of the one above.
    """
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    places = {name: _layer(name) for name in trained}
    top = 1 + max((place for place in places.values() if place is not None), default=-1)
    found: dict[tuple[float, bool], list[str]] = {}
    for name, one in trained.items():
        if name.startswith("head."):
            rate = config.head_lr
        else:
            rate = config.layer_decay ** _depth(name, places[name], top)
        found.setdefault((rate, one.ndim > 1), []).append(name)
    return [Group(tuple(names), rate, decay) for (rate, decay), names in found.items()]


def _layer(name: str) -> int | None:
    match = _LAYER.search(f".{name}")
    return int(match.group(1)) if match else None


def _depth(name: str, layer: int | None, top: int) -> int:
    """How many layers are above a parameter."""
    if layer is not None:
        return top - 1 - layer
    return top if "emb" in name else 0


def make_optimizer(model: nn.Module, config: OptimisationConfig, lr: float) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) over the groups; each keeps its multiple under `rate`."""
    named = dict(model.named_parameters())
    groups = [
        {
            "params": [named[name] for name in group.names],
            "lr": lr * group.rate,
            "rate": group.rate,
            "weight_decay": config.weight_decay if group.decay else 0.0,
        }
        for group in groups_of(model, config)
    ]
    device = next(iter(named.values())).device
    shared = any(hasattr(one, "full_tensor") for one in named.values())
    return torch.optim.AdamW(
        groups,
        lr=lr,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=device.type in ("cpu", "cuda") and not shared,
    )


def schedule(step: int, steps: int, config: OptimisationConfig) -> float:
    """The learning rate of a step, from 0, as a share of the highest: rising in a line, then
    falling in half a cosine to `final_lr`."""
    warm = config.warmup * steps
    if step < warm:
        return (step + 1) / (warm + 1)
    share = min((step - warm) / max(steps - warm, 1), 1.0)
    return config.final_lr + (1 - config.final_lr) * (1 + math.cos(math.pi * share)) / 2


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Gives each group its multiple of a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["rate"]


class Precision:
    """The numbers that a model computes in while its weights stay in 32 bits.

    Args:
        dtype: float32, bfloat16, or float16, whose gradients are scaled so that small ones are not
            lost; a step whose gradients overflow is left out and the scale halved.
        device: the model's.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self._device = dtype, device
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    def autocast(self) -> AbstractContextManager[Any]:
        """Within it, what is safe to be is computed in fewer bits."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self._device.type, self.dtype)

    def state(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        kept: dict[str, Any] = self.scaler.state_dict()
        return {name: float(value) for name, value in kept.items()}

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from what a checkpoint kept."""
        if state:
            whole = {"growth_interval", "_growth_tracker"}
            found = {name: int(v) if name in whole else float(v) for name, v in state.items()}
            self.scaler.load_state_dict(found)


class RunningMean:
    """An exponential running mean of the weights that are trained.

    Args:
        model: whose.
        decay: what stays of the mean at each step; at the beginning less, so that the first
            weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._weights = dict(trained(model))
        self.means = {name: one.detach().clone() for name, one in self._weights.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after a step, from 1."""
        decay = min(self.decay, step / (step + 9))
        means, weights = [*self.means.values()], [one.detach() for one in self._weights.values()]
        torch._foreach_lerp_(means, weights, 1 - decay)

    @torch.no_grad()
    def exchange(self) -> None:
        """Puts the means where the weights are, and keeps the weights; and back."""
        for name, one in self._weights.items():
            kept = one.detach().clone()
            one.copy_(self.means[name])
            self.means[name].copy_(kept)


def trained(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that learn, by name."""
    return ((name, one) for name, one in model.named_parameters() if one.requires_grad)


def clipped(parameters: list[nn.Parameter], most: float) -> Tensor:
    """The norm of all gradients; those of a larger one than `most` are shortened to it."""
    return whole(nn.utils.clip_grad_norm_(parameters, most or math.inf))
