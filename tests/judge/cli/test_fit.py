"""`arena-judge fit`: from labelled battles and votes to a judge that every command takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import Result

from judge.ballots import ballot_table
from judge.judges import load_judge
from judge.judges.recorded import RecordedJudge

Run = Callable[..., Result]
Make = Callable[..., str]

COLUMNS = ["winner_model_a", "winner_model_b", "winner_tie"]


@pytest.fixture
def ballots(battle_file: Make) -> str:
    """Votes on sixty battles that are mostly right, in both orders; the last battle has none."""
    battles = pd.read_csv(battle_file(count=60), dtype={"id": str})
    truth = battles[COLUMNS].to_numpy(dtype=np.float64)
    generator = np.random.default_rng(3)
    tables = []
    for order in ("AB", "BA"):
        votes = np.zeros((60, 5, 4))
        wrong = generator.random((60, 5)) < 0.3
        votes[..., :3] = np.where(wrong[..., None], truth[:, None, [1, 2, 0]], truth[:, None])
        tables.append(ballot_table(battles["id"].tolist(), "oracle", votes, order=order).iloc[:-1])
    pd.concat(tables).to_parquet("ballots.parquet", index=False)
    return "ballots.parquet"


def test_from_ballots_to_a_judge_that_scores_and_compares(run: Run, ballots: str) -> None:
    result = run("fit", "battles.csv", "--ballots", ballots, "-o", "oracle")
    assert result.exit_code == 0, result.stderr
    assert "cross-fitted: log loss" in result.stderr
    assert "1 labelled battle without a readable ballot left out" in result.stderr
    settings = yaml.safe_load(Path("oracle/judge.yaml").read_text())
    assert (settings["kind"], settings["name"]) == ("recorded", "oracle, fitted")
    assert set(settings["made_from"]) == {"battles.csv", "ballots.parquet"}
    measured = settings["measured"]
    assert measured["log_loss"] < measured["log_loss_class_prior"]
    assert measured["order_consistency"] > 0.5
    scored = run("score", "battles.csv", "--judge", "oracle", "-o", "p.csv", "--ballots", "v.csv")
    assert scored.exit_code == 3
    assert "note: oracle, fitted learned from battles.csv" in scored.stderr
    proba = pd.read_csv("p.csv")[COLUMNS]
    assert proba.isna().all(axis=1).tolist() == [False] * 59 + [True]
    assert "no ballot is recorded for this id" in Path("p.csv.unjudged.csv").read_text()
    assert len(pd.read_csv("v.csv")) == 118
    compared = run("compare", "battles.csv", "oracle", "p.csv", "--json")
    assert compared.exit_code == 0
    assert len({s["log_loss"] for s in json.loads(compared.stdout)["scores"][1:]}) == 1


def test_a_fitted_judge_can_be_fitted_again(run: Run, ballots: str) -> None:
    run("fit", "battles.csv", "--ballots", ballots, "-o", "one")
    result = run("fit", "battles.csv", "--judge", "one", "-o", "two", "--name", "mine")
    assert result.exit_code == 0, result.stderr
    first, second = load_judge("one"), load_judge("two")
    assert isinstance(first, RecordedJudge)
    assert isinstance(second, RecordedJudge)
    assert first.aggregator == second.aggregator
    assert second.name == "mine"
    assert len(first.ballots) == len(second.ballots) == 118


def test_any_judge_that_votes_can_be_fitted(run: Run, battle_file: Make) -> None:
    battle_file(count=40)
    result = run(
        *("fit", "battles.csv", "--judge", "statistical", "-o", "mine"),
        *("--covariates", "statistical", "--folds", "2", "--json"),
    )
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["kind"] == "aggregated"
    settings = yaml.safe_load(Path("mine/judge.yaml").read_text())
    assert settings["judge"] == "statistical"
    assert "arena_dev.csv" in settings["made_from"]  # what the judge itself learned from
    assert not Path("mine/ballots.parquet").exists()
    assert run("score", "battles.csv", "--judge", "mine", "-o", "p.csv").exit_code == 0


def test_a_judge_in_a_folder_is_found_from_the_new_one(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    battle_file(count=30)
    inner = length_judge()
    Path("judges").mkdir()
    assert run("fit", "battles.csv", "--judge", inner, "-o", "judges/mine").exit_code == 0
    settings = yaml.safe_load(Path("judges/mine/judge.yaml").read_text())
    assert settings["judge"] == "../../length.judge"
    result = run("score", "battles.csv", "--judge", "judges/mine", "-o", "p.csv")
    assert result.exit_code == 0, result.stderr


def test_the_unreadable_are_unjudged_with_their_reason(run: Run, ballots: str) -> None:
    run("fit", "battles.csv", "--ballots", ballots, "-o", "mine")
    table = pd.read_parquet("mine/ballots.parquet")
    lost = table["id"] == "100"
    table.loc[lost, [c for c in table.columns if c.endswith(("_A", "_B", "_AB", "_NA"))]] = np.nan
    table.assign(reason=np.where(lost, "cut short", None)).to_parquet("mine/ballots.parquet")
    assert run("score", "battles.csv", "--judge", "mine", "-o", "p.csv").exit_code == 3
    assert "100,1,cut short" in Path("p.csv.unjudged.csv").read_text()


def test_the_seed_and_nothing_else_decides(run: Run, ballots: str) -> None:
    for name in ("one", "two"):
        run("fit", "battles.csv", "--ballots", ballots, "-o", name, "--seed", "4")
    assert Path("one/judge.yaml").read_bytes() == Path("two/judge.yaml").read_bytes()


def test_a_folder_appears_whole_or_not_at_all(
    run: Run, ballots: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("fit", "battles.csv", "--ballots", ballots, "-o", "mine")
    before = Path("mine/judge.yaml").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("judge.ballot_files.write_ballots", full)
    result = run("fit", "battles.csv", "--ballots", ballots, "-o", "mine", "--seed", "9")
    assert (result.exit_code, "No space left" in result.stderr) == (2, True)
    assert Path("mine/judge.yaml").read_bytes() == before
    assert not list(Path().glob(".arena-judge-*"))


def test_folders_above_the_judge_are_made(run: Run, ballots: str) -> None:
    result = run("fit", "battles.csv", "--ballots", ballots, "-o", "judges/new/mine")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in Path("judges").rglob("*.yaml")) == ["judge.yaml"]
    assert [path.name for path in Path("judges/new").iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ballots", "ballots.parquet"], "Missing option '-o'"),
        (["-o", "mine"], "give either --judge or --ballots"),
        (["-o", "mine", "--judge", "x", "--ballots", "y"], "give either --judge or --ballots"),
        (["-o", "battles.csv", "--ballots", "ballots.parquet"], "battles.csv: is a file"),
        (["-o", "battles.csv/a/b", "--ballots", "ballots.parquet"], "battles.csv is a file"),
        (["-o", "full", "--ballots", "ballots.parquet"], "is there already and is no judge"),
        (["-o", "mine", "--ballots", "nothing.csv"], "nothing.csv: there is no such file"),
        (["-o", "mine", "--ballots", "full"], "is a folder without ballots"),
        (["-o", "mine", "--ballots", "battles.csv"], "column judge: is missing"),
        (["-o", "mine", "--judge", "mute.judge"], "mute fills in no ballots"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run: Run, ballots: str, length_judge: Make, arguments: list[str], said: str
) -> None:
    Path("full").mkdir()
    Path("full/thesis.txt").touch()
    length_judge("mute", ballots=False)
    result = run("fit", "battles.csv", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not Path("mine").exists()


def test_battles_without_labels_cannot_be_fitted_on(
    run: Run, ballots: str, battle_file: Make
) -> None:
    battle_file("bare.csv", labels=False)
    result = run("fit", "bare.csv", "--ballots", ballots, "-o", "mine")
    assert (result.exit_code, "has no labels to fit on" in result.stderr) == (2, True)
    assert run("fit", "none.csv", "--ballots", ballots, "-o", "mine").exit_code == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: aggregated\n", "names no judge"),
        ("kind: aggregated\njudge: .\n", "names itself"),
        ("kind: aggregated\njudge: nobody\n", "no such judge: 'nobody'"),
        ("kind: recorded\naggregator: 3\n", "aggregator is no list"),
        ("kind: recorded\naggregator: {tie: x}\n", "aggregator cannot be read"),
        ("kind: recorded\n", "ballots.parquet: there is no such file"),
    ],
)
def test_a_damaged_folder_is_one_line(run: Run, battle_file: Make, text: str, said: str) -> None:
    Path("bad").mkdir()
    Path("bad/judge.yaml").write_text(text)
    result = run("score", battle_file(), "--judge", "bad", "-o", "p.csv")
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_battles_of_one_id_are_told_apart(run: Run, battle_file: Make) -> None:
    labelled = battle_file(count=40)
    options = ("--judge", "statistical", "--folds", "2", "-o", "mine")
    assert run("fit", labelled, *options).exit_code == 0
    battle_file("apart.csv", count=6)
    battle_file("alike.csv", count=6, ids=["x", "x", "y", "x", "y", "z"])
    for name in ("apart", "alike"):
        arguments = ("--judge", "mine", "-o", f"{name}-p.csv", "--ballots", f"{name}-v.csv")
        result = run("score", f"{name}.csv", *arguments)
        assert result.exit_code == 0, result.stderr
    apart, alike = pd.read_csv("apart-p.csv"), pd.read_csv("alike-p.csv")
    pd.testing.assert_frame_equal(apart[COLUMNS], alike[COLUMNS])
    assert alike["id"].tolist() == ["x", "x", "y", "x", "y", "z"]
    assert pd.read_csv("alike-v.csv")["id"].tolist() == ["x", "x", "y", "x", "y", "z"]


def test_a_judge_is_not_written_over_one_that_it_asks(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    judge, file = length_judge(), battle_file(count=20)
    Path("all").mkdir()
    Path(judge).rename("all/inner")
    before = Path("all/inner/judge.yaml").read_bytes()
    for output in ("all/inner", "all"):
        result = run("fit", file, "--judge", "all/inner", "-o", output, "--force")
        assert result.exit_code == 2
        assert "all/inner is made of it" in result.stderr
        assert Path("all/inner/judge.yaml").read_bytes() == before
