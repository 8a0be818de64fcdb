"""A model's description from wherever there is one, and what is said where there is none."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from judge.classifier.sizing.headers import read_headers
from judge.classifier.sizing.sources import look_up
from judge.errors import InputError

BERT = {
    "model_type": "bert",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
}


def model(folder: Path, config: Mapping[str, Any] = BERT, **files: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    for name, said in files.items():
        (folder / f"{name}.json").write_text(json.dumps(said))
    return folder


def weights(file: Path, shapes: Mapping[str, list[int]], *, cut: int = 0) -> None:
    """A safetensors file of nought in 8 bits."""
    end, said = 0, {}
    for name, shape in shapes.items():
        size = 1
        for side in shape:
            size *= side
        said[name] = {"dtype": "U8", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    header = json.dumps({"__metadata__": {"format": "pt"}, **said}).encode()
    whole = struct.pack("<Q", len(header)) + header + bytes(end)
    file.write_bytes(whole[: len(whole) - cut])


def test_a_folder(tmp_path: Path) -> None:
    folder = model(
        tmp_path / "bert",
        tokenizer={},
        tokenizer_config={"pad_token": {"content": "[PAD]"}, "chat_template": "{{ messages }}"},
    )
    found = look_up(str(folder))
    assert found.origin == "folder"
    assert found.tokenizer.fast is True
    assert found.tokenizer.chat is True
    assert found.tokenizer.tokens == {"pad": "[PAD]"}
    assert found.anatomy.hidden == 32


def test_a_chat_template_may_be_a_file_of_its_own(tmp_path: Path) -> None:
    folder = model(tmp_path / "bert", tokenizer={}, tokenizer_config={})
    assert look_up(str(folder)).tokenizer.chat is False
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert look_up(str(folder)).tokenizer.chat is True


def test_a_slow_tokenizer_is_seen(tmp_path: Path) -> None:
    folder = model(tmp_path / "bert", tokenizer_config={})
    (folder / "spm.model").write_bytes(b"x")
    assert look_up(str(folder)).tokenizer.fast is False


def test_the_hubs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    model(tmp_path / "models--some--bert" / "snapshots" / "abc")
    found = look_up("some/bert")
    assert (found.origin, found.name, found.anatomy.hidden) == ("cache", "some/bert", 32)


def test_the_cache_goes_before_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert look_up("Qwen/Qwen3-8B").origin == "table"
    model(tmp_path / "models--Qwen--Qwen3-8B" / "snapshots" / "abc")
    assert look_up("Qwen/Qwen3-8B").anatomy.hidden == 32


def test_a_judge_with_all_weights_and_one_with_adapters(tmp_path: Path) -> None:
    base = model(tmp_path / "base")
    full = model(tmp_path / "full")
    settings = "kind: classifier\nform: single\nmax_length: 128\n"
    (full / "judge.yaml").write_text(f"{settings}weights: full\nbase: gone/from/here\n")
    lora = tmp_path / "lora"
    lora.mkdir()
    (lora / "judge.yaml").write_text(f"{settings}weights: lora\nbase: ../base\n")
    for folder in (full, lora):
        found = look_up(str(folder))
        assert found.origin == "judge"
        assert found.anatomy == look_up(str(base)).anatomy
        assert found.judge is not None
        assert found.judge["max_length"] == 128


def test_an_adapter_names_its_base(tmp_path: Path) -> None:
    model(tmp_path / "base")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "../base"}')
    assert look_up(str(adapter)).anatomy.hidden == 32


def test_what_is_its_own_base(tmp_path: Path) -> None:
    (tmp_path / "judge.yaml").write_text("kind: classifier\nweights: lora\nbase: .\n")
    with pytest.raises(InputError, match="its own base"):
        look_up(str(tmp_path))
    (tmp_path / "judge.yaml").unlink()
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "."}')
    with pytest.raises(InputError, match="its own base"):
        look_up(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("Qwen/Qwen3-8b-instrukt", "Qwen3-8B"),
        ("meta-llama/Llama-3.1-9B", "Llama-3.1-8B"),
        ("deberta-v3-larg", "deberta-v3-large"),
    ],
)
def test_a_name_that_is_nearly_known(name: str, near: str) -> None:
    with pytest.raises(InputError, match="did you mean") as caught:
        look_up(name)
    assert near.lower() in str(caught.value).lower()


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(InputError, match="no model 'zzz'"):
        look_up("zzz")


@pytest.mark.parametrize("judge", ["kind: statistical", "kind: []", "- 1", "kind: *x", "", "{"])
def test_a_judge_without_a_transformer(tmp_path: Path, judge: str) -> None:
    (tmp_path / "judge.yaml").write_text(judge)
    with pytest.raises(InputError):
        look_up(str(tmp_path))


@pytest.mark.parametrize("config", ["", "[1]", '{"model_type": "bert"', "nul", "[" * 100_000])
def test_a_damaged_configuration(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError, match=r"config\.json"):
        look_up(str(tmp_path))


def test_an_empty_folder_and_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        look_up(str(tmp_path))
    (tmp_path / "x").write_text("")
    with pytest.raises(InputError, match="is a file"):
        look_up(str(tmp_path / "x"))


def test_headers_say_what_weights_there_are(tmp_path: Path) -> None:
    weights(tmp_path / "model-1.safetensors", {"a": [3, 4], "b": [5]})
    weights(tmp_path / "model-2.safetensors", {"vision_tower.c": [2, 2], "scalar": []})
    names = {"a": "model-1.safetensors", "vision_tower.c": "model-2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    header = read_headers(tmp_path)
    assert header is not None
    assert (header.parameters, header.text) == (22, 18)
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(InputError, match=r"lacks model-2\.safetensors"):
        read_headers(tmp_path)


def test_no_weights_are_no_fault(tmp_path: Path) -> None:
    assert read_headers(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 8,
        b"\xff" * 16,
        struct.pack("<Q", 10**15) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"nul!",
        struct.pack("<Q", 8) + b'{"a": 1}',
        struct.pack("<Q", 200_000) + b"[" * 200_000,
    ],
)
def test_damaged_weights_are_a_line(tmp_path: Path, content: bytes) -> None:
    model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        look_up(str(tmp_path))


def test_weights_that_are_cut_off(tmp_path: Path) -> None:
    model(tmp_path)
    weights(tmp_path / "model.safetensors", {"a": [300]}, cut=1)
    with pytest.raises(InputError, match="cut off"):
        look_up(str(tmp_path))


def test_a_family_of_tomorrow_is_counted_from_its_weights(tmp_path: Path) -> None:
    config = {
        "model_type": "of-tomorrow",
        "architectures": ["TomorrowForCausalLM"],
        "hidden_size": 8,
        "num_attention_heads": 2,
        "vocab_size": 50,
        "max_position_embeddings": 64,
    }
    model(tmp_path, config)
    with pytest.raises(InputError, match="of-tomorrow is not known"):
        look_up(str(tmp_path))
    block = {"attention.q.weight": [8, 8], "attention.q.bias": [8], "mlp.up.weight": [16, 8]}
    shapes = {f"model.layers.{n}.{name}": shape for n in range(3) for name, shape in block.items()}
    shapes |= {"model.embed_tokens.weight": [50, 8], "lm_head.weight": [50, 8], "norm.weight": [8]}
    shapes |= {"vision_tower.layers.0.x.weight": [90, 90]}
    weights(tmp_path / "model.safetensors", shapes)
    anatomy = look_up(str(tmp_path)).anatomy
    assert anatomy.counted == "weights"
    assert (anatomy.layers, anatomy.causal) == (3, True)
    assert anatomy.embeddings == anatomy.lm_head == 400
    assert anatomy.total == 3 * (64 + 8 + 128) + 400 + 400 + 8
    assert anatomy.lora(2, ("up",)) == 3 * 2 * 24
