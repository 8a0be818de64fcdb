"""Low-rank adapters (LoRA), through PEFT: which modules get one, by the family of the model."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from finetune.settings.config import LoraConfig
from judge.classifier.families import family_of, is_causal
from judge.classifier.hardware import needed
from judge.errors import InputError

_LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_BERT = ("query", "key", "value", "dense")
_TARGETS = {
    "phi3": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    "phi": ("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"),
    "starcoder2": ("q_proj", "k_proj", "v_proj", "o_proj", "c_fc", "c_proj"),
    "gpt2": ("c_attn", "c_proj", "c_fc"),
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "electra": _BERT,
    "distilbert": ("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"),
    "deberta-v2": ("query_proj", "key_proj", "value_proj", "dense"),
    "modernbert": ("Wqkv", "Wo", "Wi"),
    "mpnet": ("q", "k", "v", "o", "dense"),
}
_NUMBER = re.compile(r"(?:^|\.)(layers?|h|blocks?)\.(\d+)\.")


def targets_of(model: nn.Module, config: LoraConfig) -> tuple[str, ...]:
    """The last names of the modules that get an adapter.

    Raises:
        InputError: a name that was asked for is no module's.
    """
    layers = _matrices(model)
    last = {name.rpartition(".")[2] for name in layers}
    if config.targets:
        unknown = [name for name in config.targets if name not in last]
        if unknown:
            raise InputError(
                f"the model has no modules called {unknown[0]} to adapt",
                mend=f"it has {', '.join(sorted(last))}",
            )
        return config.targets
    known = _TARGETS.get(family_of(cast(Any, model).config), _LLAMA)
    found = tuple(name for name in known if name in last)
    return found or tuple(sorted(last))


def adapted(model: nn.Module, config: LoraConfig, *, seed: int) -> nn.Module:
    """The model with new adapters, which do nothing yet; its own weights learn no more.

    Raises:
        InputError: the config fits the model not.
    """
    needed("peft")
    import torch
    from peft import LoraConfig as Settings
    from peft import get_peft_model

    more: dict[str, Any] = {}
    pattern, layers = _layers(model)
    if config.skip_layers:
        if config.skip_layers >= layers:
            raise InputError(f"the model has {layers} layers, and {config.skip_layers} are skipped")
        more = {
            "layers_to_transform": list(range(config.skip_layers, layers)),
            "layers_pattern": pattern,
        }
    settings = Settings(
        r=config.r,
        lora_alpha=config.alpha,  # type: ignore[arg-type]
        lora_dropout=config.dropout,
        target_modules=list(targets_of(model, config)),
        use_rslora=config.rslora,
        use_dora=config.dora,
        task_type="CAUSAL_LM" if _writes(model) else None,
        **more,
    )
    with torch.random.fork_rng(devices=[]), _calm():
        torch.manual_seed(seed)  # of their first weights
        return cast(nn.Module, get_peft_model(cast(Any, model), settings))


def adapted_from(model: nn.Module, folder: Path) -> nn.Module:
    """The model with the adapter in a folder, to go on training it; made for this model with
    whatever head.

    Raises:
        InputError: it is damaged, of another kind, or does not fit.
    """
    needed("peft")
    from peft import LoraConfig as Settings
    from peft import get_peft_model, set_peft_model_state_dict

    from judge.classifier.loading import explained
    from judge.classifier.storing import read_tensors

    with explained(folder, "the adapter"):
        settings = Settings.from_pretrained(str(folder))
        if str(settings.peft_type).rpartition(".")[2] != "LORA":
            raise InputError("has an adapter that is no LoRA", file=folder)
        settings.modules_to_save, settings.inference_mode = None, False
        settings.base_model_name_or_path = None  # peft would speak of every path that is another
        settings.task_type = "CAUSAL_LM" if _writes(model) else None
        with _calm():
            made = cast(nn.Module, get_peft_model(cast(Any, model), settings))
    held = read_tensors(folder / "adapter_model.safetensors")
    from peft import get_peft_model_state_dict

    wanted = list(get_peft_model_state_dict(cast(Any, made)))
    fitting = _renamed(held, wanted)
    missing = [name for name in wanted if name not in fitting]
    if missing:
        raise InputError(f"has an adapter for another model: it lacks {missing[0]}", file=folder)
    with explained(folder, "the adapter"):
        set_peft_model_state_dict(cast(Any, made), fitting)
    return made


@contextmanager
def _calm() -> Iterator[None]:
    """Without what peft and transformers have to say to each other of coming versions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _renamed(held: dict[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
    """Tensors under the names they have here: a model within another has one more name before."""
    found = {}
    short = {_bare(name): tensor for name, tensor in held.items()}
    for name in wanted:
        if _bare(name) in short:
            found[name] = short[_bare(name)]
    return found


def _bare(name: str) -> str:
    """A tensor's name from its layer on."""
    match = _NUMBER.search(name)
    return name[match.start() :].lstrip(".") if match else name


def by_default(base: str) -> bool:
    """Whether a model is adapted where nothing is said: large ones are causal.

    Raises:
        ArenaJudgeError: it cannot be had.
    """
    import torch
    from transformers import AutoModel

    from judge.classifier.loading import explained, load_config, quiet

    config = load_config(base)
    with explained(base, "the model"), quiet(), torch.device("meta"):
        return is_causal(AutoModel.from_config(config))  # type: ignore[no-untyped-call]


def _matrices(model: nn.Module) -> list[str]:
    """The modules within layers that an adapter can be beside."""
    kinds = ("Linear", "Conv1D", "Linear8bitLt", "Linear4bit")
    return [
        name
        for name, one in model.named_modules()
        if type(one).__name__ in kinds and _NUMBER.search(name)
    ]


def _layers(model: nn.Module) -> tuple[str, int]:
    """What a model's layers are called, and how many there are."""
    found = [match for match in map(_NUMBER.search, _matrices(model)) if match]
    if not found:
        raise InputError("the model has no layers that an adapter can be beside")
    return found[0].group(1), 1 + max(int(match.group(2)) for match in found)


def _writes(model: nn.Module) -> bool:
    """Whether a model writes text, and is no backbone alone."""
    return getattr(model, "lm_head", None) is not None
