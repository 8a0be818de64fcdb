"""Folds that keep the battles about one prompt together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def grouped_folds(groups: Ints, folds: int, seed: int) -> Ints:
    """(N,) the fold of each row, from 0; a group is in one fold only. Groups are dealt out in
    random order, the largest first, each to the fold that has the fewest rows yet."""
    sizes = np.bincount(groups)
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    load = np.zeros(min(folds, len(sizes)), dtype=np.int64)
    home = np.zeros(len(sizes), dtype=np.int64)
    for group in order.tolist():
        home[group] = int(load.argmin())
        load[home[group]] += sizes[group]
    return np.asarray(home[groups])
