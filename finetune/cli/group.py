"""`arena-judge finetune`: from battles with labels to a judge of one's own."""

from __future__ import annotations

import click

from judge.cli.groups import LazyGroup

COMMANDS = {
    "folds": ("finetune.cli.folds:folds", "Deal battles out to folds."),
    "logits": ("finetune.cli.logits:logits", "Keep what teachers say of battles."),
    "calibrate-logits": (
        "finetune.cli.calibrate_logits:calibrate_logits",
        "Calibrate what teachers say on labels.",
    ),
    "prune": ("finetune.cli.prune:prune", "Find battles whose labels are noise."),
    "train": ("finetune.cli.train:train", "Train a judge on labelled battles."),
    "statistical": ("finetune.cli.statistical:statistical", "Learn a judge by text features."),
    "teach": ("finetune.cli.teach:teach", "Train a judge for each fold on the others."),
    "distill": ("finetune.cli.distill:distill", "Train a student with teachers' logits."),
    "average": ("finetune.cli.average:average", "Make one judge of several."),
    "merge": ("finetune.cli.merge:merge", "Work a judge's adapter into its base."),
    "quantize": ("finetune.cli.quantize:quantize", "Write a judge in 8 or 4 bits."),
    "ensemble": ("finetune.cli.ensemble:ensemble", "Judges or predictions of folds as one."),
    "evaluate": ("finetune.cli.evaluate:evaluate", "Measure on held-out battles; submissions."),
    "pipeline": ("finetune.cli.pipeline:pipeline", "Run the steps of a recipe."),
}


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
)
@click.pass_context
def finetune(context: click.Context) -> None:
    """Make judges out of transformers and battles with labels.

    \b
    Example:
      arena-judge finetune train battles.csv --base microsoft/Phi-3-mini-4k-instruct -o judges/phi3
      arena-judge score other.csv --judge judges/phi3
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
