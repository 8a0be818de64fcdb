"""Reliability curves: what was said against what happened, and how far chance alone goes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from judge.comparing.reliability import TOP, calibration_by_chance, reliability, wilson
from judge.errors import ArenaJudgeError
from judge.metrics import calibration_error, classwise_calibration_error

EXACT = 1e-9


@given(st.integers(0, 500), st.integers(1, 500), st.sampled_from([0.9, 0.95, 0.99]))
def test_bands_agree_with_statsmodels(hits: int, count: int, level: float) -> None:
    hits = min(hits, count)
    expected = proportion_confint(hits, count, alpha=1 - level, method="wilson")
    assert wilson(hits / count, count, level) == pytest.approx(expected, abs=EXACT)


@given(st.integers(0, 2**32), st.integers(1, 80), st.integers(1, 20), st.booleans())
def test_curves_hold_every_battle_and_add_up_to_the_calibration_errors(
    seed: int, size: int, bins: int, adaptive: bool
) -> None:
    generator = np.random.default_rng(seed)
    proba = generator.dirichlet([1.0] * 3, size)
    labels = generator.multinomial(2, [0.4, 0.3, 0.3], size) / 2
    curves = {
        curve.of: curve.bins for curve in reliability(labels, proba, bins=bins, adaptive=adaptive)
    }
    assert list(curves) == [TOP, "A", "B", "tie"]
    errors = {
        of: sum(b.battles * abs(b.probability - b.frequency) for b in curve) / size
        for of, curve in curves.items()
    }
    assert all(sum(b.battles for b in curve) == size for curve in curves.values())
    options = {"bins": bins, "adaptive": adaptive}
    assert errors[TOP] == pytest.approx(calibration_error(labels, proba, **options), abs=EXACT)
    mean = np.mean([errors[of] for of in ("A", "B", "tie")])
    expected = classwise_calibration_error(labels, proba, **options)
    assert mean == pytest.approx(expected, abs=EXACT)
    for curve in curves.values():
        means = [b.probability for b in curve]
        assert means == sorted(means)
        assert all(0 <= b.low <= b.frequency <= b.high <= 1 for b in curve)


def test_a_bin_says_what_was_said_and_what_happened() -> None:
    labels = np.eye(3)[[0, 0, 1, 0]]
    curve = reliability(labels, [[0.8, 0.1, 0.1]] * 4, bins=5)[0]
    (only,) = curve.bins
    assert (only.battles, only.frequency) == (4, 0.75)
    assert only.probability == pytest.approx(0.8)


def test_bins_must_be_at_least_one() -> None:
    with pytest.raises(ArenaJudgeError, match="one bin at least"):
        reliability([[1, 0, 0]], [[0.2, 0.3, 0.5]], bins=0)


@pytest.mark.parametrize("size", [200, 2000])
def test_chance_alone_gives_a_faultless_judge_such_an_error(size: int) -> None:
    generator = np.random.default_rng(size)
    found, expected = [], []
    for _ in range(200):
        proba = generator.dirichlet([2.0] * 3, size)
        chosen = (generator.random((size, 1)) > proba.cumsum(axis=1)[:, :2]).sum(axis=1)
        found.append(calibration_error(np.eye(3)[chosen], proba))
        expected.append(calibration_by_chance(proba))
    assert np.mean(expected) == pytest.approx(np.mean(found), rel=0.05)
