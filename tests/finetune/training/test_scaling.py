"""float16: gradients are scaled, and a step in which they overflow is left out and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from finetune.runs.preparing import objective_of, read
from finetune.runs.running import run
from finetune.runs.starting import start
from finetune.training.curves import read_curve
from finetune.training.loop import Trainer
from finetune.training.optimising import Precision
from tests.finetune.small import battles_file, small
from tests.finetune.tiny import tiny_model
from tests.finetune.training.test_resume import EndAfter, Ended, curve_of, weights_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("scaling")
    return battles_file(folder / "battles.csv"), tiny_model("llama", folder / "base")


def trainer_of(parts: tuple[Path, Path], **told: Any) -> Trainer:
    config = small(*parts, run__dtype="float16", **told)
    return Trainer(objective_of(config, start(config, CPU), read(config)), config)


def weights(trainer: Trainer) -> dict[str, Any]:
    return {name: one.clone() for name, one in trainer.weights().items()}


@pytest.mark.parametrize("lora", [True, False])
def test_a_step_that_overflows_is_left_out(parts: tuple[Path, Path], lora: bool) -> None:
    trainer = trainer_of(parts, lora__lora=lora, optimisation__ema=0.5)
    rows = np.arange(5)
    scale = trainer.precision.scaler.get_scale()
    before = weights(trainer)
    first: Any = trainer.parameters[0]
    first.register_hook(
        lambda gradient: (
            torch.full_like(gradient, float("inf")) if trainer.state.step == 0 else gradient
        )
    )
    loss, norm, _ = trainer.step(0, rows)
    assert np.isfinite(loss)
    assert not np.isfinite(norm)
    assert trainer.state.step == 1
    after = weights(trainer)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert trainer.precision.scaler.get_scale() == scale / 2
    # Fused optimizers are asked all the same; the step counts for nothing.
    remembered = [value for one in trainer.optimizer.state.values() for value in one.values()]
    assert all(float(value.abs().max()) == 0 for value in remembered)
    again, norm, _ = trainer.step(0, rows)
    assert again == pytest.approx(loss, rel=1e-3)
    assert np.isfinite(norm)
    assert trainer.precision.scaler.get_scale() == scale / 2
    assert any(not torch.equal(before[name], one) for name, one in weights(trainer).items())
    assert all(torch.isfinite(one).all() for one in trainer.judged().values())


def test_scaled_gradients_are_those_of_32_bits(parts: tuple[Path, Path]) -> None:
    """They are divided again before they are bounded: the norm in the curve is the true one."""
    half = trainer_of(parts)
    config = small(*parts, run__dtype="float32")
    full = Trainer(objective_of(config, start(config, CPU), read(config)), config)
    assert half.precision.scaler.is_enabled()
    assert not full.precision.scaler.is_enabled()
    rows = np.arange(8)
    assert half.step(0, rows)[1] == pytest.approx(full.step(0, rows)[1], rel=0.02)


def test_bfloat16_needs_no_scale() -> None:
    assert not Precision(torch.bfloat16, CPU).scaler.is_enabled()
    assert Precision(torch.bfloat16, CPU).state() == {}


def test_a_run_goes_on_with_the_scale_it_had(parts: tuple[Path, Path], tmp_path: Path) -> None:
    config = small(
        *parts, run__dtype="float16", run__eval_every=1, optimisation__epochs=2.0,
        optimisation__smoothing=0.1,
    )  # fmt: skip
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(config, whole)
    for step in (1, 3, 4):
        with pytest.raises(Ended):
            run(config, broken, watch=EndAfter(step))
    run(config, broken)
    assert curve_of(whole) == curve_of(broken)
    one, other = weights_of(whole), weights_of(broken)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    assert np.isfinite([point.loss for point in read_curve(whole / "curve.csv")]).all()
