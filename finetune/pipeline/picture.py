"""What each step was worth, kept beside the run: `steps.csv` and `steps.svg`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from finetune.pipeline.table import Row

TABLE, PICTURE = "steps.csv", "steps.svg"
COLUMNS = (
    *("step", "battles", "log_loss", "low", "high", "calibration_error"),
    *("than", "less", "less_low", "less_high"),
)


def keep(folder: Path, rows: Sequence[Row]) -> None:
    """Writes both files; none where there are no rows."""
    if not rows:
        return
    import pandas as pd

    from judge.files.atomic import written_whole

    lines = [
        (
            *(row.name, row.battles, row.log_loss, row.low, row.high, row.error, row.than),
            *((None,) * 3 if row.gap is None else (row.gap.value, row.gap.low, row.gap.high)),
        )
        for row in rows
    ]
    with written_whole(folder / TABLE) as stream:
        pd.DataFrame(lines, columns=list(COLUMNS)).to_csv(stream, index=False)
    with written_whole(folder / PICTURE) as stream:
        stream.write(picture(rows).encode())


def picture(rows: Sequence[Row]) -> str:
    """The log losses with their intervals, and below them what each step gained."""
    from judge.report import charts
    from judge.report.standalone import standalone

    best = min(row.log_loss for row in rows)
    levels = [
        charts.Row(
            row.name, row.log_loss, row.low, row.high, "best" if row.log_loss == best else ""
        )
        for row in rows
    ]
    summary = "; ".join(f"{row.name} {row.log_loss:.4f}" for row in rows)
    return standalone(
        charts.forest(
            "What each step is worth", summary, levels, "log loss, in nats, with 95 % intervals"
        )
    )
