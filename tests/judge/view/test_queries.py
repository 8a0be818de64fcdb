"""Which battles are shown, and in which order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from judge.view.queries import (
    NONE,
    Query,
    classes,
    contested,
    disagreement,
    select,
    surprise,
    uncertainty,
)

NAN = [np.nan] * 3
LABELS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], NAN, [0.5, 0.5, 0]])
FIRST = np.array([[0.9, 0.05, 0.05], [0.8, 0.1, 0.1], [0.3, 0.3, 0.4], [0.6, 0.2, 0.2], NAN])
SECOND = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.3, 0.4, 0.3], NAN, [0.4, 0.4, 0.2]])
PROBA = np.stack([FIRST, SECOND])
NOBODY = np.zeros(5, dtype=bool)


def rows(mine: np.ndarray = NOBODY, found: np.ndarray | None = None, **query: object) -> list[int]:
    return select(Query(**query), LABELS, PROBA, mine, found).tolist()  # type: ignore[arg-type]


def test_everything_is_in_the_order_of_the_file() -> None:
    assert rows() == [0, 1, 2, 3, 4]


def test_the_most_surprising_is_what_cost_most_where_there_is_a_label_and_a_judgment() -> None:
    assert rows(show="surprising") == [1, 2, 0]
    assert rows(show="surprising", judge=1) == [2, 4, 0, 1]
    assert surprise(LABELS, FIRST)[1] == pytest.approx(-np.log(0.1))


def test_the_least_sure_is_nearest_to_even() -> None:
    assert rows(show="unsure") == [2, 3, 1, 0]


def test_judges_disagree_where_they_would_choose_differently_farthest_apart_first() -> None:
    assert rows(show="disagree") == [1, 2]


def test_unjudged_is_what_any_judge_left_out() -> None:
    assert rows(show="unjudged") == [3, 4]


def test_own_labels_are_a_view_and_its_complement() -> None:
    mine = np.array([False, True, False, True, False])
    assert rows(mine, show="mine") == [1, 3]
    assert rows(mine, show="unlabelled") == [0, 2, 4]


@pytest.mark.parametrize(
    ("label", "expected"), [("a", [0]), ("b", [1]), ("tie", [2, 4]), ("none", [3])]
)
def test_by_label_and_an_even_split_is_a_tie(label: str, expected: list[int]) -> None:
    assert rows(label=label) == expected


@pytest.mark.parametrize(("predicted", "expected"), [("a", [0, 1, 3]), ("tie", [2]), ("none", [4])])
def test_by_what_the_judge_says(predicted: str, expected: list[int]) -> None:
    assert rows(predicted=predicted) == expected


def test_filters_and_words_go_together() -> None:
    found = np.array([True, False, True, True, True])
    assert rows(found=found, show="surprising", predicted="a") == [0]
    assert found.tolist() == [True, False, True, True, True]


def test_equals_stay_in_the_order_of_the_file() -> None:
    proba = np.tile([[[0.4, 0.4, 0.2]]], (1, 6, 1))
    chosen = select(Query("unsure"), np.full((6, 3), np.nan), proba, np.zeros(6, dtype=bool))
    assert chosen.tolist() == list(range(6))


DISTRIBUTIONS = arrays.arrays(
    np.float64, (3, 4, 3), elements=st.floats(0, 1).map(lambda x: x + 1e-6)
).map(lambda p: p / p.sum(axis=-1, keepdims=True))


@given(DISTRIBUTIONS)
def test_disagreement_and_uncertainty_are_shares_and_do_not_ask_who_is_first(p: np.ndarray) -> None:
    apart = disagreement(p)
    assert ((apart >= 0) & (apart <= 1)).all()
    np.testing.assert_allclose(apart, disagreement(p[::-1]), atol=1e-12)
    np.testing.assert_allclose(apart, disagreement(p[..., [1, 0, 2]]), atol=1e-12)
    sure = uncertainty(p)
    assert ((sure >= 0) & (sure <= 1)).all()
    assert (contested(p) == contested(p[::-1])).all()


@given(DISTRIBUTIONS)
def test_an_unjudged_row_is_as_if_the_judge_were_not_there(p: np.ndarray) -> None:
    without = p.copy()
    without[1] = np.nan
    np.testing.assert_allclose(disagreement(without), disagreement(p[[0, 2]]), atol=1e-12)
    assert (contested(without) == contested(p[[0, 2]])).all()


def test_one_judge_cannot_disagree() -> None:
    assert np.isnan(disagreement(PROBA[:1])).all()
    assert not contested(PROBA[:1]).any()


def test_a_class_is_the_one_largest_share() -> None:
    cases = [
        [0.5, 0.3, 0.2],
        [0.2, 0.5, 0.3],
        [0.2, 0.3, 0.5],
        [0.4, 0.4, 0.2],
        [0.4, 0.2, 0.4],
        NAN,
    ]
    assert classes(np.array(cases)).tolist() == [0, 1, 2, 2, 2, NONE]
