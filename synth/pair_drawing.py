"""Which models meet on which prompt, and on which side each stands.

Two things must not tell a judge anything: which models meet often, and who stands where. Pairs are
drawn so that each occurs as often as any other, and sides are given by walking along closed paths
of meetings, so that every model stands as often on side A as on side B, to within one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def draw_meetings(
    present: npt.NDArray[np.bool_],
    order: Sequence[int],
    pairs: int | None,
    rng: np.random.Generator,
) -> Ints:
    """The battles of a set of prompts.

    Args:
        present: (P, M) which models have a response to which prompt.
        order: the numbers of the prompts, in the order in which they draw.
        pairs: how many battles a prompt has at most; None for all that it can have.
        rng: decides between what is equally good.

    Returns:
        (B, 3): the prompt, the model on side A and the one on side B; sorted by prompt, and in it
        by the models, whichever side they stand on. Where every model answers every prompt, how
        often two pairs meet differs by one at most; where responses are missing, as little as one
        pass can make it.
    """
    drawn = _drawn_pairs(present, order, pairs, rng)
    sides = _sides(drawn, present.shape[1], rng)
    rows = np.column_stack([drawn[:, :1], sides])
    low, high = drawn[:, 1], drawn[:, 2]
    return rows[np.lexsort((high, low, drawn[:, 0]))]


def _drawn_pairs(
    present: npt.NDArray[np.bool_],
    order: Sequence[int],
    pairs: int | None,
    rng: np.random.Generator,
) -> Ints:
    """(B, 3) prompt and two models, the smaller number first, in the order they were drawn."""
    every = np.array(list(combinations(range(present.shape[1]), 2)), dtype=np.int64).reshape(-1, 2)
    met = np.zeros(len(every), dtype=np.int64)
    drawn = []
    for prompt in order:
        can = np.flatnonzero(present[prompt, every].all(axis=1))
        if pairs is not None and len(can) > pairs:
            # Those that met least; which of equals is chance.
            can = can[np.lexsort((rng.random(len(can)), met[can]))[:pairs]]
        met[can] += 1
        drawn.append(np.column_stack([np.full(len(can), prompt), every[can]]))
    return np.concatenate(drawn) if drawn else np.empty((0, 3), dtype=np.int64)


def _sides(drawn: Ints, models: int, rng: np.random.Generator) -> Ints:
    """(B, 2) the models of each battle, the one on side A first.

    Two battles of one pair, one each way round, cancel. What is left is at most one battle a pair:
    a graph whose edges, directed along Euler's trails, leave every node as often as they reach it,
    or once more or less.
    """
    sides = drawn[:, 1:].copy()
    battles: dict[tuple[int, int], list[int]] = {}
    for number, (low, high) in enumerate(sides.tolist()):
        battles.setdefault((low, high), []).append(number)
    turned = np.zeros(len(sides), dtype=np.bool_)
    odd = []
    for pair in sorted(battles):
        numbers = rng.permutation(battles[pair])
        turned[numbers[1::2]] = True
        if len(numbers) % 2:
            odd.append((*pair, int(numbers[-1])))
    edges = [odd[at] for at in rng.permutation(len(odd))]
    for number, first in _walked(edges, rng.permutation(models).tolist()):
        turned[number] = sides[number, 0] != first
    sides[turned] = sides[turned][:, ::-1]
    return sides


def _walked(edges: Sequence[tuple[int, int, int]], nodes: Sequence[int]) -> list[tuple[int, int]]:
    """Edges, given by their two nodes and a name, as they are walked: the name, and from where.

    Trails begin at the nodes with an odd number of edges first. Such a trail ends at another of
    them, so each is an end of one trail; all later trails come back to where they began.
    """
    around: list[dict[int, int]] = [{} for _ in nodes]  # the edge to each neighbour
    for one, other, name in edges:
        around[one][other] = around[other][one] = name
    walked = []
    for start in [*(node for node in nodes if len(around[node]) % 2), *nodes]:
        here = start
        while around[here]:
            there, name = next(iter(around[here].items()))
            del around[here][there], around[there][here]
            walked.append((name, here))
            here = there
    return walked
