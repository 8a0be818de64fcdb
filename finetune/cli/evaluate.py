"""`arena-judge finetune evaluate`: judges of folds and others on the same held-out battles, and the
file that a competition is sent."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from finetune.cli.watching import watched
from judge.cli import options, outputs
from judge.cli.classifier_options import Running, classifier_options
from judge.cli.console import clean, count, say, table
from judge.cli.learning import TABLES, finite, write_cross_fitted
from judge.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from finetune.ensembles.evaluating import Battles, FoldScore
    from finetune.ensembles.submissions import Checked
    from finetune.folds.table import Folds
    from judge.comparing.scores import Comparison
    from judge.judges.base import Judge

    Floats = npt.NDArray[np.float64]


@click.command()
@click.argument("battles")
@click.argument("named", nargs=-1, metavar="[NAME=]JUDGE_OR_PREDICTIONS...")
@click.option(
    "--folds",
    "folds_folder",
    metavar="FOLDER",
    help="The folds of BATTLES: each is judged by the judge that was held out from it.  [default: "
    "by all judges of folds, on the mean]",
)
@click.option("-o", "--output", metavar="FILE", help="Write the table as CSV as well.")
@click.option(
    "--predictions",
    metavar="FILE",
    help="Write what a single judge said of the battles, with --folds out of fold.",
)
@click.option(
    "--submission",
    metavar="FILE.csv",
    help="Write what a single judge said as a submission, and check it.",
)
@click.option(
    "--check",
    "to_check",
    multiple=True,
    metavar="FILE.csv",
    help="Check a submission from elsewhere against BATTLES, and measure it where there are "
    "labels.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=100),
    default=2000,
    show_default=True,
    help="Bootstrap rounds.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the bootstrap."
)
@options.workers
@options.force
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, not a table.")
@classifier_options
def evaluate(
    battles: str,
    named: tuple[str, ...],
    folds_folder: str | None,
    output: str | None,
    predictions: str | None,
    submission: str | None,
    to_check: tuple[str, ...],
    rounds: int,
    seed: int,
    workers: int,
    force: bool,
    as_json: bool,
    running: Running,
) -> None:
    """Measure judges on BATTLES that were held out from them.

    A folder of fold-0, fold-1, ... is one entrant: with --folds each battle is judged by the judge
    that was held out from it, and a line a fold says how they did; without, the battles are none
    of theirs, and what all say is averaged. Others are judges or files of predictions, on the very
    same battles, with paired differences as in arena-judge compare.

    \b
    Example:
      arena-judge finetune evaluate battles.parquet teachers/minilm --folds folds/
      arena-judge finetune evaluate holdout.csv averaged teachers/minilm statistical
      arena-judge finetune evaluate test.csv averaged --submission submission.csv
    """
    if not named and not to_check:
        raise click.UsageError("name a judge or predictions, or a submission to --check")
    for option, value in (("--predictions", predictions), ("--submission", submission)):
        if value is not None and len(named) != 1:
            raise click.UsageError(f"{option} is what one says: name one judge or predictions")
    inputs = [battles, *(spec for _, spec in map(_split, named)), *to_check]
    targets = _targets(inputs, output, predictions, submission, force)

    from finetune.ensembles.evaluating import by_fold, read_battles
    from finetune.folds.table import read_folds

    folds = None if folds_folder is None else read_folds(folds_folder)
    read = read_battles(battles, folds, workers)
    _can_be(targets, read)
    checked = _checked(to_check, read)
    said = _said(named, read, folds, running)
    said |= {_unlike(Path(one.file).name, said): _laid(one, read) for one in checked}
    compared = _compared(read, said, rounds, seed)
    written = _write(targets, read, said, compared)
    scores = by_fold(read, said) if compared is not None else []
    everything = [*checked, *([] if written is None else [written])]
    _show(read, compared, scores, everything, as_json)
    for path in targets.values():
        say(f"{path}: written")
    unlabelled = "" if compared is not None else "; they have no labels, so nothing is measured"
    held = int(read.held_out.sum())
    say(f"{battles}: {count(held, 'battle')} judged by {len(said)}{unlabelled}")


# --- what is read ---------------------------------------------------------------------------------


def _split(argument: str) -> tuple[str, str]:
    """The name, empty where none is given, and the rest. A path may hold "=" itself."""
    name, given, rest = argument.partition("=")
    if given and name and rest and not os.path.exists(argument):
        return name, rest
    return "", argument


def _targets(
    inputs: list[str],
    output: str | None,
    predictions: str | None,
    submission: str | None,
    force: bool,
) -> dict[str, Path]:
    """Where results go, known to be safe before any work is done."""
    if submission is not None and not submission.lower().endswith(".csv"):
        raise InputError("is no name for a submission", file=submission, mend="end it in .csv")
    found: dict[str, Path] = {}
    wanted = (
        ("table", output, outputs.COMPARISON),
        ("predictions", predictions, outputs.PREDICTIONS),
        ("submission", submission, outputs.PREDICTIONS),
    )
    for name, path, columns in wanted:
        if path is not None:
            before = [*inputs, *map(str, found.values())]
            if any(outputs.is_same_file(Path(path), str(one)) for one in found.values()):
                raise InputError("would be written twice", file=path, mend="name another file")
            found[name] = outputs.target(path, columns, inputs=before, force=force)
    return found


def _can_be(targets: dict[str, Path], battles: Battles) -> None:
    """Sees to it that the battles allow what is to be written, before any are judged.

    Raises:
        InputError: they do not.
    """
    import numpy as np

    from finetune.ensembles.submissions import check_ids

    if "submission" in targets:
        check_ids(battles.ids)
    if "table" in targets and np.isnan(battles.labels[battles.held_out]).any(axis=1).all():
        raise InputError("has no labels, so there is no table to write", file=battles.file)


def _said(
    named: tuple[str, ...], battles: Battles, folds: Folds | None, running: Running
) -> dict[str, Floats]:
    """(N, 3) what each entrant says of the battles."""
    import numpy as np

    from finetune.ensembles.evaluating import mean_of_folds, out_of_fold, tell_known
    from finetune.weights.folders import fold_folders
    from judge.judges import load_judge

    found: dict[str, Floats] = {}
    for argument in named:
        name, spec = _split(argument)
        folders = fold_folders(spec)
        if folders:
            called = name or Path(spec).resolve().name
            if folds is None:
                proba = mean_of_folds(folders, battles, running.settings(), say, watched)
            else:
                proba = out_of_fold(spec, battles, folds, running.settings(), say, watched)
        elif spec.lower().endswith(TABLES) and not os.path.isdir(spec):
            called, proba = name or Path(spec).name, _predicted(spec, battles)
        else:
            with closing(load_judge(spec, running=running.settings())) as judge:
                tell_known(judge, battles, say)
                called, proba = name or judge.name, _of_held_out(judge, battles)
        called = clean(called)
        if called in found:
            mend = "tell them apart: NAME=JUDGE_OR_PREDICTIONS"
            raise InputError(f"two of them are called {called!r}", mend=mend)
        # All are measured on the same battles, which are those that are in a fold.
        found[called] = np.where(battles.held_out[:, None], proba, np.nan)
    return found


def _of_held_out(judge: Judge, battles: Battles) -> Floats:
    """(N, 3) what a judge says of the battles that are measured on; NaN rows for others."""
    import numpy as np

    rows = np.flatnonzero(battles.held_out)
    proba = np.full((len(battles), 3), np.nan)
    with watched(judge, len(rows)):
        proba[rows] = judge.predict_proba(battles.table.iloc[rows].reset_index(drop=True))
    return proba


def _predicted(file: str, battles: Battles) -> Floats:
    from judge.comparing.matching import align
    from judge.predictions import read_predictions

    laid = align(battles.ids, read_predictions(file), file=file)
    if laid.missing:
        say(f"{file}: {count(laid.missing, 'battle')} not in it, counted as unjudged")
    if laid.unknown:
        say(f"{file}: {count(laid.unknown, 'prediction')} for no battle here, left out")
    return laid.proba


def _checked(files: tuple[str, ...], battles: Battles) -> list[Checked]:
    from finetune.ensembles.submissions import check_submission

    return [check_submission(file, battles.ids) for file in files]


def _laid(checked: Checked, battles: Battles) -> Floats:
    """A submission in the order of the battles."""
    import numpy as np

    place = {name: number for number, name in enumerate(checked.ids)}
    proba = checked.proba[[place[name] for name in battles.ids]]
    return np.asarray(np.where(battles.held_out[:, None], proba, np.nan))


def _unlike(name: str, said: dict[str, Floats]) -> str:
    called, number = clean(name), 1
    while called in said:
        number += 1
        called = f"{clean(name)} {number}"
    return called


def _compared(
    battles: Battles, said: dict[str, Floats], rounds: int, seed: int
) -> Comparison | None:
    """The comparison; None where no battle that is measured on has a label."""
    import numpy as np

    from judge.comparison import compare

    labels = np.where(battles.held_out[:, None], battles.labels, np.nan)
    if np.isnan(labels).any(axis=1).all():
        return None
    return compare(labels, said, groups=battles.prompts, rounds=rounds, seed=seed)


# --- what is written and shown --------------------------------------------------------------------


def _write(
    targets: dict[str, Path],
    battles: Battles,
    said: dict[str, Floats],
    compared: Comparison | None,
) -> Checked | None:
    """Writes what was asked for; the submission, checked."""
    import numpy as np

    from finetune.ensembles.submissions import write_submission
    from judge.files.atomic import written_whole

    first = next(iter(said.values()))
    rows = np.flatnonzero(battles.held_out).tolist()
    written = None
    if "submission" in targets:  # first, since it may be refused
        written = write_submission(targets["submission"], battles.ids, first)
    if "predictions" in targets:
        ids = [battles.ids[row] for row in rows]
        write_cross_fitted(targets["predictions"], ids, first[rows], "the judge gave no answer")
    if "table" in targets and compared is not None:
        with written_whole(targets["table"]) as file:
            file.write(compared.to_frame().to_csv(index=False, lineterminator="\n").encode())
    return written


def _show(
    battles: Battles,
    compared: Comparison | None,
    scores: list[FoldScore],
    checked: list[Checked],
    as_json: bool,
) -> None:
    from judge.cli import comparison_table

    if as_json:
        told: dict[str, Any] = {
            "battles": len(battles),
            "held_out": int(battles.held_out.sum()),
            "comparison": None
            if compared is None
            else json.loads(comparison_table.as_json(compared)),
            "folds": [
                {"fold": one.fold, "battles": one.battles, "log_loss": dict(one.log_loss)}
                for one in scores
            ],
            "submissions": [
                {
                    "file": one.file,
                    "battles": len(one.ids),
                    "in_order": one.in_order,
                    "least": one.least,
                    "means": list(one.means),
                }
                for one in checked
            ],
        }
        click.echo(json.dumps(finite(told), allow_nan=False))
        return
    parts = []
    if compared is not None:
        parts.append(comparison_table.lines(compared))
    if scores:
        names = list(scores[0].log_loss)
        rows = [
            [f"{one.fold}", f"{one.battles:,}", *(f"{one.log_loss[n]:.4f}" for n in names)]
            for one in scores
        ]
        parts.append(table(["fold", "battles", *map(clean, names)], rows))
    if checked:
        header = ("submission", "battles", "order", "least P", "mean A", "mean B", "mean tie")
        rows = [
            [
                one.file,
                f"{len(one.ids):,}",
                "as the battles" if one.in_order else "another",
                f"{one.least:.2g}",
                *(f"{mean:.4f}" for mean in one.means),
            ]
            for one in checked
        ]
        parts.append(table(header, rows))
    click.echo("\n\n".join("\n".join(part) for part in parts))
