"""What a run has to do, and what that will cost before any of it is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from synth.cli.annotators import annotators
from synth.cli.writers import writers

if TYPE_CHECKING:
    import pandas as pd

    from judge.judges.prompted_settings import PromptedSettings
    from synth.costs import Cost
    from synth.plans import Plan


@dataclass(frozen=True)
class Todo:
    """What is to be done.

    Attributes:
        plan: what is annotated.
        battles: so many of its first ones.
        annotators: who annotates.
        writers: who writes responses before.
        reference: who writes references before, if anybody does.
    """

    plan: Plan
    battles: int
    annotators: Sequence[str]
    writers: Sequence[str]
    reference: str | None

    def tables(self) -> Iterator[pd.DataFrame]:
        """The battles, a batch at a time."""
        left = self.battles
        for table in self.plan.tables():
            yield table.iloc[:left]
            left -= len(table)
            if left <= 0:
                return


def costs_of(todo: Todo, settings: PromptedSettings) -> list[Cost]:
    """What each writer and each annotator is going to cost; nothing is asked."""
    from synth.costs import annotation_cost

    dry = replace(settings, dry=True, max_cost=None)
    prices = settings.prices
    with (
        writers(todo.writers, todo.reference, dry) as writing,
        annotators(todo.annotators, dry) as made,
    ):
        lengths = (
            writing.response_prompt.typical_tokens if writing.responses else None,
            writing.reference_prompt.typical_tokens if writing.reference else None,
        )
        costs = writing.costs(todo.tables, prices)
        return costs + [annotation_cost(one, todo.tables(), prices, *lengths) for one in made]


def budgets_of(todo: Todo, settings: PromptedSettings) -> Sequence[float | None]:
    """What each may spend: the budget, divided as their costs are expected to be."""
    number = len(todo.annotators) + len(todo.writers) + (todo.reference is not None)
    if settings.max_cost is None or number < 2:
        return [settings.max_cost] * number
    from synth.costs import shares_of

    return shares_of(costs_of(todo, settings), settings.max_cost)
