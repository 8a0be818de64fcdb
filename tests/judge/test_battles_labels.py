"""Who won: every way a file may say it, and labels that say nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from judge.battles import labels, read_battles, swap
from judge.errors import InputError
from judge.files.labelling import VOTES

A, B, TIE, NONE = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [np.nan] * 3


def _jsonl(folder: Path, *labels: Mapping[str, object]) -> Path:
    battle: dict[str, object] = {"prompt": "q", "response_a": "a", "response_b": "b"}
    path = folder / "battles.jsonl"
    path.write_text("".join(json.dumps({**battle, **label}) + "\n" for label in labels))
    return path


def _csv(folder: Path, text: str) -> Path:
    path = folder / "battles.csv"
    path.write_text(text)
    return path


def _labels(folder: Path, header: str, *rows: str) -> list[list[float]] | None:
    text = "".join(f"q,a,b,{row}\n" for row in rows)
    battles = read_battles(_csv(folder, f"prompt,response_a,response_b,{header}\n{text}"))
    assert (set(header.split(",")) - set(VOTES)).isdisjoint(battles.columns)
    found = labels(battles)
    return None if found is None else found.tolist()


def _same(found: list[list[float]] | None, *expected: list[float]) -> None:
    assert found is not None
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)


def test_labels_as_flags_and_probabilities(tmp_path: Path) -> None:
    rows = ["1,0,0", "0,1.0,0", "False,false,TRUE", "0.2,0.3,0.5", ",,", " 1 ,0,0", "nan,null,"]
    found = _labels(tmp_path, "winner_model_a,winner_model_b,winner_tie", *rows)
    _same(found, A, B, TIE, [0.2, 0.3, 0.5], NONE, A, NONE)


def test_rounded_probabilities_are_scaled(tmp_path: Path) -> None:
    found = _labels(tmp_path, "winner_model_a,winner_model_b,winner_tie", "0.33,0.33,0.33")
    _same(found, [1 / 3] * 3)


def test_labels_as_words(tmp_path: Path) -> None:
    words = ["a", "B", " model_A ", "model_b", "tie", "Tie (bothbad)", "both", "", "both_bad"]
    _same(_labels(tmp_path, "winner", *words), A, B, A, B, TIE, TIE, TIE, NONE, TIE)


def test_labels_as_votes(tmp_path: Path) -> None:
    found = _labels(tmp_path, "votes_a,votes_b,votes_tie,winner", "3,1,0,b", "0,0,0,b", "0,0,0,")
    _same(found, [0.75, 0.25, 0.0], B, NONE)


def test_how_many_voted_is_kept_and_swaps(tmp_path: Path) -> None:
    header = "prompt,response_a,response_b,votes_a,votes_b,votes_tie"
    battles = read_battles(_csv(tmp_path, f"{header}\nq,a,b,3,1,0\nq,a,b,,,\n"))
    _same(battles[list(VOTES)].to_numpy().tolist(), [3, 1, 0], NONE)
    assert swap(battles)[list(VOTES)].iloc[0].tolist() == [1, 3, 0]
    assert set(VOTES).isdisjoint(read_battles(tmp_path / "battles.csv", labels=False).columns)


def test_the_first_label_that_says_something_counts(tmp_path: Path) -> None:
    header = "winner,votes_a,votes_b,votes_tie,winner_model_a,winner_model_b,winner_tie"
    found = _labels(tmp_path, header, "a,0,2,0,0,0,1", "a,0,2,0,,,", "a,,,,,,", ",,,,,,")
    _same(found, TIE, B, A, NONE)


def test_a_table_that_was_written_reads_back_with_its_labels(tmp_path: Path) -> None:
    path = _jsonl(tmp_path, {"winner": "a"}, {"winner": None})
    battles = read_battles(path)
    battles.to_json(tmp_path / "again.jsonl", orient="records", lines=True)
    pd.testing.assert_frame_equal(read_battles(tmp_path / "again.jsonl"), battles)


def test_native_labels(tmp_path: Path) -> None:
    columns = ("winner_model_a", "winner_model_b", "winner_tie")
    values = [(True, False, False), (0, 1, 0), (0.0, 0.0, 1.0), (None, None, None)]
    rows = [dict(zip(columns, value, strict=True)) for value in values]
    found = labels(read_battles(_jsonl(tmp_path, *rows)))
    assert found is not None
    np.testing.assert_array_equal(found, [A, B, TIE, NONE])


@pytest.mark.parametrize(
    ("header", "cells", "column", "what"),
    [
        (
            "winner_model_a,winner_model_b,winner_tie",
            "1,1,0",
            "winner_model_a",
            "to 2, not to 1",
        ),
        ("winner_model_a,winner_model_b,winner_tie", "0,0,0", "winner_model_a", "to 0, not"),
        ("winner_model_a,winner_model_b,winner_tie", "0.5,0.52,0", "winner_model_a", "to 1.02"),
        ("winner_model_a,winner_model_b,winner_tie", "1,,0", "winner_model_b", "is empty where"),
        ("winner_model_a,winner_model_b,winner_tie", "0,2,-1", "winner_model_b", "is 2, which"),
        ("winner_model_a,winner_model_b,winner_tie", "0,0,inf", "winner_tie", "is inf, which"),
        (
            "winner_model_a,winner_model_b,winner_tie",
            "yes,0,0",
            "winner_model_a",
            "is 'yes', not a",
        ),
        ("votes_a,votes_b,votes_tie", "1,-1,0", "votes_b", "not a number of votes"),
        ("votes_a,votes_b,votes_tie", "1,x,0", "votes_b", "is 'x', not a number"),
        ("winner", "c", "winner", "is 'c', which is no winner; write a, b or tie"),
        ("winner", "gpt-4", "winner", "'gpt-4'"),
    ],
)
def test_labels_that_are_none(
    tmp_path: Path, header: str, cells: str, column: str, what: str
) -> None:
    empty = "," * header.count(",")
    text = f"prompt,response_a,response_b,{header}\nq,a,b,{empty}\nq,a,b,{cells}\n"
    path = _csv(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_battles(path)
    assert (caught.value.row, caught.value.column) == (3, column)
    assert what in str(caught.value)
    unlabelled = read_battles(path, labels=False)
    assert labels(unlabelled) is None
    assert set(header.split(",")).isdisjoint(unlabelled.columns)


def test_a_label_column_without_its_companions(tmp_path: Path) -> None:
    path = _csv(tmp_path, "prompt,response_a,response_b,winner_model_a,winner_tie\nq,a,b,1,0\n")
    with pytest.raises(InputError, match="column winner_model_b: is missing beside winner_model_a"):
        read_battles(path)
    assert len(read_battles(path, labels=False)) == 1
