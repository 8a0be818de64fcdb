"""Calibrators linear in log-probabilities: symmetry, planted numbers, an independent optimum."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax

from judge.calibration.scaling import PARAMETERS, Scaling, fit_scaling
from judge.davidson import probabilities
from judge.errors import ArenaJudgeError
from judge.metrics import log_loss

Floats = npt.NDArray[np.float64]

SWAP = [1, 0, 2]
LEARNED = [method for method in PARAMETERS if method != "identity"]


def _drawn(proba: Floats, generator: np.random.Generator) -> Floats:
    """A label for each row of probabilities."""
    places = (generator.random((len(proba), 1)) > proba.cumsum(axis=1)).sum(axis=1)
    return np.eye(3)[np.minimum(places, 2)]


def _battles(count: int, seed: int) -> tuple[Floats, Floats]:
    """Probabilities of every kind, impossible ones among them, and votes of several people."""
    generator = np.random.default_rng(seed)
    proba = generator.dirichlet([generator.choice([0.05, 0.7, 3.0])] * 3, count)
    proba[generator.random(count) < 0.1] = [1.0, 0.0, 0.0]
    votes = generator.multinomial(3, [0.4, 0.3, 0.3], count)
    return votes / 3.0, proba


@st.composite
def _scalings(draw: st.DrawFn) -> Scaling:
    """Any numbers that a calibrator may have, at its limits too."""
    number = st.floats(0.0, 20.0)
    return Scaling(
        "dirichlet",
        draw(number),
        draw(st.floats(-30.0, 10.0)),
        draw(number),
        draw(st.floats(-20.0, 20.0)),
    )


@given(_scalings(), st.integers(0, 2**32))
def test_exchanging_the_responses_exchanges_what_comes_out(found: Scaling, seed: int) -> None:
    _, proba = _battles(40, seed)
    said = found.apply(proba)
    np.testing.assert_array_equal(found.apply(proba[:, SWAP]), said[:, SWAP])
    np.testing.assert_allclose(said.sum(axis=1), 1.0, atol=1e-12)
    assert (said > 0).all()


@pytest.mark.parametrize("method", LEARNED)
@pytest.mark.parametrize("seed", range(3))
def test_labels_and_battles_swapped_teach_the_same(method: str, seed: int) -> None:
    labels, proba = _battles(200, seed)
    one, other = (fit_scaling(method, y, p) for y, p in ((labels, proba), _swapped(labels, proba)))
    for name in ("strength", "sides", "tie", "shift"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-6)


def _swapped(labels: Floats, proba: Floats) -> tuple[Floats, Floats]:
    return labels[:, SWAP], proba[:, SWAP]


def test_the_unjudged_stay_and_the_identity_changes_nothing() -> None:
    _, proba = _battles(20, 1)
    proba[3] = np.nan
    np.testing.assert_array_equal(Scaling().apply(proba), proba)
    found = Scaling("temperature", 0.5, -0.5, 0.5).apply(proba)
    assert np.isnan(found).all(axis=1).tolist() == [place == 3 for place in range(20)]


def test_a_certain_and_wrong_judge_is_never_certain_again() -> None:
    proba = np.tile([1.0, 0.0, 0.0], (90, 1))
    labels = np.eye(3)[np.arange(90) % 3]
    for method in LEARNED:
        if method != "bias":  # which has no say between A and B
            said = fit_scaling(method, labels, proba).apply(proba)
            assert said.min() > 0.2
            assert log_loss(labels, said) < 1.12


def test_a_judge_that_is_always_right_is_not_made_certain() -> None:
    labels = np.eye(3)[np.arange(60) % 3]
    proba = 0.4 * labels + 0.2
    for method in LEARNED:
        said = fit_scaling(method, labels, proba).apply(proba)
        assert said.max() < 1.0
        assert said.min() > 0.0


@pytest.mark.parametrize("method", LEARNED)
def test_ties_that_no_label_has_stay_possible(method: str) -> None:
    generator = np.random.default_rng(5)
    proba = generator.dirichlet([2.0, 2.0, 2.0], 300)
    labels = np.eye(3)[generator.integers(0, 2, 300)]
    said = fit_scaling(method, labels, proba).apply(proba)
    assert (said > 0).all()
    if method not in ("temperature",):
        assert said[:, 2].mean() < 0.02


@pytest.mark.parametrize(
    "planted",
    [
        Scaling("temperature", 1 / 2.5, -1 / 2.5, 1 / 2.5),
        Scaling("temperature", 1 / 0.6, -1 / 0.6, 1 / 0.6),
        Scaling("bias", shift=-0.8),
        Scaling("temperature+bias", 0.5, -0.5, 0.5, 0.7),
        Scaling("vector", 0.8, -0.8, 0.3, -0.4),
        Scaling("dirichlet", 0.7, -0.2, 0.9, 0.3),
    ],
)
def test_what_is_planted_is_found_again(planted: Scaling) -> None:
    generator = np.random.default_rng(11)
    proba = generator.dirichlet([1.5, 1.5, 1.0], 40_000)
    labels = _drawn(planted.apply(proba), generator)
    found = fit_scaling(planted.method, labels, proba)
    for name in ("strength", "sides", "tie", "shift"):
        assert getattr(found, name) == pytest.approx(getattr(planted, name), abs=0.06), name
    # The simpler forms within a richer one are found by it, too.
    richer = fit_scaling("dirichlet", labels, proba)
    assert log_loss(labels, richer.apply(proba)) < log_loss(labels, planted.apply(proba)) + 1e-4


@pytest.mark.parametrize("seed", range(3))
def test_temperature_and_matrix_agree_with_an_independent_optimiser(seed: int) -> None:
    generator = np.random.default_rng(seed)
    proba = generator.dirichlet([0.8, 0.8, 0.8], 500)
    labels = _drawn(Scaling("dirichlet", 0.5, -0.9, 0.6, 0.4).apply(proba), generator)
    z = np.log(np.maximum(proba, 1e-6))

    def loss_of(w: Floats) -> float:
        heat, shift, tie, off = w
        middle = z[:, :2].mean(axis=1)
        side = heat * (z[:, 0] - z[:, 1]) / 2
        rest = tie * z[:, 2] + (off - heat) * middle + shift
        logits = np.column_stack([side, -side, rest])
        pull = (heat - 1) ** 2 + 0.1 * shift**2 + (tie - 1) ** 2 + 5 * off**2
        return float(-(labels * log_softmax(logits, axis=1)).sum() + pull / 2)

    start = np.array([1.0, 0.0, 1.0, 0.0])
    best = minimize(loss_of, start, method="Nelder-Mead", options={"maxiter": 5000, "xatol": 1e-9})
    found = fit_scaling("dirichlet", labels, proba)
    ours = np.array([found.strength, found.shift, found.tie, found.sides + found.strength])
    assert loss_of(ours) <= best.fun + 1e-6
    np.testing.assert_allclose(ours, best.x, atol=1e-3)
    heat = fit_scaling("temperature", labels, proba)

    def cost(beta: float) -> float:
        return float(-(labels * log_softmax(beta * z, axis=1)).sum() + (beta - 1) ** 2 / 2)

    around = [cost(heat.strength * factor) for factor in (0.999, 1.0, 1.001)]
    assert around[1] == min(around)


def test_matrix_scaling_is_the_symmetric_matrix_it_says_it_is() -> None:
    """softmax(W ln p + b) with W = [[a, b, c], [b, a, c], [e, e, f]] is what four numbers say."""
    generator = np.random.default_rng(2)
    a, b, c, e, f, shift = generator.normal(size=6)
    matrix = np.array([[a, b, c], [b, a, c], [e, e, f]])
    proba = generator.dirichlet([1.0, 1.0, 1.0], 50).clip(1e-5)
    proba /= proba.sum(axis=1, keepdims=True)
    logits = np.log(proba) @ matrix.T + np.array([0.0, 0.0, shift])
    whole = np.exp(log_softmax(logits, axis=1))
    z = np.log(proba)
    d = (a - b) * (z[:, 0] - z[:, 1])
    s = (f - c) * z[:, 2] + (2 * e - a - b) * z[:, :2].mean(axis=1) + shift
    np.testing.assert_allclose(probabilities(d, s), whole, atol=1e-12)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"method": "magic"}, "no method is called 'magic'"),
        ({"strength": float("nan")}, "strength is nan"),
        ({"strength": -1.0}, "strength is -1.0"),
        ({"shift": 21.0}, "shift is 21.0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ArenaJudgeError, match=said):
        Scaling(**cast("dict[str, float]", {"method": "dirichlet"} | wrong))  # type: ignore[arg-type]
