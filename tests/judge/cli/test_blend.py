"""`arena-judge blend`: from labelled battles and judges to a blend of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import Result

from judge.blending import METHODS, OPTIONS
from judge.cli import blend as command
from judge.comparing.leaks import read_seen
from judge.judges import load_judge
from judge.judges.blended import BlendedJudge

Run = Callable[..., Result]
Make = Callable[..., str]

COLUMNS = ["winner_model_a", "winner_model_b", "winner_tie"]


def _predictions(name: str, seed: int, *, wrong: float = 0.4, without: int = 0) -> str:
    """What a judge predicted that errs in a way of its own; some battles are missing."""
    table = pd.read_csv("battles.csv", dtype={"id": str})
    truth = table[COLUMNS].to_numpy(dtype=np.float64)
    off = np.random.default_rng(seed).random(len(truth)) < wrong
    proba = 0.6 * np.where(off[:, None], truth[:, [1, 2, 0]], truth) + 0.4 / 3
    found = pd.DataFrame(proba, columns=COLUMNS).assign(id=table["id"])[["id", *COLUMNS]]
    found.iloc[without:].to_csv(name, index=False)
    return name


def test_judges_become_a_judge(run: Run, length_judge: Make, battle_file: Make) -> None:
    battle_file(count=90)
    one, two = length_judge("one", gain=1), length_judge("two", gain=-0.2, unjudged="question 7")
    result = run("blend", "battles.csv", f"first={one}", two, "-o", "mine", "--method", "stacking")
    assert result.exit_code == 0, result.stderr
    assert "stacking *" in result.stdout
    assert "two left 11 battles unjudged; there the others speak" in result.stderr
    assert "strength: first " in result.stderr
    settings = yaml.safe_load(Path("mine/judge.yaml").read_text())
    assert settings["kind"] == "blended"
    assert settings["judges"] == ["../one.judge", "../two.judge"]
    assert settings["members"] == ["first", "two"]
    assert set(settings["measured"]["log_loss_by_method"]) > set(METHODS)
    judge = load_judge("mine")
    assert isinstance(judge, BlendedJudge)
    assert judge.name == "first & two"
    seen = read_seen(Path("mine"))
    assert seen is not None
    assert len(seen) == 90
    scored = run("score", "battles.csv", "--judge", "mine", "-o", "p.csv")
    assert scored.exit_code == 0, scored.stderr
    assert "note: first & two learned from battles.csv" in scored.stderr
    for spec, name in ((one, "a.csv"), (two, "b.csv")):
        run("score", "battles.csv", "--judge", spec, "-o", name)
    said = np.stack(
        [pd.read_csv(name)[COLUMNS].to_numpy(dtype=float) for name in ("a.csv", "b.csv")]
    )
    wanted = judge.blend.apply(said)
    np.testing.assert_allclose(pd.read_csv("p.csv")[COLUMNS], wanted, atol=1e-9)


def test_what_nobody_judged_is_unjudged_with_every_reason(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    battle_file(count=40)
    judges = [length_judge(name, unjudged="question 3") for name in ("one", "two")]
    result = run("blend", "battles.csv", *judges, "-o", "mine")
    assert result.exit_code == 0, result.stderr
    assert "11 battles that no judge had an answer for left out" in result.stderr
    assert run("score", "battles.csv", "--judge", "mine", "-o", "p.csv").exit_code == 3
    listed = Path("p.csv.unjudged.csv").read_text()
    assert "one: no answer" in listed
    assert "two: no answer" in listed


def test_predictions_are_measured_and_blended_for_these_battles(
    run: Run, battle_file: Make
) -> None:
    battle_file(count=150)
    files = [_predictions("p1.csv", 1), f"two={_predictions('p2.csv', 2, without=5)}"]
    result = run("blend", "battles.csv", *files, "-o", "blended.csv", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["members"] == ["p1", "two"]
    assert [one["unjudged"] for one in found["alone"]] == [0, 5]
    names = [one["name"] for one in found["tried"]]
    assert names[: len(METHODS)] == list(METHODS)
    assert [name.partition(" + ")[2] for name in names[len(METHODS) :]] == list(OPTIONS)
    assert all(len(one["less_best_member"]) == 3 for one in found["tried"])
    assert found["log_loss"] < min(one["log_loss"] for one in found["alone"])
    written = pd.read_csv("blended.csv", dtype={"id": str})
    assert written["id"].tolist() == pd.read_csv("battles.csv", dtype=str)["id"].tolist()
    assert not written.isna().any().any()
    assert not Path("blended.csv.unjudged.csv").exists()
    assert run("compare", "battles.csv", "p1.csv", "blended.csv").exit_code == 0


def test_an_option_can_be_asked_for_and_is_kept(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    battle_file(count=60)
    judges = [length_judge("one", gain=3), length_judge("two", gain=0.2)]
    for option in OPTIONS:
        result = run(
            *("blend", "battles.csv", *judges, "-o", "mine", "--json"),
            *("--method", "mean", "--then", option),
        )
        assert json.loads(result.stdout)["method"] == f"mean + {option}"
        judge = load_judge("mine")
        assert isinstance(judge, BlendedJudge)
        assert judge.blend.settings()["then"]["option"] == option  # type: ignore[index]


def test_the_best_alone_is_said_by_name(run: Run, battle_file: Make) -> None:
    battle_file(count=60)
    files = [_predictions("good.csv", 1, wrong=0.0), _predictions("bad.csv", 2, wrong=1.0)]
    result = run("blend", "battles.csv", *files, "--method", "best")
    assert result.exit_code == 0, result.stderr
    assert "good alone; what it leaves unjudged is for bad" in result.stderr
    assert "nothing is written" in result.stderr


def test_the_seed_and_nothing_else_decides(run: Run, battle_file: Make) -> None:
    battle_file(count=60)
    files = [_predictions("p1.csv", 1), _predictions("p2.csv", 2, without=9)]
    texts = [
        run("blend", "battles.csv", *files, "--json", "--seed", seed).stdout
        for seed in ("4", "4", "5")
    ]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["p1.csv"], "two judges at least"),
        ([], "Missing argument"),
        (["p1.csv", "p1.csv"], "two of them are called 'p1'"),
        (["p1.csv", "gone"], "no such judge: 'gone'"),
        (["p1.csv", "one.judge", "-o", "mine"], "p1.csv: is about these battles alone"),
        (["p1.csv", "one.judge", "-o", "p1.csv"], "is read by this very command"),
        (["one=p1.csv", "two.csv", "-o", "p1.csv"], "is read by this very command"),
        (["one.judge", "a=one.judge", "-o", "one.judge"], "is made of it"),
        (["one.judge", "a=one.judge", "-o", "battles.csv"], "is read by this very command"),
        (["p1.csv", "one.judge", "--then", "magic"], "'magic' is not one of"),
        (["p1.csv", "one.judge", "--samples", "2"], "--samples is for judges that ask a model"),
        (["p1.csv", "a=p1.csv", "--dry-run"], "--dry-run is for judges that ask a model"),
    ],
)
def test_what_cannot_be_done_is_said_in_the_last_line(
    run: Run, length_judge: Make, battle_file: Make, arguments: list[str], said: str
) -> None:
    battle_file(count=30)
    _predictions("p1.csv", 1)
    length_judge("one")
    result = run("blend", "battles.csv", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    last = result.stderr.splitlines()[-1]
    assert said in last
    assert last.startswith("arena-judge: error: ")
    assert not Path("mine").exists()


def test_one_prompt_teaches_nothing(run: Run, battle_file: Make) -> None:
    battle_file(count=12, prompts=["one"] * 12)
    files = [_predictions("p1.csv", 1), _predictions("p2.csv", 2)]
    result = run("blend", "battles.csv", *files)
    assert result.exit_code == 2
    assert "1 prompt is too few to blend on" in result.stderr


def test_the_methods_offered_are_those_there_are() -> None:
    assert command.METHODS == METHODS
    assert command.OPTIONS == OPTIONS
