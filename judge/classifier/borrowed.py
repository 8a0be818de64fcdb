"""Networks that were fine-tuned elsewhere: a checkpoint of transformers for classifying sequences,
or a LoRA adapter for one, with a head for three classes.

    network, tokenizer = borrow("some/checkpoint", template="a-then-b", max_length=2048)

The head that came with it is kept, and its classes are put in the order A, B, tie: by their names
where they have some (`winner_model_a`, `A`, `tie`, ...), else as they are numbered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from judge.classifier import families
from judge.classifier.loading import (
    complete,
    explained,
    load_config,
    load_tokenizer,
    loading_options,
    packs,
    plain_bits,
    quiet,
)
from judge.classifier.network import Network
from judge.classifier.shape import Shape
from judge.classifier.storing import ADAPTER_CONFIG, load_adapter, merged, read_tensors
from judge.classifier.templates import load_template
from judge.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CLASSES = 3
_HEADS = ("score", "classifier", "classification_head")
# What the classes are called, in the order A, B, tie; matched without case, signs and spaces.
_NAMES = (
    {"a", "modela", "responsea", "winnera", "winnermodela", "winnerresponsea", "awins", "first"},
    {"b", "modelb", "responseb", "winnerb", "winnermodelb", "winnerresponseb", "bwins", "second"},
    {"tie", "winnertie", "tied", "draw", "equal", "same", "ab"},
)


def borrow(
    name: str,
    *,
    template: str = "a-then-b",
    max_length: int | None = None,
    policy: str = "proportional",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    quantize: str | None = None,
    attention: str = "auto",
) -> tuple[Network, PreTrainedTokenizerBase]:
    """A network from a checkpoint, in evaluation mode, and its tokenizer.

    Args:
        name: a folder or a name on the hub: of a checkpoint, or of an adapter that names its base.
        template, max_length, policy: how battles are put; the length is by default what the model
            can read, up to 2048 tokens.
        device, dtype, quantize, attention: see `judge.classifier.network.build`.

    Raises:
        ArenaJudgeError: it cannot be had, or has no head for three classes.
    """
    adapter = _adapter(name)
    base = name if adapter is None else _base(adapter)
    config = load_config(base)
    tokenizer = load_tokenizer(name if adapter is None or _has_tokenizer(adapter) else base)
    if adapter is not None:
        config.num_labels = _CLASSES
    if config.num_labels != _CLASSES:
        raise InputError(
            f"tells {config.num_labels} classes apart, and a judge three: A, B, tie", file=name
        )
    order = label_order(config.id2label, name)
    packed = packs(families.family_of(config), attention)
    model = _load(
        base, config, adapter, loading_options(dtype, device, packed=packed, quantize=quantize)
    )
    if quantize is None:
        model = model.to(device)
    else:
        plain_bits(model)
    backbone, head, pooling, packed = parted(model, order, packed)
    shape = Shape(
        base=name,
        family=families.family_of(config),
        form="pair",
        head="plain",
        pooling=pooling,
        template=load_template(template).spec,
        max_length=max_length or min(_most(config), 2048),
        policy=policy,
    )
    return Network(shape, backbone, head.float(), packed=packed).eval(), tokenizer


def label_order(names: Mapping[int, str], file: str) -> tuple[int, int, int]:
    """Which classes are A, B and tie.

    Raises:
        InputError: the names say that they are something else.
    """
    plain = [re.sub(r"[^a-z0-9]", "", str(names[place]).lower()) for place in range(_CLASSES)]
    if plain == [f"label{place}" for place in range(_CLASSES)]:
        return 0, 1, 2
    found = [
        next((place for place, one in enumerate(plain) if one in known), None) for known in _NAMES
    ]
    if None in found or len(set(found)) < _CLASSES:
        called = ", ".join(str(names[place]) for place in range(_CLASSES))
        raise InputError(
            f"its classes are {called}, and a judge's are A, B, tie",
            file=file,
            mend="rename them in id2label of its config.json",
        )
    a, b, tie = cast("list[int]", found)
    return a, b, tie


# --- the parts of a checkpoint --------------------------------------------------------------------


class BorrowedHead(nn.Module):
    """A head that came with a checkpoint, its classes put in order.

    Args:
        layers: from (N, 1, hidden) states to (N, 3) logits.
        order: which logits are A, B and tie.
    """

    def __init__(self, layers: nn.Module, order: tuple[int, int, int]) -> None:
        super().__init__()
        self.layers, self.order = layers, list(order)

    def forward(self, states: Tensor) -> Tensor:
        """(N, 3) logits of (N, hidden) states."""
        return cast(Tensor, self.layers(states[:, None]))[:, self.order]


class _First(nn.Module):
    """The first token of each row, which is the only one here."""

    def forward(self, states: Tensor) -> Tensor:
        return states[:, 0]


class _Whole(nn.Module):
    """A model whose head cannot be told from the rest: its logits stand for a text's states."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.config: Any = model.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        logits = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return SimpleNamespace(last_hidden_state=logits[:, None])


def parted(
    model: Any, order: tuple[int, int, int], packed: bool
) -> tuple[nn.Module, nn.Module, str, bool]:
    """Backbone, head, what the head sees, and whether the backbone packs."""
    made = _PARTS.get(
        families.family_of(model.config), _scored if hasattr(model, "score") else None
    )
    if made is None:
        return _Whole(model), BorrowedHead(_First(), order), "cls", False
    layers, pooling = made(model)
    head = BorrowedHead(deepcopy(layers), order)
    backbone = families.text_part(getattr(model, model.base_model_prefix))
    return backbone, head, pooling, packed


def _scored(model: Any) -> tuple[nn.Module, str]:
    return nn.Sequential(_First(), model.score), "last"


def _pooled(model: Any) -> tuple[nn.Module, str]:
    pooler = getattr(model, model.base_model_prefix).pooler
    return nn.Sequential(pooler, model.classifier), "cls"


def _pooled_apart(model: Any) -> tuple[nn.Module, str]:
    return nn.Sequential(model.pooler, model.classifier), "cls"


def _classified(model: Any) -> tuple[nn.Module, str]:
    return model.classifier, "cls"


def _of_modernbert(model: Any) -> tuple[nn.Module, str]:
    pooling = "mean" if model.config.classifier_pooling == "mean" else "cls"
    return nn.Sequential(_First(), model.head, model.classifier), pooling


def _of_distilbert(model: Any) -> tuple[nn.Module, str]:
    layers = nn.Sequential(_First(), model.pre_classifier, nn.ReLU(), model.classifier)
    return layers, "cls"


_PARTS: dict[str, Callable[[Any], tuple[nn.Module, str]]] = {
    "bert": _pooled,
    "deberta-v2": _pooled_apart,
    "roberta": _classified,
    "xlm-roberta": _classified,
    "camembert": _classified,
    "electra": _classified,
    "modernbert": _of_modernbert,
    "distilbert": _of_distilbert,
}


# --- details --------------------------------------------------------------------------------------


def _adapter(name: str) -> Path | None:
    """The folder of an adapter's files, if that is what a name is of."""
    if Path(name).is_dir():
        found = Path(name) / ADAPTER_CONFIG
        return found.parent if found.is_file() else None
    from transformers.utils.peft_utils import find_adapter_config_file

    with explained(name, "the model"):
        file = find_adapter_config_file(name)
        if file is None:
            return None
        from huggingface_hub import snapshot_download

        patterns = ["*.json", "*.safetensors"]
        return Path(snapshot_download(name, allow_patterns=patterns))


def _base(adapter: Path) -> str:
    """The base that an adapter names: by its path from there, from here, or on the hub."""
    import json

    with explained(adapter, "the adapter"):
        said = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        base = said.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise InputError("names no base model", file=adapter / ADAPTER_CONFIG)
    return str(adapter / base) if (adapter / base).is_dir() else base


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file()


def _most(config: Any) -> int:
    known = getattr(families.text_config(config), "max_position_embeddings", None)
    return int(families.longest(config) or known or 2048)


def _load(base: str, config: Any, adapter: Path | None, options: dict[str, Any]) -> Any:
    from transformers import AutoModelForSequenceClassification

    with explained(base, "the model"), quiet():
        model, found = AutoModelForSequenceClassification.from_pretrained(
            base, config=config, output_loading_info=True, **options
        )
    missing = list(found["missing_keys"]) + [key for key, *_ in found.get("mismatched_keys", ())]
    if adapter is None:
        complete(model, missing, base, poolers=True)
        return model
    head = [key for key in missing if key.split(".")[0] in _HEADS]
    complete(model, [key for key in missing if key not in head], base, poolers=True)
    held = read_tensors(adapter / "adapter_model.safetensors")
    if head and not any(f".{one}." in key for key in held for one in _HEADS):
        raise InputError("has no head for three classes", file=adapter, mend="train one")
    return merged(load_adapter(model, adapter), adapter)
