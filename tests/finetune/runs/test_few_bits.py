"""Bases in 8 and 4 bits, on a processor, with the real bitsandbytes where it is installed."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("bitsandbytes")

import torch

from finetune.runs.running import run
from finetune.runs.starting import start
from finetune.settings.config import with_values
from finetune.training.curves import read_curve
from judge.battles import read_battles
from judge.classifier.network import Network, build
from judge.judges import load_judge
from judge.judges.classifier_settings import ClassifierSettings
from tests.finetune.small import battles_file, small
from tests.finetune.tiny import tiny_model
from tests.finetune.training.test_resume import EndAfter, Ended

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
KINDS = {"8bit": "Linear8bitLt", "4bit": "Linear4bit"}
# Outputs of keys and values are no multiple of 32, which bitsandbytes has a layout for.
WIDE: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128}


@pytest.fixture(scope="module")
def battles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return battles_file(tmp_path_factory.mktemp("battles") / "battles.csv")


@pytest.fixture(scope="module", params=["llama", "bert"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family = request.param
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    more: dict[str, Any] = still if family == "bert" else {}
    return tiny_model(family, tmp_path_factory.mktemp(family), **{**WIDE, **more})


@pytest.fixture(params=["8bit", "4bit"])
def bits(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def kinds(network: Network) -> set[str]:
    return {type(one).__name__ for one in network.backbone.modules()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_base_in_few_bits_says_about_the_same(
    base: Path, bits: str, dtype: torch.dtype, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [np.arange(5, 40), np.arange(9, 30)]
    said = []
    for quantize in (None, bits):
        network, _ = build(str(base), quantize=quantize, dtype=dtype, seed=0)
        assert (KINDS[bits] in kinds(network)) == (quantize is not None)
        with torch.inference_mode():
            said.append(network.eval()(rows))
    assert 0 < float((said[0] - said[1]).abs().max()) < (0.05 if bits == "8bit" else 0.2)
    assert "MatMul8bitLt" not in capfd.readouterr().err


def curve(config: Any, target: Path) -> list[float]:
    run(config, target)
    return [point.loss for point in read_curve(target / "curve.csv")]


def test_looks_at_dev_battles_change_nothing_of_what_is_learned(
    base: Path, bits: str, battles: Path, tmp_path: Path
) -> None:
    """A look lays 4-bit weights out anew, unless that is seen to, and gradients stop there."""
    told = {"model__quantize": bits, "lora__lora": True, "optimisation__epochs": 2.0}
    often = curve(small(battles, base, run__eval_every=1, **told), tmp_path / "often")
    seldom = curve(small(battles, base, run__eval_every=100, **told), tmp_path / "seldom")
    assert often == seldom
    told["model__quantize"] = "none"
    whole = curve(small(battles, base, run__eval_every=100, **told), tmp_path / "whole")
    np.testing.assert_allclose(often, whole, atol=0.25)
    assert often != whole


@pytest.mark.parametrize("more", [{"run__checkpointing": True}, {"run__dtype": "bfloat16"}])
def test_it_learns_and_the_judge_is_read_back_in_any_bits(
    base: Path, bits: str, battles: Path, tmp_path: Path, more: dict[str, Any]
) -> None:
    config = small(battles, base, model__quantize=bits, **more)
    made = run(config, tmp_path / "judge")
    assert made.learning < made.parameters
    table = read_battles(battles)
    said = []
    for quantize in (bits, None, "8bit", "4bit"):
        running = ClassifierSettings(quantize=quantize, dtype="float32", device=("cpu",))
        with closing(load_judge(str(tmp_path / "judge"), running=running)) as judge:
            said.append(judge.predict_proba(table))
            assert np.isfinite(said[-1]).all()
    for other in said[1:]:
        np.testing.assert_allclose(said[0], other, atol=0.2)
    # It goes on from there, its base in few bits again.
    again = with_values(config, {"model.base": None, "model.init": str(tmp_path / "judge")})
    assert run(again, tmp_path / "again").outcome.steps == made.outcome.steps


def test_gradients_reach_the_lowest_layer(base: Path, bits: str, battles: Path) -> None:
    network = start(small(battles, base, model__quantize=bits, lora__lora=True), CPU).network
    network.eval()
    with torch.no_grad():
        network([np.arange(5, 40)])
    network.train()
    network([np.arange(5, 40)]).sum().backward()
    found = [
        float(one.grad.abs().max())
        for name, one in network.named_parameters()
        if "lora_B" in name and ".0." in name and one.grad is not None
    ]
    assert found
    assert min(found) > 0


def test_dora_over_four_bits(battles: Path, base: Path, tmp_path: Path) -> None:
    config = small(battles, base, model__quantize="4bit", lora__dora=True, lora__lora=True)
    assert np.isfinite(curve(config, tmp_path / "judge")).all()


def test_a_run_that_is_ended_comes_to_the_same(
    base: Path, bits: str, battles: Path, tmp_path: Path
) -> None:
    config = small(battles, base, model__quantize=bits, lora__lora=True, run__eval_every=1)
    whole = curve(config, tmp_path / "whole")
    with pytest.raises(Ended):
        run(config, tmp_path / "broken", watch=EndAfter(2))
    assert curve(config, tmp_path / "broken") == whole
