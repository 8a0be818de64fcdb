"""`arena-judge finetune calibrate-logits`: teachers' logits, better for what labels say."""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from judge.cli import options, outputs
from judge.cli.console import count, say, table

if TYPE_CHECKING:
    from finetune.logits.calibrated import CalibratedLogits

METHODS = (
    *("auto", "identity", "temperature", "bias", "temperature+bias", "vector", "dirichlet"),
    "isotonic",
)


@click.command("calibrate-logits")
@click.argument("logits", nargs=-1, required=True)
@click.option("--battles", required=True, metavar="FILE", help="The battles, with labels.")
@click.option(
    "--folds",
    "folds_folder",
    metavar="FOLDER",
    help="Learn of the other folds for each.  [default: five, dealt by prompt]",
)
@click.option(
    "--how",
    type=click.Choice(METHODS),
    default="auto",
    show_default=True,
    help="auto: the simplest that is not beaten; identity leaves logits as they are.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT",
    help="A .parquet file; for several tables a folder, in which each keeps its name.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of folds dealt here."
)
@options.force
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, not a table.")
def calibrate_logits(
    logits: tuple[str, ...],
    battles: str,
    folds_folder: str | None,
    how: str,
    output: str,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Calibrate teachers' LOGITS (files or patterns) on labelled battles.

    A battle's logits are changed by what was learned without the battles of its fold, so students
    may learn from them; battles without label and extras by what all folds say. Exchanging the
    responses goes on exchanging P(A) and P(B).

    \b
    Example:
      arena-judge finetune calibrate-logits t/minilm.parquet --battles train.csv --folds folds \\
          --how vector -o calibrated.parquet
      arena-judge finetune calibrate-logits 't/*.parquet' --battles train.csv --folds folds -o ct
    """
    files = files_of(logits)
    targets = _targets(files, output, battles, force)

    from finetune.folds.table import read_folds
    from finetune.logits import calibrated as work
    from finetune.logits.table import read_logits, write_logits
    from judge.battles import read_battles

    folds = None if folds_folder is None else read_folds(folds_folder)
    data = work.labelled_with(read_battles(battles), battles, folds, seed=seed)
    found: list[tuple[str, CalibratedLogits]] = []
    for file in files:
        made = work.calibrate_logits(
            read_logits(file), data, battles, None if how == "auto" else how
        )
        found.append((file, made))
    if targets[0] != Path(output):
        Path(output).mkdir(parents=True, exist_ok=True)
    for target, (_, made) in zip(targets, found, strict=True):
        write_logits(target, made.logits)
    _tell(found, targets, as_json)


def files_of(patterns: tuple[str, ...]) -> list[str]:
    """The files that names and patterns are of, each once."""
    from judge.errors import InputError

    found: list[str] = []
    for pattern in patterns:
        here = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern))
        if not here:
            raise InputError("there is no such file", file=pattern)
        found += [one for one in here if one not in found]
    return found


def _targets(files: list[str], output: str, battles: str, force: bool) -> list[Path]:
    from finetune.logits.table import COLUMNS

    inputs = [battles, *files]
    if len(files) == 1 and Path(output).suffix.lower() == ".parquet":
        return [outputs.target(output, COLUMNS, inputs=inputs, force=force)]
    if Path(output).suffix.lower() == ".parquet":
        raise click.UsageError("for several tables, -o is a folder")
    names = [Path(file).name for file in files]
    if len(set(names)) < len(names):
        raise click.UsageError("two tables have the same name; calibrate them one by one")
    if Path(output).is_file():
        raise click.UsageError("-o is a file, and no folder")
    wanted = [Path(output) / name for name in names]
    if Path(output).is_dir():
        for one in wanted:
            outputs.target(str(one), COLUMNS, inputs=inputs, force=force)
    return wanted


def _tell(found: list[tuple[str, CalibratedLogits]], targets: list[Path], as_json: bool) -> None:
    if as_json:
        told = [
            {
                "file": file,
                "output": str(target),
                "teacher": one.logits.teacher,
                "method": one.method,
                "battles": one.battles,
                "before": one.log_loss["identity"],
                "after": one.log_loss[one.method],
                "difference": one.gap.value,
                "low": _number(one.gap.low),
                "high": _number(one.gap.high),
                "log_loss": one.log_loss,
            }
            for target, (file, one) in zip(targets, found, strict=True)
        ]
        click.echo(json.dumps(told))
    else:
        rows = [
            [
                one.logits.teacher,
                one.method,
                f"{one.battles:,}",
                f"{one.log_loss['identity']:.4f}",
                f"{one.log_loss[one.method]:.4f}",
                f"{one.gap.value:+.4f}",
                f"[{one.gap.low:+.4f}, {one.gap.high:+.4f}]",
            ]
            for _, one in found
        ]
        head = ["teacher", "method", "battles", "before", "after", "difference", "95 %"]
        for line in table(head, rows):
            click.echo(line)
    for file, one in found:
        if one.in_fold:
            say(f"note: {file} was made in fold: what is learned of it flatters its teacher")
    changed = sum(one.method != "identity" for _, one in found)
    say(
        f"{targets[0] if len(targets) == 1 else targets[0].parent}: written; "
        f"{count(len(found), 'table')}, {changed:,} changed"
    )


def _number(value: float) -> float | None:
    return None if value != value else value
