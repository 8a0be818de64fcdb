"""How much memory a file of a million battles takes, and how long.

    python -m scripts.bench.memory --data FOLDER [--battles 1000000] [--kind csv]

Makes the file from real texts, each battle a prompt and two responses drawn anew and numbered, so
that no two are alike; scores it in a process of its own; removes it. A million battles need about
4 GB of disk and ten minutes. Prints a Markdown table.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from judge.battles import read_battles
from scripts.bench.peers import COLUMNS
from scripts.bench.process import arena_judge
from scripts.bench.report import options, setting, table
from scripts.statistical_data import SAMPLE

KINDS = ("csv", "parquet")
_BLOCK = 10_000


def blocks(source: Path, battles: int, seed: int) -> Iterator[dict[str, list[str]]]:
    """So many battles in the form of the Kaggle files, a block of columns at a time."""
    known = read_battles(source)
    turns = [known[column].tolist() for column in COLUMNS]
    generator = np.random.default_rng(seed)
    for start in range(0, battles, _BLOCK):
        names = [str(number) for number in range(start, min(start + _BLOCK, battles))]
        of_prompt = generator.integers(len(known), size=len(names))
        block = {"id": names}
        for column, texts in zip(COLUMNS, turns, strict=True):
            # One place for all three: a battle has as many turns in each.
            block[column] = [
                json.dumps([f"{turn} {name}" for turn in texts[place]])
                for name, place in zip(names, of_prompt, strict=True)
            ]
        yield block


def write(file: Path, made: Iterator[dict[str, list[str]]]) -> None:
    """Writes battles as CSV or, all in one row group, as Parquet."""
    schema = pa.schema([(name, pa.string()) for name in ("id", *COLUMNS)])
    if file.suffix == ".parquet":
        tables = [pa.table(block, schema=schema) for block in made]
        pq.write_table(pa.concat_tables(tables), file, row_group_size=1 << 30)
        return
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(schema.names)
        for block in made:
            writer.writerows(zip(*block.values(), strict=True))


def main() -> None:
    """Makes the file, scores it and prints."""
    parser = options(__doc__)
    parser.add_argument("--battles", type=int, default=1_000_000, help="(default: a million)")
    parser.add_argument("--kind", choices=KINDS, default="csv", help="of file (default: csv)")
    parser.add_argument(
        "--scratch", metavar="FOLDER", help="where the file is made (default: the system's own)"
    )
    given = parser.parse_args()
    with TemporaryDirectory(dir=given.scratch) as folder:
        file = Path(folder) / f"battles.{given.kind}"
        write(file, blocks(given.data / SAMPLE, given.battles, given.seed))
        size = file.stat().st_size / 2**30
        run = arena_judge("score", str(file), "-o", str(Path(folder) / "predictions.csv"))
    row = [
        given.kind,
        f"{given.battles:,}",
        f"{size:.2f} GiB",
        f"{run.seconds:,.0f} s",
        f"{given.battles / run.seconds:,.0f}",
        f"{run.peak / 2**30:.2f} GiB",
    ]
    print(setting("scripts.bench.memory"), end="\n\n")
    print(table(["file", "battles", "size", "time", "battles/s", "peak memory"], [row]))


if __name__ == "__main__":
    main()
