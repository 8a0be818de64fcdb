"""What is learned after the strengths, from natural battles: the scale of the strength, the tie,
and what an empty response and a repeated one are worth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from finetune.statistical.tables import Table
from judge.ballots import CRITERIA
from judge.davidson import Block, fit_linear, probabilities
from judge.judges.statistical import (
    BOUND,
    forest_strengths,
    lexical_strengths,
    odd_battles,
    scaled_differences,
    tie_strengths,
)
from judge.judges.statistical_weights import Weights

PENALTY = {"context": 100.0, "distance": 1.0, "odd": 0.5}
_NOTHING = 1e-12  # strengths that spread no further are all the same
_BATCH = 4096  # what a forest reads at once, since its memory goes with battles times trees

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Parts:
    """(N, 5) criterion strengths of the linear part and of the forests, before they are mixed."""

    linear: Floats
    forest: Floats

    def spreads(self, rows: Rows) -> tuple[float, float]:
        """The standard deviations of both parts' strengths among the chosen battles; 1 for a part
        that says the same of all."""
        linear, forest = (
            float(part[rows].sum(axis=1).std()) for part in (self.linear, self.forest)
        )
        return linear if linear > _NOTHING else 1.0, forest if forest > _NOTHING else 1.0

    def mixed(self, spreads: tuple[float, float]) -> Floats:
        """Both on one scale, in equal parts."""
        return self.linear / spreads[0] + self.forest / spreads[1]


@dataclass(frozen=True)
class Head:
    """What is learned after the strengths: weights with the head in them, the spreads of both
    parts, the scale of their mix, and (N, 3) what it makes of the whole table."""

    weights: Weights
    spreads: tuple[float, float]
    scale: float
    proba: Floats


def strengths_of(table: Table, weights: Weights) -> Parts:
    """What the two parts of the strength say of a table's battles."""
    parts = scaled_differences(table.found, weights.scale)
    cuts = np.cumsum([part.shape[1] for part in parts.values()])[:-1]
    linear = np.concatenate([lexical_strengths(g, weights.lexical) for g in table.grams])
    forest = np.zeros_like(linear)
    for place, (c, w) in enumerate(zip(CRITERIA, np.split(weights.linear, cuts), strict=True)):
        linear[:, place] += (parts[c] * w).sum(axis=1)
        for start in range(0, len(table), _BATCH):
            some = slice(start, start + _BATCH)
            forest[some, place] = forest_strengths(
                weights.forests[c], parts[c][some], table.context[some]
            )
    return Parts(linear, forest)


def fit_heads(weights: Weights, parts: Parts, table: Table, rows: Rows) -> Head:
    """Everything that is learned after the strengths, from the chosen battles: the spreads that put
    both parts on one scale, the tie, the scale, and the odd battles."""
    natural = rows & table.natural
    spreads = parts.spreads(natural)
    strength = parts.mixed(spreads).sum(axis=1)
    head, scale = fit_head(
        weights, strength[natural], table.context[natural], table.labels[natural]
    )
    d = scale * strength
    tie = tie_strengths(head, table.context, d)
    odd = odd_battles(table.found)
    head = fit_odd(head, d[rows], tie[rows], (odd[0][rows], odd[1][rows]), table.labels[rows])
    d = d + head.odd[0] * odd[0]
    tie = tie + head.odd[1] * np.abs(odd[0]) + head.odd[2] * odd[1]
    return Head(head, spreads, scale, probabilities(d, tie))


def fit_head(
    weights: Weights, strength: Floats, context: Floats, labels: Floats
) -> tuple[Weights, float]:
    """The tie's weights, and what the strength is to be multiplied by: nothing where it speaks for
    the weaker response. The tie depends on the scaled strength, so both are fitted in turn until
    they agree."""
    mean, spread = context.mean(axis=0), context.std(axis=0) + 1e-9
    standard = np.clip((context - mean) / spread, -BOUND, BOUND)
    ones, scale = np.ones((len(labels), 1)), 1.0
    for _ in range(8):
        d = scale * strength
        distance = np.sqrt(1.0 + np.square(d))[:, None]
        step, constant, setting, apart = fit_linear(
            [Block(d[:, None], 1e-3)],
            [
                Block(ones, 1e-3),
                Block(standard, PENALTY["context"]),
                Block(distance, PENALTY["distance"]),
            ],
            labels,
        )
        scale = max(scale * float(step[0]), 0.0)
    head = replace(
        weights,
        context_mean=mean,
        context_scale=spread,
        context_weight=setting,
        tie=np.concatenate([constant, apart]),
    )
    return head, scale


def fit_odd(
    weights: Weights, strength: Floats, tie: Floats, odd: tuple[Floats, Floats], labels: Floats
) -> Weights:
    """What empty and identical responses add to strengths and ties that are known already."""
    there, identical = odd
    rows = (there != 0) | (identical != 0)
    sides, ties = there[rows, None], np.stack([np.abs(there), identical], axis=1)[rows]
    by_strength, by_tie = fit_linear(
        [Block(sides, PENALTY["odd"])],
        [Block(ties, PENALTY["odd"])],
        labels[rows],
        start=(strength[rows], tie[rows]),
    )
    return replace(weights, odd=np.concatenate([by_strength, by_tie]))


def finish(weights: Weights, parts: Parts, table: Table) -> Weights:
    """The judge as it is kept: the head fitted on all battles, its scale and the mix of the two
    parts folded into the weights."""
    fitted = fit_heads(weights, parts, table, np.ones(len(table.labels), dtype=bool))
    by_linear, by_forest = (fitted.scale / spread for spread in fitted.spreads)
    forests = {
        criterion: replace(forest, value=(forest.value * by_forest).astype(np.float32))
        for criterion, forest in weights.forests.items()
    }
    mixed = parts.mixed(fitted.spreads)[table.natural]
    whole, each = mixed.sum(axis=1).std(), mixed.std(axis=0)
    votes = np.ones(len(CRITERIA))
    np.divide(whole, each, out=votes, where=each > _NOTHING)
    return replace(
        fitted.weights,
        linear=weights.linear * by_linear,
        lexical=(weights.lexical * by_linear).astype(np.float16).astype(np.float32),
        forests=forests,
        vote_scale=votes,
    )
