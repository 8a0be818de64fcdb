"""`arena-judge finetune teach`: a judge for each fold, learned from the other folds."""

from __future__ import annotations

from typing import Any

import click

from finetune.cli.config_options import DISTILLATION, config_options, resolved
from finetune.cli.fold_runs import FOLD, teach_folds
from judge.cli import options


@click.command()
@click.argument("battles", required=False)
@FOLD
@click.option("--config", "config_file", metavar="FILE.yaml", help="What is not said here.")
@config_options(without=("data.battles", "data.fold", *DISTILLATION))
@click.option("--fresh", is_flag=True, help="Leave what unfinished runs have done.")
@options.workers
@options.force
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, not a table.")
def teach(
    battles: str | None,
    fold: tuple[int, ...],
    config_file: str | None,
    fresh: bool,
    workers: int,
    force: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Train a judge for each fold of BATTLES on the other folds.

    The judge of a fold learns from the battles of all other folds and from the extras, and is
    measured on its own fold, of which it has seen nothing: what the best step is chosen on comes
    from the side that it learns from. When all folds are there, each battle has been judged by a
    judge that has not learned from it; out-of-fold.csv keeps that as predictions.

    Folds whose judge is there are left as they are and killed ones go on, so that the same command
    can be given again, or with another --fold on each of several machines.

    \b
    Example:
      arena-judge finetune folds battles.csv -k 5 -o folds
      arena-judge finetune teach battles.csv --folds folds --base models/MiniLM -o teachers/minilm
      arena-judge finetune teach battles.csv --folds folds --base MODEL --fold 2 -o teachers/big
      arena-judge compare battles.csv statistical teachers/minilm/out-of-fold.csv
    """
    config = resolved(config_file, values | {"data_battles": battles})
    if config.data.battles is None:
        raise click.UsageError("name a file of BATTLES")
    if config.data.folds is None:
        raise click.UsageError("name the folds, as `finetune folds` makes them: --folds FOLDER")
    if config.run.output is None:
        raise click.UsageError("name the folder for the judges: -o FOLDER")
    teach_folds(config, fold, fresh=fresh, workers=workers, force=force, as_json=as_json)
