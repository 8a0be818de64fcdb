"""`arena-judge finetune average`: several judges of one base, such as those of folds, made one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from finetune.cli.watching import watched
from judge.cli import options
from judge.cli.classifier_options import Running, classifier_options
from judge.cli.console import count, say, table
from judge.cli.learning import finite, shown, spread

if TYPE_CHECKING:
    from finetune.measuring.trials import Trial
    from finetune.weights.averages import Averaged

HOW = ("deltas", "factors")
WEIGHTS = ("equal", "cv", "advantage")


def _rank(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> int | str | None:
    """A number from 1, or `exact`."""
    if value is None or value == "exact":
        return value
    if not (value.isascii() and value.isdigit() and len(value) < 7 and int(value) > 0):
        raise click.BadParameter(f"{value!r} is no rank; write a number, or exact")
    return int(value)


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="FOLDER...")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="The judge to write.")
@click.option(
    "--how",
    type=click.Choice(HOW),
    default=HOW[0],
    show_default=True,
    help="Of adapters: deltas, the mean of what they change in the weights; factors, the mean of "
    "A and of B, as is often published, whose product is another thing.",
)
@click.option(
    "--rank",
    callback=_rank,
    metavar="N|exact",
    help="Of the mean of deltas; exact: all that it has, the sum of the ranks.  [default: the "
    "judges' own]",
)
@click.option(
    "--weights",
    type=click.Choice(WEIGHTS),
    default=WEIGHTS[0],
    show_default=True,
    help="cv: by the log loss on its own fold that a judge's folder states; advantage: by what "
    "they say of the --dev battles.",
)
@click.option(
    "--temperature",
    type=options.Finite(min=1e-4),
    default=0.05,
    show_default=True,
    help="With --weights cv: nats that make a judge count e times as much.",
)
@click.option(
    "--dev",
    multiple=True,
    metavar="FILE",
    help="Labelled battles to try it on, those of all files together; an average that loses "
    "there against its judges is not written.",
)
@click.option("--force-merge", is_flag=True, help="Write it even so.")
@click.option("--name", metavar="NAME", help="What the judge is called in tables.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of the intervals, and of the order of battles for advantage.",
)
@options.workers
@options.force
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, not a table.")
@classifier_options
def average(
    folders: tuple[str, ...],
    output: str,
    how: str,
    rank: int | str | None,
    weights: str,
    temperature: float,
    dev: tuple[str, ...],
    force_merge: bool,
    name: str | None,
    seed: int,
    workers: int,
    force: bool,
    as_json: bool,
    running: Running,
) -> None:
    """Make one judge of several of one base: judge FOLDERs, or folders of fold-0, fold-1, ...

    Of LoRA judges the adapters are averaged, and the base is not read; of judges all whose weights
    learned, these are. Heads are averaged as they are. With --dev the average, each judge and the
    mean of their probabilities are measured on the same battles; where the average has more log
    loss than the judges have on the mean, it is refused, with exit code 1 and nothing written.

    \b
    Example:
      arena-judge finetune average teachers/minilm -o averaged --dev dev.csv
      arena-judge finetune average students/fold-* -o averaged --how factors --weights cv
      arena-judge finetune average teachers/phi3 -o averaged --rank exact
    """
    from finetune.weights.folders import opened, read_judge_folder, target_beside
    from judge.classifier.hardware import needed

    if weights == "advantage" and not dev:
        raise click.UsageError("--weights advantage is learned from battles: add --dev FILE")
    if force_merge and not dev:
        raise click.UsageError("--force-merge says nothing without --dev FILE")
    needed("torch")
    needed("safetensors")
    judges = [read_judge_folder(path) for path in opened(folders)]
    target = target_beside(output, judges, dev, force=force)
    from finetune.measuring.trials import Refused, read_ground
    from finetune.weights.averages import Weighing
    from finetune.weights.averages import average as average_judges
    from finetune.weights.plans import planned

    plan = planned(judges, how=how, rank=rank)
    ground = read_ground(dev, workers) if dev else None
    try:
        made = average_judges(
            plan,
            target,
            Weighing(weights, temperature, seed),
            ground=ground,
            forced=force_merge,
            name=name,
            running=running.settings(),
            say=say,
            watched=watched,
        )
    except Refused as refused:
        _show(None, refused.trial, [], as_json)
        raise
    names = [one.name for one in plan.judges]
    _show(made, made.trial, names, as_json)
    _tell(made, names)


def _show(made: Averaged | None, trial: Trial | None, names: list[str], as_json: bool) -> None:
    if as_json:
        told: dict[str, object] = {"output": None if made is None else str(made.folder)}
        if made is not None:
            told |= {
                "judges": names,
                "weights": list(made.weights),
                "rank": made.result.rank,
                "lost": made.result.lost,
                "matrices": made.result.matrices,
                "notes": list(made.notes),
            }
        if trial is not None:
            told |= {
                "refused": made is None,
                "scores": [{"judge": one.name, **one.settings()} for one in trial.scores],
                "less_judges": spread(trial.against_each),
                "less_mean": spread(trial.against_mean),
            }
        click.echo(json.dumps(finite(told), allow_nan=False))
        return
    if trial is None:
        if made is not None:
            rows = [(n, f"{w:.4f}") for n, w in zip(names, made.weights, strict=True)]
            for line in table(("judge", "weight"), rows):
                click.echo(line)
        return
    given = () if made is None else made.weights
    weights = ["", "", *(f"{weight:.4f}" for weight in given)]
    weights += [""] * (len(trial.scores) - len(weights))
    scored = [
        (
            one.name,
            weight,
            f"{one.battles:,}",
            f"{one.log_loss:.4f}",
            _interval(one),
            f"{one.accuracy:.1%}",
        )
        for one, weight in zip(trial.scores, weights, strict=True)
    ]
    for line in table(("judge", "weight", "battles", "log loss", "95 %", "accuracy"), scored):
        click.echo(line)
    click.echo(f"average less its judges' mean log loss: {shown(trial.against_each)}")
    click.echo(f"average less the mean of their probabilities: {shown(trial.against_mean)}")


def _tell(made: Averaged, names: list[str]) -> None:
    for note in made.notes:
        say(f"note: {note}")
    result = made.result
    if made.trial is not None and made.trial.loses:
        say("note: it loses against its judges, and is written all the same (--force-merge)")
    what = f"{count(len(names), 'judge')}, {count(result.matrices, 'matrix')}".replace(
        "matrixs", "matrices"
    )
    if result.rank is not None:
        what += f" of rank {result.rank}, {result.lost:.2%} of the mean change lost to the rank"
    say(f"{made.folder}: written; the average of {what}")


def _interval(one: Any) -> str:
    return "-" if one.low != one.low else f"[{one.low:.4f}, {one.high:.4f}]"
