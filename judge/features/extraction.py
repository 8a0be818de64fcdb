"""Battles to numbers: the values of every feature, in a fixed order, and the n-grams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from judge.features.accuracy import accuracy
from judge.features.clarity import clarity
from judge.features.grams import Grams
from judge.features.logical_flow import logical_flow
from judge.features.reading import read
from judge.features.relevance import relevance
from judge.features.responsiveness import responsiveness
from judge.features.similarity import similarity
from judge.features.text import Floats

# In the order of `judge.ballots.CRITERIA`.
_CRITERIA = {
    "relevance": relevance,
    "accuracy": accuracy,
    "clarity": clarity,
    "logical_flow": logical_flow,
    "responsiveness": responsiveness,
}


@dataclass(frozen=True)
class Extract:
    """The features of N battles.

    Attributes:
        names: for each criterion, its features' names.
        responses: for each criterion, (2, N, k) values of response A and of response B.
        context_names: the names of the features that speak of the battle as a whole.
        context: (N, m) their values, unchanged when the responses are swapped.
        grams: the battles' n-grams.
    """

    names: dict[str, tuple[str, ...]]
    responses: dict[str, Floats]
    context_names: tuple[str, ...]
    context: Floats
    grams: Grams


def extract(
    prompts: Sequence[tuple[str, ...]],
    responses_a: Sequence[tuple[str, ...]],
    responses_b: Sequence[tuple[str, ...]],
) -> Extract:
    """The features of N battles, at most `judge.features.grams.MOST_BATTLES`."""
    reading = read(prompts, responses_a, responses_b)
    values = {criterion: features(reading) for criterion, features in _CRITERIA.items()}
    context = similarity(reading)
    return Extract(
        names={criterion: tuple(found) for criterion, found in values.items()},
        responses={c: np.stack(list(found.values()), axis=-1) for c, found in values.items()},
        context_names=tuple(context),
        context=np.stack(list(context.values()), axis=-1),
        grams=reading.grams,
    )


def feature_names(found: Extract) -> tuple[str, ...]:
    """All features in the order of the weights: `criterion.name`, then `context.name`."""
    names = [f"{criterion}.{name}" for criterion, part in found.names.items() for name in part]
    return (*names, *(f"context.{name}" for name in found.context_names))
