"""Folds and held-out parts: groups stay whole, strata and sizes come out alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.folds import held_out, stratified_folds

ROWS = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=2, max_size=120).map(
    lambda drawn: (
        np.unique([group for group, _ in drawn], return_inverse=True)[1].ravel(),
        np.array([stratum for _, stratum in drawn], dtype=np.int64),
    )
)


@given(ROWS, st.integers(2, 6), st.integers(0, 99))
def test_a_group_is_in_one_fold(rows: tuple[np.ndarray, np.ndarray], folds: int, seed: int) -> None:
    groups, strata = rows
    found = stratified_folds(groups, strata, folds, seed)
    there = len(np.unique(groups))
    assert set(found.tolist()) <= set(range(folds))
    assert len({(g, f) for g, f in zip(groups.tolist(), found.tolist(), strict=True)}) == there
    assert np.array_equal(found, stratified_folds(groups, strata, folds, seed))


@given(ROWS, st.floats(0.01, 0.99), st.integers(0, 99))
def test_a_group_is_held_out_whole_and_neither_side_is_empty(
    rows: tuple[np.ndarray, np.ndarray], share: float, seed: int
) -> None:
    groups, strata = rows
    held = held_out(groups, strata, share, seed)
    there = np.unique(groups)
    if len(there) > 1:
        assert held.any()
        assert not held.all()
    for group in there:
        assert len(set(held[groups == group].tolist())) == 1
    largest = np.bincount(groups).max()
    assert abs(held.sum() - share * len(groups)) <= largest


@pytest.mark.parametrize("seed", range(3))
def test_strata_come_out_alike(seed: int) -> None:
    strata = np.repeat([0, 1, 2], [500, 470, 30])
    groups = np.random.default_rng(seed).permutation(1000)
    folds = stratified_folds(groups, strata, 5, seed)
    for fold in range(5):
        own = np.bincount(strata[folds == fold], minlength=3)
        assert own.tolist() == [100, 94, 6]
    held = held_out(groups, strata, 0.1, seed)
    assert np.bincount(strata[held], minlength=3).tolist() == [50, 47, 3]


def test_another_seed_holds_out_others() -> None:
    groups, strata = np.arange(200), np.zeros(200, np.int64)
    assert not np.array_equal(held_out(groups, strata, 0.2, 0), held_out(groups, strata, 0.2, 1))
    assert not np.array_equal(
        stratified_folds(groups, strata, 5, 0), stratified_folds(groups, strata, 5, 1)
    )


def test_many_small_strata_and_few_large_groups_still_give_about_the_share() -> None:
    groups = np.arange(60)
    assert held_out(groups, np.arange(60) % 30, 0.1, 0).sum() == 6
    large = np.repeat(np.arange(10), 100)
    assert held_out(large, np.zeros(1000, np.int64), 0.12, 0).sum() == 100
