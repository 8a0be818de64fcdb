"""`arena-judge synth run`: annotators go through a plan, and what they say becomes a set."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import click

from judge.cli import options
from judge.cli.console import Progress, count, duration, fit, rate, say
from judge.cli.prompted_options import Asking, prompted_options
from synth.cli.annotators import annotation_options, annotators, settings_of
from synth.cli.batching import collect_batches, send_batches
from synth.cli.cost_text import as_dicts, dollars, show_costs
from synth.cli.todo import Todo, budgets_of, costs_of
from synth.cli.writers import Writers, writers

if TYPE_CHECKING:
    from judge.engines.base import Engine
    from judge.judges.prompted import PromptedJudge
    from synth.costs import Cost
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
@click.option(
    "--batch",
    metavar="FOLDER",
    help="Ask through batch files in FOLDER, which are sent where the server takes batches: half "
    "the price at some, and the answer within a day. The same command again collects.",
)
@click.option(
    "--wait", is_flag=True, help="With --batch, wait for the batches, and ask what is to be asked."
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
    batch: str | None,
    wait: bool,
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
    if wait and batch is None:
        raise click.UsageError("--wait is for the batches of --batch; leave it out")
    size = plan.size if first is None else min(first, plan.size)
    todo = Todo(plan, size, named, tuple(plan.settings.get("writers") or ()), reference)
    if asking.dry_run:
        _tell_dry(costs_of(todo, settings), as_json)
        return
    shares = budgets_of(todo, settings)
    started = time.perf_counter()
    replaced = target.exists()
    first_writers = len(todo.writers) + (reference is not None)
    with (
        writers(todo.writers, reference, settings, shares[:first_writers]) as writing,
        annotators(named, replace(settings, batch=batch), shares[first_writers:]) as made,
    ):
        tallies, manifest = _annotated(todo, target, writing, made, batch is not None, wait)
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


def _annotated(
    todo: Todo,
    target: Path,
    writing: Writers,
    made: Sequence[PromptedJudge],
    batches: bool,
    wait: bool,
) -> tuple[list[Tally], dict[str, Any]]:
    """Has the set made; what became of each annotator's part, and what the set says of itself."""
    from synth.running import ROWS, annotated

    # All calls of an annotator are to stand in as few files as may be.
    rows = todo.battles if batches else ROWS
    with annotated(target, todo.tables, rows=rows, overlapping=not batches) as work:
        if writing:
            with _progress("replies", None, writing.engines) as tick:
                lacking = work.prepare(
                    lambda battles: writing.write(battles, lambda: tick(1)), writing.stop
                )
            if lacking:
                say(f"{count(lacking, 'battle')} without what was to be written")
        else:
            work.prepare()
        total = todo.battles * len(made)
        tallies: list[Tally] = []
        collect_batches(made)
        while not tallies:
            with _progress("battles", total, [one.engine for one in made], made) as tick:
                for one in made:
                    one.tick = tick
                tallies = work.annotate(made)
            if batches and any(tally.waiting for tally in tallies):
                send_batches(made, sum(tally.waiting for tally in tallies), wait=wait)
                tallies = []
        manifest = _manifest(todo, made, tallies)
        work.finish(manifest)
    return tallies, manifest


@contextmanager
def _progress(
    what: str, total: int | None, engines: Sequence[Engine], made: Sequence[PromptedJudge] = ()
) -> Iterator[Callable[[int], None]]:
    """Counts what is done, from any thread."""
    telling = Lock()
    with Progress(what, total, more=lambda: _spent(engines, made)) as progress:

        def tick(number: int) -> None:
            with telling:
                progress.advance(number)

        yield tick


def _spent(engines: Sequence[Engine], made: Sequence[PromptedJudge]) -> str:
    """What the line of progress says of money and of replies that could not be read."""
    cost = sum(engine.statistics.cost for engine in engines)
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
        said.append(
            {
                "name": one.name,
                **how_asked(one),
                "orders": list(one.asking.orders),
                "samples": one.asking.samples,
                "records": tally.records,
                "readable": tally.readable,
                "battles": tally.battles,
                "cost": round(tally.cost, 6),
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
