"""Folds, and a part held out, that keep the battles about one prompt together."""

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


def stratified_folds(groups: Ints, strata: Ints, folds: int, seed: int) -> Ints:
    """(N,) the fold of each row, from 0; a group is in one fold only, and the folds have about as
    many rows, and as many of each stratum.

    Stratum by stratum groups are dealt out in random order, the largest first, each to the fold
    with the fewest rows of that stratum, and of equal ones to the one with the fewest of all.

    Args:
        groups: (N,) which rows stay together, from 0.
        strata: (N,) what is to be alike in the folds, from 0. A group goes with most of its rows.
        folds: how many; no more than there are groups.
        seed: of the order.
    """
    sizes, of = _groups(groups, strata)
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    order = shuffled[np.lexsort((-sizes[shuffled], of[shuffled]))]
    load = np.zeros((int(of.max(initial=0)) + 1, min(folds, len(sizes))), dtype=np.int64)
    home = np.zeros(len(sizes), dtype=np.int64)
    for group in order.tolist():
        fewest = np.flatnonzero(load[of[group]] == load[of[group]].min())
        home[group] = fewest[load.sum(axis=0)[fewest].argmin()]
        load[of[group], home[group]] += sizes[group]
    return np.asarray(home[groups])


def held_out(groups: Ints, strata: Ints, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """(N,) about a share of the rows, and about that of each stratum.

    The strata are gone through from the largest on, the groups of each in random order. A group is
    held out if more than half of it is owed; what is owed in the end the next stratum owes, so that
    of many small strata some groups are held out, too. There is always a group on either side.

    Args:
        groups: (N,) which rows stay together, from 0; two groups at least.
        strata: (N,) what is to be alike on both sides, from 0. A group goes with most of its rows.
        share: of the rows, above 0 and below 1.
        seed: of the order.
    """
    sizes, of = _groups(groups, strata)
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    rows = np.bincount(of, weights=sizes)
    chosen = np.zeros(len(sizes), dtype=np.bool_)
    owed = 0.0
    for stratum in np.argsort(-rows, kind="stable").tolist():
        owed += share * float(rows[stratum])
        for group in shuffled[of[shuffled] == stratum].tolist():
            if sizes[group] < 2 * owed:
                chosen[group] = True
                owed -= float(sizes[group])
    there = shuffled[sizes[shuffled] > 0]
    if not chosen.any():
        chosen[there[sizes[there].argmin()]] = True
    if chosen[there].all():
        chosen[there[sizes[there].argmin()]] = False
    return np.asarray(chosen[groups])


def _groups(groups: Ints, strata: Ints) -> tuple[Ints, Ints]:
    """How many rows each group has, and the stratum of most of them."""
    tally = np.zeros((int(groups.max(initial=-1)) + 1, int(strata.max(initial=0)) + 1), np.int64)
    np.add.at(tally, (groups, strata), 1)
    return tally.sum(axis=1), np.asarray(tally.argmax(axis=1), dtype=np.int64)
