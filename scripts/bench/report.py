"""What the benchmarks print: Markdown tables, and the machine that they were measured on."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("arena-judge", "numpy", "pandas", "pyarrow", "scipy", "scikit-learn", "lightgbm")


def options(description: str | None) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes; the description is a module's docstring."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("../shared/data"),
        metavar="FOLDER",
        help="the folder with arena_train.parquet and arena_dev.csv (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of all that is drawn (default: %(default)s)"
    )
    parser.add_argument(
        "--least",
        type=int,
        default=5,
        metavar="N",
        help="a peer's words and pairs of words are in this many texts (default: %(default)s)",
    )
    return parser


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column to the left, numbers to the right."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def setting(module: str) -> str:
    """Where and how this run was made: a line each for the command, machine and versions."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    lines = [
        f"command: `python -m {module} {shlex.join(sys.argv[1:])}".rstrip() + "`",
        f"machine: {_processor()}, {cores} cores, {_memory()}, {platform.system()}",
        f"Python {platform.python_version()}; {', '.join(_versions())}",
        f"measured: {datetime.now(UTC):%Y-%m-%d}",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _versions() -> list[str]:
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    names = [_field(line) for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _memory() -> str:
    sizes = [_field(line) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    return f"{int(sizes[0].split()[0]) / 2**20:.0f} GiB" if sizes else "memory unknown"


def _field(line: str) -> str:
    return line.partition(":")[2].strip()


def _lines(file: str) -> list[str]:
    try:
        return Path(file).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
