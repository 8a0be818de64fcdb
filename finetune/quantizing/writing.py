"""What lies in the folder of a judge in few bits: its model, its head, and what judge.yaml says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.quantizing.settings import Quantized, Settings
from finetune.weights.folders import JudgeFolder, named_from
from judge.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from finetune.quantizing.loading import Loaded
    from finetune.quantizing.rounding import Way
    from judge.classifier.quantized import Codes

MODEL = "model"


def save_model(
    model: nn.Module,
    tokenizer: Any,
    codes: Mapping[str, Codes],
    way: Way,
    kept: list[str],
    half: torch.dtype,
    folder: Path,
) -> None:
    """A model in few bits as transformers and vLLM read it, with its tokenizer.

    Args:
        model: with the weights that are not in few bits.
        tokenizer: its tokenizer.
        codes: matrices in few bits.
        way: how they were made.
        kept: linear modules that are as they were.
        half: 16 bits that all other weights are kept in.
        folder: where to.

    Raises:
        InputError: a weight is too large for these 16 bits.
    """
    import torch

    from judge.classifier.loading import quiet
    from judge.classifier.quantized import settings_of

    state: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        layer = name.removesuffix(".weight")
        if name.endswith(".weight") and layer in codes:
            state |= codes[layer].to_tensors(layer, way.scheme)
        elif tensor.is_floating_point():
            state[name] = tensor.detach().to("cpu", half)
            if not bool(torch.isfinite(state[name]).all()):
                raise InputError(f"the model has weights too large for {half} ({name})")
        else:
            state[name] = tensor.detach().cpu()
    saved: Any = model
    with quiet():
        saved.save_pretrained(folder, state_dict=state)
        tokenizer.save_pretrained(folder)
    file = folder / "config.json"
    said = json.loads(file.read_text(encoding="utf-8"))
    said["dtype"] = str(half).removeprefix("torch.")
    said["quantization_config"] = settings_of(way.scheme, codes, kept)
    file.write_text(json.dumps(said, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def save_head(loaded: Loaded, folder: Path) -> None:
    """The head of a classifier, which stays as it is, in float32."""
    import torch
    from safetensors.torch import save_file

    from judge.classifier.storing import HEAD

    state = loaded.network.head.state_dict()
    save_file(
        {name: one.detach().to("cpu", torch.float32).contiguous() for name, one in state.items()},
        folder / HEAD,
    )


def write_recipe(
    folder: JudgeFolder,
    made: Quantized,
    settings: Settings,
    sources: dict[str, Any],
    draft: Path,
) -> None:
    """judge.yaml: what the judge's own says, and how it was quantised."""
    import yaml

    from judge.judges.recipes import FILE, made_by, plain

    said = dict(folder.settings)
    if folder.classifies:
        said |= {"base": named_from(folder.base, draft), "weights": "full"}
    else:
        said["judge"] = f"vllm:{MODEL}"
        said["asking"] = {
            name: value
            for name, value in dict(said.get("asking") or {}).items()
            if name != "adapter"
        }
    said["quantized"] = {
        "how": made.how,
        "bits": settings.bits,
        "scheme": made.scheme,
        **({"group_size": settings.group} if made.scheme.endswith("A16") else {}),
        **({"texts": made.texts, "tokens": made.tokens} if made.texts else {}),
        "seed": settings.seed,
        "of": folder.name,
        **({"calibrated_on": sources} if made.texts else {}),
        **({} if made.worth is None else {"measured": made.worth.settings()}),
        "made_by": made_by("finetune quantize"),
    }
    text = yaml.safe_dump(plain(said), sort_keys=False, allow_unicode=True, width=100)
    (draft / FILE).write_text(text, encoding="utf-8")


def bytes_of(folder: JudgeFolder) -> int:
    """Bytes of a judge's weights on the disk, its base's among them where that is a folder."""
    files = {file.resolve() for file in folder.path.rglob("*.safetensors")}
    if folder.adapted and Path(folder.base).is_dir():
        files |= {file.resolve() for file in Path(folder.base).glob("*.safetensors")}
    return sum(file.stat().st_size for file in files)
