"""Places, and what can be told of them."""

from __future__ import annotations

import numpy as np
import pytest

from judge.leaderboard.ranking import (
    better_by_covariance,
    better_by_samples,
    islands,
    rank_intervals,
    ranks,
    tiers,
)

ONE = np.ones(4, dtype=np.int64)


def test_models_that_never_met_are_on_islands_of_their_own() -> None:
    met = np.zeros((5, 5))
    for a, b, battles in ((0, 3, 2.0), (1, 2, 4.0), (2, 4, 1.0)):
        met[a, b] = met[b, a] = battles
    assert islands(met).tolist() == [2, 1, 1, 2, 1]


def test_a_chain_of_battles_joins_an_island() -> None:
    met = np.diag(np.ones(9), 1)
    assert islands(met + met.T).tolist() == [1] * 10


def test_who_is_ahead_in_nearly_every_round_is_better() -> None:
    generator = np.random.default_rng(0)
    samples = generator.normal(size=(1000, 4)) + np.array([9.0, 5.0, 4.5, -9.0])
    better = better_by_samples(samples, ONE)
    assert better.tolist() == [
        [False, True, True, True],
        [False, False, False, True],
        [False, False, False, True],
        [False, False, False, False],
    ]
    low, high = rank_intervals(better, ONE)
    assert low.tolist() == [1, 2, 2, 4]
    assert high.tolist() == [1, 3, 3, 4]


def test_differences_are_paired() -> None:
    common = 100 * np.random.default_rng(0).normal(size=(500, 1))
    samples = common + np.array([1.0, 0.0, 0.0, -1.0])
    better = better_by_samples(samples, ONE)
    assert better[0].tolist() == [False, True, True, True]
    assert not better[1, 2]
    assert not better[2, 1]


def test_too_few_rounds_and_equal_scores_say_nothing() -> None:
    assert not better_by_samples(np.tile([4.0, 3.0, 2.0, 1.0], (38, 1)), ONE).any()
    assert better_by_samples(np.tile([4.0, 3.0, 2.0, 1.0], (39, 1)), ONE).sum() == 6
    assert not better_by_samples(np.zeros((0, 4)), ONE).any()
    noise = 1e-9 * np.arange(4.0)
    assert not better_by_samples(np.tile(noise, (100, 1)), ONE).any()


def test_the_covariance_of_two_scores_counts() -> None:
    scores = np.array([10.0, 0.0])
    apart, together = np.diag([36.0, 36.0]), np.full((2, 2), 36.0) + np.eye(2)
    pair = np.ones(2, dtype=np.int64)
    assert not better_by_covariance(scores, apart, pair, 1000).any()
    assert not better_by_covariance(scores, together, pair, 2).any()  # errors hardly known
    assert better_by_covariance(scores, together, pair, 1000).tolist() == [
        [False, True],
        [False, False],
    ]
    assert not better_by_covariance(scores, np.full((2, 2), np.nan), pair, 1000).any()


def test_islands_are_not_compared() -> None:
    island = np.array([1, 1, 2, 2])
    samples = np.tile([4.0, 3.0, 2.0, 1.0], (100, 1))
    better = better_by_samples(samples, island)
    assert np.argwhere(better).tolist() == [[0, 1], [2, 3]]
    low, high = rank_intervals(better, island)
    assert (low.tolist(), high.tolist()) == ([1, 2, 1, 2], [1, 2, 1, 2])
    assert ranks(np.array([4.0, 3.0, 2.0, 1.0]), island).tolist() == [1, 2, 1, 2]


def test_equal_scores_share_a_rank() -> None:
    assert ranks(np.array([5.0, 7.0, 5.0 + 1e-9, 1.0]), ONE).tolist() == [2, 1, 2, 4]


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], [[0, 1, 2, 3]]),
        ([(0, 2), (0, 3)], [[0, 1], [2, 3]]),
        ([(0, 1), (1, 2), (2, 3), (0, 2), (0, 3), (1, 3)], [[0], [1], [2], [3]]),
        # The second and the third are alike, but a chain of likeness is no likeness.
        ([(0, 2), (1, 3), (0, 3)], [[0, 1], [2, 3]]),
    ],
)
def test_none_of_a_tier_can_be_told_from_another(
    pairs: list[tuple[int, int]], expected: list[list[int]]
) -> None:
    better = np.zeros((4, 4), dtype=bool)
    for a, b in pairs:
        better[a, b] = True
    assert tiers(better, ONE) == expected


def test_tiers_end_with_the_island() -> None:
    assert tiers(np.zeros((4, 4), dtype=bool), np.array([1, 1, 2, 2])) == [[0, 1], [2, 3]]
