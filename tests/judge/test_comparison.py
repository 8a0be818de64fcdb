"""Comparing judges: intervals that cover, pairs that are pairs, and nobody dropped in silence."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from judge.comparing.agreement import cohen_kappa, confusion, krippendorff_alpha, macro_f1
from judge.comparing.differences import holm
from judge.comparing.reliability import reliability
from judge.comparing.scores import Effort
from judge.comparison import NOTHING, PRIOR, Comparison, JudgeScore, Known, compare
from judge.consistency import Consistency
from judge.errors import ArenaJudgeError
from judge.metrics import (
    accuracy,
    brier,
    calibration_error,
    confidence,
    decided_accuracy,
    entropy,
    lean,
    log_loss,
    ranked_probability,
)

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
        assert score.ranked_probability == pytest.approx(ranked_probability(labels, p), abs=1e-12)
        assert score.decided_accuracy == pytest.approx(decided_accuracy(labels, p), abs=1e-12)
        assert score.entropy == pytest.approx(entropy(p), abs=1e-12)
        assert score.confidence == pytest.approx(confidence(p), abs=1e-12)
        assert score.lean == pytest.approx(lean(labels, p), abs=1e-12)
        matrix = confusion(labels, p)
        assert score.confusion == tuple(map(tuple, matrix.tolist()))
        assert score.kappa == cohen_kappa(matrix)
        assert score.alpha == krippendorff_alpha(matrix)
        assert score.macro_f1 == macro_f1(matrix)
        assert score.reliability == reliability(labels, p)
        assert score.low < score.log_loss < score.high
        for mean, interval in score.intervals.items():
            assert interval.low <= getattr(score, mean) <= interval.high


def test_means_have_intervals_that_stay_within_what_can_be() -> None:
    labels, _ = _draw(np.random.default_rng(2), 30)
    score = compare(labels, {"all right": labels}, rounds=ROUNDS).scores[1]
    assert (score.log_loss, score.low, score.high) == pytest.approx((0, 0, 0), abs=1e-12)
    accuracy_of = score.intervals["accuracy"]
    assert (round(accuracy_of.low, 2), accuracy_of.high) == (0.89, 1)
    poor = compare(labels, {"poor": labels[:, [1, 0, 2]]}, rounds=ROUNDS).scores[1]
    for name, (least, most) in {"accuracy": (0, 1), "brier": (0, 2), "lean": (-2, 2)}.items():
        assert least <= poor.intervals[name].low <= poor.intervals[name].high <= most


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
    again = compare(labels, judges, groups=named, rounds=ROUNDS, seed=7)
    assert repr(again) == repr(first)  # where NaN is like itself
    other = compare(labels, judges, groups=groups, rounds=ROUNDS, seed=8)
    assert repr(other) != repr(first)
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
def test_a_95_percent_interval_covers_the_truth_about_95_times_in_a_hundred() -> None:
    copies = 3
    generator = np.random.default_rng(10)
    _, many = _draw(generator, 400_000)
    blurred = _blurred(many, 0.5)
    truth = -(many * np.log(blurred)).sum(axis=1).mean()
    gap = truth + (many * np.log(many)).sum(axis=1).mean()
    covered = np.zeros(2)
    draws = 300
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
    # 300 draws have a standard error of 1.3 points.
    assert ((covered / draws > 0.915) & (covered / draws < 0.98)).all(), covered / draws


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
    assert repr(result.scores) == repr(expected.scores)


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


def test_a_judge_that_judged_nothing_is_shown_and_costs_the_others_nothing() -> None:
    labels, proba = _draw(np.random.default_rng(17), 50)
    judges = {"none": np.full((50, 3), np.nan), "one": proba, "two": _blurred(proba, 0.5)}
    result = compare(labels, judges, rounds=ROUNDS)
    assert [score.name for score in result.scores][-1] == "none"
    last = result.scores[-1]
    assert (last.battles, last.unjudged) == (0, 50)
    assert np.isnan([last.log_loss, last.low, last.accuracy, last.kappa]).all()
    assert last.against_prior is None
    assert result.common == 50
    without = compare(labels, {n: p for n, p in judges.items() if n != "none"}, rounds=ROUNDS)
    assert repr(result.scores[:-1]) == repr(without.scores)


def test_who_keeps_the_common_battles_few_is_named() -> None:
    labels, proba = _draw(np.random.default_rng(18), 60)
    few = proba.copy()
    few[10:] = np.nan
    most = proba.copy()
    most[:5] = np.nan
    result = compare(labels, {"few": few, "most": most, "all": proba}, rounds=ROUNDS)
    assert result.common == 5
    assert result.held_back_by == ("few", 55)
    assert compare(labels, {"most": most, "all": proba}, rounds=ROUNDS).held_back_by is None


def test_every_two_judges_are_compared_and_tested_together() -> None:
    labels, proba = _draw(np.random.default_rng(19), 400, spread=0.7)
    shares = {"c": 0.9, "a": 0.0, "b": 0.02, "d": 0.92}
    judges = {name: _blurred(proba, share) for name, share in shares.items()}
    result = compare(labels, judges, rounds=ROUNDS)
    ranked = [score.name for score in result.scores[1:]]
    assert set(ranked[:2]) == {"a", "b"}
    assert [(pair.first, pair.second) for pair in result.pairs] == list(combinations(ranked, 2))
    for pair in result.pairs:
        expected = log_loss(labels, judges[pair.first]) - log_loss(labels, judges[pair.second])
        assert pair.difference.value == pytest.approx(expected, abs=1e-12)
    corrected = holm([pair.difference.p_value for pair in result.pairs])
    assert [pair.difference.p_holm for pair in result.pairs] == corrected
    against = [score.against_best for score in result.scores[2:]]
    assert against == [pair.difference.turned() for pair in result.pairs[:3]]
    assert [set(run) for run in result.together] == [{"a", "b"}, {"c"}, {"d"}]
    assert result.scores[1].against_prior is not None
    alone = [s.against_prior.p_value for s in result.scores[1:] if s.against_prior]
    kept = [s.against_prior.p_holm for s in result.scores[1:] if s.against_prior]
    assert kept == holm(alone)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_ever_so_few_battles_can_be_compared(size: int) -> None:
    labels, proba = _draw(np.random.default_rng(20), size)
    result = compare(labels, {"one": proba, "two": _blurred(proba, 0.5)}, rounds=ROUNDS)
    assert [score.battles for score in result.scores] == [size] * 3
    gap = result.scores[1].against_prior
    assert gap is not None
    assert not gap.told_apart


def test_ties_and_nothing_else_can_be_compared() -> None:
    labels = np.tile([0.0, 0.0, 1.0], (40, 1))
    judges = {"sure": np.tile([0.1, 0.1, 0.8], (40, 1)), "tie": labels.copy()}
    result = compare(labels, judges, rounds=ROUNDS)
    scores = _by_name(result)
    assert result.best == "tie"
    assert np.isnan(scores["sure"].decided_accuracy)
    assert np.isnan(scores["sure"].kappa)
    assert scores["tie"].against_prior is not None
    assert scores["tie"].against_prior.p_holm == 1
    assert scores["sure"].against_best is not None
    assert scores["sure"].against_best.told_apart


@given(st.integers(0, 2**32))
@settings(max_examples=20)
def test_length_s_correlation_agrees_with_scipy(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels, proba = _draw(generator, 60)
    longer = generator.integers(-5, 5, 60).astype(float)
    longer[:7] = np.nan
    result = compare(labels, {"one": proba}, length_difference=longer, rounds=20)
    expected = spearmanr((proba[:, 0] - proba[:, 1])[7:], longer[7:]).statistic
    assert result.scores[1].length_correlation == pytest.approx(expected, abs=1e-9)
    people = spearmanr((labels[:, 0] - labels[:, 1])[7:], longer[7:]).statistic
    assert result.length_correlation == pytest.approx(people, abs=1e-9)
    assert np.isnan(result.scores[0].length_correlation)  # a constant goes with nothing


def test_what_else_is_known_of_a_judge_is_in_its_row() -> None:
    labels, proba = _draw(np.random.default_rng(22), 30)
    word = Consistency(60, 1, 29, 0.8, 0.1, 0.0, 0.2, 0.55)
    known = Known({"one": word}, {"one": Effort(0.5, 0.002)})
    result = compare(labels, {"one": proba, "two": proba}, known=known, rounds=ROUNDS)
    scores = _by_name(result)
    assert (scores["one"].order, scores["one"].effort) == (word, Effort(0.5, 0.002))
    assert scores["two"].order is None
    frame = result.to_frame().set_index("name")
    assert frame.loc["one", "order_consistency"] == 0.8
    assert frame.loc["one", "cost_a_battle"] == 0.002
    assert np.isnan(frame.loc["two", "seconds_a_battle"])
    assert not NOTHING.orders


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
        (
            np.eye(3)[:2],
            {"one": np.full((2, 3), np.nan), "two": np.full((2, 3), np.nan)},
            None,
            "one, two judged none of the 2",
        ),
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


def test_length_differences_must_be_as_many_as_battles() -> None:
    judges = {"one": np.full((3, 3), 1 / 3)}
    with pytest.raises(ArenaJudgeError, match="3 battles but length differences"):
        compare(np.eye(3), judges, length_difference=[1, 2], rounds=ROUNDS)


def test_rounds_must_be_at_least_one() -> None:
    with pytest.raises(ArenaJudgeError, match="one round"):
        compare(np.eye(3), {"one": np.full((3, 3), 1 / 3)}, rounds=0)


def test_the_frame_has_a_row_a_judge_and_a_column_a_figure() -> None:
    labels, proba = _draw(np.random.default_rng(16), 50)
    result = compare(labels, {"one": proba, "two": _blurred(proba, 0.5)}, rounds=ROUNDS)
    frame = result.to_frame()
    assert frame["name"].tolist() == [score.name for score in result.scores]
    assert frame.columns[:4].tolist() == ["name", "battles", "unjudged", "log_loss"]
    assert frame["brier_low"].iloc[1] == result.scores[1].intervals["brier"].low
    assert frame.filter(regex="^label_.*_verdict_").iloc[1].sum() == pytest.approx(50)
    curves, pairs = result.curves(), result.pair_frame()
    assert curves[(curves["judge"] == "one") & (curves["of"] == "tie")]["battles"].sum() == 50
    assert pairs[["first", "second"]].values.tolist() == [["one", "two"]]
    assert pairs["value"].iloc[0] == result.pairs[0].difference.value
    second = result.scores[2]
    assert second.against_best is not None
    assert frame["against_best_p_value"].iloc[2] == second.against_best.p_value
    assert np.isnan(frame["against_best"].iloc[1])
    assert json.loads(json.dumps(asdict(replace(result, scores=()))))["best"] == result.best
