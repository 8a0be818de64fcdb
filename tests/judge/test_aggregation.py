"""From ballots to probabilities: symmetry, caution, and fits that find what was planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judge.aggregation import COVARIATES, UNFITTED, Aggregator, aggregate, from_settings, pool
from judge.aggregation_fitting import fit_aggregator
from judge.ballots import CRITERIA, VOTES, ballot_table
from judge.consistency import report_consistency
from judge.errors import ArenaJudgeError, InputError
from judge.folds import grouped_folds
from judge.metrics import log_loss

Floats = npt.NDArray[np.float64]

SWAPPED = [1, 0, 2]
EXCHANGED = {"AB": "BA", "BA": "AB", "": ""}
IDS = ["x", "y", "z"]


def _certain(*votes: str) -> Floats:
    """(M, 5, 4) ballots that vote the same on all criteria."""
    rows = [np.eye(4)[VOTES.index(vote)] for vote in votes]
    return np.repeat(np.array(rows)[:, None], len(CRITERIA), axis=1)


def _ballots(*votes: str, name: str = "x", judge: str = "me") -> pd.DataFrame:
    """A battle's ballots, one a sample."""
    table = ballot_table([name] * len(votes), judge, _certain(*votes))
    return table.assign(sample=range(len(votes)))


@st.composite
def _tables(draw: st.DrawFn) -> pd.DataFrame:
    """Ballots of three battles: a jury, both orders and unknown ones, samples, parts, criteria not
    asked, replies that could not be read."""
    count = draw(st.integers(1, 12))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    shares = generator.dirichlet(np.full(4, 0.4), size=(count, len(CRITERIA)))
    shares[generator.random((count, len(CRITERIA))) < 0.2] = np.nan
    table = ballot_table(generator.choice(IDS, count).tolist(), "", shares)
    return table.assign(
        judge=generator.choice(["p", "q"], count),
        order=generator.choice(["AB", "BA", ""], count),
        sample=generator.integers(0, 3, count),
        weight=generator.choice([1.0, 0.3, 812.0], count),
    )


def _swapped(table: pd.DataFrame) -> pd.DataFrame:
    """The ballots of the same battles with their responses exchanged."""
    exchanged = {f"{c}_A": f"{c}_B" for c in CRITERIA} | {f"{c}_B": f"{c}_A" for c in CRITERIA}
    renamed = table.rename(columns=exchanged)[list(table.columns)]
    return renamed.assign(order=table["order"].map(EXCHANGED))


AGGREGATORS = st.builds(
    Aggregator,
    weights=st.sampled_from([(0.2,) * 5, (0.5, 0.1, 0.0, 0.3, 0.1)]),
    temperature=st.floats(0, 60),
    tie=st.floats(-10, 10),
    both=st.floats(0, 20),
    split=st.floats(0, 20),
    abstain=st.floats(0, 1),
    doubt=st.floats(0, 5),
    judges=st.sampled_from([{}, {"p": 2.0}, {"p": 0.0}]),
)


@settings(deadline=None, max_examples=60)
@given(_tables(), AGGREGATORS, st.integers(0, 100))
def test_swapping_and_shuffling_change_nothing_to_the_last_bit(
    table: pd.DataFrame, aggregator: Aggregator, seed: int
) -> None:
    proba = aggregator.aggregate(table, IDS)
    there = aggregator.aggregate(_swapped(table), IDS)
    assert np.array_equal(there, proba[:, SWAPPED], equal_nan=True)
    shuffled = table.sample(frac=1, random_state=seed)
    assert np.array_equal(aggregator.aggregate(shuffled, IDS), proba, equal_nan=True)


@settings(deadline=None, max_examples=60)
@given(_tables(), AGGREGATORS)
def test_rows_are_distributions_without_a_zero_or_unjudged(
    table: pd.DataFrame, aggregator: Aggregator
) -> None:
    proba = aggregator.aggregate(table, IDS)
    votes = table[[f"{c}_A" for c in CRITERIA]].notna().any(axis=1)
    for place, name in enumerate(IDS):
        readable = bool((votes & (table["id"] == name)).any())
        assert np.isnan(proba[place]).all() != readable
    judged = proba[~np.isnan(proba[:, 0])]
    assert (judged > 0).all()
    np.testing.assert_allclose(judged.sum(axis=1), 1.0, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(VOTES[:3]), min_size=1, max_size=6), st.integers(0, 5))
def test_a_vote_that_moves_to_a_response_never_harms_it(votes: list[str], at: int) -> None:
    at %= len(votes)
    odds = []
    for vote in ("B", "AB", "A"):
        proba = aggregate(_ballots(*votes[:at], vote, *votes[at + 1 :]), ["x"])[0]
        odds.append((proba[0] / proba[1], proba[0]))
    assert odds[0] < odds[1] < odds[2]
    assert odds[0][1] <= odds[1][1] <= odds[2][1]


def test_more_samples_that_agree_are_believed_more() -> None:
    winning = [aggregate(_ballots(*["A"] * n), ["x"])[0, 0] for n in range(1, 7)]
    assert winning == sorted(winning)
    assert len(set(winning)) == len(winning)


def test_both_votes_and_contradictions_speak_for_a_tie() -> None:
    tie = {
        votes: aggregate(_ballots(*votes), ["x"])[0, 2]
        for votes in (("A", "A"), ("A", "B"), ("NA", "NA"), ("AB", "AB"))
    }
    assert tie["A", "A"] < tie["NA", "NA"] < tie["A", "B"] < tie["AB", "AB"]


def test_ballots_of_nothing_but_na_are_the_prior() -> None:
    proba = aggregate(_ballots("NA", "NA"), ["x"])[0]
    np.testing.assert_allclose(proba, UNFITTED.prior, rtol=1e-12)
    assert proba[0] == proba[1]


def test_na_takes_away_as_much_evidence_as_it_is_told_to() -> None:
    shares = _certain("A")
    shares[0, 2:] = np.eye(4)[3]
    partly = ballot_table(["x"], "me", shares)
    gap = {}
    for abstain in (0.0, 0.5, 1.0):
        proba = replace(UNFITTED, abstain=abstain).aggregate(partly, ["x"])[0]
        gap[abstain] = np.log(proba[0] / proba[1])
    everything = np.log(np.divide(*aggregate(_ballots("A"), ["x"])[0, :2]))
    assert gap[1.0] < gap[0.5] < gap[0.0]
    assert gap[0.0] == pytest.approx(everything)


def test_a_criterion_that_was_not_asked_about_is_as_those_that_were() -> None:
    shares = _certain("A")
    shares[0, 1:] = np.nan
    one = replace(UNFITTED, weights=(0.1, 0.3, 0.2, 0.2, 0.2))
    proba = one.aggregate(ballot_table(["x"], "me", shares), ["x"])
    np.testing.assert_allclose(proba, one.aggregate(_ballots("A"), ["x"]), rtol=1e-9)


def test_five_ballots_of_a_criterion_each_are_one_ballot_of_five() -> None:
    votes = ("A", "B", "AB", "A", "NA")
    whole = np.stack([_certain(vote)[0, 0] for vote in votes])[None]
    apart = np.full((5, 5, 4), np.nan)
    for c in range(5):
        apart[c, c] = whole[0, c]
    one = aggregate(ballot_table(["x"], "me", whole), ["x"])
    five = aggregate(ballot_table(["x"] * 5, "me", apart), ["x"])
    assert np.array_equal(one, five)


def test_orders_count_alike_however_often_each_was_asked() -> None:
    shown = _ballots("A", "A", "A")
    turned = _ballots("B").assign(order="BA")
    proba = aggregate(pd.concat([shown, turned]), ["x"])[0]
    assert proba[0] == proba[1]


def test_parts_count_by_their_weight_and_as_one_ballot() -> None:
    parts = pd.concat([_ballots("A"), _ballots("B")]).assign(part=[0, 1], weight=[300.0, 100.0])
    shares = np.broadcast_to([0.75, 0.25, 0.0, 0.0], (1, 5, 4))
    whole = ballot_table(["x"], "me", np.array(shares))
    np.testing.assert_allclose(
        aggregate(parts, ["x"])[0, 0] / aggregate(parts, ["x"])[0, 1],
        aggregate(whole, ["x"])[0, 0] / aggregate(whole, ["x"])[0, 1],
    )
    with pytest.raises(ArenaJudgeError, match="weight"):
        aggregate(parts.assign(weight=0.0), ["x"])


def test_a_juror_without_weight_has_no_say() -> None:
    jury = pd.concat([_ballots("A"), _ballots("B", judge="fool")])
    wise = replace(UNFITTED, judges={"fool": 0.0})
    assert np.array_equal(wise.aggregate(jury, ["x"]), aggregate(_ballots("A"), ["x"]))


def test_an_id_of_several_battles_cannot_be_told_apart() -> None:
    with pytest.raises(ArenaJudgeError, match="'x' is that of several battles"):
        aggregate(_ballots("A"), ["x", "x"])
    assert np.isnan(aggregate(_ballots("A"), ["y", "y"])).all()
    assert pool(_ballots("A"), []).direction.shape == (0, 1, 5)


def test_settings_come_back_as_they_were() -> None:
    for aggregator in (
        UNFITTED,
        Aggregator((0.1, 0.2, 0.3, 0.4, 0.0), 2.5, -3.0, judges={"p": 1.5}, covariates=(0.1,) * 6),
    ):
        assert from_settings(aggregator.settings()) == aggregator


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"temperature": -1}, "temperature is -1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": "hot"}, "cannot be read"),
        ({"smoothing": 0}, "smoothing is 0"),
        ({"tie": 1e9}, "tie is"),
        ({"weights": dict.fromkeys(CRITERIA, 0.3)}, "sum to 1.5"),
        ({"weights": {"relevance": 1.0}}, "cannot be read"),
        ({"weights": {**dict.fromkeys(CRITERIA, 0.0), "relevance": 2, "clarity": -1}}, "weights"),
        ({"covariates": dict.fromkeys(COVARIATES, float("inf"))}, "covariates"),
        ({"judges": {"p": -1}}, "juror"),
        ({"heat": 1}, "'heat', which is unknown"),
    ],
)
def test_settings_that_cannot_be_are_one_line(change: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=r"judge\.yaml") as caught:
        from_settings(UNFITTED.settings() | change, file="judge.yaml")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError):
        from_settings([1, 2])


# --- fitting --------------------------------------------------------------------------------------


def _planted(
    battles: int, truth: Aggregator, seed: int, covariates: Floats | None = None
) -> tuple[pd.DataFrame, list[str], Floats]:
    """Ballots in both orders, and labels that the aggregator drew from them."""
    generator = np.random.default_rng(seed)
    ids = [str(n) for n in range(battles)]
    tables = []
    for order in ("AB", "BA"):
        votes = generator.choice(4, p=[0.36, 0.36, 0.18, 0.1], size=(battles, 5))
        tables.append(ballot_table(ids, "me", np.eye(4)[votes], order=order))
    ballots = pd.concat(tables, ignore_index=True)
    proba = truth.aggregate(ballots, ids, covariates)
    drawn = (generator.random((battles, 1)) > proba.cumsum(axis=1)).sum(axis=1)
    return ballots, ids, np.eye(3)[np.minimum(drawn, 2)]


def test_what_was_planted_is_found() -> None:
    truth = Aggregator((0.5, 0.3, 0.1, 0.1, 0.0), 6.0, -0.8, 2.0, 0.0, smoothing=0.001)
    ballots, ids, labels = _planted(4000, truth, seed=1)
    found = fit_aggregator(ballots, ids, labels, np.arange(4000) // 2, folds=2).aggregator
    np.testing.assert_allclose(found.weights, truth.weights, atol=0.06)
    assert found.temperature == pytest.approx(6.0, rel=0.15)
    assert found.both == pytest.approx(2.0, abs=0.7)
    assert found.tie == pytest.approx(-0.8, abs=0.3)
    gap = found.aggregate(ballots, ids) - truth.aggregate(ballots, ids)
    assert np.abs(gap).mean() < 0.02


def test_covariates_are_learned_where_they_tell_something() -> None:
    extra = np.random.default_rng(5).normal(size=(1500, 6))
    truth = replace(UNFITTED, temperature=3.0, covariates=(0.8, 0.8, 0.8, 0.8, 0.8, 0.5))
    ballots, ids, labels = _planted(1500, truth, 2, extra)
    groups = np.arange(1500)
    without = fit_aggregator(ballots, ids, labels, groups, folds=3)
    with_them = fit_aggregator(ballots, ids, labels, groups, extra, folds=3)
    assert with_them.aggregator.covariates == pytest.approx(truth.covariates, abs=0.3)
    assert log_loss(labels, with_them.proba) < log_loss(labels, without.proba) - 0.05
    with pytest.raises(ArenaJudgeError, match="strengths"):
        with_them.aggregator.aggregate(ballots, ids)


def test_covariates_that_tell_nothing_have_no_say() -> None:
    ballots, ids, labels = _planted(800, replace(UNFITTED, temperature=6.0), 3)
    extra = np.random.default_rng(6).normal(size=(800, 6))
    assert fit_aggregator(ballots, ids, labels, np.arange(800), extra).aggregator.covariates is None


NOTHING = replace(UNFITTED, temperature=0.0, both=0.0, split=0.0)


@pytest.mark.parametrize("seed", range(3))
def test_a_judge_that_tells_nothing_comes_out_as_the_prior(seed: int) -> None:
    ballots, ids, labels = _planted(500, NOTHING, seed)
    found = fit_aggregator(ballots, ids, labels, np.arange(500) // 2, seed=seed)
    prior = (labels + labels[:, SWAPPED]).mean(axis=0) / 2
    spread = np.abs(found.aggregator.aggregate(ballots, ids) - prior).max()
    assert spread < 0.03
    assert log_loss(labels, found.proba) < log_loss(labels, found.prior) + 0.01


def test_a_juror_that_tells_nothing_loses_its_say() -> None:
    ballots, ids, labels = _planted(900, replace(UNFITTED, temperature=8.0), 7)
    noise = _planted(900, UNFITTED, 8)[0].assign(judge="noise")
    jury = pd.concat([ballots, noise], ignore_index=True)
    found = fit_aggregator(jury, ids, labels, np.arange(900)).aggregator
    assert found.judges["noise"] < 0.3 < 1.5 < found.judges["me"]


def test_ties_that_never_occurred_are_rare_and_not_impossible() -> None:
    ballots, ids, labels = _planted(300, replace(UNFITTED, tie=-10.0, both=0.0, temperature=9.0), 4)
    proba = fit_aggregator(ballots, ids, labels, np.arange(300)).proba
    assert labels[:, 2].sum() == 0
    assert 0 < proba[:, 2].max() < 0.02


def test_cross_fitting_does_not_look_at_a_prompt_s_own_labels() -> None:
    """Two prompts in five are labelled by whim. What is said of a prompt must not change with its
    labels, whatever they are."""
    ballots, ids, labels = _planted(60, replace(UNFITTED, temperature=6.0), 9)
    groups = np.arange(60) // 12
    before = fit_aggregator(ballots, ids, labels, groups)
    changed = labels.copy()
    changed[groups == 2] = changed[groups == 2][:, SWAPPED]
    after = fit_aggregator(ballots, ids, changed, groups)
    assert np.array_equal(before.proba[groups == 2], after.proba[groups == 2])
    assert not np.array_equal(before.proba[groups != 2], after.proba[groups != 2])


def test_fitting_knows_no_sides() -> None:
    ballots, ids, labels = _planted(200, replace(UNFITTED, temperature=5.0), 10)
    here = fit_aggregator(ballots, ids, labels, np.arange(200))
    there = fit_aggregator(_swapped(ballots), ids, labels[:, SWAPPED], np.arange(200))
    np.testing.assert_allclose(there.proba, here.proba[:, SWAPPED], rtol=1e-3)


@given(st.lists(st.integers(0, 12), min_size=5, max_size=80), st.integers(2, 6))
def test_folds_keep_groups_together_and_are_never_empty(groups: list[int], folds: int) -> None:
    codes = np.unique(groups, return_inverse=True)[1]
    fold = grouped_folds(codes, folds, seed=0)
    for code in range(codes.max() + 1):
        assert len(set(fold[codes == code])) == 1
    assert set(fold) == set(range(min(folds, codes.max() + 1)))


def test_what_cannot_be_fitted_on_is_said() -> None:
    ballots, ids, labels = _planted(6, UNFITTED, 11)
    with pytest.raises(ArenaJudgeError, match="no labelled battle has a readable ballot"):
        fit_aggregator(ballots, [f"other {n}" for n in ids], labels, np.arange(6))
    with pytest.raises(ArenaJudgeError, match="2 prompts are too few"):
        fit_aggregator(ballots, ids, labels, np.arange(6) % 2)
    labels[:] = np.nan
    with pytest.raises(ArenaJudgeError, match="no labelled battle"):
        fit_aggregator(ballots, ids, labels, np.arange(6))


# --- consistency ----------------------------------------------------------------------------------


def test_consistency_tells_bias_from_merit() -> None:
    shown = ballot_table(IDS, "me", _certain("A", "A", "AB"))
    turned = ballot_table(IDS, "me", _certain("B", "A", "AB"), order="BA")
    lost = ballot_table(["x"], "me", np.full((1, 5, 4), np.nan), order="BA").assign(sample=1)
    found = report_consistency(pd.concat([shown, turned, lost], ignore_index=True))
    assert (found.ballots, found.unreadable, found.pairs) == (7, 1, 3)
    assert found.order_consistency == pytest.approx(2 / 3)
    assert found.position_bias == pytest.approx(1 / 3)  # x goes to what is shown first
    assert found.low < found.position_bias < found.high
    assert found.first == pytest.approx(3 / 4)
    assert "1 of 7 ballots unreadable (14.3%)" in found.lines()[0]


def test_one_order_alone_shows_no_bias() -> None:
    found = report_consistency(ballot_table(IDS, "me", _certain("A", "A", "B")))
    assert (found.pairs, found.first) == (0, pytest.approx(2 / 3))
    assert np.isnan(found.position_bias)
    assert "takes both orders" in found.lines()[1]
    nothing = report_consistency(ballot_table([], "me", np.zeros((0, 5, 4))))
    assert (nothing.ballots, np.isnan(nothing.unreadable_rate)) == (0, True)
