"""Telling judges apart: p-values, Holm's correction, what it takes, who goes together."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import normal_power, normal_sample_size_one_tail

from judge.comparing.bootstrap import Tallies, students_quantile
from judge.comparing.differences import (
    Difference,
    differences,
    holm,
    more_battles,
    p_value,
    runs_together,
)

EXACT = 1e-9

_P = st.floats(0, 1, allow_nan=False)


@given(st.lists(_P, min_size=1, max_size=30))
@settings(max_examples=15)  # statsmodels takes its time
def test_holm_agrees_with_statsmodels(p_values: list[float]) -> None:
    expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(expected, abs=EXACT)


def test_holm_counts_what_is_not_known_as_a_test() -> None:
    found = holm([0.01, math.nan, 0.04])
    assert found[0] == pytest.approx(0.03)
    assert found[2] == pytest.approx(0.08)
    assert math.isnan(found[1])
    assert holm([]) == []


@given(st.floats(-5, 5), st.floats(0.1, 3), st.integers(3, 500))
def test_without_skew_the_p_value_is_that_of_a_t_test(
    value: float, error: float, prompts: int
) -> None:
    reach = students_quantile(prompts) * error
    found = p_value(value, error, value - reach, value + reach, prompts)
    expected = 2 * stats.t.sf(abs(value) / error, prompts - 1)
    assert found == pytest.approx(max(expected, 2.0 ** (1 - prompts)), abs=EXACT)


@given(st.floats(0.1, 5), st.floats(0.2, 2), st.floats(0.2, 2), st.integers(6, 500))
def test_a_p_value_is_under_5_percent_where_the_interval_leaves_zero_out(
    value: float, below: float, above: float, prompts: int
) -> None:
    low, high = value - below, value + above
    found = p_value(value, 0.1, low, high, prompts)
    assert (found < 0.05) == (low > 0) or low == pytest.approx(0, abs=1e-9)
    assert p_value(-value, 0.1, -high, -low, prompts) == found
    # What lies beyond zero is of no account to the end on the other side.
    assert p_value(value, 0.1, low, high + 5, prompts) == found


def test_odd_differences_have_sensible_p_values() -> None:
    assert p_value(0.0, 0.0, 0.0, 0.0, 100) == 1
    assert p_value(0.0, 0.1, -0.2, 0.2, 100) == 1
    assert math.isnan(p_value(0.1, math.nan, math.nan, math.nan, 1))
    # Three prompts that all say the same are no more than a coin that fell alike three times.
    assert p_value(0.1, 0.0, 0.1, 0.1, 3) == 0.25
    assert p_value(0.1, 1e-9, 0.1, 0.1, 4) == 0.125
    assert 0 < p_value(0.1, 0.0, 0.1, 0.1, 100_000) < 1e-100


@given(st.floats(0.001, 0.5), st.floats(0.001, 0.1), st.integers(10, 10_000), st.integers(1, 45))
def test_the_battles_that_it_takes_agree_with_statsmodels(
    value: float, error: float, battles: int, tests: int
) -> None:
    more = more_battles(value, error, battles, tests)
    deviation = error * math.sqrt(battles)  # of one battle, were they independent
    needed = normal_sample_size_one_tail(value, 0.8, 0.05 / tests / 2, std_null=deviation)
    assert more == pytest.approx(max(0.0, math.ceil(needed - battles)), abs=1, rel=1e-9)
    if more > 0:
        power = normal_power(value / deviation, battles + more, 0.05 / tests)
        assert power == pytest.approx(0.8, abs=0.02) or battles + more < 30


def test_what_does_not_differ_is_never_told_apart() -> None:
    assert more_battles(0.0, 0.1, 100) == math.inf
    assert math.isnan(more_battles(0.1, math.nan, 100))
    assert more_battles(-0.01, 0.1, 100) == more_battles(0.01, 0.1, 100)


def test_a_family_is_tested_together() -> None:
    value, error = np.array([0.3, 0.02, 0.0]), np.array([0.05, 0.05, 0.0])
    reach = 2 * error
    found = differences(value, error, value - reach, value + reach, 200, 400)
    assert [one.told_apart for one in found] == [True, False, False]
    assert found[0].p_holm == pytest.approx(3 * found[0].p_value)
    assert found[0].more_battles == 0
    assert found[1].more_battles == more_battles(0.02, 0.05, 400, 3)
    assert found[2].more_battles == math.inf


def test_a_difference_turned_is_the_other_judge_s() -> None:
    turned = Difference(0.1, -0.2, 0.5, 0.3, 0.6, 0.15, 700).turned()
    assert turned == Difference(-0.1, -0.5, 0.2, 0.3, 0.6, 0.15, 700)
    assert str(Difference(0.0, 0.0, 0.0, 1.0).turned().value) == "0.0"


def _runs(names: str, apart: set[str]) -> list[str]:
    pairs = {(a, b): a + b in apart for a, b in combinations(names, 2)}
    return ["".join(run) for run in runs_together(names, pairs)]


@pytest.mark.parametrize(
    ("apart", "expected"),
    [
        (set(), ["abcd"]),
        ({"ab", "ac", "ad", "bc", "bd", "cd"}, ["a", "b", "c", "d"]),
        ({"ad", "ac", "bd"}, ["ab", "bc", "cd"]),
        ({"ad"}, ["abc", "bcd"]),
        ({"ab", "ac", "ad"}, ["a", "bcd"]),
        # A pair of neighbours can be known to differ where those further apart are not.
        ({"bc"}, ["ab", "cd"]),
    ],
)
def test_those_that_cannot_be_told_apart_go_together(apart: set[str], expected: list[str]) -> None:
    assert _runs("abcd", apart) == expected


def test_there_may_be_one_judge_or_none() -> None:
    assert runs_together(["a"], {}) == [["a"]]
    assert runs_together([], {}) == []


@pytest.mark.slow
def test_ten_judges_that_are_alike_are_seldom_told_apart() -> None:
    """In 5 % of draws at most, any two of them, and so the best from any; the slack is for what a
    few hundred draws and rounds can say."""
    generator = np.random.default_rng(1)
    draws, prompts = 200, 120
    false = 0
    for draw in range(draws):
        common = generator.exponential(size=prompts)
        losses = common + 0.3 * generator.normal(size=(10, prompts))
        tallies = Tallies(np.arange(prompts))
        for one, other in combinations(range(10), 2):
            tallies.add(losses[one] - losses[other], np.ones(prompts))
        found = tallies.means(rounds=300, seed=draw)
        family = differences(found.value, found.error, found.low, found.high, prompts, prompts)
        false += any(one.told_apart for one in family)
    assert false / draws < 0.09
