"""`arena-judge finetune pipeline`: the steps of a recipe, each when it is due."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from judge.cli.console import count, duration, say, table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from finetune.pipeline.graph import Graph, Standing
    from finetune.pipeline.recipe import Stage
    from finetune.pipeline.table import Row

_GIB = 2**30


def _pairs(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    told = {}
    for value in values:
        name, sign, words = value.partition("=")
        if not sign:
            raise click.BadParameter(f"{value!r} is not NAME=VALUE")
        told[name] = words
    return told


@click.command()
@click.argument("recipe", metavar="RECIPE")
@click.option(
    "-o",
    "--output",
    metavar="FOLDER",
    help="The run's folder.  [default: runs/RECIPE, or runs/RECIPE-fast]",
)
@click.option(
    "--set",
    "told",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_pairs,
    help="A variable of the recipe.",
)
@click.option("--fast", is_flag=True, help="The recipe's fast form, to try it.")
@click.option("--from", "start", metavar="STAGE", help="This stage and those that take from it.")
@click.option("--until", metavar="STAGE", help="This stage and those that it takes from.")
@click.option("--only", multiple=True, metavar="STAGE", help="This stage; repeatable.")
@click.option("--task", type=click.IntRange(0), help="One task of the --only stage, from 0.")
@click.option("--dry-run", is_flag=True, help="Say what would run; run nothing.")
@click.option(
    "--on",
    type=click.Choice(["here", "slurm"]),
    default="here",
    show_default=True,
    help="Run on this machine, or submit to Slurm.",
)
@click.option("--gpus", metavar="0,1,...", help="A task at a time on each of these GPUs.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the table's intervals.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, not a table.")
def pipeline(
    recipe: str,
    output: str | None,
    told: dict[str, str],
    fast: bool,
    start: str | None,
    until: str | None,
    only: tuple[str, ...],
    task: int | None,
    dry_run: bool,
    on: str,
    gpus: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Run the steps of RECIPE, a file or the name of one that comes with the package.

    A step that was done with the same inputs and settings is not done again; one that was killed
    goes on. At the end a table says what each step was worth on battles held out.

    \b
    Example:
      arena-judge finetune pipeline cpu --set battles=train.parquet --set held-out=test.csv
      arena-judge finetune pipeline cpu --set battles=train.parquet --dry-run
      arena-judge finetune pipeline my.yaml -o runs/mine --from distill
      arena-judge finetune pipeline first-place --on slurm
    """
    from finetune.pipeline.graph import Graph, chosen
    from finetune.pipeline.recipe import read_recipe, recipe_file

    file = recipe_file(recipe)
    found = read_recipe(file, told, fast=fast)
    folder = Path(output or f"runs/{found.name}{'-fast' if fast else ''}")
    graph = Graph(found, folder)
    stages = chosen(found, start=start, until=until, only=only)
    if task is not None and (len(only) != 1 or task >= len(stages[0].tasks)):
        raise click.UsageError("--task is a number of a task of the one --only stage")
    if dry_run:
        _tell_graph(graph, stages, as_json)
        return
    if on == "slurm":
        again = [str(file.resolve()), "-o", str(folder.resolve()), *(["--fast"] if fast else [])]
        again += [word for name, value in told.items() for word in ("--set", f"{name}={value}")]
        _submit(graph, stages, again, as_json)
        return
    from finetune.pipeline.local import LocalRun
    from finetune.pipeline.picture import keep

    run = LocalRun(graph, gpus=_numbers(gpus), say=say)
    if task is not None:
        graph.ready(stages)
        run.task(graph.tasks(stages[0])[task])
        return
    ran = run.stages(stages)
    rows = [] if only or until else _measured(graph, seed)
    keep(graph.folder, rows)
    _tell(graph, rows, as_json)
    say(
        f"{folder}: {count(ran, 'task')} run, {sum(len(s.tasks) for s in stages) - ran} done before"
    )


def _numbers(gpus: str | None) -> list[str]:
    if gpus is None:
        return []
    numbers = [one.strip() for one in gpus.split(",")]
    if not all(one.isdigit() for one in numbers) or len(set(numbers)) < len(numbers):
        raise click.BadParameter("GPUs are numbers, such as 0,1", param_hint="--gpus")
    return numbers


def _measured(graph: Graph, seed: int) -> list[Row]:
    from finetune.pipeline.table import rows_of

    return rows_of(graph, _said, seed=seed)


def _said(judge: str, battles: pd.DataFrame) -> npt.NDArray[np.float64]:
    """(N, 3) what a judge says of battles, or a file of predictions that were made before."""
    from judge.comparing.matching import align
    from judge.judges import load_judge
    from judge.judges.recipes import is_recipe
    from judge.predictions import read_predictions

    if Path(judge).is_file() and not is_recipe(judge):
        return align(battles["id"].tolist(), read_predictions(judge), file=judge).proba
    return load_judge(judge).predict_proba(battles)


def _submit(graph: Graph, stages: tuple[Stage, ...], again: list[str], as_json: bool) -> None:
    from finetune.pipeline.slurm import submit

    jobs = submit(graph, stages, again)
    if as_json:
        click.echo(json.dumps([asdict(job) for job in jobs]))
        return
    rows = [(j.stage, j.number, str(j.tasks), "" if j.new else "in the queue") for j in jobs]
    for line in table(("stage", "job", "tasks", ""), rows):
        click.echo(line)
    new = sum(job.new for job in jobs)
    held = f", {len(jobs) - new} in the queue before" if new < len(jobs) else ""
    say(f"{count(new, 'job')} submitted{held}; run the same command without --on for the table")


def _tell_graph(graph: Graph, stages: tuple[Stage, ...], as_json: bool) -> None:
    """What would run, and what it would take: as it took the last time, else as the recipe says."""
    standings = list(graph.standings(stages))
    graph.records.save()
    if as_json:
        click.echo(json.dumps([_standing(graph, one) for one in standings]))
        return
    rows, minutes = [], 0.0
    for one in standings:
        told = _standing(graph, one)
        if told["state"] != "done":
            minutes += told["minutes"] or 0.0
        rows.append(
            (
                one.stage.name,
                told["state"],
                str(len(one.stage.tasks)),
                ", ".join(graph.recipe.needs(one.stage)) or "-",
                _number(told["minutes"]),
                _number(told["memory_gib"]),
                _number(told["disk_gib"]),
            )
        )
    head = ("stage", "state", "tasks", "after", "minutes", "GiB", "GiB on disk")
    for line in table(head, rows, left=4):
        click.echo(line)
    say(f"about {duration(minutes * 60)} to go; {graph.recipe.about}")


def _standing(graph: Graph, one: Standing) -> dict[str, Any]:
    records, expected = one.records, one.stage.expected
    known = len(records) == len(one.stage.tasks)
    return {
        "stage": one.stage.name,
        "state": one.state,
        "tasks": [list(task.words) for task in graph.tasks(one.stage)],
        "after": list(graph.recipe.needs(one.stage)),
        "minutes": sum(r.seconds for r in records) / 60 if known else expected.minutes,
        "memory_gib": max(r.memory for r in records) / _GIB if known else expected.memory_gib,
        "disk_gib": max(r.made for r in records) / _GIB if known else expected.disk_gib,
    }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}" if value >= 0.05 or not value else "< 0.1"


def _tell(graph: Graph, rows: list[Row], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"folder": str(graph.folder), "table": [asdict(r) for r in rows]}))
        return
    cells = []
    for row in rows:
        gap = ("", "", "")
        if row.than is not None and row.gap is not None:
            interval = f"[{row.gap.low:+.4f}, {row.gap.high:+.4f}]"
            gap = (row.than, f"{row.gap.value:+.4f}", interval)
        level = f"[{row.low:.4f}, {row.high:.4f}]"
        cells.append((row.name, f"{row.log_loss:.4f}", level, f"{row.error:.3f}", *gap))
    if cells:
        for line in table(("step", "log loss", "95 %", "ECE", "than", "less", "95 %"), cells):
            click.echo(line)
