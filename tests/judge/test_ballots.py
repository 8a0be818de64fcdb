"""Ballot tables: votes and their distributions, criterion by criterion."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from judge.ballots import CRITERIA, VOTES, ballot_table

Floats = npt.NDArray[np.float64]

SWAPPED = [1, 0, 2, 3]


def _random(battles: int) -> Floats:
    return np.random.default_rng(1).dirichlet(np.ones(4), size=(battles, len(CRITERIA)))


def _all(*distribution: float) -> Floats:
    """One battle's votes, the same on each criterion."""
    return np.tile(np.array(distribution), (1, len(CRITERIA), 1))


def test_the_columns_are_those_that_are_told_of() -> None:
    table = ballot_table(["x", "y"], "me", _random(2))
    votes = [column for name in CRITERIA for column in (name, *(f"{name}_{v}" for v in VOTES))]
    head = ["id", "judge", "order", "sample", "part"]
    assert list(table.columns) == [*head, *votes, "cut", "reason"]
    assert table["id"].tolist() == ["x", "y"]
    assert set(table["judge"]) == {"me"}
    assert set(table["order"]) == {"AB"}
    assert set(table["sample"]) == set(table["part"]) == set(table["cut"]) == {0}
    assert set(table["reason"]) == {""}
    assert set(ballot_table(["x"], "me", _random(1), order="BA")["order"]) == {"BA"}


def test_ballots_of_several_judges_orders_samples_and_parts() -> None:
    votes = [_random(1)[0], None, _random(1)[0]]
    table = ballot_table(
        ["x", "x", "y"],
        ["one", "two", "one"],
        votes,
        order=["AB", "BA", "AB"],
        sample=[0, 1, 2],
        part=[0, 0, 1],
        cut=[0, 120, 7],
        reason=["", "empty reply", ""],
        weight=[1.0, 1.0, 0.25],
        reply=["{}", "", "{}"],
    )
    assert table["judge"].tolist() == ["one", "two", "one"]
    assert table["order"].tolist() == ["AB", "BA", "AB"]
    assert table["sample"].tolist() == [0, 1, 2]
    assert table["part"].tolist() == [0, 0, 1]
    assert table["cut"].tolist() == [0, 120, 7]
    assert table["reason"].tolist() == ["", "empty reply", ""]
    assert table["weight"].tolist() == [1.0, 1.0, 0.25]
    assert table["reply"].tolist() == ["{}", "", "{}"]


def test_what_was_not_asked_or_not_read_is_null() -> None:
    asked = np.full((len(CRITERIA), len(VOTES)), np.nan)
    asked[1] = [0.0, 0.0, 1.0, 0.0]
    table = ballot_table(["x", "y"], "me", [asked, None])
    assert table["accuracy"].tolist()[0] == "AB"
    assert table["accuracy"].isna().tolist() == [False, True]
    for criterion in CRITERIA:
        if criterion != "accuracy":
            assert table[criterion].isna().all()
    columns = [f"{criterion}_{vote}" for criterion in CRITERIA for vote in VOTES]
    assert table[columns].isna().sum(axis=1).tolist() == [16, 20]


def test_batches_have_the_same_types_whatever_they_hold() -> None:
    # The first batch of a file says what its columns are.
    full = ballot_table(["x"], "me", _random(1))
    for other in (ballot_table(["x"], "me", [None]), ballot_table([], "me", [])):
        assert other.dtypes.equals(full.dtypes)


def test_lengths_that_do_not_agree_are_refused() -> None:
    with pytest.raises(ValueError, match="for 1 ballots"):
        ballot_table(["x"], "me", _random(2))
    with pytest.raises(ValueError, match="length"):
        ballot_table(["x"], "me", _random(1), reason=["", ""])


def test_each_vote_is_the_likeliest_of_its_distribution() -> None:
    votes = _random(200)
    table = ballot_table([str(n) for n in range(200)], "me", votes)
    for place, criterion in enumerate(CRITERIA):
        columns = table[[f"{criterion}_{vote}" for vote in VOTES]].to_numpy()
        assert np.array_equal(columns, votes[:, place])
        assert table[criterion].tolist() == [VOTES[n] for n in columns.argmax(axis=1)]


@pytest.mark.parametrize(
    ("distribution", "vote"),
    [
        ((0.6, 0.2, 0.2, 0.0), "A"),
        ((0.2, 0.6, 0.2, 0.0), "B"),
        ((0.2, 0.2, 0.6, 0.0), "AB"),
        ((0.0, 0.0, 0.0, 1.0), "NA"),
        # Neither response may gain by coming first.
        ((0.4, 0.4, 0.2, 0.0), "AB"),
    ],
)
def test_known_votes(distribution: tuple[float, ...], vote: str) -> None:
    table = ballot_table(["x"], "me", _all(*distribution))
    assert set(table[list(CRITERIA)].iloc[0]) == {vote}


def test_votes_swap_with_the_responses() -> None:
    votes = np.concatenate([_random(100), _all(0.4, 0.4, 0.2, 0.0), _all(0.1, 0.1, 0.8, 0.0)])
    ids = [str(n) for n in range(len(votes))]
    here, there = ballot_table(ids, "me", votes), ballot_table(ids, "me", votes[..., SWAPPED])
    exchanged = {"A": "B", "B": "A", "AB": "AB", "NA": "NA"}
    for criterion in CRITERIA:
        assert here[criterion].map(exchanged).tolist() == there[criterion].tolist()


def test_no_battles_make_an_empty_table_with_all_columns() -> None:
    empty = ballot_table([], "me", np.zeros((0, len(CRITERIA), len(VOTES))))
    assert len(empty) == 0
    assert list(empty.columns) == list(ballot_table(["x"], "me", _random(1)).columns)
