"""`arena-judge finetune folds`: which battles are held out together."""

from __future__ import annotations

import json
from pathlib import Path

import click

from judge.cli import options
from judge.cli.console import count, say, table


@click.command()
@click.argument("battles", nargs=-1, required=True)
@click.option(
    "-k",
    "--folds",
    "k",
    type=click.IntRange(2, 1000),
    default=5,
    show_default=True,
    help="How many.",
)
@click.option(
    "--by",
    type=click.Choice(["prompt", "model"]),
    default="prompt",
    show_default=True,
    help="prompt: battles about a prompt stay together. model: besides, the judge of a fold has "
    "never seen one of the models of a battle that is held out there.",
)
@click.option(
    "--extra",
    "extras",
    multiple=True,
    metavar="FILE",
    help="Battles to learn from in every fold and to hold out in none; those about a prompt of "
    "BATTLES are left out.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the deal.")
@click.option("-o", "--output", default="folds", show_default=True, metavar="FOLDER")
@options.workers
@click.option("--force", is_flag=True, help="Replace a folder even if it holds no folds.")
@click.option("--json", "to_json", is_flag=True, help="JSON on standard output, not a table.")
def folds(
    battles: tuple[str, ...],
    k: int,
    by: str,
    extras: tuple[str, ...],
    seed: int,
    output: str,
    workers: int,
    force: bool,
    to_json: bool,
) -> None:
    """Deal BATTLES, of one or several files, out to folds.

    Battles about one prompt, whatever file they stand in, and near-copies of them are in one fold;
    folds have about as many battles, and as many of each label. What is written is a folder with
    folds.json and folds.parquet, which the steps that follow take as --folds.

    --by model deals out models. A battle has two, so no deal holds out both of every battle and
    has anything left to learn from: a battle is held out in the fold of one of its models, and the
    judge of a fold learns from no battle with a model of that fold, nor from one about a prompt
    that is held out there. So each battle is judged by a judge to which one of its models, or both,
    is new. It costs about twice as many battles to learn from.

    \b
    Example:
      arena-judge finetune folds train.parquet -k 5 -o folds
      arena-judge finetune folds a.csv b.csv --extra more.parquet -k 3 --seed 1 -o folds/three
      arena-judge finetune folds train.parquet --by model -o folds/models
    """
    from judge.files.folders import folder_target

    target = folder_target(
        output, inputs=[*battles, *extras], force=force, mark="folds.json", kind="folder of folds"
    )

    from finetune.folds.dealing import make_folds
    from finetune.folds.table import LABELS, as_json, write_folds

    made = make_folds(battles, k, by=by, extras=extras, seed=seed, workers=workers)
    replaced = Path(output).is_dir() and any(Path(output).iterdir())
    write_folds(made, target)
    found = as_json(made)
    if to_json:
        click.echo(json.dumps(found | {"output": output}, ensure_ascii=False))
    else:
        unlabelled = any(one["unlabelled"] for one in found["folds"])
        shown = LABELS if unlabelled else LABELS[:-1]
        rows = [
            [str(one["fold"]), *(f"{one[name]:,}" for name in ("held_out", *shown, "learned"))]
            for one in found["folds"]
        ]
        for line in table(["fold", "held out", *shown, "learned from"], rows):
            click.echo(line)
    for file in made.files:
        if file.extra:
            gone = f", {file.left_out:,} about prompts of BATTLES left out" if file.left_out else ""
            say(f"{file.name}: learned from only, {count(file.battles, 'battle')}{gone}")
    say(
        f"{output}: {'replaced' if replaced else 'written'}; "
        f"{count(found['battles'], 'battle')} in {k} folds by {by}"
    )
