"""`arena-judge import`: judgments of other tools, to be scored by."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result

Run = Callable[..., Result]


def _annotations() -> list[dict[str, object]]:
    return [
        {
            "instruction": f"question {n}",
            "output_1": "yes " * (1 + n % 3),
            "output_2": "no",
            "annotator": "gpt",
            "preference": [1.0, 2.0, None][n % 3],
        }
        for n in range(6)
    ]


def test_votes_become_ballots(run: Run, folder: Path) -> None:
    Path("votes.csv").write_text("id,order,vote\n1,ab,a\n1,ba,b\n2,ab,invalid\n")
    result = run("import", "votes.csv", "-o", "b.csv", "--judge", "me")
    assert result.exit_code == 0, result.stderr
    assert "3 ballots on 2 battles by 1 judge (me)" in result.stderr
    assert "1 of 3 ballots unreadable (33.3%)" in result.stderr
    assert "the same verdict in 100.0%" in result.stderr
    assert pd.read_csv("b.csv")["relevance"].tolist()[:2] == ["A", "A"]


def test_annotations_become_ballots_and_battles(run: Run, folder: Path) -> None:
    Path("annotations.json").write_text(json.dumps(_annotations()))
    arguments = ["import", "annotations.json", "-o", "b.parquet", "--battles", "pairs.csv"]
    assert run(*arguments).exit_code == 0
    Path("judge").mkdir()
    Path("judge/judge.yaml").write_text("kind: recorded\n")
    Path("b.parquet").rename("judge/ballots.parquet")
    result = run("score", "pairs.csv", "--judge", "judge", "-o", "p.csv")
    assert result.exit_code == 3
    proba = pd.read_csv("p.csv")["winner_model_a"]
    assert proba[0] > 0.4 > proba[1]
    assert proba[[2, 5]].isna().all()
    assert "recorded without a preference" in Path("p.csv.unjudged.csv").read_text()


def test_nothing_else_is_overwritten(run: Run, folder: Path) -> None:
    Path("votes.csv").write_text("id,vote\n1,a\n")
    Path("thesis.csv").write_text("mine\n")
    result = run("import", "votes.csv", "-o", "thesis.csv")
    assert (result.exit_code, "no earlier result" in result.stderr) == (2, True)
    assert run("import", "votes.csv", "-o", "thesis.csv", "--force").exit_code == 0
    assert run("import", "votes.csv", "-o", "thesis.csv").exit_code == 0
    assert "is read by this very command" in run("import", "votes.csv", "-o", "votes.csv").stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none.csv"], "none.csv: there is no such file"),
        (["votes.csv", "-o", "b.txt"], "no known ending"),
        (["votes.csv", "--format", "csv"], "'--format'"),
        (["votes.csv", "--battles", "p.csv"], "column instruction: is None, not text"),
        (["votes.csv", "--id", "{nothing}"], "column nothing: is empty"),
        (["bad.csv"], "bad.csv, row 3, column vote: is '[2Jx', which is no vote"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    run: Run, folder: Path, arguments: list[str], said: str
) -> None:
    Path("votes.csv").write_text("id,vote\n1,a\n")
    Path("bad.csv").write_text("id,vote\n1,a\n2,[2Jx\n")
    result = run("import", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not Path("ballots.parquet").exists()
