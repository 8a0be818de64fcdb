"""Soft labels: verdicts pooled so that position bias cancels, votes counted as `compare` does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judge.aggregation import UNFITTED, Aggregator, aggregate
from judge.ballots import ballot_table
from judge.errors import InputError
from judge.judges.recorded import RecordedJudge
from synth.data import AnnotatedSet
from synth.soft_labels import read_aggregator, soft_labels, verdict_shares

Make = Callable[..., AnnotatedSet]
Floats = npt.NDArray[np.float64]

A, B, AB, NA = np.eye(4)


def _said(*rows: tuple[str, str, str, int, Floats | None], judge: str = "t") -> AnnotatedSet:
    """A set of (id, annotator, order, sample, verdict), whose votes are all for B."""
    ids, judges, orders, samples, verdicts = map(list, zip(*rows, strict=True))
    votes = [None if one is None else np.tile(B, (5, 1)) for one in verdicts]
    table = ballot_table(ids, judges, votes, order=orders, sample=samples, verdict=verdicts)
    names = list(dict.fromkeys(ids))
    battles = pd.DataFrame({"id": names, "prompt": [("p",)] * len(names)})
    battles["response_a"] = battles["response_b"] = [("r",)] * len(names)
    return AnnotatedSet("said", battles, table)


def test_what_is_shown_first_gains_nothing() -> None:
    data = _said(
        ("one", "t", "AB", 0, A), ("one", "t", "BA", 0, B),
        ("two", "t", "AB", 0, A), ("two", "t", "AB", 1, A), ("two", "t", "AB", 2, A),
        ("two", "t", "BA", 0, B),
    )  # fmt: skip
    assert soft_labels(data).proba == pytest.approx(np.array([[0.5, 0.5, 0.0]] * 2))


def test_equal_responses_are_a_tie_and_na_is_left_out() -> None:
    half = (A + NA) / 2
    data = _said(
        ("tie", "t", "AB", 0, AB), ("tie", "t", "BA", 0, AB),
        ("half", "t", "AB", 0, half), ("half", "t", "BA", 0, B),
        ("none", "t", "AB", 0, NA), ("none", "t", "BA", 0, NA),
        ("unread", "t", "AB", 0, None),
    )  # fmt: skip
    found = soft_labels(data)
    assert found.proba[0].tolist() == [0.0, 0.0, 1.0]
    assert found.proba[1] == pytest.approx([1 / 3, 2 / 3, 0.0])
    assert np.isnan(found.proba[2:]).all()
    assert found.labelled.tolist() == [True, True, False, False]
    assert found.ballots.tolist() == [2, 2, 2, 0]


def test_annotators_weigh_the_same_unless_told() -> None:
    data = _said(
        ("one", "t", "AB", 0, A), ("one", "t", "BA", 0, A), ("one", "t", "BA", 1, A),
        ("one", "u", "AB", 0, B),
    )  # fmt: skip
    assert soft_labels(data).proba[0] == pytest.approx([0.5, 0.5, 0.0])
    heavy = Aggregator(judges={"t": 3.0})
    assert soft_labels(data, aggregator=heavy).proba[0] == pytest.approx([0.75, 0.25, 0.0])
    none = Aggregator(judges={"t": 0.0, "u": 0.0})
    assert np.isnan(soft_labels(data, aggregator=none).proba[0]).all()


def test_parts_of_a_conversation_count_by_their_weight() -> None:
    data = _said(("one", "t", "AB", 0, A), ("one", "t", "AB", 0, B))
    data.annotations["part"] = [0, 1]
    data.annotations["weight"] = [3.0, 1.0]
    found = soft_labels(data)
    assert found.proba[0] == pytest.approx([0.75, 0.25, 0.0])
    assert found.ballots.tolist() == [1]


def test_battles_without_a_verdict_are_counted_from_votes() -> None:
    data = _said(("one", "t", "AB", 0, A), ("two", "t", "AB", 0, B))
    said = data.annotations.copy()
    said.loc[1, [name for name in said if str(name).startswith("verdict_")]] = np.nan
    data = replace(data, annotations=said)
    found = soft_labels(data)
    assert found.by_verdict.tolist() == [True, False]
    assert found.proba[0].tolist() == [1.0, 0.0, 0.0]
    assert (found.proba[1] == aggregate(said, ["one", "two"])[1]).all()
    assert np.isnan(soft_labels(data, source="verdict").proba[1]).all()
    votes = soft_labels(data, source="votes")
    assert (votes.proba == aggregate(said, ["one", "two"])).all()
    assert not votes.by_verdict.any()
    with pytest.raises(InputError, match="no source"):
        soft_labels(data, source="guess")


def test_a_file_of_votes_has_the_probabilities_of_compare(
    annotated_set: Make, rng: np.random.Generator
) -> None:
    data = annotated_set(rng, 60, annotators=("t", "u"), verdict=False, unreadable=0.2)
    judge = RecordedJudge(data.annotations)
    # compare reads in batches
    parts = [judge.predict_proba(data.battles[start : start + 7]) for start in range(0, 60, 7)]
    found = soft_labels(data).proba
    assert np.array_equal(found, np.concatenate(parts), equal_nan=True)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_labels_are_distributions_that_no_order_of_rows_and_no_swap_changes(
    annotated_set: Make, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    data = annotated_set(
        rng, 8, annotators=("t", "u"), samples=2, unreadable=0.3, sharpness=rng.uniform(0.3, 0.95)
    )
    found = soft_labels(data).proba
    known = ~np.isnan(found[:, 0])
    assert (found[known] >= 0).all()
    assert found[known].sum(axis=1) == pytest.approx(1.0)
    mixed = data.annotations.sample(frac=1.0, random_state=seed % 2**31)
    assert np.array_equal(
        soft_labels(replace(data, annotations=mixed)).proba, found, equal_nan=True
    )
    swapped = data.annotations.rename(
        columns=lambda name: {"_A": f"{name[:-2]}_B", "_B": f"{name[:-2]}_A"}.get(name[-2:], name)
    )
    turned = soft_labels(replace(data, annotations=swapped)).proba
    assert np.array_equal(turned[:, [1, 0, 2]], found, equal_nan=True)


def test_an_aggregator_may_want_the_statistical_judges_strengths(
    annotated_set: Make, rng: np.random.Generator
) -> None:
    data = annotated_set(rng, 12, verdict=False)
    plain = soft_labels(data).proba
    leaning = Aggregator(covariates=(0.3,) * 6)
    found = soft_labels(data, aggregator=leaning).proba
    judge = RecordedJudge(data.annotations, leaning)
    assert np.array_equal(found, judge.predict_proba(data.battles))
    assert (found != plain).any()


def test_verdicts_alone_are_certainties() -> None:
    table = pd.DataFrame({"verdict": ["A", None, "AB"]})
    found = verdict_shares(table)
    assert found[0].tolist() == A.tolist()
    assert np.isnan(found[1]).all()
    assert found[2].tolist() == AB.tolist()
    assert np.isnan(verdict_shares(pd.DataFrame({"id": ["1"]}))).all()


def test_the_aggregator_of_a_judge_folder(tmp_path: Path) -> None:
    (tmp_path / "judge.yaml").write_text("kind: recorded\naggregator:\n  temperature: 3.5\n")
    assert read_aggregator(tmp_path) == replace(UNFITTED, temperature=3.5)
    assert read_aggregator(tmp_path / "judge.yaml").temperature == 3.5
    (tmp_path / "judge.yaml").write_text("kind: statistical\n")
    with pytest.raises(InputError, match="has no aggregator"):
        read_aggregator(tmp_path)
    with pytest.raises(InputError, match="not found"):
        read_aggregator(tmp_path / "nowhere")
