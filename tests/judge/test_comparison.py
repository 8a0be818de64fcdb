"""Comparing judges: intervals that cover, pairs that are pairs, and nobody dropped in silence."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.comparison import PRIOR, Comparison, JudgeScore, align, compare
from judge.errors import ArenaJudgeError, InputError
from judge.metrics import accuracy, brier, calibration_error, log_loss

Floats = npt.NDArray[np.float64]

ROUNDS = 400


def _draw(
    generator: np.random.Generator, size: int, *, spread: float = 2.0
) -> tuple[Floats, Floats]:
    """Labels drawn from the probabilities beside them."""
    proba = generator.dirichlet([spread] * 3, size)
    chosen = (generator.random((size, 1)) > proba.cumsum(axis=1)[:, :2]).sum(axis=1)
    return np.eye(3)[chosen], proba


def _blurred(proba: Floats, share: float) -> Floats:
    return (1 - share) * proba + share / 3


def _by_name(comparison: Comparison) -> dict[str, JudgeScore]:
    return {score.name: score for score in comparison.scores}


def test_the_prior_comes_first_and_then_the_best() -> None:
    labels, proba = _draw(np.random.default_rng(1), 500, spread=0.5)
    judges = {"poor": _blurred(proba, 0.9), "good": proba, "fair": _blurred(proba, 0.4)}
    result = compare(labels, judges, rounds=ROUNDS)
    assert [score.name for score in result.scores] == [PRIOR, "good", "fair", "poor"]
    assert result.best == "good"
    assert result.prior == pytest.approx(tuple(labels.mean(axis=0)))


def test_every_figure_is_the_metric_s() -> None:
    labels, proba = _draw(np.random.default_rng(2), 300)
    other = _blurred(proba, 0.5)
    scores = _by_name(compare(labels, {"one": proba, "two": other}, rounds=ROUNDS))
    for name, p in (("one", proba), ("two", other), (PRIOR, np.tile(labels.mean(0), (300, 1)))):
        score = scores[name]
        assert score.log_loss == pytest.approx(log_loss(labels, p), abs=1e-12)
        assert score.brier == pytest.approx(brier(labels, p), abs=1e-12)
        assert score.accuracy == pytest.approx(accuracy(labels, p), abs=1e-12)
        assert score.calibration_error == pytest.approx(calibration_error(labels, p), abs=1e-12)
        assert score.low < score.log_loss < score.high


def test_a_difference_has_the_sign_of_what_is_worse_and_is_judged_in_pairs() -> None:
    labels, proba = _draw(np.random.default_rng(3), 800)
    judges = {"good": proba, "worse": _blurred(proba, 0.3)}
    scores = _by_name(compare(labels, judges, rounds=ROUNDS))
    worse = scores["worse"]
    assert scores["good"].against_best is None
    assert scores[PRIOR].against_prior is None
    assert worse.against_best is not None
    assert worse.against_best.value == pytest.approx(worse.log_loss - scores["good"].log_loss)
    assert 0 < worse.against_best.low < worse.against_best.value < worse.against_best.high
    assert worse.against_best.p_value < 0.05
    # The two are so alike that only the pairing can tell them apart.
    assert worse.low < scores["good"].high
    prior_gap = scores["good"].against_prior
    assert prior_gap is not None
    assert prior_gap.high < 0


def test_a_judge_and_its_copy_differ_by_exactly_nothing() -> None:
    labels, proba = _draw(np.random.default_rng(4), 101)
    difference = compare(labels, {"one": proba, "copy": proba.copy()}, rounds=ROUNDS).scores[2]
    assert difference.against_best is not None
    none = {"value": 0, "low": 0, "high": 0, "p_value": 1, "p_holm": 1, "error": 0}
    assert asdict(difference.against_best) == none | {"more_battles": np.inf}


def test_the_seed_decides_the_intervals_and_nothing_else_does() -> None:
    labels, proba = _draw(np.random.default_rng(5), 120)
    groups = np.arange(120) // 3
    judges = {"one": proba, "two": _blurred(proba, 0.5)}
    first = compare(labels, judges, groups=groups, rounds=ROUNDS, seed=7)
    named = np.array([f"prompt {group * 37 % 40}" for group in groups], dtype=object)
    assert compare(labels, judges, groups=named, rounds=ROUNDS, seed=7) == first
    other = compare(labels, judges, groups=groups, rounds=ROUNDS, seed=8)
    assert other != first
    assert [score.log_loss for score in other.scores] == [s.log_loss for s in first.scores]


def test_repeating_every_battle_narrows_nothing_when_prompts_are_kept_together() -> None:
    labels, proba = _draw(np.random.default_rng(6), 300)
    many, repeated = np.repeat(labels, 4, axis=0), {"one": np.repeat(proba, 4, axis=0)}
    once = compare(labels, {"one": proba}, rounds=2000).scores[1]
    apart = compare(many, repeated, rounds=2000).scores[1]
    together = compare(many, repeated, groups=np.arange(300).repeat(4), rounds=2000).scores[1]
    assert together.high - together.low == pytest.approx(once.high - once.low, rel=0.1)
    assert apart.high - apart.low == pytest.approx((once.high - once.low) / 2, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("copies", [1, 3])
def test_a_95_percent_interval_covers_the_truth_about_95_times_in_a_hundred(copies: int) -> None:
    generator = np.random.default_rng(10)
    _, many = _draw(generator, 400_000)
    blurred = _blurred(many, 0.5)
    truth = -(many * np.log(blurred)).sum(axis=1).mean()
    gap = truth + (many * np.log(many)).sum(axis=1).mean()
    covered = np.zeros(2)
    draws = 400
    for draw in range(draws):
        labels, proba = (np.repeat(part, copies, axis=0) for part in _draw(generator, 200))
        result = compare(
            labels,
            {"sharp": proba, "blurred": _blurred(proba, 0.5)},
            groups=np.arange(200).repeat(copies),
            rounds=300,
            seed=draw,
        )
        score = _by_name(result)["blurred"]
        covered[0] += score.low <= truth <= score.high
        if score.against_best is not None:
            covered[1] += score.against_best.low <= gap <= score.against_best.high
    # 400 draws have a standard error of 1.1 points; small samples fall a point short.
    assert ((covered / draws > 0.91) & (covered / draws < 0.985)).all(), covered / draws


def test_what_a_judge_left_unjudged_is_counted_and_differences_are_on_the_rest() -> None:
    labels, proba = _draw(np.random.default_rng(11), 200)
    partial = _blurred(proba, 0.5)
    partial[:50] = np.nan
    result = compare(labels, {"whole": proba, "part": partial}, rounds=ROUNDS)
    scores = _by_name(result)
    assert (scores["part"].battles, scores["part"].unjudged) == (150, 50)
    assert (scores["whole"].battles, scores["whole"].unjudged) == (200, 0)
    assert result.common == 150
    assert scores["whole"].log_loss == pytest.approx(log_loss(labels, proba))
    assert scores["part"].log_loss == pytest.approx(log_loss(labels[50:], partial[50:]))
    worse = next(score for name, score in scores.items() if name not in (PRIOR, result.best))
    assert worse.against_best is not None
    expected = log_loss(labels[50:], partial[50:]) - log_loss(labels[50:], proba[50:])
    assert worse.against_best.value == pytest.approx(abs(expected))


def test_unlabelled_battles_are_left_out_and_counted() -> None:
    labels, proba = _draw(np.random.default_rng(12), 60)
    labels[:20] = np.nan
    groups = np.arange(60) % 30
    result = compare(labels, {"one": proba}, groups=groups, rounds=ROUNDS)
    assert (result.battles, result.unlabelled, result.prompts) == (40, 20, 30)
    expected = compare(labels[20:], {"one": proba[20:]}, groups=groups[20:], rounds=ROUNDS)
    assert result.scores == expected.scores


def test_one_prompt_says_nothing_about_others() -> None:
    labels, proba = _draw(np.random.default_rng(13), 30)
    score = compare(labels, {"one": proba}, groups=np.zeros(30), rounds=ROUNDS).scores[1]
    assert score.log_loss > 0
    assert np.isnan([score.low, score.high]).all()
    assert score.against_prior is not None
    assert np.isnan(score.against_prior.p_value)


def test_a_judge_of_a_single_battle_still_gets_its_row() -> None:
    labels, proba = _draw(np.random.default_rng(14), 40)
    alone = np.full((40, 3), np.nan)
    alone[7] = proba[7]
    result = compare(labels, {"one": proba, "alone": alone}, rounds=ROUNDS)
    assert _by_name(result)["alone"].battles == result.common == 1


def test_soft_labels_are_labels() -> None:
    generator = np.random.default_rng(15)
    labels = generator.dirichlet([1, 1, 1], 100)
    result = compare(labels, {"same": labels, "flat": np.full((100, 3), 1 / 3)}, rounds=ROUNDS)
    assert result.best == "same"


@pytest.mark.parametrize(
    ("labels", "judges", "groups", "said"),
    [
        (np.full((2, 3), np.nan), {"one": np.full((2, 3), 1 / 3)}, None, "no battle has a label"),
        (np.eye(3)[:2], {"one": np.full((2, 3), np.nan)}, None, "one judged none of the 2"),
        (np.eye(3)[:2], {"one": np.full((3, 3), 1 / 3)}, None, "one: 2 battles"),
        (np.eye(3)[:2], {"one": np.full((2, 3), 0.5)}, None, "probabilities of one must lie"),
        (np.eye(3)[:2], {"one": np.full((2, 3), 1 / 3)}, [1], "groups of shape"),
        (np.eye(2), {"one": np.full((2, 3), 1 / 3)}, None, "labels must have the shape"),
        (np.eye(3)[:2], {}, None, "compare needs judges"),
        (np.eye(3)[:2], {PRIOR: np.full((2, 3), 1 / 3)}, None, "none of them called"),
        (
            np.eye(3)[:2],
            {"one": [[1, 0, 0], [np.nan] * 3], "two": [[np.nan] * 3, [1, 0, 0]]},
            None,
            r"judged by all \(class prior 2, one 1, two 1\)",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(
    labels: Floats, judges: dict[str, Floats], groups: list[int] | None, said: str
) -> None:
    with pytest.raises(ArenaJudgeError, match=said):
        compare(labels, judges, groups=groups)


def test_rounds_must_be_at_least_one() -> None:
    with pytest.raises(ArenaJudgeError, match="one round"):
        compare(np.eye(3), {"one": np.full((3, 3), 1 / 3)}, rounds=0)


def test_the_frame_has_a_row_a_judge_and_a_column_a_figure() -> None:
    labels, proba = _draw(np.random.default_rng(16), 50)
    result = compare(labels, {"one": proba, "two": _blurred(proba, 0.5)}, rounds=ROUNDS)
    frame = result.to_frame()
    assert frame["name"].tolist() == [score.name for score in result.scores]
    second = result.scores[2]
    assert second.against_best is not None
    assert frame["against_best_p_value"].iloc[2] == second.against_best.p_value
    assert np.isnan(frame["against_best"].iloc[1])
    assert json.loads(json.dumps(asdict(replace(result, scores=()))))["best"] == result.best


def _predictions(ids: list[str], proba: Floats) -> pd.DataFrame:
    columns = ["winner_model_a", "winner_model_b", "winner_tie"]
    return pd.DataFrame({"id": ids}).join(pd.DataFrame(proba, columns=columns))


@given(st.permutations(range(8)), st.integers(1, 8))
def test_predictions_find_their_battles_by_id(order: list[int], kept: int) -> None:
    _, proba = _draw(np.random.default_rng(20), 8)
    ids = [f"battle {n}" for n in range(8)]
    rows = order[:kept]
    table = _predictions(
        [*(ids[n] for n in rows), "unheard of"], np.vstack([proba[rows], [1, 0, 0]])
    )
    aligned = align(ids, table)
    assert (aligned.missing, aligned.unknown) == (8 - kept, 1)
    expected = np.where(np.isin(np.arange(8), rows)[:, None], proba, np.nan)
    np.testing.assert_array_equal(aligned.proba, expected)


def test_alike_ids_in_the_same_order_go_by_position() -> None:
    _, proba = _draw(np.random.default_rng(21), 3)
    aligned = align(["1", "1", "2"], _predictions(["1", "1", "2"], proba))
    np.testing.assert_array_equal(aligned.proba, proba)
    assert (aligned.missing, aligned.unknown) == (0, 0)


@pytest.mark.parametrize(
    ("ids", "given", "said"),
    [
        (["1", "1", "2"], ["1", "2", "1"], "p.csv, column id: id '1' occurs more than once in the"),
        (["1", "2"], ["2", "2"], "more than once in the predictions"),
        (["1", "1"], ["1", "2"], "more than once in the battles"),
        (["1", "2"], ["3", "4"], "none of its ids"),
    ],
)
def test_predictions_that_cannot_be_laid_beside_battles_are_refused(
    ids: list[str], given: list[str], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        align(ids, _predictions(given, np.full((len(given), 3), 1 / 3)), file="p.csv")
