"""`arena-judge compare`: judges and prediction files on the same labelled battles, in one table.

The battles are read once, a batch at a time, and every judge sees each batch; what is kept is ids,
labels, a hash of the prompt and the probabilities, so the text may be larger than memory.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from judge.cli import options, outputs
from judge.cli.console import clean, count, say, table
from judge.cli.prompted_options import Asking, prompted_options

if TYPE_CHECKING:
    from judge.comparison import Comparison, Difference, JudgeScore

HEADER = (
    "judge",
    "battles",
    "log loss [95 % interval]",
    "less the prior's [95 %]",
    "less the best's [95 %]",
    "accuracy",
    "Brier",
    "ECE",
)


@click.command()
@click.argument("labelled")
@click.argument("named", nargs=-1, required=True, metavar="[NAME=]JUDGE_OR_PREDICTIONS...")
@click.option(
    "--rounds",
    type=click.IntRange(min=100),
    default=2000,
    show_default=True,
    help="Bootstrap rounds.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap.")
@click.option("-o", "--output", metavar="FILE", help="Write the table as CSV as well.")
@options.chunk_rows
@options.workers
@options.force
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, not a table.")
@prompted_options
def compare(
    labelled: str,
    named: tuple[str, ...],
    rounds: int,
    seed: int,
    output: str | None,
    chunk_rows: int,
    workers: int,
    force: bool,
    as_json: bool,
    asking: Asking,
) -> None:
    """Compare judges, or files of what they predicted, by log loss on LABELLED battles.

    Intervals are 95 % bootstrap intervals that resample prompts; differences are paired, battle by
    battle, and negative where a judge is better. The class prior comes first: what beats it has
    learnt something.

    \b
    Example:
      arena-judge compare battles.csv predictions.csv
      arena-judge compare battles.csv statistical old=p1.csv new=p2.csv -o table.csv
    """
    from judge.atomic import written_whole
    from judge.cli.entrants import entrants, read_with
    from judge.comparison import PRIOR
    from judge.comparison import compare as compare_judges
    from judge.provenance import flattering, learned_from

    inputs = [labelled, *(name.rpartition("=")[2] for name in named), *named]
    target = None
    if output is not None:
        target = outputs.target(output, outputs.COMPARISON, inputs=inputs, force=force)
    replaced = target is not None and target.is_file()
    with entrants(named, labelled, asking, seed=seed, taken=[PRIOR]) as field:
        if asking.dry_run:
            for one in field:
                if one.judge is not None:
                    asking.tell_estimate(one.judge, labelled, chunk_rows, as_json=as_json)
            return
        battles = read_with(labelled, field, asking=asking, chunk_rows=chunk_rows, workers=workers)
    result = compare_judges(
        battles.labels, battles.proba, groups=battles.prompts, rounds=rounds, seed=seed
    )
    if target is not None:
        with written_whole(target) as file:
            file.write(result.to_frame().to_csv(index=False, lineterminator="\n").encode())
    if as_json:
        click.echo(json.dumps(_finite(asdict(result)), allow_nan=False))
    else:
        for line in [*table(HEADER, [_row(score) for score in result.scores]), "", *_notes(result)]:
            click.echo(line)
    for one in field:
        if one.judge is not None and learned_from(one.judge.sources, labelled):
            say(f"note: {flattering(one.name, labelled)}")
    if target is not None:
        say(f"{target}: {'replaced' if replaced else 'written'}")


def _row(score: JudgeScore) -> list[str]:
    return [
        score.name,
        f"{score.battles:,}",
        f"{score.log_loss:.4f} {_range(score.low, score.high, '.4f')}",
        _difference(score.against_prior),
        _difference(score.against_best),
        f"{score.accuracy:.3f}",
        f"{score.brier:.4f}",
        f"{score.calibration_error:.4f}",
    ]


def _range(low: float, high: float, form: str) -> str:
    return "[-]" if math.isnan(low) else f"[{low:{form}}, {high:{form}}]"


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return "-"
    span = _range(difference.low, difference.high, "+.4f")
    return f"{difference.value:+.4f} {span}"


def _notes(result: Comparison) -> list[str]:
    """What a reader of the table must know to read it right."""
    notes = [
        f"{count(result.battles, 'labelled battle')}, {count(result.prompts, 'prompt')}; intervals "
        f"from {result.rounds:,} bootstrap rounds over prompts, seed {result.seed}.",
        "The class prior is fitted on these very labels, so it is the best constant there is: A "
        f"{result.prior[0]:.3f}, B {result.prior[1]:.3f}, tie {result.prior[2]:.3f}.",
    ]
    if result.unlabelled:
        notes.append(f"{count(result.unlabelled, 'battle')} without a label left out.")
    notes.extend(
        f"{clean(score.name)} left {count(score.unjudged, 'battle')} unjudged."
        for score in result.scores
        if score.unjudged
    )
    if result.common < result.battles:
        notes.append(
            f"Differences are over the {count(result.common, 'battle')} that all have judged."
        )
    return notes


def _finite(value: object) -> object:
    """The same with None for NaN, which JSON has no word for."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
