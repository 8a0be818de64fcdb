"""What `arena-judge compare` looks into: leaks, repeats, labels from elsewhere, what is missing,
slices and what people agree on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import Result

from judge.comparing.leaks import seen_of, write_seen

Run = Callable[..., Result]
Make = Callable[..., str]

COLUMNS = ["winner_model_a", "winner_model_b", "winner_tie"]


def words(seed: int, count: int) -> str:
    letters = np.random.default_rng(seed).integers(26, size=(count, 5)) + ord("a")
    return " ".join("".join(map(chr, row)) for row in letters.tolist())


@pytest.fixture
def battles(folder: Path) -> pd.DataFrame:
    """Sixty battles, each of words of its own, in `battles.csv`."""
    rng = np.random.default_rng(0)
    rows = []
    for n in range(60):
        won = np.eye(3, dtype=int)[rng.integers(3)]
        rows.append(
            {
                "id": f"b{n}",
                "model_a": f"model {n % 3}",
                "model_b": f"model {3 + n % 2}",
                "prompt": json.dumps([words(n, 12)] * (1 + n % 2)),
                "response_a": json.dumps([words(100 + n, 30 + n)] * (1 + n % 2)),
                "response_b": json.dumps([words(200 + n, 60)] * (1 + n % 2)),
                "category": "math" if n < 30 else "chat",
                **dict(zip(COLUMNS, won.tolist(), strict=True)),
            }
        )
    table = pd.DataFrame(rows)
    table.to_csv("battles.csv", index=False)
    return table


@pytest.fixture
def predictions(battles: pd.DataFrame) -> str:
    rng = np.random.default_rng(1)
    proba = pd.DataFrame(rng.dirichlet([4, 4, 4], size=60), columns=COLUMNS)
    pd.concat([battles[["id"]], proba], axis=1).to_csv("p.csv", index=False)
    return "p.csv"


def told(run: Run, *arguments: str) -> dict[str, Any]:
    result = run("compare", "battles.csv", *arguments, "--rounds", "100", "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def learner(length_judge: Make, table: pd.DataFrame, name: str = "learner") -> str:
    """A judge whose folder says that it learned from the battles."""
    table.to_csv("learned.csv", index=False)
    judge = length_judge(name)
    write_seen(Path(judge), seen_of("learned.csv"))
    return judge


# --- leaks ----------------------------------------------------------------------------------------


def test_a_judge_that_learned_from_the_battles_is_found_out(
    run: Run, length_judge: Make, battles: pd.DataFrame, predictions: str
) -> None:
    judge = learner(length_judge, battles.iloc[:20])
    result = run("compare", "battles.csv", predictions, judge, "--rounds", "100")
    assert "LEAK: learner learned from 20 of the battles here, in learned.csv: b0, b1" in (
        result.stdout
    )
    assert "What p learned from is not known" in result.stdout
    found = told(run, predictions, judge)
    (leak,) = found["leaks"]
    assert (leak["judge"], leak["exact"], leak["near"], leak["prompt"]) == ("learner", 20, 0, 0)
    assert found["learned_from_unknown"] == ["p"]
    scores = {score["name"]: score for score in found["scores"]}
    parts = [leak["learned"], leak["without"]]
    assert [part["battles"] for part in parts] == [20, 40]
    mean = sum(part["battles"] * part["log_loss"] for part in parts) / 60
    assert mean == pytest.approx(scores["learner"]["log_loss"])


def test_swapped_edited_and_reprinted_battles_are_found(
    run: Run, length_judge: Make, battles: pd.DataFrame
) -> None:
    known = battles.iloc[:30].copy()
    a, b = known["response_a"].copy(), known["response_b"].copy()
    known.loc[:9, ["response_a", "response_b"]] = np.column_stack([b[:10], a[:10]])
    known.loc[10:19, "prompt"] = known.loc[10:19, "prompt"].str.upper()
    for n in range(20, 30):
        known.loc[n, "response_a"] = json.dumps(
            [turn.replace(turn.split()[3], "edited") for turn in json.loads(str(a[n]))]
        )
    (leak,) = told(run, learner(length_judge, known), "--leaks", "leaks.csv")["leaks"]
    assert leak["exact"] == 20
    assert leak["near"] >= 9
    table = pd.read_csv("leaks.csv")
    assert table["id"].tolist()[:20] == [f"b{n}" for n in range(20)]
    assert set(table["kind"][:20]) == {"exact"}
    assert set(table["seen_in"]) == {"learned.csv"}


def test_dropping_leaks_leaves_them_out_for_all(
    run: Run, length_judge: Make, battles: pd.DataFrame, predictions: str
) -> None:
    judge = learner(length_judge, battles.iloc[:20])
    found = told(run, predictions, judge, "--drop-leaks")
    assert (found["dropped"], found["battles"], found["unlabelled"]) == (20, 40, 0)
    battles.iloc[20:].to_csv("rest.csv", index=False)
    rest = json.loads(
        run("compare", "rest.csv", predictions, judge, "--rounds", "100", "--json").stdout
    )
    for one, other in zip(found["scores"], rest["scores"], strict=True):
        assert one["log_loss"] == pytest.approx(other["log_loss"])
        assert one["low"] == pytest.approx(other["low"])
    said = run("compare", "battles.csv", predictions, judge, "--drop-leaks").stdout
    assert "20 labelled battles that a judge learned from are left out for all judges" in said
    everything = learner(length_judge, battles, "everything")
    result = run("compare", "battles.csv", everything, "--drop-leaks")
    assert result.exit_code == 2
    assert "judges learned from every labelled battle" in result.stderr


def test_what_judges_without_marks_learned_from_can_be_said(
    run: Run, length_judge: Make, battles: pd.DataFrame, predictions: str
) -> None:
    battles.iloc[:5].to_csv("five.csv", index=False)
    judge = learner(length_judge, battles.iloc[50:])
    found = told(run, predictions, judge, "--trained-on", "five.csv")
    leaks = {leak["judge"]: leak["exact"] for leak in found["leaks"]}
    assert leaks == {"p": 5, "learner": 10}
    assert found["learned_from_unknown"] == []
    found = told(run, predictions, judge, "--trained-on", "learner=five.csv")
    leaks = {leak["judge"]: leak["exact"] for leak in found["leaks"]}
    assert leaks == {"learner": 15}
    assert found["learned_from_unknown"] == ["p"]


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("nobody=five.csv", "--trained-on speaks of 'nobody'; name one of learner"),
        ("five.csv", "is for judges whose folder does not say"),
        ("learner=none.csv", "none.csv: there is no such file"),
    ],
)
def test_who_did_not_learn_is_said(
    run: Run, length_judge: Make, battles: pd.DataFrame, argument: str, said: str
) -> None:
    battles.iloc[:5].to_csv("five.csv", index=False)
    judge = learner(length_judge, battles)
    result = run("compare", "battles.csv", judge, "--trained-on", argument)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


def test_damaged_marks_stop_before_any_battle_is_judged(
    run: Run, length_judge: Make, battles: pd.DataFrame
) -> None:
    judge = learner(length_judge, battles)
    (Path(judge) / "seen.npz").write_text("no marks")
    result = run("compare", "battles.csv", judge)
    assert result.exit_code == 2
    assert "seen.npz: holds no usable marks" in result.stderr


def test_the_same_battle_twice_is_said(run: Run, battles: pd.DataFrame, predictions: str) -> None:
    again = battles.iloc[:2].assign(id=["x0", "x1"])
    again.loc[0, ["response_a", "response_b"]] = battles.loc[0, ["response_b", "response_a"]].array
    again.loc[0, COLUMNS] = again.loc[1, COLUMNS] = [1, 0, 0]
    first = battles.copy()
    first.loc[0, COLUMNS] = first.loc[1, COLUMNS] = [1, 0, 0]
    pd.concat([first, again]).to_csv("battles.csv", index=False)
    found = told(run, predictions)
    assert found["repeats"] == {
        "battles": 2,
        "opposed": 1,
        "ids": [["b0", "x0"], ["b1", "x1"]],
    }
    stdout = run("compare", "battles.csv", predictions).stdout
    assert "2 battles stand here again, 1 of them with the opposite label" in stdout
    assert "x0 is b0, x1 is b1." in stdout


# --- labels ---------------------------------------------------------------------------------------


def test_labels_from_a_file_go_first(run: Run, battles: pd.DataFrame, predictions: str) -> None:
    mine = battles[["id", *COLUMNS]].iloc[:10].copy()
    mine[COLUMNS] = [0, 0, 1]
    pd.concat([mine, pd.DataFrame([["zz", 1, 0, 0]], columns=mine.columns)]).to_csv(
        "mine.csv", index=False
    )
    found = told(run, predictions, "--labels", "mine.csv")
    changed = int((battles["winner_tie"][:10] == 0).sum())
    assert found["labels"] == {
        "file": "mine.csv",
        "given": 10,
        "added": 0,
        "changed": changed,
        "unknown": ["zz"],
    }
    joined = battles.copy()
    joined.loc[:9, COLUMNS] = [0, 0, 1]
    assert found["prior"] == pytest.approx(joined[COLUMNS].mean().tolist())
    only = told(run, predictions, "--labels", "mine.csv", "--labels-only")
    assert (only["battles"], only["unlabelled"], only["prior"]) == (10, 50, [0, 0, 1])
    said = run("compare", "battles.csv", predictions, "--labels", "mine.csv").stdout
    assert f"mine.csv: labels of 10 battles, 0 of which had none and {changed} another" in said
    assert "mine.csv: 1 id of no battle here, left out: zz." in said


def test_labels_of_battles_that_had_none_changed_none(
    run: Run, battles: pd.DataFrame, predictions: str
) -> None:
    battles[["id", *COLUMNS]].to_csv("mine.csv", index=False)
    bare = battles.copy()
    bare[COLUMNS] = np.nan
    bare.loc[:1, COLUMNS] = 1 - battles.loc[:1, COLUMNS]
    bare.loc[:1, COLUMNS] /= 2
    bare.to_csv("battles.csv", index=False)
    said = run("compare", "battles.csv", predictions, "--labels", "mine.csv").stdout
    none = len(battles) - 2
    assert f"labels of {none + 2} battles, {none} of which had none and 2 another" in said


def test_battles_without_labels_are_compared_by_those_of_a_file(
    run: Run, battles: pd.DataFrame, predictions: str
) -> None:
    whole = told(run, predictions)
    battles[["id", *COLUMNS]].to_csv("mine.csv", index=False)
    battles.drop(columns=COLUMNS).to_csv("battles.csv", index=False)
    assert run("compare", "battles.csv", predictions).exit_code == 2
    found = told(run, predictions, "--labels", "mine.csv")
    assert found["scores"][1]["log_loss"] == whole["scores"][1]["log_loss"]
    assert found["labels"]["added"] == 60


def test_labels_that_do_not_fit_are_one_line(
    run: Run, battles: pd.DataFrame, predictions: str
) -> None:
    Path("mine.csv").write_text(f"id,{','.join(COLUMNS)}\nb0,1,0,0\nb0,1,0,0\n")
    result = run("compare", "battles.csv", predictions, "--labels", "mine.csv")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "mine.csv, row 3, column id: is 'b0' again" in result.stderr
    result = run("compare", "battles.csv", predictions, "--labels-only")
    assert result.exit_code == 2
    assert "--labels" in result.stderr


# --- missing --------------------------------------------------------------------------------------


def test_battles_missing_from_a_judge_are_listed_with_the_reason(
    run: Run, length_judge: Make, battles: pd.DataFrame, predictions: str
) -> None:
    table = pd.read_csv(predictions)
    table.loc[3, COLUMNS] = np.nan
    table.iloc[:50].to_csv("part.csv", index=False)
    word = str(json.loads(battles["prompt"][7])[0]).split()[0]
    judge = length_judge("picky", unjudged=word)
    arguments = ("part.csv", judge, "--missing", "missing.csv")
    result = run("compare", "battles.csv", *arguments)
    assert "missing.csv: written" in result.stderr
    listed = pd.read_csv("missing.csv")
    assert list(listed.columns) == ["id", "judge", "reason"]
    part = listed[listed["judge"] == "part"]
    assert part["id"].tolist() == ["b3", *(f"b{n}" for n in range(50, 60))]
    assert part["reason"].tolist() == ["unjudged"] + ["not in file"] * 10
    picky = listed[listed["judge"] == "picky"]
    assert picky["id"].tolist() == ["b7"]
    assert picky["reason"].str.startswith("unjudged: no answer").all()
    assert "Missing from part: 10 not in its file, 1 unjudged: b3, b50, b51" in result.stdout
    assert told(run, *arguments)["missing"] == listed.to_dict("records")


def test_lists_are_not_written_over_other_files(
    run: Run, battles: pd.DataFrame, predictions: str
) -> None:
    for option in ("--leaks", "--missing"):
        result = run("compare", "battles.csv", predictions, option, "battles.csv")
        assert result.exit_code == 2
        assert "is read by this very command" in result.stderr
        Path("other.csv").write_text("name,grade\nme,1\n")
        assert run("compare", "battles.csv", predictions, option, "other.csv").exit_code == 2
        assert Path("other.csv").read_text() == "name,grade\nme,1\n"
        for _ in range(2):  # an earlier list of ours is replaced
            again = run("compare", "battles.csv", predictions, option, f"{option[2:]}.csv")
            assert again.exit_code == 0
        assert "replaced" in again.stderr
    both = run("compare", "battles.csv", predictions, "--leaks", "x.csv", "--missing", "x.csv")
    assert both.exit_code == 2
    assert "one file" in both.stderr


# --- slices and people ----------------------------------------------------------------------------


def test_slices_are_shown_when_they_are_asked_for(
    run: Run, length_judge: Make, battles: pd.DataFrame, predictions: str
) -> None:
    judge = length_judge("other", gain=2)
    assert "slices" not in told(run, predictions)
    found = told(run, predictions, judge, "--slices", "all", "--slice-least", "10")
    slices = found["slices"]["slices"]
    assert {part["by"] for part in slices} == {
        *("turns", "length", "length-difference", "category", "model")
    }
    assert found["slices"]["best"] == found["best"]
    chat = next(part for part in slices if part["name"] == "chat")
    assert (chat["battles"], len(chat["scores"])) == (30, 2)
    arguments = ("--slices", "category,turns", "--slice-least", "10")
    stdout = run("compare", "battles.csv", predictions, judge, *arguments).stdout
    heads = [line for line in stdout.splitlines() if line.startswith("by ")]
    assert [head.split()[1] for head in heads] == ["category", "turns"]
    assert max(map(len, heads)) <= 120
    assert "p-values are Holm's, over these 8 differences to the prior and over the 4" in stdout


def test_slices_that_are_all_too_small_are_not_called_alike(
    run: Run, battles: pd.DataFrame, predictions: str
) -> None:
    battles.assign(source=[f"s{i % 20}" for i in range(60)]).to_csv("battles.csv", index=False)
    arguments = ("--slices", "source", "--slice-least", "10")
    stdout = run("compare", "battles.csv", predictions, *arguments).stdout
    assert "By source there is nothing to show: each of 20 slices has fewer than 10 b" in stdout
    assert "alike" not in stdout
    found = told(run, predictions, *arguments)["slices"]
    assert (found["small"], found["alone"]) == ([["source", 20]], [])


def test_any_column_will_do_and_none_that_is_not_there(
    run: Run, battles: pd.DataFrame, predictions: str
) -> None:
    battles.assign(source=["x", "y"] * 30).to_csv("battles.csv", index=False)
    found = told(run, predictions, "--slices", "source", "--slice-least", "5")
    assert [part["name"] for part in found["slices"]["slices"]] == ["x", "y"]
    result = run("compare", "battles.csv", predictions, "--slices", "sauce")
    assert result.exit_code == 2
    assert "no battle says anything of 'sauce'" in result.stderr
    for names in ("prompt", ","):
        assert run("compare", "battles.csv", predictions, "--slices", names).exit_code == 2


def test_people_s_votes_make_a_ceiling(run: Run, battles: pd.DataFrame, predictions: str) -> None:
    assert told(run, predictions)["ceiling"] is None
    rng = np.random.default_rng(3)
    votes = np.stack([rng.multinomial(4, row) for row in rng.dirichlet([1, 1, 1], size=60)])
    names = ["votes_a", "votes_b", "votes_tie"]
    voted = battles.drop(columns=COLUMNS)
    voted[names] = votes
    voted.to_csv("battles.csv", index=False)
    ceiling = told(run, predictions)["ceiling"]
    assert (ceiling["battles"], ceiling["votes"]) == (60, 240)
    assert [row["name"] for row in ceiling["rows"]] == [
        "human ceiling",
        "one human against the others",
    ]
    stdout = run("compare", "battles.csv", predictions).stdout
    assert "one human against the others" in stdout
    assert "240 votes on 60 battles" in stdout
    # Labels from elsewhere are not what these people said.
    battles[["id", *COLUMNS]].to_csv("mine.csv", index=False)
    assert told(run, predictions, "--labels", "mine.csv")["ceiling"] is None


def test_nothing_from_files_acts_on_the_terminal(
    run: Run, length_judge: Make, battles: pd.DataFrame, predictions: str
) -> None:
    hostile = "\x1b[2J\u202ename"
    battles.assign(id=[f"{hostile}{n}" for n in range(60)], category=hostile).to_csv(
        "learned.csv", index=False
    )
    Path("battles.csv").write_text(Path("learned.csv").read_text())
    judge = length_judge("learner")
    write_seen(Path(judge), seen_of("learned.csv"))
    pd.read_csv(predictions).assign(id=[f"{hostile}{n}" for n in range(60)]).iloc[:40].to_csv(
        "p.csv", index=False
    )
    arguments = ("--slices", "category,model", "--slice-least", "10")
    result = run("compare", "battles.csv", judge, predictions, *arguments)
    assert result.exit_code == 0
    assert "LEAK" in result.stdout
    assert "\x1b" not in result.stdout + result.stderr
    assert "\u202e" not in result.stdout + result.stderr


def test_fitting_leaves_marks_that_comparing_finds(run: Run, battle_file: Make) -> None:
    file = battle_file("labelled.csv", count=40)
    result = run("fit", file, "--judge", "statistical", "-o", "mine")
    assert result.exit_code == 0, result.stderr
    assert Path("mine/seen.npz").is_file()
    stdout = run("compare", file, "mine", "--rounds", "100").stdout
    assert "LEAK: statistical, fitted learned from 40 of the battles here, in labelled.csv" in (
        " ".join(stdout.split())
    )
