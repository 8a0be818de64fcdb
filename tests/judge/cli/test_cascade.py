"""`arena-judge cascade`: from labelled battles to a judge of two judges."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import Result

Run = Callable[..., Result]
Make = Callable[..., str]


def test_from_labels_to_a_judge(run: Run, length_judge: Make, battle_file: Make) -> None:
    cheap, dear = length_judge("cheap", gain=0.1), length_judge("dear", gain=3)
    file = battle_file(count=60)
    Path("made").mkdir()
    result = run("cascade", file, cheap, dear, "-o", "made/cascade.yaml", "--cost", "0", "0.5")
    assert result.exit_code == 0, result.stderr
    assert "sure from" in result.stdout
    assert "never" in result.stdout
    assert "dear is asked about" in result.stdout
    settings = yaml.safe_load(Path("made/cascade.yaml").read_text())
    assert settings["judges"] == [f"../{cheap}", f"../{dear}"]
    assert list(settings["made_from"]) == ["battles.csv"]
    scored = run("score", file, "--judge", "made/cascade.yaml", "-o", "p.csv")
    assert scored.exit_code == 0, scored.stderr
    assert "made/cascade.yaml" not in pd.read_csv("p.csv").to_csv()
    assert "learned from battles.csv" in scored.stderr
    again = run("cascade", file, cheap, dear, "-o", "made/cascade.yaml", "--sure", "0.25")
    assert again.exit_code == 0
    assert yaml.safe_load(Path("made/cascade.yaml").read_text())["sure"] == 0.25


def test_files_of_predictions_and_json(run: Run, length_judge: Make, battle_file: Make) -> None:
    file = battle_file(count=40)
    for name, gain in (("p1", 0.1), ("p2", 3)):
        run("score", file, "--judge", length_judge(name, gain=gain), "-o", f"{name}.csv")
    first = run("cascade", file, "p1.csv", "p2.csv", "--json", "--seed", "3")
    assert first.exit_code == 0, first.stderr
    found = json.loads(first.stdout)
    assert found["steps"][0]["sent"] == 0
    assert found["steps"][-1]["gap"] == 0
    assert found["battles"] == 40
    assert run("cascade", file, "p1.csv", "p2.csv", "--json", "--seed", "3").stdout == first.stdout
    refused = run("cascade", file, "p1.csv", "p2.csv", "-o", "c.yaml")
    assert refused.exit_code == 2
    assert "p1.csv: is a file of predictions" in refused.stderr
    assert not Path("c.yaml").exists()


@pytest.mark.parametrize("name", ["notes.yaml", "cascade.txt", "nowhere/c.yaml"])
def test_nothing_else_is_written_over(
    run: Run, length_judge: Make, battle_file: Make, name: str
) -> None:
    Path("notes.yaml").write_text("mine")
    result = run("cascade", battle_file(), length_judge("a"), length_judge("b"), "-o", name)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert Path("notes.yaml").read_text() == "mine"


def test_one_prompt_has_no_interval_and_says_so_in_both_ways(run: Run, length_judge: Make) -> None:
    rows = [("q", "a b c", "d", 1, 0, 0), ("q", "e", "f g h", 0, 0, 1)]
    columns = ["prompt", "response_a", "response_b"]
    columns += ["winner_model_a", "winner_model_b", "winner_tie"]
    pd.DataFrame(rows, columns=columns).to_csv("one.csv", index=False)
    judges = [length_judge("p1", gain=0.1), length_judge("p2", gain=3)]
    told = run("cascade", "one.csv", *judges, "--report", "one.html")
    assert told.exit_code == 0, told.stderr
    assert "[-]" in told.stdout
    assert "nan" not in told.stdout
    found = json.loads(
        run("cascade", "one.csv", *judges, "--json").stdout, parse_constant=pytest.fail
    )
    assert found["steps"][0]["low"] is None
    assert found["honest"] == {"log_loss": None, "sent": None}


def test_a_cascade_is_not_written_over_one_that_it_is_made_of(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    file, one, two = battle_file(count=20), length_judge("one"), length_judge("two", gain=2)
    assert run("cascade", file, one, two, "-o", "inner.yaml").exit_code == 0
    assert run("cascade", file, "inner.yaml", one, "-o", "outer.yaml").exit_code == 0
    before = Path("inner.yaml").read_bytes()
    for member in ("inner.yaml", "outer.yaml"):
        result = run("cascade", file, f"x={member}", two, "-o", "inner.yaml", "--force")
        assert result.exit_code == 2
        assert "inner.yaml: x is made of it" in result.stderr
    assert Path("inner.yaml").read_bytes() == before


def test_battles_that_one_judge_left_out_are_counted(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    file = battle_file(count=30)
    for name in ("p1", "p2"):
        run("score", file, "--judge", length_judge(name), "-o", f"{name}.csv")
    pd.read_csv("p2.csv").iloc[:22].to_csv("p2.csv", index=False)
    result = run("cascade", file, "p1.csv", "p2.csv")
    assert "8 labelled battles unjudged by one of them, left out" in result.stdout


@pytest.mark.parametrize(
    "wrong",
    [("--cost", "0", "inf"), ("--cost", "nan", "1"), ("--within", "nan"), ("--sure", "nan")],
)
def test_what_is_no_number_is_refused(
    run: Run, length_judge: Make, battle_file: Make, wrong: tuple[str, ...]
) -> None:
    judges = length_judge("a"), length_judge("b")
    result = run("cascade", battle_file(), *judges, *wrong, "-o", "c.yaml")
    assert result.exit_code == 2
    assert f"Invalid value for '{wrong[0]}'" in result.stderr
    assert not Path("c.yaml").exists()
