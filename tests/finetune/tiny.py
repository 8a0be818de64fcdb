"""Models of each family with next to no weights, and tokenizers for them, made on the spot.

    folder = tiny_model("llama", tmp_path)            # config.json, weights, tokenizer files
    folder = tiny_model("bert", tmp_path, labels=3)   # with a head for three classes

They have two layers and a hidden size of 32, and weights large enough that what is done wrong
shows. Decoders come with a byte-level BPE tokenizer trained on a few sentences, encoders with
WordPiece of their words.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

CAUSAL = ("llama", "mistral", "phi3", "gemma", "gemma2", "gemma3_text", "qwen2", "qwen3")
ENCODERS = ("bert", "roberta", "distilbert", "electra", "modernbert", "deberta-v2")
FAMILIES = (*CAUSAL, *ENCODERS)
PACKED = tuple(family for family in FAMILIES if family != "deberta-v2")

LAYERS, HIDDEN, VOCABULARY, POSITIONS = 2, 32, 384, 512
WINDOW = 16
"""How far the layers with sliding windows see."""

_SENTENCES = (
    "Which of the two answers would people prefer, and how sure can one be?",
    "The quick brown fox jumps over the lazy dog while 12 judges count 345 votes.",
    "Write a function that adds two numbers: def add(a, b): return a + b",
    "I am sorry, but I cannot help with that. Here is what I can do instead.",
    "Prompt, response A, response B; the first is better, the second is worse, it is a tie.",
)
_COMMON: dict[str, Any] = {
    "hidden_size": HIDDEN,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.2,
}
_GROUPED: dict[str, Any] = {"num_key_value_heads": 2, "head_dim": 8}
_ALTERNATING = ["sliding_attention", "full_attention"]
# The class of the configuration, and what it is told besides.
_KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", _GROUPED),
    "mistral": ("MistralConfig", _GROUPED | {"sliding_window": WINDOW}),
    "phi3": ("Phi3Config", {"num_key_value_heads": 2, "sliding_window": WINDOW}),
    "gemma": ("GemmaConfig", _GROUPED),
    "gemma2": (
        "Gemma2Config",
        _GROUPED
        | {
            "sliding_window": WINDOW,
            "layer_types": _ALTERNATING,
            "query_pre_attn_scalar": 8,
            "attn_logit_softcapping": 2.0,
        },
    ),
    "gemma3_text": (
        "Gemma3TextConfig",
        _GROUPED
        | {"sliding_window": WINDOW, "layer_types": _ALTERNATING, "query_pre_attn_scalar": 8},
    ),
    "qwen2": ("Qwen2Config", {"num_key_value_heads": 2}),
    "qwen3": ("Qwen3Config", _GROUPED),
    "bert": ("BertConfig", {}),
    "roberta": ("RobertaConfig", {"type_vocab_size": 1}),
    "distilbert": ("DistilBertConfig", {}),
    "electra": ("ElectraConfig", {"embedding_size": 16}),
    "modernbert": (
        "ModernBertConfig",
        {"layer_types": ["full_attention", "sliding_attention"], "local_attention": WINDOW},
    ),
    "deberta-v2": (
        "DebertaV2Config",
        {
            "relative_attention": True,
            "position_buckets": 32,
            "max_relative_positions": -1,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "type_vocab_size": 0,
            "pooler_hidden_size": HIDDEN,
        },
    ),
}


def tiny_config(family: str, **changes: Any) -> Any:
    """The configuration of a family's tiny model."""
    name, special = _KINDS[family]
    tokenizer = tiny_tokenizer(family)
    ids = {
        "vocab_size": VOCABULARY,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
    }
    if family == "distilbert":
        del ids["bos_token_id"], ids["eos_token_id"]
    return getattr(transformers, name)(**{**_COMMON, **ids, **special, **changes})


def tiny_model(
    family: str, folder: Path, *, labels: int | None = None, seed: int = 0, **changes: Any
) -> Path:
    """A folder with a tiny model and its tokenizer, as from the hub.

    Args:
        family: one of `FAMILIES`.
        folder: where it is to be.
        labels: classes of a head for sequences; None for the model without one.
        seed: of the weights.
        changes: what the configuration is to say otherwise.
    """
    config = tiny_config(family, **changes)
    torch.manual_seed(seed)
    if labels is None:
        kind = transformers.AutoModelForCausalLM if family in CAUSAL else transformers.AutoModel
        model = kind.from_config(config)
    else:
        config.num_labels = labels
        model = transformers.AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # What begins at nought or one, biases and scales, is to play its part as well.
            if weight.ndim == 1:
                weight.add_(torch.randn_like(weight) * 0.1)
            elif "score" in name or "classifier" in name:
                weight.normal_(0.0, 0.3)
    model.save_pretrained(folder)
    tiny_tokenizer(family).save_pretrained(folder)
    return folder


def tiny_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """A tokenizer of the kind that a family has."""
    if family in CAUSAL:
        return _byte_level(family)
    return _word_pieces(family)


def _byte_level(family: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    if not family.startswith("qwen"):  # those begin with no token of their own
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def _word_pieces(family: str) -> PreTrainedTokenizerFast:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    # Written out, for a trainer breaks ties between pieces otherwise in every process.
    signs = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    words = sorted(set(re.findall(r"[a-z]{2,}|\d{2,}", " ".join(_SENTENCES).lower())))
    pairs = sorted({word[place : place + 2] for word in words for place in range(len(word) - 1)})
    inner = [f"##{part}" for part in (*signs, *pairs)]
    pieces = [*special, *signs, *inner, *words][:VOCABULARY]
    tokenizer = Tokenizer(
        models.WordPiece({piece: place for place, piece in enumerate(pieces)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
