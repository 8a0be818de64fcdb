"""Labels from a file of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from judge.comparing.label_files import read_label_file, relabelled
from judge.errors import InputError

A, B, TIE, NONE = [1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [np.nan] * 3
HEADER = "id,winner_model_a,winner_model_b,winner_tie,note"


def write(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_what_view_writes_is_read(tmp_path: Path) -> None:
    file = write(tmp_path / "labels.csv", "1,1,0,0,mine", "2,0,0,1,", "3,,,,", "4,0.2,0.3,0.5,x")
    found = read_label_file(file)
    assert {name: label.tolist() for name, label in found.items()} == {
        "1": A,
        "2": TIE,
        "4": [0.2, 0.3, 0.5],
    }
    words = write(tmp_path / "words.csv", "1,model_a", "x,both", header="id,winner")
    assert {k: v.tolist() for k, v in read_label_file(words).items()} == {"1": A, "x": TIE}


@pytest.mark.parametrize(
    ("rows", "header", "said"),
    [
        (["1,1,0,0,", "2,1,0,0,", "1,0,1,0,"], HEADER, "row 4, column id: is '1' again"),
        (["1,1,0,0,", "1,1,0,0,"], HEADER, "again"),
        ([",1,0,0,"], HEADER, "row 2, column id: is empty"),
        (["1,1,1,0,"], HEADER, "sums"),
        (["1,,,,"], HEADER, "has no labels"),
        (["1,b"], "id,response", "has no labels"),
        (["1,b"], "name,winner", "id"),
        ([], HEADER, "has no labels"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, rows: list[str], header: str, said: str) -> None:
    file = write(tmp_path / "labels.csv", *rows, header=header)
    with pytest.raises(InputError) as caught:
        read_label_file(file)
    assert said in str(caught.value)
    assert "labels.csv" in str(caught.value)


def test_labels_are_laid_over_those_there_are() -> None:
    ids = ["a", "b", "c", "d"]
    own = np.array([A, B, NONE, TIE])
    given = {"a": np.array(B), "b": np.array(B), "c": np.array(A), "z": np.array(A)}
    found = relabelled(ids, own, given)
    np.testing.assert_array_equal(found.labels, [B, B, A, TIE])
    assert (found.given, found.added, found.changed, found.unknown) == (3, 1, 1, ("z",))
    np.testing.assert_array_equal(own[0], A)
    only = relabelled(ids, own, given, only=True)
    np.testing.assert_array_equal(only.labels, [B, B, A, NONE])


def test_ids_that_are_not_there_or_not_alone() -> None:
    own = np.array([A, B])
    with pytest.raises(InputError, match="none of its ids is among the battles"):
        relabelled(["a", "b"], own, {"z": np.array(A)}, file="mine.csv")
    with pytest.raises(InputError, match="labels 'a', and 2 battles have that id"):
        relabelled(["a", "a"], own, {"a": np.array(A)})
    # Ids that occur twice are no matter where no label is for them.
    found = relabelled(["a", "a", "b"], np.array([A, B, B]), {"b": np.array(A)})
    np.testing.assert_array_equal(found.labels, [A, B, A])
