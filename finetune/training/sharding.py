"""Weights that are shared out among processes (FSDP), so that none has to hold them all.

Where adapters learn, the frozen weights alone are shared out: adapters and head are small, and each
process keeps its own copy, as without sharing.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from finetune.training.processes import Processes
from judge.errors import InputError


def shard(model: nn.Module, processes: Processes, *, dtype: torch.dtype) -> None:
    """Shares out a model's weights layer by layer.

    Raises:
        InputError: the weights cannot be shared out.
    """
    if processes.count == 1:
        raise InputError("--fsdp is for several processes", mend="start it with torchrun")
    if dtype == torch.float16 and all(one.requires_grad for one in model.parameters()):
        # Each process would see by its own part alone whether gradients have overflowed.
        raise InputError(
            "all weights cannot learn in float16 with --fsdp",
            mend="take --dtype bfloat16 or --lora",
        )
    from torch.distributed.fsdp import fully_shard

    own: set[nn.Parameter] = set()
    if any(not one.requires_grad for one in model.parameters()):
        own = {one for one in model.parameters() if one.requires_grad}
    for part in _layers(model):
        fully_shard(part, ignored_params=own)
    # What is left whole after a forward pass would not be what is filled in afterwards.
    fully_shard(model, reshard_after_forward=True, ignored_params=own)


def _layers(model: nn.Module) -> list[nn.Module]:
    """The layers of a transformer: the members of its longest list of modules."""
    lists = [[*part] for part in model.modules() if isinstance(part, nn.ModuleList)]
    return max(lists, key=len, default=[])


def is_shared(tensor: Tensor) -> bool:
    """Whether this process holds a part only."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor; every process asks at once."""
    tensor = tensor.detach()
    return cast(Any, tensor).full_tensor() if is_shared(tensor) else tensor


def part_of(tensor: Tensor, like: Tensor) -> Tensor:
    """What this process holds of a whole tensor that is shared out as another is."""
    if not is_shared(like) or tensor.shape != like.shape:
        return tensor.to(like.device)
    from torch.distributed.tensor import distribute_tensor

    shared: Any = like
    moved = tensor.to(like.device)
    return cast(Tensor, distribute_tensor(moved, shared.device_mesh, shared.placements))
