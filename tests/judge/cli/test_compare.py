"""`arena-judge compare`: judges and prediction files in one table, nobody dropped in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result

Run = Callable[..., Result]
Make = Callable[..., str]

COLUMNS = ["winner_model_a", "winner_model_b", "winner_tie"]


@pytest.fixture
def predictions(run: Run, length_judge: Make, battle_file: Make) -> str:
    """What the stand-in judge says of forty battles."""
    result = run("score", battle_file(count=40), "--judge", length_judge(), "-o", "p.csv")
    assert result.exit_code == 0
    return "p.csv"


def _rewrite(name: str, change: Callable[[pd.DataFrame], pd.DataFrame], to: str) -> str:
    change(pd.read_csv(name, dtype={"id": str})).to_csv(to, index=False)
    return to


def _untimed(stdout: str) -> object:
    """What was told, without how long it took."""
    told = json.loads(stdout)
    for score in told["scores"]:
        del score["effort"]["seconds"]
    return told


def test_the_table_has_the_prior_first_and_then_the_best(
    run: Run, length_judge: Make, predictions: str
) -> None:
    judge = length_judge("contrary", gain=-1)
    result = run("compare", "battles.csv", judge, predictions)
    assert result.exit_code == 0
    assert result.stderr == ""
    header, rule, *rows = result.stdout.split("\n\n")[0].splitlines()
    assert header.split()[:4] == ["judge", "battles", "log", "loss"]
    assert set(rule) == {"-", " "}
    assert [row.split("  ")[0] for row in rows] == ["class prior", "p", "contrary"]
    assert len({len(row) for row in rows}) == 1
    assert "40 labelled battles, 40 prompts" in result.stdout
    assert "fitted on these very labels" in result.stdout


def test_every_table_fits_a_terminal_of_120_columns(
    run: Run, length_judge: Make, predictions: str
) -> None:
    judges = [length_judge(f"a judge with a long name {gain}", gain=gain) for gain in (-3, 0, 9)]
    stdout = run("compare", "battles.csv", predictions, *judges).stdout
    tables = stdout.split("\n\n")[:3]
    heads = [table.splitlines()[0].split() for table in tables]
    assert [head[1] for head in heads] == ["battles", "Brier", "entropy"]
    assert {"RPS", "decided", "F1", "kappa", "alpha", "ECE"} < set(heads[1])
    assert {"lean", "time"} < set(heads[2])
    assert {len(table.splitlines()) for table in tables} == {7}
    # These names are alike as far as they would be cut, so they are not.
    assert "a judge with a long name -3" in tables[0]
    short = run("compare", "battles.csv", predictions, f"a judge with a long name={judges[0]}")
    shown = short.stdout.split("\n\n")[:3]
    assert max(len(line) for table in shown for line in table.splitlines()) <= 120
    assert "a judge with a…" in shown[0]
    assert "a judge with a long name 9 is better than every other" in stdout
    assert "learned from is not known" in stdout


def test_judges_that_say_the_same_cannot_be_told_apart(
    run: Run, length_judge: Make, predictions: str
) -> None:
    stdout = run("compare", "battles.csv", predictions, length_judge("same")).stdout
    assert "p and same cannot be told apart on this data." in stdout
    assert "same has the very log loss of p." in stdout
    row = next(line for line in stdout.splitlines() if line.startswith("same"))
    assert row.endswith("0.0000 [0.0000, 0.0000]  1.000")


def test_what_cannot_be_said_is_a_dash(run: Run, length_judge: Make, battle_file: Make) -> None:
    table = pd.read_csv(battle_file(count=12), dtype=str)
    table[COLUMNS] = ["0", "0", "1"]
    table.to_csv("ties.csv", index=False)
    result = run("compare", "ties.csv", length_judge("empty", unjudged="question"), length_judge())
    assert result.exit_code == 0
    losses, measures, *_ = (part.splitlines() for part in result.stdout.split("\n\n"))
    empty = next(line for line in measures if line.startswith("empty")).split()
    assert set(empty[1:]) == {"-"}
    assert next(line for line in losses if line.startswith("empty")).split()[1] == "0"
    prior = dict(zip(measures[0].split(), measures[2].removeprefix("class ").split(), strict=False))
    assert (prior["decided"], prior["kappa"], prior["alpha"]) == ("-", "-", "-")
    assert "empty judged none of them, and is not compared." in result.stdout


def test_one_battle_is_compared(run: Run, length_judge: Make, battle_file: Make) -> None:
    result = run("compare", battle_file(count=1), length_judge())
    assert result.exit_code == 0
    assert "1 labelled battle, 1 prompt;" in result.stdout
    assert "One prompt says nothing about others" in result.stdout
    assert "nan" not in result.stdout


def test_the_time_that_a_judge_takes_is_measured_and_that_of_a_file_is_not(
    run: Run, length_judge: Make, predictions: str
) -> None:
    slow = length_judge("slow", seconds=0.2)
    told = json.loads(run("compare", "battles.csv", predictions, slow, "--json").stdout)
    efforts = {score["name"]: score["effort"] for score in told["scores"]}
    assert efforts["slow"]["seconds"] >= 0.2 / 40
    assert efforts["slow"]["cost"] is None
    assert efforts["p"] == {"seconds": None, "cost": None}


def test_recorded_ballots_say_whether_the_orders_agree(
    run: Run, predictions: str, battle_file: Make
) -> None:
    votes = [
        {"id": 100 + n, "judge": "gpt", "order": order, "vote": "a" if order == "ab" else later}
        for n, later in enumerate(["b", "b", "b", "a"] * 10)
        for order in ("ab", "ba")
    ]
    pd.DataFrame(votes).to_csv("votes.csv", index=False)
    assert run("import", "votes.csv", "-o", "ballots.parquet").exit_code == 0
    made = run("fit", "battles.csv", "--ballots", "ballots.parquet", "-o", "gpt.judge")
    assert made.exit_code == 0, made.stderr
    result = run("compare", "battles.csv", predictions, "gpt.judge")
    head, _, *rows = result.stdout.split("\n\n")[2].splitlines()
    assert "orders agree" in head
    cells = {row.split("  ")[0]: row.split() for row in rows}
    assert any("75.0%" in row for row in rows)
    assert "-" in cells["p"]
    told = json.loads(run("compare", "battles.csv", "gpt.judge", "--json").stdout)
    assert told["scores"][1]["order"]["order_consistency"] == 0.75
    assert told["scores"][1]["order"]["pairs"] == 40


def test_json_has_every_figure(run: Run, length_judge: Make, predictions: str) -> None:
    result = run(
        *("compare", "battles.csv", f"old={predictions}", f"new={length_judge('other', gain=2)}"),
        *("--json", "--rounds", "200", "--seed", "5"),
    )
    told = json.loads(result.stdout)
    assert (told["rounds"], told["seed"], told["battles"]) == (200, 5, 40)
    scores = {score["name"]: score for score in told["scores"]}
    assert set(scores) == {"class prior", "old", "new"}
    proba = pd.read_csv(predictions)[COLUMNS].to_numpy()
    labels = pd.read_csv("battles.csv")[COLUMNS].to_numpy()
    assert scores["old"]["log_loss"] == pytest.approx(-np.log(proba[labels == 1]).mean())
    assert scores[told["best"]]["against_best"] is None
    assert scores["class prior"]["against_prior"] is None
    assert 0 < scores["old"]["against_prior"]["p_value"] <= 1


def test_a_judge_and_the_file_of_what_it_said_are_the_same(
    run: Run, length_judge: Make, predictions: str
) -> None:
    result = run("compare", "battles.csv", predictions, length_judge("same"), "--json")
    first, second = json.loads(result.stdout)["scores"][1:]
    assert first["log_loss"] == second["log_loss"]
    none = {"value": 0, "low": 0, "high": 0, "p_value": 1, "p_holm": 1, "error": 0}
    assert second["against_best"] == none | {"more_battles": None}


def test_the_seed_and_nothing_else_decides_the_figures(
    run: Run, length_judge: Make, predictions: str
) -> None:
    judge = length_judge("other", gain=2)
    arguments = ["compare", "battles.csv", predictions, judge, "--json"]
    first = _untimed(run(*arguments).stdout)
    assert _untimed(run(*arguments, "--chunk-rows", "7", "--workers", "3").stdout) == first
    assert _untimed(run(*arguments, "--seed", "1").stdout) != first


def test_battles_about_one_prompt_are_resampled_together(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    file = battle_file(count=40, prompts=[f"question {n // 4}" for n in range(40)])
    told = json.loads(run("compare", file, length_judge(), "--json").stdout)
    assert (told["battles"], told["prompts"]) == (40, 10)


def test_predictions_in_another_order_find_their_battles(
    run: Run, length_judge: Make, predictions: str
) -> None:
    shuffled = _rewrite(predictions, lambda table: table.sample(frac=1, random_state=1), "s.csv")
    told = json.loads(run("compare", "battles.csv", predictions, shuffled, "--json").stdout)
    assert told["scores"][1]["log_loss"] == told["scores"][2]["log_loss"]


def test_what_is_missing_or_unknown_is_said(run: Run, length_judge: Make, predictions: str) -> None:
    part = _rewrite(
        predictions, lambda table: table.iloc[:30].replace("100", "unheard"), "part.csv"
    )
    result = run("compare", "battles.csv", predictions, part)
    assert result.exit_code == 0
    assert "part.csv: 11 battles not in it, counted as unjudged" in result.stderr
    assert "part.csv: 1 prediction for no battle here, left out" in result.stderr
    assert "part left 11 battles unjudged." in result.stdout
    assert "Differences are over the 29 battles that all have judged." in result.stdout
    table = result.stdout.split("\n\n")[0].splitlines()
    rows = {line.split()[0]: line.split()[1] for line in table}
    assert (rows["p"], rows["part"]) == ("40", "29")


def test_what_a_judge_leaves_unjudged_is_said(
    run: Run, length_judge: Make, predictions: str
) -> None:
    judge = length_judge("picky", unjudged="question 3")
    told = json.loads(run("compare", "battles.csv", predictions, judge, "--json").stdout)
    counts = {score["name"]: (score["battles"], score["unjudged"]) for score in told["scores"]}
    assert counts == {"class prior": (40, 0), "p": (40, 0), "picky": (29, 11)}


def test_unlabelled_battles_are_left_out_and_said(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    table = pd.read_csv(battle_file(count=20), dtype=str)
    table.loc[:4, COLUMNS] = None
    table.to_csv("some.csv", index=False)
    result = run("compare", "some.csv", length_judge())
    assert "5 battles without a label left out." in result.stdout
    assert "15 labelled battles" in result.stdout


def test_without_labels_there_is_nothing_to_compare_by(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    judge = length_judge()
    result = run("compare", battle_file(labels=False), judge)
    assert result.exit_code == 2
    assert "battles.csv: has no labels" in result.stderr
    table = pd.read_csv(battle_file("empty.csv"), dtype=str)
    table[COLUMNS] = None
    table.to_csv("empty.csv", index=False)
    result = run("compare", "empty.csv", judge)
    assert result.exit_code == 2
    assert "label" in result.stderr


@pytest.mark.parametrize(
    ("entrants", "said"),
    [
        (["p.csv", "p.csv"], "two of them are called 'p'; tell them apart: NAME="),
        (["x=p.csv", "x=length.judge"], "two of them are called 'x'"),
        (["class prior=p.csv"], "two of them are called 'class prior'"),
        (["q.csv"], "q.csv: there is no such file"),
        (["new=q.csv"], "q.csv: there is no such file"),
        (["statistcal"], "no such judge: 'statistcal'; did you mean statistical?"),
        (["./battles.csv"], "./battles.csv: would be compared with itself"),
        (["strange.csv"], "strange.csv, column id: none of its ids is among the battles"),
        (["twice.csv"], "twice.csv, column id: id '101' occurs more than once in the predictions"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    run: Run, predictions: str, entrants: list[str], said: str
) -> None:
    _rewrite(predictions, lambda table: table.assign(id="x" + table["id"]), "strange.csv")
    _rewrite(predictions, lambda table: table.replace({"id": {"100": "101"}}), "twice.csv")
    result = run("compare", "battles.csv", *entrants, "-o", "table.csv")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not Path("table.csv").exists()


def test_the_table_is_written_as_csv_too(run: Run, predictions: str) -> None:
    arguments = ["compare", "battles.csv", predictions, "-o", "table.csv"]
    assert "table.csv: written" in run(*arguments).stderr
    table = pd.read_csv("table.csv")
    assert table["name"].tolist() == ["class prior", "p"]
    assert table["against_prior_p_value"].notna().tolist() == [False, True]
    assert "table.csv: replaced" in run(*arguments).stderr


@pytest.mark.parametrize("output", ["battles.csv", "p.csv", "other.csv"])
def test_nothing_else_is_written_over(run: Run, predictions: str, output: str) -> None:
    Path("other.csv").write_text("name,grade\nme,1\n")
    before = Path(output).read_bytes()
    result = run("compare", "battles.csv", f"mine={predictions}", "-o", output)
    assert result.exit_code == 2
    assert Path(output).read_bytes() == before


def test_names_from_files_cannot_act_on_the_terminal(
    run: Run, length_judge: Make, predictions: str
) -> None:
    judge = length_judge("\x1b[2Jevil\u202e\nrow")
    hostile = Path("\x1b[31mred.csv")
    hostile.write_bytes(Path(predictions).read_bytes())
    result = run("compare", "battles.csv", judge, str(hostile))
    assert result.exit_code == 0
    assert "[2Jevil row" in result.stdout
    assert not set("\x1b\u202e") & set(result.output)


@pytest.mark.parametrize("name", ["a=b.csv", "dots.in.name.csv.gz", "p.jsonl", "p.parquet"])
def test_predictions_are_called_by_their_file(
    run: Run, length_judge: Make, battle_file: Make, name: str
) -> None:
    assert run("score", battle_file(), "--judge", length_judge(), "-o", name).exit_code == 0
    told = json.loads(run("compare", "battles.csv", name, "--json").stdout)
    expected = {"a=b.csv": "a=b", "dots.in.name.csv.gz": "dots.in.name"}.get(name, "p")
    assert told["best"] == expected


def test_votes_of_another_tool_are_compared_and_made_no_judge_of(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    file, judge = battle_file(count=40), length_judge()
    battles = pd.read_csv(file, dtype={"id": str})
    told = np.where(battles["winner_model_a"] == 1, "A", "B")
    votes = pd.DataFrame({"id": battles["id"], "judge": "oracle", "order": "ab", "vote": told})
    votes.iloc[:-1].to_csv("votes.csv", index=False)
    assert run("import", "votes.csv", "-o", "ballots.parquet").exit_code == 0
    result = run("compare", file, "them=ballots.parquet", judge, "--rounds", "100", "--json")
    assert result.exit_code == 0, result.stderr
    assert "them is votes, counted unfitted; arena-judge fit learns how" in result.stderr
    scores = {row["name"]: row for row in json.loads(result.stdout)["scores"]}
    assert (scores["them"]["battles"], scores["them"]["unjudged"]) == (39, 1)
    for refused in (
        ("blend", file, "ballots.parquet", judge, "-o", "made"),
        ("cascade", file, judge, "ballots.parquet", "-o", "made.yaml"),
        ("calibrate", file, "--judge", "ballots.parquet", "-o", "made"),
    ):
        result = run(*refused)
        assert result.exit_code == 2
        assert "ballots.parquet" in result.stderr
        assert not Path("made").exists()
