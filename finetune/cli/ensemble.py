"""`arena-judge finetune ensemble`: judges of folds, or what they have predicted, as one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from judge.cli import options, outputs
from judge.cli.console import clean, count, say, table
from judge.cli.learning import TABLES, finite, write_cross_fitted
from judge.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from finetune.ensembles.composing import Symmetrised
    from judge.labelled import Labelled

    Floats = npt.NDArray[np.float64]

_RECIPES = (".yaml", ".yml")
_KINDS = ("adapters", "blended")


@click.command()
@click.argument("named", nargs=-1, required=True, metavar="PREDICTIONS...|JUDGE...")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    help="Of judges the .yaml that composes them; of predictions a file of predictions.",
)
@click.option(
    "--swapped",
    multiple=True,
    metavar="FILE",
    help="What was predicted of the same battles with responses exchanged, one file for each "
    "PREDICTIONS: turned back, and averaged with it.",
)
@click.option(
    "--weights",
    type=click.Choice(["equal", "cv"]),
    default="equal",
    show_default=True,
    help="cv: judges by the log loss that their folders state; predictions by theirs on the "
    "--labelled battles, for each battle learned without those about its prompt.",
)
@click.option(
    "--temperature",
    type=options.Finite(min=1e-4),
    default=0.05,
    show_default=True,
    help="Of judges' weights by log loss: nats that make one count e times as much.",
)
@click.option(
    "--average",
    "averaged",
    type=click.Choice(["probabilities", "logits"]),
    default="probabilities",
    show_default=True,
    help="What the mean is of.",
)
@click.option(
    "--labelled", metavar="BATTLES", help="Measure predictions on these, and write them for these."
)
@click.option(
    "--share-base/--no-share-base",
    default=None,
    help="Have adapters of one base in memory once.  [default: where they are]",
)
@click.option("--name", metavar="NAME", help="What the composed judge is called in tables.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of folds and intervals."
)
@options.workers
@options.force
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, not a table.")
def ensemble(
    named: tuple[str, ...],
    output: str,
    swapped: tuple[str, ...],
    weights: str,
    temperature: float,
    averaged: str,
    labelled: str | None,
    share_base: bool | None,
    name: str | None,
    seed: int,
    workers: int,
    force: bool,
    as_json: bool,
) -> None:
    """Make one of several judges, or of what several have predicted, such as those of folds.

    A folder of fold-0, fold-1, ... stands for the judges in it. Predictions may be of all battles,
    or each of its own fold's alone. How to blend judges that are not alike is learned by
    arena-judge blend.

    \b
    Example:
      arena-judge finetune ensemble teachers/minilm -o teachers/minilm.yaml --weights cv
      arena-judge finetune ensemble fold-*.csv -o all.csv --labelled battles.csv
      arena-judge finetune ensemble theirs.csv --swapped theirs-swapped.csv -o symmetric.csv
    """
    predicted = [one for one in named if _is_table(one)]
    if predicted and len(predicted) < len(named):
        odd = next(one for one in named if one not in predicted)
        raise click.UsageError(f"{odd} is a judge and {predicted[0]} is predictions: name one kind")
    if predicted:
        if share_base is not None or name is not None:
            raise click.UsageError("--share-base and --name are for judges")
        if not output.lower().endswith(TABLES):
            raise click.UsageError(f"of predictions -o is a file such as all.csv, and not {output}")
        _of_predictions(
            named, swapped, output, weights, averaged, labelled, seed, workers, force, as_json
        )
        return
    if swapped or labelled is not None:
        raise click.UsageError("--swapped and --labelled are for predictions")
    if not output.lower().endswith(_RECIPES):
        raise click.UsageError(f"of judges -o is a file such as all.yaml, and not {output}")
    _of_judges(
        named, output, weights, temperature, averaged, share_base, name, seed, force, as_json
    )


def _is_table(name: str) -> bool:
    return name.lower().endswith(TABLES) and not os.path.isdir(name)


# --- judges ---------------------------------------------------------------------------------------


def _of_judges(
    named: tuple[str, ...],
    output: str,
    weights: str,
    temperature: float,
    averaged: str,
    share: bool | None,
    name: str | None,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    import yaml

    from finetune.ensembles.composing import composed
    from finetune.weights.weighing import equal_weights, weights_by_loss
    from judge.files.atomic import written_whole
    from judge.judges.recipes import made_by, plain

    judges = _judges(named)
    target = _recipe_target(output, judges, force=force)
    losses = None
    if weights == "cv":
        losses = [_loss(one) for one in judges]
        given = weights_by_loss(losses, temperature)
    else:
        given = equal_weights(len(judges))
    settings = composed(judges, target.parent, given, average=averaged, share=share)
    settings |= {} if name is None else {"name": name}
    settings["made_by"] = made_by("finetune ensemble", weights=weights, average=averaged)
    there = target.is_file()
    with written_whole(target) as file:
        text = yaml.safe_dump(plain(settings), sort_keys=False, allow_unicode=True, width=100)
        file.write(text.encode("utf-8"))
    if as_json:
        told = {
            "output": output,
            "kind": settings["kind"],
            "judges": judges,
            "weights": list(given),
            "log_loss": losses,
        }
        click.echo(json.dumps(finite(told), allow_nan=False))
    else:
        shown = ["-"] * len(judges) if losses is None else [f"{one:.4f}" for one in losses]
        rows = [(one, f"{w:.4f}", s) for one, w, s in zip(judges, given, shown, strict=True)]
        for line in table(("judge", "weight", "log loss stated"), rows):
            click.echo(line)
    once = "; the base is in memory once" if settings["kind"] == "adapters" else ""
    made = "replaced" if there else "written"
    say(f"{output}: {made}; the mean of the {averaged} of {count(len(judges), 'judge')}{once}")


def _judges(named: tuple[str, ...]) -> list[str]:
    """The judges that are named, folders of folds opened."""
    from finetune.weights.folders import fold_folders
    from judge.judges import SHIPPED
    from judge.judges.classifier_settings import is_classifier
    from judge.judges.prompted_settings import is_prompted

    found: list[str] = []
    for one in named:
        known = one in SHIPPED or is_prompted(one) or is_classifier(one)
        if not known and not os.path.exists(one):
            raise InputError("is not there", file=one, mend="name judges, or files of predictions")
        found += [str(path) for path in fold_folders(one)] or [one]
    twice = next((one for place, one in enumerate(found) if one in found[:place]), None)
    if twice is not None:
        raise InputError("is named twice", file=twice, mend="name each judge once")
    return found


def _loss(judge: str) -> float:
    from finetune.weights.folders import stated_loss
    from judge.judges.recipes import FILE, is_recipe, read_recipe

    path = Path(judge)
    file = path if is_recipe(judge) else path / FILE
    if not file.is_file():
        raise InputError("states no log loss", file=judge, mend="weigh all alike")
    return stated_loss(path, read_recipe(file).settings)


def _recipe_target(output: str, judges: list[str], *, force: bool) -> Path:
    """Where the recipe may go: over an earlier one of such judges, over others under `force`."""
    from judge.errors import ArenaJudgeError
    from judge.judges.recipes import read_recipe, recipes_of

    path = Path(output)
    if path.is_dir():
        raise InputError("is a folder", file=output, mend="name a file in it")
    if not path.parent.is_dir():
        raise InputError("cannot be written, its folder is not there", file=output, mend="make it")
    read = [file for one in judges for file in (Path(one), *recipes_of(one))]
    if any(file.exists() and outputs.is_same_file(path, file) for file in read):
        raise InputError("is read by this very command", file=output, mend="choose another output")
    if path.is_file() and path.stat().st_size and not force:
        try:
            ours = read_recipe(path).settings["kind"] in _KINDS
        except ArenaJudgeError:
            ours = False
        if not ours:
            what = "is there already and is no earlier result"
            raise InputError(what, file=output, mend="choose another output, or add --force")
    return path


# --- predictions ----------------------------------------------------------------------------------


def _of_predictions(
    named: tuple[str, ...],
    swapped: tuple[str, ...],
    output: str,
    weights: str,
    averaged: str,
    labelled: str | None,
    seed: int,
    workers: int,
    force: bool,
    as_json: bool,
) -> None:
    if swapped and len(swapped) != len(named):
        raise click.UsageError(
            f"{count(len(named), 'file')} of predictions and {len(swapped)} of --swapped: name one "
            "for each"
        )
    if weights == "cv" and (labelled is None or len(named) < 2 or averaged == "logits"):
        raise click.UsageError(
            "--weights cv is for the probabilities of two files at least, and learned from "
            "--labelled BATTLES"
        )
    inputs = [*named, *swapped, *([] if labelled is None else [labelled])]
    target = outputs.target(output, outputs.PREDICTIONS, inputs=inputs, force=force)

    import numpy as np

    from finetune.ensembles.composing import gathered, mean_blend, symmetrised
    from finetune.weights.weighing import equal_weights
    from judge.predictions import read_predictions

    battles = _read(labelled, workers)
    files = [*named, *swapped]
    tables = [read_predictions(file) for file in files]
    found = gathered(tables, files, None if battles is None else battles.ids)
    said, turned = found.said[: len(named)], found.said[len(named) :]
    orders: list[Symmetrised] = []
    if len(turned):
        orders = [symmetrised(one, other) for one, other in zip(said, turned, strict=True)]
        said = np.stack([one.proba for one in orders])
    names = _names(named)
    given = equal_weights(len(named))
    if weights == "cv" and battles is not None:
        from judge.blending import blend

        learned = blend(
            *(battles.labels, dict(zip(names, said, strict=True)), battles.prompts),
            method="advantage",
            seed=seed,
        )
        pool = learned.blend.pool.settings()["weights"]
        assert isinstance(pool, list)
        given, proba = tuple(pool), learned.proba
    else:
        proba = mean_blend(given, averaged).apply(said)
    there = target.is_file()
    write_cross_fitted(target, found.ids, proba, "no file has a prediction for it")
    _show(names, given, said, proba, orders, battles, seed, output, as_json)
    made = "replaced" if there else "written"
    how = "weighted by log loss, cross-fitted" if weights == "cv" else averaged
    say(f"{output}: {made}; {count(len(found.ids), 'battle')}, the mean of {len(named)} ({how})")


def _read(labelled: str | None, workers: int) -> Labelled | None:
    if labelled is None:
        return None
    from judge.labelled import read_labelled

    return read_labelled(labelled, workers=workers)


def _names(files: tuple[str, ...]) -> list[str]:
    """What files are called: by their names, numbered where these are alike."""
    found: list[str] = []
    for file in files:
        stem = clean(Path(file).name) or "predictions"
        number = 1
        while (name := stem if number == 1 else f"{stem} {number}") in (*found, "ensemble"):
            number += 1
        found.append(name)
    return found


def _show(
    names: list[str],
    given: tuple[float, ...],
    said: Floats,
    proba: Floats,
    orders: list[Symmetrised],
    battles: Labelled | None,
    seed: int,
    output: str,
    as_json: bool,
) -> None:
    import numpy as np

    from judge.cli import comparison_table

    compared = None
    if battles is not None:
        from judge.comparison import compare

        entries = {"ensemble": proba}
        known = ~np.isnan(said).any(axis=(0, 2)) & ~np.isnan(battles.labels).any(axis=1)
        if known.any():  # files of one fold each have no battles in common
            entries = dict(zip(names, said, strict=True)) | entries
        compared = compare(battles.labels, entries, groups=battles.prompts, seed=seed)
    judged = [int((~np.isnan(one).any(axis=1)).sum()) for one in said]
    if as_json:
        told: dict[str, Any] = {
            "output": output,
            "battles": len(proba),
            "unjudged": int(np.isnan(proba).any(axis=1).sum()),
            "weights": dict(zip(names, given, strict=True)),
            "orders_agree": [one.agree for one in orders] or None,
        }
        if compared is not None:
            told["comparison"] = json.loads(comparison_table.as_json(compared))
        click.echo(json.dumps(finite(told), allow_nan=False))
        return
    agree = [f"{one.agree:.1%}" if one.both else "-" for one in orders] or ["-"] * len(names)
    rows = [
        (one, f"{w:.4f}", f"{n:,}", a)
        for one, w, n, a in zip(names, given, judged, agree, strict=True)
    ]
    for line in table(("predictions", "weight", "battles", "orders agree"), rows):
        click.echo(line)
    if compared is not None:
        click.echo("")
        for line in comparison_table.lines(compared):
            click.echo(line)
