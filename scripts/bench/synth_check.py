"""How long checking an annotated set takes, and how much memory.

    python -m scripts.bench.synth_check [--data FOLDER] [--battles 20000] [--samples 1]

The set is that of `scripts.bench.synth_export`: battles such as people had, in both orders, with a
reason for every vote and a critique of each response. It is checked against the battles of
`arena_dev.csv` as held-out ones, with and without writing the set that is left. Prints a Markdown
table.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from scripts.bench.process import arena_judge
from scripts.bench.report import options, setting, table
from scripts.bench.synth_export import write_set
from scripts.statistical_data import SAMPLE


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--battles", type=int, default=20_000)
    parser.add_argument("--samples", type=int, default=1, help="an order")
    given = parser.parse_args()
    rows = []
    with TemporaryDirectory() as folder:
        data, kept = Path(folder) / "data", Path(folder) / "kept"
        write_set(data, given.data / SAMPLE, given.battles, given.samples, given.seed)
        held = ("--held-out", str(given.data / SAMPLE))
        written = ("--filter", str(kept), "--report", f"{folder}/check.html")
        for name, more in (
            ("figures", ()),
            ("against held-out battles", held),
            ("with the set that is left, and a page", written),
        ):
            run = arena_judge("synth", "check", str(data), *more)
            rows.append((name, f"{run.seconds:.0f} s", f"{run.peak / 2**20:,.0f} MiB"))
    print(setting("scripts.bench.synth_check"))
    print(f"\n{given.battles:,} battles, 2 orders, {given.samples} samples\n")
    print(table(("check", "time", "peak memory"), rows))


if __name__ == "__main__":
    main()
