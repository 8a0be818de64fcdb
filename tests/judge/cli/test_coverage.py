"""`arena-judge compare --coverage`: whether sets hold what they promise, over all and by slice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from click.testing import Result

from judge.comparing.covering import covered, sets_of_file
from judge.conformal import fit_conformity

Run = Callable[..., Result]
Make = Callable[..., str]


def test_judges_and_files_with_sets_are_measured(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    judge, file = length_judge(), battle_file(count=80)
    assert run("score", file, "--judge", judge, "-o", "p.csv").exit_code == 0
    proba = pd.read_csv("p.csv").iloc[:, 1:4].to_numpy()
    labels = pd.read_csv(file).iloc[:, -3:].to_numpy(dtype=float)
    fit_conformity(labels, proba).save(Path(judge))
    options = ("--judge", judge, "--coverage", "0.8", "-o", "sets.csv")
    assert run("score", file, *options).exit_code == 0
    shuffled = pd.read_csv("sets.csv").sample(frac=1, random_state=0)
    shuffled.to_csv("sets.csv", index=False)
    entrants = ("own=" + judge, "file=sets.csv", "plain=p.csv")
    result = run(
        *("compare", file, *entrants, "--coverage", "0.8", "--rounds", "100"),
        *("--slices", "turns,length", "--slice-least", "10", "--json"),
    )
    assert result.exit_code == 0, result.stderr
    assert "plain has no sets of outcomes to measure" in result.stderr
    rows = json.loads(result.stdout)["coverage"]
    whole = {row["judge"]: row for row in rows if row["by"] == "all"}
    assert set(whole) == {"own", "file"}
    own, filed = ({k: v for k, v in row.items() if k != "judge"} for row in whole.values())
    assert own == filed
    assert 0.75 <= own["covered"] <= 1
    assert {row["by"] for row in rows} == {"all", "length"}
    table = run("compare", file, *entrants, "--coverage", "0.8", "--rounds", "100")
    assert (
        "Sets of outcomes that are to hold the label 80% of the time, all battles" in table.stdout
    )
    silent = run("compare", file, *entrants, "--rounds", "100")
    assert "Sets of outcomes" not in silent.stdout


def test_sets_of_a_file_that_cannot_be_read_are_one_line(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    file = battle_file(count=10)
    assert run("score", file, "--judge", length_judge(), "-o", "p.csv").exit_code == 0
    table = pd.read_csv("p.csv")
    table["set"] = "A|C"
    table.to_csv("p.csv", index=False)
    result = run("compare", file, "p.csv", "--coverage", "0.8", "--rounds", "100")
    assert result.exit_code == 2
    assert "'A|C' is no set" in result.stderr


def test_only_what_is_labelled_and_judged_counts() -> None:
    labels = np.array([[1.0, 0, 0], [0, 1, 0], [np.nan] * 3, [0, 0, 1]])
    proba = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [np.nan] * 3])
    sets = np.array([[True, False, False]] * 4)
    (found,) = covered(labels, {"j": proba}, {"j": sets}, np.arange(4))
    assert (found.found.battles, found.found.covered) == (2, 0.5)
    assert covered(labels[2:], {"j": proba[2:]}, {"j": sets[2:]}, np.arange(2)) == []


def test_a_file_of_other_battles_leaves_them_open() -> None:
    table = pd.DataFrame({"id": ["b", "a"], "set": ["B", None]})
    found = sets_of_file(["a", "b", "c"], table)
    assert found is not None
    assert found.tolist() == [[True] * 3, [False, True, False], [True] * 3]
    assert sets_of_file(["a"], table.drop(columns="set")) is None
