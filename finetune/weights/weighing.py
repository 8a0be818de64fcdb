"""What each of several judges counts for in their mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from finetune.weights.folders import JudgeFolder, own_loss
from judge.blending.learning import BOUND, TEMPERATURE, Members, advantage_weights
from judge.comparing.bootstrap import group_codes
from judge.errors import ArenaJudgeError, InputError

Floats = npt.NDArray[np.float64]

EQUAL, CV, ADVANTAGE = WEIGHTS = ("equal", "cv", "advantage")


def equal_weights(judges: int) -> tuple[float, ...]:
    """All alike."""
    return (1.0 / judges,) * judges


def weights_by_loss(losses: Sequence[float], temperature: float = TEMPERATURE) -> tuple[float, ...]:
    """softmax(-loss / temperature), each loss less their mean held within `BOUND` temperatures, so
    that none counts for next to nothing.

    Raises:
        ArenaJudgeError: a temperature that is not above 0.
    """
    if not temperature > 0:
        raise ArenaJudgeError(f"the temperature of weights is {temperature:g}, and not above 0")
    found = np.asarray(losses, dtype=np.float64)
    powers = np.exp(np.clip((found.mean() - found) / temperature, -BOUND, BOUND))
    return tuple((powers / powers.sum()).tolist())


def stated_weights(
    judges: Sequence[JudgeFolder], temperature: float = TEMPERATURE
) -> tuple[float, ...]:
    """By the log losses that judges' folders state (see `finetune.weights.folders.own_loss`).

    Raises:
        InputError: one states none.
    """
    return weights_by_loss([own_loss(judge) for judge in judges], temperature)


def measured_weights(
    labels: Floats, said: Floats, prompts: npt.ArrayLike, seed: int
) -> tuple[float, ...]:
    """By what judges said of labelled battles: their advantage over a moving mean of all (see
    `judge.blending.learning.advantage_weights`).

    Args:
        labels: (N, 3).
        said: (M, N, 3) probabilities, NaN rows unjudged.
        prompts: (N,) a number for each prompt.
        seed: of the order of the battles.

    Raises:
        InputError: no battle was judged by any.
    """
    kept = ~np.isnan(said).any(axis=2).all(axis=0)
    if not kept.any():
        raise InputError("no judge judged any of the battles that weights are learned from")
    members = Members(labels[kept], said[:, kept], group_codes(np.asarray(prompts)[kept]))
    return advantage_weights(members, seed).weights
