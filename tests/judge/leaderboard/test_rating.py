"""A board from battles: which count, what is sure, what style does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from judge.errors import ArenaJudgeError, InputError
from judge.leaderboard import Leaderboard, rank_models

Floats = npt.NDArray[np.float64]
Simulate = Callable[..., Any]

WON, LOST, TIED, NOTHING = [1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [np.nan] * 3


def _board(battles: Any, **options: Any) -> Leaderboard:
    settings = {"prompts": battles.prompts, "rounds": 200} | options
    return rank_models(battles.model_a, battles.model_b, battles.outcomes, **settings)


def _scores(board: Leaderboard) -> dict[str, float]:
    return dict(zip(board.models, board.scores.tolist(), strict=True))


def test_the_board_orders_models_of_known_strength(simulate: Simulate) -> None:
    battles = simulate(1, models=5, battles=8000, apart=1.0)
    board = _board(battles)
    best_first = np.argsort(-battles.strengths)
    assert board.models == tuple(f"model {number}" for number in best_first)
    truth = battles.strengths - battles.strengths.mean()
    wanted = 1000 + 400 / np.log(10) * truth[best_first]
    # Ties, a fifth of battles and half a win each, draw everyone to the middle.
    np.testing.assert_allclose(board.scores - 1000, 0.8 * (wanted - 1000), atol=45)
    assert board.scores.mean() == pytest.approx(1000)
    assert board.ranks.tolist() == [1, 2, 3, 4, 5]
    assert (board.low < board.scores).all()
    assert (board.scores < board.high).all()


def test_everything_a_chart_needs_is_there(simulate: Simulate) -> None:
    battles = simulate(2, models=4, battles=200)
    board = _board(battles)
    np.testing.assert_array_equal(board.battles, board.battles.T)
    np.testing.assert_allclose(board.won + board.won.T + board.tied, board.battles)
    rates = board.win_rates
    off = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose((rates + rates.T)[off], 1.0)
    assert np.isnan(np.diag(rates)).all()
    assert board.battles.sum() == 2 * board.counted == 400
    frame = board.to_frame()
    np.testing.assert_allclose(frame["won"] + frame["tied"] + frame["lost"], frame["battles"])
    gaps = (board.scores[:, None] - board.scores) / 400
    chances = 1 / (1 + 10.0**-gaps)
    expected = (chances.sum(axis=1) - 0.5) / 3
    np.testing.assert_allclose(frame["win_probability"], expected)
    assert board.samples.shape == (200, 4)


def test_what_cannot_count_is_counted_once() -> None:
    board = rank_models(
        ["a", None, "a", "b", " ", "a", "a"],
        ["b", "b", "a", "a", "b", None, "b"],
        [WON, WON, NOTHING, TIED, NOTHING, WON, NOTHING],
    )
    left = board.left_out
    assert (left.unnamed, left.own, left.unjudged, board.counted) == (3, 1, 1, 2)


def test_unjudged_battles_change_nothing(simulate: Simulate) -> None:
    battles = simulate(3, battles=100)
    some = battles.outcomes.copy()
    some[50:] = np.nan
    board = rank_models(battles.model_a, battles.model_b, some, rounds=100)
    half = rank_models(battles.model_a[:50], battles.model_b[:50], some[:50], rounds=100)
    assert board.models == half.models
    np.testing.assert_allclose(board.scores, half.scores)


def test_only_wins_and_only_losses_stay_finite_and_unsure() -> None:
    board = rank_models(["best"] * 2 + ["a", "b"] * 20, ["a", "b"] + ["b", "a"] * 20, [WON] * 42)
    best = board.models.index("best")
    assert 1100 < board.scores[best] < 1500
    assert board.low[best] < board.high[best] < 4000
    assert board.rank_high[best] > 1  # two wins of two are no certainty
    sandwich = rank_models(
        ["best"] * 2 + ["a", "b"] * 20,
        ["a", "b"] + ["b", "a"] * 20,
        [WON] * 42,
        intervals="sandwich",
    )
    assert sandwich.rank_high[sandwich.models.index("best")] > 1


def test_ties_alone_make_everyone_equal() -> None:
    board = rank_models(["a", "b", "c"] * 10, ["b", "c", "a"] * 10, [TIED] * 30)
    np.testing.assert_allclose(board.scores, 1000.0)
    assert board.ranks.tolist() == [1, 1, 1]
    assert board.rank_high.tolist() == [3, 3, 3]
    assert board.tiers == (("a", "b", "c"),)


def test_islands_have_no_scores_against_each_other() -> None:
    pairs = [("a", "b"), ("c", "d"), ("c", "d"), ("d", "e")] * 6
    board = rank_models([a for a, _ in pairs], [b for _, b in pairs], [WON] * 24)
    assert board.islands.tolist() == [1, 1, 1, 2, 2]
    assert set(board.models[:3]) == {"c", "d", "e"}
    assert board.scores[:3].mean() == pytest.approx(1000)
    assert board.scores[3:].mean() == pytest.approx(1000)
    assert np.isfinite(board.scores).all()
    assert board.ranks.tolist() == [1, 2, 3, 1, 2]
    assert not board.better[:3, 3:].any()
    assert not board.better[3:, :3].any()


def test_one_prompt_says_nothing_of_others() -> None:
    board = rank_models(["a", "a"], ["b", "c"], [WON, WON], prompts=["same", "same"])
    assert np.isnan(board.low).all()
    assert np.isnan(board.errors).all()
    assert not board.better.any()
    assert board.tiers == (("a", "b", "c"),)


def test_an_anchor_moves_its_island_alone(simulate: Simulate) -> None:
    battles = simulate(4)
    model_a, model_b = [*battles.model_a, "x"], [*battles.model_b, "y"]
    outcomes = np.vstack([battles.outcomes, WON])
    free = rank_models(model_a, model_b, outcomes, rounds=100)
    fixed = rank_models(model_a, model_b, outcomes, rounds=100, anchor=("model 2", 1200))
    place = fixed.models.index("model 2")
    assert (fixed.scores[place], fixed.low[place], fixed.high[place]) == pytest.approx([1200] * 3)
    gaps = {name: score - _scores(free)[name] for name, score in _scores(fixed).items()}
    assert len({round(gap, 6) for name, gap in gaps.items() if name not in "xy"}) == 1
    assert gaps["x"] == pytest.approx(0.0)
    assert fixed.ranks.tolist() == free.ranks.tolist()


def test_an_anchor_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'gpt-4'"):
        rank_models(["gpt-4"], ["b"], [WON], anchor=("gpt4", 1000))


@pytest.mark.parametrize("intervals", ["bootstrap", "sandwich"])
def test_names_and_prompts_decide_nothing(simulate: Simulate, intervals: str) -> None:
    battles = simulate(5, models=7, by_prompt=2)
    board = _board(battles, intervals=intervals)
    called = {name: f"<b>{name[::-1]}\x1b[31m" for name in board.models}
    other = rank_models(
        [called[name] for name in battles.model_a],
        [called[name] for name in battles.model_b],
        battles.outcomes,
        prompts=[f"prompt {1000 - number}" for number in battles.prompts],
        rounds=200,
        intervals=intervals,
    )
    assert other.models == tuple(called[name] for name in board.models)
    for field in ("scores", "low", "high", "ranks", "rank_low", "rank_high", "samples"):
        np.testing.assert_array_equal(getattr(other, field), getattr(board, field))


def test_swapping_sides_changes_nothing(simulate: Simulate) -> None:
    battles = simulate(6, battles=200, effects=(0.4,))
    board = _board(battles, style=battles.style, style_names=["length"])
    swapped = rank_models(
        battles.model_b,
        battles.model_a,
        battles.outcomes[:, [1, 0, 2]],
        prompts=battles.prompts,
        style=-battles.style,
        style_names=["length"],
        rounds=200,
    )
    for name, score in _scores(board).items():
        assert _scores(swapped)[name] == pytest.approx(score, abs=1e-5)
    assert swapped.style[0].value == pytest.approx(board.style[0].value, abs=1e-7)


def test_the_seed_decides_the_rounds(simulate: Simulate) -> None:
    battles = simulate(7)
    first, same, other = (_board(battles, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.low, same.low)
    assert (first.low != other.low).all()
    np.testing.assert_array_equal(first.scores, other.scores)


def test_battles_about_one_prompt_are_no_new_evidence(simulate: Simulate) -> None:
    battles = simulate(8, battles=150)
    once = _board(battles)
    copied = [np.tile(part, 4) for part in (battles.model_a, battles.model_b, battles.prompts)]
    outcomes = np.tile(battles.outcomes, (4, 1))
    again = rank_models(
        copied[0].tolist(), copied[1].tolist(), outcomes, prompts=copied[2], rounds=200, prior=4.0
    )
    assert again.counted == 4 * once.counted
    np.testing.assert_allclose(np.sort(again.scores), np.sort(once.scores), atol=1e-4)
    ratio = (again.high - again.low).mean() / (once.high - once.low).mean()
    assert ratio == pytest.approx(1.0, abs=0.15)


def test_style_control_removes_a_planted_bias(simulate: Simulate) -> None:
    """The models are equal; the long-winded win by length alone, and fall back without it."""
    generator = np.random.default_rng(0)
    battles = simulate(9, models=4, battles=6000, apart=0.0, tie=0.0)
    habit = np.array([1.0, 0.3, -0.3, -1.0])
    length = habit[battles.first] - habit[battles.second] + generator.normal(size=6000)
    won = generator.random(6000) < 1 / (1 + np.exp(-length))
    outcomes = np.column_stack([won, ~won, np.zeros(6000)])
    names = (battles.model_a, battles.model_b)
    plain = rank_models(*names, outcomes, rounds=100)
    held = rank_models(*names, outcomes, rounds=100, style=length[:, None], style_names=["length"])
    assert plain.scores.max() - plain.scores.min() > 250
    assert plain.models == ("model 0", "model 1", "model 2", "model 3")
    assert held.scores.max() - held.scores.min() < 60
    effect = held.style[0]
    assert effect.low < effect.deviation < effect.high
    assert effect.score == pytest.approx(effect.value * 400 / np.log(10))


def test_style_that_never_differs_is_named_and_left_out(simulate: Simulate) -> None:
    battles = simulate(10, battles=100, effects=(0.5,))
    style = np.column_stack([np.zeros(100), battles.style])
    board = _board(battles, style=style, style_names=["headings", "length"])
    assert board.constant == ("headings",)
    assert [effect.name for effect in board.style] == ["length"]
    alone = _board(battles, style=battles.style, style_names=["length"])
    np.testing.assert_allclose(board.scores, alone.scores)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcomes": [[0.5, 0.5]]}, "outcomes of shape"),
        ({"outcomes": [[0.9, 0.9, 0.0]]}, "sum"),
        ({"model_b": ["a"]}, "1 of a model with itself"),
        ({"outcomes": [NOTHING]}, "1 without a verdict"),
        ({"model_a": [""]}, "1 without two models' names"),
        ({"prompts": [1, 2]}, "prompts of shape"),
        ({"style": [[np.inf]]}, "finite"),
        ({"prior": 0.0}, "prior 0"),
        ({"rounds": 0}, "0 rounds"),
        ({"intervals": "guess"}, "guess"),
    ],
)
def test_what_is_no_board_is_refused(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"model_a": ["a"], "model_b": ["b"], "outcomes": [WON]} | change
    with pytest.raises(ArenaJudgeError, match=message):
        rank_models(**arguments)


def test_a_column_that_names_no_models_is_refused() -> None:
    names = [f"answer {number}" for number in range(2002)]
    with pytest.raises(InputError, match="2,002 models"):
        rank_models(names[::2], names[1::2], [WON] * 1001)


@pytest.mark.slow
@pytest.mark.parametrize("intervals", ["bootstrap", "sandwich"])
def test_intervals_cover_the_truth(simulate: Simulate, intervals: str) -> None:
    """95 % intervals cover 92 to 98 % of true scores, battles about one prompt being alike."""
    covered = []
    for seed in range(150):
        battles = simulate(
            1000 + seed, models=5, battles=300, by_prompt=3, tie=0.0, apart=0.5, prompt_noise=0.7
        )
        board = _board(battles, seed=seed, intervals=intervals)
        # The strengths of the average prompt: taste has mean zero, and shrinks them all alike.
        truth = _marginal(battles.strengths, 0.7)
        for name, low, high in zip(board.models, board.low, board.high, strict=True):
            covered.append(low <= truth[int(name.split()[1])] <= high)
    assert 0.92 < np.mean(covered) < 0.98


def _marginal(strengths: Floats, noise: float) -> Floats:
    """The scores that Bradley-Terry fits to endless battles when tastes vary by prompt."""
    points, weights = np.polynomial.hermite_e.hermegauss(41)
    taste = np.sqrt(2) * noise * points
    gap = strengths[:, None] - strengths
    wins = (1 / (1 + np.exp(-(gap[..., None] + taste)))) @ (weights / weights.sum())
    from judge.leaderboard.fitting import Meetings, fit

    first, second = np.nonzero(~np.eye(len(strengths), dtype=bool))
    none = np.zeros((len(first), 0))
    prompts = np.arange(len(first))
    endless = Meetings(
        first, second, wins[first, second], prompts, none, len(strengths), len(first)
    )
    found = fit(endless, 1e-9)
    return np.asarray(1000 + 400 / np.log(10) * (found - found.mean()))
