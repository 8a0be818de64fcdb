"""A judge for each fold: what it learns from, what is there already, and what comes of all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result

pytest.importorskip("torch")

from finetune.folds.sides import read_fold
from finetune.folds.table import read_folds
from finetune.rows.data import read_training
from finetune.rows.sources import read_pool
from finetune.runs.preparing import read
from finetune.runs.teaching import teach
from finetune.settings.config import Config, read_config
from finetune.training.checkpoints import place_of
from judge.battles import read_battles
from judge.cli.main import cli
from judge.comparing.marks import battle_marks
from judge.errors import InputError
from judge.judges.recipes import read_recipe
from judge.metrics import log_loss
from tests.finetune.small import battles_file, small
from tests.finetune.taught import folds_file, labels_of, predictions, says
from tests.finetune.tiny import tiny_model
from tests.finetune.training.test_resume import EndAfter, Ended, curve_of

SHORT = ["--max-length", "64", "--step-battles", "6", "--lr", "0.01", "--device", "cpu"]
SHORT += ["--no-tensorboard", "--dtype", "float32"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("bert", tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def battles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two battles about each prompt."""
    return battles_file(tmp_path_factory.mktemp("battles") / "battles.csv", 24, asked=12)


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory, battles: Path) -> Path:
    return folds_file(tmp_path_factory.mktemp("folds") / "folds", battles)


@pytest.fixture(scope="module")
def taught(
    tmp_path_factory: pytest.TempPathFactory, battles: Path, folds: Path, base: Path
) -> tuple[Path, dict[str, Any]]:
    """Judges of all folds, and what was told of them."""
    folder = tmp_path_factory.mktemp("taught") / "minilm"
    done = command("teach", battles, "--folds", folds, "--base", base, *SHORT, "-o", folder,
                   "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    return folder, json.loads(done.stdout)


def command(name: str, *arguments: object) -> Result:
    return CliRunner().invoke(cli, ["finetune", name, *map(str, arguments)])


def ids_of(battles: pd.DataFrame) -> set[str]:
    return set(battles["id"])


def config_of(battles: Path, base: Path, folds: Path, **told: Any) -> Config:
    more = {"data__folds": str(folds), "optimisation__step_battles": 6}
    return small(battles, base, **(more | told))


# --- the sides ------------------------------------------------------------------------------------


def test_a_fold_is_measured_on_and_never_learned_from(
    battles: Path, base: Path, folds: Path, tmp_path: Path
) -> None:
    """Nor is a copy of it among the extras, swapped, nor another battle about its prompt."""
    dealt = read_folds(folds)
    table = pd.read_csv(battles)
    ours = {fold: table[dealt.of(read_battles(battles)) == fold] for fold in range(3)}
    strange = battles_file(tmp_path / "strange.csv", 5, seed=7)
    copies = ours[1].rename(columns={
        "response_a": "response_b", "response_b": "response_a",
        "winner_model_a": "winner_model_b", "winner_model_b": "winner_model_a",
    })  # fmt: skip
    about = ours[1].assign(response_a="something else", id=[f"x{n}" for n in range(len(ours[1]))])
    extra = tmp_path / "extra.csv"
    pd.concat([pd.read_csv(strange), copies, about]).to_csv(extra, index=False)
    found = read(config_of(battles, base, folds, data__fold=1, data__extra=(f"0.5*{extra}",)))
    assert found.fold is not None
    assert (found.fold.number, found.fold.fingerprint) == (1, dealt.fingerprint)
    assert found.held_out[0].name == "fold 1"
    assert ids_of(found.held_out[0].battles) == set(ours[1]["id"])
    assert found.dev is not None
    learned = ids_of(found.train.battles)
    assert learned | ids_of(found.dev.battles) == {
        *ours[0]["id"], *ours[2]["id"], *pd.read_csv(strange)["id"]
    }  # fmt: skip
    assert ids_of(found.dev.battles) <= {*ours[0]["id"], *ours[2]["id"]}
    assert not learned & ids_of(found.dev.battles)
    marks = battle_marks(found.held_out[0].battles)
    assert not np.isin(found.seen.marks.prompts, marks.prompts).any()
    assert not np.isin(found.seen.marks.battles, marks.battles).any()


def test_no_fold_chooses_its_own_best_step(
    battles: Path, base: Path, folds: Path, tmp_path: Path
) -> None:
    """A file of dev battles may hold some of the fold, or battles about its prompts."""
    dealt = read_folds(folds)
    table = pd.read_csv(battles)
    fold = dealt.of(read_battles(battles))
    dev = tmp_path / "dev.csv"
    own = table[fold == 1]
    about = own.assign(response_a="something else", id=[f"x{n}" for n in range(len(own))])
    pd.concat([table[fold == 0].head(3), own, about]).to_csv(dev, index=False)
    found = read(config_of(battles, base, folds, data__fold=1, data__dev=str(dev)))
    assert found.dev is not None
    assert ids_of(found.dev.battles) == set(table[fold == 0].head(3)["id"])


def test_folds_by_model_leave_out_all_battles_of_a_model(tmp_path: Path, base: Path) -> None:
    from finetune.folds.dealing import make_folds
    from finetune.folds.table import write_folds

    battles = battles_file(tmp_path / "battles.csv", 60)
    table = pd.read_csv(battles)
    rng = np.random.default_rng(0)
    names = np.array([rng.permutation(6)[:2] for _ in range(60)])
    table["model_a"], table["model_b"] = (np.char.add("m", names[:, side].astype(str))
                                          for side in range(2))  # fmt: skip
    table.to_csv(battles, index=False)
    made = make_folds([str(battles)], 3, by="model")
    write_folds(made, tmp_path / "folds")
    found = read(config_of(battles, base, tmp_path / "folds", data__fold=0, data__dev_share=0.0))
    both = {row.id: {row.model_a, row.model_b} for row in table.itertuples()}
    unseen = set.union(*(both[one] for one in found.held_out[0].battles["id"]))
    learned = set.union(*(both[one] for one in found.train.battles["id"]))
    places = made.places(read_battles(battles))
    assert ids_of(found.train.battles) == set(table["id"][made.learned(0)[places]])
    assert unseen - learned  # some models only those who are measured on have


def test_files_that_are_not_the_folds_are_one_line(
    battles: Path, base: Path, folds: Path, tmp_path: Path
) -> None:
    other = battles_file(tmp_path / "other.csv", 24, seed=4)
    pool = read_pool([str(other)])
    with pytest.raises(InputError, match=r"other\.csv.*is not in the folds"):
        read_fold(str(folds), 0, pool, str(other))
    with pytest.raises(InputError, match="has folds 0 to 2, and no fold 3"):
        read_fold(str(folds), 3, read_pool([str(battles)]), str(battles))
    with pytest.raises(InputError, match="say which: --fold"):
        read(config_of(battles, base, folds))
    with pytest.raises(InputError, match="name them: --folds"):
        read(small(battles, base, data__fold=1))


def test_places_and_turns_lead_back_to_the_files(battles: Path, tmp_path: Path) -> None:
    extra = battles_file(tmp_path / "extra.csv", 12, seed=5)
    from finetune.rows.data import Extra

    found = read_training(str(battles), [Extra(str(extra))])
    pool = read_pool([str(battles), str(extra)])
    some = found.take(np.array([30, 2, 25]))
    for one in (found, some):
        before = pool.battles.iloc[one.places]
        assert before["id"].tolist() == one.battles["id"].tolist()
        a = np.where(one.turned, before["response_b"], before["response_a"])
        assert a.tolist() == one.battles["response_a"].tolist()
    assert found.turned.any()
    assert not found.turned[found.source == 0].any()


# --- the command ----------------------------------------------------------------------------------


def test_a_judge_for_each_fold_and_predictions_for_all(
    taught: tuple[Path, dict[str, Any]], battles: Path, folds: Path
) -> None:
    folder, told = taught
    assert sorted(one.name for one in folder.iterdir()) == [
        "fold-0", "fold-1", "fold-2", "folds.yaml", "out-of-fold.csv"
    ]  # fmt: skip
    dealt = read_folds(folds)
    for fold, one in enumerate(told["folds"]):
        settings = read_recipe(folder / f"fold-{fold}" / "judge.yaml").settings
        assert settings["fold"] == one["fold"] == fold
        assert settings["folds"] == dealt.fingerprint
        assert settings["name"] == f"minilm fold {fold}"
        assert settings["measured"][f"fold {fold}"]["log_loss"] == one["log_loss"]
        assert one["battles"] == 8
        assert one["new"]
    assert told["missing"] == []
    labels = labels_of(battles)
    said = pd.read_csv(folder / "out-of-fold.csv")
    assert said["id"].tolist() == read_battles(battles)["id"].tolist()
    proba = said.iloc[:, 1:4].to_numpy()
    whole = told["out_of_fold"]
    assert whole["log_loss"] == pytest.approx(log_loss(labels, proba), abs=1e-5)
    assert whole["low"] < whole["log_loss"] < whole["high"]
    mean = np.mean([one["log_loss"] for one in told["folds"]])
    assert whole["log_loss"] == pytest.approx(mean, abs=1e-4)  # the folds are of one size
    # Each battle is as the judge of its fold has it, which `score` gives again.
    rows = dealt.of(read_battles(battles)) == 2
    again = predictions(folder / "fold-2", read_battles(battles)[rows])
    np.testing.assert_allclose(proba[rows], again, atol=1e-5)
    compared = CliRunner().invoke(cli, ["compare", str(battles), str(folder / "out-of-fold.csv")])
    assert compared.exit_code == 0, compared.output


def test_what_is_there_is_kept_and_the_rest_made(
    taught: tuple[Path, dict[str, Any]], battles: Path, folds: Path, base: Path, tmp_path: Path
) -> None:
    """As in an array of jobs: each fold by itself comes to what all at once do."""
    whole, told = taught
    folder = tmp_path / "minilm"
    shared = (battles, "--folds", folds, "--base", base, *SHORT, "-o", folder)
    first = command("teach", *shared, "--fold", "1")
    assert first.exit_code == 0, first.output
    assert "1 judge made, 0 kept; still missing: fold 0, 2" in first.stderr
    assert "out of fold" not in first.stdout
    assert not (folder / "out-of-fold.csv").exists()
    before = (folder / "fold-1" / "judge.yaml").stat().st_mtime_ns
    rest = command("teach", *shared, "--json")
    assert rest.exit_code == 0, rest.output
    found = json.loads(rest.stdout)
    assert [one["new"] for one in found["folds"]] == [True, False, True]
    assert (folder / "fold-1" / "judge.yaml").stat().st_mtime_ns == before
    assert found["out_of_fold"] == told["out_of_fold"]
    name = "out-of-fold.csv"
    assert (folder / name).read_bytes() == (whole / name).read_bytes()
    for fold in range(3):
        assert curve_of(folder / f"fold-{fold}") == curve_of(whole / f"fold-{fold}")
    again = command("teach", *shared)
    assert again.exit_code == 0, again.output
    assert "0 judges made, 3 kept; out of fold log loss" in again.stderr
    rows = again.stdout.splitlines()
    assert [row.split("  ")[0] for row in rows[2:]] == ["fold 0", "fold 1", "fold 2", "out of fold"]
    forced = command("teach", *shared, "--fold", "0", "--force", "--json")
    assert forced.exit_code == 0, forced.output
    assert [one["new"] for one in json.loads(forced.stdout)["folds"]] == [True, False, False]


def test_judges_need_not_be_measured_on_their_folds(
    taught: tuple[Path, dict[str, Any]], battles: Path, folds: Path, base: Path, tmp_path: Path
) -> None:
    """They are the same judges, and what is held out of all is measured on alone."""
    whole, _ = taught
    folder, test = tmp_path / "minilm", battles_file(tmp_path / "test.csv", 7, seed=5)
    shared = (battles, "--folds", folds, "--base", base, *SHORT, "--held-out", test, "-o", folder)
    done = command("teach", *shared, "--no-measure-fold")
    assert done.exit_code == 0, done.output
    assert [row.split()[:4] for row in done.stdout.splitlines()[2:]] == [
        ["fold", str(fold), "not", "measured"] for fold in range(3)
    ]
    assert "3 judges made, 0 kept" in done.stderr
    assert "out of fold" not in done.stderr
    assert not list(folder.rglob("out-of-fold.csv"))
    for fold in range(3):
        settings = read_recipe(folder / f"fold-{fold}" / "judge.yaml").settings
        assert set(settings["measured"]) == {"dev", "test.csv"}
        own, other = (one / f"fold-{fold}" / "model.safetensors" for one in (folder, whole))
        assert own.read_bytes() == other.read_bytes()
    again = command("teach", *shared, "--no-measure-fold", "--json")
    assert again.exit_code == 0, again.output
    told = json.loads(again.stdout)
    assert told["out_of_fold"] is None
    assert not any(one["new"] or "log_loss" in one for one in told["folds"])


def test_something_is_measured_on(battles: Path, folds: Path, base: Path, tmp_path: Path) -> None:
    shared = (battles, "--base", base, *SHORT, "--no-measure-fold", "-o", tmp_path / "judge")
    nothing = command("teach", *shared, "--folds", folds)
    assert nothing.exit_code == 2
    assert "leaves nothing to measure a judge on" in nothing.stderr
    no_folds = command("train", *shared)
    assert no_folds.exit_code == 2
    assert "no folds are named" in no_folds.stderr


def test_a_killed_fold_goes_on(
    taught: tuple[Path, dict[str, Any]], battles: Path, folds: Path, base: Path, tmp_path: Path
) -> None:
    from contextlib import nullcontext

    whole, _ = taught
    config = read_config(whole / "fold-0" / "train.yaml")
    folder = tmp_path / "minilm"
    with pytest.raises(Ended):
        teach(config, folder, watching=lambda _: nullcontext(EndAfter(2)))
    assert place_of(folder / "fold-0").is_dir()
    course = teach(config, folder, [0])
    assert [one.fold for one in course.taught] == [0]
    assert course.whole is None
    assert curve_of(folder / "fold-0") == curve_of(whole / "fold-0")


def test_judges_that_were_made_otherwise_are_not_taken_for_these(
    taught: tuple[Path, dict[str, Any]], battles: Path, folds: Path, base: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "minilm"
    shutil.copytree(taught[0], folder)

    def fails(said: str, *arguments: object) -> None:
        done = command("teach", *arguments)
        assert done.exit_code == 2, done.output
        assert said in done.output
        assert "Traceback" not in done.output

    shared = ("--folds", folds, "--base", base, *SHORT, "-o", folder)
    fails("was made with epochs 1.0 and not 2.0; add --force", battles, *shared, "--epochs", 2)
    others = folds_file(tmp_path / "others", battles, seed=1)
    fails("has judges of other folds", battles, "--folds", others, *shared[2:])
    copy = tmp_path / "battles.csv"
    table = pd.read_csv(battles)
    table.loc[0, ["winner_model_a", "winner_model_b", "winner_tie"]] = [0.3, 0.3, 0.4]
    table.to_csv(copy, index=False)
    fails("was made from other files", copy, *shared)
    test = battles_file(tmp_path / "test.csv", 7, seed=5)
    held = tmp_path / "held"
    kept = (battles, *shared[:-1], held, "--fold", "0", "--held-out", test)
    assert command("teach", *kept).exit_code == 0
    assert "0 judges made, 1 kept" in command("teach", *kept).stderr
    pd.concat([table.head(4), pd.read_csv(test)]).to_csv(test, index=False)
    fails("was made while other battles were held out", *kept)
    again = tmp_path / "base"
    shutil.copytree(base, again)
    (again / "model.safetensors").write_bytes(b"\1" * (again / "model.safetensors").stat().st_size)
    known = yaml.safe_load((folder / "fold-0" / "train.yaml").read_text())
    for fold in range(3):
        known["model"]["base"] = str(again)
        (folder / f"fold-{fold}" / "train.yaml").write_text(yaml.safe_dump(known))
    fails("began with other weights", battles, *shared[:2], "--base", again, *shared[4:])
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("x")
    fails("is no folder of judges of folds", battles, *shared[:-1], mine)
    fails("is a file", battles, *shared[:-1], battles)
    fails("name a file of BATTLES", *shared)
    fails("name the folds", battles, *shared[2:])
    fails("name the folder for the judges", battles, *shared[:-2])
    fails("has folds 0 to 2, and no fold 7", battles, *shared, "--fold", "7")
    fails("is what training begins with", battles, "--folds", folds, "--init", folder / "fold-1",
          *SHORT, "-o", folder, "--force")  # fmt: skip
    fails("writes no ballots", battles, *shared[:-1], tmp_path / "x", "--objective", "votes")
    assert (mine / "thesis.txt").read_text() == "x"


# --- students -------------------------------------------------------------------------------------


def test_a_student_alone_and_one_for_each_fold(
    battles: Path, folds: Path, base: Path, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).normal(size=(24, 3))
    table = says(tmp_path / "t.parquet", battles, values, teacher="big")
    shared = (battles, "--teacher", table, "--base", base, *SHORT)
    alone = command("distill", *shared, "-o", tmp_path / "student")
    assert alone.exit_code == 0, alone.output
    assert "22 of 22 battles have logits of big" in alone.stderr
    settings = read_recipe(tmp_path / "student" / "judge.yaml").settings
    assert set(settings["made_from"]) == {"battles.csv", "t.parquet"}
    assert settings["made_by"]["command"] == "arena-judge finetune distill"
    kept = read_config(tmp_path / "student" / "train.yaml")
    assert kept.distillation.teacher == (str(table),)
    again = command("train", "--config", tmp_path / "student" / "train.yaml",
                    "-o", tmp_path / "again")  # fmt: skip
    assert again.exit_code == 0, again.output
    assert curve_of(tmp_path / "again") == curve_of(tmp_path / "student")
    parted = command("distill", *shared, "--folds", folds, "--fold", "2", "--alpha", "0.5",
                     "-o", tmp_path / "parted")  # fmt: skip
    assert parted.exit_code == 0, parted.output
    assert (tmp_path / "parted" / "fold-2" / "judge.yaml").is_file()
    assert "still missing: fold 0, 1" in parted.stderr
    says(table, battles, -values, teacher="big")
    changed = command("distill", *shared, "--folds", folds, "--fold", "2", "--alpha", "0.5",
                      "-o", tmp_path / "parted")  # fmt: skip
    assert changed.exit_code == 2
    assert "was made from other files" in changed.output
    stats = command("distill", *shared, "--folds", folds, "--fold", "1", "--stats-only", "--json")
    assert stats.exit_code == 0, stats.output
    assert json.loads(stats.stdout)["speed"]["steps"] > 0


def test_what_a_student_lacks_is_one_line(battles: Path, base: Path, tmp_path: Path) -> None:
    table = says(tmp_path / "t.parquet", battles)

    def fails(said: str, *arguments: object) -> None:
        done = command("distill", *arguments)
        assert done.exit_code == 2, done.output
        assert said in done.output
        assert "Traceback" not in done.output

    target = tmp_path / "student"
    fails("name a file of BATTLES", "--teacher", table, "--base", base, "-o", target)
    fails("name the teachers' logits", battles, "--base", base, "-o", target)
    fails("name the folder for the student", battles, "--teacher", table, "--base", base)
    fails(
        "--alpha is at least 0 and at most 1",
        battles,
        "--teacher",
        table,
        "--alpha",
        "1.5",
        "-o",
        target,
    )
    fails("at least 0.05", battles, "--teacher", table, "--temperature", "0", "-o", target)
    fails("name the folds", battles, "--teacher", table, "--fold", "1", "-o", target)
    fails("is read by this very command", battles, "--teacher", table, "--base", base,
          "-o", tmp_path)  # fmt: skip
    assert not target.exists()
