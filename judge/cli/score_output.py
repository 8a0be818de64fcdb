"""Where the results of `score` go, and how they get there batch by batch."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from judge.cli import abstaining, outputs
from judge.cli.console import Progress
from judge.files.atomic import STANDARD_STREAM

if TYPE_CHECKING:
    import pandas as pd

    from judge.cli.summary import Floats, Tally
    from judge.predictions import PredictionWriter
    from judge.report.scoring import Scored


@dataclass(frozen=True)
class Batch:
    """What is kept of a batch of battles once it is judged: everything but the text.

    Attributes:
        ids: the battles' ids, N of them.
        first: number of the first battle in the file, from 0.
        proba: (N, 3) in the order A, B, tie; NaN rows are unjudged.
        reasons: why a battle is unjudged, by its position in the batch.
        labels: (N, 3), NaN rows unlabelled; None where the file has no labels.
        ballots: the ballot table, when asked for.
        prompts: the start of those prompts that may be shown.
    """

    ids: list[str]
    first: int
    proba: Floats
    reasons: Mapping[int, str]
    labels: Floats | None
    ballots: pd.DataFrame | None
    prompts: list[str]


@dataclass(frozen=True)
class Files:
    """Where the results go; no `predictions` is standard output, no `unjudged` standard error."""

    predictions: Path | None
    unjudged: Path | None
    ballots: Path | None
    report: Path | None

    @property
    def all(self) -> list[Path]:
        """Those that there are."""
        paths = (self.predictions, self.unjudged, self.ballots, self.report)
        return [path for path in paths if path is not None]


def files_of(
    inputs: Sequence[str], output: str, ballots: str | None, report: str | None, force: bool
) -> Files:
    """Where everything goes, known to be safe before any work is done."""
    predictions = unjudged = votes = None
    if output != STANDARD_STREAM:
        predictions = outputs.target(output, outputs.PREDICTIONS, inputs=inputs, force=force)
    # Nothing can stand beside a device or a pipe.
    if predictions is not None and (predictions.is_file() or not predictions.exists()):
        beside = f"{output}.unjudged.csv"
        unjudged = outputs.target(beside, outputs.UNJUDGED, inputs=inputs, force=force)
    if ballots is not None:
        if Path(ballots).suffix.lower() not in outputs.ENDINGS:
            raise click.UsageError("--ballots takes a file named .csv, .jsonl or .parquet")
        votes = outputs.target(ballots, outputs.BALLOTS, inputs=inputs, force=force)
        if any(outputs.is_same_file(votes, path) for path in (predictions, unjudged) if path):
            raise click.UsageError("--output and --ballots name the same file")
    page = None if report is None else outputs.report_target(report, inputs=inputs, force=force)
    return Files(predictions, unjudged, votes, page)


def write(
    batches: Generator[Batch, None, None],
    files: Files,
    progress: Progress | None,
    prior: Floats | None,
    doubts: abstaining.Abstaining | None,
    scored: Scored | None,
    *,
    hold: bool,
) -> tuple[Tally, list[tuple[str, str, list[float]]]]:
    """Takes every batch to its files; gives what was counted, and the rows that may be shown.

    The unjudged are filled in with `prior`, or under `hold` with the mean of the run; that is known
    at the end only, so probabilities, being small, wait for it. A judge that shows its progress
    itself needs no `progress` here.
    """
    from judge.cli.summary import Tally
    from judge.predictions import PredictionWriter

    tally = Tally()
    head: list[tuple[str, str, list[float]]] = []
    held: list[tuple[list[str], Floats]] = []
    with ExitStack() as stack:
        stack.enter_context(closing(batches))
        votes = stack.enter_context(outputs.table_file(files.ballots)) if files.ballots else None
        unjudged = stack.enter_context(outputs.UnjudgedList(files.unjudged))
        extra = () if doubts is None else abstaining.COLUMNS
        target = files.predictions or STANDARD_STREAM
        writer = stack.enter_context(PredictionWriter(target, extra=extra))
        if progress is not None:
            stack.enter_context(progress)
        for batch in batches:
            tally.add(batch.proba, batch.labels)
            if scored is not None:
                scored.add(batch.proba, batch.labels, batch.reasons, batch.ballots)
            listed = _unjudged_rows(batch)
            unjudged.append(listed)
            tally.explain(reason for _, _, reason in listed)
            if votes is not None and batch.ballots is not None:
                votes.append(batch.ballots)
            head.extend(zip(batch.ids, batch.prompts, batch.proba.tolist(), strict=False))
            held.append((batch.ids, batch.proba))
            if not hold:
                _release(writer, held, prior, doubts)
            if progress is not None:
                progress.advance(len(batch.ids))
        _release(writer, held, tally.mean, doubts)
    return tally, head


def _release(
    writer: PredictionWriter,
    held: list[tuple[list[str], Floats]],
    prior: Floats | None,
    doubts: abstaining.Abstaining | None,
) -> None:
    """Writes what was held back, the unjudged with the prior's probabilities if there is one."""
    from judge.cli.summary import filled

    for ids, proba in held:
        more = None if doubts is None else doubts.columns(proba)
        writer.append(ids, proba if prior is None else filled(proba, prior), more)
    held.clear()


def _unjudged_rows(batch: Batch) -> list[tuple[str, int, str]]:
    """Id, number from 1 and reason of the battles without probabilities."""
    empty = [place for place, row in enumerate(batch.proba.tolist()) if row[0] != row[0]]
    return [
        (batch.ids[place], batch.first + place + 1, batch.reasons.get(place, "no reason given"))
        for place in empty
    ]
