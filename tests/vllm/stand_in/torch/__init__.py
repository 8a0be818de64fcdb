"""As much of torch as the worker asks: whether there is a GPU."""

import os
from types import SimpleNamespace


def _there() -> bool:
    bound = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    return bound.isdigit() and int(bound) < int(os.environ.get("STAND_IN_GPUS", "0"))


cuda = SimpleNamespace(
    is_available=_there,
    is_bf16_supported=lambda: True,
    get_device_name=lambda index: "stand-in GPU",
)
