"""What a plan is like, as tables for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from judge.cli.console import count, duration, fit, say, table
from synth.cli.cost_text import as_dicts, show_costs

if TYPE_CHECKING:
    from synth.costs import Cost
    from synth.planning import Drawn

_COLUMNS = 60
_MOST_STRATA = 30


@dataclass(frozen=True)
class Outcome:
    """What became of a plan.

    Attributes:
        folder: where it is; None if it was not to be written.
        replaced: whether something was there.
        seconds: how long it took.
        notes: what else there is to be said.
    """

    folder: str | None
    replaced: bool
    seconds: float
    notes: tuple[str, ...] = ()


def tell(drawn: Drawn, outcome: Outcome, costs: Sequence[Cost], *, as_json: bool) -> None:
    """Says how a plan was drawn and what it will cost."""
    if as_json:
        click.echo(json.dumps(to_dict(drawn, outcome, costs), allow_nan=False))
    else:
        click.echo("\n".join(tables(drawn)))
        if costs:
            click.echo()
            show_costs(costs)
    for note in outcome.notes:
        say(note)
    for line in lines(drawn, outcome):
        say(line)


def tables(drawn: Drawn) -> list[str]:
    """What was there and what is drawn, by each thing that strata differ in; and stratum by
    stratum, where there are few."""
    size = len(drawn.places)
    rows = [
        (aspect.name if first else "", fit(value, _COLUMNS), *_figures(available, taken, size))
        for aspect in drawn.strata.aspects
        for first, (value, available, taken) in _marked(drawn.shares(aspect))
    ]
    rows.append(("all", "", *_figures(len(drawn.left), size, size)))
    found = table(("by", "", "available", "drawn", "of the draw"), rows, left=2)
    strata = drawn.counts
    if 1 < len(strata) <= _MOST_STRATA and len(drawn.strata.aspects) > 1:
        cells = [
            (fit(name, _COLUMNS), *_figures(available, taken, size))
            for name, available, taken in strata
        ]
        found += ["", *table(("stratum", "available", "drawn", "of the draw"), cells)]
    return found


def lines(drawn: Drawn, outcome: Outcome) -> list[str]:
    """What was left out and why, and the summary."""
    found = []
    dropped = sum(drawn.sifted.counts.values())
    if dropped:
        why = ", ".join(f"{number:,} {one.value}" for one, number in drawn.sifted.counts.items())
        where = f"; listed in {outcome.folder}/dropped.csv" if outcome.folder else ""
        found.append(f"{count(dropped, 'battle')} left out: {why}{where}")
    size, wanted = len(drawn.places), drawn.rule.size
    if size < wanted:
        found.append(f"{count(wanted, 'battle')} asked for, and there are no more than {size:,}")
    short = _too_few_close(drawn)
    if short:
        found.append(short)
    strata = len(drawn.strata.names)
    what = f"{size:,} of {count(len(drawn.survey), 'battle')}"
    what += f" from {strata:,} strata" if strata > 1 else ""
    ending = f"{what}, in {duration(outcome.seconds)}"
    if outcome.folder is None:
        return [*found, f"dry run: {ending}; nothing was written"]
    return [*found, f"{outcome.folder}: {'replaced' if outcome.replaced else 'written'}, {ending}"]


def to_dict(drawn: Drawn, outcome: Outcome, costs: Sequence[Cost]) -> dict[str, object]:
    """For `--json`."""
    from synth.plan_writing import described

    return {
        "plan": outcome.folder,
        **described(drawn),
        "shares": {
            aspect.name: [
                {"value": value, "available": available, "drawn": taken}
                for value, available, taken in drawn.shares(aspect)
            ]
            for aspect in drawn.strata.aspects
        },
        "costs": as_dicts(costs),
        "seconds": outcome.seconds,
    }


def _too_few_close(drawn: Drawn) -> str:
    """What is to be said where there are not as many close battles as were asked for."""
    from synth.strata import closest

    if drawn.rule.close is None:
        return ""
    close = int(closest(drawn.survey.closeness[drawn.left])[drawn.chosen].sum())
    size = len(drawn.places)
    if close >= drawn.rule.close * size - 1e-9:
        return ""
    return f"{drawn.rule.close:.0%} close battles asked for, and {close / size:.0%} is all there is"


def _marked(
    rows: Sequence[tuple[str, int, int]],
) -> list[tuple[bool, tuple[str, int, int]]]:
    """Rows, and whether each is the first."""
    return [(place == 0, row) for place, row in enumerate(rows)]


def _figures(available: int, taken: int, size: int) -> tuple[str, str, str]:
    return f"{available:,}", f"{taken:,}", f"{taken / size:.1%}"
