"""Battles between models of known strength."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Simulated:
    """N battles: numbers and names of models, (N, 3) outcomes, prompts, and the (M,) truth."""

    first: Ints
    second: Ints
    model_a: list[str]
    model_b: list[str]
    outcomes: Floats
    prompts: Ints
    style: Floats
    strengths: Floats


def _simulate(
    seed: int,
    *,
    models: int = 6,
    battles: int = 300,
    by_prompt: int = 1,
    tie: float = 0.2,
    effects: tuple[float, ...] = (),
    apart: float = 1.0,
    prompt_noise: float = 0.0,
) -> Simulated:
    """Battles whose outcomes follow Bradley-Terry, perhaps with style effects; `prompt_noise` makes
    battles about one prompt alike."""
    generator = np.random.default_rng(seed)
    strengths = apart * generator.normal(size=models)
    first = generator.integers(models, size=battles)
    second = (first + generator.integers(1, models, size=battles)) % models
    style = generator.normal(size=(battles, len(effects)))
    prompts = np.arange(battles) // by_prompt
    taste = prompt_noise * generator.normal(size=(prompts.max() + 1, models))
    gap = strengths[first] + taste[prompts, first] - strengths[second] - taste[prompts, second]
    wins = 1.0 / (1.0 + np.exp(-gap - style @ np.array(effects)))
    tied = generator.random(battles) < tie
    won = generator.random(battles) < wins
    outcomes = np.column_stack([won & ~tied, ~won & ~tied, tied]).astype(np.float64)
    return Simulated(
        first=first,
        second=second,
        model_a=[f"model {number}" for number in first],
        model_b=[f"model {number}" for number in second],
        outcomes=outcomes,
        prompts=prompts,
        style=style,
        strengths=strengths,
    )


@pytest.fixture
def simulate() -> Callable[..., Simulated]:
    """Makes battles from a seed."""
    return _simulate
