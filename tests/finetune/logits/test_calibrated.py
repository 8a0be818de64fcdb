"""Teachers' logits calibrated on labels, without the battles of a fold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from finetune.folds.dealing import make_folds
from finetune.folds.table import read_folds, write_folds
from finetune.logits.calibrated import calibrate_logits, labelled_with
from finetune.logits.table import aligned, log_softmax, logits_of, read_logits, write_logits
from judge.battles import labels, read_battles
from judge.cli.main import cli
from judge.errors import InputError
from tests.finetune.files import battle, write

COUNT = 240


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Battles whose labels are drawn from what a teacher would say if it were not too sure."""
    folder = tmp_path_factory.mktemp("calibrated")
    rng = np.random.default_rng(0)
    honest = log_softmax(rng.normal(size=(COUNT, 3)))
    drawn = [rng.choice(3, p=np.exp(row)) for row in honest]
    rows = [battle(n, ("a", "b", "tie")[drawn[n]]) for n in range(COUNT)]
    battles = read_battles(write(folder / "b.jsonl", rows))
    write_folds(make_folds([str(folder / "b.jsonl")], 4), folder / "folds")
    for name, values in (("honest", honest), ("sure", 4 * honest)):
        made = logits_of(battles, values, teacher=name, folds=read_folds(folder / "folds").fold)
        write_logits(folder / f"{name}.parquet", made)
    return folder


def _run(*arguments: object) -> str:
    found = CliRunner().invoke(cli, ["finetune", "calibrate-logits", *map(str, arguments)])
    assert found.exit_code == 0, found.output
    return found.stdout


def test_who_is_too_sure_is_changed_and_who_is_not_stays(place: Path, tmp_path: Path) -> None:
    told = ("--battles", place / "b.jsonl", "--folds", place / "folds", "-o", tmp_path / "out")
    said = json.loads(_run(place / "honest.parquet", place / "sure.parquet", *told, "--json"))
    by = {one["teacher"]: one for one in said}
    assert by["honest"]["method"] == "identity"
    assert by["honest"]["difference"] == 0
    assert by["sure"]["method"] != "identity"
    assert by["sure"]["high"] < 0
    battles = read_battles(place / "b.jsonl")
    for name in by:
        before = read_logits(place / f"{name}.parquet")
        after = read_logits(tmp_path / "out" / f"{name}.parquet")
        assert after.ids == before.ids
        assert after.folds.tolist() == before.folds.tolist()
        assert after.about["calibrated"] == by[name]["method"]
        same = log_softmax(aligned(before, battles))
        if name == "honest":
            np.testing.assert_array_equal(aligned(after, battles), same)


def test_one_table(place: Path, tmp_path: Path) -> None:
    told = ("--battles", place / "b.jsonl", "--how", "vector", "-o", tmp_path / "one.parquet")
    shown = _run(place / "sure.parquet", *told)
    assert shown.splitlines()[0].split()[:2] == ["teacher", "method"]
    assert "vector" in shown


def test_no_battle_has_a_say_in_its_own_fold(place: Path) -> None:
    file = str(place / "b.jsonl")
    battles, folds = read_battles(file), read_folds(place / "folds")
    table = read_logits(place / "sure.parquet")
    data = labelled_with(battles, file, folds)
    before = calibrate_logits(table, data, file, "vector").logits.values
    other = data.labels.copy()
    own = data.fold == 2
    other[own] = other[own][:, [1, 2, 0]]  # what fold 2 says is turned round
    turned = type(data)(battles, other, data.prompts, data.fold, data.learns)
    after = calibrate_logits(table, turned, file, "vector").logits.values
    np.testing.assert_array_equal(after[own], before[own])
    assert np.abs(after[~own] - before[~own]).max() > 1e-3


def test_unlabelled_battles_are_calibrated_too(place: Path, tmp_path: Path) -> None:
    battles = read_battles(place / "b.jsonl")
    y = labels(battles)
    assert y is not None
    some: pd.DataFrame = battles.copy()
    some.loc[some.index[:7], ["label_a", "label_b", "label_tie"]] = np.nan
    table = read_logits(place / "sure.parquet")
    data = labelled_with(some, "b.jsonl")
    made = calibrate_logits(table, data, "b.jsonl", "temperature")
    assert made.battles == COUNT - 7
    assert np.isfinite(made.logits.values).all()
    assert np.abs(log_softmax(made.logits.values) - log_softmax(table.values))[:7].max() > 0.1


def test_battles_without_labels(place: Path) -> None:
    bare = read_battles(place / "b.jsonl", labels=False)
    with pytest.raises(InputError, match="has no labels"):
        labelled_with(bare, "b.jsonl")
