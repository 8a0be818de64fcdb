"""Battles with soft labels: files that every command reads, with the labels asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.battles import labels, read_battles
from judge.errors import InputError
from synth.data import AnnotatedSet
from synth.exporting.labels import hardened, margins, outcomes, training_labels
from synth.exporting.preference import ENDINGS, write_preferences
from synth.soft_labels import soft_labels

Make = Callable[..., Any]


@pytest.fixture
def data(said: Make, make_set: Make, battles_called: Make) -> AnnotatedSet:
    """Four battles: the annotators are for A, for B, undecided, and silent on the last; people
    have a word on the second and the last."""
    battles = battles_called(["one", "two", "three", "four"])
    battles["label_a"] = [np.nan, 1.0, np.nan, 0.5]
    battles["label_b"] = [np.nan, 0.0, np.nan, 0.25]
    battles["label_tie"] = [np.nan, 0.0, np.nan, 0.25]
    battles["votes_a"] = battles["votes_b"] = battles["votes_tie"] = np.nan
    battles["category"] = ['code, "quoted"', None, "law\nlines", "x"]
    battles["closeness"] = [0.25, 0.5, np.nan, 1.0]
    battles["write"] = ""
    records = [
        *(said("one", "A", verdict="A", order=order) for order in ("AB", "BA")),
        *(said("two", "B", verdict="B", order=order) for order in ("AB", "BA")),
        said("three", "A", verdict="A", order="AB"),
        said("three", "B", verdict="B", order="BA"),
    ]
    return make_set(records, battles)


@pytest.mark.parametrize("ending", ENDINGS)
def test_battles_are_read_back_with_their_labels(
    data: AnnotatedSet, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"train{ending}"
    tally = write_preferences(path, data, training_labels(data))
    assert (tally.rows, tally.battles) == (3, 3)
    assert [entry.words for entry in tally.left_out] == ["1 battle that nobody could judge"]
    found = read_battles(path)
    assert found["id"].tolist() == ["one", "two", "three"]
    for name in ("prompt", "response_a", "response_b", "model_a"):
        assert found[name].tolist() == data.battles[name].tolist()[:3]
    wanted = soft_labels(data).proba[:3]
    shown = labels(found)
    assert shown is not None
    assert np.array_equal(shown, wanted)
    assert (np.abs(shown.sum(axis=1) - 1) < 1e-9).all()
    assert [str(cell) for cell in found["label_from"]] == ["annotators"] * 3
    assert [int(cell) for cell in found["ballots"]] == [2, 2, 2]
    assert found["category"].tolist()[::2] == ['code, "quoted"', "law\nlines"]
    assert float(found["closeness"].iloc[1]) == 0.5
    assert float(found["human_a"].iloc[1]) == 1.0
    assert not {"write", "votes_a"} & set(found.columns)


@pytest.mark.parametrize(
    ("which", "origins", "second"),
    [
        ("annotators", ["annotators", "annotators", "annotators", ""], [0.0, 1.0, 0.0]),
        ("human", ["annotators", "human", "annotators", "human"], [1.0, 0.0, 0.0]),
        ("mixed", ["annotators", "mixed", "annotators", "human"], [0.5, 0.5, 0.0]),
    ],
)
def test_whose_word_the_label_is(
    data: AnnotatedSet, which: str, origins: list[str], second: list[float]
) -> None:
    found = training_labels(data, which)
    assert found.origin == origins
    assert found.proba[1].tolist() == second
    assert np.isnan(found.proba[3]).all() == (which == "annotators")
    if which != "annotators":
        assert found.proba[3].tolist() == [0.5, 0.25, 0.25]


def test_hard_labels_are_the_likeliest_outcome_and_a_draw_is_a_tie(data: AnnotatedSet) -> None:
    found = training_labels(data, "human", hard=True)
    assert found.proba.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 1], [1, 0, 0]]


@given(
    st.lists(
        st.tuples(*[st.floats(0, 1)] * 3).filter(lambda row: sum(row) > 1e-3),
        min_size=1,
        max_size=8,
    )
)
def test_outcomes_turn_with_the_battle(rows: list[tuple[float, float, float]]) -> None:
    proba = np.array(rows)
    proba /= proba.sum(axis=1, keepdims=True)
    swapped = proba[:, [1, 0, 2]]
    assert np.array_equal(hardened(swapped), hardened(proba)[:, [1, 0, 2]])
    assert np.array_equal(margins(swapped), margins(proba))
    assert ((outcomes(proba) == 2) | (proba.argmax(axis=1) == outcomes(proba))).all()


def test_without_labels_there_is_nothing_to_write(
    said: Make, make_set: Make, tmp_path: Path
) -> None:
    data = make_set([said("one", "A", verdict="A")])
    data.annotations["verdict_A"] = np.nan
    labelled = training_labels(data, source="verdict")
    with pytest.raises(InputError, match="nothing to write in this form: 1 battle whose ballots"):
        write_preferences(tmp_path / "train.csv", data, labelled)
    assert list(tmp_path.iterdir()) == []


def test_what_a_file_says_already_does_not_stand_twice(data: AnnotatedSet, tmp_path: Path) -> None:
    write_preferences(tmp_path / "once.parquet", data, training_labels(data, "human"))
    again = AnnotatedSet("again", read_battles(tmp_path / "once.parquet"), data.annotations)
    write_preferences(tmp_path / "twice.csv", again, training_labels(again))
    columns = pd.read_csv(tmp_path / "twice.csv").columns
    assert columns.is_unique
    assert read_battles(tmp_path / "twice.csv")["label_from"].tolist() == ["annotators"] * 3
