"""Isotonic calibration: rising, symmetric, never certain, and scikit-learn's curve."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from judge.calibration.isotonic import END_VOTES, Curve, fit_curve, fit_isotonic
from judge.calibration.scaling import Scaling
from judge.errors import ArenaJudgeError

Floats = npt.NDArray[np.float64]

SWAP = [1, 0, 2]


@st.composite
def _shares(draw: st.DrawFn) -> tuple[Floats, Floats]:
    """Probabilities, many of them equal or at the ends, and shares of votes."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = draw(st.integers(1, 60))
    where = generator.random(size).round(draw(st.sampled_from([0, 1, 2, 12])))
    votes = draw(st.sampled_from([1, 3]))
    return where, generator.binomial(votes, where * 0.8 + 0.1) / votes


@given(_shares())
def test_a_curve_rises_and_stays_between_0_and_1(drawn: tuple[Floats, Floats]) -> None:
    curve = fit_curve(*drawn)
    said = curve(np.linspace(0.0, 1.0, 201))
    assert (np.diff(said) >= 0).all()
    assert 0.0 < said[0] <= said[-1] < 1.0


@given(_shares())
def test_the_curve_is_scikit_learns_with_a_vote_against_at_either_end(
    drawn: tuple[Floats, Floats],
) -> None:
    where, share = drawn
    reference = IsotonicRegression(out_of_bounds="clip").fit(
        np.concatenate([[0.0], where, [1.0]]),
        np.concatenate([[1.0], share, [0.0]]),
        np.concatenate([[END_VOTES], np.ones(len(where)), [END_VOTES]]),
    )
    at = np.concatenate([where, np.linspace(0.0, 1.0, 101)])
    np.testing.assert_allclose(fit_curve(where, share)(at), reference.predict(at), atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_exchanging_the_responses_exchanges_what_comes_out(seed: int) -> None:
    generator = np.random.default_rng(seed)
    proba = generator.dirichlet([0.5, 0.5, 0.5], 150)
    labels = np.eye(3)[generator.integers(0, 3, 150)]
    found = fit_isotonic(labels, proba)
    said = found.apply(proba)
    np.testing.assert_array_equal(found.apply(proba[:, SWAP]), said[:, SWAP])
    np.testing.assert_allclose(said.sum(axis=1), 1.0, atol=1e-12)
    assert (said > 0).all()
    turned = fit_isotonic(labels[:, SWAP], proba[:, SWAP])
    np.testing.assert_allclose(turned.apply(proba), said, atol=1e-12)


def test_the_order_of_the_battles_does_not_matter() -> None:
    generator = np.random.default_rng(3)
    proba = generator.dirichlet([0.5, 0.5, 0.5], 100).round(2)
    proba /= proba.sum(axis=1, keepdims=True)
    labels = generator.multinomial(3, [0.3, 0.3, 0.4], 100) / 3
    order = generator.permutation(100)
    assert fit_isotonic(labels, proba) == fit_isotonic(labels[order], proba[order])


def test_it_undoes_what_temperature_did() -> None:
    generator = np.random.default_rng(7)
    true = generator.dirichlet([1.0, 1.0, 1.0], 30_000)
    places = (generator.random((len(true), 1)) > true.cumsum(axis=1)).sum(axis=1)
    sharp = Scaling("temperature", 3.0, -3.0, 3.0).apply(true)
    said = fit_isotonic(np.eye(3)[places], sharp).apply(sharp)
    assert np.abs(sharp - true).mean() > 0.1
    assert np.abs(said - true).mean() < 0.06


def test_the_unjudged_stay_and_all_ties_leave_the_sides_possible() -> None:
    proba = np.full((30, 3), 1 / 3)
    found = fit_isotonic(np.tile([0.0, 0.0, 1.0], (30, 1)), proba)
    proba[4] = np.nan
    said = found.apply(proba)
    assert np.isnan(said[4]).all()
    assert 0.9 < said[0, 2] < 1.0
    assert said[0, 0] == said[0, 1] > 0


@pytest.mark.parametrize(
    ("at", "value"),
    [
        ((), ()),
        ((0.0, 1.0), (0.5,)),
        ((0.5, 0.5), (0.1, 0.2)),
        ((0.0, 1.0), (0.6, 0.4)),
        ((0.0, 1.0), (0.0, 0.5)),
        ((0.0, 1.0), (0.5, 1.0)),
        ((0.0, 2.0), (0.1, 0.5)),
        ((0.0, float("nan")), (0.1, 0.5)),
    ],
)
def test_what_is_no_curve_is_refused(at: tuple[float, ...], value: tuple[float, ...]) -> None:
    with pytest.raises(ArenaJudgeError, match="a curve"):
        Curve(at, value)
