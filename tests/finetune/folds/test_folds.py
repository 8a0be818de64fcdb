"""Folds: what is held out where, and what is never learned from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.folds.dealing import make_folds
from finetune.folds.table import EXTRA, LEFT_OUT, read_folds, write_folds
from judge.battles import read_battles
from judge.errors import ArenaJudgeError, InputError
from tests.finetune.files import battle, say, write

LABELS = ("a", "b", "tie")


def _file(path: Path, asked: list[int], *, first: int = 0) -> str:
    """Battles about these prompts, by number, with labels by turns."""
    rows = [
        battle(first + place, LABELS[place % 3], prompt=say(10_000 + prompt))
        for place, prompt in enumerate(asked)
    ]
    return write(path, rows)


def test_folds_of_a_file(tmp_path: Path) -> None:
    file = _file(tmp_path / "b.jsonl", list(range(30)))
    folds = make_folds([file], 5, seed=3)
    write_folds(folds, tmp_path / "folds")
    again = read_folds(tmp_path / "folds")
    fold = again.of(read_battles(file), file)
    assert again.fingerprint == folds.fingerprint
    assert (fold == folds.fold).all()
    assert (again.counts == [[2, 2, 2, 0]] * 5).all()
    said = json.loads((tmp_path / "folds" / "folds.json").read_text())
    assert (said["k"], said["files"][0]["battles"]) == (5, 30)
    assert [one["learned"] for one in said["folds"]] == [24] * 5


@settings(max_examples=10, deadline=None)
@given(
    asked=st.lists(st.integers(0, 12), min_size=13, max_size=40),
    k=st.integers(2, 6),
    seed=st.integers(0, 99),
)
def test_no_prompt_is_split(
    tmp_path_factory: pytest.TempPathFactory, asked: list[int], k: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("folds")
    asked = [*range(k), *asked]
    half = len(asked) // 2
    files = [_file(folder / "one.jsonl", asked[:half]), _file(folder / "two.jsonl", asked[half:])]
    folds = make_folds(files, k, seed=seed)
    prompts = np.array(asked)
    for prompt in set(asked):
        assert len(set(folds.fold[prompts == prompt].tolist())) == 1
    assert set(folds.fold.tolist()) == set(range(k))
    # Every battle is held out once and learned from by all others.
    learned = np.stack([folds.learned(fold) for fold in range(k)])
    assert (learned.sum(axis=0) == k - 1).all()
    assert not learned[folds.fold, np.arange(len(folds))].any()


def test_extras_are_learned_from_only(tmp_path: Path) -> None:
    file = _file(tmp_path / "b.jsonl", list(range(12)))
    extra = _file(tmp_path / "more.jsonl", [3, 50, 51, 3], first=100)
    folds = make_folds([file], 3, extras=[extra])
    there = folds.of(read_battles(extra), extra)
    assert there.tolist() == [LEFT_OUT, EXTRA, EXTRA, LEFT_OUT]
    assert folds.files[1].left_out == 2
    for fold in range(3):
        assert folds.learns(fold, read_battles(extra)).tolist() == [False, True, True, False]


def _with_models(path: Path, pairs: list[tuple[int, int]], *, prompts: list[int]) -> str:
    rows = [
        battle(n, LABELS[n % 3], prompt=say(10_000 + p), model_a=f"m{a}", model_b=f"m{b}")
        for n, ((a, b), p) in enumerate(zip(pairs, prompts, strict=True))
    ]
    return write(path, rows)


@settings(max_examples=10, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=40, max_size=60),
    seed=st.integers(0, 99),
)
def test_models_of_a_fold_are_unseen(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, int]], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("folds")
    # Each model meets itself and each prompt is asked once, and so every fold has something.
    pairs = [*((n, n) for n in range(9)), *pairs]
    prompts = [n if n < 9 else 9 + n % 30 for n in range(len(pairs))]
    file = _with_models(folder / "b.jsonl", pairs, prompts=prompts)
    folds = make_folds([file], 3, by="model", seed=seed)
    models, asked = np.array(pairs), np.array(prompts)
    for fold in range(3):
        held, learned = folds.fold == fold, folds.learned(fold)
        home = set(models[(folds.sides == fold)].tolist())
        assert not set(models[learned].ravel().tolist()) & home
        assert all({a, b} & home for a, b in models[held].tolist())
        assert not set(asked[learned].tolist()) & set(asked[held].tolist())
    assert (folds.fold >= 0).all()


def test_battles_are_known_by_id_and_text(tmp_path: Path) -> None:
    file = _file(tmp_path / "b.jsonl", list(range(6)))
    folds = make_folds([file], 2)
    battles = read_battles(file)
    with pytest.raises(InputError, match=r"b\.jsonl, row 3, column id: 'n2' is another battle"):
        folds.of(
            battles.assign(
                prompt=[("new",) if n == 2 else p for n, p in enumerate(battles["prompt"])]
            ),
            file,
        )
    renamed = battles.assign(id=["other", *battles["id"].tolist()[1:]])
    with pytest.raises(InputError, match=r"row 1, column id: 'other' has another id in the folds"):
        folds.of(renamed, file)
    new = read_battles(_file(tmp_path / "new.jsonl", [90], first=90))
    assert folds.found(new).tolist() == [-1]
    with pytest.raises(InputError, match=r"row 1, column id: 'n90' is not in the folds"):
        folds.of(new, file)
    with pytest.raises(InputError, match=r"row 2, column id: 'n1' stands in row 2 too"):
        folds.of(battles.iloc[[1, 1]], file)


def test_what_cannot_be_dealt_out(tmp_path: Path) -> None:
    file = _file(tmp_path / "b.jsonl", [0, 0, 1, 1])
    with pytest.raises(ArenaJudgeError, match="2 prompts cannot be dealt out to 3"):
        make_folds([file], 3)
    with pytest.raises(ArenaJudgeError, match="two at least"):
        make_folds([file], 1)
    with pytest.raises(InputError, match="row 1, column model_a: names no model"):
        make_folds([file], 2, by="model")
    twice = write(tmp_path / "t.jsonl", [battle(1, "a"), battle(2, "b", id="n1")])
    with pytest.raises(InputError, match="row 2, column id: 'n1' stands in row 1 too"):
        make_folds([twice], 2)
    with pytest.raises(InputError, match="named twice"):
        make_folds([file], 2, extras=[file])


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there"):
        read_folds(tmp_path / "no")
    with pytest.raises(InputError, match="is no folder of folds"):
        read_folds(tmp_path)
    folds = make_folds([_file(tmp_path / "b.jsonl", list(range(6)))], 2)
    write_folds(folds, tmp_path / "folds")
    said = tmp_path / "folds" / "folds.json"
    said.write_text(said.read_text().replace(folds.fingerprint, "0" * 32))
    with pytest.raises(InputError, match="does not agree"):
        read_folds(tmp_path / "folds")
    (tmp_path / "folds" / "folds.parquet").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read as folds"):
        read_folds(tmp_path / "folds")


def test_ids_of_any_kind_come_back(tmp_path: Path) -> None:
    rows = [battle(n, "a", id=name) for n, name in enumerate(["\ud800", "a\0b", "é", "x" * 5000])]
    file = write(tmp_path / "b.jsonl", rows)
    folds = make_folds([file], 2)
    write_folds(folds, tmp_path / "folds")
    assert (read_folds(tmp_path / "folds").of(read_battles(file)) == folds.fold).all()
