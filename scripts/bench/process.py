"""Whole processes, measured: how long `arena-judge` takes from start to end, and its memory.

Run as a program it starts `arena-judge` with its own arguments and prints what it measured.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

COMMAND = Path(sys.executable).with_name("arena-judge")


@dataclass(frozen=True)
class Run:
    """A process that ended well: wall-clock seconds, and the most memory it held, in bytes."""

    seconds: float
    peak: int


def arena_judge(*arguments: str) -> Run:
    """Runs `arena-judge` once.

    A process begins with its parent's memory as its peak, so a small one stands between.

    Raises:
        SystemExit: it failed; its messages are passed on.
    """
    between = subprocess.run(
        [sys.executable, "-S", __file__, *arguments], capture_output=True, text=True, check=False
    )
    if between.returncode != 0:
        raise SystemExit(f"arena-judge {' '.join(arguments)}: {between.stderr.strip()}")
    return Run(**json.loads(between.stdout))


def _measured(arguments: list[str]) -> Run:
    started = time.perf_counter()
    child = subprocess.Popen([COMMAND, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(child.returncode)
    return Run(seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


if __name__ == "__main__":
    print(json.dumps(asdict(_measured(sys.argv[1:]))))
