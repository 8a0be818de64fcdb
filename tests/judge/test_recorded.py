"""Other tools' judgments as ballots, and ballot files: golden rows, and every fault one line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from judge.aggregation import vote_shares
from judge.ballot_files import read_ballots, write_ballots
from judge.ballots import CRITERIA
from judge.errors import InputError
from judge.recorded import read_alpaca_battles, read_judgments

VOTE = "relevance"


def _lines(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _facts(table: pd.DataFrame) -> list[tuple[object, ...]]:
    columns = table[["id", "judge", "order", "sample", VOTE]].to_numpy(dtype=object)
    return [tuple(row) for row in columns]


def test_votes_are_turned_back_and_repeats_are_samples(tmp_path: Path) -> None:
    file = tmp_path / "votes.csv"
    file.write_text(
        "id,judge,order,vote,reply\n1,g,ab,a,\n1,g,ba,a,\n1,g,ba,b,\n2,g,ab,Tie,\n3,g,ab,NA,\n"
        "4,g,ba,invalid:garbage,blah\n5,g,,,\n"
    )
    table = read_judgments(file, replies=True)
    assert _facts(table) == [
        ("1", "g", "AB", 0, "A"),
        ("1", "g", "BA", 0, "B"),
        ("1", "g", "BA", 1, "A"),
        ("2", "g", "AB", 0, "AB"),
        ("3", "g", "AB", 0, "NA"),
        ("4", "g", "BA", 0, None),
        ("5", "g", "AB", 0, None),
    ]
    assert table["reason"].tolist()[5:] == [
        "recorded as invalid:garbage",
        "recorded as unreadable",
    ]
    assert table["reply"][5] == "blah"
    assert np.isnan(vote_shares(table)[5:]).all()
    for criterion in CRITERIA:  # a single verdict stands under each
        assert table[criterion].tolist() == table[VOTE].tolist()


@pytest.mark.parametrize(
    ("word", "vote"),
    [
        *(("model_a", "A"), ("B", "B"), ("draw", "AB"), ("tie (bothbad)", "AB"), ("bothbad", "AB")),
        *(("Both", "AB"), ("Neither", "NA"), ("n/a", "NA")),
    ],
)
def test_votes_in_other_words(tmp_path: Path, word: str, vote: str) -> None:
    file = _lines(tmp_path / "v.jsonl", [{"id": 1, "vote": word}])
    assert read_judgments(file)[VOTE].tolist() == [vote]


ANNOTATIONS = [
    {
        "instruction": f"question {n}",
        "output_1": "yes",
        "output_2": "no",
        "generator_1": "old",
        "generator_2": "new",
        "annotator": "weighted_gpt4",
        "preference": preference,
        "raw_completion": "m",
    }
    for n, preference in enumerate([1.0, 2, 1.5, 1.25, None, 0, float("nan")])
]


@pytest.mark.parametrize("form", ["auto", "alpaca_eval"])
def test_alpaca_eval(tmp_path: Path, form: str) -> None:
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps(ANNOTATIONS, indent=1))
    table = read_judgments(file, form)
    assert table[VOTE].tolist() == ["A", "B", "AB", "A", None, "AB", None]
    assert table[f"{VOTE}_A"][3] == 0.75
    assert set(table["judge"]) == {"weighted_gpt4"}
    assert set(table["order"]) == {""}  # drawn at random by the tool, and not recorded
    assert table["reason"][4] == "recorded without a preference"
    battles = read_alpaca_battles(file)
    assert battles["id"].tolist() == table["id"].tolist()
    assert json.loads(battles["prompt"][2]) == ["question 2"]
    assert (battles["model_a"][0], battles["model_b"][0]) == ("old", "new")


def test_arena_hard(tmp_path: Path) -> None:
    rows = [
        {
            "uid": "u1",
            "model": "new",
            "judge": "gpt-4.1",
            "games": [{"score": "A>>B"}, {"score": "A>B"}],
        },
        {
            "question_id": "q2",
            "model": "new",
            "judge": "gpt-4.1",
            "games": [{"score": None, "judgment": "I cannot say"}, None],
        },
        {
            "uid": "u3",
            "model": "new",
            "judge": "gpt-4.1",
            "games": [
                {"judgment": {"answer": "so: [[B>A]] and again [[B>A]]"}},
                {"judgment": "[[A>B]], or rather [[B>A]]"},
            ],
        },
        {"uid": "u4", "model": "new", "games": [{"score": "A=B"}, {"score": "A<>B"}]},
    ]
    table = read_judgments(_lines(tmp_path / "new.jsonl", rows), judge="someone")
    assert [row[:3] + row[4:] for row in _facts(table)] == [
        ("u1:new", "gpt-4.1", "AB", "A"),
        ("u1:new", "gpt-4.1", "BA", "B"),
        ("q2:new", "gpt-4.1", "AB", None),
        ("q2:new", "gpt-4.1", "BA", None),
        ("u3:new", "gpt-4.1", "AB", "B"),
        ("u3:new", "gpt-4.1", "BA", None),
        ("u4:new", "someone", "AB", "AB"),
        ("u4:new", "someone", "BA", None),
    ]
    assert vote_shares(table)[0, 0].tolist() == [1, 0, 0, 0]
    assert vote_shares(table)[1, 0].tolist() == [0, 0.75, 0.25, 0]
    assert "not on the scale" in table["reason"][7]


def test_mt_bench(tmp_path: Path) -> None:
    row = {"question_id": 81, "model_1": "m", "model_2": "n", "judge": ["gpt-4", "pair-v2"]}
    rows = [
        {**row, "g1_winner": "model_1", "g2_winner": "model_1", "turn": 1},
        {**row, "g1_winner": "tie", "g2_winner": "model_2", "turn": 2},
        {**row, "g1_winner": "error", "g2_winner": "model_2", "question_id": 82},
        {**row, "g1_winner": "model_2", "g2_winner": "model_2", "m1_score": 2.0, "turn": 3},
    ]
    table = read_judgments(_lines(tmp_path / "pair.jsonl", rows))
    assert _facts(table) == [
        ("81:1:m:n", "gpt-4", "AB", 0, "A"),
        ("81:1:m:n", "gpt-4", "BA", 0, "A"),
        ("81:2:m:n", "gpt-4", "AB", 0, "AB"),
        ("81:2:m:n", "gpt-4", "BA", 0, "B"),
        ("82:1:m:n", "gpt-4", "AB", 0, None),
        ("82:1:m:n", "gpt-4", "BA", 0, "B"),
        ("81:3:m:n", "gpt-4", "", 0, "B"),  # graded one by one, so compared only once
    ]
    own = read_judgments(tmp_path / "pair.jsonl", ids="q{question_id}/{turn}")
    assert own["id"][0] == "q81/1"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("v.csv", "id,vote\n1,a\n2,perhaps\n", "row 3, column vote: is 'perhaps', which is no"),
        ("v.csv", "id,order,vote\n1,up,a\n", "row 2, column order: is 'up', which is no order"),
        ("v.csv", "id,sample,vote\n1,-1,a\n", "row 2, column sample: is '-1'"),
        ("v.csv", "id,vote\n,a\n", "row 2, column id: is empty"),
        ("v.csv", "id,vote\n", "has no judgments"),
        ("v.csv", "id,said\n1,a\n", "is of no format that is known; one has g1_winner"),
        ("v.csv", "id,vote\n1,a,b\n", "row 2: has 3 fields"),
        ("b.csv", "id,judge,order,relevance\n1,g,AB,A\n", "is a ballot table already"),
        ("v.jsonl", '{"id": [1], "vote": "a"}\n', "row 1, column id"),
        ("v.jsonl", '{"id": 1, "vote": {"a": 1}}\n', "row 1, column vote: is"),
        ("v.jsonl", '{"id": 1, "vote": "a", "judge": {"a": 1}}\n', "row 1, column judge"),
        ("v.jsonl", '{"vote": "a"\n', "row 1: is not a JSON object"),
        ("a.json", '[{"preference": 1}]', "row 1, column instruction: is None, not text"),
        ("a.json", "[1]", "row 1: is no JSON object"),
        ("a.json", "[{", "is no JSON list"),
        ("a.json", "[]", "has no judgments"),
        ("a.json", "[" * 200_000, "is no JSON list (nested too deep"),
        ("a.json", json.dumps([{**ANNOTATIONS[0], "preference": 7}]), "is 7, which is no pref"),
        ("a.json", json.dumps([{**ANNOTATIONS[0], "preference": "A"}]), "is 'A', which is no"),
        ("h.jsonl", '{"uid": 1, "model": "m", "games": "no"}\n', "no list of games"),
        ("h.jsonl", '{"uid": 1, "model": "m", "games": [3]}\n', "holds 3, which is no game"),
        ("h.jsonl", '{"uid": 1, "model": "m", "games": []}\n', "no list of games"),
        ("h.jsonl", '{"model": "m", "games": [null]}\n', "column question_id: is empty"),
        (
            "m.jsonl",
            '{"question_id": 1, "model_1": "a", "model_2": "b", "g1_winner": "a"}\n',
            "row 1, column g1_winner: is 'a', which is no winner",
        ),
    ],
)
def test_what_makes_no_sense_is_one_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read_judgments(tmp_path / name)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_format_that_is_told_is_held_to(tmp_path: Path) -> None:
    file = _lines(tmp_path / "v.jsonl", [{"id": 1, "vote": "a"}, {"id": 2}])
    assert read_judgments(file)["relevance"].tolist() == ["A", None]
    with pytest.raises(InputError, match="row 1, column games: is missing"):
        read_judgments(file, "arena_hard")
    with pytest.raises(InputError, match="cannot be standard input"):
        read_judgments("-")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'[{"instruction": "\xff"}]')
    with pytest.raises(InputError, match="is not UTF-8"):
        read_judgments(tmp_path / "a.json")
    (tmp_path / "b.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(ANNOTATIONS).encode())
    assert len(read_judgments(tmp_path / "b.json")) == len(ANNOTATIONS)


# --- ballot files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_ballots_come_back_as_they_were(tmp_path: Path, ending: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(ANNOTATIONS))
    table = read_judgments(file).assign(weight=2.5)
    write_ballots(tmp_path / f"b{ending}", table)
    again = read_ballots(tmp_path / f"b{ending}")
    assert np.array_equal(vote_shares(again), vote_shares(table), equal_nan=True)
    for name in ("id", "judge", "order", "sample", VOTE, "weight"):
        assert again[name].tolist() == table[name].tolist()
    assert again["reason"][4] == table["reason"][4]
    assert again["reason"][0] is None


def test_a_table_of_votes_alone_is_enough(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("id,judge,order,clarity\n7,g,ba,B\n8,g,,\n")
    table = read_ballots(tmp_path / "b.csv")
    assert vote_shares(table)[0, 2].tolist() == [0, 1, 0, 0]
    assert np.isnan(vote_shares(table)[0, 0]).all()
    assert table["order"].tolist() == ["BA", ""]
    assert table["sample"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,judge,order\n1,g,AB\n", "has no votes"),
        ("id,judge,order,clarity\n1,g,AB,C\n", "row 2, column clarity: is 'C', which is no vote"),
        ("id,judge,order,clarity\n1,g,XY,A\n", "row 2, column order: is 'XY'"),
        ("id,judge,order,clarity\n1,,AB,A\n", "row 2, column judge: is empty"),
        ("id,judge,order,clarity\n", "has no ballots"),
        ("id,order,clarity\n1,AB,A\n", "column judge: is missing"),
        ("id,judge,order,sample,clarity\n1,g,AB,x,A\n", "row 2, column sample: is 'x'"),
        ("id,judge,order,sample,clarity\n1,g,AB,0.5,A\n", "no whole number from 0"),
        ("id,judge,order,weight,clarity\n1,g,AB,0,A\n", "column weight: is '0', which is no num"),
        ("id,judge,order,clarity_A\n1,g,AB,1\n", "column clarity_B: is missing beside clarity_A"),
        (
            "id,judge,order,clarity_A,clarity_B,clarity_AB,clarity_NA\n1,g,AB,1,1,0,0\n",
            "row 2, column clarity_A: is '1', which does not sum to 1",
        ),
        (
            "id,judge,order,clarity_A,clarity_B,clarity_AB,clarity_NA\n1,g,AB,-1,2,0,0\n",
            "row 2, column clarity_A: is '-1', which is not from 0 to 1",
        ),
        (
            "id,judge,order,clarity_A,clarity_B,clarity_AB,clarity_NA\n1,g,AB,1,,0,0\n",
            "which is filled in only in part",
        ),
    ],
)
def test_a_ballot_file_that_makes_no_sense_is_one_line(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "b.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        read_ballots(tmp_path / "b.csv")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ballots_have_three_endings(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no known ending"):
        write_ballots(tmp_path / "b.xml", pd.DataFrame())


def test_recorded_votes_of_real_judges(shared_data: Path) -> None:
    table = read_judgments(shared_data / "recorded" / "judge_votes.parquet")
    assert len(table) == 7516
    assert int(table[VOTE].isna().sum()) == 38
    assert set(table["order"]) == {"AB", "BA"}
