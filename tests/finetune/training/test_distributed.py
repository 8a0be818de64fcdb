"""Several processes learn what one would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.training.ordering import Steps, batches_of, epoch_steps, share_of

LENGTHS = st.lists(st.integers(1, 90), min_size=1, max_size=40)


@given(LENGTHS, st.integers(1, 5), st.integers(1, 200), st.booleans())
def test_processes_take_every_row_once_and_as_many_batches(
    lengths: list[int], processes: int, budget: int, padded: bool
) -> None:
    sizes = np.array(lengths, dtype=np.int64)
    steps = Steps(150, 0, budget, padded)
    for rows in epoch_steps(sizes, steps, seed=1, epoch=0):
        batches = batches_of(rows, sizes, steps)
        shares = [share_of(batches, sizes, place, processes) for place in range(processes)]
        assert len({len(share) for share in shares}) == 1
        taken = np.concatenate([batch for share in shares for batch in share])
        assert sorted(taken.tolist()) == sorted(rows.tolist())


@given(LENGTHS, st.integers(0, 12), st.integers(1, 300))
def test_an_epoch_has_every_row_once_and_steps_of_the_size_asked_for(
    lengths: list[int], rows: int, tokens: int
) -> None:
    sizes = np.array(lengths, dtype=np.int64)
    parts = epoch_steps(sizes, Steps(tokens, rows, 64), seed=3, epoch=2)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(lengths)))
    for part in parts:
        assert len(part) <= rows if rows else len(part) == 1 or sizes[part].sum() <= tokens


def trained(
    command: list[str], battles: Path, base: Path, target: Path, *more: str
) -> dict[str, Any]:
    told = ["--base", str(base), "--max-length", "64", "--epochs", "2", "--lr", "0.01"]
    told += ["--step-battles", "6", "--batch-tokens", "128", "--device", "cpu"]
    # What has no gradient but rounding, such as a key's bias, is not blown up by a larger epsilon.
    told += ["--epsilon", "1e-4", "--no-tensorboard", "--json", "-o", str(target), *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "-m", "judge", "finetune", "train", str(battles), *told],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    weights: dict[str, npt.NDArray[Any]] = {}
    from safetensors.numpy import load_file

    for file in sorted(target.glob("*.safetensors")):
        weights |= load_file(file)
    return weights


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_two_processes_come_to_the_weights_of_one(
    family: str, shared: bool, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    from tests.finetune.small import battles_file
    from tests.finetune.tiny import tiny_model

    dropout = {"hidden_dropout_prob": 0.0} if family == "bert" else {}
    base = tiny_model(family, tmp_path / "base", **dropout)
    battles = battles_file(tmp_path / "battles.csv")
    one = trained([sys.executable], battles, base, tmp_path / "one")
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two = trained(
        [sys.executable, *several], battles, base, tmp_path / "two", *(["--fsdp"] * shared)
    )
    assert set(one) == set(two)
    for name in one:
        np.testing.assert_allclose(one[name], two[name], atol=1e-5, err_msg=name)
