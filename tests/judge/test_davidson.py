"""The Davidson form: exact symmetry, extreme strengths, derivatives, and fits that find weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from judge.davidson import Block, fit_linear, gradient, probabilities

Floats = npt.NDArray[np.float64]

MODERATE = st.floats(-30, 30)
ANY = st.floats(-1e308, 1e308, allow_nan=False)
SWAPPED = [1, 0, 2]


def _one(strength: float, tie: float) -> Floats:
    return np.asarray(probabilities(np.array([strength]), np.array([tie]))[0])


@settings(deadline=None, max_examples=200)
@given(MODERATE, MODERATE)
def test_three_probabilities_as_the_formula_has_them(strength: float, tie: float) -> None:
    weights = np.exp([strength / 2, -strength / 2, tie])
    np.testing.assert_allclose(_one(strength, tie), weights / weights.sum(), rtol=1e-12)


@settings(deadline=None, max_examples=300)
@given(ANY, ANY)
@pytest.mark.filterwarnings("ignore:overflow")
def test_rows_sum_to_one_and_swap_to_the_last_bit(strength: float, tie: float) -> None:
    proba = _one(strength, tie)
    assert np.isfinite(proba).all()
    assert (proba >= 0).all()
    assert abs(proba.sum() - 1) <= 1e-12
    assert np.array_equal(_one(-strength, tie), proba[SWAPPED])


@pytest.mark.parametrize(
    ("strength", "tie", "expected"),
    [
        (1e3, 0, [1, 0, 0]),
        (-1e3, 0, [0, 1, 0]),
        (1e308, 0, [1, 0, 0]),
        (-1e308, 1e3, [0, 1, 0]),
        (0, 1e3, [0, 0, 1]),
        (0, 1e308, [0, 0, 1]),
        (0, -1e3, [0.5, 0.5, 0]),
        (0, -1e308, [0.5, 0.5, 0]),
        (0, 0, [1 / 3, 1 / 3, 1 / 3]),
        (2e3, 1e3, [0.5, 0, 0.5]),
    ],
)
def test_extreme_strengths(strength: float, tie: float, expected: list[float]) -> None:
    assert _one(strength, tie) == pytest.approx(expected)


def test_the_odds_of_a_against_b_are_those_of_the_strength_whatever_the_tie() -> None:
    strength = np.linspace(-5, 5, 21)
    for tie in (-3.0, 0.0, 3.0):
        proba = probabilities(strength, np.full(21, tie))
        np.testing.assert_allclose(np.log(proba[:, 0] / proba[:, 1]), strength, atol=1e-12)


def test_any_shape() -> None:
    strength = np.arange(24.0).reshape(2, 3, 4)
    proba = probabilities(strength, np.zeros((2, 3, 4)))
    assert proba.shape == (2, 3, 4, 3)
    assert np.array_equal(proba[1, 2, 3], _one(23.0, 0.0))
    assert probabilities(np.zeros(0), np.zeros(0)).shape == (0, 3)


@settings(deadline=None, max_examples=100)
@given(
    st.floats(-8, 8),
    st.floats(-8, 8),
    st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
    st.floats(0.1, 5),
)
def test_the_gradient_is_the_slope_of_the_loss(
    strength: float, tie: float, shares: list[float], mass: float
) -> None:
    labels = np.array([shares]) / np.sum(shares) * mass

    def loss(d: float, t: float) -> float:
        return float(gradient(np.array([d]), np.array([t]), labels)[0][0])

    found, by_strength, by_tie = gradient(np.array([strength]), np.array([tie]), labels)
    assert found[0] == pytest.approx(-(labels[0] * np.log(_one(strength, tie))).sum())
    step = 1e-5
    slope = (loss(strength + step, tie) - loss(strength - step, tie)) / (2 * step)
    assert by_strength[0] == pytest.approx(slope, abs=1e-6)
    slope = (loss(strength, tie + step) - loss(strength, tie - step)) / (2 * step)
    assert by_tie[0] == pytest.approx(slope, abs=1e-6)


def test_the_loss_of_a_certain_and_wrong_prediction_is_finite() -> None:
    labels = np.eye(3)
    loss, *slopes = gradient(np.array([-1e4, 1e4, 1e4]), np.array([0.0, 0.0, -1e4]), labels)
    assert np.isfinite(loss).all()
    assert (loss > 100).all()
    assert np.isfinite(slopes).all()


# --- fits -----------------------------------------------------------------------------------------

PLANTED = np.array([1.5, -0.8, 0.0, 0.4])
PLANTED_TIE = np.array([-0.6, 0.9])


def _simulated(battles: int) -> tuple[Floats, Floats, Floats]:
    """Columns of strength and of tie, and the probabilities that the planted weights give."""
    random = np.random.default_rng(7)
    columns = random.normal(size=(battles, 4)) * (random.random((battles, 4)) < 0.5)
    setting = np.stack([np.ones(battles), random.normal(size=battles)], axis=1)
    return columns, setting, probabilities(columns @ PLANTED, setting @ PLANTED_TIE)


def test_a_fit_finds_the_planted_weights_from_shares_of_votes() -> None:
    columns, setting, proba = _simulated(2_000)
    strength, tie = fit_linear([Block(columns, 1e-6)], [Block(setting, 1e-6)], proba)
    np.testing.assert_allclose(strength, PLANTED, atol=0.01)
    np.testing.assert_allclose(tie, PLANTED_TIE, atol=0.01)


def test_a_fit_finds_the_planted_weights_from_single_votes() -> None:
    columns, setting, proba = _simulated(20_000)
    drawn = np.random.default_rng(8).random((20_000, 1)) < proba.cumsum(axis=1)
    labels = np.eye(3)[drawn.argmax(axis=1)]
    strength, tie = fit_linear([Block(columns, 1e-3)], [Block(setting, 1e-3)], labels)
    # About four standard errors.
    np.testing.assert_allclose(strength, PLANTED, atol=0.12)
    np.testing.assert_allclose(tie, PLANTED_TIE, atol=0.12)


def test_sparse_and_dense_columns_split_or_not_fit_alike() -> None:
    columns, setting, proba = _simulated(1_000)
    dense, tie = fit_linear([Block(columns, 2.0)], [Block(setting, 0.5)], proba)
    sparse, tie_too = fit_linear([Block(csr_array(columns), 2.0)], [Block(setting, 0.5)], proba)
    first, last, constant, slope = fit_linear(
        [Block(csr_array(columns[:, :1]), 2.0), Block(columns[:, 1:], np.full(3, 2.0))],
        [Block(setting[:, :1], 0.5), Block(setting[:, 1:], 0.5)],
        proba,
    )
    np.testing.assert_allclose(sparse, dense, atol=1e-3)
    np.testing.assert_allclose(np.concatenate([first, last]), dense, atol=1e-3)
    np.testing.assert_allclose(tie_too, tie, atol=1e-3)
    np.testing.assert_allclose(np.concatenate([constant, slope]), tie, atol=1e-3)


def test_a_penalty_holds_its_own_weights_near_zero() -> None:
    columns, setting, proba = _simulated(1_000)
    norms = []
    for penalty in (0.1, 100.0, 1e5):
        strength, _ = fit_linear([Block(columns, penalty)], [Block(setting, 0.1)], proba)
        norms.append(float(np.linalg.norm(strength)))
    assert norms[0] > norms[1] > norms[2]
    assert norms[2] < 0.02
    penalties = np.array([1e6, 1e-3, 1e-3, 1e-3])
    strength, _ = fit_linear([Block(columns, penalties)], [Block(setting, 0.1)], proba)
    assert abs(strength[0]) < 1e-2 < abs(strength[1])


def test_a_fit_on_swapped_battles_is_the_same_fit() -> None:
    columns, setting, proba = _simulated(1_000)
    strength, tie = fit_linear([Block(columns, 1.0)], [Block(setting, 1.0)], proba)
    other, tie_too = fit_linear([Block(-columns, 1.0)], [Block(setting, 1.0)], proba[:, SWAPPED])
    np.testing.assert_allclose(other, strength, atol=1e-6)
    np.testing.assert_allclose(tie_too, tie, atol=1e-6)
