"""Where the shipped judge fails: collections of other people, other questions, other models.

    python -m scripts.bench.elsewhere --data FOLDER

The judge learned nothing from these battles but what an empty or repeated response is worth. Every
Parquet file in the folder but its training file is measured. Prints a Markdown table.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from judge.battles import labels as labels_of
from judge.battles import read_battles
from judge.comparison import compare
from judge.judges import load_judge
from scripts.bench.report import options, setting, table
from scripts.statistical_data import POOL

HEAD = (
    "collection", "battles", "ties", "log loss", "less the prior's", "95 %",
    "right when decided", "ECE",
)  # fmt: skip


def measured(file: Path) -> list[str]:
    """A collection's row of the table."""
    battles = read_battles(file)
    labels = labels_of(battles)
    if labels is None:
        raise SystemExit(f"{file}: has no labels")
    proba = load_judge().predict_proba(battles)
    prompts = pd.factorize(battles["prompt"])[0]
    own = compare(labels, {"statistical": proba}, groups=prompts).scores
    score = next(row for row in own if row.name == "statistical")
    gap = score.against_prior
    decided = labels[:, 0] != labels[:, 1]
    right = ((proba[:, 0] > proba[:, 1]) == (labels[:, 0] > labels[:, 1]))[decided].mean()
    return [
        file.stem,
        f"{len(battles):,}",
        f"{labels[:, 2].mean():.2f}",
        f"{score.log_loss:.3f}",
        *([f"{gap.value:+.3f}", f"{gap.low:+.3f} to {gap.high:+.3f}"] if gap else ["", ""]),
        f"{right:.3f}",
        f"{score.calibration_error:.3f}",
    ]


def main() -> None:
    """Measures and prints."""
    given = options(__doc__).parse_args()
    files = sorted(file for file in given.data.glob("*.parquet") if file.name != POOL)
    print(setting("scripts.bench.elsewhere"), end="\n\n")
    print(table(HEAD, [measured(file) for file in files]))


if __name__ == "__main__":
    main()
