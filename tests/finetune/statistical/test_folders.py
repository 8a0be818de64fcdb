"""`finetune statistical --folds`: a judge for each fold, as the steps that follow take them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finetune.folds.dealing import make_folds
from finetune.folds.folders import FILE as MARK
from finetune.folds.judges import find_fold_judges
from finetune.folds.table import read_folds, write_folds
from finetune.logits.table import read_logits
from judge.battles import read_battles
from judge.comparing.leaks import read_seen
from judge.comparing.marks import battle_marks
from judge.judges import load_judge
from judge.judges.recipes import read_recipe
from tests.finetune.statistical.quick import battles, command, learned, quick, refused

__all__ = ["quick"]
K = 2


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return battles(tmp_path_factory.mktemp("battles") / "battles.csv", 36)


@pytest.fixture(scope="module")
def extra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return battles(tmp_path_factory.mktemp("extra") / "extra.csv", 10, seed=4)


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory, file: Path, extra: Path) -> Path:
    folder = tmp_path_factory.mktemp("folds") / "folds"
    write_folds(make_folds([str(file)], K, extras=[str(extra)]), folder)
    return folder


@pytest.fixture(scope="module")
def taught(
    tmp_path_factory: pytest.TempPathFactory, file: Path, folds: Path, extra: Path
) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("taught") / "words"
    done = learned(file, "--folds", folds, "--extra", extra, "-o", folder, "--json")
    return folder, json.loads(done.stdout)


@pytest.fixture
def copied(taught: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(taught[0], tmp_path / "words"))


def test_there_is_a_judge_for_each_fold(
    taught: tuple[Path, dict[str, Any]], folds: Path, file: Path
) -> None:
    folder, said = taught
    found = find_fold_judges(folder)
    assert list(found.members) == list(range(K))
    assert found.folds == read_folds(folds).fingerprint
    assert (folder / MARK).is_file()
    assert said["missing"] == []
    assert [one["new"] for one in said["folds"]] == [True] * K
    for fold, member in found.members.items():
        settings = read_recipe(member / "judge.yaml").settings
        assert (settings["kind"], settings["fold"]) == ("statistical", fold)
        assert settings["folds"] == read_folds(folds).fingerprint
        assert settings["measured"][f"fold {fold}"]["battles"] == 36 // K
        assert load_judge(member).name == f"words fold {fold}"
    whole = pd.read_csv(folder / "out-of-fold.csv")
    assert whole["id"].tolist() == pd.read_csv(file)["id"].tolist()
    labels = pd.read_csv(file)[["winner_model_a", "winner_model_b", "winner_tie"]].to_numpy()
    loss = -np.log((whole.iloc[:, 1:4].to_numpy() * labels).sum(axis=1)).mean()
    assert np.isclose(said["out_of_fold"]["log_loss"], loss, atol=1e-4)


def test_no_judge_has_learned_of_its_fold(
    taught: tuple[Path, dict[str, Any]], folds: Path, file: Path, extra: Path
) -> None:
    """And all have learned from the extras."""
    table = read_battles(file)
    marks, fold = battle_marks(table), read_folds(folds).of(table)
    more = battle_marks(read_battles(extra)).battles
    for number in range(K):
        seen = read_seen(taught[0] / f"fold-{number}")
        assert seen is not None
        assert not np.isin(marks.prompts[fold == number], seen.marks.prompts).any()
        assert np.isin(marks.battles[fold != number], seen.marks.battles).all()
        assert np.isin(more, seen.marks.battles).all()


def test_logits_are_taken_out_of_fold(
    taught: tuple[Path, dict[str, Any]], folds: Path, file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "words.parquet"
    done = command("logits", file, "--judge", taught[0], "--folds", folds, "-o", out)
    assert done.exit_code == 0, done.output
    table = read_battles(file)
    said, fold = read_logits(out), read_folds(folds).of(table)
    assert list(said.ids) == table["id"].tolist()
    for number in range(K):
        own = fold == number
        proba = load_judge(taught[0] / f"fold-{number}").predict_proba(table[own])
        values = np.exp(said.values[own].reshape(-1, 3))
        assert np.allclose(values / values.sum(axis=1, keepdims=True), proba, atol=1e-9)


def test_what_is_there_is_kept(copied: Path, file: Path, folds: Path, extra: Path) -> None:
    shutil.rmtree(copied / "fold-0")
    (copied / "out-of-fold.csv").unlink()
    kept = (copied / "fold-1" / "weights.npz").stat().st_mtime_ns
    again = learned(file, "--folds", folds, "--extra", extra, "-o", copied, "--json")
    said = json.loads(again.stdout)
    assert [one["new"] for one in said["folds"]] == [True, False]
    assert (copied / "fold-1" / "weights.npz").stat().st_mtime_ns == kept
    assert (copied / "out-of-fold.csv").is_file()


def test_the_same_fold_gives_the_same_bytes(
    taught: tuple[Path, dict[str, Any]], file: Path, folds: Path, extra: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "words"
    done = learned(file, "--folds", folds, "--extra", extra, "--fold", 1, "-o", folder)
    assert "still missing: fold 0" in done.stderr
    assert not (folder / "fold-0").exists()
    assert not (folder / "out-of-fold.csv").exists()
    for name in ("weights.npz", "seen.npz", "out-of-fold.csv", "judge.yaml"):
        own, other = ((at / "fold-1" / name).read_bytes() for at in (folder, taught[0]))
        assert own == other, name


def test_other_judges_are_not_taken_for_these(
    copied: Path, file: Path, folds: Path, extra: Path, tmp_path: Path
) -> None:
    told = (file, "--folds", folds, "--extra", extra)
    assert "made with soften 0.5" in refused(*told, "--soften", 0, "-o", copied)
    assert "made with extra" in refused(*told[:3], "-o", copied)
    assert "no fold 7" in refused(*told, "--fold", 7, "-o", copied)
    write_folds(make_folds([str(file)], 3), tmp_path / "three")
    assert "judges of other folds" in refused(file, "--folds", tmp_path / "three", "-o", copied)
    other = battles(tmp_path / "other.csv", 36, seed=9)
    said = refused(other, "--folds", folds, "-o", tmp_path / "new")
    assert "is not in the folds" in said
    assert not (tmp_path / "new").exists()


def test_a_held_out_file_with_other_battles_is_another(
    file: Path, folds: Path, tmp_path: Path
) -> None:
    """Judges may have learned from what is in it now."""
    (tmp_path / "a").mkdir()
    test = battles(tmp_path / "a" / "test.csv", 8, seed=5)
    told = (file, "--folds", folds, "--fold", 0, "-o", tmp_path / "judges", "--held-out")
    learned(*told, test)
    assert "0 judges made, 1 kept" in learned(*told, test).stderr
    other = tmp_path / "test.csv"
    pd.concat([pd.read_csv(test), pd.read_csv(file).head(6)]).to_csv(other, index=False)
    assert "was made while other battles were held out" in refused(*told, other)


def test_natural_battles_of_the_fold_are_not_learned_from(
    file: Path, folds: Path, tmp_path: Path
) -> None:
    natural = tmp_path / "natural.csv"
    more = battles(tmp_path / "more.csv", 12, seed=6)
    pd.concat([pd.read_csv(file).head(12), pd.read_csv(more)]).to_csv(natural, index=False)
    learned(file, "--folds", folds, "--head", natural, "--fold", 0, "-o", tmp_path / "judges")
    table = read_battles(file)
    held = battle_marks(table[read_folds(folds).of(table) == 0])
    seen = read_seen(tmp_path / "judges" / "fold-0")
    assert seen is not None
    assert not np.isin(seen.marks.prompts, held.prompts).any()
    settings = read_recipe(tmp_path / "judges" / "fold-0" / "judge.yaml").settings
    assert 12 < settings["head_trained_on"] < 24
