"""The ceiling: what is estimated from few votes is what would be known from all of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma
from scipy.stats import dirichlet_multinomial

from judge.comparing.ceiling import (
    CEILING,
    ONE_HUMAN,
    expected_entropy,
    fit_dirichlet,
    human_ceiling,
    one_against_others,
    voted_on,
)
from judge.metrics import log_loss

Floats = np.ndarray


def polled(alpha: list[float], votes: int, battles: int, seed: int) -> tuple[Floats, Floats]:
    """What people say of battles, and the votes of a few of them."""
    rng = np.random.default_rng(seed)
    opinion = rng.dirichlet(alpha, size=battles)
    return opinion, np.stack([rng.multinomial(votes, row) for row in opinion]).astype(float)


def entropy(opinion: Floats) -> Floats:
    return -(opinion * np.log(np.maximum(opinion, 1e-300))).sum(axis=1)


@pytest.mark.parametrize("votes", [2, 3, 5])
@pytest.mark.parametrize("alpha", [[0.5, 0.5, 0.3], [2.0, 3.0, 1.0], [0.1, 0.1, 0.05]])
def test_the_true_entropy_lies_between_plain_shares_and_one_human(
    alpha: list[float], votes: int
) -> None:
    opinion, counts = polled(alpha, votes, 3000, seed=votes)
    truth = entropy(opinion).mean()
    fitted = fit_dirichlet(counts)
    found = expected_entropy(counts, fitted).mean()
    one = one_against_others(counts, fitted)[0].mean()
    plain = entropy(counts / votes).mean()
    assert plain < truth < one
    assert abs(found - truth) < 0.05
    assert abs(found - truth) < abs(plain - truth) / 2
    assert abs(found - truth) < abs(one - truth)


def test_a_world_that_is_no_dirichlet_is_met_as_well() -> None:
    rng = np.random.default_rng(0)
    clear, open_ = np.array([0.9, 0.05, 0.05]), np.array([0.34, 0.33, 0.33])
    opinion = np.where(rng.random(4000)[:, None] < 0.5, clear, open_)
    counts = np.stack([rng.multinomial(3, row) for row in opinion]).astype(float)
    found = expected_entropy(counts, fit_dirichlet(counts)).mean()
    assert abs(found - entropy(opinion).mean()) < 0.03


def test_no_judge_beats_the_ceiling_and_who_knows_all_reaches_it() -> None:
    opinion, counts = polled([0.8, 0.7, 0.9], 4, 3000, seed=1)
    ceiling = human_ceiling(counts / 4, counts, groups=np.arange(3000), rounds=200)
    assert ceiling is not None
    best, one = ceiling.rows
    assert (best.name, one.name) == (CEILING, ONE_HUMAN)
    assert best.low < log_loss(counts / 4, opinion) < best.high
    assert best.log_loss < one.log_loss
    assert 1 / 3 < one.accuracy < 1
    assert math.isnan(best.accuracy)
    assert (ceiling.battles, ceiling.votes, ceiling.of) == (3000, 12000, 3000)


@pytest.mark.slow
@pytest.mark.parametrize("concentration", [0.5, 5.0, 1e9])
def test_the_interval_covers(concentration: float) -> None:
    """Also of people who all guess alike, where the shares are all there is to know."""
    mean = np.array([0.4, 0.4, 0.2])
    alpha = concentration * mean
    truth = float((mean * (digamma(alpha.sum() + 1) - digamma(alpha + 1))).sum())
    covered = 0
    for seed in range(200):
        _, counts = polled(alpha.tolist(), 3, 300, seed=seed)
        ceiling = human_ceiling(counts / 3, counts, groups=np.arange(300), rounds=100, seed=seed)
        assert ceiling is not None
        covered += ceiling.rows[0].low <= truth <= ceiling.rows[0].high
    assert 180 <= covered <= 198  # one time in a hundred it would not be, were it 95 %


def test_the_fit_is_the_likeliest() -> None:
    _, counts = polled([0.7, 1.5, 0.4], 5, 800, seed=3)
    fitted = fit_dirichlet(counts)

    def likelihood(alpha: Floats) -> float:
        return float(dirichlet_multinomial.logpmf(counts.astype(int), alpha, 5).sum())

    best = likelihood(fitted)
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert likelihood(fitted * np.exp(rng.normal(0, 0.2, size=3))) <= best + 1e-6


def test_one_human_against_the_others_by_hand() -> None:
    alpha = np.array([0.5, 0.5, 1.0])
    loss, hits = one_against_others(np.array([[2.0, 1.0, 0.0], [3.0, 0.0, 0.0]]), alpha)
    # Two who say A have one A and one B beside them; the one who says B has two A.
    expected = -(2 * np.log(1.5 / 4) + np.log(0.5 / 4)) / 3
    np.testing.assert_allclose(loss, [expected, -np.log(2.5 / 4)])
    np.testing.assert_allclose(hits, [(2 * 0.5 + 0) / 3, 1.0])


def test_people_who_agree_and_people_who_guess() -> None:
    same = np.tile([[3.0, 0, 0], [0, 3.0, 0], [0, 0, 3.0]], (50, 1))
    ceiling = human_ceiling(same / 3, same, groups=np.arange(150), rounds=100)
    assert ceiling is not None
    assert ceiling.unanimous == 1.0
    assert ceiling.rows[0].log_loss < 0.01
    assert ceiling.rows[1].accuracy == 1.0
    rng = np.random.default_rng(0)
    guessed = rng.multinomial(4, [0.5, 0.3, 0.2], size=2000).astype(float)
    ceiling = human_ceiling(guessed / 4, guessed, groups=np.arange(2000), rounds=100)
    assert ceiling is not None
    opinion = np.array([[0.5, 0.3, 0.2]])
    assert ceiling.rows[0].log_loss == pytest.approx(entropy(opinion)[0], abs=0.02)


def test_without_several_votes_there_is_none() -> None:
    one = np.eye(3)
    assert human_ceiling(one, one, groups=np.arange(3)) is None
    assert human_ceiling(one, np.full((3, 3), np.nan), groups=np.arange(3)) is None
    assert human_ceiling(np.full((3, 3), np.nan), 2 * one, groups=np.arange(3)) is None


def test_only_battles_whose_label_is_their_votes_count() -> None:
    votes = np.array([[2.0, 1, 0], [2, 1, 0], [1, 0, 0], [0, 0, 0], [1.5, 1.5, 0], [np.nan] * 3])
    labels = np.array([[2, 1, 0], [0, 3, 0], [3, 0, 0], [3, 0, 0], [1.5, 1.5, 0], [0, 3, 0]]) / 3
    assert voted_on(labels, votes).tolist() == [True, False, False, False, False, False]
    rounded = np.array([[0.67, 0.33, 0.0]])
    assert voted_on(rounded, votes[:1]).tolist() == [True]


def test_labels_that_are_made_otherwise_have_no_ceiling() -> None:
    """What most said, not the shares: the battles where the two are the same are the clear ones."""
    _, counts = polled([1.0, 1.0, 1.0], 3, 200, seed=2)
    most = np.eye(3)[counts.argmax(axis=1)]
    assert 2 < voted_on(most, counts).sum() < 180
    assert human_ceiling(most, counts, groups=np.arange(200)) is None


def test_one_prompt_has_no_interval() -> None:
    _, counts = polled([1.0, 1.0, 1.0], 3, 40, seed=0)
    ceiling = human_ceiling(counts / 3, counts, groups=np.zeros(40), rounds=100)
    assert ceiling is not None
    assert all(math.isnan(row.low) and math.isnan(row.high) for row in ceiling.rows)


@settings(max_examples=25)
@given(st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=2, max_size=30))
def test_any_votes_have_finite_figures(rows: list[tuple[int, int, int]]) -> None:
    counts = np.array(rows, dtype=float)
    with np.errstate(invalid="ignore"):
        labels = counts / counts.sum(axis=1, keepdims=True)
    ceiling = human_ceiling(labels, counts, groups=np.arange(len(counts)), rounds=100)
    if (counts.sum(axis=1) >= 2).sum() < 2:
        assert ceiling is None
    else:
        assert ceiling is not None
        best, one = ceiling.rows
        assert 0 <= best.low <= best.log_loss <= best.high
        assert best.log_loss <= np.log(3) + 1e-9
        assert 0 <= one.accuracy <= 1
        assert np.isfinite(one.log_loss)
