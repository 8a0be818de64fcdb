"""A LoRA adapter's folder, looked at before vLLM is started with it.

vLLM takes an adapter of another model without a word where names or sizes happen to go in: it
copies a small matrix into the corner of a large one and passes over layers that the model has not,
and the replies are those of some other model, or of the base. So what the files themselves say is
held against the model's configuration here, which needs no package.
"""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

from judge.errors import ArenaJudgeError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
LONGEST_RANK = 512
"""The largest rank that vLLM has kernels for."""

_HEADER = 100_000_000  # bytes; more is none
_LAYER = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")
# Matrices that read, or write, as many numbers as the model is wide.
_READS = ("q_proj", "k_proj", "v_proj", "qkv_proj", "gate_proj", "up_proj", "gate_up_proj")
_WRITES = ("o_proj", "down_proj")


def find_adapter(adapter: str | Path, model: str | Path | None = None) -> str:
    """A LoRA adapter's folder, absolute.

    Args:
        adapter: the folder, in peft's format.
        model: the folder of the model that it is for, or its name on the hub, of which nothing is
            known here.

    Raises:
        ArenaJudgeError: it is none, is damaged, is of a kind that vLLM does not run, or is another
            model's.
    """
    folder = Path(adapter).expanduser()
    if not (folder / CONFIG).is_file():
        raise ArenaJudgeError(f"{adapter}: no LoRA adapter, there is no {CONFIG} in it")
    said = _object(folder / CONFIG)
    if said is None:
        raise ArenaJudgeError(f"{adapter}: {CONFIG} cannot be read; copy the adapter anew")
    if said.get("peft_type", "LORA") != "LORA":
        raise ArenaJudgeError(f"{adapter}: an adapter of the kind {said['peft_type']}, not LoRA")
    if said.get("use_dora"):
        raise ArenaJudgeError(
            f"{adapter}: vLLM runs no DoRA; merge it into the model, or train it without --dora"
        )
    rank = said.get("r")
    if isinstance(rank, int) and rank > LONGEST_RANK:
        raise ArenaJudgeError(
            f"{adapter}: vLLM takes adapters of rank {LONGEST_RANK} at most, not {rank}"
        )
    shapes = _shapes(folder / WEIGHTS)
    if shapes is None:
        raise ArenaJudgeError(f"{adapter}: no weights that can be read; it needs {WEIGHTS}, whole")
    settings = None if model is None else _object(Path(model) / "config.json")
    why = _unfit(shapes, settings or {})
    if why:
        raise ArenaJudgeError(f"{adapter}: an adapter of another model than {model}: {why}")
    return str(folder.resolve())


def _object(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _shapes(file: Path) -> dict[str, list[int]] | None:
    """The sizes of the tensors of a safetensors file, by name; None where it is none. The format is
    eight bytes with the header's length, the header in JSON, and the numbers."""
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > _HEADER:
                return None
            header = json.loads(opened.read(length))
            ends = [
                one["data_offsets"][1] for name, one in header.items() if name != "__metadata__"
            ]
            if file.stat().st_size < 8 + length + max(ends, default=0):
                return None
            return {name: one["shape"] for name, one in header.items() if name != "__metadata__"}
    except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError, IndexError):
        return None


def _unfit(shapes: dict[str, list[int]], model: dict[str, Any]) -> str:
    """What of an adapter cannot be the model's, in words; nothing where that is not known."""
    text = model.get("text_config")
    settings = {**model, **text} if isinstance(text, dict) else model
    width, layers = settings.get("hidden_size"), settings.get("num_hidden_layers")
    for name, shape in shapes.items():
        if re.search(r"vision|visual|audio", name):
            continue  # as wide as it likes
        if re.match(r"base_model\.model\.(layers|h|blocks|encoder)\.", name):
            return f"{name} is of one that does not write"
        found = _LAYER.search(name)
        if found and isinstance(layers, int) and int(found[1]) >= layers:
            return f"it has a layer {int(found[1])}, and the model {layers} from 0 on"
        module, _, side = name.removesuffix(".weight").rpartition(".")
        last = module.rpartition(".")[2]
        # A is (rank, read), B is (written, rank).
        size = None
        if side == "lora_A" and last in _READS:
            size = shape[-1]
        elif side == "lora_B" and last in _WRITES:
            size = shape[0]
        if size is not None and isinstance(width, int) and size != width:
            return f"{last} is for {size} numbers, and the model is {width} wide"
    return ""
