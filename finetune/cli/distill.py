"""`arena-judge finetune distill`: a student that learns from teachers and from labels."""

from __future__ import annotations

from typing import Any

import click

from finetune.cli.config_options import config_options, resolved
from finetune.cli.fold_runs import FOLD, teach_folds
from finetune.cli.train import rehearse_one, train_one
from judge.cli import options
from judge.errors import InputError


@click.command()
@click.argument("battles", required=False)
@FOLD
@click.option("--config", "config_file", metavar="FILE.yaml", help="What is not said here.")
@config_options(without=("data.battles", "data.fold"))
@click.option(
    "--stats-only",
    is_flag=True,
    help="Say what would be learned from, how fast, and with what memory; train nothing.",
)
@click.option("--fresh", is_flag=True, help="Leave what unfinished runs have done.")
@options.workers
@options.force
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, not a table.")
def distill(
    battles: str | None,
    fold: tuple[int, ...],
    config_file: str | None,
    stats_only: bool,
    fresh: bool,
    workers: int,
    force: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Train a student on BATTLES with what teachers say of them.

    The loss is alpha times the divergence from the teachers' probabilities (softened by a
    temperature, times its square), and the rest the labels' cross-entropy; --mse and --cosine add
    distances of probabilities. Battles that no teacher speaks of have their label alone, battles
    without a label the teachers alone. With --folds a student for each fold is made, which is
    measured on its fold.

    \b
    Example:
      arena-judge finetune distill battles.csv --teacher logits/phi3.parquet --base MODEL -o student
      arena-judge finetune distill battles.csv --teacher 'logits/*.parquet' --base MODEL \\
          --alpha 0.667 --cosine 0.667 --folds folds -o student
      arena-judge finetune distill battles.csv --extra more.csv --teacher 'logits/*.parquet' \\
          --base MODEL --epochs 2 --curriculum 0.5 -o student
    """
    config = resolved(config_file, values | {"data_battles": battles})
    if config.data.battles is None:
        raise click.UsageError("name a file of BATTLES")
    if not config.distillation.teacher:
        raise click.UsageError("name the teachers' logits: --teacher 'logits/*.parquet'")
    if config.run.output is None and not stats_only:
        raise click.UsageError("name the folder for the student: -o FOLDER")
    if fold and config.data.folds is None:
        raise click.UsageError("name the folds, as `finetune folds` makes them: --folds FOLDER")
    if stats_only:
        if len(fold) > 1:
            raise InputError("--stats-only is about one student", mend="name one --fold")
        config = resolved(config_file, values | {"data_battles": battles, "data_fold": _one(fold)})
        rehearse_one(config, workers=workers, as_json=as_json)
    elif config.data.folds is None:
        train_one(config, fresh=fresh, workers=workers, force=force, as_json=as_json)
    else:
        teach_folds(config, fold, fresh=fresh, workers=workers, force=force, as_json=as_json)


def _one(fold: tuple[int, ...]) -> int | None:
    return fold[0] if fold else None
