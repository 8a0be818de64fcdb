"""`arena-judge finetune train`: from labelled battles to a judge folder."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from finetune.cli.config_options import config_options, resolved
from judge.cli import options
from judge.cli.console import Progress, count, duration, say, table
from judge.errors import InputError

if TYPE_CHECKING:
    from finetune.config import Config
    from finetune.curves import Point
    from finetune.making import Made
    from finetune.statistics import Statistics
    from finetune.training import Speed

_NEEDED = ("torch", "transformers", "safetensors")


@click.command()
@click.argument("battles", required=False)
@click.option("--config", "config_file", metavar="FILE.yaml", help="What is not said here.")
@config_options(without=("data.battles",))
@click.option(
    "--stats-only",
    is_flag=True,
    help="Say what would be learned from, how fast, and with what memory; train nothing.",
)
@click.option("--fresh", is_flag=True, help="Leave what an unfinished run has done.")
@options.workers
@options.force
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, not a table.")
def train(
    battles: str | None,
    config_file: str | None,
    stats_only: bool,
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
    target = None if stats_only else _target(config, force=force)

    from judge.classifier.hardware import needed

    for package in _NEEDED:
        needed(package)
    from finetune.processes import joined

    with joined() as processes:
        speaks = processes.first
        if target is None:
            from finetune.running import rehearse

            found = rehearse(config, processes=processes, workers=workers)
            if speaks:
                _tell_stats(found, as_json)
            return
        with _Watch(config, speaks) as watch:
            from finetune.running import run

            made = run(
                config,
                target,
                processes=processes,
                watch=watch,
                fresh=fresh,
                workers=workers,
                say=watch.say,
            )
    if speaks:
        _tell(made, as_json)


def _target(config: Config, *, force: bool) -> Path:
    from judge.files.folders import folder_target

    data, model = config.data, config.model
    extras = [one.rpartition("*")[2] for one in data.extra]
    read = [data.battles, data.dev, *extras, *data.held_out, model.init, model.base]
    inputs = [one for one in read if one is not None]
    target = folder_target(str(config.run.output), inputs=inputs, force=force)
    for name in (model.init, model.base):
        if name is not None and os.path.isdir(name):
            inside = Path(name).resolve().is_relative_to(target.resolve())
            if inside:
                raise InputError("is what training begins with", file=target, mend="name another")
    return target


class _Watch:
    """Shows how a run goes."""

    def __init__(self, config: Config, speaks: bool) -> None:
        self._speaks = speaks
        self._progress: Progress | None = None
        self._words = ""
        self._loss = 0.0

    def __enter__(self) -> _Watch:
        return self

    def __exit__(self, *about: object) -> None:
        if self._progress is not None:
            self._progress.__exit__(None, None, None)

    def say(self, line: str) -> None:
        """One line."""
        if self._speaks:
            say(line)

    def begin(self, tokens: int) -> None:
        """So many tokens are to come."""
        if self._speaks:
            self._progress = Progress("tokens", tokens, more=lambda: self._words)

    def __call__(self, tokens: int, point: Point, speed: float, share: float | None) -> None:
        smooth = 0.9 if self._loss else 0.0
        self._loss = smooth * self._loss + (1 - smooth) * point.loss
        used = "" if share is None else f", MFU {share:.0%}"
        self._words = f", step {point.step:,}, loss {self._loss:.3f}{used}"
        if self._progress is not None:
            self._progress.advance(tokens)
        if point.dev_log_loss is not None:
            if self._progress is not None:
                self._progress.__exit__(None, None, None)
            self.say(
                f"step {point.step:,} (epoch {point.epoch:.2f}): loss {self._loss:.4f}, "
                f"dev log loss {point.dev_log_loss:.4f}"
            )


def _tell_stats(found: Speed | Statistics, as_json: bool) -> None:
    from finetune.cli.stats_text import lines, speed_lines, summary
    from finetune.statistics import Statistics

    if as_json:
        if isinstance(found, Statistics):
            told = found.as_dict()
        else:
            told = {"speed": asdict(found) | {"seconds": found.seconds}}
        click.echo(json.dumps(told, allow_nan=False))
        return
    if isinstance(found, Statistics):
        for line in lines(found):
            click.echo(line)
    for line in summary(found) if isinstance(found, Statistics) else speed_lines(found):
        say(line)


def _tell(made: Made, as_json: bool) -> None:
    outcome = made.outcome
    if as_json:
        found = {
            "output": str(made.folder),
            "steps": outcome.steps,
            "planned": outcome.planned,
            "best_step": outcome.best_step,
            "resumed_after": outcome.resumed,
            "tokens": outcome.tokens,
            "seconds": round(outcome.seconds, 2),
            "mfu": None if outcome.share is None else round(outcome.share, 4),
            "parameters": made.parameters,
            "learning": made.learning,
            "measured": {one.name: one.settings() for one in made.scores},
        }
        click.echo(json.dumps(found, allow_nan=False))
    elif made.scores:
        rows = [
            (
                one.name,
                f"{one.battles:,}",
                f"{one.log_loss:.4f}",
                _interval(one),
                f"{one.accuracy:.1%}",
            )
            for one in made.scores
        ]
        for line in table(("battles", "number", "log loss", "95 %", "accuracy"), rows):
            click.echo(line)
    for note in made.notes:
        say(f"note: {note}")
    early = "" if outcome.steps == outcome.planned else f" of {outcome.planned:,}"
    say(
        f"{made.folder}: written; {count(outcome.steps, 'step')}{early}, the weights after "
        f"step {outcome.best_step:,}, {outcome.tokens:,} tokens in {duration(outcome.seconds)}"
    )


def _interval(one: Any) -> str:
    return "-" if one.low != one.low else f"[{one.low:.4f}, {one.high:.4f}]"
