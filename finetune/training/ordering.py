"""Which battles each step of an epoch learns from, and what of them goes through the network at
once. All of it hangs on the seed, the epoch and the lengths alone: a run that goes on after a kill,
or in several processes, takes the same steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from judge.classifier.batching import token_batches

Ints = npt.NDArray[np.int64]
Step = list[Ints]
"""The batches of a step: the rows that go through the network at once, for each."""


@dataclass(frozen=True)
class Steps:
    """How large steps are.

    Attributes:
        tokens: of a step, at most, unless one row has more.
        rows: of a step, in place of tokens; 0 for none.
        batch_tokens: what goes through the network at once.
        padded: whether rows are padded to the longest there.
    """

    tokens: int
    rows: int
    batch_tokens: int
    padded: bool = False


def epoch_steps(lengths: Ints, steps: Steps, *, seed: int, epoch: int) -> list[Ints]:
    """The rows of each step of an epoch.

    They are drawn in an order of chance and dealt out to steps in it, so that what is in a step
    does not hang on lengths.

    Args:
        lengths: (N,) tokens of each row.
        steps: how large they are.
        seed, epoch: of the order.
    """
    if not len(lengths):
        return []
    shuffled = np.random.default_rng([seed, epoch]).permutation(len(lengths))
    if steps.rows:
        return [shuffled[at : at + steps.rows] for at in range(0, len(shuffled), steps.rows)]
    return _filled(shuffled, lengths[shuffled], steps.tokens)


def batches_of(rows: Ints, lengths: Ints, steps: Steps) -> Step:
    """What of a step's rows goes through the network at once: those of like length."""
    return [
        rows[places]
        for places in token_batches(lengths[rows], steps.batch_tokens, padded=steps.padded)
    ]


def _filled(rows: Ints, lengths: Ints, budget: int) -> list[Ints]:
    """Parts of the rows, each with as many as the budget allows, one at least."""
    before = np.concatenate([[0], np.cumsum(lengths)])
    parts, start = [], 0
    while start < len(rows):
        end = int(np.searchsorted(before, before[start] + budget, side="right")) - 1
        end = min(max(end, start + 1), len(rows))
        parts.append(rows[start:end])
        start = end
    return parts


def share_of(step: Step, lengths: Ints, process: int, processes: int) -> Step:
    """The batches of a step that one of several processes takes; all take about as many tokens.

    Each process has the same number of batches, the last of which may be empty.
    """
    if processes == 1:
        return step
    batches = _enough(step, lengths, processes)
    shares: list[Step] = [[] for _ in range(processes)]
    loads = np.zeros(processes)
    rounds = -(-len(batches) // processes)
    for batch in sorted(batches, key=lambda rows: -int(lengths[rows].sum())):
        free = [place for place in range(processes) if len(shares[place]) < rounds]
        least = min(free, key=lambda place: (loads[place], place))
        shares[least].append(batch)
        loads[least] += lengths[batch].sum()
    mine = shares[process]
    return mine + [np.zeros(0, dtype=np.int64)] * (rounds - len(mine))


def _enough(step: Step, lengths: Ints, processes: int) -> Step:
    """The batches, the largest ones halved until each process can have one."""
    batches = list(step)
    while len(batches) < processes:
        sizes = [int(lengths[rows].sum()) if len(rows) > 1 else -1 for rows in batches]
        most = int(np.argmax(sizes))
        if sizes[most] < 0:
            break
        rows = batches.pop(most)
        batches += [rows[0::2], rows[1::2]]
    return batches
