"""Adapters worked into their bases: the judge stays what it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file

from finetune.settings.config import LoraConfig
from judge.battles import read_battles
from judge.cli.main import cli
from judge.comparing.leaks import read_seen, seen_of, write_seen
from judge.judges import load_judge
from judge.judges.classifier_settings import ClassifierSettings
from tests.finetune.adapted import base_model, drawn_folds, drawn_judge
from tests.finetune.small import battles_file
from tests.finetune.tiny import tiny_model

EXACT = ClassifierSettings(device=("cpu",), dtype="float32")
# What the numbers after the first count for, in a network that is made to show faults.
CLOSE = {"float32": 1e-5, "bfloat16": 0.05, "float16": 5e-3}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    room = tmp_path_factory.mktemp("merge")
    base_model(room / "base")
    battles_file(room / "battles.csv", 8)
    return room


def merge(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["finetune", "merge", *map(str, arguments)])


def proba(folder: Path, room: Path) -> Any:
    battles = read_battles(room / "battles.csv")
    return load_judge(folder, running=EXACT).predict_proba(battles)


@pytest.mark.parametrize(
    ("dtype", "told"),
    [
        ("float32", {}),
        ("float32", {"rslora": True}),
        ("float32", {"dora": True}),
        ("bfloat16", {}),
        ("float16", {}),
    ],
)
def test_a_merged_judge_says_the_same(
    dtype: str, told: dict[str, Any], room: Path, tmp_path: Path
) -> None:
    lora = LoraConfig(r=4, alpha=8, **told)
    about: dict[str, Any] = {"name": "mine", "made_by": {"command": "before"}}
    folder = drawn_judge(room / "base", tmp_path / "in" / "x", 1, lora=lora, **about)
    write_seen(folder, seen_of(room / "battles.csv"))
    target = tmp_path / "out" / "deep" / "y"
    made = merge(folder, "-o", target, "--dtype", dtype, "--json")
    assert made.exit_code == 0, made.output
    found = json.loads(made.stdout)
    assert found["matrices"] == 14
    assert found["bytes"] > found["parameters"] * (4 if dtype == "float32" else 2)
    weights = load_file(target / "model.safetensors")
    assert {one.dtype for one in weights.values()} == {getattr(torch, dtype)}
    assert {one.dtype for one in load_file(target / "head.safetensors").values()} == {torch.float32}
    assert not list(target.glob("adapter*"))
    (tmp_path / "in").rename(tmp_path / "moved")
    before = proba_moved(tmp_path / "moved" / "x", room)
    np.testing.assert_allclose(proba(target, room), before, atol=CLOSE[dtype])
    tree = yaml.safe_load((target / "judge.yaml").read_text())
    assert (tree["weights"], tree["name"]) == ("full", "mine")
    assert tree["made_by"]["command"] == "arena-judge finetune merge"
    assert tree["made_by"]["before"] == {"command": "before"}
    seen = read_seen(target)
    assert seen is not None
    assert len(seen) == 8


def proba_moved(folder: Path, room: Path) -> Any:
    """What a judge says whose base is elsewhere now."""
    tree = yaml.safe_load((folder / "judge.yaml").read_text())
    (folder / "judge.yaml").write_text(yaml.safe_dump(tree | {"base": str(room / "base")}))
    return proba(folder, room)


def test_weights_are_rounded_once(tmp_path: Path) -> None:
    """A base in bfloat16: what is written is the sum in float32, rounded."""
    from transformers import AutoModelForCausalLM

    base = base_model(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    model.save_pretrained(base)
    folder = drawn_judge(base, tmp_path / "x", 1)
    assert merge(folder, "-o", tmp_path / "y").exit_code == 0
    held = load_file(base / "model.safetensors")
    adapter = load_file(folder / "adapter_model.safetensors")
    written = load_file(tmp_path / "y" / "model.safetensors")
    name = "layers.0.self_attn.q_proj"
    a, b = (adapter[f"base_model.model.{name}.lora_{x}.weight"] for x in "AB")
    whole = held[f"model.{name}.weight"].float() + 2.0 * (b @ a)
    assert torch.equal(written[f"{name}.weight"], whole.to(torch.bfloat16))
    assert held[f"model.{name}.weight"].dtype == torch.bfloat16


def test_a_judge_without_an_adapter_changes_its_numbers(room: Path, tmp_path: Path) -> None:
    folder = drawn_judge(room / "base", tmp_path / "x", 1, whole=True)
    made = merge(folder, "-o", tmp_path / "y", "--dtype", "float32")
    assert made.exit_code == 0, made.output
    assert "has no adapter" in made.stderr
    np.testing.assert_array_equal(proba(folder, room), proba(tmp_path / "y", room))


def test_what_cannot_be_merged_is_refused(room: Path, tmp_path: Path) -> None:
    folds = drawn_folds(room / "base", tmp_path / "folds", (1.0,))
    told = merge(folds, "-o", tmp_path / "y")
    assert told.exit_code == 2
    assert "average them first" in told.stderr
    told = merge(folds / "fold-0", "-o", folds / "fold-0")
    assert told.exit_code == 2
    assert "which is read" in told.stderr
    other = tmp_path / "other"
    other.mkdir()
    (other / "judge.yaml").write_text("kind: statistical\n")
    told = merge(other, "-o", tmp_path / "y")
    assert "which has no weights of its own" in told.stderr
    huge = drawn_judge(room / "base", tmp_path / "huge", 1)
    file = huge / "adapter_model.safetensors"
    from safetensors.torch import save_file

    tensors = {name: one * 1e6 for name, one in load_file(file).items()}
    save_file(tensors, file)
    told = merge(huge, "-o", tmp_path / "y", "--dtype", "float16")
    assert told.exit_code == 2
    assert "take --dtype bfloat16" in told.stderr
    assert not (tmp_path / "y").exists()


def test_judges_that_write_ballots_are_merged_and_averaged(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from finetune.runs.lora import adapted

    base = tiny_model("llama", tmp_path / "base")
    folders = []
    for seed in range(2):
        folder = tmp_path / f"w{seed}"
        whole_model: Any = AutoModelForCausalLM.from_pretrained(base)
        model: Any = adapted(whole_model, LoraConfig(r=2, alpha=4), seed=0)
        torch.manual_seed(seed)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_" in name:
                    weight.add_(torch.randn_like(weight) * 0.05)
        model.save_pretrained(str(folder / "adapter"))
        recipe = {
            "kind": "prompted",
            "judge": "vllm:../base",
            "asking": {"prompt": "discriminator", "adapter": "adapter"},
        }
        (folder / "judge.yaml").write_text(yaml.safe_dump(recipe))
        folders.append(folder)
    made = merge(folders[0], "-o", tmp_path / "whole", "--dtype", "float32")
    assert made.exit_code == 0, made.output
    tree = yaml.safe_load((tmp_path / "whole" / "judge.yaml").read_text())
    assert tree["judge"] == "vllm:model"
    assert tree["asking"] == {"prompt": "discriminator"}
    ids = torch.arange(3, 20)[None]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "whole" / "model")
    with torch.no_grad():
        whole = model(ids).logits
    assert (tmp_path / "whole" / "model" / "tokenizer.json").is_file()
    average = CliRunner().invoke(
        cli, ["finetune", "average", *map(str, folders), "-o", str(tmp_path / "deep" / "one")]
    )
    assert average.exit_code == 0, average.output
    tree = yaml.safe_load((tmp_path / "deep" / "one" / "judge.yaml").read_text())
    assert tree["judge"] == "vllm:../../base"
    assert tree["asking"] == {"prompt": "discriminator", "adapter": "adapter"}
    adapter = tmp_path / "deep" / "one" / "adapter"
    named = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert (adapter / named).resolve() == base.resolve()
    again = merge(tmp_path / "deep" / "one", "-o", tmp_path / "whole2", "--dtype", "float32")
    assert again.exit_code == 0, again.output
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "whole2" / "model")
    with torch.no_grad():
        assert float((model(ids).logits - whole).abs().max()) > 1e-3
    halves = [tmp_path / "h0", tmp_path / "h1"]
    for folder, half in zip(folders, halves, strict=True):
        assert merge(folder, "-o", half, "--dtype", "float32").exit_code == 0
    both = CliRunner().invoke(
        cli, ["finetune", "average", *map(str, halves), "-o", str(tmp_path / "h")]
    )
    assert both.exit_code == 0, both.output
    assert (tmp_path / "h" / "model" / "model.safetensors").is_file()
