"""Networks: what they begin as, what they default to, and what they refuse."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from judge.classifier import hardware  # noqa: E402
from judge.classifier.families import longest, turning_point  # noqa: E402
from judge.classifier.hastening import hasten  # noqa: E402
from judge.classifier.narrowing import narrow  # noqa: E402
from judge.classifier.network import build  # noqa: E402
from judge.classifier.packing import pack  # noqa: E402
from judge.classifier.prepacked import available, prepack  # noqa: E402
from judge.errors import ArenaJudgeError, InputError  # noqa: E402
from tests.finetune.tiny import FAMILIES, VOCABULARY, tiny_config, tiny_model  # noqa: E402


def _ids(*lengths: int) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.integers(5, VOCABULARY, n).astype(np.int32) for n in lengths]


def test_what_is_not_said_suits_the_family(tmp_path: Path) -> None:
    decoder, _ = build(str(tiny_model("phi3", tmp_path / "phi3")))
    assert decoder.causal
    assert decoder.shape.pooling == "last"
    assert decoder.shape.max_length == 1024
    encoder, _ = build(
        str(tiny_model("roberta", tmp_path / "roberta")), form="single", head="symmetric"
    )
    assert not encoder.causal
    assert encoder.shape.pooling == "mean"
    assert encoder.shape.max_length == 511  # the first of 512 positions is not used
    assert encoder.shape.template.startswith("single@")
    assert decoder.shape.template.startswith("a-then-b@")


def test_the_longest_sequence_that_fits_is_read_and_no_longer(tmp_path: Path) -> None:
    base = str(tiny_model("roberta", tmp_path))
    network, _ = build(base, max_length=511)
    with torch.inference_mode():
        assert network.eval()(_ids(511)).isfinite().all()
    with pytest.raises(InputError, match="reads 511 tokens at most"):
        build(base, max_length=512)


def test_the_same_seed_is_the_same_network(tmp_path: Path) -> None:
    base = str(tiny_model("bert", tmp_path))
    ids = _ids(4, 9)
    with torch.inference_mode():
        one, again, other = (build(base, seed=seed)[0].eval()(ids) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_two_sequences_make_one_row_of_logits(tmp_path: Path) -> None:
    base = str(tiny_model("modernbert", tmp_path))
    network, _ = build(base, form="single", head="symmetric", width=4)
    ids = _ids(9, 4, 7, 30)
    with torch.inference_mode():
        network.eval()
        there = network(ids)
        back = network([ids[1], ids[0], ids[3], ids[2]])
    assert there.shape == (2, 3)
    torch.testing.assert_close(there, back[:, [1, 0, 2]], atol=1e-6, rtol=0)


def test_the_part_of_a_model_with_pictures_that_reads_text(tmp_path: Path) -> None:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, SiglipVisionConfig

    text = tiny_config("gemma3_text")
    vision = SiglipVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        image_size=28, patch_size=14,
    )  # fmt: skip
    tiny_model("gemma3_text", tmp_path)
    torch.manual_seed(0)
    whole = Gemma3ForConditionalGeneration(
        Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    )
    whole.save_pretrained(tmp_path)
    network, _ = build(str(tmp_path), max_length=64)
    assert network.shape.family == "gemma3_text"
    assert not any("vision" in name for name, _ in network.named_parameters())
    ids = _ids(11)[0]
    with torch.inference_mode():
        found = network.eval().states([ids])
        row = torch.from_numpy(ids.astype(np.int64))[None]
        wanted = whole.eval()(row, output_hidden_states=True).hidden_states[-1][:, -1]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


# --- what is refused ------------------------------------------------------------------------------


def _refused(base: str, **options: Any) -> str:
    with pytest.raises(ArenaJudgeError) as caught:
        build(base, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_plain_head_needs_both_responses(tmp_path: Path) -> None:
    base = str(tiny_model("bert", tmp_path))
    assert "symmetric" in _refused(base, form="single", head="plain")


@pytest.mark.parametrize(
    "options",
    [
        {"attention": "fast"},
        {"quantize": "2bit"},
        {"pooling": "max"},
        {"form": "triple"},
        {"template": "nothing"},
        {"max_length": 3},
    ],
)
def test_what_is_not_known(options: dict[str, Any], tmp_path: Path) -> None:
    _refused(str(tiny_model("llama", tmp_path)), **options)


@pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is there"
)
@pytest.mark.parametrize("quantize", ["8bit", "4bit"])
def test_quantisation_without_its_package(quantize: str, tmp_path: Path) -> None:
    said = _refused(str(tiny_model("llama", tmp_path)), quantize=quantize)
    assert "pip install bitsandbytes" in said


def test_a_model_that_is_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for base in (str(tmp_path), str(tmp_path / "none"), "someone/nothing-at-all"):
        _refused(base)


def test_sequences_without_a_token(tmp_path: Path) -> None:
    for kind in ("packed", "padded"):
        network, _ = build(str(tiny_model("bert", tmp_path)), attention=kind)
        for ids in ([], [np.zeros(0, np.int32)]):
            with pytest.raises(ValueError, match=r"token|nothing"):
                network(ids)
    with pytest.raises(ValueError, match="pads"):
        network(pack(_ids(3)))


# --- hardware -------------------------------------------------------------------------------------


def test_numbers_by_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert hardware.dtype_of("bf16", cpu) == torch.bfloat16
    assert hardware.dtype_of("float32", cpu) == torch.float32
    monkeypatch.setattr(hardware, "cpu_has_bfloat16", lambda: True)
    assert hardware.dtype_of("auto", cpu) == torch.bfloat16
    assert hardware.dtype_of("auto", cpu, training=True) == torch.float32
    monkeypatch.setattr(hardware, "cpu_has_bfloat16", lambda: False)
    assert hardware.dtype_of("auto", cpu) == torch.float32
    for capability, wanted in (((7, 5), torch.float16), ((8, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert hardware.dtype_of("auto", torch.device("cuda", 0)) == wanted
    with pytest.raises(InputError, match="no dtype"):
        hardware.dtype_of("int3", cpu)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hardware.devices_of(("cpu", "cpu")) == [torch.device("cpu")] * 2
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("cuda", "cuda:3", "toaster", "meta", ""):
        with pytest.raises(InputError):
            hardware.devices_of((name,))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert hardware.devices_of() == [torch.device("cuda", 0), torch.device("cuda", 1)]
    assert hardware.devices_of(("cuda",)) == [torch.device("cuda", 0)]


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArenaJudgeError, match=r"pip install 'arena-judge\[finetune\]'"):
        hardware.needed("a_package_that_nobody_has")


def test_where_positions_turn() -> None:
    plain = tiny_config("phi3")
    assert turning_point(plain) is None
    factors = [1.0] * 4
    scaling = {
        "rope_type": "longrope", "short_factor": factors, "long_factor": factors,
        "rope_theta": 10000.0, "original_max_position_embeddings": 128,
    }  # fmt: skip
    long = tiny_config("phi3", rope_parameters=scaling, original_max_position_embeddings=128)
    assert turning_point(long) == 128
    assert longest(long) is None
    assert longest(tiny_config("bert")) == 512


# --- layers laid out anew -------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_laid_out_anew_say_the_same(family: str, dtype: Any, tmp_path: Path) -> None:
    if not available(dtype):
        pytest.skip("no oneDNN for this here")
    network, _ = build(str(tiny_model(family, tmp_path)), max_length=64, dtype=dtype)
    ids = _ids(5, 40, 1)
    with torch.inference_mode():
        wanted = network.eval()(ids)
        assert prepack(network) >= 8
        found = network(ids)
    far = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(found, wanted, atol=far, rtol=0)


def test_families_that_nobody_tried_are_left_as_they_are(tmp_path: Path) -> None:
    network, _ = build(str(tiny_model("bert", tmp_path)))
    network.with_shape(family="unheard-of")
    assert prepack(network) == 0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", ["cls", "last", "mean"])
def test_the_last_layer_looked_at_where_the_head_looks_says_the_same(
    family: str, pooling: str, tmp_path: Path
) -> None:
    network, _ = build(str(tiny_model(family, tmp_path)), max_length=64, pooling=pooling)
    ids = _ids(5, 40, 1)
    rows: list[int] = []
    for part in network.backbone.modules():
        if isinstance(part, torch.nn.Linear):
            part.register_forward_hook(lambda _, seen, __: rows.append(seen[0].shape[-2]))
    with torch.inference_mode():
        wanted = network.eval()(ids)
        narrowed = narrow(network)
        assert narrowed == (network.packed and pooling != "mean")
        rows.clear()
        torch.testing.assert_close(network(ids), wanted, atol=1e-6, rtol=0)
        assert (3 in rows) == narrowed
        hasten(network)  # and both together
        torch.testing.assert_close(network(ids), wanted, atol=1e-5, rtol=0)
    # In training all rows count, for what is saved would have to be there in the backward pass.
    rows.clear()
    network.train()
    if not narrowed:
        return
    network(ids)
    assert 3 not in rows
