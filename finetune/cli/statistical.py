"""`arena-judge finetune statistical`: a judge by text features, from battles with labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from finetune.cli.fold_runs import FOLD
from judge.cli import options
from judge.cli.console import count, say, table

if TYPE_CHECKING:
    from finetune.folds.folders import Course, Taught
    from finetune.statistical.making import Made
    from finetune.statistical.material import Told

MOST_SEED = 2**31 - 1


@click.command()
@click.argument("battles")
@click.option(
    "--head",
    metavar="FILE",
    help="Natural battles, whose ties and whose certainty the judge is to have; nothing about "
    "their prompts is learned from otherwise.  [default: BATTLES]",
)
@click.option("--folds", metavar="FOLDER", help="Make a judge for each of these folds.")
@FOLD
@click.option(
    "--extra",
    "extras",
    multiple=True,
    metavar="[WEIGHT*]FILE",
    help="Battles to learn from besides, in every fold.",
)
@click.option(
    "--held-out",
    "held_out",
    multiple=True,
    metavar="FILE",
    help="Battles to measure on: neither they nor their prompts are learned from.",
)
@click.option(
    "--soften",
    type=options.Finite(0, 1),
    default=0.5,
    show_default=True,
    metavar="X",
    help="What the models' strengths (model_a, model_b) say of a label, beside the vote.",
)
@click.option(
    "--anonymous",
    multiple=True,
    metavar="NAME",
    help="A name in model_a and model_b that stands for no one model.",
)
@click.option(
    "--crossings",
    type=click.IntRange(2, 50),
    default=5,
    show_default=True,
    metavar="N",
    help="Folds, by prompt, in which strengths are learned for the head; without --head only.",
)
@click.option(
    "--trees",
    type=click.IntRange(1, 10_000),
    default=500,
    show_default=True,
    metavar="N",
    help="Of the forests together.",
)
@click.option("--seed", type=click.IntRange(0, MOST_SEED), default=0, show_default=True)
@click.option("--name", metavar="NAME", help="What the judge is called in tables.")
@click.option(
    "-o", "--output", required=True, metavar="FOLDER", help="The judge, or those of folds."
)
@options.workers
@options.force
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, not a table.")
def statistical(
    battles: str,
    head: str | None,
    folds: str | None,
    fold: tuple[int, ...],
    extras: tuple[str, ...],
    held_out: tuple[str, ...],
    soften: float,
    anonymous: tuple[str, ...],
    crossings: int,
    trees: int,
    seed: int,
    name: str | None,
    output: str,
    workers: int,
    force: bool,
    as_json: bool,
) -> None:
    """Learn a statistical judge, as the one that ships, from labelled BATTLES.

    It needs no model and no GPU: text features, words and runs of words, and forests of decision
    trees. What is measured is how it does on battles whose prompts it has not learned from.

    With --folds there is a judge for each fold, learned from the other folds and from the extras,
    as `finetune teach` makes them: `finetune logits` then lets each battle be judged by the one
    that has not learned from it. Folds whose judge is there are left as they are.

    \b
    Example:
      arena-judge finetune statistical battles.csv -o judges/words
      arena-judge finetune statistical pool.parquet --head natural.csv --extra 0.5*more.csv -o mine
      arena-judge finetune folds battles.csv -k 5 -o folds
      arena-judge finetune statistical battles.csv --folds folds -o teachers/words
      arena-judge finetune logits battles.csv --judge teachers/words --folds folds -o words.parquet
    """
    if fold and folds is None:
        raise click.UsageError("name the folds, as `finetune folds` makes them: --folds FOLDER")
    from finetune.rows.data import parse_extra
    from finetune.statistical.material import Told
    from finetune.statistical.strength import needed

    needed()
    itself = head is None or Path(head).resolve() == Path(battles).resolve()
    told = Told(
        battles=battles,
        head=None if itself else head,
        extras=tuple(map(parse_extra, extras)),
        held_out=held_out,
        folds=folds,
        soften=soften,
        anonymous=anonymous,
        crossings=crossings,
        trees=trees,
        seed=seed,
        name=name,
    )
    if folds is None:
        _one(told, output, workers, force, as_json)
    else:
        _of_folds(told, output, fold, workers, force, as_json)


def _one(told: Told, output: str, workers: int, force: bool, as_json: bool) -> None:
    from judge.files.folders import folder_target

    target = folder_target(output, inputs=told.read, force=force)
    replaced = target.is_dir() and any(target.iterdir())

    from finetune.statistical.making import make
    from finetune.statistical.material import read_ground, sides_of

    ground = read_ground(told, workers=workers)
    made = make(ground, sides_of(ground), target, say)
    if as_json:
        click.echo(json.dumps(_made(made), ensure_ascii=False, allow_nan=False))
    else:
        from finetune.cli.training_runs import MEASURED, measured

        for line in table(("battles", *MEASURED), [(o.name, *measured(o)) for o in made.scores]):
            click.echo(line)
    for note in made.notes:
        say(f"note: {note}")
    say(
        f"{output}: {'replaced' if replaced else 'written'}; strength from "
        f"{count(made.learned, 'battle')}, head from {made.head:,}"
    )


def _made(made: Made) -> dict[str, object]:
    return {
        "output": str(made.folder),
        "measured": {one.name: one.settings() for one in made.scores},
        "trained_on": made.learned,
        "head_trained_on": made.head,
        "notes": list(made.notes),
    }


def _of_folds(
    told: Told, output: str, which: tuple[int, ...], workers: int, force: bool, as_json: bool
) -> None:
    from finetune.cli.training_runs import MEASURED, measured, measured_fold, tell_rest
    from finetune.statistical.folders import teach

    course = teach(told, Path(output), which, force=force, workers=workers, say=say)
    if as_json:
        click.echo(json.dumps(_course(course), allow_nan=False))
    else:
        rows = [(*measured_fold(one), "" if one.new else "kept") for one in course.taught]
        if course.whole is not None:
            rows.append((course.whole.name, *measured(course.whole), ""))
        for line in table(("battles", *MEASURED, ""), rows):
            click.echo(line)
    tell_rest(course)


def _course(course: Course[Taught]) -> dict[str, object]:
    from finetune.cli.training_runs import fold_dict

    return {
        "output": str(course.folder),
        "folds": [{**fold_dict(one), "notes": list(one.notes)} for one in course.taught],
        "missing": list(course.missing),
        "out_of_fold": None if course.whole is None else course.whole.settings(),
    }
