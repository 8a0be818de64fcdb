"""What annotating a plan will cost, known before anything is asked.

Two figures: what is to be expected, with replies as long as they mostly are (`typical_tokens` of
the prompt), and what it comes to at most, with replies as long as they may be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from judge.engines.base import Usage
from judge.engines.pricing import load_prices

if TYPE_CHECKING:
    from judge.engines.base import Estimate
    from judge.judges.prompted import PromptedJudge

_CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True)
class Cost:
    """What one model's part comes to.

    Attributes:
        task: annotate, write or reference.
        model: who is asked.
        calls: to be made.
        from_ledger: that were made before.
        prompt_tokens: of the calls.
        expected_tokens, most_tokens: of the replies.
        expected, most: dollars; None where the model's price is not known.
    """

    task: str
    model: str
    calls: int
    from_ledger: int
    prompt_tokens: int
    expected_tokens: int
    most_tokens: int
    expected: float | None
    most: float | None


def cost_of(
    task: str, model: str, estimate: Estimate, typical: int | None, prices: str | None
) -> Cost:
    """A cost from an engine's estimate, which takes replies to be as long as they may be.

    Args:
        task: what is asked for.
        model: who is asked.
        estimate: what it would come to at most.
        typical: tokens of a reply, mostly; None where that is not known.
        prices: a file of prices that goes before the one that ships.
    """
    calls = estimate.requests - estimate.from_ledger
    most = estimate.completion_tokens
    expected = most if typical is None else min(most, typical * calls)
    price = load_prices(prices).find(model)
    dollars = [
        None if price is None else price.cost(Usage(estimate.prompt_tokens, 0, tokens))
        for tokens in (expected, most)
    ]
    return Cost(
        task,
        model,
        calls,
        estimate.from_ledger,
        estimate.prompt_tokens,
        expected,
        most,
        dollars[0],
        dollars[1],
    )


def annotation_cost(
    annotator: PromptedJudge,
    tables: Iterable[pd.DataFrame],
    prices: str | None,
    written: int | None = None,
    reference: int | None = None,
) -> Cost:
    """What an annotator will cost; asks nothing.

    Args:
        annotator: who.
        tables: the battles.
        prices: see `cost_of`.
        written: tokens of a response that a model has yet to write.
        reference: tokens of a reference answer that has yet to be written.
    """
    estimate = annotator.estimate(_as_if_written(tables, written, reference))
    typical = annotator.prompt.typical_tokens
    return cost_of("annotate", annotator.asking.model, estimate, typical, prices)


def _as_if_written(
    tables: Iterable[pd.DataFrame], written: int | None, reference: int | None
) -> Iterator[pd.DataFrame]:
    """Battles with something as long as it will be where there is nothing yet."""
    for battles in tables:
        turns = [len(prompt) for prompt in battles["prompt"]]
        if written is not None and "write" in battles.columns:
            text = "x" * (_CHARACTERS_A_TOKEN * written)
            for side in ("a", "b"):
                name = f"response_{side}"
                cells = [
                    (text,) * number if side in (sides or "") else response
                    for number, sides, response in zip(
                        turns, battles["write"], battles[name], strict=True
                    )
                ]
                battles = battles.assign(**{name: pd.Series(cells, battles.index, dtype=object)})
        if reference is not None:
            text = "x" * (_CHARACTERS_A_TOKEN * reference)
            column = pd.Series([(text,)] * len(battles), battles.index, dtype=object)
            battles = battles.assign(reference=column)
        yield battles


def shares_of(costs: Iterable[Cost], budget: float) -> list[float]:
    """A budget divided as the costs are expected to be; alike where none is known."""
    expected = [cost.expected or 0.0 for cost in costs]
    total = sum(expected)
    if total <= 0.0:
        return [budget / max(len(expected), 1)] * len(expected)
    return [budget * one / total for one in expected]
