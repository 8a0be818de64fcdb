"""How long leaks take to find: 57,000 battles among 57,000 others, and the memory that takes.

    python -m scripts.bench.leaks [--battles 57000] [--data FOLDER]

The battles are those of `arena_train.parquet` over and over, each copy with words of its own put
in, so that none is another's near-duplicate; of those looked for, half are in the file that was
learned from, a quarter of them swapped and a quarter with small edits.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from judge.battles import iter_battles, read_battles
from judge.comparing.leaks import find_leaks, seen_of
from judge.comparing.marks import battle_marks, joined
from judge.comparing.near import Kind
from judge.parallel import ordered_map

TEXTS = ["prompt", "response_a", "response_b"]
LEARNED, ASKED = "learned.parquet", "asked.parquet"


def battles(source: pd.DataFrame, first: int, count: int) -> pd.DataFrame:
    """Battles `first` to `first + count`; the same number is the same battle."""
    rows = []
    for n in range(first, first + count):
        base = source.iloc[n % len(source)]
        own = "".join(chr(ord("a") + int(digit)) for digit in str(n))
        row = {"id": str(n), "winner": "a"}
        for name in TEXTS:
            words = f"Of {own} and {base[name][0]}".split(" ")
            words[::2] = [f"{word}{own}" for word in words[::2]]
            row[name] = " ".join(words)
        rows.append(row)
    return pd.DataFrame(rows)


def disguised(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """A quarter swapped, a quarter with two words changed in each response."""
    way = rng.integers(4, size=len(table))
    table = table.copy()
    a, b = table["response_a"].copy(), table["response_b"].copy()
    table["response_a"], table["response_b"] = a.where(way != 0, b), b.where(way != 0, a)
    for name in ("response_a", "response_b"):
        edited = []
        for text, how in zip(table[name], way.tolist(), strict=True):
            words = text.split(" ")
            if how == 1:
                for place in rng.integers(len(words), size=2).tolist():
                    words[place] = "edited"
            edited.append(" ".join(words))
        table[name] = edited
    return table


def main() -> None:
    """Writes the battles, then measures in a process that did not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), metavar="FOLDER")
    parser.add_argument("--battles", type=int, default=57_000, metavar="N")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--in", dest="folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    half = options.battles // 2
    if options.folder is not None:
        measure(options.folder, half, options.workers)
        return
    source = read_battles(options.data / "arena_train.parquet")
    # Words are what is changed, and a script without spaces has none.
    plain = [all(text.isascii() for text in row) for row in source[TEXTS].map("".join).to_numpy()]
    source = source.iloc[np.flatnonzero(plain)]
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        learned = battles(source, 0, options.battles)
        learned.to_parquet(Path(folder) / LEARNED, row_group_size=4096)
        more = battles(source, options.battles, options.battles - half)
        asked = pd.concat([disguised(battles(source, 0, half), rng), more])
        asked.to_parquet(Path(folder) / ASKED, row_group_size=4096)
        # A process begins with its parent's memory as its peak, so a small one stands between.
        command = [sys.executable, __file__, *sys.argv[1:], "--in", folder]
        between = "import subprocess, sys; subprocess.run(sys.argv[1:], check=True)"
        subprocess.run([sys.executable, "-S", "-c", between, *command], check=True)


def measure(folder: Path, half: int, workers: int) -> None:
    """What it took, and whether what is found is what there is."""
    started = time.perf_counter()
    seen = seen_of(folder / LEARNED, workers=workers)
    print(f"marks of {len(seen):,} battles learned from: {time.perf_counter() - started:.1f} s")
    started = time.perf_counter()
    marks = joined(list(ordered_map(battle_marks, iter_battles(folder / ASKED), workers)))
    print(f"marks of {len(marks):,} battles to compare on: {time.perf_counter() - started:.1f} s")
    started = time.perf_counter()
    leaks = find_leaks("judge", marks, seen)
    print(f"found among one another: {time.perf_counter() - started:.1f} s")
    counts = {kind.name.lower(): int(leaks.of(kind)[:half].sum()) for kind in Kind}
    print(f"of {half:,} that are there: {counts}")
    print(f"of the others: {int(leaks.learned[half:].sum())} taken for leaks")
    unit = 1 if sys.platform == "darwin" else 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    print(f"most memory: {most / 2**20:,.0f} MiB")


if __name__ == "__main__":
    main()
