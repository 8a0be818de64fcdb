"""What is measured of annotations: each fault is found where it was put, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.ballots import CRITERIA, VOTES
from judge.consistency import report_consistency
from synth.checking.agreement import (
    Repeated,
    annotator_report,
    repeated_samples,
    sample_reports,
)
from synth.checking.balance import balance
from synth.checking.criteria import contradictions, criteria
from synth.checking.estimates import Sampling
from synth.checking.looks import LOOKS, looks
from synth.checking.orders import by_order, one_order, order_reports, shown_orders
from synth.checking.reasons import reasons
from synth.checking.records import NA, SILENT, TIE, Records, grouped, records_of, sides
from synth.checking.refusals import refusals, refusing_records, refusing_responses
from synth.data import REASONS, AnnotatedSet

Make = Callable[..., AnnotatedSet]
Rng = np.random.Generator


def _sampling(records: Records) -> Sampling:
    return Sampling(records.prompts, rounds=200)


# --- orders ---------------------------------------------------------------------------------------


def test_consistency_is_what_it_was_made_to_be(annotated_set: Make, rng: Rng) -> None:
    records = records_of(annotated_set(rng, 600, consistency=0.7))
    found = order_reports(records, _sampling(records))[0]
    assert found.same.of == found.battles == 600
    assert found.same.low < 0.7 < found.same.high
    # Of what is inconsistent, all goes to what is shown first.
    assert found.bias.value == pytest.approx(1.0 - found.same.value)
    assert found.by["verdict"] == pytest.approx((found.same.value, found.bias.value))
    assert set(found.by) == {*CRITERIA, "verdict"}


def test_the_figures_are_those_of_judge_consistency(annotated_set: Make, rng: Rng) -> None:
    data = annotated_set(
        rng, 80, consistency=0.6, samples=2, unreadable=0.2, verdict=False, sharpness=0.6
    )
    records = records_of(data)
    found = order_reports(records, _sampling(records))[0]
    said = report_consistency(data.annotations)
    assert found.whole == said
    assert found.same.of == said.pairs
    assert found.same.value == pytest.approx(said.order_consistency)
    assert found.bias.value == pytest.approx(said.position_bias)
    assert found.unreadable == said.unreadable > 0


def test_one_order_alone_says_nothing_of_consistency(annotated_set: Make, rng: Rng) -> None:
    records = records_of(annotated_set(rng, 20, orders=("AB",)))
    found = order_reports(records, _sampling(records))[0]
    assert not found.same.known
    assert found.one_order == 0
    assert len(by_order(records).battle) == 0


def test_records_that_are_not_there_are_counted(annotated_set: Make, rng: Rng) -> None:
    data = annotated_set(rng, 20, samples=2)
    whole = records_of(data)
    assert order_reports(whole, _sampling(whole))[0].missing == 0
    # All of the first battle's BA, and one sample of the second's.
    said = data.annotations
    gone = (said["id"] == "b0") & (said["order"] == "BA")
    gone |= (said["id"] == "b1") & (said["order"] == "AB") & (said["sample"] == 1)
    records = records_of(replace(data, annotations=said[~gone]))
    found = order_reports(records, _sampling(records))[0]
    assert found.missing == 3
    assert one_order(records, 0).tolist() == [0]


def test_how_replies_ended(annotated_set: Make, rng: Rng) -> None:
    data = annotated_set(rng, 10)
    data.annotations.loc[:3, "finish"] = "length"
    data.annotations.loc[4, ["finish", "reason"]] = ["refusal", "the model declined to answer"]
    shares = [f"{name}_{vote}" for name in (*CRITERIA, "verdict") for vote in VOTES]
    data.annotations.loc[4:5, shares] = np.nan
    data.annotations.loc[5, "reason"] = "no reply: the server is gone"
    records = records_of(data)
    found = order_reports(records, _sampling(records))[0]
    assert (found.cut, found.declined, found.unanswered, found.unreadable) == (4, 1, 1, 1)
    bare = replace(data, annotations=data.annotations.drop(columns="finish"))
    assert order_reports(records_of(bare), _sampling(records))[0].cut is None


def test_battles_that_could_not_be_asked_about_are_neither_missing_nor_unreadable(
    annotated_set: Make, rng: Rng
) -> None:
    data = annotated_set(rng, 10)
    said = data.annotations
    said = said[(said["id"] != "b0") | (said["order"] == "AB")].copy()
    mine = said["id"] == "b0"
    said.loc[mine, ["order", "reason"]] = ["", "nobody wrote response a"]
    said.loc[mine, "attempts"] = 0
    said.loc[mine, [f"{name}_{vote}" for name in (*CRITERIA, "verdict") for vote in VOTES]] = np.nan
    records = records_of(replace(data, annotations=said))
    found = order_reports(records, _sampling(records))[0]
    assert (found.unasked, found.missing, found.unreadable) == (1, 0, 0)
    assert (found.asked, found.battles) == (18, 9)
    assert shown_orders(records) == ("AB", "BA")


# --- agreement ------------------------------------------------------------------------------------


def test_samples_that_agree_and_do_not(annotated_set: Make, rng: Rng) -> None:
    alike = records_of(annotated_set(rng, 30, samples=3))
    found = sample_reports(alike, _sampling(alike))
    assert [(one.agreed.value, one.alpha, one.most) for one in found] == [(1.0, 1.0, 3)]
    assert found[0].agreed.low < 1.0
    data = annotated_set(rng, 400, samples=2)
    drawn = np.eye(4)[rng.integers(0, 2, len(data.annotations))]
    for place, vote in enumerate(VOTES):
        data.annotations[f"verdict_{vote}"] = drawn[:, place]
    records = records_of(data)
    found = sample_reports(records, _sampling(records))
    assert found[0].agreed.low < 0.5 < found[0].agreed.high
    assert abs(found[0].alpha) < 0.15


def test_one_sample_agrees_with_nobody(annotated_set: Make, rng: Rng) -> None:
    records = records_of(annotated_set(rng, 10))
    assert sample_reports(records, _sampling(records)) == []
    assert annotator_report(records, _sampling(records)) is None
    assert len(repeated_samples(records).battle) == 0


@given(
    counts=st.lists(
        st.tuples(*[st.integers(0, 4)] * 3).filter(lambda row: sum(row) > 1), min_size=2, max_size=8
    )
)
def test_alpha_of_several_is_krippendorffs(counts: list[tuple[int, int, int]]) -> None:
    krippendorff = pytest.importorskip("krippendorff")
    table = np.array(counts, dtype=float)
    if (table.sum(axis=0) > 0).sum() < 2:
        return  # one class alone: nothing to disagree about
    theirs = krippendorff.alpha(value_counts=table, level_of_measurement="nominal")
    assert Repeated(np.arange(len(table)), table).alpha == pytest.approx(theirs)


def test_annotators_are_compared_two_by_two(annotated_set: Make, rng: Rng) -> None:
    data = annotated_set(rng, 300, annotators=("good", "bad", "new"), right=1.0)
    said = data.annotations
    of_bad = said["judge"] == "bad"
    # One that says A whatever it sees, and one that was asked about the first battles only.
    said.loc[of_bad, [f"verdict_{vote}" for vote in VOTES]] = [1.0, 0.0, 0.0, 0.0]
    early = set(data.battles["id"][:40])
    data = replace(data, annotations=said[(said["judge"] != "new") | said["id"].isin(early)])
    records = records_of(data)
    found = annotator_report(records, _sampling(records))
    assert found is not None
    assert found.battles == 300
    by_name = {(one.first, one.second): one for one in found.pairs}
    assert by_name["good", "new"].accuracy.of == 40
    assert by_name["good", "new"].kappa == pytest.approx(1.0)
    assert by_name["bad", "good"].kappa == pytest.approx(0.0)
    assert by_name["bad", "good"].accuracy.value == pytest.approx(
        (data.battles["label_a"] == 1).mean()
    )


def test_annotators_of_different_battles_share_none(annotated_set: Make, rng: Rng) -> None:
    data = annotated_set(rng, 20, annotators=("one", "two"))
    half = set(data.battles["id"][:10])
    said = data.annotations
    mine = (said["judge"] == "one") == said["id"].isin(half)
    records = records_of(replace(data, annotations=said[mine]))
    assert annotator_report(records, _sampling(records)) is None


# --- labels and looks -----------------------------------------------------------------------------


def test_balance_beside_peoples_labels() -> None:
    proba = np.array([[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.2, 0.6], [np.nan] * 3])
    human = np.array([[0.0, 1, 0], [np.nan] * 3, [0, 0, 1.0], [1.0, 0, 0]])
    found = balance(proba, human, Sampling(np.arange(4), rounds=200))
    assert (found.battles, found.without, found.people) == (3, 1, 2)
    assert found.soft == pytest.approx((1.7 / 3, 0.7 / 3, 0.2))
    assert found.hard == pytest.approx((0.5, 0.5 / 3, 1 / 3))
    assert found.common == pytest.approx((0.6, 0.1, 0.3))
    assert found.human == pytest.approx((0.0, 0.5, 0.5))
    assert found.certain.value == pytest.approx(1 / 3)
    nothing = balance(np.full((2, 3), np.nan), None, Sampling(np.arange(2), rounds=200))
    assert (nothing.battles, nothing.without) == (0, 2)
    assert not nothing.certain.known


def test_length_counts_against_people_on_the_same_battles(rng: Rng) -> None:
    number = 400
    longer = rng.normal(size=number)
    more = np.column_stack([longer] * len(LOOKS))
    # Annotators always go for the longer one; people by chance, and on half of the battles.
    proba = np.where(longer[:, None] > 0, [0.9, 0.05, 0.05], [0.05, 0.9, 0.05])
    human = np.eye(3)[rng.integers(0, 2, number)]
    human[number // 2 :] = np.nan
    found = looks(proba, human, more, Sampling(np.arange(number), rounds=200))
    length = found.looks[0]
    assert length.won.value == length.here.value == 1.0
    assert length.won.of == number
    assert length.human.of == length.beyond.of == number // 2
    assert length.human.low < 0.5 < length.human.high
    assert length.beyond.value == pytest.approx(1.0 - length.human.value)
    assert found.slope > 1.0 > abs(found.human_slope)
    assert length.rank > 0.7 > abs(length.human_rank)


def test_looks_of_ties_and_of_equal_responses_are_not_known() -> None:
    proba = np.array([[0.1, 0.1, 0.8], [1.0, 0.0, 0.0], [np.nan] * 3])
    more = np.zeros((3, len(LOOKS)))
    more[0] = more[2] = 1.0
    found = looks(proba, None, more, Sampling(np.arange(3), rounds=200))
    assert not any(one.won.known or one.human.known for one in found.looks)
    assert np.isnan(found.human_slope)


# --- criteria and reasons -------------------------------------------------------------------------


def test_halo_and_its_absence(annotated_set: Make, rng: Rng) -> None:
    for chance, low, high in ((1.0, 1.0, 1.0), (0.0, 0.0, 0.05)):
        records = records_of(annotated_set(rng, 150, halo=chance))
        found = criteria(records, _sampling(records))
        assert low <= found.halo.value <= high
        assert not found.single
        assert np.allclose(np.diag(found.alike), 1.0)
        assert found.alike[0][1] == (1.0 if chance == 1.0 else pytest.approx(0.25, abs=0.1))


def test_a_verdict_under_every_criterion_says_nothing_of_criteria(
    annotated_set: Make, rng: Rng
) -> None:
    records = records_of(annotated_set(rng, 20, halo=1.0, verdict=False))
    assert criteria(records, _sampling(records)).single


def test_a_criterion_that_never_differs(annotated_set: Make, rng: Rng) -> None:
    data = annotated_set(rng, 20)
    data.annotations[[f"clarity_{vote}" for vote in VOTES]] = [0.0, 0.0, 0.1, 0.9]
    data.annotations[[f"relevance_{vote}" for vote in VOTES]] = np.nan
    data.annotations["relevance"] = None
    records = records_of(data)
    found = {one.name: one for one in criteria(records, _sampling(records)).criteria}
    assert (found["clarity"].most, found["clarity"].share) == ("NA", 1.0)
    assert "relevance" not in found


@pytest.mark.parametrize(
    ("verdict", "votes", "against"),
    [
        ("A", "A A B B AB", False),  # as many for either
        ("A", "B B A AB NA", True),
        ("B", "A NA NA NA NA", True),
        ("AB", "A A A A A", True),
        ("AB", "A A A A B", False),
        ("AB", "A NA NA NA NA", False),  # one vote alone is not most
        ("A", "NA NA NA NA NA", False),
    ],
)
def test_verdicts_against_their_own_votes(
    annotated_set: Make, rng: Rng, verdict: str, votes: str, against: bool
) -> None:
    data = annotated_set(rng, 1, orders=("AB",))
    for name, vote in zip((*CRITERIA, "verdict"), (*votes.split(), verdict), strict=True):
        for one in VOTES:
            data.annotations[f"{name}_{one}"] = float(one == vote)
    found, told = contradictions(records_of(data))
    assert told.tolist() == [True]
    assert found.tolist() == [against]


def test_reasons_that_are_missing_and_templates(annotated_set: Make, rng: Rng) -> None:
    data = annotated_set(rng, 50)
    found, flat = reasons(records_of(data))
    assert found is not None
    assert (found.asked, found.missing, found.templated) == (500, 0, 0)
    assert not flat.any()
    said = data.annotations
    said["relevance_reason"] = None
    said.loc[: len(said) // 2, REASONS[1:]] = "Both  say what was\nasked."
    found, flat = reasons(records_of(data))
    assert found is not None
    assert found.missing == 100
    assert found.templated == 4 * (len(said) // 2 + 1)
    assert found.examples == (("both say what was asked.", 50),)
    assert flat.all()
    bare = replace(data, annotations=said.drop(columns=[*REASONS]))
    assert reasons(records_of(bare))[0] is None
    bare.annotations["ballot_reason"] = [f"since {n}" for n in range(len(said))]
    found, _ = reasons(records_of(bare))
    assert found is not None
    assert (found.asked, found.missing, found.distinct) == (100, 0, 100)


# --- refusals -------------------------------------------------------------------------------------


def test_refusals_of_annotators_and_of_models(annotated_set: Make, rng: Rng) -> None:
    data = annotated_set(rng, 6, unreadable=0.0)
    no = ("I'm sorry, but I cannot help with that.",)
    at_length = ("I cannot say which is better. " + "Here is more. " * 100,)
    data.battles["response_a"] = pd.Series([no, no, at_length, *data.battles["response_a"][3:]])
    data.battles["response_b"] = pd.Series([no, *data.battles["response_b"][1:]])
    responses = refusing_responses(data.battles)
    assert responses[0].tolist() == [True, True, False, False, False, False]
    assert responses[1].tolist() == [True, False, False, False, False, False]
    shares = [f"{name}_{vote}" for name in (*CRITERIA, "verdict") for vote in VOTES]
    data.annotations.loc[[0, 1], shares] = np.nan
    data.annotations.loc[0, "reply"] = "I can't assist with comparing these responses."
    # What could be read is no refusal, whatever it quotes.
    data.annotations.loc[2, "reply"] = "I can't assist with that. No: {...}"
    records = records_of(data)
    declined = refusing_records(records)
    assert np.flatnonzero(declined).tolist() == [0]
    proba = np.tile([0.2, 0.7, 0.1], (6, 1))
    found = refusals(records, declined, responses, proba)
    assert (found.declined, found.battles, found.one, found.both) == (1, 1, 1, 1)
    assert (found.against, found.labelled) == (1, 1)


# --- arrays ---------------------------------------------------------------------------------------


def test_what_a_distribution_comes_down_to() -> None:
    rows = [
        ([0.5, 0.2, 0.2, 0.1], 0),
        ([0.2, 0.5, 0.2, 0.1], 1),
        ([0.4, 0.4, 0.1, 0.1], TIE),
        ([0.4, 0.0, 0.4, 0.2], TIE),
        ([0.2, 0.2, 0.1, 0.5], NA),
        ([0.5, 0.0, 0.0, 0.5], 0),
        ([np.nan] * 4, SILENT),
    ]
    assert sides(np.array([row for row, _ in rows])).tolist() == [said for _, said in rows]


def test_groups_are_means_by_their_keys() -> None:
    keys = [np.array([2, 0, 2, 2]), np.array([1, 0, 1, 0])]
    found, means = grouped(keys, np.array([[1.0], [5.0], [3.0], [7.0]]), np.array([3.0, 1, 1, 1]))
    assert [part.tolist() for part in found] == [[0, 2, 2], [0, 0, 1]]
    assert means.ravel().tolist() == [5.0, 7.0, 1.5]
    none, means = grouped([np.zeros(0, np.int64)] * 2, np.zeros((0, 4)))
    assert [len(part) for part in none] == [0, 0]
    assert means.shape == (0, 4)
