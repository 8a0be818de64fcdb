"""What `teach` and `distill` have in common: a judge for each fold, and what is told of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from finetune.cli.training_runs import (
    MEASURED,
    Watch,
    fold_dict,
    measured,
    measured_fold,
    needs,
    tell_rest,
)
from judge.cli.console import say, table

if TYPE_CHECKING:
    from finetune.folds.folders import Course
    from finetune.runs.teaching import Trained
    from finetune.settings.config import Config

FOLD = click.option(
    "--fold",
    "fold",
    type=click.IntRange(min=0),
    multiple=True,
    metavar="N",
    help="Make the judges of these folds, from 0.  [default: all]",
)


def teach_folds(
    config: Config,
    which: tuple[int, ...],
    *,
    fresh: bool,
    workers: int,
    force: bool,
    as_json: bool,
) -> None:
    """Makes the judges of folds, and says how good they are."""
    needs()
    from finetune.runs.teaching import teach
    from finetune.settings.checking import refuse
    from finetune.training.processes import joined, started

    if not which and config.data.fold is not None:
        which = (config.data.fold,)
    config = replace(config, data=replace(config.data, fold=None))
    refuse(config, count=started())
    with joined(config.run.device) as processes:
        course = teach(
            config,
            Path(str(config.run.output)),
            which,
            processes=processes,
            watching=lambda _: Watch(processes.first),
            force=force,
            fresh=fresh,
            workers=workers,
            say=say if processes.first else lambda line: None,
        )
    if processes.first:
        _tell(course, as_json)


def _tell(course: Course[Trained], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_as_dict(course), allow_nan=False))
    else:
        rows = [
            (*measured_fold(one), f"{one.best_step:,}", "" if one.new else "kept")
            for one in course.taught
        ]
        if course.whole is not None:
            rows.append((course.whole.name, *measured(course.whole), "", ""))
        for line in table(("battles", *MEASURED, "step", ""), rows):
            click.echo(line)
    tell_rest(course)


def _as_dict(course: Course[Trained]) -> dict[str, object]:
    return {
        "output": str(course.folder),
        "folds": [
            {**fold_dict(one), "steps": one.steps, "best_step": one.best_step}
            for one in course.taught
        ],
        "missing": list(course.missing),
        "out_of_fold": None if course.whole is None else course.whole.settings(),
    }
