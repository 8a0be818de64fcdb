"""`arena-judge leaderboard`: a board that says how sure it is, whatever the file holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result

Run = Callable[..., Result]
Make = Callable[..., str]

FEW = ("--rounds", "100")
NAMES = ("ant", "bee", "cat", "dog")


def _battles(count: int = 200, models: Sequence[str] = NAMES, seed: int = 0) -> pd.DataFrame:
    """Battles in which the earlier named tends to win, and the longer answer."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        first, second = generator.choice(len(models), size=2, replace=False).tolist()
        a, b = generator.integers(1, 30, size=2).tolist()
        gap = 0.5 * (second - first) + 0.05 * (a - b)
        winner = "tie" if generator.random() < 0.2 else "a"
        if winner == "a" and generator.random() > 1 / (1 + np.exp(-gap)):
            winner = "b"
        rows.append(
            {
                "id": str(number),
                "model_a": models[first],
                "model_b": models[second],
                "prompt": f"question {number // 2}",
                "response_a": "yes " * a,
                "response_b": "no " * b,
                "winner": winner,
            }
        )
    return pd.DataFrame(rows)


@pytest.fixture
def file(folder: Path) -> Callable[..., str]:
    """Writes battles and gives the file's name."""

    def write(battles: pd.DataFrame | None = None, name: str = "battles.csv") -> str:
        table = _battles() if battles is None else battles
        table.to_csv(folder / name, index=False)
        return name

    return write


def _ranks(output: str) -> list[str]:
    """The models in the table's order."""
    lines = output.split("\n\n")[0].splitlines()[2:]
    return [next(word for word in line.split() if word.isalpha()) for line in lines]


def test_labels_make_a_board(run: Run, file: Make) -> None:
    result = run("leaderboard", file())
    assert result.exit_code == 0
    assert _ranks(result.stdout) == ["ant", "bee", "cat", "dog"]
    assert "4 models, 200 battles, 100 prompts" in result.stdout
    assert "The average model scores 1000" in result.stdout
    assert result.stderr.startswith("4 models by labels, 200 battles: ant")
    assert "Kendall" not in result.stdout
    lines = result.stdout.split("\n\n")[0].splitlines()
    assert len({len(line) for line in lines}) == 1


def test_a_judge_is_held_against_the_labels(run: Run, file: Make, length_judge: Make) -> None:
    result = run("leaderboard", file(), "--judge", length_judge(), "-o", "board.csv", *FEW)
    assert result.exit_code == 0
    assert "length and the labels, 200 battles of 4 models: Kendall's tau-b" in result.stdout
    assert "difference [95 %]" in result.stdout
    board = pd.read_csv("board.csv")
    assert list(board["model"]) == _ranks(result.stdout)
    np.testing.assert_allclose(board["score"] - board["labels_score"], board["labels_difference"])
    assert (board["labels_difference_low"] < board["labels_difference"]).all()
    assert "board.csv: written" in result.stderr


def test_predictions_are_the_judges_word(run: Run, file: Make, length_judge: Make) -> None:
    name, judge = file(), length_judge()
    assert run("score", name, "--judge", judge, "-o", "mine.csv").exit_code == 0
    asked = json.loads(run("leaderboard", name, "--judge", judge, "--json", *FEW).stdout)
    read = json.loads(run("leaderboard", name, "--predictions", "mine.csv", "--json", *FEW).stdout)
    assert read["board"]["name"] == "mine"
    assert read["board"]["models"] == asked["board"]["models"]
    assert read["board"]["scores"] == pytest.approx(asked["board"]["scores"], abs=1e-5)


def test_predictions_that_do_not_fit_are_said(run: Run, file: Make, length_judge: Make) -> None:
    name = file()
    run("score", name, "--judge", length_judge(), "-o", "mine.csv")
    part = pd.read_csv("mine.csv", dtype={"id": str}).iloc[20:].replace({"id": {"30": "other"}})
    part.to_csv("part.csv", index=False)
    result = run("leaderboard", name, "--predictions", "part.csv", *FEW)
    assert "part.csv: 21 battles not in it, counted as unjudged" in result.stderr
    assert "part.csv: 1 prediction for no battle here, left out" in result.stderr
    assert "21 battles unjudged left out." in result.stdout
    assert "4 models, 179 battles" in result.stdout


def test_json_has_everything_and_no_nan(run: Run, file: Make, length_judge: Make) -> None:
    result = run(
        *("leaderboard", file(), "--judge", length_judge(), "--style-control", "--json", *FEW)
    )
    told = json.loads(result.stdout, parse_constant=pytest.fail)
    board = told["board"]
    assert np.array(board["battles"]).shape == np.array(board["better"]).shape == (4, 4)
    assert board["win_rates"][0][0] is None
    assert (board["counted"], board["prompts"], board["seed"]) == (200, 100, 0)
    assert [effect["name"] for effect in told["controlled"]["style"]] == ["length"]
    assert told["controlled"]["constant"] == ["headings", "lists", "bold", "code"]
    assert len(told["changes"]) == len(told["agreement"]["shifts"]) == 4
    assert told["labels"]["name"] == told["labels_controlled"]["name"] == "labels"


def test_style_control_shows_the_difference_it_makes(run: Run, file: Make) -> None:
    result = run("leaderboard", file(_battles(600)), "--style-control", "-o", "board.csv", *FEW)
    assert "style-controlled" in result.stdout
    assert "change [95 %]" in result.stdout
    assert "Alike in all responses, so not held constant: headings, lists, bold, code." in (
        result.stdout
    )
    effect = next(line for line in result.stdout.splitlines() if line.startswith("length"))
    assert float(effect.split()[1]) > 0.1  # the longer answer tends to win
    board = pd.read_csv("board.csv")
    np.testing.assert_allclose(board["style_score"] - board["score"], board["style_change"])


def test_an_anchor_fixes_a_model(run: Run, file: Make) -> None:
    board = json.loads(run("leaderboard", file(), "--anchor", "bee=1200", "--json", *FEW).stdout)
    board = board["board"]
    assert board["scores"][board["models"].index("bee")] == pytest.approx(1200)
    table = run("leaderboard", "battles.csv", "--anchor", "bee=1200", *FEW).stdout
    assert "bee is fixed at 1200" in table


def test_a_name_with_an_equals_sign_can_be_an_anchor(run: Run, file: Make) -> None:
    battles = _battles().replace({"ant": "ant=1"})
    result = run("leaderboard", file(battles), "--anchor", "ant=1=900", *FEW)
    assert result.exit_code == 0
    assert "ant=1 is fixed at 900" in result.stdout


def test_the_same_seed_gives_the_same_board(run: Run, file: Make, length_judge: Make) -> None:
    arguments = ["leaderboard", file(), "--judge", length_judge(), "--style-control", "--json"]
    first = run(*arguments, *FEW).stdout
    assert run(*arguments, *FEW, "--chunk-rows", "7", "--workers", "3").stdout == first
    assert run(*arguments, *FEW, "--seed", "1").stdout != first


def test_an_earlier_board_is_replaced_and_nothing_else(run: Run, file: Make) -> None:
    name = file()
    run("leaderboard", name, "-o", "board.csv", *FEW)
    assert "board.csv: replaced" in run("leaderboard", name, "-o", "board.csv", *FEW).stderr
    Path("notes.csv").write_text("a,b\n1,2\n")
    result = run("leaderboard", name, "-o", "notes.csv", *FEW)
    assert result.exit_code == 2
    assert Path("notes.csv").read_text() == "a,b\n1,2\n"
    assert run("leaderboard", name, "-o", name, *FEW).exit_code == 2


def test_islands_are_said(run: Run, file: Make) -> None:
    two = pd.concat([_battles(60, NAMES[:2]), _battles(40, NAMES[2:], seed=1)])
    result = run("leaderboard", file(two), *FEW)
    assert "The models fall into 2 islands that never met each other" in result.stdout
    assert _ranks(result.stdout) == ["ant", "bee", "cat", "dog"]
    assert result.stdout.splitlines()[0].split()[-1] == "island"


def test_what_is_left_out_is_said(run: Run, file: Make) -> None:
    battles = _battles(40)
    battles.loc[0, "model_a"] = None
    battles.loc[1, "model_b"] = battles.loc[1, "model_a"]
    battles.loc[2, "winner"] = None
    said = run("leaderboard", file(battles), *FEW).stdout
    assert "1 battle without the names of two models left out." in said
    assert "1 battle of a model with itself left out." in said
    assert "1 battle without a label left out." in said
    assert "4 models, 37 battles" in said


def test_spotless_models_and_thin_evidence_are_named(run: Run, file: Make) -> None:
    battles = pd.DataFrame(
        {
            "model_a": ["star", "star", "ant"],
            "model_b": ["ant", "bee", "bee"],
            "prompt": ["p", "q", "r"],
            "response_a": "x",
            "response_b": "y",
            "winner": ["a", "a", "tie"],
        }
    )
    said = run("leaderboard", file(battles), *FEW).stdout
    assert "keeps scores finite: star won every battle." in said
    assert "Only 3 prompts: intervals from so few are rough." in said
    assert "Fewer than 10 battles, so intervals are rough: star, ant, bee." in said
    assert "These cannot be told apart: star, ant, bee." in said


def test_one_battle_is_a_board(run: Run, file: Make) -> None:
    result = run("leaderboard", file(_battles(1)), "--style-control")
    assert result.exit_code == 0
    assert "All battles are about one prompt" in result.stdout
    assert "nan" not in result.stdout


def test_ties_alone_are_a_board(run: Run, file: Make, length_judge: Make) -> None:
    battles = _battles(40).assign(winner="tie")
    result = run("leaderboard", file(battles), "--judge", length_judge(), *FEW)
    assert result.exit_code == 0
    assert "one of the boards has all models equal" in result.stdout
    assert "nan" not in result.stdout


HOSTILE = [
    "<script>alert(1)</script>",
    "\x1b[31mred\x1b]0;title\x07",
    "line\nbreak",
    "=cmd()",
    "z" * 10_000,
    "\u202ertl\u202c",
    "\u200b",
]


def test_hostile_names_stay_names(run: Run, file: Make) -> None:
    result = run("leaderboard", file(_battles(300, HOSTILE)), "-o", "board.csv", *FEW)
    assert result.exit_code == 0
    for text in (result.stdout, result.stderr):
        assert not set(text) & {"\x1b", "\x07", "\u202e", "\u200b"}
    assert max(map(len, result.stdout.splitlines())) < 400
    assert "<script>alert(1)</script>" in result.stdout
    assert "(nothing that can be shown)" in result.stdout
    kept = pd.read_csv("board.csv", keep_default_na=False)["model"]
    assert sorted(kept) == sorted(HOSTILE)


@pytest.mark.parametrize(
    ("columns", "arguments", "message"),
    [
        (["model_a", "model_b"], [], "does not say which models met; name them in the columns"),
        (["winner"], [], "no labels to say who won; add --judge or --predictions"),
        ([], ["--anchor", "eel=1"], "no model 'eel' on the board"),
        ([], ["--anchor", "eel"], "write MODEL=SCORE"),
        ([], ["--anchor", "ant=nan"], "write MODEL=SCORE"),
        ([], ["--anchor", "=1000"], "write MODEL=SCORE"),
        ([], ["--judge", "statistical", "--predictions", "p.csv"], "give one of them"),
        ([], ["--predictions", "nowhere.csv"], "nowhere.csv: there is no such file"),
        ([], ["--prior", "0"], "--prior"),
        ([], ["--rounds", "10"], "--rounds"),
        ([], ["--seed", "-1"], "--seed"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    run: Run, file: Make, columns: list[str], arguments: list[str], message: str
) -> None:
    result = run("leaderboard", file(_battles(20).drop(columns=columns)), *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_battles_that_do_not_count_are_an_error(run: Run, file: Make) -> None:
    battles = _battles(20).assign(model_a="ant", model_b="ant")
    result = run("leaderboard", file(battles))
    assert result.exit_code == 2
    assert "20 of a model with itself" in result.stderr


def test_a_judge_learned_from_the_file_is_said(
    run: Run, file: Make, length_judge: Make, folder: Path
) -> None:
    from judge.provenance import fingerprint

    source = fingerprint(folder / file())
    made = {source.name: {"bytes": source.size, "sha256": source.sha256}}
    result = run("leaderboard", "battles.csv", "--judge", length_judge(made_from=made), *FEW)
    assert "learned from battles.csv" in result.stderr


def test_the_statistical_judge_agrees_with_people(run: Run, shared_data: Path) -> None:
    result = run(
        *("leaderboard", str(shared_data / "arena_dev.csv"), "--judge", "statistical"),
        *("--json", *FEW),
    )
    told = json.loads(result.stdout)["agreement"]
    assert (told["models"], told["battles"]) == (63, 972)
    assert told["spearman"] > 0.5
    assert told["contradicted"] < told["confirmed"] / 20


def test_the_board_and_its_page_are_two_files(run: Run, file: Make) -> None:
    result = run("leaderboard", file(), "-o", "board.html", "--report", "./board.html")
    assert result.exit_code == 2
    assert "--output and --report name the same file" in result.stderr
    assert not Path("board.html").exists()
