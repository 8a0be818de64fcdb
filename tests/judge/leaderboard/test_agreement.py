"""A judge's board against the labels'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from judge.errors import ArenaJudgeError, InputError
from judge.leaderboard import (
    Leaderboard,
    Named,
    compare_boards,
    make_boards,
    rank_models,
    shifts,
)

Floats = npt.NDArray[np.float64]
Simulate = Callable[..., Any]

TOP = np.array([2.0, 1.2, 0.4, -0.4, -1.2, -2.0])


def _proba(battles: Any, strengths: Floats) -> Floats:
    """What a judge says that takes the models to be so strong."""
    wins = 1 / (1 + np.exp(strengths[battles.second] - strengths[battles.first]))
    return np.column_stack([0.9 * wins, 0.9 * (1 - wins), np.full(len(wins), 0.1)])


def _boards(battles: Any, proba: Floats, **options: Any) -> tuple[Leaderboard, Leaderboard]:
    names = (battles.model_a, battles.model_b)
    settings = {"prompts": battles.prompts, "rounds": 200} | options
    judge = rank_models(*names, proba, name="judge", **settings)
    return judge, rank_models(*names, battles.outcomes, **settings)


def test_a_judge_that_says_what_the_labels_say_agrees(simulate: Simulate) -> None:
    battles = simulate(0, battles=500)
    found = compare_boards(*_boards(battles, battles.outcomes))
    assert (found.kendall, found.spearman) == pytest.approx((1.0, 1.0))
    assert (found.opposed, found.contradicted, found.swaps) == (0, 0, ())
    assert found.confirmed == found.told_apart > 0
    assert found.spread == pytest.approx(1.0)
    assert all(shift.difference == shift.low == shift.high == 0.0 for shift in found.shifts)
    assert (found.models, found.battles, found.pairs) == (6, 500, 15)


def test_a_contrary_judge_swaps_every_rank_beyond_doubt(simulate: Simulate) -> None:
    battles = simulate(0, battles=3000, models=4, apart=1.5)
    found = compare_boards(*_boards(battles, battles.outcomes[:, [1, 0, 2]]))
    assert (found.kendall, found.spearman) == pytest.approx((-1.0, -1.0))
    assert found.opposed == 6
    assert found.contradicted == found.told_apart == len(found.swaps)
    first = found.swaps[0]
    assert first.gap > 0 > first.judge_gap
    assert first.p_value < 0.05
    p_values = [swap.p_value for swap in found.swaps]
    assert p_values == sorted(p_values)


def test_one_swapped_pair_is_found(simulate: Simulate) -> None:
    battles = simulate(3, battles=6000, models=6)
    wins = 1 / (1 + np.exp(TOP[battles.second] - TOP[battles.first]))
    won = np.random.default_rng(0).random(6000) < wins
    outcomes = np.column_stack([won, ~won, np.zeros(6000)])
    names = (battles.model_a, battles.model_b)
    labels = rank_models(*names, outcomes, rounds=200)
    wrong = TOP[[1, 0, 2, 3, 4, 5]]
    judge = rank_models(*names, _proba(battles, wrong), name="judge", rounds=200)
    found = compare_boards(judge, labels)
    assert [(swap.better, swap.worse) for swap in found.swaps] == [("model 0", "model 1")]
    assert found.kendall == pytest.approx(1 - 2 / 15)
    moved = {shift.model: shift for shift in found.shifts}
    assert moved["model 1"].low > 0
    assert moved["model 0"].high < 0
    assert (moved["model 1"].rank, moved["model 1"].other_rank) == (1, 2)


def test_a_swap_by_chance_is_no_swap(simulate: Simulate) -> None:
    """Models nearly alike, a judge without a fault: over many files hardly ever a swap."""
    swapped = 0
    for seed in range(40):
        battles = simulate(seed, battles=200, models=8, apart=0.2)
        judge, labels = _boards(
            battles, _proba(battles, battles.strengths), intervals="sandwich", rounds=1
        )
        swapped += bool(compare_boards(judge, labels).swaps)
    assert swapped <= 4


def test_a_timid_judge_spreads_less(simulate: Simulate) -> None:
    battles = simulate(4, battles=2000)
    timid = 0.8 / 3 + 0.2 * battles.outcomes
    found = compare_boards(*_boards(battles, timid))
    assert found.spread < 0.5
    assert found.kendall > 0.85


def test_uncertain_labels_lower_the_ceiling(simulate: Simulate) -> None:
    few, many = (
        compare_boards(*_boards(battles, battles.outcomes))
        for battles in (simulate(5, battles=60), simulate(5, battles=6000))
    )
    assert few.kendall_ceiling < many.kendall_ceiling
    assert few.spearman_ceiling < many.spearman_ceiling
    assert many.kendall_ceiling > 0.9


def test_the_interval_is_about_the_estimate(simulate: Simulate) -> None:
    battles = simulate(6, battles=150)
    noise = np.random.default_rng(0).dirichlet(np.ones(3), size=150)
    found = compare_boards(*_boards(battles, 0.5 * battles.outcomes + 0.5 * noise))
    for value, low, high in (
        (found.kendall, found.kendall_low, found.kendall_high),
        (found.spearman, found.spearman_low, found.spearman_high),
    ):
        assert -1.0 <= low <= value <= high <= 1.0
        assert low < high


def test_without_rounds_there_are_no_intervals_but_swaps(simulate: Simulate) -> None:
    battles = simulate(0, battles=3000, models=4, apart=1.5)
    contrary = battles.outcomes[:, [1, 0, 2]]
    found = compare_boards(*_boards(battles, contrary, intervals="sandwich"))
    assert np.isnan(found.kendall_low)
    assert np.isnan(found.kendall_ceiling)
    assert np.isnan(found.shifts[0].low)
    assert found.swaps


def test_equal_models_have_no_correlation(simulate: Simulate) -> None:
    battles = simulate(0, battles=50, tie=1.0)
    found = compare_boards(*_boards(battles, battles.outcomes))
    assert np.isnan([found.kendall, found.kendall_low, found.spread]).all()
    assert found.swaps == ()


def test_boards_of_other_models_are_refused() -> None:
    won = [[1.0, 0.0, 0.0]]
    one, other = rank_models(["a"], ["b"], won), rank_models(["a"], ["c"], won)
    with pytest.raises(ArenaJudgeError, match="not about the same models"):
        shifts(one, other)


# --- all boards of a file -------------------------------------------------------------------------


def _named(battles: Any, labels: Floats | None, style: bool = False) -> Named:
    return Named(
        battles.model_a,
        battles.model_b,
        battles.prompts,
        labels,
        battles.style if style else None,
    )


def test_boards_compare_where_both_have_a_verdict(simulate: Simulate) -> None:
    battles = simulate(1, battles=400)
    labels, proba = battles.outcomes.copy(), _proba(battles, battles.strengths)
    labels[:100], proba[300:] = np.nan, np.nan
    found = make_boards(_named(battles, labels), proba, "judge", rounds=100)
    assert found.main.counted == 300
    assert found.labels is not None
    assert found.labels.counted == 200
    assert found.agreement is not None
    assert found.agreement.battles == 200
    assert found.agreement.judge == "judge"
    assert found.controlled is None


def test_no_common_battle_leaves_the_judges_board(simulate: Simulate) -> None:
    battles = simulate(1, battles=100)
    labels, proba = battles.outcomes.copy(), _proba(battles, battles.strengths)
    labels[:50], proba[50:] = np.nan, np.nan
    found = make_boards(_named(battles, labels), proba, "judge", rounds=100)
    assert found.main.counted == 50
    assert found.agreement is None


def test_an_anchor_without_labels_does_not_end_the_comparison() -> None:
    won, lost = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
    named = Named(
        ["a", "a", "c"], ["b", "b", "a"], np.arange(3), np.array([won, lost, [np.nan] * 3]), None
    )
    proba = np.array([won, won, won])
    found = make_boards(named, proba, "judge", anchor=("c", 1200), rounds=100)
    assert found.main.anchor == ("c", 1200)
    assert found.labels is not None
    assert found.labels.anchor is None
    assert found.labels.models == ("a", "b")


def test_style_is_held_constant_on_both_sides(simulate: Simulate) -> None:
    battles = simulate(2, battles=1500, effects=(0.8, 0.0, 0.0, 0.0, 0.0))
    proba = _proba(battles, battles.strengths)
    found = make_boards(_named(battles, battles.outcomes, style=True), proba, "judge", rounds=100)
    assert found.controlled is not None
    assert found.labels_controlled is not None
    ours, theirs = found.controlled.style[0], found.labels_controlled.style[0]
    assert (ours.name, theirs.name) == ("length", "length")
    # People like length; the judge, who knows the models alone, does not.
    assert theirs.low > 0.2
    assert ours.low < 0.0 < ours.high
    assert [shift.model for shift in found.changes] == list(found.controlled.models)


def test_nobody_to_say_who_won_is_refused(simulate: Simulate) -> None:
    with pytest.raises(InputError, match="no labels"):
        make_boards(_named(simulate(1), None))
