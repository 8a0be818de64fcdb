"""`arena-judge compare`: judges and prediction files on the same labelled battles, in one table.

The battles are read once, a batch at a time, and every judge sees each batch; what is kept is ids,
labels, a hash of the prompt and the probabilities, so the text may be larger than memory.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from judge.cli import options, outputs
from judge.cli.console import Progress, clean, count, expected_rows, say, table
from judge.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from judge.comparison import Comparison, Difference, JudgeScore
    from judge.judges.base import Judge

    Floats = npt.NDArray[np.float64]

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
_TABLE = (".csv", ".jsonl", ".parquet", ".gz", ".zst", ".zip")


@dataclass(frozen=True)
class Entrant:
    """One thing to compare: a judge, or what one predicted, read from a file."""

    name: str
    judge: Judge | None = None
    predictions: pd.DataFrame | None = None
    file: str | None = None


@dataclass(frozen=True)
class Labelled:
    """What is kept of the battles.

    Attributes:
        ids: N of them.
        labels: (N, 3), NaN rows unlabelled.
        prompts: (N,) a number for each prompt, equal where the prompts are.
        proba: what each judge said of them, (N, 3); prediction files are not among them.
    """

    ids: list[str]
    labels: Floats
    prompts: npt.NDArray[np.int64]
    proba: dict[str, Floats]


@click.command()
@click.argument("labelled")
@click.argument("entrants", nargs=-1, required=True, metavar="[NAME=]JUDGE_OR_PREDICTIONS...")
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
def compare(
    labelled: str,
    entrants: tuple[str, ...],
    rounds: int,
    seed: int,
    output: str | None,
    chunk_rows: int,
    workers: int,
    force: bool,
    as_json: bool,
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
    from judge.comparison import PRIOR
    from judge.comparison import compare as compare_judges
    from judge.provenance import flattering, learned_from

    inputs = [labelled, *(entrant.rpartition("=")[2] for entrant in entrants), *entrants]
    target = None
    if output is not None:
        target = outputs.target(output, outputs.COMPARISON, inputs=inputs, force=force)
    replaced = target is not None and target.is_file()
    field = [_entrant(entrant, labelled) for entrant in entrants]
    _distinct([PRIOR, *(entrant.name for entrant in field)])
    judges = {entrant.name: entrant.judge for entrant in field if entrant.judge is not None}
    battles = _read(labelled, judges, chunk_rows, workers)
    proba = {entrant.name: _proba(entrant, battles) for entrant in field}
    result = compare_judges(battles.labels, proba, groups=battles.prompts, rounds=rounds, seed=seed)
    if target is not None:
        with written_whole(target) as file:
            file.write(result.to_frame().to_csv(index=False, lineterminator="\n").encode())
    if as_json:
        click.echo(json.dumps(_finite(asdict(result)), allow_nan=False))
    else:
        for line in [*table(HEADER, [_row(score) for score in result.scores]), "", *_notes(result)]:
            click.echo(line)
    for name, judge in judges.items():
        if learned_from(judge.sources, labelled):
            say(f"note: {flattering(name, labelled)}")
    if target is not None:
        say(f"{target}: {'replaced' if replaced else 'written'}")


def _entrant(argument: str, labelled: str) -> Entrant:
    """Reads `[NAME=]X`, where X is a file of predictions or names a judge."""
    from judge.judges import load_judge
    from judge.predictions import read_predictions

    name, given, rest = argument.partition("=")
    # A path may hold "=" itself.
    named = bool(given and name and rest) and not os.path.exists(argument)
    thing = rest if named else argument
    if os.path.isdir(thing) or not (os.path.exists(thing) or thing.lower().endswith(_TABLE)):
        judge = load_judge(thing)
        return Entrant(clean(name if named else judge.name), judge)
    if os.path.exists(labelled) and outputs.is_same_file(Path(thing), labelled):
        raise InputError("would be compared with itself", file=thing, mend="name predictions")
    stem = Path(thing).name
    for suffix in reversed(Path(thing).suffixes):
        stem = stem.removesuffix(suffix) if suffix.lower() in _TABLE else stem
    return Entrant(clean(name if named else stem), None, read_predictions(thing), thing)


def _distinct(names: Sequence[str]) -> None:
    for place, name in enumerate(names):
        if name in names[:place]:
            raise InputError(
                f"two of them are called {name!r}",
                mend="tell them apart: NAME=JUDGE_OR_PREDICTIONS",
            )


def _read(labelled: str, judges: dict[str, Judge], chunk_rows: int, workers: int) -> Labelled:
    """Reads the battles and has every judge judge them, all in one pass."""
    import numpy as np

    from judge.battles import iter_battles
    from judge.parallel import ordered_map

    parts: list[Labelled] = []
    with Progress("battles", *expected_rows(labelled)) as progress:
        batches = iter_battles(labelled, chunk_rows=chunk_rows)
        for part in ordered_map(partial(_judge_batch, labelled, judges), batches, workers):
            parts.append(part)
            progress.advance(len(part.ids))
    return Labelled(
        [name for part in parts for name in part.ids],
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.prompts for part in parts]),
        {name: np.concatenate([part.proba[name] for part in parts]) for name in judges},
    )


def _judge_batch(labelled: str, judges: dict[str, Judge], battles: pd.DataFrame) -> Labelled:
    import numpy as np

    from judge.battles import labels

    found = labels(battles)
    if found is None:
        raise InputError(
            "has no labels, and judges are compared by labels",
            file=labelled,
            mend="add winner_model_a, winner_model_b and winner_tie, or winner",
        )
    return Labelled(
        battles["id"].tolist(),
        found,
        np.array([hash(prompt) for prompt in battles["prompt"]], dtype=np.int64),
        {name: judge.predict_proba(battles) for name, judge in judges.items()},
    )


def _proba(entrant: Entrant, battles: Labelled) -> Floats:
    """(N, 3) what the entrant says of the battles, NaN where nothing."""
    from judge.comparison import align

    if entrant.predictions is None:
        return battles.proba[entrant.name]
    aligned = align(battles.ids, entrant.predictions, file=entrant.file)
    if aligned.missing:
        missing = count(aligned.missing, "battle")
        say(f"{entrant.file}: {missing} not in it, counted as unjudged")
    if aligned.unknown:
        unknown = count(aligned.unknown, "prediction")
        say(f"{entrant.file}: {unknown} for no battle here, left out")
    return aligned.proba


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
