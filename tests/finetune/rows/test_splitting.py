"""What is held out of training: whole prompts of the main file, alike in their labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from finetune.rows.data import Extra, read_training
from finetune.rows.splitting import folds_of, split
from judge.errors import ArenaJudgeError
from tests.finetune.files import battle, say, write


def _main(tmp_path: Path, prompts: int = 60, each: int = 3) -> str:
    rows = []
    for number in range(prompts):
        for again in range(each):
            own = {"id": f"{number}-{again}", "response_a": say(5000 + each * number + again)}
            label = ("a", "b", "tie")[number % 3]
            rows.append(battle(number, label, **own))
    return write(tmp_path / "main.jsonl", rows)


def test_prompts_are_on_one_side_and_labels_alike(tmp_path: Path) -> None:
    training = read_training(_main(tmp_path))
    parts = split(training, 0.2, seed=3)
    assert len(parts.held_out) == 36
    assert len(parts.train) == 144
    assert len(parts.apart) == 0
    assert not set(training.prompts[parts.train]) & set(training.prompts[parts.held_out])
    for rows in (parts.train, parts.held_out):
        assert training.labels[rows].mean(axis=0) == pytest.approx([1 / 3] * 3)
    again = split(training, 0.2, seed=3)
    assert np.array_equal(again.held_out, parts.held_out)
    assert not np.array_equal(split(training, 0.2, seed=4).held_out, parts.held_out)


def test_a_number_of_battles_or_a_share_of_them(tmp_path: Path) -> None:
    training = read_training(_main(tmp_path))
    assert np.array_equal(split(training, 18).held_out, split(training, 0.1).held_out)


def test_extras_are_not_measured_on_and_not_learned_from_about_held_out_prompts(
    tmp_path: Path,
) -> None:
    main = _main(tmp_path, prompts=20, each=1)
    rows = [battle(n, "a", id=f"x{n}", response_b=say(9000 + n)) for n in range(40)]
    extra = write(tmp_path / "extra.jsonl", rows)
    training = read_training(main, [Extra(extra)], dedupe="battle")
    parts = split(training, 0.25)
    assert set(training.source[parts.held_out]) == {0}
    assert len(parts.held_out) == 5
    assert len(parts.apart) == 5
    assert set(training.source[parts.apart]) == {1}
    assert set(training.prompts[parts.apart]) == set(training.prompts[parts.held_out])
    every = np.concatenate([parts.train, parts.held_out, parts.apart])
    assert sorted(every.tolist()) == list(range(len(training)))


def test_near_copies_stay_on_one_side(tmp_path: Path) -> None:
    rows = []
    for number in range(30):
        row = battle(number, "a")
        near = {"id": f"near{number}", "prompt": row["prompt"] + " please"}
        rows += [row, row | near | {"response_a": row["response_a"] + " indeed"}]
    training = read_training(write(tmp_path / "main.jsonl", rows))
    parts = split(training, 0.3)
    held = {
        name.removeprefix("near").removeprefix("n")
        for name in training.battles["id"][parts.held_out]
    }
    left = {
        name.removeprefix("near").removeprefix("n") for name in training.battles["id"][parts.train]
    }
    assert held
    assert not held & left


def test_what_cannot_be_held_out(tmp_path: Path) -> None:
    alone = write(tmp_path / "alone.jsonl", [battle(1, "a"), battle(1, "b", response_a="other")])
    with pytest.raises(ArenaJudgeError, match="about 1 prompts cannot be held out"):
        split(read_training(alone))
    two = read_training(write(tmp_path / "two.jsonl", [battle(1, "a"), battle(2, "b")]))
    for share in (0.0, 2, 50):
        with pytest.raises(ArenaJudgeError, match="cannot be held out"):
            split(two, share)
    parts = split(two, 0.01)
    assert len(parts.train) == len(parts.held_out) == 1


def test_folds_of_prompts(tmp_path: Path) -> None:
    training = read_training(_main(tmp_path))
    folds = folds_of(training.labels, training.prompts, 5)
    assert np.bincount(folds).tolist() == [36] * 5
    for fold in range(5):
        own = training.labels[folds == fold].sum(axis=0)
        assert own == pytest.approx([12, 12, 12])
        inside = set(training.prompts[folds == fold])
        assert not inside & set(training.prompts[folds != fold])
    with pytest.raises(ArenaJudgeError, match="60 prompts cannot be dealt out to 61 folds"):
        folds_of(training.labels, training.prompts, 61)
