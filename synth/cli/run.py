"""`arena-judge synth run`: annotators go through a plan, and what they say becomes a set."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import click

from judge.cli import options
from judge.cli.console import Progress, count, duration, fit, rate, say
from judge.cli.prompted_options import Asking, prompted_options
from synth.cli.annotators import annotation_options, annotators, settings_of
from synth.cli.cost_text import as_dicts, dollars, show_costs

if TYPE_CHECKING:
    import pandas as pd

    from judge.judges.prompted import PromptedJudge
    from judge.judges.prompted_settings import PromptedSettings
    from synth.costs import Cost
    from synth.plans import Plan
    from synth.running import Tally

_INCOMPLETE = 3
_SAID = 5
# What the set tells of the plan it was made from.
_OF_PLAN = ("seed", "size", "from", "held_out", "strata", "writers")


@click.command()
@click.argument("plan_folder", metavar="PLAN")
@click.option(
    "-o",
    "--output",
    default="data",
    show_default=True,
    metavar="FOLDER",
    help="The annotated set; an earlier one is replaced.",
)
@annotation_options
@click.option(
    "--first",
    type=click.IntRange(min=1),
    metavar="N",
    help="Annotate the first N battles of the plan only: a sample of it, and a cheap trial.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the models' draws.")
@options.force
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON on standard output.")
@prompted_options
def run(
    plan_folder: str,
    output: str,
    specs: tuple[str, ...],
    reference: str | None,
    critique: bool,
    first: int | None,
    seed: int,
    force: bool,
    as_json: bool,
    asking: Asking,
) -> None:
    """Have models annotate the battles of PLAN: votes with reasons, and a verdict.

    Every battle is shown in both orders. Replies are kept in a ledger as they come, so whatever
    ends the command, the same command goes on where it stopped and pays for nothing twice. What
    could not be had is in the set with its reason, and the exit code is then 3.

    \b
    Example:
      arena-judge synth run plan -o data --dry-run
      arena-judge synth run plan -o data --max-cost 400
      arena-judge synth run plan -o data --annotator endpoint:large --annotator endpoint:other
      arena-judge synth run plan -o trial --first 100 --critique --samples 2
    """
    from judge.files.folders import folder_target
    from synth.data import FILE, KIND
    from synth.plans import read_plan

    plan = read_plan(plan_folder)
    target = folder_target(output, inputs=[plan.battles], force=force, mark=FILE, kind=KIND)
    settings = settings_of(
        plan.settings, asking, seed, critique=critique, reference=reference is not None
    )
    named = specs or tuple(plan.settings.get("annotators") or ())
    todo = Todo(plan, plan.size if first is None else min(first, plan.size))
    if asking.dry_run:
        _tell_dry(_costs(todo, named, settings), as_json)
        return
    shares = _budgets(todo, named, settings)
    started = time.perf_counter()
    replaced = target.exists()
    with annotators(named, settings, shares) as made:
        tallies, manifest = _annotated(todo, target, made)
        reports = [report for one in made for report in asking.reports(one)]
    seconds = time.perf_counter() - started
    if as_json:
        summary = {"output": str(target), "seconds": seconds, **manifest}
        click.echo(json.dumps(summary | {"reports": [one.to_dict() for one in reports]}))
    for report in reports:
        for line in report.lines():
            say(line)
    _tell(target, todo, tallies, seconds, replaced)
    if any(tally.missing for tally in tallies):
        click.get_current_context().exit(_INCOMPLETE)


@dataclass(frozen=True)
class Todo:
    """The part of a plan that is to be annotated: its first battles."""

    plan: Plan
    battles: int

    def tables(self) -> Iterator[pd.DataFrame]:
        """They, a batch at a time."""
        left = self.battles
        for table in self.plan.tables():
            yield table.iloc[:left]
            left -= len(table)
            if left <= 0:
                return


def _costs(todo: Todo, specs: Sequence[str], settings: PromptedSettings) -> list[Cost]:
    """What each annotator is going to cost; nothing is asked."""
    from synth.costs import annotation_cost

    with annotators(specs, replace(settings, dry=True, max_cost=None)) as made:
        return [annotation_cost(one, todo.tables(), settings.prices) for one in made]


def _budgets(
    todo: Todo, specs: Sequence[str], settings: PromptedSettings
) -> Sequence[float | None]:
    """What each annotator may spend: the budget, divided as their costs are expected to be."""
    if settings.max_cost is None or len(specs) < 2:
        return [settings.max_cost] * len(specs)
    from synth.costs import shares_of

    return shares_of(_costs(todo, specs, settings), settings.max_cost)


def _annotated(
    todo: Todo, target: Path, made: Sequence[PromptedJudge]
) -> tuple[list[Tally], dict[str, Any]]:
    """Has the set made; what became of each annotator's part, and what the set says of itself."""
    from synth.running import annotated

    total = todo.battles * len(made)
    with Progress("battles", total, more=lambda: _spent(made)) as progress:
        telling = Lock()

        def tick(battles: int) -> None:
            with telling:
                progress.advance(battles)

        for one in made:
            one.tick = tick
        with annotated(target, todo.tables) as work:
            work.prepare()
            tallies = work.annotate(made)
            manifest = _manifest(todo, made, tallies)
            work.finish(manifest)
    return tallies, manifest


def _spent(made: Sequence[PromptedJudge]) -> str:
    """What the line of progress says of money and of replies that could not be read."""
    cost = sum(one.engine.statistics.cost for one in made)
    unreadable = sum(one.reading.unreadable for one in made)
    line = f", {dollars(cost)}" if cost else ""
    return line + (f", {unreadable:,} unreadable" if unreadable else "")


def _manifest(
    todo: Todo, made: Sequence[PromptedJudge], tallies: Sequence[Tally]
) -> dict[str, Any]:
    """What synth.yaml says."""
    from judge import __version__
    from synth.annotating import how_asked

    said = []
    for one, tally in zip(made, tallies, strict=True):
        done = one.engine.statistics
        said.append(
            {
                "name": one.name,
                **how_asked(one),
                "orders": list(one.asking.orders),
                "samples": one.asking.samples,
                "records": tally.records,
                "readable": tally.readable,
                "battles": tally.battles,
                "calls": done.calls,
                "from_ledger": done.from_ledger,
                "cost": round(done.cost, 6),
            }
        )
    planned = {key: todo.plan.settings[key] for key in _OF_PLAN if key in todo.plan.settings}
    return {
        "made_by": f"arena-judge {__version__}",
        "battles": todo.battles,
        "records": sum(tally.records for tally in tallies),
        "annotators": said,
        "plan": planned,
    }


def _tell_dry(costs: Sequence[Cost], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"dry_run": as_dicts(costs)}))
    else:
        show_costs(costs)
    say("nothing was asked, nothing was written")


def _tell(
    target: Path, todo: Todo, tallies: Sequence[Tally], seconds: float, replaced: bool
) -> None:
    records = sum(tally.records for tally in tallies)
    readable = sum(tally.readable for tally in tallies)
    for tally in tallies:
        for name, reason in tally.without[:_SAID]:
            say(f"{fit(name, 40)} has no annotation: {fit(reason, 200)}")
        if tally.missing > _SAID:
            say(f"... and {tally.missing - _SAID:,} more")
    say(
        f"{target}: {'replaced' if replaced else 'written'}, {count(todo.battles, 'battle')}, "
        f"{count(records, 'record')}, {readable:,} of them readable, in {duration(seconds)} "
        f"({rate(todo.battles, seconds)})"
    )
    if any(tally.missing for tally in tallies):
        say("run the same command again to ask for what is missing; what is there is kept")
