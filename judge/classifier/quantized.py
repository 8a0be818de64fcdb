"""Weights in 8 or 4 bits: how they lie in a judge folder, and layers that compute with them.

    config = load_config(folder)
    scheme = scheme_of(config, folder)            # None: weights as usual
    model = load_quantized(folder, config, scheme, dtype=torch.float32, device="cpu")

A matrix is whole numbers times scales, one scale a row and group of columns. It lies in safetensors
as vLLM and transformers read it by the name of compressed-tensors: whole numbers packed into words
of 32 bits (`pack-quantized`), or as bytes where activations are rounded too (`int-quantized`).

On a processor the weights are multiplied out once, so that nothing is slower than before; a GPU
keeps them small and multiplies them out layer by layer. Either way they are the same numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from judge.classifier import families
from judge.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

METHOD = "compressed-tensors"
PACKED, BYTES = "pack-quantized", "int-quantized"
_WORDS, _SCALES, _SHAPE = "weight_packed", "weight_scale", "weight_shape"
_INDEX, _WEIGHTS = "model.safetensors.index.json", "model.safetensors"
_MEND = "quantise the judge anew"
# Rows that GPUs want at least for products of bytes.
_ROWS = 32


@dataclass(frozen=True)
class Scheme:
    """How the weights of a model are kept.

    Attributes:
        bits: 8 or 4 of a weight.
        activations: whether what is multiplied with them is rounded to 8 bits as well, each token
            by its own scale.
    """

    bits: int
    activations: bool = False

    @property
    def format(self) -> str:
        """What compressed-tensors calls it."""
        return BYTES if self.activations else PACKED

    @property
    def words(self) -> str:
        """In short, for tables."""
        return f"W{self.bits}A{8 if self.activations else 16}"


@dataclass(frozen=True)
class Codes:
    """A matrix in few bits.

    Attributes:
        values: (out, in) int8: from -128 to 127, or from -8 to 7.
        scales: (out, groups) what they are multiplied with, of as many columns side by side each.
        bits: of a value.
    """

    values: Tensor
    scales: Tensor
    bits: int

    @property
    def group(self) -> int:
        """Columns that share a scale."""
        return int(self.values.shape[1] // self.scales.shape[1])

    def dense(self, dtype: torch.dtype) -> Tensor:
        """(out, in) the matrix."""
        return multiplied_out(self.values, self.scales, dtype)

    def to_tensors(self, name: str, scheme: Scheme) -> dict[str, Tensor]:
        """What lies in a file in place of the weight of the layer `name`."""
        scales = self.scales.to(torch.bfloat16).contiguous()
        if scheme.activations:
            return {f"{name}.weight": self.values.contiguous(), f"{name}.{_SCALES}": scales}
        return {
            f"{name}.{_WORDS}": packed(self.values, self.bits),
            f"{name}.{_SCALES}": scales,
            f"{name}.{_SHAPE}": torch.tensor(self.values.shape, dtype=torch.int64),
        }


def multiplied_out(values: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """(out, in) `values` times (out, groups) `scales`."""
    rows, columns = values.shape
    parts = values.float().view(rows, scales.shape[1], -1) * scales.float()[..., None]
    return parts.view(rows, columns).to(dtype)


def packed(values: Tensor, bits: int) -> Tensor:
    """(out, words) int32 of (out, in) whole numbers; the first in the lowest bits, each with half
    of what the bits can count added to it."""
    each = 32 // bits
    raised = values.to(torch.int64) + 2 ** (bits - 1)
    raised = pad(raised, (0, -raised.shape[1] % each)).view(len(values), -1, each)
    words = (raised << (torch.arange(each, device=values.device) * bits)).sum(-1)
    # Words above 2^31 are written as negative numbers.
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def unpacked(words: Tensor, bits: int, columns: int) -> Tensor:
    """(out, columns) int8 of (out, words): the inverse of `packed`."""
    places = torch.arange(32 // bits, device=words.device, dtype=torch.int32) * bits
    values: Tensor = ((words[..., None] >> places) & (2**bits - 1)) - 2 ** (bits - 1)
    return values.to(torch.int8).view(len(words), -1)[:, :columns]


# --- layers ---------------------------------------------------------------------------------------


class PackedLinear(nn.Module):
    """What `nn.Linear` computes, its weight kept in few bits and multiplied out when it is called.

    Args:
        codes: the weight.
        bias: as of the linear layer.
    """

    def __init__(self, codes: Codes, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.out_features, self.in_features = codes.values.shape
        self.bits, self.bias = codes.bits, bias
        self.register_buffer("words", packed(codes.values, codes.bits), persistent=False)
        self.register_buffer("scales", codes.scales, persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """(..., out) of (..., in)."""
        words, scales = cast(Tensor, self.words), cast(Tensor, self.scales)
        values = unpacked(words, self.bits, int(self.in_features))
        return linear(rows, multiplied_out(values, scales, rows.dtype), self.bias)


class ByteLinear(nn.Module):
    """A linear layer that multiplies bytes: each token's row is rounded to 8 bits by a scale of its
    own, so that what stands beside it in a batch does not matter.

    Args:
        codes: the weight, in 8 bits and with one scale a row.
        bias: as of the linear layer.
    """

    def __init__(self, codes: Codes, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.out_features, self.in_features = codes.values.shape
        self.bias = bias
        self.register_buffer("values", codes.values.contiguous(), persistent=False)
        self.register_buffer("scales", codes.scales.float().reshape(1, -1), persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """(..., out) of (..., in)."""
        values, scales = cast(Tensor, self.values), cast(Tensor, self.scales)
        flat = rows.reshape(-1, rows.shape[-1]).float()
        own = flat.abs().amax(-1, keepdim=True).clamp_min(1e-10) / 127
        codes = (flat / own).round().clamp(-127, 127).to(torch.int8)
        count = len(codes)
        if rows.device.type == "cuda":  # its kernel wants rows by the eight, and enough of them
            more = -count % 8 if count >= _ROWS else _ROWS - count
            codes = pad(codes, (0, 0, 0, more))
        product: Tensor = torch._int_mm(codes, values.t())[:count]
        found = product.float() * own * scales
        if self.bias is not None:
            found = found + self.bias.float()
        return found.to(rows.dtype).view(*rows.shape[:-1], -1)


# --- to and from configurations -------------------------------------------------------------------


def settings_of(scheme: Scheme, codes: Mapping[str, Codes], kept: Iterable[str]) -> dict[str, Any]:
    """What config.json says of a model's weights.

    Args:
        scheme: how they are kept.
        codes: of each layer in few bits, by its name.
        kept: the linear layers that are as they were.
    """
    groups: dict[int | None, list[str]] = {}
    for name, one in codes.items():
        whole = one.scales.shape[1] == 1
        groups.setdefault(None if whole else one.group, []).append(name)
    stated = {}
    for number, (size, names) in enumerate(groups.items()):
        targets = ["Linear"] if len(groups) == 1 else sorted({_pattern(name) for name in names})
        stated[f"group_{number}"] = _stated(scheme, size, targets)
    return {
        "quant_method": METHOD,
        "format": scheme.format,
        "quantization_status": "compressed",
        "config_groups": stated,
        "ignore": sorted(kept),
        "kv_cache_scheme": None,
    }


def scheme_of(config: Any, file: str | Path) -> Scheme | None:
    """How the weights that a configuration is of are kept, if in few bits and in a way that is read
    here; None otherwise.

    Raises:
        InputError: it contradicts itself.
    """
    said = getattr(config, "quantization_config", None)
    said = said if isinstance(said, Mapping) or said is None else said.to_dict()
    if said is None or said.get("quant_method") != METHOD:
        return None
    if said.get("format") not in (PACKED, BYTES):
        return None
    groups = said.get("config_groups")
    stated = list(groups.values()) if isinstance(groups, Mapping) else []
    bits = {_bits(one) for one in stated}
    if len(bits) != 1 or not bits <= {4, 8}:
        raise InputError("config.json has a quantisation that cannot be", file=file, mend=_MEND)
    return Scheme(int(bits.pop() or 0), activations=said["format"] == BYTES)


def _bits(group: object) -> int | None:
    weights = group.get("weights") if isinstance(group, Mapping) else None
    bits = weights.get("num_bits") if isinstance(weights, Mapping) else None
    return bits if isinstance(bits, int) and not isinstance(bits, bool) else None


def _stated(scheme: Scheme, size: int | None, targets: list[str]) -> dict[str, Any]:
    number = {"type": "int", "symmetric": True}
    weights = number | {
        "num_bits": scheme.bits,
        "strategy": "channel" if size is None else "group",
        "group_size": size,
        "dynamic": False,
    }
    inputs = number | {"num_bits": 8, "strategy": "token", "dynamic": True}
    return {
        "targets": targets,
        "weights": weights,
        "input_activations": inputs if scheme.activations else None,
        "output_activations": None,
        "format": scheme.format,
    }


def _pattern(name: str) -> str:
    """What layers of this name are called, whatever the number of theirs."""
    parts = [r"\d+" if part.isdigit() else part for part in name.split(".")]
    return r"re:(.*\.)?" + r"\.".join(parts) + "$"


# --- loading --------------------------------------------------------------------------------------


def load_quantized(
    base: str | Path,
    config: Any,
    scheme: Scheme,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    attention: str | None = None,
) -> PreTrainedModel:
    """The part of a model that reads text, its weights as they were kept, on a device.

    Args:
        base: its folder.
        config: what its config.json says.
        scheme: see `scheme_of`.
        dtype: what is computed in.
        attention: what transformers is told of it.

    Raises:
        ArenaJudgeError: something is missing, damaged or does not fit together.
    """
    from transformers import AutoModel

    folder = Path(base)
    codes, rest = read_codes(folder, scheme)
    bare = deepcopy(config)
    if hasattr(bare, "quantization_config"):
        del bare.quantization_config
    options: dict[str, Any] = {} if attention is None else {"attn_implementation": attention}
    made: Any = AutoModel
    with torch.random.fork_rng(devices=[]):  # it draws weights, which are all replaced
        part = families.text_part(made.from_config(bare, dtype=dtype, **options))
    small = scheme.activations or torch.device(device).type != "cpu"
    layers = dict(part.named_modules())
    for name, one in codes.items():
        layer = layers.get(name)
        if not isinstance(layer, nn.Linear) or layer.weight.shape != one.values.shape:
            raise InputError(f"has weights that the model has no place for ({name})", file=folder)
        if small:
            kind = ByteLinear if scheme.activations else PackedLinear
            above, _, last = name.rpartition(".")
            setattr(part.get_submodule(above), last, kind(one, layer.bias))
        else:
            rest[f"{name}.weight"] = one.dense(dtype)
    # What is not there, or too much, is an error.
    part.load_state_dict(rest)
    return cast("PreTrainedModel", part.to(device).eval())


def read_codes(folder: Path, scheme: Scheme) -> tuple[dict[str, Codes], dict[str, Tensor]]:
    """The layers in few bits, by name, and all other tensors of a model folder.

    Raises:
        InputError: they are not there, damaged, or not as the scheme says.
    """
    from judge.classifier.storing import read_tensors

    held: dict[str, Tensor] = {}
    for file in _files(folder):
        held |= read_tensors(file)
    names = [one.removesuffix(f".{_SCALES}") for one in held if one.endswith(f".{_SCALES}")]
    if not names:
        raise InputError("has no weights in few bits", file=folder, mend=_MEND)
    codes = {}
    for name in names:
        scales = held.pop(f"{name}.{_SCALES}")
        values = _values(name, held, scheme)
        sound = (
            values is not None
            and values.dtype == torch.int8
            and scales.ndim == 2
            and len(scales) == len(values)
            and scales.shape[1] > 0
            and values.shape[1] % scales.shape[1] == 0
            and bool(torch.isfinite(scales.float()).all())
            and (scales.shape[1] == 1 or not scheme.activations)
        )
        if not sound:
            raise InputError(f"has damaged weights ({name})", file=folder, mend=_MEND)
        codes[name] = Codes(cast(Tensor, values), scales.float(), scheme.bits)
    return codes, held


def _values(name: str, held: dict[str, Tensor], scheme: Scheme) -> Tensor | None:
    """(out, in) whole numbers; None where they are not as they should be."""
    if scheme.activations:
        found = held.pop(f"{name}.weight", None)
        return found if found is not None and found.ndim == 2 else None
    words, shape = held.pop(f"{name}.{_WORDS}", None), held.pop(f"{name}.{_SHAPE}", None)
    if words is None or shape is None or words.ndim != 2 or words.dtype != torch.int32:
        return None
    rows, columns = shape.tolist() if shape.shape == (2,) else (0, 0)
    if rows != len(words) or columns < 1 or -(-columns * scheme.bits // 32) != words.shape[1]:
        return None
    return unpacked(words, scheme.bits, columns)


def _files(folder: Path) -> list[Path]:
    if (folder / _WEIGHTS).is_file():
        return [folder / _WEIGHTS]
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        names = sorted({Path(name).name for name in index["weight_map"].values()})
    except FileNotFoundError:
        raise InputError(f"has no {_WEIGHTS}", file=folder, mend="copy it anew, whole") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"cannot be read ({error})", file=folder / _INDEX) from None
    return [folder / name for name in names]
