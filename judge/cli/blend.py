"""`arena-judge blend`: how several judges make a better one, learned from labelled battles.

The battles are read a batch at a time; what is kept is ids, labels, marks and probabilities.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from judge.cli import options
from judge.cli.console import clean, count, say, table
from judge.cli.judging import Judging, judge_options
from judge.cli.learning import (
    Target,
    dry_run_only_asks,
    finite,
    judge_folder,
    judges_only,
    marks_of,
    not_its_own,
    rounded,
    shown,
    spread,
    target_of,
    tell_known,
    write_cross_fitted,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from judge.blending import Blending
    from judge.cli.entrants import Entrant
    from judge.labelled import Labelled

METHODS = ("best", "mean", "log-mean", "advantage", "weights", "stacking")
OPTIONS = ("self-ensemble", "move-ties")
ALONE = ("judge", "battles", "unjudged", "log loss", "less the mean's [95 %]")
TRIED = (
    "blend",
    "log loss, cross-fitted",
    "less the best judge's [95 %]",
    "less the mean's [95 %]",
)


@click.command()
@click.argument("labelled")
@click.argument("named", nargs=-1, required=True, metavar="[NAME=]JUDGE_OR_PREDICTIONS...")
@click.option(
    "-o",
    "--output",
    metavar="FOLDER",
    help="The blended judge, if all are judges. A name that ends in .csv, .jsonl or .parquet is a "
    "file for what it says, cross-fitted, of these very battles.",
)
@click.option(
    "--method",
    type=click.Choice(METHODS),
    help="Take this one.  [default: the simplest that is not beaten]",
)
@click.option("--then", "option", type=click.Choice(OPTIONS), help="And this afterwards.")
@click.option(
    "--folds", type=click.IntRange(2, 50), default=5, show_default=True, help="Folds, by prompt."
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of the folds and of the order of battles.",
)
@click.option("--name", metavar="NAME", help="What the judge is called in tables.")
@options.chunk_rows
@options.workers
@options.force
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, not tables.")
@judge_options
def blend(
    labelled: str,
    named: tuple[str, ...],
    output: str | None,
    method: str | None,
    option: str | None,
    folds: int,
    seed: int,
    name: str | None,
    chunk_rows: int,
    workers: int,
    force: bool,
    as_json: bool,
    judging: Judging,
) -> None:
    """Learn from LABELLED battles how several judges are best made one.

    Every way is measured on battles that it has not seen, beside the best judge alone and the plain
    mean; the simplest is taken that is not beaten beyond the standard error. A battle that one
    judge left unjudged is left to the others, which share its weight.

    \b
    Example:
      arena-judge blend labelled.csv judges/gpt-4 judges/phi statistical -o judges/blend
      arena-judge blend labelled.csv one=p1.csv two=p2.csv -o blended.csv
      arena-judge blend labelled.csv judges/* --method stacking -o judges/stack
    """
    if len(named) < 2:
        raise click.UsageError("a blend is made of two judges at least")
    inputs = [labelled, *(one.rpartition("=")[2] for one in named), *named]
    target = target_of(output, inputs, force=force)

    from judge.blending import blend as blend_judges
    from judge.cli.entrants import entrants, read_with

    with entrants(named, labelled, judging, seed=seed) as field:
        judges_only(target, field)
        not_its_own(target, field)
        if judging.dry_run:
            for judge in dry_run_only_asks(field):
                judging.asking.tell_estimate(judge, labelled, chunk_rows, as_json=as_json)
            return
        battles = read_with(labelled, field, facts=marks_of, chunk_rows=chunk_rows, workers=workers)
        tell_known(field, battles, labelled)
        result = blend_judges(
            *(battles.labels, battles.proba, battles.prompts),
            method=method,
            option=option,
            folds=folds,
            seed=seed,
        )
        if target is not None:
            settings: dict[str, object] = {"name": name or " & ".join(result.names)}
            settings |= _recipe(field, target, judging, seed)
            settings |= _learned(labelled, field, battles, result)
            _write(target, settings, labelled, battles, result)
    if as_json:
        click.echo(json.dumps(finite(_figures(result) | {"output": output}), allow_nan=False))
    else:
        for line in _lines(result):
            click.echo(line)
    _tell(result, battles, target)


def _recipe(
    field: Sequence[Entrant], target: Target, judging: Judging, seed: int
) -> dict[str, object]:
    """What the judge in the folder is made of."""
    from judge.judges.recipes import as_member

    members = [as_member(one.spec, target.path) for one in field]
    judges = [one.judge for one in field if one.judge is not None]
    kept = judging.to_keep(judges, target.path, seed)
    return {"kind": "blended", "judges": members, **kept}


def _learned(
    labelled: str, field: Sequence[Entrant], battles: Labelled, result: Blending
) -> dict[str, object]:
    """What was learned, from what, and how well it does."""
    import numpy as np

    from judge.judges.recipes import made_by, made_from
    from judge.metrics import calibration_error

    judges = [one.judge for one in field if one.judge is not None]
    both = ~np.isnan(battles.labels).any(axis=1) & ~np.isnan(result.proba).any(axis=1)
    error = calibration_error(battles.labels[both], result.proba[both])
    chosen = result.chosen
    return {
        "members": list(result.names),
        "blend": result.blend.settings(),
        "made_by": made_by("blend", folds=result.folds, seed=result.seed),
        "made_from": made_from([Path(labelled)], judges),
        "measured": {
            "data": Path(labelled).name,
            "how": "cross-fitted: learned without the battles about the prompt",
            "battles": result.battles,
            "prompts": result.prompts,
            "log_loss": rounded(chosen.log_loss),
            "less_best_member": spread(chosen.against_best),
            "less_mean": spread(chosen.against_mean),
            "calibration_error": rounded(error),
            "log_loss_by_method": {e.name: rounded(e.log_loss) for e in result.entries},
            "log_loss_by_member": {a.name: rounded(a.log_loss) for a in result.alone},
        },
    }


def _write(
    target: Target, settings: dict[str, object], labelled: str, battles: Labelled, result: Blending
) -> None:
    import numpy as np

    if not target.judge:
        reason = "no judge had an answer"
        write_cross_fitted(target.path, battles.ids, result.proba, reason)
        return
    rows = np.asarray(~np.isnan(battles.labels).any(axis=1))
    from judge.conformal import fit_conformity

    sure = fit_conformity(battles.labels, result.proba, battles.prompts)
    with judge_folder(target.path, settings, battles, rows, labelled) as folder:
        sure.save(folder)


def _figures(result: Blending) -> dict[str, object]:
    """For `--json`."""
    return {
        "method": result.blend.method,
        "blend": result.blend.settings(),
        "members": list(result.names),
        "battles": result.battles,
        "prompts": result.prompts,
        "log_loss": result.chosen.log_loss,
        "alone": [
            {
                "name": a.name,
                "battles": a.battles,
                "unjudged": a.unjudged,
                "log_loss": a.log_loss,
                "less_mean": spread(a.against_mean),
            }
            for a in result.alone
        ],
        "tried": [
            {
                "name": e.name,
                "log_loss": e.log_loss,
                "less_best_member": spread(e.against_best),
                "less_mean": spread(e.against_mean),
            }
            for e in result.entries
        ],
    }


def _lines(result: Blending) -> list[str]:
    """The tables."""
    alone = [
        [
            a.name,
            f"{a.battles:,}",
            f"{a.unjudged:,}",
            f"{a.log_loss:.4f}" if a.battles else "-",
            shown(a.against_mean),
        ]
        for a in result.alone
    ]
    tried = [
        [
            f"{e.name} *" if e.name == result.blend.method else e.name,
            f"{e.log_loss:.4f}",
            shown(e.against_best),
            shown(e.against_mean),
        ]
        for e in result.entries
    ]
    return [*table(ALONE, alone), "", *table(TRIED, tried)]


def _tell(result: Blending, battles: Labelled, target: Target | None) -> None:
    import numpy as np

    pool = result.blend.pool.settings()
    chosen = result.blend.method
    say(f"{chosen}: learned from {count(result.battles, 'labelled battle')}")
    if chosen.startswith("best"):
        order = pool["order"]
        assert isinstance(order, list)
        names = [clean(result.names[place]) for place in order]
        say(f"{names[0]} alone; what it leaves unjudged is for {', then '.join(names[1:])}")
    for key in ("weights", "strength", "tie"):
        values = pool.get(key)
        if isinstance(values, list):
            parts = zip(result.names, values, strict=True)
            say(f"{key}: {', '.join(f'{clean(name)} {value:.3f}' for name, value in parts)}")
    for one in result.alone:
        if one.unjudged:
            left = f"{clean(one.name)} left {count(one.unjudged, 'battle')} unjudged"
            say(f"{left}; there the others speak")
    silent = int(np.isnan(result.proba).any(axis=1).sum())
    if silent:
        say(f"{count(silent, 'battle')} that no judge had an answer for left out")
    if target is None:
        say("nothing is written; -o FOLDER writes the blended judge")
    else:
        target.tell()
