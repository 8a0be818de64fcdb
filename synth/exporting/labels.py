"""The label that each battle is exported with: the annotators', people's, or both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from judge.aggregation import Aggregator, Floats
from synth.data import AnnotatedSet
from synth.soft_labels import SoftLabels, soft_labels

CHOICES = ("annotators", "human", "mixed")
ANNOTATORS, HUMAN, MIXED = CHOICES
_SAME = 1e-9


@dataclass(frozen=True)
class TrainingLabels:
    """The labels of N battles.

    Attributes:
        proba: (N, 3) in the order A, B, tie, rows summing to 1; NaN rows have none.
        origin: (N,) whose word each is, one of `CHOICES`; "" where there is none.
        soft: what the annotators said.
        human: (N, 3) what people said; NaN rows where nobody did.
    """

    proba: Floats
    origin: list[str]
    soft: SoftLabels
    human: Floats

    @property
    def of_people(self) -> bool:
        """Whether people have labelled any of the battles."""
        return not bool(np.isnan(self.human).all())


def training_labels(
    data: AnnotatedSet,
    labels: str = ANNOTATORS,
    *,
    hard: bool = False,
    source: str = "auto",
    aggregator: Aggregator | None = None,
) -> TrainingLabels:
    """Labels to train on.

    Args:
        data: the set.
        labels: "annotators" alone; "human": people's where they are, the annotators' elsewhere;
            "mixed": the mean of the two where both are, else the one there is.
        hard: the likeliest outcome alone.
        source: what of the annotations speaks (see `synth.soft_labels`).
        aggregator: how votes are counted.
    """
    soft = soft_labels(data, source=source, aggregator=aggregator)
    human = human_labels(data)
    machine, people = soft.labelled, ~np.isnan(human[:, 0])
    proba = soft.proba.copy()
    origin = np.where(machine, ANNOTATORS, "").astype(object)
    if labels != ANNOTATORS:
        proba[people] = human[people]
        origin[people] = HUMAN
    if labels == MIXED:
        both = people & machine
        proba[both] = (human[both] + soft.proba[both]) / 2.0
        origin[both] = MIXED
    proba = proba / proba.sum(axis=1, keepdims=True)
    return TrainingLabels(hardened(proba) if hard else proba, origin.tolist(), soft, human)


def human_labels(data: AnnotatedSet) -> Floats:
    """(N, 3) what people said; NaN rows where nobody did."""
    from judge.battles import labels

    found = labels(data.battles)
    return np.full((len(data.battles), 3), np.nan) if found is None else found


def outcomes(proba: Floats) -> npt.NDArray[np.int64]:
    """(N,) the likeliest of A (0), B (1) and tie (2); a draw for the first place is a tie, whoever
    is in it; -1 for NaN rows."""
    filled = np.where(np.isnan(proba), -1.0, proba)
    best = filled.argmax(axis=1)
    first = filled.max(axis=1, keepdims=True)
    best[(filled >= first - _SAME).sum(axis=1) > 1] = 2
    best[np.isnan(proba[:, 0])] = -1
    return np.asarray(best, dtype=np.int64)


def hardened(proba: Floats) -> Floats:
    """(N, 3) with all of a row on its likeliest outcome."""
    best = outcomes(proba)
    hard = np.full(proba.shape, np.nan)
    hard[best >= 0] = np.eye(3)[best[best >= 0]]
    return hard


def margins(proba: Floats) -> Floats:
    """(N,) by how much the likeliest outcome leads; NaN for NaN rows."""
    ranked = np.sort(proba, axis=1)
    return np.asarray(ranked[:, 2] - ranked[:, 1])
