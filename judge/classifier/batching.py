"""Sequences to batches of at most so many tokens, alike in length, so that little is padding.

`token_batches` is for judging: the longest first, so that a batch too large for the device shows at
once. `epoch_batches` is for training: in an order of chance, another one every epoch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

# Sequences that are sorted by length together, in batches: with fewer, more is padding; with more,
# what is in a batch hangs on length and less on chance.
_POOL = 64


def token_batches(
    lengths: Ints,
    budget: int,
    *,
    longest_first: bool = True,
    padded: bool = False,
    together: int = 1,
) -> list[Ints]:
    """Batches of N sequences, those of like length side by side.

    Args:
        lengths: (N,) tokens of each.
        budget: how many tokens a batch may have; a sequence that is longer is a batch of its own.
        longest_first: else the shortest come first.
        padded: count every sequence of a batch as its longest one.
        together: so many neighbours (2: rows 0 and 1, rows 2 and 3) are in one batch, side by side.

    Returns:
        The rows of each batch; every row is in one.
    """
    units = _units(lengths, together)
    order = _by_length(units)
    batches = [_rows(part, together) for part in _filled(units, order, budget, padded)]
    return batches if longest_first else batches[::-1]


def epoch_batches(
    lengths: Ints,
    budget: int,
    *,
    seed: int,
    epoch: int = 0,
    padded: bool = False,
    together: int = 1,
) -> list[Ints]:
    """Batches of N sequences for one epoch of training; see `token_batches`.

    Sequences are dealt out at random to pools of some dozens of batches, sorted by length within
    them, and the batches are shuffled, but for the one with the longest sequence, which is first:
    where it has room the others have too. The same seed and epoch give the same batches.

    Args:
        seed: of the order.
        epoch: which one it is for.
    """
    units = _units(lengths, together)
    if not len(units):
        return []
    rng = np.random.default_rng([seed, epoch])
    shuffled = rng.permutation(len(units))
    tokens = units.sum(axis=1)[shuffled]
    pools = (np.cumsum(tokens) - tokens) // (_POOL * max(budget, 1))
    batches: list[Ints] = []
    for pool in np.split(shuffled, np.flatnonzero(np.diff(pools)) + 1):
        order = pool[_by_length(units[pool])]
        batches += [_rows(part, together) for part in _filled(units, order, budget, padded)]
    mixed = [batches[place] for place in rng.permutation(len(batches)).tolist()]
    most = max(range(len(mixed)), key=lambda place: _weight(lengths[mixed[place]]))
    return [mixed[most], *mixed[:most], *mixed[most + 1 :]]


def _weight(lengths: Ints) -> tuple[int, int]:
    return int(lengths.max()), int(lengths.sum())


def _units(lengths: Ints, together: int) -> Ints:
    """(N / together, together) the lengths of what is kept together."""
    if together < 1 or len(lengths) % together:
        raise ValueError(f"{len(lengths)} sequences cannot be kept {together} together")
    return np.asarray(lengths, dtype=np.int64).reshape(-1, together)


def _by_length(units: Ints) -> Ints:
    """The longest first, equal ones in their order."""
    return np.lexsort((-units.sum(axis=1), -units.max(axis=1)))


def _filled(units: Ints, order: Ints, budget: int, padded: bool) -> list[Ints]:
    """Parts of the order, each as long as the budget lets it be; units with the longest sequences
    come first in it."""
    longest = units.max(axis=1)[order]
    before = np.concatenate([[0], np.cumsum(units.sum(axis=1)[order])])
    parts, start = [], 0
    while start < len(order):
        if padded:
            end = start + budget // max(int(longest[start]) * units.shape[1], 1)
        else:
            end = int(np.searchsorted(before, before[start] + budget, side="right")) - 1
        end = min(max(end, start + 1), len(order))
        parts.append(order[start:end])
        start = end
    return parts


def _rows(units: Ints, together: int) -> Ints:
    rows: Ints = (units[:, None] * together + np.arange(together)).ravel()
    return rows
