"""`arena-judge score`: battles in, probabilities out, a batch at a time.

From the command to the array: `score` -> `_judge_batch` -> the judge's `judge` -> its arrays.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from judge.cli import abstaining, options, outputs
from judge.cli.console import Progress, expected_rows, fit, say, table
from judge.cli.prompted_options import Asking, Report, prompted_options
from judge.errors import ArenaJudgeError
from judge.files.atomic import STANDARD_STREAM

if TYPE_CHECKING:
    import pandas as pd

    from judge.cli.summary import Floats, Summary, Tally
    from judge.judges.base import Judge
    from judge.predictions import PredictionWriter
    from judge.report.scoring import Scored


UNJUDGED_EXIT = 3
_ASKING = 2  # batches that a model is asked about: one waits for the last replies, one goes on
_FEW = 20


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


@click.command()
@click.argument("battles")
@click.option(
    "--judge",
    "specs",
    multiple=True,
    default=["statistical"],
    show_default="statistical",
    metavar="JUDGE",
    help="A judge that ships with the package, a judge folder, endpoint:MODEL or vllm:FOLDER; "
    "several of the last two are a jury.",
)
@click.option(
    "-o",
    "--output",
    default="predictions.csv",
    show_default=True,
    metavar="FILE",
    help="The predictions: .csv, .jsonl (.gz) or .parquet; - is CSV on standard output.",
)
@click.option("--ballots", metavar="FILE", help="Write the votes too: .csv, .jsonl, .parquet.")
@click.option(
    "--fill",
    type=click.Choice(["prior"]),
    help="Give unjudged battles the prior's probabilities: the judge's own or, where it has none, "
    "the mean of what it judged in this run. They stay listed as unjudged.",
)
@click.option(
    "--show",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"Print the first N as a table.  [default: all on a terminal, up to {_FEW}]",
)
@options.report
@abstaining.coverage
@abstaining.coverage_from
@options.chunk_rows
@options.workers
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="For judges that draw at random; the statistical judge does not.",
)
@options.force
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on standard output.")
@prompted_options
def score(
    battles: str,
    specs: tuple[str, ...],
    output: str,
    ballots: str | None,
    fill: str | None,
    show: int | None,
    report_file: str | None,
    coverage: float | None,
    coverage_from: str | None,
    chunk_rows: int,
    workers: int,
    seed: int,
    force: bool,
    as_json: bool,
    asking: Asking,
) -> None:
    """Judge BATTLES and write P(A), P(B) and P(tie) of each, in the order of the file.

    BATTLES is CSV, JSONL or Parquet, plain or compressed, with prompt, response_a, response_b and
    perhaps id and labels. Predictions of an earlier run are replaced, and the summary says so.
    Unjudged battles have empty probabilities and are listed in FILE.unjudged.csv; the exit code is
    then 3.

    \b
    Example:
      arena-judge score battles.csv -o predictions.csv --show 5
      arena-judge score battles.parquet --ballots votes.parquet --json
      arena-judge score battles.csv --coverage 0.9 --report report.html
      arena-judge score battles.csv -o - > predictions.csv
      arena-judge score battles.csv --judge endpoint:gpt-4.1-mini --dry-run
      arena-judge score battles.csv --judge endpoint:phi --base-url http://127.0.0.1:8000/v1
    """
    if as_json and output == STANDARD_STREAM:
        raise click.UsageError("--json and -o - both want standard output; give one of them a file")
    files = _files(battles, output, ballots, report_file, force)
    replaced = [str(path) for path in _all(files) if path.is_file()]

    from judge.provenance import flattering, learned_from

    with asking.judge(specs, seed) as judge:
        if hasattr(judge, "seed"):
            judge.seed = seed
        if asking.dry_run:
            asking.tell_estimate(judge, battles, chunk_rows, as_json=as_json)
            return
        doubts = abstaining.abstaining(judge, coverage, coverage_from, chunk_rows)
        prior = getattr(judge, "prior", None) if fill else None
        shown = _FEW + 1 if show is None else show
        one = partial(_judge_batch, judge, votes=_votes(ballots, report_file), shown=shown)
        started = time.perf_counter()
        progress = Progress("battles", *expected_rows(battles))
        asks = asking.show_progress(judge, progress)
        stop = partial(asking.stop, judge)
        batches = _judged(battles, one, chunk_rows, _ASKING if asks else workers, stop)
        hold = fill is not None and prior is None
        scored = _scored(files)
        tally, head = _write(
            batches, files, None if asks else progress, prior, doubts, scored, hold=hold
        )
        summary = tally.summary(
            judge.name,
            filled=fill is not None and (prior is not None or tally.judged > 0),
            seconds=time.perf_counter() - started,
        )
        asked = asking.reports(judge)
    if show or (show is None and sys.stdout.isatty() and summary.battles <= _FEW):
        _show(head, to_error=as_json or output == STANDARD_STREAM)
    words = _words(summary, doubts, asked)
    if scored is not None and files.report is not None:
        _draw(scored, files.report, judge.name, battles, words, seed)
    _tell(summary, files, replaced, asked, doubts, words, as_json)
    if summary.labelled and learned_from(judge.sources, battles):
        say(f"note: {flattering(judge.name, battles)}")
    if summary.unjudged:
        click.get_current_context().exit(UNJUDGED_EXIT)


def _files(
    battles: str, output: str, ballots: str | None, report: str | None, force: bool
) -> Files:
    """Where everything goes, known to be safe before any work is done."""
    predictions = unjudged = votes = None
    if output != STANDARD_STREAM:
        predictions = outputs.target(output, outputs.PREDICTIONS, inputs=[battles], force=force)
    # Nothing can stand beside a device or a pipe.
    if predictions is not None and (predictions.is_file() or not predictions.exists()):
        beside = f"{output}.unjudged.csv"
        unjudged = outputs.target(beside, outputs.UNJUDGED, inputs=[battles], force=force)
    if ballots is not None:
        if Path(ballots).suffix.lower() not in outputs.ENDINGS:
            raise click.UsageError("--ballots takes a file named .csv, .jsonl or .parquet")
        votes = outputs.target(ballots, outputs.BALLOTS, inputs=[battles], force=force)
        if any(outputs.is_same_file(votes, path) for path in (predictions, unjudged) if path):
            raise click.UsageError("--output and --ballots name the same file")
    page = None if report is None else outputs.report_target(report, inputs=[battles], force=force)
    return Files(predictions, unjudged, votes, page)


def _all(files: Files) -> list[Path]:
    paths = (files.predictions, files.unjudged, files.ballots, files.report)
    return [path for path in paths if path is not None]


def _judged(
    source: str,
    one: Callable[[pd.DataFrame], Batch],
    chunk_rows: int,
    workers: int,
    stop: Callable[[], None],
) -> Generator[Batch, None, None]:
    """The batches of a file, judged, in the order of the file."""
    from judge.battles import iter_battles
    from judge.parallel import ordered_map

    yield from ordered_map(one, iter_battles(source, chunk_rows=chunk_rows), workers, stop)


def _votes(ballots: str | None, report: str | None) -> str | None:
    """Whether votes "must" be there, since a file is to hold them, or "may", to be drawn."""
    if ballots is not None:
        return "must"
    return "may" if report is not None else None


def _judge_batch(judge: Judge, battles: pd.DataFrame, *, votes: str | None, shown: int) -> Batch:
    from judge.battles import labels

    judgments = judge.judge(battles, ballots=votes is not None)
    if judgments.proba.shape != (len(battles), 3):
        found = judgments.proba.shape
        raise ArenaJudgeError(f"{judge.name} gave probabilities {found} for {len(battles)} battles")
    if votes == "must" and judgments.ballots is None:
        raise ArenaJudgeError(f"{judge.name} fills in no ballots; leave --ballots out")
    first = int(battles.index[0])
    visible = battles["prompt"].iloc[: max(0, shown - first)]
    return Batch(
        ids=battles["id"].tolist(),
        first=first,
        proba=judgments.proba,
        reasons=judgments.reasons,
        labels=labels(battles),
        ballots=judgments.ballots,
        prompts=[fit(" ".join(turn[:500] for turn in turns[:4]), 120) for turns in visible],
    )


def _write(
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


def _show(head: list[tuple[str, str, list[float]]], *, to_error: bool) -> None:
    """Prints the first predictions; wide terminals show more of the prompt."""
    room = max(20, min(100, shutil.get_terminal_size((100, 24)).columns - 48))
    rows = [
        [fit(name, 16), fit(prompt, room), *("-" if p != p else f"{p:.3f}" for p in proba)]
        for name, prompt, proba in head
    ]
    for line in table(["id", "prompt", "P(A)", "P(B)", "P(tie)"], rows, left=2):
        click.echo(line, err=to_error)


def _words(
    summary: Summary, doubts: abstaining.Abstaining | None, asked: list[Report]
) -> list[str]:
    """The run in words, for people."""
    doubtful = [] if doubts is None else [doubts.line()]
    return [*summary.lines(), *doubtful, *(line for report in asked for line in report.lines())]


def _scored(files: Files) -> Scored | None:
    if files.report is None:
        return None
    from judge.report.scoring import Scored

    return Scored()


def _draw(
    scored: Scored, path: Path, judge: str, battles: str, words: list[str], seed: int
) -> None:
    from judge.report.page import origin, write_page
    from judge.report.scoring import score_page

    source = Path(battles).name
    write_page(
        score_page(scored, judge=judge, source=source, words=words, origin=origin("score", seed)),
        path,
    )


def _tell(
    summary: Summary,
    files: Files,
    replaced: list[str],
    asked: list[Report],
    doubts: abstaining.Abstaining | None,
    words: list[str],
    as_json: bool,
) -> None:
    """The summary: lines for people on standard error, JSON for machines on standard output."""
    written = [path for path in _all(files) if path.exists()]
    if as_json:
        result = summary.to_dict()
        for name, path in vars(files).items():
            result[f"{name}_file"] = str(path) if path in written else None
        result["replaced"] = replaced
        if doubts is not None:
            result["abstaining"] = doubts.to_dict()
        if asked:
            result["asked"] = [report.to_dict() for report in asked]
        click.echo(json.dumps(result))
        return
    for line in words:
        say(line)
    for path in _all(files):
        before = str(path) in replaced
        if path in written:
            say(f"{path}: {'replaced' if before else 'written'}")
        elif before:
            say(f"{path}: removed, nothing is unjudged now")
