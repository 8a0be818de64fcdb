"""`arena-judge cascade`: how sure a cheap judge must be before a dear one need not be asked."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from judge.cli import options, outputs
from judge.cli.console import clean, count, say, table
from judge.cli.judging import Judging, judge_options
from judge.cli.learning import finite
from judge.errors import InputError

if TYPE_CHECKING:
    from judge.cascading import Curve, Step
    from judge.cli.entrants import Entrant

HEADER = ("sure from", "sent on", "log loss [95 % interval]", "less the dear one's [95 %]", "cost")


@click.command()
@click.argument("labelled")
@click.argument("cheap", metavar="[NAME=]CHEAP")
@click.argument("dear", metavar="[NAME=]DEAR")
@click.option("-o", "--output", metavar="FILE.yaml", help="Write the cascade, for --judge.")
@click.option(
    "--cost",
    "costs",
    type=options.Finite(0),
    nargs=2,
    default=(0.0, 1.0),
    show_default=True,
    metavar="CHEAP DEAR",
    help="What a battle costs by each.",
)
@click.option(
    "--within",
    type=options.Finite(0),
    default=0.002,
    show_default=True,
    metavar="NATS",
    help="How much log loss may be given up for a lower cost.",
)
@click.option("--sure", type=options.Finite(0, 1), help="Write this threshold, not the best one.")
@click.option(
    "--rounds", type=click.IntRange(min=100), default=2000, show_default=True, help="Of bootstrap."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@options.report
@options.chunk_rows
@options.workers
@options.force
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output, not a table.")
@judge_options
def cascade(
    labelled: str,
    cheap: str,
    dear: str,
    output: str | None,
    costs: tuple[float, float],
    within: float,
    sure: float | None,
    rounds: int,
    seed: int,
    report_file: str | None,
    chunk_rows: int,
    workers: int,
    force: bool,
    as_json: bool,
    judging: Judging,
) -> None:
    """Measure on LABELLED battles when a CHEAP judge may answer alone and a DEAR one need not.

    Both are judges, or files of predictions. Each threshold is shown with its cost and its log
    loss; the cheapest is chosen that loses no more than --within on the best.

    \b
    Example:
      arena-judge cascade labelled.csv statistical endpoint:gpt-4.1-mini -o cascade.yaml
      arena-judge cascade labelled.csv small=p1.csv large=p2.csv --cost 0 0.004
      arena-judge score battles.csv --judge cascade.yaml
    """
    from judge.cascading import cascade_curve
    from judge.cli.entrants import entrants, read_with

    target = None if output is None else _target(output, force)
    page = None
    if report_file is not None:
        inputs = [labelled, *(one.rpartition("=")[2] for one in (cheap, dear))]
        page = outputs.report_target(report_file, inputs=inputs, force=force)
    with ExitStack() as stack:
        field = stack.enter_context(entrants([cheap, dear], labelled, judging, seed=seed))
        if target is not None:
            _only_judges(field)
            _not_its_own(target, field)
        if judging.dry_run:
            for one in field:
                if one.judge is not None:
                    judging.asking.tell_estimate(one.judge, labelled, chunk_rows, as_json=as_json)
            return
        battles = read_with(labelled, field, chunk_rows=chunk_rows, workers=workers)
    proba = list(battles.proba.values())
    curve = cascade_curve(
        battles.labels,
        proba[0],
        proba[1],
        battles.prompts,
        costs=costs,
        within=within,
        rounds=rounds,
        seed=seed,
    )
    if as_json:
        click.echo(json.dumps(finite(_plain(curve)), allow_nan=False))
    else:
        for line in [*table(HEADER, _rows(curve)), "", *_words(curve, field)]:
            click.echo(line)
    if target is not None:
        limit = curve.best.sure if sure is None else sure
        judges = [one.judge for one in field if one.judge is not None]
        kept = judging.to_keep(judges, target.parent, seed)
        _write(target, field, limit, curve, labelled, kept)
        say(f"{clean(str(target))}: written; a judge for --judge")
    if page is not None:
        _draw(curve, page, field, labelled, seed)


def _draw(curve: Curve, page: Path, field: list[Entrant], labelled: str, seed: int) -> None:
    from judge.report.cascading import cascade_page
    from judge.report.page import origin

    names = {"cheap": field[0].name, "dear": field[1].name}
    source, made = Path(labelled).name, origin("cascade", seed)
    outputs.put_page(page, cascade_page(curve, **names, source=source, origin=made))


def _target(output: str, force: bool) -> Path:
    path = Path(output)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise click.UsageError("-o takes a file named .yaml")
    if path.is_dir() or not path.parent.is_dir():
        raise InputError("cannot be written", file=output, mend="name a file in a folder")
    if path.exists() and not force and "kind: cascade" not in path.read_text("utf-8", "replace"):
        mend = "choose another file, or add --force"
        raise InputError("is there already and is no cascade", file=output, mend=mend)
    return path


def _only_judges(field: list[Entrant]) -> None:
    other = next((one for one in field if not one.lasts), None)
    if other is not None:
        raise InputError(
            "is a file of predictions or votes, and a cascade is made of judges",
            file=other.spec,
            mend="leave -o out, or name a judge",
        )


def _not_its_own(target: Path, field: list[Entrant]) -> None:
    from judge.judges.recipes import recipes_of

    for one in field:
        if target.resolve() in recipes_of(one.spec):
            raise InputError(f"{one.name} is made of it", file=target, mend="choose another file")


def _rows(curve: Curve) -> list[list[str]]:
    return [
        [
            _sure(step) + (" *" if place == curve.chosen else "  "),
            f"{step.sent:.0%}",
            f"{step.log_loss:.4f} {_interval(step.low, step.high, '.4f')}",
            f"{step.gap:+.4f} {_interval(step.gap_low, step.gap_high, '+.4f')}",
            f"{step.cost:.4g}",
        ]
        for place, step in enumerate(curve.steps)
    ]


def _interval(low: float, high: float, form: str) -> str:
    """Its ends; one prompt alone has none."""
    return "[-]" if low != low or high != high else f"[{low:{form}}, {high:{form}}]"


def _sure(step: Step) -> str:
    return "never" if step.sure > 1 else f"{step.sure:.3f}"


def _words(curve: Curve, field: list[Entrant]) -> list[str]:
    best, dear = curve.best, clean(field[1].name)
    words = [
        f"{count(curve.battles, 'labelled battle')}, {count(curve.prompts, 'prompt')}, judged by "
        "both. The dear judge is asked where the cheap one's most probable outcome has less than "
        "what it is sure from.",
        f"* the cheapest within {curve.within:g} nats of the least log loss: {dear} is asked about "
        f"{best.sent:.0%} of the battles.",
    ]
    if curve.left_out:
        words.append(
            f"{count(curve.left_out, 'labelled battle')} unjudged by one of them, left out."
        )
    loss, sent = curve.honest
    if loss == loss:
        words.append(
            f"Chosen on other prompts than it is measured on: log loss {loss:.4f}, {sent:.0%} sent."
        )
    return words


def _plain(curve: Curve) -> dict[str, object]:
    found = asdict(curve)
    found["honest"] = dict(zip(("log_loss", "sent"), curve.honest, strict=True))
    return found


def _write(
    target: Path,
    field: list[Entrant],
    limit: float,
    curve: Curve,
    labelled: str,
    kept: dict[str, object],
) -> None:
    import yaml

    from judge.files.atomic import written_whole
    from judge.judges.recipes import as_member, made_by, made_from, plain

    loss, sent = curve.honest
    settings = {
        "kind": "cascade",
        "judges": [as_member(one.spec, target.parent) for one in field],
        "sure": limit,
        **kept,
        "made_by": made_by("cascade"),
        "made_from": made_from([Path(labelled)]),
        "measured": {
            "data": Path(labelled).name,
            "how": "threshold chosen on other prompts than it is measured on",
            "battles": curve.battles,
            "prompts": curve.prompts,
            "log_loss": round(loss, 4) if loss == loss else None,
            "sent": round(sent, 4) if sent == sent else None,
        },
    }
    text = yaml.safe_dump(plain(settings), sort_keys=False, allow_unicode=True, width=100)
    with written_whole(target) as file:
        file.write(text.encode())
