"""Judges of folds measured where they were held out, and submissions checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result

from finetune.ensembles.submissions import LEAST, check_submission, write_submission
from finetune.folds.dealing import make_folds
from finetune.folds.table import Folds, read_folds, write_folds
from judge.battles import read_battles
from judge.cli.main import cli
from judge.comparing.leaks import Seen, write_seen
from judge.comparing.marks import battle_marks
from judge.errors import InputError
from judge.judges import load_judge
from judge.metrics import log_loss
from judge.predictions import read_predictions, write_predictions
from tests.finetune.small import battles_file

LABELS = ["winner_model_a", "winner_model_b", "winner_tie"]


def evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["finetune", "evaluate", *map(str, arguments)])


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """Battles, their folds, and judges of these that need no network: a fold's judge is the
    statistical one, the surer the higher the fold."""
    battles = battles_file(tmp_path / "battles.csv", 30)
    folds = make_folds([str(battles)], 3)
    write_folds(folds, tmp_path / "dealt")
    judges_of(folds, tmp_path / "judges")
    return tmp_path


def judges_of(folds: Folds, folder: Path, **changes: Any) -> None:
    for fold in range(folds.k):
        (folder / f"fold-{fold}").mkdir(parents=True)
        pool = {"strength": [1.0 + fold], "tie": [1.0], "shift": 0.0}
        told = {
            "kind": "blended",
            "judges": ["statistical"],
            "blend": {"method": "log-mean", "pool": "log", **pool},
            "fold": fold,
            "folds": folds.fingerprint,
        }
        (folder / f"fold-{fold}" / "judge.yaml").write_text(yaml.safe_dump(told | changes))


def labels_of(battles: Path) -> Any:
    return pd.read_csv(battles)[LABELS].to_numpy(dtype=float)


def fold_says(room: Path, fold: int, battles: Path) -> Any:
    return load_judge(room / "judges" / f"fold-{fold}").predict_proba(read_battles(battles))


def test_each_battle_is_judged_by_who_has_not_seen_it(room: Path) -> None:
    battles = room / "battles.csv"
    out = room / "oof.csv"
    arguments = (battles, room / "judges", "plain=statistical", "--folds", room / "dealt")
    told = evaluate(*arguments, "--json", "-o", room / "table.csv")
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    fold = read_folds(room / "dealt").of(read_battles(battles))
    wanted = np.empty((30, 3))
    for number in range(3):
        wanted[fold == number] = fold_says(room, number, battles)[fold == number]
    labels = labels_of(battles)
    scores = {one["name"]: one for one in found["comparison"]["scores"]}
    assert set(scores) == {"class prior", "judges", "plain"}
    assert scores["judges"]["log_loss"] == pytest.approx(log_loss(labels, wanted))
    assert len(found["comparison"]["pairs"]) == 1
    assert [one["battles"] for one in found["folds"]] == [10, 10, 10]
    for one in found["folds"]:
        rows = fold == one["fold"]
        assert one["log_loss"]["judges"] == pytest.approx(log_loss(labels[rows], wanted[rows]))
    assert (room / "table.csv").read_text().startswith("name,battles")
    written = evaluate(battles, room / "judges", "--folds", room / "dealt", "--predictions", out)
    assert written.exit_code == 0, written.output
    assert "log loss [95 %]" in written.stdout
    np.testing.assert_allclose(
        read_predictions(out)[LABELS].to_numpy(dtype=float), wanted, atol=1e-9
    )


def test_on_a_holdout_all_folds_speak(room: Path) -> None:
    held = battles_file(room / "held.csv", 12, seed=3)
    told = evaluate(held, room / "judges", "plain=statistical", "--json")
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    mean = np.mean([fold_says(room, fold, held) for fold in range(3)], axis=0)
    scores = {one["name"]: one["log_loss"] for one in found["comparison"]["scores"]}
    assert scores["judges"] == pytest.approx(log_loss(labels_of(held), mean))
    assert found["folds"] == []


def test_folds_that_know_the_battles_say_so(room: Path) -> None:
    """Who forgets --folds is told that nearly all judges have learned from each battle."""
    battles = read_battles(room / "battles.csv")
    fold = read_folds(room / "dealt").of(battles)
    for number in range(3):
        marks = battle_marks(battles[fold != number])
        seen = Seen(marks, np.zeros(len(marks), np.uint16), ("battles.csv",))
        write_seen(room / "judges" / f"fold-{number}", seen)
    told = evaluate(room / "battles.csv", room / "judges")
    assert told.exit_code == 0, told.output
    assert told.stderr.count("learned from 20 of these battles, so they flatter it") == 3
    out_of_fold = evaluate(room / "battles.csv", room / "judges", "--folds", room / "dealt")
    assert "flatter" not in out_of_fold.stderr


def test_extras_are_not_measured_on(room: Path) -> None:
    extra = battles_file(room / "extra.csv", 6, seed=5)
    both = room / "both.csv"
    pd.concat([pd.read_csv(room / "battles.csv"), pd.read_csv(extra)]).to_csv(both, index=False)
    folds = make_folds([str(room / "battles.csv")], 3, extras=[str(extra)])
    write_folds(folds, room / "more")
    judges_of(folds, room / "others")
    told = evaluate(both, room / "others", "statistical", "--folds", room / "more", "--json")
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert (found["battles"], found["held_out"]) == (36, 30)
    assert {one["battles"] for one in found["comparison"]["scores"]} == {30}


def test_folds_and_judges_that_do_not_belong_together(room: Path) -> None:
    battles, held = room / "battles.csv", battles_file(room / "held.csv", 12, seed=3)
    other = make_folds([str(battles)], 3, seed=8)
    write_folds(other, room / "other")
    cases = [
        ((battles, room / "judges", "--folds", room / "other"), "other folds than these"),
        ((held, room / "judges", "--folds", room / "dealt"), "is not in the folds"),
        ((battles, room / "judges", "--folds", room / "nowhere"), "is not there"),
        ((battles,), "name a judge or predictions"),
        ((battles, "statistical", "plain=statistical", "--submission", room / "s.csv"), "name one"),
        ((battles, "statistical", "--submission", room / "s.txt"), "end it in .csv"),
        ((battles, "statistical", "statistical"), "two of them are called"),
        ((battles, "nonsense"), "no such judge"),
        (
            (battles, "statistical", "-o", room / "x.csv", "--predictions", room / "x.csv"),
            "written twice",
        ),
    ]
    for arguments, why in cases:
        told = evaluate(*arguments)
        assert told.exit_code == 2, told.output
        assert why in told.stderr
    (room / "judges" / "fold-1" / "judge.yaml").unlink()
    told = evaluate(battles, room / "judges", "--folds", room / "dealt")
    assert told.exit_code == 2
    assert "no judge of fold 1" in told.stderr
    assert not list(room.glob("s.*"))


# --- submissions ----------------------------------------------------------------------------------


def test_a_submission_is_written_and_checked(room: Path) -> None:
    test = room / "test.csv"
    table = pd.read_csv(battles_file(room / "full.csv", 12, seed=4)).drop(columns=LABELS)
    table.to_csv(test, index=False)
    target = room / "submission.csv"
    told = evaluate(test, "statistical", "--submission", target, "--json")
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert found["comparison"] is None
    [checked] = found["submissions"]
    assert checked["battles"] == 12
    assert checked["in_order"] is True
    assert sum(checked["means"]) == pytest.approx(1)
    assert target.read_text().splitlines()[0] == "id,winner_model_a,winner_model_b,winner_tie"
    frame = pd.read_csv(target)
    assert frame["id"].tolist() == table["id"].tolist()
    assert "so nothing is measured" in told.stderr
    told = evaluate(test, "statistical", "-o", room / "table.csv")
    assert told.exit_code == 2
    assert "has no labels" in told.stderr
    again = evaluate(room / "full.csv", "statistical", "--check", target)
    assert again.exit_code == 0, again.output
    assert "submission.csv" in again.stdout
    assert "as the battles" in again.stdout
    alone = evaluate(test, "--check", target)
    assert alone.exit_code == 0, alone.output


HEADER = "id,winner_model_a,winner_model_b,winner_tie\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has the columns"),
        ("id,winner_model_a,winner_model_b\n", "has the columns"),
        ("id,winner_model_b,winner_model_a,winner_tie\n", "has the columns"),
        (HEADER, "lacks 2 of 2 battles"),
        (HEADER + "x,0.2,0.3,0.5\n", "lacks 1 of 2 battles, the first 'y'"),
        (HEADER + "x,0.2,0.3,0.5\nx,0.2,0.3,0.5\n", "row 3, column id: 'x' stands in row 2 too"),
        (HEADER + "z,0.2,0.3,0.5\n", "row 2, column id: 'z' is no battle's"),
        (HEADER + "x,0.2,0.3\n", "row 2: has 3 cells"),
        (HEADER + "x,0.2,0.3,0.6\n", "row 2: has probabilities that sum to 1.1"),
        (HEADER + "x,0.2,nan,0.6\n", "winner_model_b: is 'nan', which is no probability"),
        (HEADER + "x,0.2,,0.6\n", "winner_model_b: is '', which is no probability"),
        (HEADER + "x,1.2,-0.1,-0.1\n", "winner_model_a: is '1.2', which is no probability"),
        (HEADER + "x,1.0,0.0,0.0\n", "winner_model_b: is 0"),
    ],
)
def test_what_could_not_be_scored_is_refused(text: str, why: str, tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    file.write_text(text)
    with pytest.raises(InputError) as found:
        check_submission(file, ["x", "y"])
    assert why in str(found.value).replace('"', "'")


def test_a_submission_in_another_order_is_scored_by_its_ids(tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    file.write_text(HEADER + "y,0.5,0.3,0.2\nx,0.2,0.3,0.5\n")
    found = check_submission(file, ["x", "y"])
    assert found.ids == ("y", "x")
    assert not found.in_order
    assert found.least == 0.2
    with pytest.raises(InputError, match="more than once"):
        check_submission(file, ["x", "x"])
    with pytest.raises(InputError, match="nothing to submit"):
        check_submission(file, [])
    with pytest.raises(InputError, match="not found"):
        check_submission(tmp_path / "no.csv", ["x"])


def test_no_probability_is_nought_and_none_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    made = write_submission(file, ["x"], np.array([[1.0, 0.0, 0.0]]))
    assert made.least == pytest.approx(LEAST, rel=1e-3)
    assert made.proba.sum() == pytest.approx(1, abs=1e-9)
    with pytest.raises(InputError, match="1 battles are unjudged"):
        write_submission(tmp_path / "t.csv", ["x", "y"], np.array([[1.0, 0, 0], [np.nan] * 3]))
    assert not (tmp_path / "t.csv").exists()


def test_predictions_are_entrants_too(room: Path) -> None:
    battles = room / "battles.csv"
    labels = labels_of(battles)
    file = room / "known.csv"
    write_predictions(file, read_battles(battles)["id"], 0.7 * labels + 0.1)
    told = evaluate(battles, file, "statistical", "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["comparison"]["best"] == "known.csv"
