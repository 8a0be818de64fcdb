"""`arena-judge finetune merge`: a judge's adapter worked into its base."""

from __future__ import annotations

import json

import click

from judge.cli import options
from judge.cli.console import count, say, table
from judge.errors import InputError

DTYPES = ("float32", "bfloat16", "float16")


@click.command()
@click.argument("judge", metavar="JUDGE")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="The judge to write.")
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    default="bfloat16",
    show_default=True,
    help="Numbers that weights are kept in; a head stays in float32.",
)
@click.option("--name", metavar="NAME", help="What the judge is called in tables.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Nothing hangs on it."
)
@options.force
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, not a table.")
def merge(
    judge: str,
    output: str,
    dtype: str,
    name: str | None,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Work the LoRA adapter of a JUDGE into its base, and write the whole.

    What is written judges as the adapter on its base does, but for the rounding of its numbers, and
    needs no base beside it. Judges that write ballots are merged as well as those that say who won;
    of a judge without an adapter only the numbers change.

    \b
    Example:
      arena-judge finetune merge judges/phi3 -o judges/phi3-whole
      arena-judge finetune merge averaged -o merged --dtype float16
    """
    from finetune.weights.folders import fold_folders, read_judge_folder, target_beside
    from judge.classifier.hardware import needed

    for package in ("torch", "transformers", "safetensors"):
        needed(package)
    if fold_folders(judge):
        mend = "merge each, or average them first"
        raise InputError("holds judges of folds and is none itself", file=judge, mend=mend)
    folder = read_judge_folder(judge)
    target = target_beside(output, [folder], force=force)
    from finetune.weights.merging import merge as merge_judge

    made = merge_judge(folder, target, dtype=dtype, name=name)
    if as_json:
        told = {
            "output": str(made.folder),
            "dtype": made.dtype,
            "matrices": made.matrices,
            "parameters": made.parameters,
            "bytes": made.bytes,
        }
        click.echo(json.dumps(told, allow_nan=False))
    else:
        header = ("judge", "dtype", "matrices changed", "parameters", "MB")
        row = (
            str(made.folder),
            made.dtype,
            f"{made.matrices:,}",
            f"{made.parameters:,}",
            f"{made.bytes / 1e6:,.1f}",
        )
        for line in table(header, [row]):
            click.echo(line)
    if not folder.adapted:
        say("note: it has no adapter, so nothing but its numbers changed")
    changed = count(made.matrices, "matrix").replace("matrixs", "matrices")
    say(f"{made.folder}: written in {made.dtype}; {changed} changed by the adapter")
