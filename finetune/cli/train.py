"""`arena-judge finetune train`: from labelled battles to a judge folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from finetune.cli.config_options import DISTILLATION, config_options, resolved
from finetune.cli.training_runs import Watch, needs, tell
from judge.cli import options
from judge.cli.console import say

if TYPE_CHECKING:
    from finetune.runs.statistics import Statistics
    from finetune.settings.config import Config
    from finetune.training.processes import Processes
    from finetune.training.rehearsing import Speed


@click.command()
@click.argument("battles", required=False)
@click.option("--config", "config_file", metavar="FILE.yaml", help="What is not said here.")
@config_options(without=("data.battles", *DISTILLATION))
@click.option(
    "--stats-only",
    is_flag=True,
    help="Say what would be learned from, how fast, and with what memory; train nothing.",
)
@click.option(
    "--auto-fit",
    is_flag=True,
    help="Lower what has to be lowered until it fits the memory there is, as doctor does.",
)
@click.option("--fresh", is_flag=True, help="Leave what an unfinished run has done.")
@options.workers
@options.force
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, not a table.")
def train(
    battles: str | None,
    config_file: str | None,
    stats_only: bool,
    auto_fit: bool,
    fresh: bool,
    workers: int,
    force: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Train a judge on labelled BATTLES.

    What is written is a judge folder as any other. A run that was ended, however that happened,
    goes on where it was when the same command is given again. Everything that an option says can
    stand in a YAML file (--config); the judge folder keeps the whole of it as train.yaml.

    \b
    Example:
      arena-judge finetune train battles.csv --base microsoft/Phi-3-mini-4k-instruct -o judges/phi3
      arena-judge finetune train battles.parquet --base models/MiniLM --epochs 3 -o judges/small
      arena-judge finetune train battles.parquet --base MODEL --extra 0.5*more.csv --stats-only
      arena-judge finetune train battles.parquet --base MODEL --auto-fit -o judges/fits
      arena-judge finetune train --config judges/small/train.yaml --seed 1 -o judges/other
      arena-judge finetune train new.csv --init judges/small -o judges/newer
      arena-judge finetune train ballots.jsonl --objective votes --base MODEL -o judges/writes
      torchrun --nproc-per-node 2 -m judge finetune train battles.parquet --base MODEL -o judges/x
    """
    config = resolved(config_file, values | {"data_battles": battles})
    if config.data.battles is None:
        raise click.UsageError("name a file of BATTLES")
    if config.run.output is None and not stats_only:
        raise click.UsageError("name the judge folder to write: -o FOLDER")
    if stats_only:
        rehearse_one(config, auto_fit=auto_fit, workers=workers, as_json=as_json)
    else:
        train_one(
            config, auto_fit=auto_fit, fresh=fresh, workers=workers, force=force, as_json=as_json
        )


def rehearse_one(config: Config, *, auto_fit: bool = False, workers: int, as_json: bool) -> None:
    """Says what a judge would be learned from."""
    needs()
    from finetune.runs.running import rehearse
    from finetune.settings.checking import refuse
    from finetune.training.processes import joined, started

    refuse(config, count=started())
    with joined(config.run.device) as processes:
        config, lowered = _fitted(config, auto_fit, processes)
        found = rehearse(config, processes=processes, workers=workers)
        if processes.first:
            _tell_stats(found, as_json, lowered)


def train_one(
    config: Config,
    *,
    auto_fit: bool = False,
    fresh: bool,
    workers: int,
    force: bool,
    as_json: bool,
) -> None:
    """Makes the judge that a config asks for, and says what came of it."""
    from finetune.runs.targets import judge_target

    target = judge_target(config, force=force)
    needs()
    from finetune.runs.running import run
    from finetune.settings.checking import refuse
    from finetune.training.processes import joined, started

    refuse(config, count=started())
    with joined(config.run.device) as processes, Watch(processes.first) as watch:
        config, lowered = _fitted(config, auto_fit, processes, target, fresh=fresh)
        made = run(
            config,
            target,
            processes=processes,
            watch=watch,
            fresh=fresh,
            workers=workers,
            say=watch.say,
        )
    if processes.first:
        tell(made, as_json, lowered)


def _fitted(
    config: Config,
    auto_fit: bool,
    processes: Processes,
    target: Path | None = None,
    *,
    fresh: bool = False,
) -> tuple[Config, dict[str, Any]]:
    """The config as it is to be run, and for JSON what was lowered in it."""
    if not auto_fit:
        return config, {}
    from finetune.runs import autofit

    fitted = autofit.auto_fit(config, target=target, fresh=fresh, processes=processes)
    for line in fitted.lines if processes.first else ():
        say(line)
    return fitted.config, {"lowered": list(fitted.lowered), "memory": fitted.verdict}


def _tell_stats(found: Speed | Statistics, as_json: bool, lowered: dict[str, Any]) -> None:
    from finetune.cli.stats_text import lines, speed_lines, summary
    from finetune.runs.statistics import Statistics

    if as_json:
        if isinstance(found, Statistics):
            told = found.as_dict()
        else:
            told = {"speed": asdict(found) | {"seconds": found.seconds}}
        click.echo(json.dumps(told | lowered, allow_nan=False))
        return
    if isinstance(found, Statistics):
        for line in lines(found):
            click.echo(line)
    for line in summary(found) if isinstance(found, Statistics) else speed_lines(found):
        say(line)
