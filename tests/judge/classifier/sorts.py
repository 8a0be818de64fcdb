"""A small tokenizer of each sort that models have, trained on the examples."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[3] / "examples" / "battles.csv"

SORTS = ("bert", "deberta", "llama-2", "llama-3", "qwen")
SPECIAL = {
    "bert": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "deberta": ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"),
    "llama-2": ("<unk>", "<s>", "</s>"),
    "llama-3": ("<|begin_of_text|>", "<|eot_id|>", "<|reserved 1|>"),
    "qwen": ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<turn>"),
}
"""The special tokens of each; some are none that chat templates are known for."""


@cache
def raw(sort: str) -> Any:
    """A tokenizer of the `tokenizers` package, with what a sequence of its models begins and ends
    with."""
    from tokenizers import models, pre_tokenizers, trainers

    special = list(SPECIAL[sort])
    if sort == "bert":
        tokenizer = _word_pieces()
        trainer: Any = trainers.WordPieceTrainer(
            vocab_size=700, special_tokens=special, show_progress=False
        )
    elif sort == "deberta":
        tokenizer = _pieces(models.Unigram())
        trainer = trainers.UnigramTrainer(
            vocab_size=1000, special_tokens=special, unk_token="[UNK]", show_progress=False
        )
    elif sort == "llama-2":
        tokenizer = _pieces(models.BPE(byte_fallback=True, unk_token="<unk>"))
        octets = [f"<0x{byte:02X}>" for byte in range(256)]
        trainer = trainers.BpeTrainer(
            vocab_size=1100, special_tokens=[*special, *octets], show_progress=False
        )
    else:
        tokenizer = _bytes()
        trainer = trainers.BpeTrainer(
            vocab_size=900,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    tokenizer.train_from_iterator(EXAMPLES.read_text(encoding="utf-8").splitlines(), trainer)
    ends = {
        "bert": "[CLS] $A [SEP]",
        "deberta": "[CLS] $A [SEP]",
        "llama-2": "<s> $A",
        "llama-3": "<|begin_of_text|> $A",
    }
    if sort in ends:
        _put_around(tokenizer, ends[sort])
    tokenizer.enable_truncation(16)  # as some models bring along
    tokenizer.enable_padding(length=16)
    return tokenizer


def of_transformers(sort: str) -> Any:
    """The same as a tokenizer of transformers."""
    from transformers import PreTrainedTokenizerFast

    names = {
        "bert": _encoder(),
        "deberta": _encoder(),
        "llama-2": {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
        "llama-3": {
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<|eot_id|>",
            "pad_token": "<|eot_id|>",
        },
        "qwen": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    }
    return PreTrainedTokenizerFast(tokenizer_object=raw(sort), **names[sort])


def _encoder() -> dict[str, str]:
    kinds = ("pad", "unk", "cls", "sep", "mask")
    return {f"{kind}_token": f"[{kind.upper()}]" for kind in kinds}


def _word_pieces() -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _pieces(model: Any) -> Any:
    """As SentencePiece makes them: text is made regular first, and spaces are part of words."""
    from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers

    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def _bytes() -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def _put_around(tokenizer: Any, form: str) -> None:
    from tokenizers import processors

    names = [name for name in form.split() if name != "$A"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=form, special_tokens=[(name, tokenizer.token_to_id(name)) for name in names]
    )
