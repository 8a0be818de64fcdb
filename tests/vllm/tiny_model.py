"""Writes a tiny Llama-like chat model, and a LoRA adapter of it, that vLLM loads: for tests.

The weights are random under a fixed seed, the tokenizer is a byte-level BPE trained on the text
below: the same files come out each time, on any machine, from nothing. What the model says is
noise; that it is always the same noise is what tests need.

    .venv-vllm/bin/python tests/vllm/tiny_model.py FOLDER       # FOLDER/model and FOLDER/adapter

Needs torch, transformers, tokenizers and safetensors, which are where vLLM is.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

TEXT = """\
You compare two answers to the same prompt. Judge relevance, accuracy, clarity, logical flow and
responsiveness. The vote is A when the first response is better, B when the second response is
better, AB when they are equally good and NA when it cannot be said of this battle. Answer with
JSON: {"relevance": "A", "accuracy": "B", "clarity": "AB", "logical_flow": "NA",
"responsiveness": "A"}. The people of this town were asked what they like: which one of the two
is easier to read, which is true, which says what was asked for, and why. A good answer is short,
clear and right; a bad one is long, vague or wrong. Here is a list of numbers: 0 1 2 3 4 5 6 7 8 9
10 20 30 100 1000. def main(): return [word for word in text.split() if word not in seen]
"""
SPECIAL = ("<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('no such role: ' + message['role']) }}{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
# What a ballot is written with. The model is bolder about these than about the rest: now and then a
# vote is what it would have said anyhow, and what it quotes comes to an end.
BALLOT = ('"', "A", "B", "AB", "NA", "N")
BOLDNESS = 3.0
VOCABULARY = 640
HIDDEN = 64
RANK = 8


def write_tokenizer(folder: Path, texts: list[str], vocabulary: int) -> list[int]:
    """Writes it, and gives the tokens of a ballot."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=list(SPECIAL),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[1],
        "pad_token": SPECIAL[1],
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
    return [found for word in BALLOT if (found := tokenizer.token_to_id(word)) is not None]


def write_model(
    folder: Path,
    *,
    positions: int = 4096,
    texts: list[str] | None = None,
    vocabulary: int = VOCABULARY,
) -> None:
    """A model folder.

    Args:
        folder: made where it is not there.
        positions: tokens that prompt and reply may have together.
        texts: what the tokenizer learns from; by default `TEXT`.
        vocabulary: tokens it has at most; the text may give fewer.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    ballot = write_tokenizer(folder, texts or [TEXT], vocabulary)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=positions,
        # Wider than a model is begun with: otherwise all tokens come out about as likely, and a
        # rounding error decides between them.
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    model = LlamaForCausalLM(config).to(torch.float32)
    with torch.no_grad():
        model.lm_head.weight[ballot] *= BOLDNESS
    model.save_pretrained(folder)


def write_adapter(folder: Path, model: Path) -> None:
    """A LoRA adapter in peft's format, strong enough to change what the model says."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    draw = torch.Generator().manual_seed(1)
    weights = {}
    for layer in range(2):
        name = f"base_model.model.model.layers.{layer}.self_attn.o_proj"
        weights[f"{name}.lora_A.weight"] = torch.randn(RANK, HIDDEN, generator=draw)
        weights[f"{name}.lora_B.weight"] = torch.randn(HIDDEN, RANK, generator=draw)
    save_file(weights, str(folder / "adapter_model.safetensors"))
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": model.name,
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["o_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--positions", type=int, default=4096, help="tokens a prompt may have")
    parser.add_argument("--texts", type=Path, help="a JSON list that the tokenizer learns from")
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    arguments = parser.parse_args()
    texts = json.loads(arguments.texts.read_text()) if arguments.texts else None
    write_model(
        arguments.folder / "model",
        positions=arguments.positions,
        texts=texts,
        vocabulary=arguments.vocabulary,
    )
    write_adapter(arguments.folder / "adapter", arguments.folder / "model")


if __name__ == "__main__":
    main()
