"""`arena-judge export`: ballots, converted and chosen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result

from judge.ballot_files import read_ballots

Run = Callable[..., Result]


@pytest.fixture
def ballots(folder: Path) -> str:
    Path("b.csv").write_text(
        "id,judge,order,sample,relevance,reason\n"
        "1,g,AB,0,A,\n1,g,BA,0,B,\n1,h,AB,0,AB,\n2,h,BA,0,,cut short\n"
    )
    return "b.csv"


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ([], [0, 1, 2, 3]),
        (["--judge", "h"], [2, 3]),
        (["--judge", "h", "--judge", "g"], [0, 1, 2, 3]),
        (["--order", "ba"], [1, 3]),
        (["--readable"], [0, 1, 2]),
        (["--unreadable"], [3]),
        (["--judge", "g", "--unreadable"], []),
    ],
)
@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_the_wanted_in_the_wanted_form(
    run: Run, ballots: str, options: list[str], kept: list[int], ending: str
) -> None:
    result = run("export", ballots, *options, "-o", f"out{ending}")
    assert result.exit_code == 0, result.stderr
    assert f"{len(kept)} ballot" in result.stderr
    if kept:
        names = ["id", "judge", "order", "relevance", "reason"]
        wanted = read_ballots(ballots)[names].iloc[kept].reset_index(drop=True)
        pd.testing.assert_frame_equal(read_ballots(f"out{ending}")[names], wanted)


def test_votes_alone_and_a_judge_s_own_ballots(run: Run, ballots: str) -> None:
    Path("judge").mkdir()
    run("export", ballots, "-o", "judge/ballots.parquet")
    assert run("export", "judge", "--votes-only", "-o", "v.csv").exit_code == 0
    assert "relevance_A" not in pd.read_csv("v.csv").columns
    assert read_ballots("v.csv")["relevance"].tolist() == ["A", "B", "AB", None]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["b.csv"], "Missing option '-o'"),
        (["b.csv", "-o", "b.csv"], "is read by this very command"),
        (["b.csv", "-o", "o.txt"], "no known ending"),
        (["b.csv", "-o", "o.csv", "--judge", "x"], "has no ballots by 'x'; it has g, h"),
        (["empty", "-o", "o.csv"], "is a folder without ballots"),
        (["c.csv", "-o", "o.csv"], "there is no such file"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run: Run, ballots: str, arguments: list[str], said: str
) -> None:
    Path("empty").mkdir()
    result = run("export", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
