"""The convex fit: coordinates there and back, an independent optimum, bounds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from judge.davidson import gradient, probabilities
from judge.loglinear import FLOOR, Pull, coordinates, fit_weights

Floats = npt.NDArray[np.float64]


@given(st.integers(0, 2**32), st.sampled_from([0.1, 1.0, 5.0]))
def test_two_coordinates_say_all_that_probabilities_say(seed: int, spread: float) -> None:
    proba = np.random.default_rng(seed).dirichlet([spread] * 3, 20)
    proba = np.maximum(proba, FLOOR)
    proba /= proba.sum(axis=1, keepdims=True)
    d, s = coordinates(np.maximum(proba, FLOOR))
    np.testing.assert_allclose(probabilities(d, s), proba, atol=3 * FLOOR)
    turned, same = coordinates(proba[:, [1, 0, 2]])
    np.testing.assert_array_equal(turned, -d)
    np.testing.assert_array_equal(same, s)


def test_nothing_impossible_and_nothing_unjudged_gets_lost() -> None:
    d, s = coordinates(np.array([[1.0, 0.0, 0.0], [np.nan] * 3]))
    assert (d[0], s[0]) == (pytest.approx(-np.log(FLOOR)), pytest.approx(np.log(FLOOR) / 2))
    assert np.isnan([d[1], s[1]]).all()


@pytest.mark.parametrize("seed", range(4))
def test_an_independent_optimiser_finds_the_same(seed: int) -> None:
    generator = np.random.default_rng(seed)
    strength, tie = generator.normal(size=(200, 4)), generator.normal(size=(200, 4))
    strength[:, 3] = 0.0
    labels = generator.dirichlet([0.4, 0.4, 0.4], 200)
    pull = Pull(
        np.array([1.0, 0.0, 0.5, 0.0]),
        np.diag([1.0, 2.0, 0.5, 0.1]),
        np.array([0.0, 0.0, -5.0, -5.0]),
        np.full(4, 5.0),
    )

    def loss(w: Floats) -> float:
        off = w - pull.centre
        return float(gradient(strength @ w, tie @ w, labels)[0].sum() + off @ pull.curve @ off / 2)

    bounds = list(zip(pull.low, pull.high, strict=True))
    best = minimize(loss, pull.centre, bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-14})
    found = fit_weights(strength, tie, labels, pull)
    assert loss(found) <= best.fun + 1e-7
    np.testing.assert_allclose(found, best.x, atol=1e-3)
    assert ((found >= pull.low) & (found <= pull.high)).all()


def test_without_battles_the_pull_alone_decides() -> None:
    pull = Pull(np.array([0.7]), np.eye(1), np.zeros(1), np.ones(1))
    nothing = np.zeros((0, 1))
    assert fit_weights(nothing, nothing, np.zeros((0, 3)), pull).tolist() == [0.7]
