"""`finetune logits --on ray` on a real cluster of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

pytest.importorskip("torch")
if find_spec("ray") is None:  # it is to be told how to behave before it is imported
    pytest.skip("Ray is not installed", allow_module_level=True)

import torch

from finetune.folds.table import read_folds
from judge.classifier.network import build
from judge.classifier.storing import save_network
from judge.cli.main import cli
from judge.distributed.cluster import Cluster, joined
from tests.finetune.small import battles_file
from tests.finetune.tiny import tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

COUNT, K = 26, 2


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["finetune", *map(str, arguments)])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Battles, folds of them, a tiny causal judge for each, and a cluster."""
    folder = tmp_path_factory.mktemp("logits")
    battles_file(folder / "b.csv", COUNT, seed=4)
    assert run("folds", folder / "b.csv", "-k", K, "-o", folder / "folds").exit_code == 0
    base = tiny_model("llama", folder / "base")
    for fold in range(K):
        network, tokenizer = build(str(base), max_length=160, seed=fold)
        with torch.no_grad():
            for weight in network.head.parameters():
                weight.mul_(10)  # so that what is said hangs on the battle
        made = folder / "teachers" / f"fold-{fold}"
        made.mkdir(parents=True)
        more = {"fold": fold, "folds": read_folds(folder / "folds").fingerprint}
        settings = save_network(network, tokenizer, made) | more
        (made / "judge.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        with joined(Cluster(actors=2)):
            yield folder


@pytest.mark.parametrize("orders", [(), ("--keep-orders",)])
def test_a_cluster_keeps_what_one_machine_keeps(
    place: Path, tmp_path: Path, orders: tuple[str, ...]
) -> None:
    """To the last byte, and nothing else is left."""
    told = (
        *("logits", place / "b.csv", "--judge", place / "teachers", "--folds", place / "folds"),
        *("--part-battles", 5, "--dtype", "float32", "--name", "t", *orders),
    )
    here = run(*told, "-o", tmp_path / "here.parquet")
    there = run(*told, "-o", tmp_path / "there.parquet", "--on", "ray", "--actors", 2)
    assert here.exit_code == there.exit_code == 0, (here.output, there.output)
    assert (tmp_path / "here.parquet").read_bytes() == (tmp_path / "there.parquet").read_bytes()
    assert [one.name for one in tmp_path.iterdir() if one.suffix != ".parquet"] == []


def test_a_judge_that_asks_a_model_is_left_here(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    output = tmp_path / "t.parquet"
    told = ("logits", place / "b.csv", "--judge", "endpoint:some", "--on", "ray", "-o", output)
    found = run(*told)
    assert found.exit_code == 2
    assert "asks a model" in found.output
    assert not output.exists()


def test_merging_is_done_here(place: Path, tmp_path: Path) -> None:
    found = run("logits", "--merge", "x*", "-o", tmp_path / "t.parquet", "--on", "ray")
    assert found.exit_code == 2
    assert "--on ray is for --judge" in found.output
