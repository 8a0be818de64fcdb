"""Judges of folds, or their predictions, as one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.ensembles.composing import gathered, symmetrised
from judge.battles import read_battles
from judge.cli.main import cli
from judge.errors import InputError
from judge.judges import load_judge
from judge.predictions import read_predictions, write_predictions
from tests.finetune.small import battles_file

NAN = [np.nan] * 3


def ensemble(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["finetune", "ensemble", *map(str, arguments)])


def drawn(count: int, seed: int) -> Any:
    return np.random.default_rng(seed).dirichlet([2.0, 2.0, 1.0], count)


def proba_of(file: Path) -> Any:
    return read_predictions(file).iloc[:, 1:4].to_numpy(dtype=np.float64)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three files of predictions of the same battles, and the battles."""
    battles = battles_file(tmp_path / "battles.csv", 30)
    ids = read_battles(battles)["id"].tolist()
    found = []
    for number in range(3):
        path = tmp_path / f"p{number}.csv"
        write_predictions(path, ids, drawn(30, number))
        found.append(path)
    return [*found, battles]


def test_the_mean_of_predictions(files: list[Path], tmp_path: Path) -> None:
    made = ensemble(*files[:3], "-o", tmp_path / "all.csv")
    assert made.exit_code == 0, made.output
    said = [proba_of(file) for file in files[:3]]
    np.testing.assert_allclose(proba_of(tmp_path / "all.csv"), np.mean(said, axis=0), atol=1e-12)
    assert "30 battles, the mean of 3" in made.stderr
    again = ensemble(*files[:3], "-o", tmp_path / "all.csv", "--average", "logits", "--json")
    told = json.loads(again.stdout)
    assert told["weights"]["p0.csv"] == pytest.approx(1 / 3)
    logs = np.exp(np.mean(np.log(said), axis=0))
    wanted = logs / logs.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(proba_of(tmp_path / "all.csv"), wanted, atol=1e-9)
    assert "replaced" in again.stderr


def test_files_of_one_fold_each_become_one_of_all(files: list[Path], tmp_path: Path) -> None:
    whole = read_predictions(files[0])
    parts = []
    for fold in range(3):
        some = whole.iloc[fold::3]
        path = tmp_path / f"fold-{fold}.csv"
        write_predictions(path, some["id"], some.iloc[:, 1:4].to_numpy())
        parts.append(path)
    made = ensemble(*parts, "-o", tmp_path / "all.csv", "--labelled", files[3])
    assert made.exit_code == 0, made.output
    found = read_predictions(tmp_path / "all.csv")
    assert found["id"].tolist() == whole["id"].tolist()
    np.testing.assert_allclose(
        found.iloc[:, 1:4].to_numpy(dtype=float), whole.iloc[:, 1:4].to_numpy(dtype=float)
    )
    assert "ensemble" in made.stdout
    without = ensemble(*parts, "-o", tmp_path / "two.csv")
    assert without.exit_code == 0, without.output
    assert set(read_predictions(tmp_path / "two.csv")["id"]) == set(whole["id"])


def test_weights_by_log_loss_are_learned_without_the_battle(
    files: list[Path], tmp_path: Path
) -> None:
    labels = pd.read_csv(files[3])[["winner_model_a", "winner_model_b", "winner_tie"]].to_numpy()
    good = tmp_path / "good.csv"
    write_predictions(good, read_battles(files[3])["id"], 0.8 * labels + 0.2 / 3)
    arguments = (good, files[1], "-o", tmp_path / "all.csv", "--labelled", files[3])
    made = ensemble(*arguments, "--weights", "cv", "--json")
    assert made.exit_code == 0, made.output
    told = json.loads(made.stdout)
    assert told["weights"]["good.csv"] > 0.9
    scores = {one["name"]: one["log_loss"] for one in told["comparison"]["scores"]}
    assert scores["good.csv"] < scores["ensemble"] < scores["p1.csv"]


def test_what_was_predicted_of_exchanged_responses_is_turned_back(
    files: list[Path], tmp_path: Path
) -> None:
    swapped = tmp_path / "swapped.csv"
    table = read_predictions(files[1]).iloc[::-1]
    write_predictions(swapped, table["id"], table.iloc[:, 1:4].to_numpy())
    made = ensemble(files[0], "--swapped", swapped, "-o", tmp_path / "both.csv")
    assert made.exit_code == 0, made.output
    wanted = (proba_of(files[0]) + proba_of(files[1])[:, [1, 0, 2]]) / 2
    np.testing.assert_allclose(proba_of(tmp_path / "both.csv"), wanted, atol=1e-12)
    assert "orders agree" in made.stdout
    told = ensemble(*files[:2], "--swapped", swapped, "-o", tmp_path / "x.csv")
    assert told.exit_code == 2
    assert "name one for each" in told.stderr


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(0, 999), st.data())
def test_symmetrised_predictions_are_symmetric(count: int, seed: int, data: Any) -> None:
    one, other = drawn(count, seed), drawn(count, seed + 1)
    for said in (one, other):
        said[data.draw(st.lists(st.integers(0, count - 1), max_size=3))] = np.nan
    found, back = symmetrised(one, other), symmetrised(other, one)
    np.testing.assert_array_equal(found.proba, back.proba[:, [1, 0, 2]])
    judged = ~(np.isnan(one).any(axis=1) & np.isnan(other).any(axis=1))
    np.testing.assert_allclose(found.proba[judged].sum(axis=1), 1)
    assert np.isnan(found.proba[~judged]).all()
    if found.both:
        assert 0 <= found.agree <= 1
        assert 0 <= found.moved <= 1


def test_a_judge_that_is_symmetric_already_agrees_with_itself() -> None:
    one = drawn(9, 3)
    found = symmetrised(one, one[:, [1, 0, 2]])
    np.testing.assert_allclose(found.proba, one)
    assert (found.both, found.agree, found.moved) == (9, 1.0, 0.0)


def test_battles_that_no_file_has_are_unjudged(tmp_path: Path) -> None:
    for number, row in enumerate((NAN, [0.2, 0.3, 0.5])):
        write_predictions(tmp_path / f"{number}.csv", ["x", "y"], [NAN, row])
    made = ensemble(tmp_path / "0.csv", tmp_path / "1.csv", "-o", tmp_path / "all.csv")
    assert made.exit_code == 0, made.output
    found = proba_of(tmp_path / "all.csv")
    assert np.isnan(found[0]).all()
    assert found[1].tolist() == [0.2, 0.3, 0.5]
    assert "1 battle unjudged, listed in" in made.stderr


def test_ids_that_cannot_be_told_apart_are_refused() -> None:
    def table(*ids: str) -> pd.DataFrame:
        columns = dict.fromkeys(["winner_model_a", "winner_model_b", "winner_tie"], 1 / 3)
        return pd.DataFrame({"id": list(ids), **columns})

    same = gathered([table("x", "x"), table("x", "x")], ["1", "2"])
    assert same.ids == ["x", "x"]
    with pytest.raises(InputError, match="more than once"):
        gathered([table("x", "x"), table("x", "y")], ["1", "2"])
    with pytest.raises(InputError, match="none of its ids"):
        gathered([table("x"), table("y")], ["1", "2"], ["y"])


# --- judges ---------------------------------------------------------------------------------------


@pytest.fixture
def judges(tmp_path: Path) -> list[Path]:
    """Folders of judges that need no network, with figures as of folds."""
    found = []
    for fold, loss in enumerate((1.0, 1.1)):
        folder = tmp_path / "folds" / f"fold-{fold}"
        folder.mkdir(parents=True)
        told = {
            "kind": "blended",
            "judges": ["statistical"],
            "blend": {"method": "mean", "pool": "linear", "weights": [1.0]},
            "fold": fold,
            "measured": {f"fold {fold}": {"log_loss": loss}},
        }
        (folder / "judge.yaml").write_text(yaml.safe_dump(told))
        found.append(folder)
    return found


def test_judges_of_folds_become_one(judges: list[Path], files: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "all.yaml"
    made = ensemble(tmp_path / "folds", "-o", target, "--weights", "cv", "--name", "mine", "--json")
    assert made.exit_code == 0, made.output
    told = json.loads(made.stdout)
    assert told["kind"] == "blended"
    assert told["log_loss"] == [1.0, 1.1]
    assert told["weights"][0] / told["weights"][1] == pytest.approx(np.exp(2))
    judge = load_judge(target)
    assert judge.name == "mine"
    battles = read_battles(files[3])
    plain = load_judge("statistical").predict_proba(battles)
    np.testing.assert_allclose(judge.predict_proba(battles), plain, atol=1e-12)
    again = ensemble(*judges, "statistical", "-o", target)
    assert again.exit_code == 0, again.output
    assert "replaced" in again.stderr
    assert len(yaml.safe_load(target.read_text())["judges"]) == 3
    (tmp_path / "other.yaml").write_text("kind: statistical\n")
    refused = ensemble(*judges, "-o", tmp_path / "other.yaml")
    assert refused.exit_code == 2
    assert "no earlier result" in refused.stderr
    refused = ensemble(*judges, "-o", judges[0] / "judge.yaml", "--force")
    assert refused.exit_code == 2
    assert "is read by this very command" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("statistical", "-o", "all.csv"), "of judges -o is a file such as all.yaml"),
        (("p0.csv", "-o", "all.yaml"), "of predictions -o is a file such as all.csv"),
        (("p0.csv", "statistical", "-o", "all.csv"), "name one kind"),
        (("p0.csv", "p1.csv", "-o", "all.csv", "--weights", "cv"), "learned from --labelled"),
        (("nowhere", "-o", "all.yaml"), "nowhere: is not there"),
        (("statistical", "statistical", "-o", "all.yaml"), "named twice"),
        (("statistical", "-o", "all.yaml", "--swapped", "p0.csv"), "are for predictions"),
        (("statistical", "-o", "all.yaml", "--share-base"), "cannot be shared"),
        (("statistical", "-o", "all.yaml", "--weights", "cv"), "states no log loss"),
        (("p0.csv", "-o", "p0.csv"), "is read by this very command"),
        (("p0.csv", "-o", "all.csv", "--name", "x"), "are for judges"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: tuple[str, ...],
    why: str,
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    told = ensemble(*arguments)
    assert told.exit_code == 2, told.output
    assert why in told.stderr
    assert not list(tmp_path.glob("all.*"))


def test_adapters_of_one_base_share_it(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from judge.judges.adapters import AdaptersJudge
    from judge.judges.blended import BlendedJudge
    from judge.judges.classifier_settings import ClassifierSettings
    from tests.finetune.adapted import base_model, drawn_folds

    drawn_folds(base_model(tmp_path / "base"), tmp_path / "folds", (1.0, 1.1))
    made = ensemble(tmp_path / "folds", "-o", tmp_path / "one.yaml", "--average", "logits")
    assert made.exit_code == 0, made.output
    assert "in memory once" in made.stderr
    apart = ensemble(
        *(tmp_path / "folds", "-o", tmp_path / "two.yaml", "--average", "logits"), "--no-share-base"
    )
    assert apart.exit_code == 0, apart.output
    running = ClassifierSettings(device=("cpu",), dtype="float32")
    one, two = (load_judge(tmp_path / f"{n}.yaml", running=running) for n in ("one", "two"))
    assert isinstance(one, AdaptersJudge)
    assert isinstance(two, BlendedJudge)
    battles = read_battles(battles_file(tmp_path / "battles.csv", 6))
    np.testing.assert_allclose(one.predict_proba(battles), two.predict_proba(battles), atol=1e-5)
