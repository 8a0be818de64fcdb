"""`arena-judge score --coverage`: what a judge will not decide."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result

from judge.conformal import fit_conformity

Run = Callable[..., Result]
Make = Callable[..., str]


def test_sets_are_learned_from_labelled_battles(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    judge, labelled = length_judge(), battle_file("labelled.csv", count=80)
    new = battle_file("new.csv", count=12, labels=False)
    options = ("--judge", judge, "--coverage", "0.8", "--coverage-from", labelled, "--json")
    result = run("score", new, *options, "-o", "p.csv")
    assert result.exit_code == 0, result.stderr
    found = pd.read_csv("p.csv")
    assert list(found.columns[-2:]) == ["set", "abstain"]
    assert ((found["set"].str.count(r"\|") > 0) == (found["abstain"] == 1)).all()
    top = found[["winner_model_a", "winner_model_b", "winner_tie"]].to_numpy().argmax(axis=1)
    assert all(["A", "B", "tie"][t] in s.split("|") for t, s in zip(top, found["set"], strict=True))
    told = json.loads(result.stdout)["abstaining"]
    assert told["coverage"] == 0.8
    assert told["decided"] + told["abstained"] == 12
    assert told["abstained"] == found["abstain"].sum()
    # What other tools read of the file is as it was.
    assert run("compare", labelled, judge, "again=p.csv").exit_code == 0


def test_a_folder_may_say_it(run: Run, length_judge: Make, battle_file: Make) -> None:
    judge, file = length_judge(), battle_file()
    refused = run("score", file, "--judge", judge, "--coverage", "0.5", "-o", "p.csv")
    assert refused.exit_code == 2
    assert "--coverage-from LABELLED" in refused.stderr
    assert not Path("p.csv").exists()
    generator = np.random.default_rng(0)
    proba = generator.dirichlet([1, 1, 1], size=50)
    fit_conformity(np.eye(3)[proba.argmax(axis=1)], proba).save(Path(judge))
    result = run("score", file, "--judge", judge, "--coverage", "0.5", "-o", "p.csv")
    assert result.exit_code == 0, result.stderr
    assert "at a coverage of 0.5: 6 battles decided (100%)" in result.stderr


def test_too_few_battles_promise_nothing(run: Run, length_judge: Make, battle_file: Make) -> None:
    judge, file = length_judge(), battle_file(count=4)
    options = ("--judge", judge, "--coverage", "0.99", "--coverage-from", file)
    result = run("score", file, *options, "-o", "p.csv")
    assert result.exit_code == 0, result.stderr
    assert "4 prompts are too few to promise more" in result.stderr
    assert set(pd.read_csv("p.csv")["set"]) == {"A|B|tie"}


def test_the_unjudged_have_no_set(run: Run, length_judge: Make, battle_file: Make) -> None:
    whole, part = length_judge(), length_judge("part", unjudged="question 1")
    file = battle_file(count=20)
    options = ("--coverage", "0.7", "--coverage-from", file, "-o", "p.csv", "--fill", "prior")
    assert run("score", file, "--judge", whole, *options).exit_code == 0
    result = run("score", file, "--judge", part, *options)
    assert result.exit_code == 3, result.stderr
    found = pd.read_csv("p.csv", dtype={"id": str}).set_index("id")
    unjudged = found.index.isin([str(n) for n in (101, *range(110, 120))])
    assert found.loc[unjudged, ["set", "abstain"]].isna().all(axis=None)
    assert found.loc[~unjudged, "set"].notna().all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--coverage", "1"), "--coverage"),
        (("--coverage", "0"), "--coverage"),
        (("--coverage-from", "battles.csv"), "says nothing without --coverage"),
        (("--coverage", "0.9", "--coverage-from", "nowhere.csv"), "nowhere.csv"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    run: Run, length_judge: Make, battle_file: Make, options: tuple[str, ...], said: str
) -> None:
    result = run("score", battle_file(), "--judge", length_judge(), *options, "-o", "p.csv")
    assert result.exit_code == 2
    assert said in result.stderr
    assert not Path("p.csv").exists()


def test_labels_that_sets_are_learned_from_are_not_written_over(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    labelled, new = battle_file("labelled.csv", count=20), battle_file("new.csv", count=3)
    before = Path(labelled).read_bytes()
    options = ("--judge", length_judge(), "--coverage", "0.8", "--coverage-from", labelled)
    result = run("score", new, *options, "-o", labelled, "--force")
    assert result.exit_code == 2
    assert "is read by this very command" in result.stderr
    assert Path(labelled).read_bytes() == before
