"""Near-duplicates among 57,000 battles: how long, how much memory, and how many of those that were
planted are found, beside datasketch's MinHash and its index in the same run.

    python -m scripts.bench.near [--battles 57000] [--data FOLDER] [--workers 2]

The battles are real ones over and over, each copy with words of its own put in, so that none is
another's near-duplicate (see `scripts.bench.leaks`). A tenth is planted: copies of earlier ones, a
third of them swapped and nothing else, the others with some words changed in each response, one in
fifty and at least one, half of these swapped as well.

datasketch is used as its manual shows: a MinHash of the runs of three words of prompt and responses
(the lesser response first, so that a swapped battle is the same set), with its default of 128
values and with the 32 that we have, in an index with a threshold of 0.5. It sees a battle as one
text, and so finds those whose responses are of ten words, of which one was changed; but two battles
that have one long response in common are near for it, too.

At the end the whole of `arena-judge synth plan` is measured on the same battles.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.battles import iter_battles, read_battles
from judge.comparing.marks import battle_marks, joined
from judge.comparing.near import Kind, duplicates
from judge.parallel import ordered_map
from scripts.bench.leaks import TEXTS, battles
from scripts.bench.process import arena_judge

FILES = ("arena_train.parquet", "hh_rlhf_test.parquet", "autoj_pairwise.parquet")
BATTLES, PLANTED = "battles.parquet", "planted.npy"
RESPONSES = ("response_a", "response_b")
SHARE, EDITED = 0.1, 0.02
THRESHOLD = 0.5

Bools = npt.NDArray[np.bool_]
Timed = tuple[Bools, dict[str, float]]


def plant(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Copies of battles: a third swapped, a third with words changed, a third both."""
    way = rng.integers(3, size=len(table))
    rows = table.to_dict("records")
    for row, how in zip(rows, way.tolist(), strict=True):
        if how != 1:
            row["response_a"], row["response_b"] = row["response_b"], row["response_a"]
        for name in RESPONSES if how else ():
            words = row[name].split(" ")
            count = max(1, round(EDITED * len(words)))
            for place in rng.choice(len(words), size=min(count, len(words)), replace=False):
                words[place] = "edited"
            row[name] = " ".join(words)
    return pd.DataFrame(rows)


def ours(file: Path, workers: int) -> Timed:
    """Which battles have near kin before them, by our marks."""
    started = time.perf_counter()
    with closing(iter_battles(file, chunk_rows=1024)) as tables:  # type: ignore[type-var]
        marks = joined(list(ordered_map(battle_marks, tables, workers)))
    marked = time.perf_counter()
    found = duplicates(marks).kinds >= Kind.NEAR
    return found, {"marks": marked - started, "search": time.perf_counter() - marked}


def datasketch(file: Path, values: int) -> Timed:
    """The same by datasketch."""
    from datasketch import MinHash, MinHashLSH

    seconds = {"marks": 0.0, "search": 0.0}
    index = MinHashLSH(threshold=THRESHOLD, num_perm=values)
    found = []
    for table in iter_battles(file, chunk_rows=1024):
        for prompt, a, b in zip(*(table[name] for name in TEXTS), strict=True):
            started = time.perf_counter()
            mark = MinHash(num_perm=values)
            mark.update_batch(_shingles("\n".join([*prompt, *min(a, b), *max(a, b)])))
            marked = time.perf_counter()
            found.append(bool(index.query(mark)))
            index.insert(str(len(found)), mark)
            seconds["marks"] += marked - started
            seconds["search"] += time.perf_counter() - marked
    return np.array(found), seconds


def _shingles(text: str) -> list[bytes]:
    words = text.lower().split()
    return [" ".join(words[at : at + 3]).encode() for at in range(max(1, len(words) - 2))]


def measure(folder: Path, method: str, workers: int) -> None:
    """Runs one way and prints what came of it, as JSON."""
    file, planted = folder / BATTLES, np.load(folder / PLANTED)
    runs: dict[str, Callable[[], Timed]] = {
        "ours": lambda: ours(file, workers),
        "datasketch 128": lambda: datasketch(file, 128),
        "datasketch 32": lambda: datasketch(file, 32),
    }
    started = time.perf_counter()
    found, seconds = runs[method]()
    seconds["all"] = time.perf_counter() - started
    unit = 1 if sys.platform == "darwin" else 1024
    result = {
        "seconds": seconds,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        "recall": float(found[planted].mean()),
        "precision": float(planted[found].mean()) if found.any() else float("nan"),
    }
    print(json.dumps(result))


def write_battles(data: Path, folder: Path, count: int) -> None:
    """Battles and which of them are planted, in any order but kin after what they are kin of."""
    source = pd.concat([read_battles(data / name) for name in FILES], ignore_index=True)
    # Words are what is changed, and a script without spaces has none.
    plain = [
        all(text.isascii() and len(text) > 200 for text in row)
        for row in source[TEXTS[1:]].map("".join).to_numpy()
    ]
    source = source.iloc[np.flatnonzero(plain)]
    rng = np.random.default_rng(0)
    known = battles(source, 0, round(count * (1 - SHARE)))
    copied = rng.choice(len(known), size=count - len(known), replace=False)
    table = pd.concat([known, plant(known.iloc[copied], rng)])
    table["id"] = [str(number) for number in range(count)]
    table.to_parquet(folder / BATTLES, row_group_size=1024)
    np.save(folder / PLANTED, np.arange(count) >= len(known))


def main() -> None:
    """Writes the battles, then has each way measured in a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), metavar="FOLDER")
    parser.add_argument("--battles", type=int, default=57_000, metavar="N")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--in", dest="folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder is not None:
        measure(options.folder, options.way, options.workers)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_battles(options.data, Path(folder), options.battles)
        print(f"{options.battles:,} battles, {SHARE:.0%} planted, {options.workers} threads for us")
        print("way               marks s  search s     all s    MiB  recall  precision")
        for way in ("ours", "datasketch 32", "datasketch 128"):
            command = [sys.executable, "-m", "scripts.bench.near", "--in", folder, "--way", way]
            command += ["--workers", str(options.workers)]
            # A process begins with its parent's memory as its peak: a small one stands between.
            between = "import subprocess, sys; subprocess.run(sys.argv[1:], check=True)"
            small = [sys.executable, "-S", "-c", between, *command]
            said = subprocess.run(small, check=True, capture_output=True, text=True).stdout
            found = json.loads(said)
            seconds = found["seconds"]
            times = "  ".join(f"{seconds[part]:8.1f}" for part in ("marks", "search", "all"))
            quality = f"{found['recall']:6.3f}  {found['precision']:9.3f}"
            print(f"{way:16} {times}  {found['peak'] / 2**20:5,.0f}  {quality}", flush=True)
        plan = arena_judge("synth", "plan", f"{folder}/{BATTLES}", "-o", f"{folder}/plan")
        print(f"arena-judge synth plan: {plan.seconds:.1f} s, {plan.peak / 2**20:,.0f} MiB")


if __name__ == "__main__":
    main()
