"""Parameters by the configuration alone: to the last one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.classifier.sizing.anatomy import FAMILIES, anatomy_of
from judge.classifier.sizing.sources import known_models, look_up
from judge.errors import InputError

# What the hub says of their weights; of gemma-3-4b-it without the tower for pictures.
PUBLISHED = {
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Meta-Llama-3-8B": 8_030_261_248,
    "meta-llama/Llama-3.1-70B": 70_553_706_496,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "mistralai/Mistral-7B-v0.3": 7_248_023_552,
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "microsoft/Phi-3-medium-4k-instruct": 13_960_238_080,
    "google/gemma-2-2b": 2_614_341_888,
    "google/gemma-2-9b-it": 9_241_705_984,
    "google/gemma-2-27b": 27_227_128_320,
    "google/gemma-3-1b-it": 999_885_952,
    "google/gemma-3-4b-it": 3_880_263_168,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen2-72B": 72_706_203_648,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "microsoft/deberta-v3-small": 141_304_320,
    "microsoft/deberta-v3-base": 183_831_552,
    "microsoft/deberta-v3-large": 434_012_160,
    "answerdotai/ModernBERT-base": 149_014_272,
    "answerdotai/ModernBERT-large": 394_781_696,
    "sentence-transformers/all-MiniLM-L6-v2": 22_713_216,
    "google-bert/bert-base-uncased": 109_482_240,
    "FacebookAI/roberta-large": 355_359_744,
}
LLAMA = {"model_type": "llama", "num_key_value_heads": 8}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_known_models_have_as_many_parameters_as_published(name: str) -> None:
    assert look_up(name).anatomy.total == pytest.approx(PUBLISHED[name], rel=0.001)


@pytest.mark.parametrize("name", known_models())
def test_every_known_model_can_be_reckoned_with(name: str) -> None:
    anatomy = look_up(name).anatomy
    assert 0 < anatomy.backbone <= anatomy.total
    assert 0 < anatomy.embeddings < anatomy.total
    assert anatomy.lora(8) == 2 * anatomy.lora(4) > 0


def test_a_judge_does_without_the_vocabularys_head_and_the_pooler() -> None:
    llama, minilm = look_up("Llama-3.1-8B").anatomy, look_up("all-MiniLM-L6-v2").anatomy
    assert llama.total - llama.backbone == 128_256 * 4096
    assert minilm.total - minilm.backbone == 384 * 385


def test_adapters_are_counted_by_rank_and_target() -> None:
    anatomy = look_up("Llama-3.1-8B").anatomy
    # As PEFT prints for r=16 on q_proj and v_proj of the 8B: 6,815,744.
    assert anatomy.lora(16, ("q_proj", "v_proj")) == 6_815_744
    assert anatomy.lora(16) == 41_943_040
    bert = look_up("all-MiniLM-L6-v2").anatomy
    assert len(bert.adapted(("dense",))) == 3


def test_a_target_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(InputError, match=r"no layer 'q_proj'.*qkv_proj"):
        look_up("Phi-3-mini-4k-instruct").anatomy.lora(8, ("q_proj",))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_family_takes_for_granted_need_not_be_said(family: str) -> None:
    assert anatomy_of({"model_type": family}).family == family


def test_the_part_for_text_is_what_counts() -> None:
    text = {"model_type": "gemma3_text", "hidden_size": 64, "num_hidden_layers": 2}
    whole = {"model_type": "gemma3", "text_config": text, "vision_config": {"hidden_size": 9999}}
    assert anatomy_of(whole) == anatomy_of(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": -1},
        {"hidden_size": "4096"},
        {"hidden_size": float("nan")},
        {"hidden_size": 10**30},
        {"num_hidden_layers": 0},
        {"num_attention_heads": 0},
        {"vocab_size": True},
        {"intermediate_size": [1]},
        {"num_key_value_heads": {}},
        {"model_type": "deberta-v2", "relative_attention": True, "position_buckets": "many"},
        {"model_type": "deberta-v2", "conv_kernel_size": 3, "conv_groups": 0},
        {"model_type": "bert", "hidden_dropout_prob": "no"},
        {"model_type": None},
        {"model_type": 7},
        {"model_type": "of-tomorrow"},
    ],
)
def test_a_configuration_that_cannot_be_is_said_in_a_line(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        anatomy_of(LLAMA | changes)
    assert "\n" not in str(caught.value)


@given(
    st.sampled_from(FAMILIES),
    st.dictionaries(
        st.sampled_from(["hidden_size", "num_hidden_layers", "head_dim", "embedding_size", "dim"]),
        st.one_of(st.none(), st.integers(-5, 10**12), st.text(max_size=3), st.floats()),
    ),
)
def test_whatever_it_says_there_is_an_anatomy_or_a_line(family: str, said: dict[str, Any]) -> None:
    try:
        anatomy = anatomy_of({"model_type": family, **said})
    except InputError:
        return
    assert anatomy.total >= anatomy.backbone > 0
