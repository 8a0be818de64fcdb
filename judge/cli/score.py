"""`arena-judge score`: battles in, probabilities out, a batch at a time.

From the command to the array: `score` -> `_judge_batch` -> the judge's `judge` -> its arrays.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING

import click

from judge.cli import abstaining, options
from judge.cli.console import Progress, expected_rows, fit, say
from judge.cli.judging import Judging, judge_options, tuned_within, votes_expected
from judge.cli.ray_options import check_devices, ray_options
from judge.cli.score_output import Batch, Files, files_of, write
from judge.cli.score_text import draw, gathered, show_rows, tell, words_of
from judge.cli.ticking import follow
from judge.cli.ticking import stop as stop_judging
from judge.errors import ArenaJudgeError
from judge.files.atomic import STANDARD_STREAM

if TYPE_CHECKING:
    import pandas as pd

    from judge.distributed.cluster import Cluster
    from judge.judges.base import Judge


UNJUDGED_EXIT = 3
_SLOW = 2  # batches at a judge that takes long: one waits for its last replies, one goes on
_FEW = 20


@click.command()
@click.argument("battles")
@click.option(
    "--judge",
    "specs",
    multiple=True,
    default=["statistical"],
    show_default="statistical",
    metavar="JUDGE",
    help="A judge that ships with the package, a judge folder (fine-tuned ones, too), "
    "hf:MODEL_OR_FOLDER, a .yaml that composes judges, endpoint:MODEL or vllm:FOLDER; several of "
    "the last two are a jury.",
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
@judge_options
@ray_options
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
    judging: Judging,
    cluster: Cluster | None,
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
      arena-judge score battles.csv --judge judges/tuned --device cuda:0 --lengths 1024,2048
      arena-judge score battles.parquet --judge judges/tuned --on ray -o predictions.parquet
    """
    if as_json and output == STANDARD_STREAM:
        raise click.UsageError("--json and -o - both want standard output; give one of them a file")
    if cluster is not None and STANDARD_STREAM in (battles, output):
        raise click.UsageError("--on ray reads a file and writes one, and no standard stream")
    inputs = [battles, *([] if coverage_from is None else [coverage_from])]
    files = files_of(inputs, output, ballots, report_file, force)
    replaced = [str(path) for path in files.all if path.is_file()]

    from judge.provenance import flattering, learned_from

    with judging.judge(specs, seed) as judge:
        if hasattr(judge, "seed"):
            judge.seed = seed
        if ballots is not None:
            votes_expected(judge)
        if judging.dry_run:
            judging.asking.tell_estimate(judge, battles, chunk_rows, as_json=as_json)
            return
        doubts = abstaining.abstaining(judge, coverage, coverage_from, chunk_rows)
        prior = getattr(judge, "prior", None) if fill else None
        shown = _FEW + 1 if show is None else show
        started = time.perf_counter()
        if cluster is not None:
            votes = _votes(ballots, report_file) is not None
            judge = _spread(
                judge,
                judging,
                specs[0],
                cluster,
                files,
                battles,
                chunk_rows,
                seed,
                votes=votes,
                force=force,
            )
        one = partial(_judge_batch, judge, votes=_votes(ballots, report_file), shown=shown)
        progress = Progress("battles", *expected_rows(battles))
        slow = follow([judge], progress)
        stop = partial(stop_judging, judge)
        batches = _judged(battles, one, chunk_rows, _SLOW if slow else workers, stop)
        hold = fill is not None and prior is None
        scored = gathered(files)
        tally, head = write(
            batches, files, None if slow else progress, prior, doubts, scored, hold=hold
        )
        summary = tally.summary(
            judge.name,
            filled=fill is not None and (prior is not None or tally.judged > 0),
            seconds=time.perf_counter() - started,
        )
        asked = judging.asking.reports(judge)
    _forget(cluster, files)
    if show or (show is None and sys.stdout.isatty() and summary.battles <= _FEW):
        show_rows(head, to_error=as_json or output == STANDARD_STREAM)
    words = words_of(summary, doubts, asked)
    if scored is not None and files.report is not None:
        draw(scored, files.report, judge.name, battles, words, seed)
    tell(summary, files, replaced, asked, doubts, words, as_json)
    if summary.labelled and learned_from(judge.sources, battles):
        say(f"note: {flattering(judge.name, battles)}")
    if summary.unjudged:
        click.get_current_context().exit(UNJUDGED_EXIT)


def _spread(
    judge: Judge,
    judging: Judging,
    spec: str,
    cluster: Cluster,
    files: Files,
    battles: str,
    chunk_rows: int,
    seed: int,
    *,
    votes: bool,
    force: bool,
) -> Judge:
    """What the workers of a cluster say of the battles, as a judge of them."""
    from judge.distributed.cluster import joined
    from judge.distributed.runs import folder_of
    from judge.distributed.scoring import Spread, judged

    asking, running = judging.settings(seed)
    check_devices(running.device)
    if files.predictions is None:
        raise ValueError("predictions have no file")
    with joined(cluster), Progress("battles", *expected_rows(battles)) as progress:
        return judged(
            Spread(spec, asking, running, seed, votes),
            judge,
            battles,
            folder_of(files.predictions),
            cluster,
            chunk_rows=chunk_rows,
            on_gpus=bool(tuned_within([judge])) and running.device != ("cpu",),
            fresh=force,
            tick=progress.advance,
        )


def _forget(cluster: Cluster | None, files: Files) -> None:
    """Takes away what workers wrote, once all of it stands in the files."""
    if cluster is not None and files.predictions is not None:
        from judge.distributed.runs import closed, folder_of

        closed(folder_of(files.predictions))


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
