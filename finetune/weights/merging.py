"""An adapter worked into its base: a judge folder that holds all its weights.

Each matrix is added up in float32, whatever base and result are kept in, and rounded once.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from finetune.weights.folders import JudgeFolder
from judge.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

DTYPES = ("float32", "bfloat16", "float16")
MODEL = "model"


@dataclass(frozen=True)
class Merged:
    """A judge that was merged.

    Attributes:
        folder: where it is.
        dtype: of its weights.
        matrices: how many had a change added.
        parameters: of the network.
        bytes: of the folder's files.
    """

    folder: Path
    dtype: str
    matrices: int
    parameters: int
    bytes: int


def merge(judge: JudgeFolder, target: Path, *, dtype: str, name: str | None = None) -> Merged:
    """Writes the judge folder of a merged judge, whole or not at all.

    Args:
        judge: with an adapter; of one without, only the numbers change.
        target: the folder.
        dtype: one of `DTYPES`.
        name: what the judge is called in tables; None for what it was called.

    Raises:
        ArenaJudgeError: the base or the adapter cannot be had, or the numbers cannot hold it.
    """
    import yaml

    from judge.files.folders import written_folder
    from judge.judges.recipes import FILE, plain

    with written_folder(target) as folder:
        write = _write_classifier if judge.classifies else _write_writer
        settings, matrices, parameters = write(judge, folder, dtype)
        settings |= _about(judge, dtype) | ({} if name is None else {"name": name})
        text = yaml.safe_dump(plain(settings), sort_keys=False, allow_unicode=True, width=100)
        (folder / FILE).write_text(text, encoding="utf-8")
        for file in _kept(judge):
            shutil.copyfile(file, folder / file.name)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return Merged(target, dtype, matrices, parameters, size)


def _write_classifier(
    judge: JudgeFolder, folder: Path, dtype: str
) -> tuple[dict[str, Any], int, int]:
    """The network; what judge.yaml says of it, how many matrices were changed, and its size."""
    import torch

    from judge.classifier.storing import load_network, save_network

    source = judge.base if judge.adapted else str(judge.weights)
    network, tokenizer = load_network(
        judge.path, judge.settings, dtype=_held_in(source, dtype), merge=False
    )
    matrices = 0
    if judge.adapted:
        network.backbone, matrices = worked_in(network.backbone)
    _rounded(network.backbone, getattr(torch, dtype), judge)
    network.with_shape(base=judge.base)
    settings = dict(judge.settings) | save_network(network, tokenizer, folder)
    return settings, matrices, sum(one.numel() for one in network.parameters())


def _write_writer(judge: JudgeFolder, folder: Path, dtype: str) -> tuple[dict[str, Any], int, int]:
    """The same of a judge that writes ballots."""
    import torch

    from judge.classifier.loading import explained, load_tokenizer, loading_options, quiet
    from judge.classifier.storing import load_adapter

    source = judge.base if judge.adapted else str(judge.weights)
    options = loading_options(_held_in(source, dtype), "cpu", packed=False, quantize=None)
    from transformers import AutoModelForCausalLM

    with explained(source, "the model"), quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(source, **options)
    matrices = 0
    if judge.adapted:
        model, matrices = worked_in(load_adapter(model, judge.weights))
    _rounded(model, getattr(torch, dtype), judge)
    with quiet():
        model.save_pretrained(folder / MODEL)
        cast(Any, load_tokenizer(source)).save_pretrained(folder / MODEL)
    settings = dict(judge.settings) | {"judge": f"vllm:{MODEL}"}
    asking = settings.get("asking")
    kept = dict(asking) if isinstance(asking, Mapping) else {}
    kept.pop("adapter", None)
    return (
        settings | {"asking": kept},
        matrices,
        sum(one.numel() for one in model.parameters()),
    )


def worked_in(adapted: nn.Module) -> tuple[nn.Module, int]:
    """A model with its adapter worked into its weights, each added up in float32, and how many
    matrices that changed."""
    import torch
    from peft.tuners.lora import LoraLayer

    changed = 0
    with torch.no_grad():
        for part in adapted.modules():
            if not isinstance(part, LoraLayer):
                continue
            layer: Any = part
            held = layer.get_base_layer().weight
            before = held.dtype
            held.data = held.data.float()
            layer.merge(safe_merge=True)
            held = layer.get_base_layer().weight
            held.data = held.data.to(before)
            changed += 1
    model: Any = adapted
    return cast("nn.Module", model.unload()), changed


def _held_in(base: str, dtype: str) -> torch.dtype:
    """What a model is loaded in: as it is kept, where that is what is written, so that it takes no
    more memory than it has to; else float32, which holds both."""
    import torch

    from judge.classifier.families import text_config
    from judge.classifier.loading import load_config

    stored = getattr(text_config(load_config(base)), "dtype", None)
    wanted: torch.dtype = getattr(torch, dtype)
    return wanted if stored in (wanted, dtype) else torch.float32


def _rounded(model: nn.Module, dtype: torch.dtype, judge: JudgeFolder) -> None:
    """Has the weights in a dtype.

    Raises:
        InputError: it cannot hold them.
    """
    import torch

    most = torch.finfo(dtype).max
    for name, weight in model.named_parameters():
        if float(weight.detach().abs().max()) > most:
            raise InputError(
                f"has weights beyond what {str(dtype).removeprefix('torch.')} holds ({name})",
                file=judge.path,
                mend="take --dtype bfloat16",
            )
    model.to(dtype)


def _about(judge: JudgeFolder, dtype: str) -> dict[str, Any]:
    """How it was made: by merging, of what was made before."""
    from importlib.metadata import version

    from judge.judges.recipes import made_by

    by = made_by("finetune merge", dtype=dtype, judge=judge.name)
    versions = by["versions"]
    assert isinstance(versions, dict)
    names = ("torch", "transformers", *(["peft"] if judge.adapted else []))
    by["versions"] = versions | {name: version(name) for name in names}
    if "made_by" in judge.settings:
        by["before"] = judge.settings["made_by"]
    return {"made_by": by}


def _kept(judge: JudgeFolder) -> list[Path]:
    """What is as true of the merged judge: what it learned from and how, and how sure it may be."""
    from finetune.settings.config import FILE as CONFIG
    from finetune.training.curves import FILE as CURVES
    from judge.comparing.leaks import FILE as SEEN
    from judge.conformal import FILE as CONFORMITY

    files = [judge.path / name for name in (CONFIG, CURVES, SEEN, CONFORMITY)]
    return [file for file in files if file.is_file()]
