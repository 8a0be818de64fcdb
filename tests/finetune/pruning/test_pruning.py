"""Battles whose labels are noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.logits.table import log_softmax, logits_of, write_logits
from finetune.pruning.suspects import (
    CONTRADICTION,
    HIGH,
    LOW,
    NOISE,
    class_thresholds,
    contradictions,
    counted_as,
    find_suspects,
    information_weights,
)
from finetune.rows.sources import read_pool
from judge.battles import read_battles
from judge.cli.main import cli
from judge.comparing.marks import battle_marks
from judge.errors import InputError
from tests.finetune.files import battle, write

EYE = np.eye(3)


def _battles(tmp_path: Path, rows: list[dict[str, object]]) -> pd.DataFrame:
    return read_battles(write(tmp_path / "b.jsonl", rows))


def test_confident_learning_by_hand() -> None:
    label = np.array([0, 0, 1, 1])
    proba = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1], [0.1, 0.6, 0.3]])
    thresholds = class_thresholds(label, proba)
    assert thresholds[:2].tolist() == pytest.approx([0.5, 0.6])
    assert np.isinf(thresholds[2])
    assert counted_as(proba, thresholds).tolist() == [0, 1, 1, 1]
    # None of these reaches a threshold, and so it is counted as nothing.
    assert counted_as(np.array([[0.34, 0.33, 0.33]]), thresholds).tolist() == [-1]


def test_a_wrong_label_is_found(tmp_path: Path) -> None:
    battles = _battles(tmp_path, [battle(n) for n in range(6)])
    labels = EYE[[0, 0, 1, 1, 2, 1]]
    proba = 0.9 * EYE[[0, 0, 1, 1, 2, 0]] + 0.1 / 3
    found = find_suspects(labels, proba, battle_marks(battles))
    assert found.reasons.tolist() == [None] * 5 + [NOISE]
    assert found.likely[5] == 0
    assert found.confidence[5] == pytest.approx(0.1 / 3)
    spared = find_suspects(labels, proba, battle_marks(battles), at_most=0.0)
    assert spared.spared == 1
    assert not spared.removed.any()
    low = find_suspects(labels, proba, battle_marks(battles), threshold=0.01)
    assert not low.removed.any()


def test_unlabelled_and_unjudged_battles_are_no_suspects(tmp_path: Path) -> None:
    battles = _battles(tmp_path, [battle(n) for n in range(3)])
    labels = np.array([[np.nan] * 3, [0.0, 1.0, 0.0], [0.5, 0.5, 0.0]])
    proba = np.array([[0.9, 0.05, 0.05], [np.nan] * 3, [0.05, 0.05, 0.9]])
    assert not find_suspects(labels, proba, battle_marks(battles), threshold=0.5).removed.any()
    weights = information_weights(labels, proba)
    assert weights[:2].tolist() == [1.0, 1.0]


def test_the_same_battle_with_other_labels(tmp_path: Path) -> None:
    def turned(number: int) -> dict[str, object]:
        one = battle(number)
        return one | {"response_a": one["response_b"], "response_b": one["response_a"]}

    rows = [battle(1), turned(1), battle(2), turned(2), battle(3), battle(3), battle(3)]
    battles = _battles(tmp_path, [row | {"id": str(n)} for n, row in enumerate(rows)])
    # Swapped, A is B: the first two agree, the next two do not, and of three alike one differs.
    label = np.array([0, 1, 0, 0, 1, 1, 2])
    found = contradictions(label, battle_marks(battles))
    assert found.tolist() == [False, False, True, True, False, False, True]
    proba = np.full((7, 3), 1 / 3)
    suspects = find_suspects(EYE[label], proba, battle_marks(battles), at_most=0.0)
    assert suspects.reasons.tolist() == [
        None,
        None,
        *[CONTRADICTION] * 2,
        None,
        None,
        CONTRADICTION,
    ]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30))
def test_weights_are_bounded_and_of_mean_one(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    proba = np.exp(log_softmax(rng.normal(size=(count, 3)) * 5))
    labels = EYE[rng.integers(3, size=count)]
    weights = information_weights(labels, proba)
    assert weights.mean() == pytest.approx(1.0)
    assert weights.max() / weights.min() <= HIGH / LOW + 1e-9
    # Less likely labels count for no less.
    given_ = (labels * proba).sum(axis=1)
    assert (np.diff(weights[np.argsort(-given_, kind="stable")]) >= -1e-12).all()


# --- the command ----------------------------------------------------------------------------------

COUNT, WRONG = 90, (4, 40)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Battles, two of which have a label that their teacher does not believe."""
    folder = tmp_path_factory.mktemp("prune")
    rng = np.random.default_rng(1)
    truth = rng.integers(3, size=COUNT)
    said = truth.copy()
    said[list(WRONG)] = (truth[list(WRONG)] + 1) % 3
    rows = [battle(n, ("a", "b", "tie")[said[n]], about={"n": n}) for n in range(COUNT)]
    battles = read_battles(write(folder / "b.jsonl", rows))
    noise = rng.normal(size=(COUNT, 3)) * 0.3
    values = 2 * EYE[truth] + noise
    values[list(WRONG)] = 4 * EYE[truth[list(WRONG)]]
    write_logits(folder / "t.parquet", logits_of(battles, values, teacher="t"))
    return folder


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["finetune", "prune", *map(str, arguments)])


def test_what_goes_is_shown_listed_and_measured(place: Path, tmp_path: Path) -> None:
    told = (place / "b.jsonl", "--logits", place / "t*.parquet", "-o", tmp_path / "p.parquet")
    found = _run(*told, "--removed", tmp_path / "gone.csv")
    assert found.exit_code == 0, found.output
    gone = pd.read_csv(tmp_path / "gone.csv")
    assert {f"n{n}" for n in WRONG} <= set(gone["id"])
    assert gone["id"].iloc[0] in found.stdout
    assert "measured on 90 battles held out" in found.stderr
    assert "reference judge learns from" in found.stdout
    left = read_battles(tmp_path / "p.parquet")
    assert set(left["id"]) == {f"n{n}" for n in range(COUNT)} - set(gone["id"])
    whole = read_battles(place / "b.jsonl").set_index("id").loc[left["id"]]
    for name in ("prompt", "response_a", "label_a", "label_tie"):
        assert left[name].tolist() == whole[name].tolist()
    refused = _run(*told)
    assert refused.exit_code == 2
    assert "add --force" in refused.stderr  # it might be somebody's battles
    said = json.loads(_run(*told, "--json", "--force").stdout)
    assert said["measured"]["battles"] == COUNT
    assert [one["id"] for one in said["removed"]] == gone["id"].tolist()
    assert json.loads(_run(*told, "--json", "--force").stdout) == said


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl"])
def test_weights_reach_training(place: Path, tmp_path: Path, ending: str) -> None:
    target = tmp_path / f"w{ending}"
    told = (place / "b.jsonl", "--logits", place / "t.parquet", "--how", "weigh", "-o", target)
    found = _run(*told, "--no-measure")
    assert found.exit_code == 0, found.output
    pool = read_pool([str(target)])
    assert len(pool) == COUNT
    assert pool.weights.mean() == pytest.approx(1.0)
    assert pool.weights[list(WRONG)].min() > 1.5
    # What a file says already is multiplied.
    twice = tmp_path / "twice.csv"
    told = (target, "--logits", place / "t.parquet", "--how", "weigh", "-o", twice, "--no-measure")
    assert _run(*told).exit_code == 0
    np.testing.assert_allclose(read_pool([str(twice)]).weights, pool.weights**2, rtol=1e-9)


def test_logits_in_fold_are_refused(place: Path, tmp_path: Path) -> None:
    battles = read_battles(place / "b.jsonl")
    made = logits_of(battles, np.zeros((COUNT, 3)), teacher="t", about={"in_fold": True})
    write_logits(tmp_path / "in.parquet", made)
    told = (place / "b.jsonl", "--logits", tmp_path / "in.parquet", "-o", tmp_path / "p.csv")
    refused = _run(*told)
    assert refused.exit_code == 2
    assert "was made in fold" in refused.stderr
    assert not (tmp_path / "p.csv").exists()


def test_ids_stay_where_a_file_has_none(tmp_path: Path) -> None:
    rows = [{k: v for k, v in battle(n, "ab"[n % 2]).items() if k != "id"} for n in range(12)]
    battles = read_battles(write(tmp_path / "b.jsonl", rows))
    said = np.zeros((12, 3))
    said[:, 0] = 1.0 - 2 * (np.arange(12) % 2)
    said[3, 0] = 3.0
    write_logits(tmp_path / "t.parquet", logits_of(battles, said, teacher="t"))
    found = _run(
        tmp_path / "b.jsonl", "--logits", tmp_path / "t.parquet", "-o", tmp_path / "p.csv",
        "--no-measure",
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    assert read_battles(tmp_path / "p.csv")["id"].tolist() == [str(n) for n in range(12) if n != 3]


@pytest.mark.parametrize("weight", ["much", "-1", "0", "nan", "inf"])
def test_weights_that_cannot_be(tmp_path: Path, weight: str) -> None:
    rows = [battle(1, "a", weight="2"), battle(2, "b", weight=weight)]
    with pytest.raises(InputError, match="row 2, column weight: is"):
        read_pool([write(tmp_path / "b.jsonl", rows)])
