"""Several processes that train one judge together, as torchrun and accelerate start them.

Each works through its part of every step's battles; gradients are summed and divided by the weight
of all, so that so many processes learn what one would, to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from judge.errors import InputError

# Gradients that travel together, in elements.
_BUCKET = 1 << 24


@dataclass(frozen=True)
class Processes:
    """This one among them."""

    rank: int = 0
    count: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the one that speaks and writes."""
        return self.rank == 0

    def summed(self, tensor: Tensor) -> Tensor:
        """The sum of what all have."""
        if self.count > 1:
            from torch import distributed

            device = tensor.device
            if distributed.get_backend() == "nccl":
                tensor = tensor.cuda()
            distributed.all_reduce(tensor)
            tensor = tensor.to(device)
        return tensor

    def sum(self, *numbers: float) -> list[float]:
        """The sums of numbers that all have."""
        if self.count == 1:
            return list(numbers)
        found: list[float] = self.summed(torch.tensor(numbers, dtype=torch.float64)).tolist()
        return found

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Gives each the sum of all processes' gradients; one without is 0. Of what is shared out
        (see `finetune.training.sharding`) they have been summed."""
        if self.count == 1:
            return
        alone = [one for one in parameters if not hasattr(one, "full_tensor")]
        for bucket in _buckets(alone):
            flat = torch.cat([one.reshape(-1) for one in bucket])
            flat = self.summed(flat)
            for one, part in zip(
                bucket, torch.split(flat, [g.numel() for g in bucket]), strict=True
            ):
                one.copy_(part.view_as(one))

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            from torch import distributed

            distributed.barrier()


ALONE = Processes()


def _buckets(parameters: Iterable[torch.nn.Parameter]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for one in parameters:
        if one.grad is None:
            one.grad = torch.zeros_like(one)
        if bucket and (
            sum(g.numel() for g in bucket) + one.numel() > _BUCKET
            or bucket[0].dtype != one.grad.dtype
        ):
            yield bucket
            bucket = []
        bucket.append(one.grad)
    if bucket:
        yield bucket


def started() -> int:
    """How many processes were started together."""
    said = os.environ.get("WORLD_SIZE", "")
    return max(int(said), 1) if said.isascii() and said.isdigit() else 1


@contextmanager
def joined(device: str | None = None) -> Iterator[Processes]:
    """This process among those that were started with it; alone where none were.

    Args:
        device: where they train; by default a GPU each, where there are any.

    Raises:
        InputError: there are fewer GPUs than processes.
    """
    if started() < 2:
        yield ALONE
        return
    from torch import distributed

    local = int(os.environ.get("LOCAL_RANK", "0"))
    cuda = torch.cuda.is_available() and device in (None, "cuda")
    if cuda:
        found = torch.cuda.device_count()
        if local >= found:
            raise InputError(
                f"there are more processes than the {found} GPUs here",
                mend="lower --nproc-per-node, or train with --device cpu",
            )
        torch.cuda.set_device(local)
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size(), local)
    finally:
        distributed.destroy_process_group()
