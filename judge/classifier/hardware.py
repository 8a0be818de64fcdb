"""Which devices a network runs on, and in which numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from judge.errors import ArenaJudgeError, InputError

if TYPE_CHECKING:
    import torch

DTYPES = ("auto", "float32", "bfloat16", "float16")
_SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def needed(package: str) -> None:
    """Sees to it that a package of the extra `finetune` is there.

    Raises:
        ArenaJudgeError: it is not.
    """
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise ArenaJudgeError(
            f"fine-tuned judges need {package}, which is not installed; "
            "pip install 'arena-judge[finetune]'"
        )


def devices_of(names: Sequence[str] = ()) -> list[torch.device]:
    """The devices that are named, or all GPUs there are, or the processor.

    Raises:
        InputError: one is none, or is not here.
    """
    import torch

    if not names:
        if torch.cuda.is_available():
            return [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
        return [torch.device("mps" if torch.backends.mps.is_available() else "cpu")]
    return [_device(name) for name in names]


def _device(name: str) -> torch.device:
    import torch

    mend = "write cpu, cuda, cuda:0 or mps"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"{name!r} is no device", mend=mend) from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise InputError(f"there is no {name}", mend=f"there are {count} GPUs here")
        return torch.device("cuda", device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("there is no mps", mend=mend)
    if device.type not in ("cpu", "mps"):
        raise InputError(f"{name!r} is no device that judges run on", mend=mend)
    return device


def dtype_of(name: str, device: torch.device, *, training: bool = False) -> torch.dtype:
    """The numbers that a name asks for; `auto` is what the device is fast in.

    That is bfloat16 where a GPU or, without training, a processor has instructions for it, else
    float16 on GPUs and float32 on processors.

    Raises:
        InputError: no such numbers.
    """
    import torch

    name = _SHORT.get(name, name)
    if name not in DTYPES:
        raise InputError(f"{name!r} is no dtype", mend=f"it is one of {', '.join(DTYPES)}")
    if name != "auto":
        found: torch.dtype = getattr(torch, name)
        return found
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device)[0] >= 8
        return torch.bfloat16 if native else torch.float16
    if device.type == "cpu" and not training and cpu_has_bfloat16():
        return torch.bfloat16
    return torch.float32


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 by itself; elsewhere it is slower than float32."""
    import torch

    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    names = ("avx512_bf16", "amx_bf16", "amx_tile", "sve_bf16", "bf16")
    return any(bool(known.get(name)) for name in names)
