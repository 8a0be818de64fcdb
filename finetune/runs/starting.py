"""What training begins with: a network from a base, or what another folder has learned already.

`--init` takes a judge folder (its head and weights, or its adapter, go on), a judge that writes
ballots (its adapter or its model goes on), a LoRA adapter of the base, or a checkpoint for
classifying sequences: of a reward model, with one label, the head's strength is the reward, so that
at first P(A) : P(B) is what its Bradley-Terry model says.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from finetune.runs import lora
from finetune.settings.config import Config
from judge.classifier.hardware import dtype_of
from judge.classifier.network import Network, build
from judge.classifier.storing import ADAPTER_CONFIG, RECIPE, find_base, load_network
from judge.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What numbers of layers are called that say how much is left out.
_DROPOUTS = ("attention_dropout", "dropout_prob", "activation_dropout")
JUDGE, ADAPTER, CHECKPOINT = "judge", "adapter", "checkpoint"


@dataclass(frozen=True)
class Start:
    """What training begins with.

    Attributes:
        network, tokenizer: what is trained; only what learns asks for gradients.
        notes: what there is to say of it.
    """

    network: Network
    tokenizer: PreTrainedTokenizerBase
    notes: tuple[str, ...] = ()


def start(config: Config, device: torch.device) -> Start:
    """The network that a config asks for.

    Raises:
        ArenaJudgeError: the base cannot be had, or what is asked for does not go together.
    """
    kind, init = (None, None) if config.model.init is None else located(Path(config.model.init))
    if init is not None and kind == JUDGE:
        made = _from_judge(config, init, device)
    else:
        made = _from_base(config, init, kind, device)
    network = made.network
    if config.model.inner_dropout is not None:
        set_dropout(network.bare, config.model.inner_dropout)
    if config.run.checkpointing:
        network.checkpoint()
    for one in network.head.parameters():
        one.requires_grad_(True)
    return made


def set_dropout(backbone: nn.Module, share: float) -> None:
    """Has a transformer's own layers, adapters aside, leave out such a share in training.

    Some layers hold it as a part of theirs, others as a number; both come from the configuration.
    """
    for name, part in backbone.named_modules():
        if "lora_" in name:
            continue
        if isinstance(part, nn.Dropout):
            part.p = share
        for held in _DROPOUTS:
            if isinstance(getattr(part, held, None), int | float):
                setattr(part, held, share)


def kind_of(folder: Path) -> str:
    """What a folder to go on from holds.

    Raises:
        InputError: nothing that can be gone on from.
    """
    if not folder.is_dir():
        raise InputError("is no folder to go on from", file=folder)
    if (folder / RECIPE).is_file():
        return JUDGE
    if (folder / ADAPTER_CONFIG).is_file():
        return ADAPTER
    if (folder / "config.json").is_file():
        return CHECKPOINT
    raise InputError(
        "holds no judge, adapter or model to go on from", file=folder, mend="name another --init"
    )


def located(folder: Path) -> tuple[str, Path]:
    """What a folder to go on from holds, and the folder in which that lies: of a judge that writes
    ballots its adapter, or its model.

    Raises:
        InputError: nothing that can be gone on from.
    """
    kind = kind_of(folder)
    if kind == JUDGE:
        from judge.judges.recipes import read_recipe

        if read_recipe(folder / RECIPE).settings["kind"] == "prompted":
            for inside, within in ((ADAPTER, ADAPTER_CONFIG), ("model", "config.json")):
                if (folder / inside / within).is_file():
                    return kind_of(folder / inside), folder / inside
    return kind, folder


def _from_judge(config: Config, folder: Path, device: torch.device) -> Start:
    """Goes on with a judge: it stays what it is, but for what can be changed."""
    from judge.judges.recipes import read_recipe

    settings = dict(read_recipe(folder / RECIPE).settings)
    if settings["kind"] != "classifier":
        raise InputError(
            f"is a judge of the kind {settings['kind']}, which learns no further so", file=folder
        )
    if "quantized" in settings:
        raise InputError(
            "has weights in few bits, which learn no more",
            file=folder,
            mend="go on with the judge that it was made of",
        )
    told = {"form": config.model.form, "head": config.model.head, "pooling": config.model.pooling}
    for name, value in told.items():
        if value is not None and value != settings.get(name):
            raise InputError(
                f"is a judge of the {name} {settings.get(name)}, and --{name} {value} is asked for",
                file=folder,
            )
    adapted = settings.get("weights") == "lora"
    quantize = config.model.quantize
    wanted = adapted or quantize is not None if config.lora.lora is None else config.lora.lora
    if quantize is not None and not wanted:
        raise InputError("weights in few bits cannot be trained", mend="add --lora")
    network, tokenizer = load_network(
        folder,
        settings,
        device=device,
        dtype=_dtype(config, device, adapted=wanted),
        quantize=quantize,
        attention=config.model.attention,
        merge=not wanted,
        trainable=adapted and wanted,
    )
    base = find_base(network.shape.base, folder) if adapted else str(folder)
    changes = {"base": base, "dropout": config.model.dropout, "policy": config.model.policy}
    if config.model.max_length is not None:
        changes["max_length"] = config.model.max_length
    network.with_shape(**changes)
    if wanted and not adapted:
        network.backbone = lora.adapted(network.backbone, config.lora, seed=config.run.seed)
    if not wanted:
        _all_learn(network.backbone)
    return Start(network, tokenizer, (f"goes on with the judge {folder}",))


def _from_base(config: Config, init: Path | None, kind: str | None, device: torch.device) -> Start:
    base = config.model.base
    notes: list[str] = []
    if kind == CHECKPOINT and base is not None:
        raise InputError(
            "holds a whole model, so it is the base itself", file=init, mend="leave out --base"
        )
    if base is None and init is not None:
        base = base_of(init) if kind == ADAPTER else str(init)
    if base is None:
        raise InputError("training begins with a model", mend="name one: --base MODEL")
    model = config.model
    form = model.form or "pair"
    head = model.head or ("symmetric" if form == "single" else "plain")
    made = {"form": form, "head": head, "pooling": model.pooling, "template": model.template}
    more = {"max_length": model.max_length, "policy": model.policy, "dropout": model.dropout}
    quantize = model.quantize
    adapts = config.lora.lora
    if adapts is None:
        adapts = kind == ADAPTER or quantize is not None or lora.by_default(base)
    if quantize is not None and not adapts:
        raise InputError("weights in few bits cannot be trained", mend="add --lora")
    network, tokenizer = build(
        base,
        **made,  # type: ignore[arg-type]
        **more,  # type: ignore[arg-type]
        width=model.width,
        dtype=_dtype(config, device, adapted=adapts),
        device=device,
        attention=model.attention,
        quantize=quantize,
        seed=config.run.seed,
    )
    if kind == CHECKPOINT and init is not None:
        notes += head_from(network, init)
    if kind == ADAPTER and init is not None:
        network.backbone = lora.adapted_from(network.backbone, init)
        notes.append(f"goes on with the adapter {init}")
        if not adapts:
            network.backbone = cast(Any, network.backbone).merge_and_unload(safe_merge=True)
    elif adapts:
        network.backbone = lora.adapted(network.backbone, config.lora, seed=config.run.seed)
    if not adapts:
        _all_learn(network.backbone)
    return Start(network, tokenizer, tuple(notes))


def _dtype(config: Config, device: torch.device, *, adapted: bool) -> torch.dtype:
    """Of weights: those that learn keep 32 bits, others what is computed in."""
    return dtype_of(config.run.dtype, device, training=True) if adapted else torch.float32


def _all_learn(backbone: nn.Module) -> None:
    for one in backbone.parameters():
        one.requires_grad_(True)


def base_of(adapter: Path) -> str:
    """The base that an adapter names: by its path from there, or as it says.

    Raises:
        InputError: it names none, or one that is not there.
    """
    try:
        said = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        base = said.get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"cannot be read ({error})", file=adapter / ADAPTER_CONFIG) from None
    if not isinstance(base, str) or not base:
        raise InputError("names no base", file=adapter / ADAPTER_CONFIG, mend="add --base MODEL")
    if (adapter / base).is_dir():
        return str(adapter / base)
    if not os.path.isdir(base) and (base.startswith(".") or base.count("/") > 1):
        raise InputError(
            f"names the base model {base}, which is not there",
            file=adapter / ADAPTER_CONFIG,
            mend="add --base MODEL",
        )
    return base


# --- heads that come along ------------------------------------------------------------------------


def head_from(network: Network, folder: Path) -> list[str]:
    """Begins with the head of a checkpoint for classifying sequences, where it is a linear one and
    ours can say the same; what was done, in words."""
    weights = _linear_head(folder)
    shape = network.shape
    if weights is None:
        # An encoder's reads what a layer of its own makes of the first token.
        return [f"the head of {folder} is left aside, and learned anew"] if _scores(folder) else []
    weight, bias = weights
    head: Any = network.head
    # What the reward is read from: a response by itself, its last token.
    alike = (shape.form, shape.head, shape.pooling) == ("single", "symmetric", "last")
    with torch.no_grad():
        if len(weight) == 1 and alike and not shape.width:
            head.strength.weight.copy_(weight)
            return [f"the head begins with the reward of {folder}"]
        if len(weight) == 3 and shape.head == "plain" and not shape.width:
            order = list(_order(folder))
            head.layers[1].weight.copy_(weight[order])
            if bias is not None:
                head.layers[1].bias.copy_(bias[order])
            return [f"the head begins with the classes of {folder}"]
    what = "a reward" if len(weight) == 1 else f"{len(weight)} classes"
    better = "; --form single would use it" if len(weight) == 1 else ""
    return [f"the head of {folder}, which gives {what}, is left aside{better}"]


def _scores(folder: Path) -> bool:
    """Whether a checkpoint is one for classifying sequences, and no model without a head."""
    from judge.classifier.loading import load_config

    names = load_config(str(folder)).architectures or []
    return any("SequenceClassification" in name for name in names)


def _linear_head(folder: Path) -> tuple[Tensor, Tensor | None] | None:
    """The weights of a head that is one matrix, as causal models have it."""
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as held:
            names = set(held.keys())
            if "score.weight" in names:
                bias = held.get_tensor("score.bias").float() if "score.bias" in names else None
                return held.get_tensor("score.weight").float(), bias
    return None


def _order(folder: Path) -> tuple[int, int, int]:
    from judge.classifier.borrowed import label_order
    from judge.classifier.loading import load_config

    return label_order(load_config(str(folder)).id2label, str(folder))
