"""One's own labels: saved at once, read back, never somebody else's file."""

from __future__ import annotations

import csv
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.errors import InputError
from judge.files.labelling import read_labels
from judge.files.rows import stream_rows
from judge.view.label_file import LabelFile, OwnLabel

IDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)
LABELS = st.builds(
    OwnLabel, st.sampled_from(["a", "b", "tie", None]), st.sampled_from(["", 'so, "so"', "a\nb\r"])
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "my-labels.csv"


def test_a_label_is_in_the_file_before_put_returns(path: Path) -> None:
    own = LabelFile(path, now=lambda: "now")
    assert not path.exists()
    own.put("x", OwnLabel("a"))
    own.put("y", OwnLabel("tie", "both wrong"))
    assert path.read_text() == (
        "id,winner_model_a,winner_model_b,winner_tie,note,time\n"
        "x,1,0,0,,now\ny,0,0,1,both wrong,now\n"
    )
    own.put("x", OwnLabel("b"))
    assert path.read_text().splitlines()[1] == "x,0,1,0,,now"
    assert len(own) == 2


def test_a_label_taken_away_is_gone_and_a_note_stays_without_one(path: Path) -> None:
    own = LabelFile(path)
    own.put("x", OwnLabel("a", "why"))
    own.put("x", OwnLabel(None, "why"))
    assert (own.get("x"), len(own)) == (OwnLabel(None, "why"), 0)
    own.put("x", OwnLabel())
    assert own.get("x") == OwnLabel()
    assert len(path.read_text().splitlines()) == 1


@given(st.dictionaries(IDS, LABELS, max_size=8))
def test_whatever_the_ids_and_notes_it_is_read_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, labels: dict[str, OwnLabel]
) -> None:
    path = tmp_path_factory.mktemp("labels") / "mine.csv"
    own = LabelFile(path)
    for battle, label in labels.items():
        own.put(battle, label)
    again = LabelFile(path)
    assert {battle: again.get(battle) for battle in labels} == labels
    assert len(again) == len(own) == sum(label.choice is not None for label in labels.values())


def test_it_is_read_as_labels_are(path: Path) -> None:
    own = LabelFile(path)
    for battle, choice in (("p", "a"), ("q", "b"), ("r", "tie"), ("s", None)):
        own.put(battle, OwnLabel(choice, "note"))
    (rows,) = stream_rows(path, required=("id",))
    labels = read_labels(rows)
    assert labels is not None
    assert labels[:3].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert (labels[3] != labels[3]).all()


def test_columns_of_others_and_what_others_add_meanwhile_are_kept(path: Path) -> None:
    path.write_text("id,winner_model_a,winner_model_b,winner_tie,who\nx,1,0,0,me\n")
    own = LabelFile(path, now=lambda: "now")
    own.put("y", OwnLabel("b"))
    with path.open("a") as file:
        file.write("z,0,0,1,,,you\n")
    own.put("x", OwnLabel("tie"))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["winner_tie"], row["who"]) for row in rows] == [
        ("x", "1", "me"),
        ("y", "0", ""),
        ("z", "1", "you"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,winner_model_a,winner_model_b,winner_tie\nx,0.5,0.3,0.2\n", "row 2.*0 or 1"),
        ("id,winner_model_a,winner_model_b,winner_tie\nx,1,1,0\n", "row 2.*no label"),
        ("id,winner_model_a,winner_model_b,winner_tie\nx,1,0,0\nx,1,0,0\n", "row 3.*twice"),
        ("id,prompt\nx,y\n", "winner_model_a"),
        ("id,winner_model_a,winner_model_b,winner_tie\n,1,0,0\n", "row 2.*empty"),
    ],
)
def test_a_file_of_something_else_is_refused_and_left_alone(
    path: Path, text: str, message: str
) -> None:
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        LabelFile(path)
    assert path.read_text() == text


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.csv"):
        LabelFile(tmp_path / "labels.parquet")


def test_an_empty_file_and_one_with_a_header_alone_are_files_without_labels(path: Path) -> None:
    for text in ("", "id,winner_model_a,winner_model_b,winner_tie\n"):
        path.write_text(text)
        own = LabelFile(path)
        assert len(own) == 0
        own.put("x", OwnLabel("a"))
        assert len(LabelFile(path)) == 1


def test_what_cannot_be_written_is_said_and_what_was_known_stands(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = count()
    own = LabelFile(path, now=lambda: str(next(times)))
    own.put("x", OwnLabel("a"))
    before = path.read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(InputError, match="No space left"):
        own.put("x", OwnLabel("b"))
    monkeypatch.undo()
    assert own.get("x") == OwnLabel("a")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    own.put("x", OwnLabel("tie"))
    assert LabelFile(path).get("x") == OwnLabel("tie")


def test_a_file_that_somebody_took_away_is_written_anew(path: Path) -> None:
    own = LabelFile(path)
    own.put("x", OwnLabel("a"))
    path.unlink()
    own.put("y", OwnLabel("b"))
    assert LabelFile(path).labelled() == {"x", "y"}
