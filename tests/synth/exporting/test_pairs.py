"""Pairs for preference optimisation: one ballot that is right, one that is wrong, both readable."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judge.ballots import CRITERIA, VOTES
from judge.engines.base import Reply
from judge.prompt_files import load_prompt
from judge.voting import fill_ballot
from synth.data import AnnotatedSet
from synth.exporting.labels import training_labels
from synth.exporting.pairs import Pairs, outcome_of, pair_rows, write_pairs

Make = Callable[..., Any]
Rows = list[dict[str, Any]]


def pairs_of(data: AnnotatedSet, prompt: str = "annotated", **options: Any) -> tuple[Rows, Pairs]:
    pairs = Pairs(load_prompt(prompt), training_labels(data, "human"), **options)
    return list(pair_rows(data, pairs)), pairs


def verdict(row: dict[str, Any], which: str, prompt: str = "annotated") -> str:
    """What a ballot of a row says of the battle in the file, on the whole."""
    (message,) = row[which]
    assert message["role"] == "assistant"
    ballot = fill_ballot(
        Reply(message["content"]), load_prompt(prompt), row["criterion"], row["order"]
    )
    if ballot.verdict is not None:
        return VOTES[int(ballot.verdict.argmax())]
    votes = tuple(VOTES.index(vote) if vote else -1 for vote in ballot.said)
    return ("A", "B", "AB", "")[outcome_of((*votes, -1), load_prompt(prompt))]


def test_the_consensus_is_right_where_nobody_voted(said: Make, make_set: Make) -> None:
    records = [
        said("b", "A", verdict="A", sample=0, reasons="It fits."),
        said("b", "B", verdict="B", sample=1, reasons="It does not."),
        said("b", "A", verdict="A", sample=2),
        said("b", "A", verdict="A", order="BA", sample=0),
    ]
    rows, pairs = pairs_of(make_set(records))
    (row,) = rows
    assert (row["order"], row["right"], row["right_by"]) == ("AB", "A", "annotators")
    assert (verdict(row, "chosen"), verdict(row, "rejected")) == ("A", "B")
    assert json.loads(row["chosen"][0]["content"])["clarity"]["reason"] == "It fits."
    assert [message["role"] for message in row["prompt"]] == ["system", "user"]
    assert [entry.words for entry in pairs.tally.left_out] == [
        "1 order of a battle of which no reply is wrong"
    ]


def test_people_are_right_before_annotators(
    said: Make, make_set: Make, battles_called: Make
) -> None:
    battles = battles_called(["b"])
    battles[["label_a", "label_b", "label_tie"]] = [[0.0, 1.0, 0.0]]
    records = [said("b", "A", verdict="A", sample=n) for n in range(3)]
    records.append(said("b", "B", verdict="B", sample=3))
    data = make_set(records, battles)
    (row,), _ = pairs_of(data, orders=("AB",))
    assert (row["right"], row["right_by"]) == ("B", "human")
    assert (verdict(row, "chosen"), verdict(row, "rejected")) == ("B", "A")


def test_the_contrary_goes_before_a_tie(said: Make, make_set: Make) -> None:
    records = [said("b", "A", verdict="A", sample=n) for n in range(4)]
    records += [
        said("b", "AB", verdict="AB", sample=4),
        said("b", ["A", "A", "A", "B", "B"], verdict="B", sample=5),
    ]
    (row,), _ = pairs_of(make_set(records), orders=("AB",))
    assert verdict(row, "rejected") == "B"
    (row,), _ = pairs_of(make_set(records[:5]), orders=("AB",))
    assert verdict(row, "rejected") == "AB"


def test_an_unsure_consensus_is_no_ground(said: Make, make_set: Make) -> None:
    records = [
        said("b", "A", verdict="A", sample=0),
        said("b", "B", verdict="B", sample=1),
        said("b", "A", verdict="A", sample=2),
    ]
    assert len(pairs_of(make_set(records), margin=0.3)[0]) == 1
    rows, pairs = pairs_of(make_set(records), margin=0.4)
    assert rows == []
    assert [entry.words for entry in pairs.tally.left_out] == [
        "1 battle whose likeliest outcome leads by less than 0.4"
    ]


def test_a_ballot_is_turned_around_where_no_reply_is_wrong(said: Make, make_set: Make) -> None:
    votes = ["A", "AB", "A", "NA", "B"]
    data = make_set([said("b", votes, reasons=None, order=order) for order in ("AB", "BA")])
    assert pairs_of(data, "discriminator", margin=0.0)[0] == []
    rows, _ = pairs_of(data, "discriminator", margin=0.0, rejected="flipped")
    assert [row["rejected_from"] for row in rows] == ["flipped"] * 2
    shown = [
        [list(json.loads(row[which][0]["content"]).values()) for which in ("chosen", "rejected")]
        for row in rows
    ]
    turned = ["B", "AB", "B", "NA", "A"]
    assert shown == [[votes, turned], [turned, votes]]


def test_a_tie_has_no_other_way_around(said: Make, make_set: Make) -> None:
    data = make_set([said("b", "AB", order=order) for order in ("AB", "BA")])
    rows, pairs = pairs_of(data, "discriminator", margin=0.0, rejected="flipped")
    assert rows == []
    assert [entry.words for entry in pairs.tally.left_out] == [
        "2 orders of a battle that is a tie, which stays one turned around"
    ]


def test_criteria_are_paired_where_they_are_right_and_wrong(said: Make, make_set: Make) -> None:
    records = [said("b", "A", sample=n) for n in range(3)]
    records.append(said("b", ["B", "B", "B", "A", "AB"], sample=3))
    rows, _ = pairs_of(make_set(records), "criterion", margin=0.0, orders=("AB",))
    assert {row["criterion"]: row["rejected"][0]["content"] for row in rows} == {
        **dict.fromkeys(CRITERIA[:3], "B"),
        "responsiveness": "AB",
    }
    assert {row["chosen"][0]["content"] for row in rows} == {"A"}


def test_replies_without_the_texts_asked_for_are_none(said: Make, make_set: Make) -> None:
    records = [
        said("b", "A", verdict="A", sample=0),
        said("b", "A", verdict="A", judge="second"),
        said("b", "B", verdict="B", reasons=None, judge="votes only"),
    ]
    data = make_set(records)
    rows, pairs = pairs_of(data, "annotated", orders=("AB",))
    assert rows == []
    assert [entry.words for entry in pairs.tally.left_out] == [
        "1 order of a battle of which no reply is wrong"
    ]
    assert len(pairs_of(data, "discriminator", margin=0.0, orders=("AB",))[0]) == 1


@settings(max_examples=40)
@given(
    said_of=st.lists(
        st.tuples(
            st.sampled_from(["x", "y", "z"]),
            st.tuples(*[st.sampled_from(VOTES)] * 5),
            st.sampled_from(["A", "B", "AB"]),
            st.sampled_from(["AB", "BA"]),
        ),
        min_size=1,
        max_size=12,
    ),
    prompt=st.sampled_from(["annotated", "discriminator", "criterion"]),
    flipped=st.booleans(),
)
def test_chosen_is_right_and_rejected_is_not(
    said: Make,
    make_set: Make,
    said_of: list[tuple[str, tuple[str, ...], str, str]],
    prompt: str,
    flipped: bool,
) -> None:
    records = [
        said(battle, votes, verdict=verdict, order=order, sample=sample)
        for sample, (battle, votes, verdict, order) in enumerate(said_of)
    ]
    flip = "flipped" if flipped and prompt != "annotated" else "replies"
    rows, pairs = pairs_of(make_set(records), prompt, margin=0.0, rejected=flip)
    battles = {battle for battle, *_ in said_of}
    covered = {(row["id"], row["order"]) for row in rows}
    left = sum(entry.number for entry in pairs.tally.left_out if entry.noun == "order")
    assert len(covered) + left == 2 * len(battles)
    for row in rows:
        assert row["chosen"] != row["rejected"]
        right = {"tie": "AB"}.get(row["right"], row["right"])
        if prompt != "criterion":
            assert verdict(row, "chosen", prompt) == right
            assert verdict(row, "rejected", prompt) != right


def test_a_battle_nobody_could_judge_is_counted(
    said: Make, make_set: Make, battles_called: Make, tmp_path: Path
) -> None:
    records = [
        said("b", "A", verdict="A", sample=0),
        said("b", "A", verdict="A", sample=1),
        said("b", "B", verdict="B", sample=2),
    ]
    data = make_set(records, battles_called(["b", "other"]))
    assert np.isnan(training_labels(data).proba[1]).all()
    pairs = Pairs(load_prompt("annotated"), training_labels(data), orders=("AB",))
    tally = write_pairs(tmp_path / "pairs.jsonl", data, pairs)
    assert (tally.rows, tally.battles) == (1, 1)
    assert [entry.ids for entry in tally.left_out] == [["other"]]
    (line,) = (tmp_path / "pairs.jsonl").read_text().splitlines()
    assert list(json.loads(line)) == [
        *("id", "order", "prompt", "chosen", "rejected", "right", "right_by", "rejected_from")
    ]


@pytest.mark.parametrize(
    ("votes", "outcome"),
    [("AAABB", 0), ("BBAN2", 1), ("AABB2", 2), ("NNNNN", -1), ("N2NNN", 2)],
)
def test_votes_come_to_an_outcome(votes: str, outcome: int) -> None:
    places = tuple("AB2N".index(vote) for vote in votes)
    assert outcome_of((*places, -1), load_prompt("discriminator")) == outcome
