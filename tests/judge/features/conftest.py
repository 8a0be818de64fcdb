"""What the tests of the features share."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from judge.features.extraction import extract
from judge.features.text import TextBatch

Text = str | tuple[str, ...]


def _turns(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


def _see(prompt: Text, response_a: Text, response_b: Text) -> dict[str, list[float]]:
    found = extract([_turns(prompt)], [_turns(response_a)], [_turns(response_b)])
    values = {
        f"{criterion}.{name}": found.responses[criterion][:, 0, place].tolist()
        for criterion, names in found.names.items()
        for place, name in enumerate(names)
    }
    context = zip(found.context_names, found.context[0].tolist(), strict=True)
    return values | {f"context.{name}": [value] for name, value in context}


def _spell(batch: TextBatch) -> list[list[str]]:
    spelled = [
        "".join(map(chr, batch.codes[start:end].tolist()))
        for start, end in zip(batch.starts.tolist(), batch.ends.tolist(), strict=True)
    ]
    bounds = batch.token_documents.tolist()
    return [spelled[a:b] for a, b in pairwise(bounds)]


@pytest.fixture(scope="session")
def see() -> Callable[[Text, Text, Text], dict[str, list[float]]]:
    """One battle's features by name: two values where it is a response's, A's and B's, and one
    where it is the battle's."""
    return _see


@pytest.fixture(scope="session")
def spell() -> Callable[[TextBatch], list[list[str]]]:
    """The tokens of each document of a batch, as they are hashed."""
    return _spell
