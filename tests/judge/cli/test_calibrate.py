"""`arena-judge calibrate`: from labelled battles and a judge to a calibrated one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import yaml
from click.testing import Result

from judge.ballots import ballot_table
from judge.battles import read_battles
from judge.calibration import WITH_CONTEXT, covariates_of
from judge.calibration.context import Context
from judge.cli.calibrate import METHODS as OFFERED
from judge.comparing.leaks import read_seen
from judge.judges import load_judge
from judge.judges.calibrated import CalibratedJudge

Run = Callable[..., Result]
Make = Callable[..., str]

COLUMNS = ["winner_model_a", "winner_model_b", "winner_tie"]
NAMES = [
    f"{metric}_{part}_{what}"
    for part in ("cal", "holdout")
    for metric in ("nll", "logloss")
    for what in ("before", "after", "improvement")
]


def _predictions(
    name: str, *, sure: float = 0.9, seed: int = 1, battles: str = "battles.csv"
) -> str:
    """What a judge predicted that is right half the time and much too sure."""
    table = pd.read_csv(battles, dtype={"id": str})
    truth = table[COLUMNS].to_numpy(dtype=np.float64)
    wrong = np.random.default_rng(seed).random(len(truth)) < 0.5
    said = np.where(wrong[:, None], truth[:, [1, 2, 0]], truth)
    proba = sure * said + (1 - sure) / 3
    pd.DataFrame(proba, columns=COLUMNS).assign(id=table["id"])[["id", *COLUMNS]].to_csv(
        name, index=False
    )
    return name


def _proba(name: str) -> npt.NDArray[np.float64]:
    return pd.read_csv(name)[COLUMNS].to_numpy(dtype=np.float64)


def test_from_a_judge_to_a_calibrated_judge_that_scores(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    battle_file(count=120)
    judge = length_judge(gain=9)
    result = run("calibrate", "battles.csv", "--judge", judge, "-o", "mine")
    assert result.exit_code == 0, result.stderr
    assert "identity" in result.stdout
    assert "held out" in result.stdout
    assert "mine: written" in result.stderr
    settings = yaml.safe_load(Path("mine/judge.yaml").read_text())
    assert (settings["kind"], settings["name"]) == ("calibrated", "length, calibrated")
    assert settings["judge"] == "../length.judge"
    assert settings["made_from"]["battles.csv"]["bytes"] == Path("battles.csv").stat().st_size
    measured = settings["measured"]
    assert measured["battles"] + measured["holdout_battles"] == 120
    assert set(NAMES) <= set(measured)
    scored = run("score", "battles.csv", "--judge", "mine", "-o", "p.csv")
    assert scored.exit_code == 0, scored.stderr
    calibrated = load_judge("mine")
    assert isinstance(calibrated, CalibratedJudge)
    plain = run("score", "battles.csv", "--judge", judge, "-o", "plain.csv")
    assert plain.exit_code == 0
    seen = covariates_of(read_battles("battles.csv"))
    wanted = calibrated.calibrator.apply(_proba("plain.csv"), seen)
    np.testing.assert_allclose(_proba("p.csv"), wanted, atol=1e-9)
    learned = read_seen(Path("mine"))
    assert learned is not None
    assert 0 < len(learned) < 120  # what was held out was not learned from


def test_machines_are_told_everything_by_name(run: Run, battle_file: Make) -> None:
    battle_file(count=400)
    result = run("calibrate", "battles.csv", "--predictions", _predictions("p.csv"), "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert set(NAMES) <= set(found)
    for part in ("cal", "holdout"):
        for metric in ("nll", "logloss", "ece"):
            before, after, better = (
                found[f"{metric}_{part}_{what}"] for what in ("before", "after", "improvement")
            )
            assert better == before - after
            assert better > 0.05  # it was much too sure
    assert found["temperature"] > 1.5
    assert found["method"] != "identity"
    assert [c["method"] for c in found["candidates"]] == list(WITH_CONTEXT)
    assert found["battles_cal"] + found["battles_holdout"] == 400
    assert found["output"] is None
    assert "nothing is written" in result.stderr
    assert "too sure" in result.stderr


def test_a_holdout_of_its_own_taught_nothing(run: Run, battle_file: Make) -> None:
    battle_file("battles.csv", count=200)
    battle_file("other.csv", count=50, prompts=[f"question {n + 180}" for n in range(50)])
    other = pd.read_csv("other.csv").assign(id=[f"o{n}" for n in range(50)])
    other.to_csv("other.csv", index=False)
    _predictions("one.csv")
    _predictions("two.csv", seed=2, battles="other.csv")
    pd.concat([pd.read_csv(n, dtype={"id": str}) for n in ("one.csv", "two.csv")]).to_csv(
        "both.csv", index=False
    )
    arguments = ("calibrate", "battles.csv", "--predictions", "both.csv", "--json")
    result = run(*arguments, "--holdout", "other.csv")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["battles_cal"], found["battles_holdout"]) == (200, 30)
    assert "other.csv: 20 battles about a prompt that LABELLED has, too, left out" in result.stderr
    alone = json.loads(run(*arguments, "--holdout-share", "0").stdout)
    assert alone["calibrator"] == found["calibrator"]
    assert alone["battles_holdout"] == 0
    assert all(alone[name] is None for name in NAMES if "_holdout_" in name)


def test_votes_at_hand_become_a_judge_without_having_been_fitted(
    run: Run, battle_file: Make
) -> None:
    battle_file(count=150)
    truth = pd.read_csv("battles.csv")[COLUMNS].to_numpy(dtype=np.float64)
    wrong = np.random.default_rng(0).random(150) < 0.4
    votes = np.zeros((150, 5, 4))
    votes[..., :3] = np.where(wrong[:, None], truth[:, [1, 2, 0]], truth)[:, None]
    votes[7] = np.nan
    ids = pd.read_csv("battles.csv", dtype={"id": str})["id"].tolist()
    ballot_table(ids, "oracle", votes).to_parquet("votes.parquet", index=False)
    result = run("calibrate", "battles.csv", "--ballots", "votes.parquet", "-o", "mine")
    assert result.exit_code == 0, result.stderr
    assert "1 battle unjudged, left out" in result.stderr
    settings = yaml.safe_load(Path("mine/judge.yaml").read_text())
    assert (settings["name"], settings["judge"]) == ("oracle, calibrated", "votes")
    assert set(settings["made_from"]) == {"battles.csv", "votes.parquet"}
    Path("mine").rename("moved")  # the folder is whole by itself
    scored = run("score", "battles.csv", "--judge", "moved", "-o", "p.csv")
    assert scored.exit_code == 3
    assert "107,8,no ballot of it can be read" in Path("p.csv.unjudged.csv").read_text()
    again = run("calibrate", "battles.csv", "--judge", "moved", "-o", "again")
    assert again.exit_code == 0, again.stderr
    assert "of these battles, so it does better here than elsewhere" in again.stderr
    assert run("score", "battles.csv", "--judge", "again", "-o", "q.csv").exit_code == 3


def test_what_is_said_of_these_battles_can_be_had_cross_fitted(run: Run, battle_file: Make) -> None:
    battle_file(count=80)
    table = pd.read_csv(_predictions("p.csv"), dtype={"id": str})
    table.loc[[3, 4], COLUMNS] = np.nan
    table.to_csv("p.csv", index=False)
    arguments = ("calibrate", "battles.csv", "--predictions", "p.csv", "--method", "temperature")
    result = run(*arguments, "--holdout-share", "0", "-o", "better.csv")
    assert result.exit_code == 0, result.stderr
    found = pd.read_csv("better.csv", dtype={"id": str})
    assert found["id"].tolist() == table["id"].tolist()
    assert np.isnan(found[COLUMNS]).any(axis=1).tolist() == [n in (3, 4) for n in range(80)]
    np.testing.assert_allclose(found[COLUMNS].sum(axis=1).drop([3, 4]), 1.0, atol=1e-9)
    assert "103,4,the judge left it unjudged" in Path("better.csv.unjudged.csv").read_text()
    assert run("compare", "battles.csv", "p.csv", "better.csv").exit_code == 0


def test_a_forced_method_is_taken_and_the_seed_decides(run: Run, battle_file: Make) -> None:
    battle_file(count=60)
    _predictions("p.csv")
    texts = []
    for seed in ("4", "4", "5"):
        result = run(
            *("calibrate", "battles.csv", "--predictions", "p.csv", "--json"),
            *("--method", "isotonic", "--seed", seed),
        )
        assert json.loads(result.stdout)["method"] == "isotonic"
        texts.append(result.stdout)
    assert texts[0] == texts[1] != texts[2]


def test_a_judge_is_not_written_over_what_it_is_made_of(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    battle_file(count=40)
    assert run("calibrate", "battles.csv", "--judge", length_judge(), "-o", "one").exit_code == 0
    assert run("calibrate", "battles.csv", "--judge", "one", "-o", "two").exit_code == 0
    before = Path("one/judge.yaml").read_bytes()
    for judge in ("one", "two"):
        result = run("calibrate", "battles.csv", "--judge", judge, "-o", "one")
        assert result.exit_code == 2
        assert "is made of it" in result.stderr
    assert Path("one/judge.yaml").read_bytes() == before
    result = run("calibrate", "battles.csv", "--judge", "one", "-o", "two", "--seed", "3")
    assert "two: replaced" in result.stderr


def test_a_folder_appears_whole_or_not_at_all(
    run: Run, length_judge: Make, battle_file: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    battle_file(count=40)
    judge = length_judge()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("judge.comparing.leaks.write_seen", full)
    result = run("calibrate", "battles.csv", "--judge", judge, "-o", "mine")
    assert (result.exit_code, "No space left" in result.stderr) == (2, True)
    assert not Path("mine").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give one of --judge, --ballots and --predictions"),
        (["--judge", "x", "--ballots", "y"], "give one of --judge"),
        (["--judge", "gone"], "no such judge: 'gone'"),
        (["--judge", "p.csv"], "p.csv is for --predictions"),
        (["--predictions", "length.judge"], "length.judge is for --judge"),
        (["--predictions", "battles.csv"], "battles.csv: would be compared with itself"),
        (
            ["--predictions", "p.csv", "-o", "mine"],
            "is about these battles alone and no judge",
        ),
        (["--predictions", "p.csv", "-o", "p.csv"], "is read by this very command"),
        (["--predictions", "p.csv", "-o", "battles.csv"], "is read by this very command"),
        (["--judge", "length.judge", "-o", "full"], "is there already and is no judge"),
        (["--judge", "length.judge", "-o", "-"], "-o - is no place for it"),
        (["--judge", "length.judge", "--method", "magic"], "'magic' is not one of"),
        (["--judge", "length.judge", "--samples", "3"], "--samples is for judges that ask a model"),
        (["--ballots", "p.csv"], "column judge: is missing"),
        (["--ballots", "p.csv", "--samples", "3"], "says nothing where the ballots are at hand"),
        (["--predictions", "p.csv", "--dry-run"], "--dry-run is for judges that ask a model"),
        (["--judge", "length.judge", "--holdout", "gone.csv"], "gone.csv"),
        (
            ["--judge", "length.judge", "--holdout", "battles.csv"],
            "none of the battles held out is both labelled and judged",
        ),
        (
            ["--predictions", "p.csv", "--holdout", "p.csv", "--holdout-share", "0.3"],
            "give either --holdout or --holdout-share",
        ),
        (["--judge", "length.judge", "--seed", "-1"], "-1 is not in the range"),
    ],
)
def test_what_cannot_be_done_is_said_in_the_last_line(
    run: Run, length_judge: Make, battle_file: Make, arguments: list[str], said: str
) -> None:
    battle_file(count=40)
    _predictions("p.csv")
    length_judge()
    Path("full").mkdir()
    Path("full/thesis.txt").touch()
    result = run("calibrate", "battles.csv", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    last = result.stderr.splitlines()[-1]
    assert said in last
    assert last.startswith("arena-judge: error: ")
    assert "Traceback" not in result.stderr
    assert not Path("mine").exists()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        ({"labels": False}, "has no labels"),
        ({"count": 12, "prompts": ["one"] * 12}, "1 prompt is too few to calibrate on"),
        ({"count": 12, "prompts": ["full word"] * 12}, "both labelled and judged"),
    ],
)
def test_battles_that_nothing_can_be_learned_from(
    run: Run, length_judge: Make, battle_file: Make, make: dict[str, object], said: str
) -> None:
    battle_file(**make)
    judge = length_judge(unjudged="word")
    result = run("calibrate", "battles.csv", "--judge", judge, "-o", "mine", "--holdout-share", "0")
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
    assert not Path("mine").exists()


def test_hostile_names_reach_no_terminal(run: Run, length_judge: Make, battle_file: Make) -> None:
    battle_file(count=40)
    length_judge("length")
    Path("length.judge/judge.yaml").write_text(
        json.dumps({"kind": "length", "name": "evil\x1b[31m\nname"})
    )
    result = run("calibrate", "battles.csv", "--judge", "length.judge", "-o", "mine")
    assert result.exit_code == 0, result.stderr
    assert "\x1b" not in result.stdout + result.stderr
    name = yaml.safe_load(Path("mine/judge.yaml").read_text())["name"]
    assert name == "evil[31m name, calibrated"


def test_the_methods_offered_are_those_there_are() -> None:
    assert OFFERED == WITH_CONTEXT


def test_a_holdout_of_one_prompt_has_no_interval(run: Run, battle_file: Make) -> None:
    battle_file(count=12)
    table = pd.read_csv("battles.csv")
    table["prompt"] = [f"a question of its own, number {place}" for place in range(12)]
    table.to_csv("battles.csv", index=False)
    table.iloc[:1].assign(prompt="yet another question").to_csv("held.csv", index=False)
    said = _predictions("p.csv")
    result = run("calibrate", "battles.csv", "--predictions", said, "--holdout", "held.csv")
    assert result.exit_code == 0, result.stderr
    assert "nan" not in result.stdout


@pytest.mark.parametrize("output", [".", "..", "/", "", "held", "held/../held"])
def test_a_folder_that_holds_what_is_read_is_never_replaced(
    run: Run, length_judge: Make, battle_file: Make, output: str
) -> None:
    Path("held").mkdir()
    Path("held/judge.yaml").write_text("kind: statistical")
    Path(battle_file(count=12)).rename("held/battles.csv")
    judge = length_judge()
    for forced in ([], ["--force"]):
        result = run("calibrate", "held/battles.csv", "--judge", judge, "-o", output, *forced)
        assert result.exit_code == 2
        assert len(result.stderr.splitlines()) == 1
        assert Path("held/battles.csv").is_file()


def test_a_folder_that_holds_a_judge_of_the_new_one_is_not_replaced(
    run: Run, length_judge: Make, battle_file: Make
) -> None:
    file = battle_file(count=40)
    assert run("calibrate", file, "--judge", length_judge(), "-o", "all/one").exit_code == 0
    result = run("calibrate", file, "--judge", "all/one", "-o", "all", "--force")
    assert result.exit_code == 2
    assert "is made of it" in result.stderr
    assert Path("all/one/judge.yaml").is_file()


# --- what sees the battle -------------------------------------------------------------------------


def _told_by_prompt(name: str, count: int = 300) -> str:
    """Battles that end in a tie where the prompt has a number, and mostly not else."""
    generator = np.random.default_rng(0)
    words = np.array(["red", "green", "blue", "small", "large", "round", "flat", "old", "new"])
    rows = []
    for n in range(count):
        numbered = n % 3 == 0
        tie = bool(generator.random() < (0.9 if numbered else 0.1))
        winner = [0.0, 0.0, 1.0] if tie else np.eye(3)[generator.integers(2)].tolist()
        called = str(n) if numbered else "".join("abcdefghij"[int(digit)] for digit in str(n))
        texts = (f"question {called}", *(" ".join(generator.permutation(words)) for _ in range(2)))
        rows.append((str(n), *(json.dumps([text]) for text in texts), *winner))
    columns = ["id", "prompt", "response_a", "response_b", *COLUMNS]
    pd.DataFrame(rows, columns=columns).to_csv(name, index=False)
    return name


def test_what_makes_a_tie_is_seen_in_the_battles(run: Run, length_judge: Make) -> None:
    file = _told_by_prompt("battles.csv")
    arguments = ("calibrate", file, "--judge", length_judge(), "--holdout-share", "0.3")
    page = run(*arguments, "--report", "page.html", "--chunk-rows", "50", "-o", "mine")
    assert page.exit_code == 0, page.stderr
    assert "calibrated by context" in page.stderr
    assert "nats a standard deviation" in page.stdout
    assert "What it sees in a battle" in Path("page.html").read_text()
    settings = yaml.safe_load(Path("mine/judge.yaml").read_text())
    assert set(settings["calibrator"]["covariates"]["prompt_numbers"]) == {
        "mean",
        "spread",
        "weight",
    }
    assert settings["measured"]["logloss_holdout_improvement"] > 0.05

    # whatever the batches, in learning and in judging, it is the same judge
    told = run(*arguments, "--method", "context", "--json", "--chunk-rows", "7", "--workers", "2")
    assert json.loads(told.stdout)["calibrator"] == settings["calibrator"]
    for name, rows in (("p.csv", "9"), ("q.csv", "4096")):
        scored = run("score", file, "--judge", "mine", "-o", name, "--chunk-rows", rows)
        assert scored.exit_code == 0, scored.stderr
    assert Path("p.csv").read_bytes() == Path("q.csv").read_bytes()
    judge = load_judge("mine")
    assert isinstance(judge, CalibratedJudge)
    assert isinstance(judge.calibrator, Context)
    battles = read_battles(file)
    turned = battles.assign(response_a=battles["response_b"], response_b=battles["response_a"])
    np.testing.assert_allclose(
        judge.predict_proba(turned), judge.predict_proba(battles)[:, [1, 0, 2]], atol=1e-12
    )


def test_predictions_and_a_holdout_of_its_own_see_battles_too(run: Run) -> None:
    file = _told_by_prompt("battles.csv")
    other = pd.read_csv(_told_by_prompt("other.csv", 60), dtype={"id": str})
    renamed = other.assign(id="o" + other["id"], prompt=other["prompt"].str.replace("q", "Q: q"))
    renamed.to_csv("other.csv", index=False)
    everything = pd.concat([pd.read_csv(n, dtype={"id": str}) for n in (file, "other.csv")])
    flat = everything[["id"]].assign(**dict.fromkeys(COLUMNS[:2], 0.45), winner_tie=0.1)
    flat.to_csv("flat.csv", index=False)
    arguments = ("calibrate", file, "--predictions", "flat.csv", "--holdout", "other.csv", "--json")
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["method"], found["battles_holdout"]) == ("context", 60)
    assert found["logloss_holdout_improvement"] > 0.05
    plain = json.loads(run(*arguments, "--method", "dirichlet").stdout)
    assert "context" not in {c["method"] for c in plain["candidates"]}
    assert found["logloss_holdout_after"] < plain["logloss_holdout_after"]


def test_a_judge_whose_covariates_nobody_knows_is_one_line(run: Run, battle_file: Make) -> None:
    file = battle_file(count=40)
    made = run("calibrate", file, "--judge", "statistical", "--method", "context", "-o", "mine")
    assert made.exit_code == 0, made.stderr
    recipe = Path("mine/judge.yaml")
    recipe.write_text(recipe.read_text().replace("word_cosine:", "word_cousin:", 1))
    result = run("score", file, "--judge", "mine", "-o", "p.csv")
    assert result.exit_code == 2
    assert "judge.yaml: calibrator has the covariate 'word_cousin'" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not Path("p.csv").exists()
