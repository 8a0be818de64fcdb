"""Batches: every sequence once, within the budget, little padding, the same for the same seed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.classifier.batching import epoch_batches, token_batches

LENGTHS = st.lists(st.integers(1, 600), max_size=80).map(lambda found: np.array(found, np.int64))


def _cost(lengths: np.ndarray, padded: bool) -> int:
    return int(lengths.max() * len(lengths) if padded else lengths.sum())


@given(LENGTHS, st.integers(1, 2000), st.booleans(), st.integers(1, 3), st.integers(0, 9))
def test_every_row_once_and_within_the_budget(
    lengths: np.ndarray, budget: int, padded: bool, together: int, seed: int
) -> None:
    lengths = lengths[: len(lengths) // together * together]
    for batches in (
        token_batches(lengths, budget, padded=padded, together=together),
        token_batches(lengths, budget, padded=padded, together=together, longest_first=False),
        epoch_batches(lengths, budget, seed=seed, padded=padded, together=together),
    ):
        rows = np.concatenate([*batches, np.zeros(0, np.int64)]).astype(np.int64)
        assert sorted(rows.tolist()) == list(range(len(lengths)))
        for batch in batches:
            assert len(batch) == together or _cost(lengths[batch], padded) <= budget
            units = batch.reshape(-1, together)
            assert (units == units[:, :1] + np.arange(together)).all()
            assert (units[:, 0] % together == 0).all()


@given(LENGTHS.filter(len), st.integers(1, 2000), st.booleans(), st.integers(0, 5))
def test_the_longest_comes_first(lengths: np.ndarray, budget: int, padded: bool, seed: int) -> None:
    batches = token_batches(lengths, budget, padded=padded)
    longest = [int(lengths[batch].max()) for batch in batches]
    assert longest == sorted(longest, reverse=True)
    backwards = token_batches(lengths, budget, padded=padded, longest_first=False)
    assert [batch.tolist() for batch in backwards] == [batch.tolist() for batch in batches[::-1]]
    # No batch could take the first of the next one in as well.
    for batch, after in itertools.pairwise(batches):
        assert _cost(lengths[np.append(batch, after[0])], padded) > budget
    first = epoch_batches(lengths, budget, seed=seed, padded=padded)[0]
    assert lengths[first].max() == lengths.max()


def test_an_epochs_order_is_chance_and_can_be_had_again() -> None:
    lengths = np.random.default_rng(1).integers(10, 500, 5000)

    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(epoch_batches(lengths, 4096, seed=seed, epoch=epoch)).tolist()

    assert order(3, 0) == order(3, 0)
    assert order(3, 0) != order(3, 1)
    assert order(3, 0) != order(4, 0)
    # What is met early says nothing of where it stands in the file.
    assert abs(np.corrcoef(order(3, 0), np.arange(5000))[0, 1]) < 0.1
    batches = epoch_batches(lengths, 4096, seed=3)
    sizes = np.array([lengths[batch].mean() for batch in batches])
    assert abs(np.corrcoef(sizes[1:], np.arange(len(sizes) - 1))[0, 1]) < 0.2


@pytest.mark.parametrize("padded", [False, True])
def test_little_of_a_batch_is_padding(padded: bool) -> None:
    drawn = np.random.default_rng(0).lognormal(5.3, 0.8, 20_000).astype(np.int64) + 20
    lengths = np.minimum(drawn, 512)
    for batches in (
        token_batches(lengths, 8192, padded=padded),
        epoch_batches(lengths, 8192, seed=0, padded=padded),
    ):
        room = sum(_cost(lengths[batch], True) for batch in batches)
        assert lengths.sum() / room > 0.97
        assert lengths.sum() / (8192 * len(batches)) > 0.95


def test_what_cannot_be_kept_together() -> None:
    with pytest.raises(ValueError, match="3 sequences cannot be kept 2 together"):
        token_batches(np.array([1, 2, 3]), 10, together=2)
    assert token_batches(np.zeros(0, np.int64), 10) == []
    assert epoch_batches(np.zeros(0, np.int64), 10, seed=0) == []
