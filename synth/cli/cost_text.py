"""What a plan costs, as a table for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from judge.cli.console import say, table

if TYPE_CHECKING:
    from synth.costs import Cost

_HEADER = ("model", "task", "calls", "in ledger", "tokens in", "tokens out", "cost", "at most")


def show_costs(costs: Sequence[Cost]) -> None:
    """Prints the table on standard output, and what it all comes to on standard error."""
    rows = [
        (
            cost.model,
            cost.task,
            f"{cost.calls:,}",
            f"{cost.from_ledger:,}",
            f"{cost.prompt_tokens:,}",
            f"{cost.expected_tokens:,}",
            dollars(cost.expected),
            dollars(cost.most),
        )
        for cost in costs
    ]
    click.echo("\n".join(table(_HEADER, rows, left=2)))
    say(total_line(costs))


def total_line(costs: Sequence[Cost]) -> str:
    """What it comes to, in one line."""
    unknown = [cost.model for cost in costs if cost.expected is None]
    expected = sum(cost.expected or 0.0 for cost in costs)
    most = sum(cost.most or 0.0 for cost in costs)
    if len(unknown) == len(costs):
        return "cost: not known; name a file of --prices that has the model"
    line = (
        f"cost: about {dollars(expected)} with replies of the usual length, {dollars(most)} at most"
    )
    return line + (f"; without {', '.join(unknown)}, whose price is not known" if unknown else "")


def dollars(amount: float | None) -> str:
    """$1,234, $12.30, $0.0042; `not known` without a price."""
    if amount is None:
        return "not known"
    if amount >= 1000:
        return f"${amount:,.0f}"
    return f"${amount:.2f}" if amount >= 0.1 or amount == 0 else f"${amount:.4f}"


def as_dicts(costs: Sequence[Cost]) -> list[dict[str, object]]:
    """For `--json`; what is not known is null."""
    return [asdict(cost) for cost in costs]
