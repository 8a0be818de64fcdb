"""`arena-judge finetune folds` and `logits` as a user sees them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result

pytest.importorskip("torch")

import torch

from finetune.folds.table import read_folds
from finetune.logits.table import aligned, log_softmax, probabilities, read_logits
from judge.battles import read_battles
from judge.classifier.network import build
from judge.classifier.storing import save_network
from judge.cli.main import cli
from judge.judges import load_judge
from judge.judges.classifier_settings import ClassifierSettings
from tests.finetune.small import battles_file
from tests.finetune.tiny import tiny_model

COUNT, K = 26, 3
# Rounded to 16 bits, what is worked through together would have its say in the third digit.
EXACT = ClassifierSettings(dtype="float32", device=("cpu",))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["finetune", *map(str, arguments)])


def done(*arguments: object) -> Result:
    found = run(*arguments)
    assert found.exit_code == 0, found.output
    return found


def _judge(base: Path, folder: Path, seed: int, **more: object) -> None:
    network, tokenizer = build(str(base), max_length=160, seed=seed)
    with torch.no_grad():
        for weight in network.head.parameters():
            weight.mul_(10)  # so that what is said hangs on the battle
    folder.mkdir(parents=True)
    settings = save_network(network, tokenizer, folder) | more
    (folder / "judge.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Battles, folds of them, and a tiny causal judge for each."""
    folder = tmp_path_factory.mktemp("logits")
    battles_file(folder / "b.csv", COUNT, seed=4)
    done("folds", folder / "b.csv", "-k", K, "-o", folder / "folds")
    print_ = read_folds(folder / "folds").fingerprint
    base = tiny_model("llama", folder / "base")
    for fold in range(K):
        _judge(base, folder / "teachers" / f"fold-{fold}", fold, fold=fold, folds=print_)
    return folder


def test_folds_are_told(place: Path, tmp_path: Path) -> None:
    found = done("folds", place / "b.csv", "-k", 2, "-o", tmp_path / "f")
    assert found.stdout.split()[:7] == ["fold", "held", "out", "a", "b", "tie", "learned"]
    assert "26 battles in 2 folds by prompt" in found.stderr
    said = json.loads(done("folds", place / "b.csv", "-o", tmp_path / "f", "--json").stdout)
    assert said["k"] == 5
    assert sum(one["held_out"] for one in said["folds"]) == COUNT
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("x")
    refused = run("folds", place / "b.csv", "-o", tmp_path / "mine")
    assert refused.exit_code == 2
    assert "is no folder of folds" in refused.stderr


def test_each_battle_by_the_judge_that_has_not_seen_it(place: Path, tmp_path: Path) -> None:
    teachers, folds = place / "teachers", place / "folds"
    told = ("logits", place / "b.csv", "--judge", teachers, "--folds", folds)
    told = (*told, "--dtype", "float32")
    found = done(*told, "-o", tmp_path / "t.parquet", "--npy", tmp_path / "t.npy")
    assert "t.parquet: written; teachers on 26 battles" in found.stderr
    table, battles = read_logits(tmp_path / "t.parquet"), read_battles(place / "b.csv")
    fold = read_folds(folds).of(battles)
    assert table.folds.tolist() == fold.tolist()
    said = aligned(table, battles, place / "b.csv")
    np.testing.assert_array_equal(np.load(tmp_path / "t.npy"), said)
    for one in range(K):
        judge = load_judge(str(teachers / f"fold-{one}"), running=EXACT)
        own = battles[fold == one]
        expected = log_softmax(judge.logits(own).mean(axis=1))  # type: ignore[attr-defined]
        np.testing.assert_allclose(log_softmax(said[fold == one]), expected, atol=1e-5)
        judge.close()
    # In fold, all other judges speak; their mean is another.
    done(*told, "-o", tmp_path / "in.parquet", "--in-fold")
    inside = read_logits(tmp_path / "in.parquet")
    assert inside.about["in_fold"] is True
    assert set(inside.folds.tolist()) == {-1}
    first = [load_judge(str(teachers / f"fold-{other}"), running=EXACT) for other in (1, 2)]
    own = battles[fold == 0]
    each = [log_softmax(one.logits(own).mean(axis=1)) for one in first]  # type: ignore[attr-defined]
    expected = probabilities(np.mean(each, axis=0))
    found_proba = probabilities(aligned(inside, battles)[fold == 0])
    np.testing.assert_allclose(found_proba, expected, atol=1e-5)
    for one in first:
        one.close()


def test_what_is_refused(place: Path, tmp_path: Path) -> None:
    told = ("logits", place / "b.csv", "--judge", place / "teachers", "-o", tmp_path / "t.parquet")
    refused = run(*told)
    assert refused.exit_code == 2
    assert "which battles its judges have learned from is not known; name the folds" in (
        refused.stderr
    )
    done("folds", place / "b.csv", "-k", K, "--seed", 9, "-o", tmp_path / "other")
    refused = run(*told, "--folds", tmp_path / "other")
    assert refused.exit_code == 2
    assert "trained on other folds than these" in refused.stderr
    assert not (tmp_path / "t.parquet").exists()
    assert not (tmp_path / "t.parquet.parts").exists()
    refused = run(
        "logits", place / "b.csv", "--judge", "statistical", "--keep-orders", "-o",
        tmp_path / "t.parquet",
    )  # fmt: skip
    assert refused.exit_code == 2
    assert "leave out --keep-orders" in refused.stderr


@pytest.mark.parametrize("how", ["--range", "--stride"])
def test_shards_together_are_the_whole(place: Path, tmp_path: Path, how: str) -> None:
    told = ("logits", place / "b.csv", "--judge", place / "teachers", "--folds", place / "folds")
    told = (*told, "--keep-orders", "--part-battles", 4, how)
    done(*told, "-o", tmp_path / "whole.parquet")
    for number in (2, 0, 1):
        name = tmp_path / f"s-{number}.parquet"
        done(*told, "--shards", 3, "--shard-id", number, "-o", name)
    merged = ("logits", "--merge", tmp_path / "s-*.parquet", "-o", tmp_path / "merged.parquet")
    done(*merged)
    whole = (tmp_path / "whole.parquet").read_bytes()
    assert (tmp_path / "merged.parquet").read_bytes() == whole
    assert set(read_logits(tmp_path / "whole.parquet").orders) == {"AB", "BA"}
    (tmp_path / "s-1.parquet").unlink()
    refused = run(*merged)
    assert refused.exit_code == 2
    assert "shard 1 of 3 is missing" in refused.stderr
    refused = run("logits", "--merge", tmp_path / "whole.parquet", "-o", tmp_path / "m.parquet")
    assert "whole.parquet: is no shard" in refused.stderr


_KILLED = """
import os, signal, sys
from finetune.logits.inferring import Parts
from judge.cli.main import cli
whole, left = Parts.put, [3]
def put(self, *what):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    whole(self, *what)
Parts.put = put
cli(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_killed_run_goes_on(place: Path, tmp_path: Path) -> None:
    told = ["finetune", "logits", str(place / "b.csv"), "--judge", "statistical"]
    told += ["--part-battles", "5"]
    output = ["-o", str(tmp_path / "t.parquet")]
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, *told, *output], capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "t.parquet").exists()
    assert len(list((tmp_path / "t.parquet.parts").glob("judge-*.npy"))) == 2
    other = CliRunner().invoke(cli, [*told, *output, "--seed", "5"])
    assert "unfinished run with other battles, judges or settings" in other.stderr
    again = CliRunner().invoke(cli, [*told, *output])
    assert again.exit_code == 0, again.output
    assert not (tmp_path / "t.parquet.parts").exists()
    CliRunner().invoke(cli, [*told, "-o", str(tmp_path / "once.parquet")])
    assert (tmp_path / "t.parquet").read_bytes() == (tmp_path / "once.parquet").read_bytes()


def test_what_is_done_is_not_done_again(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import finetune.logits.inferring

    whole, asked = finetune.logits.inferring.say, []

    def say(judge: object, battles: pd.DataFrame, orders: object) -> object:
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(battles["id"].tolist())
        return whole(judge, battles, orders)  # type: ignore[arg-type]

    told = ("logits", place / "b.csv", "--judge", place / "teachers", "--folds", place / "folds")
    told = (*told, "--part-battles", 6, "-o", tmp_path / "t.parquet")
    monkeypatch.setattr(finetune.logits.inferring, "say", say)
    assert run(*told).exit_code == 130
    first = list(asked)
    asked.clear()
    asked.append([])  # one less than the first time
    while run(*told).exit_code:
        first += asked[1:]
        asked[1:] = []
    first += asked[1:]
    names = [name for part in first for name in part]
    assert sorted(names) == sorted(read_battles(place / "b.csv")["id"])
    monkeypatch.undo()
    done(*told[:-1], tmp_path / "once.parquet")
    assert (tmp_path / "t.parquet").read_bytes() == (tmp_path / "once.parquet").read_bytes()


@pytest.mark.parametrize("pad", [1, 64])
def test_fused_pairs_are_separate_ones(place: Path, pad: int) -> None:
    """Both orders in one batch, what they begin with worked through once, in rows that are filled
    up: the same logits as each order by itself."""
    battles = read_battles(place / "b.csv").iloc[:9]
    spec = str(place / "teachers" / "fold-0")

    def said(orders: tuple[str, ...], share: bool) -> np.ndarray:
        judge = load_judge(spec, running=replace(EXACT, orders=orders, share_prompt=share))
        judge.pad_to(pad if share else 1)  # type: ignore[attr-defined]
        found = judge.logits(battles)  # type: ignore[attr-defined]
        judge.close()
        return np.asarray(found)

    fused = said(("AB", "BA"), True)
    apart = np.concatenate([said(("AB",), False), said(("BA",), False)], axis=1)
    assert fused.shape == (9, 2, 3)
    assert np.abs(fused[:, 0] - fused[:, 1]).max() > 1e-3  # the orders do differ
    np.testing.assert_allclose(fused, apart, atol=1e-5)


def test_a_battle_that_stands_twice(tmp_path: Path) -> None:
    file = battles_file(tmp_path / "b.csv", 4)
    table = pd.read_csv(file)
    pd.concat([table, table.iloc[[1]]]).to_csv(file, index=False)
    told = ("logits", file, "--judge", "statistical", "-o", tmp_path / "t.parquet")
    refused = run(*told)
    assert refused.exit_code == 2
    assert "row 6, column id: '0-1' stands in row 3 too" in refused.stderr
    assert not list(tmp_path.glob("t.parquet*"))


def test_arrays_in_and_out(place: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(COUNT, 3))
    np.save(tmp_path / "qwen.npy", values)
    told = ("logits", place / "b.csv", "-o", tmp_path / "q.parquet")
    done(*told, "--from-npy", tmp_path / "qwen.npy", "--npy", tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), values)
    assert read_logits(tmp_path / "q.parquet").teacher == "qwen"
    np.save(tmp_path / "qwen.npy", values[1:])
    refused = run(*told, "--from-npy", tmp_path / "qwen.npy")
    assert refused.exit_code == 2
    assert "has the shape (25, 3), and 26 battles need (26, 3)" in refused.stderr


def test_battles_that_the_folds_do_not_know(place: Path, tmp_path: Path) -> None:
    new = battles_file(tmp_path / "new.csv", 6, seed=99)
    told = ("logits", new, "--judge", place / "teachers", "--folds", place / "folds")
    done(*told, "-o", tmp_path / "t.parquet")
    assert set(read_logits(tmp_path / "t.parquet").folds.tolist()) == {-1}
