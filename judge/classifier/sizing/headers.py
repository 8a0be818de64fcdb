"""What the headers of safetensors files say: which tensors there are and how large, no weight read.

The format: eight bytes that say how long the header is, the header as JSON, then the numbers
(https://github.com/huggingface/safetensors, README).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from judge.classifier.sizing.anatomy import Anatomy, Linear, text_settings
from judge.errors import InputError

_MOST_BYTES = 100_000_000
_BLOCK = re.compile(r"^(.*?(?:layers?|h|blocks?)\.)(\d+)\.(.+)$")
_VISION = re.compile(r"(vision|visual|image|audio|multi_modal|projector)")
_EMBEDDING = re.compile(r"(embed|wte|wpe)")
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output_projection|cls\.predictions)\.")


@dataclass(frozen=True)
class Header:
    """The tensors of a model's weights.

    Attributes:
        shapes: by name.
        types: parameters by type, such as BF16.
        bytes: of the weights on disk.
    """

    shapes: dict[str, tuple[int, ...]]
    types: dict[str, int]
    bytes: int

    @property
    def parameters(self) -> int:
        """How many, those of other senses than text included."""
        return sum(self.types.values())

    @property
    def text(self) -> int:
        """How many are of the part that reads text."""
        sizes = ((name, math.prod(shape)) for name, shape in self.shapes.items())
        return sum(size for name, size in sizes if not _VISION.search(name))


def read_headers(folder: Path) -> Header | None:
    """The headers of all safetensors files of a model; None where there are none.

    Raises:
        InputError: one is damaged, or one that the index names is not there.
    """
    index = folder / "model.safetensors.index.json"
    files = sorted(folder.glob("model*.safetensors"))
    if index.is_file():
        try:
            said = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            names = sorted({Path(str(name)).name for name in said})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise InputError("is no index of weights", file=index, mend="copy it anew") from None
        missing = [name for name in names if not (folder / name).is_file()]
        # In the hub's cache weights may be left out; then there is nothing to read.
        if missing and len(missing) < len(names):
            raise InputError(f"lacks {missing[0]}", file=folder, mend="copy it anew, whole")
        files = [] if missing else [folder / name for name in names]
    shapes: dict[str, tuple[int, ...]] = {}
    types: dict[str, int] = {}
    size = 0
    for file in files:
        for name, (kind, shape) in _header(file).items():
            shapes[name] = shape
            types[kind] = types.get(kind, 0) + math.prod(shape)
        size += file.stat().st_size
    return Header(shapes, types, size) if files else None


def _header(file: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Types and shapes by name."""
    mend = "copy it anew, whole"
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 2 <= length <= min(_MOST_BYTES, file.stat().st_size - 8):
                raise InputError("is damaged or cut off", file=file, mend=mend)
            said = json.loads(stream.read(length))
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", file=file) from None
    except (ValueError, RecursionError):
        raise InputError("is damaged", file=file, mend=mend) from None
    found = {}
    try:
        end = 0
        for name, tensor in said.items():
            if name != "__metadata__":
                shape = tuple(int(side) for side in tensor["shape"])
                found[name] = (str(tensor["dtype"]), shape)
                end = max(end, int(tensor["data_offsets"][1]))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise InputError("is damaged", file=file, mend=mend) from None
    if any(side < 0 for _, shape in found.values() for side in shape):
        raise InputError("is damaged", file=file, mend=mend)
    if file.stat().st_size < 8 + length + end:
        raise InputError("is cut off", file=file, mend=mend)
    return found


def anatomy_from(header: Header, config: Mapping[str, Any]) -> Anatomy:
    """What a model of a family that is not known is made of, by its weights.

    Raises:
        InputError: they are not laid out in blocks.
    """
    settings = text_settings(config)
    family = str(settings.get("model_type"))
    shapes = {name: shape for name, shape in header.shapes.items() if not _VISION.search(name)}
    blocks: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    for name, shape in shapes.items():
        matched = _BLOCK.match(name)
        if matched:
            blocks.setdefault(f"{matched[1]}{matched[2]}", []).append((matched[3], shape))
    if not blocks:
        raise InputError(f"the family {family} is not known, nor how its weights are laid out")
    first = max(blocks.values(), key=lambda tensors: sum(math.prod(s) for _, s in tensors))
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    embeddings = sum(n for name, n in sizes.items() if _is_embedding(name, shapes[name]))
    lm_head = sum(n for name, n in sizes.items() if _HEAD.search(name))
    linears = _linears(first)
    total = sum(sizes.values())
    hidden = _said(settings, "hidden_size", "n_embd", "d_model", "dim")
    heads = _said(settings, "num_attention_heads", "n_head", "n_heads")
    block = sum(one.parameters for one in linears)
    names = settings.get("architectures") or config.get("architectures") or [""]
    causal = "CausalLM" in str(names) or "LMHead" in str(names) or bool(lm_head)
    widest = max(max(one.inputs, one.outputs) for one in linears)
    inner = settings.get("intermediate_size")
    return Anatomy(
        family=family,
        causal=causal,
        layers=len(blocks),
        hidden=hidden,
        inner=inner if isinstance(inner, int) and inner > 0 else widest,
        heads=heads,
        kv_heads=int(settings.get("num_key_value_heads") or heads),
        head_dim=int(settings.get("head_dim") or hidden // heads),
        vocabulary=_said(settings, "vocab_size"),
        context=settings.get("max_position_embeddings"),
        linears=linears,
        gated=any("gate" in one.name for one in linears),
        norms=2,
        embeddings=embeddings,
        rest=total - embeddings - lm_head - len(blocks) * block,
        lm_head=lm_head,
        tied=not lm_head,
        dropout=not causal,
        counted="weights",
    )


def _is_embedding(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and bool(_EMBEDDING.search(name)) and not _HEAD.search(name)


def _linears(tensors: list[tuple[str, tuple[int, ...]]]) -> tuple[Linear, ...]:
    known = dict(tensors)
    found = []
    for name, shape in tensors:
        if len(shape) == 2 and name.endswith(".weight"):
            bias = f"{name.removesuffix('weight')}bias" in known
            found.append(Linear(name.removesuffix(".weight"), shape[1], shape[0], bias))
    if not found:
        raise InputError("has blocks without matrices")
    return tuple(found)


def _said(settings: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = settings.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    raise InputError(f"does not say its {names[0]}")
