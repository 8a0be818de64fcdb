"""Battles a few at a time, so that a batch's arrays stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

TEXTS = ("prompt", "response_a", "response_b")
BATTLES, CHARACTERS = 256, 1_000_000
"""The most of a batch; a longer battle is a batch by itself."""

Text = Sequence[tuple[str, ...]]


def small_batches(battles: pd.DataFrame) -> Iterator[tuple[Text, Text, Text]]:
    """The prompts and both responses of a battle table, a batch at a time, in order."""
    prompts, a, b = (battles[name].tolist() for name in TEXTS)
    start = characters = 0
    for place, turns in enumerate(zip(prompts, a, b, strict=True)):
        size = sum(len(turn) for text in turns for turn in text)
        full = place - start == BATTLES or characters + size > CHARACTERS
        if full and place > start:
            yield prompts[start:place], a[start:place], b[start:place]
            start, characters = place, 0
        characters += size
    if prompts:
        yield prompts[start:], a[start:], b[start:]
