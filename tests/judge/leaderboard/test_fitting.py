"""The fit: as evalica and statsmodels have it, finite where they are not, as sure as it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import evalica
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from judge.leaderboard.fitting import Meetings, covariance, fit, resampled

Floats = npt.NDArray[np.float64]
Simulate = Callable[..., Any]

# Too little to be seen in the eighth digit.
NO_PRIOR = 1e-9


def _meetings(battles: Any, style: bool = False) -> Meetings:
    return Meetings(
        first=battles.first,
        second=battles.second,
        share=battles.outcomes[:, 0] + battles.outcomes[:, 2] / 2,
        prompts=battles.prompts,
        style=battles.style if style else np.zeros((len(battles.first), 0)),
        models=len(battles.strengths),
        clusters=int(battles.prompts.max()) + 1,
    )


def _centred(values: Floats) -> Floats:
    return np.asarray(values - values.mean())


def _design(meetings: Meetings) -> Floats:
    """A column a model but the last, then the style: what a regression wants."""
    each = np.arange(len(meetings.first))
    columns = np.zeros((len(each), meetings.models))
    columns[each, meetings.first] += 1
    columns[each, meetings.second] -= 1
    return np.column_stack([columns[:, :-1], meetings.style])


@pytest.mark.parametrize("seed", range(4))
def test_the_plain_fit_is_evalicas(simulate: Simulate, seed: int) -> None:
    battles = simulate(seed, models=12, battles=900, apart=1.5)
    outcome = [
        {0: evalica.Winner.X, 1: evalica.Winner.Y, 2: evalica.Winner.Draw}[int(row.argmax())]
        for row in battles.outcomes
    ]
    golden = evalica.bradley_terry(
        battles.first.tolist(),
        battles.second.tolist(),
        outcome,
        index=pd.RangeIndex(12),
        tolerance=1e-13,
        limit=100_000,
    )
    logs = np.log(golden.scores.sort_index().to_numpy())
    found = fit(_meetings(battles), NO_PRIOR)
    np.testing.assert_allclose(_centred(found), _centred(logs), atol=1e-6)


@pytest.mark.parametrize("style", [False, True])
def test_fit_and_standard_errors_are_those_of_a_logistic_regression(
    simulate: Simulate, style: bool
) -> None:
    battles = simulate(7, models=5, battles=600, by_prompt=3, effects=(0.5, -0.3))
    meetings = _meetings(battles, style)
    model = sm.GLM(meetings.share, _design(meetings), family=sm.families.Binomial())
    by_prompt = {"groups": meetings.prompts, "use_correction": False}
    golden = model.fit(tol=1e-12, cov_type="cluster", cov_kwds=by_prompt)
    found = fit(meetings, 1e-5)
    from_last = np.concatenate([found[:4] - found[4], found[5:]])
    np.testing.assert_allclose(from_last, golden.params, atol=1e-5)
    contrast = np.eye(len(found))
    contrast[:5, 4] -= 1.0
    kept = [*range(4), *range(5, len(found))]
    spread = contrast @ covariance(meetings, found, 1e-5) @ contrast.T
    groups = meetings.clusters
    wanted = golden.cov_params() * groups / (groups - 1)
    np.testing.assert_allclose(spread[np.ix_(kept, kept)], wanted, rtol=1e-4)


def test_soft_outcomes_are_shares_of_a_battle(simulate: Simulate) -> None:
    battles = simulate(3, battles=400)
    whole = _meetings(battles)
    soft = replace(whole, share=0.7 * whole.share + 0.3 * (1.0 - whole.share))
    # A battle won to 0.7 is seven that were won and three that were lost, a tenth each.
    tenths = replace(
        whole,
        first=np.tile(whole.first, 10),
        second=np.tile(whole.second, 10),
        share=np.concatenate([whole.share] * 7 + [1.0 - whole.share] * 3),
        prompts=np.tile(whole.prompts, 10),
        style=np.zeros((10 * len(whole.share), 0)),
    )
    np.testing.assert_allclose(fit(soft, 0.1), fit(tenths, 1.0), atol=1e-7)


def test_known_strengths_and_effects_are_found(simulate: Simulate) -> None:
    battles = simulate(11, models=8, battles=20_000, tie=0.0, effects=(0.6,))
    found = fit(_meetings(battles, style=True), 1.0)
    assert np.abs(_centred(found[:8]) - _centred(battles.strengths)).max() < 0.1
    assert found[8] == pytest.approx(0.6, abs=0.06)


@settings(max_examples=40)
@given(
    outcomes=st.lists(
        st.tuples(st.integers(0, 4), st.integers(1, 4), st.sampled_from([0.0, 0.5, 1.0])),
        min_size=1,
        max_size=12,
    ),
    prior=st.sampled_from([0.001, 1.0]),
)
def test_any_outcomes_have_a_finite_fit(
    outcomes: list[tuple[int, int, float]], prior: float
) -> None:
    first = np.array([a for a, _, _ in outcomes])
    second = (first + np.array([step for _, step, _ in outcomes])) % 5
    share = np.array([won for _, _, won in outcomes])
    prompts, style = np.arange(len(share)), np.zeros((len(share), 0))
    meetings = Meetings(first, second, share, prompts, style, 5, len(share))
    found = fit(meetings, prior)
    assert np.isfinite(found).all()
    # At the maximum every model wins as much as the fit expects of it.
    expected = 1 / (1 + np.exp(found[second] - found[first]))
    rest = np.bincount(first, share - expected, 5) - np.bincount(second, share - expected, 5)
    np.testing.assert_allclose(rest + prior * (0.5 - 1 / (1 + np.exp(-found))), 0.0, atol=1e-7)
    assert np.isfinite(covariance(meetings, found, prior)).all()
    rounds = np.array(list(resampled(meetings, found, prior, 5, 0)))
    assert np.isfinite(rounds).all()


def test_an_effect_that_decides_every_battle_stays_finite() -> None:
    style = np.where(np.arange(40) % 2, 1.0, -1.0)[:, None]
    first, second = np.zeros(40, dtype=np.int64), np.ones(40, dtype=np.int64)
    share = (style[:, 0] > 0).astype(np.float64)
    meetings = Meetings(first, second, share, np.arange(40), style, 2, 40)
    found = fit(meetings, 1.0)
    assert 2.0 < found[2] < 10.0
    assert found[:2] == pytest.approx([0.0, 0.0], abs=1e-9)


def test_the_bootstrap_spreads_as_the_sandwich_does(simulate: Simulate) -> None:
    battles = simulate(5, models=4, battles=1500, by_prompt=3, prompt_noise=1.0)
    meetings = _meetings(battles)
    found = fit(meetings, 1.0)
    drawn = np.array(list(resampled(meetings, found, 1.0, 600, 0)))
    contrast = np.eye(4) - 0.25
    formula = np.sqrt(np.diag(contrast @ covariance(meetings, found, 1.0) @ contrast.T))
    np.testing.assert_allclose((drawn @ contrast.T).std(axis=0), formula, rtol=0.15)


def test_rounds_are_drawn_alike_for_other_outcomes_of_the_same_battles(simulate: Simulate) -> None:
    meetings = _meetings(simulate(2))
    found = fit(meetings, 1.0)
    first, again = (list(resampled(meetings, found, 1.0, 5, 3)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    turned = replace(
        meetings, first=meetings.second, second=meetings.first, share=1.0 - meetings.share
    )
    np.testing.assert_allclose(list(resampled(turned, found, 1.0, 5, 3)), first, atol=1e-4)
    assert not np.allclose(list(resampled(meetings, found, 1.0, 5, 4)), first, atol=1e-3)


def test_two_wins_of_two_spread_as_their_posterior_does() -> None:
    """The rounds of one proportion are draws from its posterior under Jeffreys' prior; here of a
    model that met one which is average, as its battles with thirty others say."""
    others = np.repeat(np.arange(2, 32), 40)
    first, second = np.append(others, [0, 0]), np.ones(len(others) + 2, dtype=np.int64)
    share = np.append(np.arange(len(others)) % 2.0, [1.0, 1.0])
    style = np.zeros((len(first), 0))
    meetings = Meetings(first, second, share, np.arange(len(first)), style, 32, len(first))
    rounds = np.array(list(resampled(meetings, fit(meetings, 1.0), 1.0, 600, 0)))
    chances = 1 / (1 + np.exp(rounds[:, 1] - rounds[:, 0]))
    posterior = beta(2.5, 0.5)
    for share_below in (0.05, 0.25, 0.5, 0.75):
        assert (chances < posterior.ppf(share_below)).mean() == pytest.approx(share_below, abs=0.06)
