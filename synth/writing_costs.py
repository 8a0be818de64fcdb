"""What writing will cost, known before anything is asked.

A later turn is asked for with answers that nobody has written yet. Something as long stands in
their place: as long as answers mostly are for what is to be expected, as long as they may be for
what it comes to at most. Turns after the first count as not in the ledger, whatever is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

import pandas as pd

from judge.engines.base import Engine, Estimate, Parameters, Request
from judge.engines.pricing import prompt_tokens
from synth.conversations import Conversation
from synth.costs import Cost, cost_of
from synth.writing import references_to_write, responses_to_write
from synth.writing_prompts import WritingPrompt

_TOKEN = " the"  # one in most vocabularies, and four bytes


def requests_to_write(
    conversations: Iterable[Conversation], prompt: WritingPrompt, tokens: int
) -> Iterator[Request]:
    """What conversations will ask: their first turns to the letter, later ones after answers of so
    many tokens."""
    for one in conversations:
        filled = tuple(answer if answer.strip() else _TOKEN * tokens for answer in one.answers)
        for turn in one.open if one.error is None else ():
            yield one.request(prompt, turn, filled)


def writing_costs(
    tables: Iterable[pd.DataFrame],
    engines: Mapping[str, tuple[Engine, Parameters]],
    prompt: WritingPrompt,
    prices: str | None = None,
) -> list[Cost]:
    """What each model's responses will cost; asks nothing. A response that stands in several
    battles is paid for once, as a ledger has it.

    Args:
        tables: the battles.
        engines, prompt: see `synth.writing.write_responses`.
        prices: a file of prices that goes before the one that ships.

    Raises:
        InputError: a model has no engine, or meets itself without a temperature.
    """
    counts = {name: _Count(*engines[name], prompt) for name in engines}
    seen: set[int] = set()
    for battles in tables:
        by_model: dict[str, list[Conversation]] = {}
        for one in responses_to_write(battles, engines):
            place, what = one.uses[0]
            model = battles[what.replace("response", "model")].iloc[place]
            key = hash((model, one.turns, one.given, one.sample))
            if key not in seen:
                seen.add(key)
                by_model.setdefault(model, []).append(one)
        for model, conversations in by_model.items():
            counts[model].add(conversations)
    return [count.cost("write", prices) for count in counts.values()]


def reference_cost(
    tables: Iterable[pd.DataFrame],
    engine: Engine,
    parameters: Parameters,
    prompt: WritingPrompt,
    prices: str | None = None,
) -> Cost:
    """What references will cost; asks nothing.

    Args:
        tables: the battles.
        engine, parameters, prompt: see `synth.writing.write_references`.
        prices: a file of prices that goes before the one that ships.
    """
    count = _Count(engine, parameters, prompt)
    seen: set[int] = set()
    for battles in tables:
        new = []
        for one in references_to_write(battles, engine, parameters):
            key = hash((one.turns, one.given))
            if key not in seen:
                seen.add(key)
                new.append(one)
        count.add(new)
    return count.cost("reference", prices)


class _Count:
    """Adds up what one model is asked for."""

    def __init__(self, engine: Engine, parameters: Parameters, prompt: WritingPrompt) -> None:
        self._engine, self._parameters, self._prompt = engine, parameters, prompt
        self._typical = min(prompt.typical_tokens, parameters.max_tokens)
        self._expected = self._most = Estimate(0, 0, 0, 0, 0.0)

    def add(self, conversations: Sequence[Conversation]) -> None:
        """Adds conversations, none of which was added before."""
        expected = most = self._estimate(conversations, self._typical)
        if any(len(one.open) > 1 for one in conversations):
            most = self._estimate(conversations, self._parameters.max_tokens)
        self._expected, self._most = _sum(self._expected, expected), _sum(self._most, most)

    def cost(self, task: str, prices: str | None) -> Cost:
        """What it all comes to."""
        model = self._parameters.model
        found = cost_of(task, model, self._expected, self._typical, prices)
        return replace(found, most=cost_of(task, model, self._most, None, prices).most)

    def _estimate(self, conversations: Sequence[Conversation], tokens: int) -> Estimate:
        requests = requests_to_write(conversations, self._prompt, tokens)
        by_engine = getattr(self._engine, "estimate", None)
        if by_engine is not None:
            return cast(Callable[[Iterable[Request]], Estimate], by_engine)(requests)
        sizes = [(prompt_tokens(one), one.parameters.max_tokens) for one in requests]
        asked, answered = (sum(column) for column in zip(*sizes, strict=True)) if sizes else (0, 0)
        return Estimate(len(sizes), 0, asked, answered, None)


def _sum(one: Estimate, other: Estimate) -> Estimate:
    costs = (one.cost, other.cost)
    return Estimate(
        one.requests + other.requests,
        one.from_ledger + other.from_ledger,
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        None if costs[0] is None or costs[1] is None else costs[0] + costs[1],
    )
