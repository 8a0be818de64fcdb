"""`arena-judge synth`: from battles to a checked, annotated set to train judges on."""

from __future__ import annotations

import click

from judge.cli.groups import LazyGroup

COMMANDS = {
    "plan": ("synth.cli.plan:plan", "Draw the battles to annotate, and say what it will cost."),
    "run": ("synth.cli.run:run", "Have models annotate what was planned."),
    "check": ("synth.cli.check:check", "Find out whether the annotations are worth training on."),
    "export": ("synth.cli.export:export", "Write the set as training data."),
}


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
)
@click.pass_context
def synth(context: click.Context) -> None:
    """Make data to train judges on: battles, annotated by a large model.

    \b
    Example:
      arena-judge synth plan battles.parquet --size 20000 -o plan --annotator endpoint:MODEL
      arena-judge synth run plan -o data --dry-run
      arena-judge synth run plan -o data --max-cost 400
      arena-judge synth check data --filter kept
      arena-judge synth export kept --format preference -o train.parquet
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
