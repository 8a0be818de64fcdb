"""Adapters that vLLM would take without a word, or not at all, are known by their files."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from judge.engines.adapters import CONFIG, WEIGHTS, find_adapter
from judge.errors import ArenaJudgeError

PLACE = "base_model.model.model.layers.{}.{}.lora_{}.weight"
SAID = {"peft_type": "LORA", "r": 4}


def written(folder: Path, said: object, shapes: dict[str, list[int]]) -> Path:
    """An adapter of so large matrices, all nought."""
    folder.mkdir(parents=True, exist_ok=True)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        size = 4 * shape[0] * shape[1]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    (folder / CONFIG).write_text(json.dumps(said))
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))
    return folder


def pair(layer: int, module: str, read: int, wrote: int) -> dict[str, list[int]]:
    return {
        PLACE.format(layer, module, "A"): [4, read],
        PLACE.format(layer, module, "B"): [wrote, 4],
    }


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model 32 wide, with two layers, and with fewer keys than queries."""
    folder = tmp_path / "model"
    folder.mkdir()
    settings = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 80}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def test_a_fitting_adapter_is_its_absolute_folder(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = pair(0, "self_attn.q_proj", 32, 64) | pair(1, "self_attn.o_proj", 64, 32)
    shapes |= pair(1, "self_attn.k_proj", 32, 16) | pair(0, "mlp.down_proj", 80, 32)
    shapes |= {"base_model.model.vision_tower.layers.30.q_proj.lora_A.weight": [4, 7]}
    folder = written(tmp_path / "adapter", SAID, shapes)
    assert find_adapter(folder, model) == str(folder)
    monkeypatch.chdir(tmp_path)
    assert find_adapter("adapter", "owner/name") == str(folder)
    assert find_adapter(Path("adapter")) == str(folder)
    text = {"text_config": {"hidden_size": 32, "num_hidden_layers": 2}, "hidden_size": 9}
    (model / "config.json").write_text(json.dumps(text))
    assert find_adapter(folder, model) == str(folder)


@pytest.mark.parametrize(
    ("shapes", "why"),
    [
        (pair(0, "self_attn.q_proj", 16, 32), "q_proj is for 16 numbers, and the model is 32 wide"),
        (pair(0, "mlp.down_proj", 80, 64), "down_proj is for 64 numbers"),
        (pair(2, "self_attn.q_proj", 32, 32), "it has a layer 2, and the model 2 from 0 on"),
        (
            {"base_model.model.layers.0.self_attn.q_proj.lora_A.weight": [4, 32]},
            "is of one that does not write",
        ),
        ({"base_model.model.encoder.layer.0.a.lora_A.weight": [4, 32]}, "does not write"),
    ],
)
def test_an_adapter_of_another_model_is_not_put_to_this_one(
    shapes: dict[str, list[int]], why: str, model: Path, tmp_path: Path
) -> None:
    folder = written(tmp_path / "adapter", SAID, shapes)
    with pytest.raises(ArenaJudgeError, match="an adapter of another model than") as caught:
        find_adapter(folder, model)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (SAID | {"use_dora": True}, "vLLM runs no DoRA; merge it into the model"),
        (SAID | {"r": 513}, "rank 512 at most, not 513"),
        (SAID | {"peft_type": "IA3"}, "of the kind IA3, not LoRA"),
        ([], "adapter_config.json cannot be read"),
    ],
)
def test_a_kind_of_adapter_that_vllm_does_not_run(said: object, why: str, tmp_path: Path) -> None:
    folder = written(tmp_path / "adapter", said, pair(0, "self_attn.q_proj", 32, 32))
    with pytest.raises(ArenaJudgeError) as caught:
        find_adapter(folder)
    assert why in str(caught.value)


def test_weights_that_are_not_whole(tmp_path: Path) -> None:
    folder = written(tmp_path / "adapter", SAID, pair(0, "self_attn.q_proj", 32, 32))
    whole = (folder / WEIGHTS).read_bytes()
    huge = struct.pack("<Q", 1 << 62) + whole[8:]
    for content in (whole[:-1], whole[:40], b"", b"\x80\x04pickle", huge, whole[:8] + b"[]"):
        (folder / WEIGHTS).write_bytes(content)
        with pytest.raises(ArenaJudgeError, match="no weights that can be read"):
            find_adapter(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(ArenaJudgeError, match="no weights that can be read"):
        find_adapter(folder)
    (folder / CONFIG).unlink()
    with pytest.raises(ArenaJudgeError, match="no LoRA adapter"):
        find_adapter(folder)
