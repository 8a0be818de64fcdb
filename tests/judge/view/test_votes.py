"""Ballots as the page shows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from judge.ballot_files import read_ballots, write_ballots
from judge.ballots import ballot_table
from judge.view.votes import LISTED, Votes


def certain(*votes: int) -> np.ndarray:
    return np.eye(4)[list(votes)]


@pytest.fixture
def votes() -> Votes:
    nothing = np.full((5, 4), np.nan)
    table = ballot_table(
        ["y", "x", "x", "z", "x", "elsewhere"],
        ["j", "j", "j", "j", "k", "j"],
        [certain(0, 0, 0, 0, 0), certain(0, 1, 2, 3, 0), certain(0, 0, 2, 3, 1), nothing]
        + [certain(1, 1, 1, 1, 1)] * 2,
        order=["AB", "AB", "BA", "AB", "AB", "AB"],
        reason=["", "", "", "<b>no\u202e json</b>", "", ""],
        reply=["", "r1", "r2", "", "", ""],
    )
    return Votes(table, ["x", "y", "z", "none"])


def test_each_judges_votes_are_counted_by_criterion(votes: Votes) -> None:
    first, second = votes.of("x")
    assert (first["judge"], first["count"], second["judge"]) == ("j", 2, "k")
    assert [tally["shares"] for tally in first["tallies"]] == [
        [1.0, 0.0, 0.0, 0.0],
        [0.5, 0.5, 0.0, 0.0],
        [0.0, 0.0, 1.0, 0.0],
        [0.0, 0.0, 0.0, 1.0],
        [0.5, 0.5, 0.0, 0.0],
    ]
    assert [ballot["order"] for ballot in first["ballots"]] == ["AB", "BA"]
    assert first["ballots"][0]["votes"] == ["A", "B", "AB", "NA", "A"]
    assert first["ballots"][1]["reply"] == "r2"
    assert first["tallies"][3]["criterion"] == "logical flow"


def test_a_ballot_without_votes_is_none_and_never_a_tie(votes: Votes) -> None:
    (judge,) = votes.of("z")
    assert {tally["shares"] for tally in judge["tallies"]} == {None}
    assert judge["ballots"][0]["votes"] == [None] * 5
    assert judge["ballots"][0]["reason"] == "<b>no<U+202E> json</b>"


def test_battles_without_ballots_have_none_and_ballots_of_others_are_counted(votes: Votes) -> None:
    assert votes.of("none") == []
    assert votes.of("elsewhere") == []
    assert (len(votes), votes.unknown) == (5, 1)


@pytest.mark.parametrize("name", ["votes.csv", "votes.parquet", "votes.jsonl"])
def test_numbers_are_numbers_whatever_the_file(tmp_path: Path, name: str) -> None:
    table = ballot_table(["x"], "j", [certain(0, 0, 0, 0, 0)], part=2, cut=1500)
    write_ballots(tmp_path / name, table)
    (judge,) = Votes(read_ballots(tmp_path / name), ["x"]).of("x")
    ballot = judge["ballots"][0]
    assert (ballot["sample"], ballot["part"], ballot["cut"], ballot["reason"]) == (0, 2, 1500, "")


def test_a_crowd_of_ballots_is_counted_and_some_are_listed() -> None:
    many = [certain(0, 0, 0, 0, 0)] * 300
    (judge,) = Votes(ballot_table(["x"] * 300, "j", many, sample=list(range(300))), ["x"]).of("x")
    assert (judge["count"], len(judge["ballots"])) == (300, LISTED)
    assert judge["tallies"][0]["voted"] == 300
