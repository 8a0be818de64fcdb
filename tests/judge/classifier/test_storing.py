"""Networks to and from judge folders, and what damaged or hostile folders come to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from judge.classifier.network import Network, build  # noqa: E402
from judge.classifier.storing import find_base, load_network, save_network  # noqa: E402
from judge.errors import ArenaJudgeError  # noqa: E402
from tests.finetune.tiny import VOCABULARY, tiny_model  # noqa: E402

FULL, LORA = "full", "lora"


def _ids(count: int = 4) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.integers(5, VOCABULARY, n).astype(np.int32) for n in range(3, 3 + 7 * count, 7)]


def _logits(network: Network) -> Any:
    with torch.inference_mode():
        return network.eval()(_ids())


def _made(family: str, place: Path, kind: str, **options: Any) -> tuple[Network, dict[str, Any]]:
    """A network, what it says of itself, and its folder at `place / judge`."""
    base = str(tiny_model(family, place / "base"))
    network, tokenizer = build(base, max_length=128, seed=3, **options)
    if kind == LORA:
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
        network.backbone = get_peft_model(network.backbone, config)
    settings = save_network(network, tokenizer, place / "judge")
    return network, settings


@pytest.mark.parametrize("kind", [FULL, LORA])
@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("llama", {}),
        ("gemma2", {"form": "single", "head": "symmetric", "width": 6}),
        ("bert", {"head": "symmetric"}),
        ("deberta-v2", {"form": "single", "head": "symmetric"}),
    ],
)
def test_what_was_saved_says_the_same(
    family: str, options: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    network, settings = _made(family, tmp_path, kind, **options)
    assert settings["weights"] == kind
    assert settings["kind"] == "classifier"
    wanted = _logits(network)
    for merge in (True, False):
        again, tokenizer = load_network(tmp_path / "judge", settings, merge=merge)
        torch.testing.assert_close(_logits(again), wanted, atol=1e-5, rtol=0)
        assert not again.training
        assert again.shape.template == network.shape.template
        assert len(tokenizer) <= VOCABULARY


def test_a_judge_that_was_fully_tuned_needs_no_base(tmp_path: Path) -> None:
    network, settings = _made("llama", tmp_path, FULL)
    shutil.rmtree(tmp_path / "base")
    moved = (tmp_path / "judge").rename(tmp_path / "elsewhere")
    again, _ = load_network(moved, settings)
    torch.testing.assert_close(_logits(again), _logits(network), atol=1e-6, rtol=0)


def test_an_adapter_lies_alone_and_its_base_is_found_from_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, settings = _made("llama", tmp_path / "one", LORA)
    folder = tmp_path / "one" / "judge"
    names = {file.name for file in folder.iterdir()}
    assert "adapter_model.safetensors" in names
    assert "model.safetensors" not in names
    assert "README.md" not in names
    assert settings["base"] == "../base"
    for file in folder.glob("*.json"):  # nothing says where it was made, or how it was run
        assert str(tmp_path) not in file.read_text(encoding="utf-8")
        assert "arena" not in file.read_text(encoding="utf-8")
    (tmp_path / "one").rename(tmp_path / "two")
    monkeypatch.chdir(tmp_path.parent)
    again, _ = load_network(tmp_path / "two" / "judge", settings)
    torch.testing.assert_close(_logits(again), _logits(network), atol=1e-5, rtol=0)


def test_saving_changes_nothing_of_the_network(tmp_path: Path) -> None:
    network, _ = _made("llama", tmp_path, LORA)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    config = next(iter(network.backbone.peft_config.values()))
    named = config.base_model_name_or_path
    from judge.classifier.loading import load_tokenizer

    save_network(network, load_tokenizer(tmp_path / "base"), tmp_path / "again")
    assert config.base_model_name_or_path == named
    after = network.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


def test_weights_that_were_gathered_elsewhere_are_saved(tmp_path: Path) -> None:
    network, settings = _made("llama", tmp_path, LORA)
    state = {name: weight * 0.5 for name, weight in network.state_dict().items()}
    from judge.classifier.loading import load_tokenizer

    tokenizer = load_tokenizer(tmp_path / "base")
    save_network(network, tokenizer, tmp_path / "half", state=state)
    again, _ = load_network(tmp_path / "half", settings, merge=False)
    found = dict(again.named_parameters())
    for name, weight in network.named_parameters():
        if "lora_" in name or name.startswith("head"):
            torch.testing.assert_close(found[name], weight * 0.5)


def test_an_adapter_can_be_trained_on(tmp_path: Path) -> None:
    _, settings = _made("llama", tmp_path, LORA)
    network, _ = load_network(tmp_path / "judge", settings, trainable=True)
    wanted = {n for n, w in network.backbone.named_parameters() if w.requires_grad}
    assert wanted
    assert all("lora_" in name for name in wanted)


def test_lengths_beyond_what_was_learned_are_refused(tmp_path: Path) -> None:
    _, settings = _made("bert", tmp_path, FULL)
    with pytest.raises(ArenaJudgeError, match="512 tokens at most"):
        load_network(tmp_path / "judge", settings | {"max_length": 513})


# --- damaged and hostile folders ------------------------------------------------------------------


def _refused(folder: Path, settings: dict[str, Any], *words: str) -> None:
    """One line that says what is wrong, and nothing that a user need not see."""
    with pytest.raises(ArenaJudgeError) as caught:
        load_network(folder, settings)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 700
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    "name", ["head.safetensors", "config.json", "model.safetensors", "tokenizer.json"]
)
def test_a_file_that_is_gone_or_damaged(name: str, tmp_path: Path) -> None:
    _, settings = _made("llama", tmp_path, FULL)
    file = tmp_path / "judge" / name
    whole = file.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", b"\x80\x04\x95 no pickle is read \xff", b"[]"):
        file.write_bytes(damage)
        _refused(tmp_path / "judge", settings)
    file.unlink()
    _refused(tmp_path / "judge", settings)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_an_adapter_that_is_gone_or_damaged(name: str, tmp_path: Path) -> None:
    _, settings = _made("llama", tmp_path, LORA)
    file = tmp_path / "judge" / name
    whole = file.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", b"[]", b"null", b'{"peft_type": "LORA"}'):
        file.write_bytes(damage)
        _refused(tmp_path / "judge", settings)
    file.unlink()
    _refused(tmp_path / "judge", settings, name)


def test_an_adapter_of_another_model(tmp_path: Path) -> None:
    _, settings = _made("llama", tmp_path, LORA)
    shutil.rmtree(tmp_path / "base")
    tiny_model("llama", tmp_path / "base", num_attention_heads=8, num_key_value_heads=4)
    _refused(tmp_path / "judge", settings, "adapter")
    shutil.rmtree(tmp_path / "base")
    tiny_model("llama", tmp_path / "base", num_hidden_layers=1)
    _refused(tmp_path / "judge", settings, "adapter")


@pytest.mark.parametrize(
    "change",
    # The second names a module that peft would import.
    [{"peft_type": "PREFIX_TUNING"}, {"megatron_config": {"a": 1}, "megatron_core": "antigravity"}],
)
def test_another_kind_of_adapter(change: dict[str, Any], tmp_path: Path) -> None:
    _, settings = _made("llama", tmp_path, LORA)
    file = tmp_path / "judge" / "adapter_config.json"
    said = json.loads(file.read_text()) | change
    file.write_text(json.dumps(said))
    _refused(tmp_path / "judge", settings, "another kind")


def test_a_head_of_another_shape(tmp_path: Path) -> None:
    _, settings = _made("llama", tmp_path, FULL)
    for change in ({"head": "symmetric"}, {"width": 5}):
        _refused(tmp_path / "judge", settings | change, "head")


@pytest.mark.parametrize(
    "change",
    [
        {"form": "both"},
        {"head": "none"},
        {"pooling": 3},
        {"max_length": "256"},
        {"max_length": True},
        {"max_length": 0},
        {"dropout": 1.5},
        {"width": -1},
        {"form": "single"},
        {"weights": "pickle"},
        {"base": None},
    ],
)
def test_settings_that_cannot_be(change: dict[str, Any], tmp_path: Path) -> None:
    _, settings = _made("llama", tmp_path, FULL)
    _refused(tmp_path / "judge", settings | change, "judge.yaml")


@pytest.mark.parametrize("missing", ["form", "head", "pooling", "template", "max_length", "base"])
def test_settings_that_are_not_there(missing: str, tmp_path: Path) -> None:
    _, settings = _made("llama", tmp_path, FULL)
    del settings[missing]
    _refused(tmp_path / "judge", settings, missing)


def test_a_base_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    _, settings = _made("llama", tmp_path, LORA)
    shutil.rmtree(tmp_path / "base")
    _refused(tmp_path / "judge", settings, "../base", "judge.yaml")
    for base in ("/nowhere/at/all", "./here", "a/b/c"):
        with pytest.raises(ArenaJudgeError, match="not there"):
            find_base(base, tmp_path / "judge")
    assert find_base("someone/model", tmp_path / "judge") == "someone/model"


def test_pickled_weights_are_never_read(tmp_path: Path) -> None:
    _, settings = _made("llama", tmp_path, FULL)
    folder = tmp_path / "judge"
    (folder / "model.safetensors").unlink()
    marker = tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (marker,)

    torch.save({"weight": Hostile()}, folder / "pytorch_model.bin")
    _refused(folder, settings)
    assert not marker.exists()


def test_code_that_comes_with_a_model_is_never_run(tmp_path: Path) -> None:
    _, settings = _made("llama", tmp_path, FULL)
    folder = tmp_path / "judge"
    marker = tmp_path / "ran"
    (folder / "hostile.py").write_text(f"open({str(marker)!r}, 'w')\n", encoding="utf-8")
    file = folder / "config.json"
    said = json.loads(file.read_text()) | {
        "model_type": "unheard-of",
        "auto_map": {"AutoConfig": "hostile.Config", "AutoModel": "hostile.Model"},
    }
    file.write_text(json.dumps(said))
    _refused(folder, settings)
    assert not marker.exists()


def test_weights_that_lack_a_layer(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    _, settings = _made("llama", tmp_path, FULL)
    file = tmp_path / "judge" / "model.safetensors"
    weights = load_file(file)
    save_file(
        {name: w for name, w in weights.items() if "layers.1.mlp" not in name},
        file,
        metadata={"format": "pt"},
    )
    _refused(tmp_path / "judge", settings, "lacks weights")
