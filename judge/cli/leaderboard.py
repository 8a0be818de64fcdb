"""`arena-judge leaderboard`: which models win, by people's labels or by a judge's word.

The battles are read once, a batch at a time; what is kept is names, outcomes, a hash of the prompt
and, for style control, five numbers, so the text may be larger than memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from judge.cli import options, outputs
from judge.cli.console import Progress, clean, count, expected_rows, say
from judge.cli.judging import Judging, judge_options
from judge.cli.ticking import follow
from judge.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from judge.judges.base import Judge
    from judge.leaderboard import Named
    from judge.leaderboard.boards import Boards

    Floats = npt.NDArray[np.float64]

BOARD = ("model", "rank", "rank_low", "rank_high", "score")


@dataclass(frozen=True)
class Batch:
    """What is kept of a batch of battles.

    Attributes:
        ids, model_a, model_b: N of each.
        prompts: (N,) a number equal where prompts are.
        labels, proba: (N, 3), NaN rows for nothing said; None without labels, without a judge.
        style: (N, 5) differences between the responses, None where nobody asked.
    """

    ids: list[str]
    model_a: list[str | None]
    model_b: list[str | None]
    prompts: npt.NDArray[np.int64]
    labels: Floats | None
    proba: Floats | None
    style: Floats | None


def _anchor(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[str, float] | None:
    if value is None:
        return None
    name, given, score = value.rpartition("=")
    try:
        number = float(score)
    except ValueError:
        number = float("nan")
    if not given or not name or not abs(number) < 1e9:
        raise click.BadParameter("write MODEL=SCORE, as in gpt-4=1200")
    return name, number


@click.command()
@click.argument("battles")
@click.option("--judge", "spec", metavar="JUDGE", help="Whose word to take, as for score.")
@click.option("--predictions", metavar="FILE", help="A judge's word from a file that score wrote.")
@click.option("-o", "--output", metavar="FILE", help="Write the board as CSV as well.")
@click.option(
    "--style-control",
    is_flag=True,
    help="Also rate with length, headings, lists, bold and code held constant.",
)
@click.option(
    "--anchor",
    metavar="MODEL=SCORE",
    callback=_anchor,
    help="Fix a model at a score.  [default: the average model at 1000]",
)
@click.option(
    "--intervals",
    type=click.Choice(["bootstrap", "sandwich"]),
    default="bootstrap",
    show_default=True,
    help="How sure a score is: by resampling prompts, or by the quicker sandwich formula.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=100),
    default=1000,
    show_default=True,
    help="Bootstrap rounds.",
)
@click.option(
    "--prior",
    type=options.Finite(min=0.001, max=1e6),
    default=1.0,
    show_default=True,
    metavar="BATTLES",
    help="Battles that every model draws against an average one, so that scores stay finite.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap.")
@options.report
@options.chunk_rows
@options.workers
@options.force
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, not a table.")
@judge_options
def leaderboard(
    battles: str,
    spec: str | None,
    predictions: str | None,
    output: str | None,
    style_control: bool,
    anchor: tuple[str, float] | None,
    intervals: str,
    rounds: int,
    prior: float,
    seed: int,
    report_file: str | None,
    chunk_rows: int,
    workers: int,
    force: bool,
    as_json: bool,
    judging: Judging,
) -> None:
    """Rate the models that met in BATTLES, which names them in model_a and model_b.

    Bradley-Terry on an Elo-like scale, a tie counting half a win; probabilities count as shares of
    a win. Without --judge and --predictions the labels say who won; with one of them and labels,
    the judge's board is held against the labels' board.

    \b
    Example:
      arena-judge leaderboard battles.csv
      arena-judge leaderboard battles.csv --judge statistical --style-control -o board.csv
      arena-judge leaderboard battles.csv --judge judges/mine --report board.html
      arena-judge leaderboard battles.csv --predictions predictions.csv --anchor gpt-4=1200
    """
    from judge.cli.leaderboard_text import frame, lines, summary, to_dict
    from judge.files.atomic import written_whole
    from judge.leaderboard import make_boards

    if spec is not None and predictions is not None:
        raise click.UsageError("--judge and --predictions both say who won; give one of them")
    if seed < 0:
        raise click.UsageError("--seed must not be negative")
    inputs = [battles, *(name for name in (spec, predictions) if name is not None)]
    target = page = None
    if output is not None:
        target = outputs.target(output, BOARD, inputs=inputs, force=force)
    if report_file is not None:
        page = outputs.report_target(report_file, inputs=inputs, force=force)
    if target is not None and page is not None and outputs.is_same_file(target, page):
        raise click.UsageError("--output and --report name the same file")
    replaced = [path for path in (target, page) if path is not None and path.is_file()]
    with _judge(spec, judging, seed) as judge:
        if judging.dry_run and judge is not None:
            judging.asking.tell_estimate(judge, battles, chunk_rows, as_json=as_json)
            return
        named, proba, name, notes = _verdicts(
            battles, judge, predictions, style_control, chunk_rows, workers
        )
    boards = make_boards(
        named,
        proba,
        name,
        anchor=anchor,
        prior=prior,
        intervals=intervals,
        rounds=rounds,
        seed=seed,
    )
    if target is not None:
        with written_whole(target) as file:
            text = frame(boards).to_csv(index=False, lineterminator="\n")
            file.write(text.encode("utf-8", "replace"))
    if as_json:
        click.echo(json.dumps(to_dict(boards), allow_nan=False))
    else:
        for line in lines(boards):
            click.echo(line)
    for note in notes:
        say(note)
    say(summary(boards))
    if page is not None:
        _draw(boards, page, battles, notes, seed)
    for path in (target, page):
        if path is not None:
            say(f"{path}: {'replaced' if path in replaced else 'written'}")


def _draw(boards: Boards, page: Path, battles: str, notes: list[str], seed: int) -> None:
    from judge.cli.leaderboard_text import summary
    from judge.report.page import origin, write_page
    from judge.report.ranking import leaderboard_page

    words = notes if boards.controlled else [f"{summary(boards)}.", *notes]
    source, made = Path(battles).name, origin("leaderboard", seed)
    write_page(leaderboard_page(boards, source=source, words=words, origin=made), page)


@contextmanager
def _judge(spec: str | None, judging: Judging, seed: int) -> Iterator[Judge | None]:
    """The judge whose word counts, if one was named."""
    if spec is None:
        judging.heeded([])
        yield None
        return
    with judging.judge((spec,), seed) as judge:
        yield judge


def _verdicts(
    battles: str,
    judge: Judge | None,
    predictions: str | None,
    style: bool,
    chunk_rows: int,
    workers: int,
) -> tuple[Named, Floats | None, str, list[str]]:
    """The battles without their text, who won by the judge, its name, and what is to be said."""
    from judge.comparing.matching import align
    from judge.leaderboard.boards import LABELS
    from judge.predictions import read_predictions
    from judge.provenance import flattering, learned_from

    if judge is not None:
        named, _, proba = _read(battles, judge, style, chunk_rows, workers)
        learned = named.labels is not None and learned_from(judge.sources, battles)
        notes = [f"note: {flattering(judge.name, battles)}"] if learned else []
        return named, proba, clean(judge.name), notes
    if predictions is None:
        named, _, _ = _read(battles, None, style, chunk_rows, workers)
        if named.labels is None:
            raise InputError(
                "has no labels to say who won",
                file=battles,
                mend="add --judge or --predictions, or label columns such as winner",
            )
        return named, None, LABELS, []
    table = read_predictions(predictions)
    named, ids, _ = _read(battles, None, style, chunk_rows, workers)
    aligned = align(ids, table, file=predictions)
    notes = []
    if aligned.missing:
        missing = count(aligned.missing, "battle")
        notes.append(f"{predictions}: {missing} not in it, counted as unjudged")
    if aligned.unknown:
        unknown = count(aligned.unknown, "prediction")
        notes.append(f"{predictions}: {unknown} for no battle here, left out")
    return named, aligned.proba, clean(Path(predictions).stem), notes


def _read(
    source: str,
    judge: Judge | None,
    style: bool,
    chunk_rows: int,
    workers: int,
) -> tuple[Named, list[str], Floats | None]:
    """The battles without their text, their ids, and what the judge says of them."""
    import numpy as np

    from judge.battles import iter_battles
    from judge.leaderboard import Named
    from judge.parallel import ordered_map

    parts: list[Batch] = []
    known: dict[str, str] = {}
    named = False
    with Progress("battles", *expected_rows(source)) as progress:
        batches = iter_battles(source, chunk_rows=chunk_rows)
        # A judge that takes long tells itself of the battles that it is done with.
        slow = judge is not None and follow([judge], progress)
        workers = 1 if slow else workers
        for part in ordered_map(partial(_keep, judge, style), batches, workers):
            # One string a model, not one a battle: a name may be long.
            for names in (part.model_a, part.model_b):
                names[:] = [name and known.setdefault(name, name) for name in names]
            parts.append(part)
            if not slow:
                progress.advance(len(part.ids))
            named = named or any(part.model_a) or any(part.model_b)
    if not named:
        raise InputError(
            "does not say which models met",
            file=source,
            mend="name them in the columns model_a and model_b",
        )
    labelled = any(part.labels is not None for part in parts)
    labels = [
        np.full((len(part.ids), 3), np.nan) if part.labels is None else part.labels
        for part in parts
    ]
    proba = [part.proba for part in parts if part.proba is not None]
    styles = [part.style for part in parts if part.style is not None]
    kept = Named(
        model_a=[name for part in parts for name in part.model_a],
        model_b=[name for part in parts for name in part.model_b],
        prompts=np.concatenate([part.prompts for part in parts]),
        labels=np.concatenate(labels) if labelled else None,
        style=np.concatenate(styles) if styles else None,
    )
    ids = [name for part in parts for name in part.ids]
    return kept, ids, np.concatenate(proba) if proba else None


def _keep(judge: Judge | None, style: bool, battles: pd.DataFrame) -> Batch:
    import numpy as np

    from judge.battles import MODELS, labels
    from judge.leaderboard.style import style_differences

    absent: list[str | None] = [None] * len(battles)
    first, second = (
        battles[name].tolist() if name in battles.columns else absent.copy() for name in MODELS
    )
    responses = (battles["response_a"].tolist(), battles["response_b"].tolist())
    return Batch(
        ids=battles["id"].tolist(),
        model_a=first,
        model_b=second,
        prompts=np.array([hash(prompt) for prompt in battles["prompt"]], dtype=np.int64),
        labels=labels(battles),
        proba=None if judge is None else judge.predict_proba(battles),
        style=style_differences(*responses) if style else None,
    )
