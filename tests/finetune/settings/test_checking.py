"""What does not go together is refused at once, whatever the base: nothing is read or loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("torch")

import torch

from finetune.runs.making import device_of
from finetune.settings import checking
from finetune.settings.checking import refuse
from finetune.settings.config import Config, with_values
from finetune.training.processes import Processes, joined, started
from judge.cli.main import cli
from judge.errors import ArenaJudgeError, InputError
from tests.finetune.tiny import tiny_model


def config(**told: Any) -> Config:
    values = {"data.battles": "battles.csv", "model.base": "a/model", "run.device": "cpu"}
    return with_values(Config(), values | {k.replace("__", "."): v for k, v in told.items()})


VOTES = {"optimisation__objective": "votes"}


@pytest.mark.parametrize(
    ("told", "count", "said"),
    [
        ({"run__fsdp": True}, 1, "--fsdp shares weights among processes.*torchrun"),
        ({"run__fsdp": True, "model__quantize": "4bit"}, 2, "--fsdp does not go with --quantize"),
        ({"run__fsdp": True, **VOTES}, 2, "--fsdp is for judges that say who won"),
        (
            {"run__fsdp": True, "run__dtype": "float16", "lora__lora": False},
            2,
            "all weights cannot learn in float16 with --fsdp",
        ),
        ({"model__quantize": "8bit", "lora__lora": False}, 1, "few bits cannot be trained"),
        ({"model__quantize": "8bit", "lora__dora": True}, 1, "--dora does not go with.*8 bits"),
        ({"lora__lora": False, "lora__dora": True}, 1, "--no-lora trains all.*--dora"),
        ({"lora__lora": False, "lora__targets": ("q_proj",)}, 1, "--no-lora.*--lora-target"),
        ({"model__form": "single", "model__head": "plain"}, 1, "a plain head would see only one"),
        ({"model__template": "single"}, 1, "is of the form single, and not pair; add --form"),
        ({"model__form": "single", **VOTES}, 1, "--form is for judges that say who won"),
        ({"model__head": "symmetric", **VOTES}, 1, "--head is for judges"),
        ({"data__held_out": ("x.csv",), **VOTES}, 1, "--held-out is for judges"),
        ({"data__extra": ("x.csv",), **VOTES}, 1, "--extra is for judges"),
        ({"optimisation__smoothing": 0.1, **VOTES}, 1, "--smoothing is for judges"),
        ({"run__patience": 2, "data__dev_share": 0.0}, 1, "--patience looks at dev battles"),
        ({"run__device": "cuda:0"}, 2, "2 processes cannot all train on cuda:0"),
        ({"run__device": "tpu"}, 1, "'tpu' is no device"),
    ],
)
def test_what_cannot_be(
    told: dict[str, Any], count: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "find_spec", lambda name: name)
    with pytest.raises(InputError, match=said):
        refuse(config(**told), count=count)


@pytest.mark.parametrize(
    ("told", "count"),
    [
        ({}, 1),
        ({"run__fsdp": True}, 2),
        ({"run__fsdp": True, "run__dtype": "float16", "lora__lora": True}, 2),
        ({"model__quantize": "4bit", "lora__dora": True}, 1),
        ({"run__dtype": "float16"}, 1),
        ({"model__form": "single", "model__template": "single"}, 1),
        (VOTES, 1),
        ({"run__patience": 2}, 1),
    ],
)
def test_what_can_be(told: dict[str, Any], count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "find_spec", lambda name: name)
    refuse(config(**told), count=count)


def test_few_bits_want_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "find_spec", lambda name: None)
    with pytest.raises(ArenaJudgeError, match=r"4bit needs bitsandbytes.*pip install"):
        refuse(config(model__quantize="4bit"))


def test_what_a_model_cannot_do_is_seen_by_its_configuration_alone(tmp_path: Path) -> None:
    base = tiny_model("bert", tmp_path / "bert")
    for weights in base.glob("*.safetensors"):
        weights.unlink()
    with pytest.raises(InputError, match="reads 512 tokens at most, and --max-length is 513"):
        refuse(config(model__base=str(base), model__max_length=513))
    refuse(config(model__base=str(base), model__max_length=512))
    with pytest.raises(InputError, match="bert writes no ballots"):
        refuse(config(model__base=str(base), **VOTES))
    with pytest.raises(InputError, match="has no layer 'q_proj'"):
        refuse(config(model__base=str(base), lora__targets=("q_proj",)))


def test_it_is_said_before_battles_or_a_base_are_looked_for(tmp_path: Path) -> None:
    target = tmp_path / "judge"
    told = [tmp_path / "none.csv", "--base", tmp_path / "nothing", "-o", target]
    for more, said in (
        (["--fsdp"], "start it with torchrun"),
        (["--objective", "votes", "--form", "single"], "--form is for judges that say who won"),
        (["--stats-only", "--fsdp"], "start it with torchrun"),
    ):
        done = CliRunner().invoke(cli, ["finetune", "train", *map(str, [*told, *more])])
        assert done.exit_code == 2
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
    assert not target.exists()


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_few_bits_without_the_package_are_one_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli,
        [
            "finetune",
            "train",
            "b.csv",
            "--base",
            "m",
            "--quantize",
            "4bit",
            "-o",
            str(tmp_path / "x"),
        ],
    )
    assert done.exit_code == 2
    assert "pip install bitsandbytes" in done.stderr


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    second = Processes(rank=1, count=2, local=1)
    for named in (None, "cuda"):
        assert device_of(config(run__device=named), second) == torch.device("cuda", 1)
    assert device_of(config(run__device="cuda"), Processes()) == torch.device("cuda", 0)
    assert device_of(config(run__device="cpu"), second) == torch.device("cpu")
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert started() == 3
    with pytest.raises(InputError, match="more processes than the 2 GPUs here"), joined():
        raise AssertionError("it went on")


@pytest.mark.parametrize(("said", "count"), [("", 1), ("0", 1), ("two", 1), ("2", 2)])
def test_how_many_were_started(said: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", said)
    assert started() == count


def test_a_refusal_is_quick_to_import(tmp_path: Path) -> None:
    """Neither transformers nor peft is loaded for it."""
    code = "import sys; from finetune.settings import checking; checking.refuse.__doc__; "
    code += "print(sorted({'transformers', 'peft', 'pandas'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "[]"
