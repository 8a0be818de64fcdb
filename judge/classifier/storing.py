"""A network to and from a judge folder.

Beside judge.yaml lie the tokenizer's files, `head.safetensors`, and either all weights of the
backbone (`model.safetensors`, `config.json`), so that the folder works by itself, or a LoRA adapter
(`adapter_model.safetensors`, `adapter_config.json`), whose base judge.yaml names: by its path from
the folder, or by its name on the hub.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from judge.classifier import families
from judge.classifier.hardware import needed
from judge.classifier.heads import make_head
from judge.classifier.loading import explained, load_backbone, load_tokenizer, quiet
from judge.classifier.network import Network
from judge.classifier.shape import Shape, shape_of
from judge.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HEAD, RECIPE = "head.safetensors", "judge.yaml"
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
FULL, LORA = "full", "lora"


def save_network(
    network: Network,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    state: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Writes what belongs to a network into a folder, judge.yaml aside.

    Args:
        network: whole, or with a LoRA adapter, which is then written alone.
        tokenizer: its tokenizer.
        folder: where to; a draft beside the folder that it becomes will do.
        state: the network's weights by name, where they are not all in this process.

    Returns:
        What judge.yaml is to say of it: the shape and `weights`, `full` or `lora`.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    named = _named(network.shape.base, folder)
    backbone, rest = _parted(network, state)
    adapted = hasattr(network.backbone, "peft_config")
    with quiet():
        if adapted:
            _save_adapter(network.backbone, backbone, named, folder)
        else:
            bare: Any = network.backbone
            bare.save_pretrained(folder, state_dict=backbone)
        tokenizer.save_pretrained(folder)
    save_file(
        {name: weight.detach().to("cpu", torch.float32).contiguous() for name, weight in rest},
        folder / HEAD,
    )
    settings = {"kind": "classifier", **network.shape.to_settings()}
    return settings | {"base": named, "weights": LORA if adapted else FULL}


def load_network(
    folder: Path,
    settings: Mapping[str, Any],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    quantize: str | None = None,
    attention: str = "auto",
    merge: bool = True,
    trainable: bool = False,
) -> tuple[Network, PreTrainedTokenizerBase]:
    """The network in a judge folder, in evaluation mode, and its tokenizer.

    Args:
        folder: the folder.
        settings: what its judge.yaml says.
        device, dtype, quantize, attention: see `judge.classifier.network.build`.
        merge: work an adapter into the weights, unless they are quantised.
        trainable: whether an adapter that is not merged can be trained on.

    Raises:
        ArenaJudgeError: something is missing, damaged or does not fit together.
    """
    recipe = folder / RECIPE
    shape = shape_of(settings, recipe)
    kind = settings.get("weights", FULL)
    if kind not in (FULL, LORA):
        raise InputError(f"has weights of the kind {kind!r}", file=recipe, mend="make it anew")
    adapted = kind == LORA
    base = find_base(shape.base, folder) if adapted else str(folder)
    _there(folder, [HEAD, *((ADAPTER, ADAPTER_CONFIG) if adapted else ("config.json",))])
    tokenizer = load_tokenizer(folder)
    backbone, packed = load_backbone(
        base, dtype=dtype, device=device, attention=attention, quantize=quantize
    )
    whole: nn.Module = backbone
    if adapted:
        whole = load_adapter(backbone, folder, trainable=trainable)
        if merge and not trainable and quantize is None:
            whole = merged(whole, folder)
    head = load_head(shape, backbone, folder).to(device)
    return Network(shape, whole, head, packed=packed).eval(), tokenizer


def load_head(shape: Shape, backbone: nn.Module, folder: Path) -> nn.Module:
    """The head in a judge folder, for a backbone without adapters.

    Raises:
        InputError: it is not there, or is another one than the shape says.
    """
    config = cast("PreTrainedModel", backbone).config
    hidden = int(families.text_config(config).hidden_size)
    head = make_head(shape.head, hidden, width=shape.width, dropout=shape.dropout)
    _fill(head, folder / HEAD)
    return head


def find_base(base: str, folder: Path) -> str:
    """Where the base of an adapter is: its path from the judge folder, or its name on the hub.

    Raises:
        InputError: it looks like a path, and nothing is there.
    """
    beside = folder / base
    if beside.is_dir():
        return str(beside)
    if os.path.isabs(base) or base.startswith(".") or base.count("/") > 1:
        raise InputError(
            f"names the base model {base}, which is not there",
            file=folder / RECIPE,
            mend="put it there, or write where it is under base",
        )
    return base


def load_adapter(
    backbone: nn.Module, folder: Path, *, trainable: bool = False, name: str = "default"
) -> nn.Module:
    """A backbone with the LoRA adapter in a folder, which peft is to know by a name.

    Raises:
        InputError: it is damaged, of another kind, or does not fit.
    """
    needed("peft")
    _is_lora(folder)
    with explained(folder, "the adapter"):
        from peft import PeftModel

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters of them is seen to here
            model: Any = backbone
            found: Any = PeftModel.from_pretrained(
                model, str(folder), adapter_name=name, is_trainable=trainable
            )
    _is_whole(found, folder, name)
    return cast(nn.Module, found)


def add_adapter(adapted: nn.Module, folder: Path, name: str) -> None:
    """Puts another LoRA adapter beside those that a backbone has; `set_adapter(name)` of the
    backbone takes it in their place.

    Raises:
        InputError: it is damaged, of another kind, or does not fit.
    """
    _is_lora(folder)
    model: Any = adapted
    with explained(folder, "the adapter"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.load_adapter(str(folder), adapter_name=name, is_trainable=False)
    _is_whole(model, folder, name)


def _is_lora(folder: Path) -> None:
    _there(folder, (ADAPTER, ADAPTER_CONFIG))
    with explained(folder, "the adapter"):
        said = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        # For Megatron peft imports whatever module is named.
        if said.get("peft_type") != "LORA" or said.get("megatron_config") is not None:
            raise InputError("is of another kind than LoRA", file=folder / ADAPTER_CONFIG)


def _is_whole(adapted: Any, folder: Path, name: str) -> None:
    """Sees to it that the adapter was all there: what is not, peft leaves as it began, and what is
    too much it leaves out."""
    from peft import get_peft_model_state_dict

    with explained(folder, "the adapter"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = get_peft_model_state_dict(adapted, adapter_name=name, save_embedding_layers=False)
    if set(wanted) != set(read_tensors(folder / ADAPTER)):
        raise InputError("has an adapter of another model", file=folder, mend="name its own base")


def merged(adapted: nn.Module, folder: Path) -> nn.Module:
    """A backbone with its adapter worked into the weights."""
    with explained(folder, "the adapter"):
        model: Any = adapted
        return cast(nn.Module, model.merge_and_unload(safe_merge=True))


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        InputError: it is not there, or is none.
    """
    from safetensors.torch import load_file

    with explained(file, "the weights"):
        return load_file(file)


# --- details --------------------------------------------------------------------------------------


def _named(base: str, folder: Path) -> str:
    """How a base is named in a judge folder."""
    return os.path.relpath(base, folder) if os.path.isdir(base) else base


def _parted(
    network: Network, state: Mapping[str, Tensor] | None
) -> tuple[dict[str, Tensor], list[tuple[str, Tensor]]]:
    """Weights of the backbone and of the head, under the names they have there."""
    found = network.state_dict() if state is None else state
    mark = "backbone."
    backbone = {name[len(mark) :]: w for name, w in found.items() if name.startswith(mark)}
    mark = "head."
    head = [(name[len(mark) :], w) for name, w in found.items() if name.startswith(mark)]
    return backbone, head


def _save_adapter(adapted: nn.Module, state: dict[str, Tensor], named: str, folder: Path) -> None:
    """The adapter alone, its base called as in judge.yaml: no path of this machine stays in it."""
    model: Any = adapted
    configs = model.peft_config.values()
    before = [config.base_model_name_or_path for config in configs]
    card = folder / "README.md"
    keep = card.exists()
    try:
        for config in configs:
            config.base_model_name_or_path = named
        # It would ask the hub for the base's vocabulary otherwise.
        model.save_pretrained(str(folder), state_dict=state, save_embedding_layers=False)
    finally:
        for config, name in zip(configs, before, strict=True):
            config.base_model_name_or_path = name
    if not keep:
        card.unlink(missing_ok=True)
    model.get_base_model().config.save_pretrained(folder)


def _there(folder: Path, names: tuple[str, ...] | list[str]) -> None:
    for name in names:
        if not (folder / name).is_file():
            raise InputError(f"has no {name}", file=folder, mend="make or copy it anew, whole")


def _fill(head: nn.Module, file: Path) -> None:
    weights = read_tensors(file)
    fits = {name: tuple(w.shape) for name, w in head.state_dict().items()}
    found = {name: tuple(w.shape) for name, w in weights.items()}
    if fits != found:
        raise InputError("does not fit what judge.yaml says of the head", file=file)
    head.load_state_dict(weights)


__all__ = [
    "Shape",
    "add_adapter",
    "find_base",
    "load_adapter",
    "load_head",
    "load_network",
    "merged",
    "save_network",
]
