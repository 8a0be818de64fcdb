"""What there is to run on: GPUs that are named or found, or this processor."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from judge.errors import InputError

GIB = 1 << 30
_FILE = "devices.yaml"
_MOST = 65536
# What CUDA, its libraries and the allocator's gaps take: bytes, and a share of the memory.
_CONTEXT, _GAPS = 0.6 * GIB, 0.04
# What Python, torch and transformers take on a processor, before any weights.
_PROCESS = 0.4 * GIB
# Shares of a processor's measured peak that training and judging have.
_SHARES = (0.45, 0.65)
# A GPU that is found and not known: taken for a slow one.
_UNKNOWN_TFLOPS = 60.0


@dataclass(frozen=True)
class Hardware:
    """One or more devices of a kind.

    Attributes:
        name: what they are called.
        count: how many.
        cuda: GPUs; else this processor.
        memory: bytes of each.
        half, single: the most operations a second in 16 and in 32 bits.
        bfloat16: whether bfloat16 is what it is fast in.
        training, judging: the shares of the peak that are taken to be had.
        link: bytes a second between two of them.
        origin: `named`, `found` or `measured`.
    """

    name: str
    count: int
    cuda: bool
    memory: float
    half: float
    single: float
    bfloat16: bool
    training: float
    judging: float
    link: float
    origin: str = "named"

    @property
    def reserve(self) -> float:
        """Bytes of each device that no tensor gets."""
        return _CONTEXT + _GAPS * self.memory if self.cuda else _PROCESS

    def dtype(self, *, training: bool) -> str:
        """The numbers that `auto` stands for here; see `judge.classifier.hardware.dtype_of`."""
        if self.cuda:
            return "bfloat16" if self.bfloat16 else "float16"
        return "bfloat16" if self.bfloat16 and not training else "float32"

    def peak(self, dtype: str) -> float:
        """Operations a second at most of one device."""
        return self.single if dtype == "float32" else self.half


def named(spec: str) -> Hardware:
    """GPUs by name, `A10G` or `T4:2`.

    Raises:
        InputError: there is none of the name, or a count that cannot be.
    """
    name, _, number = spec.partition(":")
    known = _table()
    plain = {_plain(one["name"]): one for one in known}
    plain |= {_plain(f"{one['name']}GB"): one for one in known}
    found = plain.get(_plain(name)) or next(
        (one for key, one in plain.items() if key.endswith(_plain(name)) and len(name) > 3), None
    )
    if found is None:
        near = get_close_matches(_plain(name), list(plain), n=1)
        names = ", ".join(one["name"] for one in known)
        mend = f"did you mean {plain[near[0]]['name']}?" if near else f"known are {names}"
        raise InputError(f"no known GPU {name!r}", mend=mend)
    count = int(number) if number.isascii() and number.isdigit() and len(number) < 7 else 0
    if number and not 1 <= count <= _MOST:
        raise InputError(f"{spec!r} is no GPU and count", mend=f"write {found['name']}:2")
    return _known(found, count or 1, found["memory"] * GIB, "named")


def detected(*, measure: bool = True) -> Hardware:
    """The GPUs of this machine, or its processor.

    Args:
        measure: how fast the processor is; else its speed is nought.
    """
    gpus = _gpus()
    if not gpus:
        return processor(measure=measure)
    name = gpus[0][0]
    alike = [memory for one, memory in gpus if one == name]
    return driven(name, len(alike), min(alike))


def driven(called: str, count: int, memory: float) -> Hardware:
    """GPUs as their driver calls them, of so many bytes each; those that are not known are taken
    for slow ones."""
    found = _recognised(called)
    if found is not None:
        return _known(found, count, memory, "found")
    peak = _UNKNOWN_TFLOPS * 1e12
    return Hardware(called, count, True, memory, peak, peak / 4, True, 0.3, 0.4, 10e9, "found")


def processor(*, measure: bool = True) -> Hardware:
    """This machine's processor."""
    single, half = _multiplied() if measure else (0.0, 0.0)
    training, judging = _SHARES
    return Hardware(
        "CPU", 1, False, _memory(), half, single, half > single, training, judging, 1e9, "measured"
    )


def peak_of(called: str, dtype: str) -> float | None:
    """Operations a second at most of a GPU as its driver calls it; None where it is not known."""
    found = _recognised(called)
    return None if found is None else _known(found, 1, 0.0, "found").peak(dtype)


def multiplied(dtype: str, side: int = 1024, seconds: float = 0.15) -> float:
    """Operations a second of this processor at multiplying matrices by torch; the best of some."""
    import torch

    with torch.no_grad():
        one = torch.ones(side, side, dtype=getattr(torch, dtype))
        return _best(lambda: one @ one, side, seconds)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("nvidia", "").replace("geforce", ""))


def _known(one: dict[str, Any], count: int, memory: float, origin: str) -> Hardware:
    return Hardware(
        name=str(one["name"]),
        count=count,
        cuda=True,
        memory=float(memory),
        half=float(one["half"]) * 1e12,
        single=float(one["single"]) * 1e12,
        bfloat16=bool(one["bfloat16"]),
        training=float(one["training"]),
        judging=float(one["judging"]),
        link=float(one["link"]) * 1e9,
        origin=origin,
    )


@cache
def _table() -> tuple[dict[str, Any], ...]:
    import yaml

    text = (resources.files(__package__) / _FILE).read_text(encoding="utf-8")
    return tuple(yaml.safe_load(text)["gpus"])


def _recognised(name: str) -> dict[str, Any] | None:
    """The GPU that a driver's name is of: the one with the longest match."""
    words = re.findall(r"[a-z0-9]+", name.lower())

    def length(part: str) -> int:
        wanted = re.findall(r"[a-z0-9]+", part.lower())
        places = range(len(words) - len(wanted) + 1)
        return len(part) if any(words[p : p + len(wanted)] == wanted for p in places) else 0

    best = max(_table(), key=lambda one: max(map(length, one["called"])))
    return best if max(map(length, best["called"])) else None


def _gpus() -> list[tuple[str, float]]:
    """Names and bytes of the GPUs here, as the driver has them; without torch, which is slow."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = ["--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run([tool, *query], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    found = []
    for line in done.stdout.splitlines():
        name, _, memory = line.rpartition(",")
        if memory.strip().isdigit():
            # Some hundreds of MiB are the driver's.
            found.append((name.strip(), int(memory) * 2**20 * 0.985))
    return found if done.returncode == 0 else []


def _memory() -> float:
    """Bytes of memory that this process may have: the machine's, or its container's."""
    import os

    sizes = []
    try:
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        sizes.append(8 * GIB)
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(file, encoding="ascii") as stream:
                text = stream.read().strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text.isdigit():
            sizes.append(int(text))
    return float(min(sizes))


def free_memory() -> float:
    """Bytes of memory that this process can still have: what the machine has left, or its
    container; all there is where that is not known."""
    sizes = [_memory()]
    with (
        suppress(OSError, ValueError, LookupError),
        open("/proc/meminfo", encoding="ascii") as file,
    ):
        told = dict(line.split(":", 1) for line in file)
        sizes.append(int(told["MemAvailable"].split()[0]) * 1024.0)
    folder = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):
        limit = int((folder / "memory.max").read_text(encoding="ascii"))
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        # Files that were read are let go of when memory is short.
        told = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        sizes.append(float(limit - used + int(told.get("inactive_file", 0))))
    return max(min(sizes), 0.0)


def _multiplied(side: int = 1024, seconds: float = 0.15) -> tuple[float, float]:
    """Operations a second of this processor at multiplying matrices, in 32 and in 16 bits; those
    by torch, where it is installed and the processor has instructions for them."""
    import numpy as np

    one = np.ones((side, side), dtype=np.float32)
    single = _best(lambda: one @ one, side, seconds)
    from importlib.util import find_spec

    if find_spec("torch") is None:
        return single, single
    from judge.classifier.hardware import cpu_has_bfloat16

    single = max(single, multiplied("float32", side, seconds))
    if not cpu_has_bfloat16():
        return single, single
    return single, multiplied("bfloat16", side, seconds)


def _best(multiply: Any, side: int, seconds: float) -> float:
    multiply()
    best, ends = 0.0, time.perf_counter() + seconds
    while True:
        started = time.perf_counter()
        multiply()
        now = time.perf_counter()
        best = max(best, 2.0 * side**3 / max(now - started, 1e-9))
        if now >= ends:
            return best
