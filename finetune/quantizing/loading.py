"""A judge's model as it is rounded: with its adapter worked in, and the texts to calibrate by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.quantizing.settings import Settings
from finetune.weights.folders import JudgeFolder

if TYPE_CHECKING:
    import torch
    from torch import nn

    from finetune.rows.sources import Pool

_TOKENS = 4096


@dataclass(frozen=True)
class Loaded:
    """A judge's model: what is rounded, how it is run, and how its folder is written."""

    model: nn.Module
    tokenizer: Any
    forward: Callable[[Any], object]
    texts: list[Any]
    batch_tokens: int
    half: torch.dtype
    network: Any = None


def load_model(folder: JudgeFolder, pool: Pool, settings: Settings) -> Loaded:
    """A judge's model where it is to be rounded, and the texts of the battles."""
    import torch

    from judge.classifier.hardware import devices_of, dtype_of

    device = devices_of([] if settings.device is None else [settings.device])[0]
    dtype = dtype_of(settings.dtype, device, training=True)
    load = _classifier if folder.classifies else _writer
    loaded = load(folder, pool, settings, device, dtype)
    for one in loaded.model.parameters():
        one.requires_grad_(False)
    assert loaded.half in (torch.float16, torch.bfloat16)
    return loaded


def _classifier(
    folder: JudgeFolder, pool: Pool, settings: Settings, device: torch.device, dtype: torch.dtype
) -> Loaded:
    from finetune.quantizing.texts import judged_texts
    from judge.classifier.storing import load_network
    from judge.classifier.templates import load_template
    from judge.classifier.tokens import BattleEncoder

    network, tokenizer = load_network(folder.path, folder.settings, device=device, dtype=dtype)
    shape = network.shape
    encoder = BattleEncoder(
        tokenizer, load_template(shape.template), shape.max_length, shape.policy
    )
    texts = judged_texts(encoder, pool, settings.texts, seed=settings.seed)
    # Where rows are padded, each text is by itself, so that no padding is calibrated by.
    most = _TOKENS if network.packed else 1
    half = _half(folder)
    return Loaded(network.backbone, tokenizer, network.states, texts, most, half, network)


def _writer(
    folder: JudgeFolder, pool: Pool, settings: Settings, device: torch.device, dtype: torch.dtype
) -> Loaded:
    import torch
    from transformers import AutoModelForCausalLM

    from finetune.quantizing.texts import asked_texts
    from judge.classifier.loading import explained, load_tokenizer, loading_options, quiet
    from judge.classifier.storing import load_adapter, merged
    from judge.judges.prompted_settings import DEFAULT

    asking = folder.settings.get("asking")
    prompt = asking.get("prompt") if isinstance(asking, Mapping) else None
    options = loading_options(dtype, device, packed=False, quantize=None)
    with explained(folder.base, "the model"), quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(folder.base, **options)
    if folder.adapted:
        model = merged(load_adapter(model, folder.weights), folder.weights)
    model = model.to(device).eval()
    tokenizer = load_tokenizer(folder.base)
    name = str(prompt or DEFAULT.prompt)
    beside = folder.path / name
    words = str(beside) if name.endswith((".yaml", ".yml")) and beside.is_file() else name
    texts = asked_texts(words, tokenizer, pool, settings.texts, seed=settings.seed)

    def forward(batch: list[Any]) -> object:
        ids = torch.from_numpy(batch[0].astype("int64"))[None].to(device)
        return model(input_ids=ids, use_cache=False)

    return Loaded(model, tokenizer, forward, texts, 1, _half(folder))


def _half(folder: JudgeFolder) -> torch.dtype:
    """The 16 bits that what is not rounded is kept in: the base's, or those that lose least."""
    import torch

    from judge.classifier.loading import load_config

    where = folder.base if folder.adapted or not folder.classifies else str(folder.path)
    said = getattr(load_config(where), "dtype", None)
    return torch.bfloat16 if said in (torch.bfloat16, "bfloat16") else torch.float16
