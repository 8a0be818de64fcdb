"""The benchmark of prefill runs on a processor, all of it that can, and says so where there is no
GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from scripts.bench.gpu import (
    Graph,
    flops,
    network_of,
    one_by_one,
    packed_graph,
    padded_graph,
    sequences,
    shapes,
)

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.bench.gpu", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def test_the_shapes_are_those_of_the_8b_model() -> None:
    config = shapes(32, 4096, 128256)
    assert (config.num_attention_heads, config.num_key_value_heads) == (32, 8)
    assert (config.head_dim, config.intermediate_size) == (128, 14336)
    ids = sequences(64, 1024, 128256, 0)
    tokens = sum(map(len, ids))
    assert max(map(len, ids)) <= 1024
    assert [one.tolist() for one in ids] == [one.tolist() for one in sequences(64, 1024, 128256, 0)]
    # Twice the weights of the layers, and what attention takes.
    assert 2 * 6.97e9 < flops(config, ids) / tokens < 2.2 * 6.98e9


@pytest.mark.parametrize("pieces", [1, 3, 50])
def test_rows_of_one_shape_give_what_sequences_give_alone(pieces: int) -> None:
    network = network_of(shapes(2, 64, 300), CPU, torch.float32, packed=True)
    ids = sequences(13, 40, 300, 1)
    with torch.inference_mode():
        wanted = one_by_one(network, ids)
        packed = packed_graph(network, ids, 100, pieces)
        padded = padded_graph(network, ids, 100)
        for found in (packed(), padded(), packed()):
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_what_a_row_held_before_does_not_stay() -> None:
    network = network_of(shapes(1, 64, 300), CPU, torch.float32, packed=True)
    ids = sequences(8, 30, 300, 2)
    graph = Graph(network, 150, 5, 30)
    with torch.inference_mode():
        graph(ids[:5])
        torch.testing.assert_close(graph(ids[5:6]), one_by_one(network, ids[5:6]))


@pytest.mark.slow
def test_all_ways_are_run_and_agree() -> None:
    small = ("--layers", "1", "--hidden", "64", "--vocabulary", "300", "--dtype", "float32")
    done = bench("--device", "cpu", *small, "--rows", "12", "--length", "64", "--tokens", "256",
                 "--runs", "1", "--vllm")  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    names = [row[0].strip("| ") for row in rows[2:]]
    assert names[:4] == ["packed", "padded", "packed, CUDA graphs", "padded, CUDA graphs"]
    for row in rows[2:6]:
        assert float(row[1].replace(",", "")) > 0
        assert float(row[4].strip("| ")) < 1e-4
    assert "a processor has none" in done.stdout
    assert names[4:] or "vLLM" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    done = bench()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("there is no GPU here: nothing was measured")
    assert done.stdout.count("\n") == 1
