"""`arena-judge calibrate`: how far a judge's probabilities are off, learned from labelled battles.

The battles are read a batch at a time (see `judge.cli.calibrate_battles`).
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from judge.cli import options, outputs
from judge.cli.console import clean
from judge.cli.judging import Judging, judge_options
from judge.cli.learning import (
    Target,
    dry_run_only_asks,
    finite,
    judge_folder,
    judges_only,
    not_its_own,
    rounded,
    target_of,
    tell_known,
    write_cross_fitted,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from judge.calibration import Study
    from judge.cli.calibrate_battles import Battles
    from judge.cli.entrants import Entrant

SHARE = 0.2
METHODS = (
    "identity",
    "temperature",
    "bias",
    "temperature+bias",
    "vector",
    "dirichlet",
    "isotonic",
    "context",
)
CONTEXT = METHODS[-1]
VOTES = "votes"
"""The folder within the calibrated judge's where ballots that were at hand lie."""


@dataclass(frozen=True)
class Given:
    """Where the probabilities come from, one of three."""

    judge: str | None
    ballots: str | None
    predictions: str | None

    @property
    def spec(self) -> str:
        """What the user named."""
        return self.judge or self.ballots or self.predictions or ""


@click.command()
@click.argument("labelled")
@click.option("--judge", metavar="JUDGE", help="The judge to calibrate.")
@click.option("--ballots", metavar="FILE", help="Its votes, when they are at hand, unfitted.")
@click.option("--predictions", metavar="FILE", help="What it predicted: to measure, without it.")
@click.option(
    "-o",
    "--output",
    metavar="FOLDER",
    help="The calibrated judge. A name that ends in .csv, .jsonl or .parquet is a file for what it "
    "says, cross-fitted, of these very battles.",
)
@click.option(
    "--method",
    type=click.Choice(METHODS),
    help="Take this one.  [default: the simplest that is not beaten]",
)
@click.option(
    "--holdout", metavar="FILE", help="Labelled battles to measure on, not to learn from."
)
@click.option(
    "--holdout-share",
    "share",
    type=options.Finite(0, 0.9),
    metavar="X",
    help=f"Hold this share of LABELLED out, whole prompts; 0 for none.  [default: {SHARE}]",
)
@click.option(
    "--folds", type=click.IntRange(2, 50), default=5, show_default=True, help="Folds, by prompt."
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of holdout and folds."
)
@click.option("--name", metavar="NAME", help="What the judge is called in tables.")
@options.report
@options.chunk_rows
@options.workers
@options.force
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, not tables.")
@judge_options
def calibrate(
    labelled: str,
    judge: str | None,
    ballots: str | None,
    predictions: str | None,
    output: str | None,
    method: str | None,
    holdout: str | None,
    share: float | None,
    folds: int,
    seed: int,
    name: str | None,
    report_file: str | None,
    chunk_rows: int,
    workers: int,
    force: bool,
    as_json: bool,
    judging: Judging,
) -> None:
    """Learn from LABELLED battles how a judge's probabilities must be changed to be right.

    Every method keeps the symmetry: exchanging the responses exchanges P(A) and P(B). The judge is
    left as it is unless a method has a lower log loss on battles that it has not seen, beyond the
    standard error. One of them, context, looks at the battles too: how alike the responses are, how
    long they are, what is asked.

    \b
    Example:
      arena-judge calibrate labelled.csv --judge endpoint:gpt-4.1-mini -o judges/mini
      arena-judge calibrate labelled.csv --ballots votes.parquet -o judges/gpt-4
      arena-judge calibrate labelled.csv --judge statistical --holdout other.csv --json
      arena-judge calibrate labelled.csv --predictions p.csv --report report.html
    """
    given = Given(judge, ballots, predictions)
    if sum(one is not None for one in (judge, ballots, predictions)) != 1:
        raise click.UsageError("give one of --judge, --ballots and --predictions")
    if holdout is not None and share is not None:
        raise click.UsageError("give either --holdout or --holdout-share")
    inputs = [path for path in (labelled, holdout, ballots, predictions) if path is not None]
    target = target_of(output, inputs, force=force)
    page = None
    if report_file is not None:
        page = outputs.report_target(report_file, inputs=inputs, force=force)

    import numpy as np

    from judge.calibration import study
    from judge.cli.calibrate_battles import read
    from judge.cli.calibrate_text import figures_of, lines_of, tell

    with _entrant(given, labelled, judging, seed) as one:
        judges_only(target, [one])
        not_its_own(target, [one])
        if judging.dry_run:
            for found in dry_run_only_asks([one]):
                judging.asking.tell_estimate(found, labelled, chunk_rows, as_json=as_json)
            return
        battles = read(
            labelled,
            holdout,
            SHARE if share is None else share,
            one,
            seed,
            chunk_rows,
            workers,
            looks=method in (None, CONTEXT),
        )
        tell_known([one], battles.first, labelled)
        result = study(
            *(battles.labels, battles.proba, battles.groups, battles.held),
            context=battles.context,
            method=method,
            folds=folds,
            seed=seed,
        )
        if target is not None:
            settings: dict[str, object] = {"name": name or f"{one.name}, calibrated"}
            settings |= _recipe(given, one, target, judging, seed)
            settings |= _learned(labelled, given, one, result, folds, seed)
            _write(target, settings, labelled, given, battles, result)
    figures = figures_of(result)
    if as_json:
        click.echo(json.dumps(finite(figures | {"output": output}), allow_nan=False))
    else:
        for line in lines_of(result):
            click.echo(line)
    tell(result, int(np.isnan(battles.proba).any(axis=1).sum()), target)
    if page is not None:
        _draw(result, page, one.name, labelled, seed)


def _draw(result: Study, page: Path, judge: str, labelled: str, seed: int) -> None:
    from judge.report.calibrating import calibration_page
    from judge.report.page import origin

    source, made = Path(labelled).name, origin("calibrate", seed)
    outputs.put_page(page, calibration_page(result, judge=judge, source=source, origin=made))


@contextmanager
def _entrant(given: Given, labelled: str, judging: Judging, seed: int) -> Iterator[Entrant]:
    """The judge, or the predictions."""
    from judge.cli.entrants import Entrant, entrants

    if given.ballots is None:
        with entrants([given.spec], labelled, judging, seed=seed) as field:
            one = field[0]
            if one.votes or (one.judge is None) != (given.predictions is not None):
                other = "--judge" if one.lasts else "--ballots" if one.votes else "--predictions"
                raise click.UsageError(f"{clean(one.spec)} is for {other}")
            yield one
        return
    if judging.said:
        raise click.UsageError("how a model is asked says nothing where the ballots are at hand")
    from judge.ballot_files import read_ballots
    from judge.cli.export import ballot_source
    from judge.judges.recorded import RecordedJudge

    table = read_ballots(ballot_source(given.ballots))
    names = sorted(set(table["judge"].astype(str)))
    name = clean(names[0]) if len(names) == 1 else f"jury of {len(names)}"
    yield Entrant(name, given.ballots, RecordedJudge(table, name=name))


def _recipe(
    given: Given, one: Entrant, target: Target, judging: Judging, seed: int
) -> dict[str, object]:
    """What the judge in the folder is made of."""
    from judge.judges.recipes import as_member

    member = VOTES if given.ballots is not None else as_member(one.spec, target.path)
    judges = [] if one.judge is None else [one.judge]
    kept = judging.to_keep(judges, target.path, seed)
    return {"kind": "calibrated", "judge": member, **kept}


def _learned(
    labelled: str, given: Given, one: Entrant, result: Study, folds: int, seed: int
) -> dict[str, object]:
    """What was learned, from what, and how well it does."""
    from judge.cli.calibrate_text import parts_of
    from judge.cli.export import ballot_source
    from judge.judges.recipes import made_by, made_from

    files = [Path(labelled)]
    if given.ballots is not None:
        files.append(Path(ballot_source(given.ballots)))
    found = result.calibration
    measured: dict[str, object] = {
        "data": Path(labelled).name,
        "how": "cal: cross-fitted, the calibrator learned without the battles about the prompt; "
        "holdout: battles it was kept from",
        "battles": found.battles,
        "prompts": found.prompts,
        "holdout_battles": 0 if result.holdout is None else len(result.holdout.labels),
    }
    measured |= {
        key: rounded(value) if isinstance(value, float) else value
        for key, value in parts_of(result).items()
    }
    measured["log_loss_by_method"] = {c.method: rounded(c.log_loss) for c in found.candidates}
    return {
        "calibrator": found.calibrator.settings(),
        "temperature": found.temperature,
        "made_by": made_by("calibrate", folds=folds, seed=seed),
        "made_from": made_from(files, () if one.judge is None else [one.judge]),
        "measured": measured,
    }


def _write(
    target: Target,
    settings: dict[str, object],
    labelled: str,
    given: Given,
    battles: Battles,
    result: Study,
) -> None:
    import numpy as np

    rows = ~battles.held[: len(battles.first.ids)] & ~np.isnan(battles.first.labels).any(axis=1)
    if not target.judge:
        proba = result.calibration.proba[: len(battles.first.ids)]
        write_cross_fitted(target.path, battles.first.ids, proba, "the judge left it unjudged")
        return
    from judge.conformal import fit_conformity

    # No calibrator that speaks here has learned from the battle that it speaks of.
    sure = fit_conformity(battles.labels, result.calibration.proba, battles.groups)
    with judge_folder(target.path, settings, battles.first, rows, labelled) as folder:
        sure.save(folder)
        if given.ballots is not None:
            _write_votes(folder / VOTES, given.ballots)


def _write_votes(folder: Path, ballots: str) -> None:
    """The judge that the votes are, counted by the unfitted aggregator, in a folder of its own."""
    import yaml

    from judge.aggregation import UNFITTED
    from judge.ballot_files import read_ballots, write_ballots
    from judge.cli.export import ballot_source
    from judge.judges.recipes import FILE, plain
    from judge.judges.recorded import BALLOTS

    folder.mkdir()
    recipe = {"kind": "recorded", "name": folder.name, "aggregator": UNFITTED.settings()}
    (folder / FILE).write_text(yaml.safe_dump(plain(recipe), sort_keys=False), encoding="utf-8")
    write_ballots(folder / BALLOTS, read_ballots(ballot_source(ballots)))
