"""`arena-judge export`: ballots, converted and chosen."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result

from judge.ballot_files import read_ballots
from judge.engines.base import Message, Parameters, Reply, Request, Usage
from judge.engines.ledger import Ledger

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


@pytest.fixture
def ledger(folder: Path) -> str:
    """1,203 replies: more than are read at once, of two models, one with hostile text."""
    with Ledger("ledger.sqlite") as kept:
        for model, number in (("m", 1200), ("n", 3)):
            asked = [
                (kept.key(Request((Message("user", f"{n}"),), Parameters(model))), model, n)
                for n in range(number)
            ]
            texts = ['=cmd|" /C calc"!A0\n, "', *["A"] * number]
            kept.put_many(
                (key, model, Reply(texts[n], "stop", usage=Usage(7, 2, 1), cost=0.5, seconds=0.1))
                for key, model, n in asked
            )
    return "ledger.sqlite"


def _table(path: str) -> pd.DataFrame:
    if path.endswith(".csv"):
        return pd.read_csv(path, keep_default_na=False)
    return pd.read_parquet(path) if path.endswith(".parquet") else pd.read_json(path, lines=True)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_the_replies_of_a_ledger(run: Run, ledger: str, ending: str) -> None:
    result = run("export", ledger, "-o", f"replies{ending}")
    assert result.exit_code == 0, result.output
    assert "1,203 replies of 1,203" in result.stderr
    found = _table(f"replies{ending}")
    assert found["model"].value_counts().to_dict() == {"m": 1200, "n": 3}
    assert found["text"][0] == '=cmd|" /C calc"!A0\n, "'
    assert found["key"].is_unique
    assert found["cost"].sum() == 1203 / 2
    assert set(found["prompt_tokens"]) == {7}
    assert found["time"].astype(str).str.startswith("20").all()
    # It was an earlier result; a second run may take its place.
    some = run("export", ledger, "--judge", "n", "-o", f"replies{ending}")
    assert some.exit_code == 0, some.output
    assert "3 replies of 1,203" in some.stderr
    assert len(_table(f"replies{ending}")) == 3


def test_a_ledger_without_replies_is_an_empty_table(run: Run, folder: Path) -> None:
    Ledger("ledger.sqlite").close()
    for ending in (".csv", ".parquet"):
        result = run("export", "ledger.sqlite", "-o", f"replies{ending}")
        assert result.exit_code == 0, result.output
        assert "0 replies of 0" in result.stderr
        assert list(_table(f"replies{ending}"))[:4] == ["key", "model", "text", "finish"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--judge", "x"], "has no replies by 'x'; it has m, n"),
        (["--readable"], "no ballots to choose among"),
        (["-o", "ledger.sqlite"], "is read by this very command"),
        (["-o", "o.txt"], "no known ending for replies"),
    ],
)
def test_what_a_ledger_does_not_have_is_one_line(
    run: Run, ledger: str, arguments: list[str], said: str
) -> None:
    result = run("export", ledger, "-o", "o.csv", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not Path("o.csv").exists()


def test_a_database_that_is_no_ledger_is_left_alone(run: Run, folder: Path) -> None:
    with sqlite3.connect("other.sqlite") as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    before = Path("other.sqlite").read_bytes()
    result = run("export", "other.sqlite", "-o", "o.csv")
    assert result.exit_code == 2
    assert "is a database, but no ledger" in result.stderr
    assert Path("other.sqlite").read_bytes() == before
