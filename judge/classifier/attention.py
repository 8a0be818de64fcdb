"""Attention within each piece of a packed row (see `judge.classifier.packing`), for all models
whose attention goes through transformers' interface.

On CUDA one kernel takes all pieces at once: that of the flash-attn package where it is installed,
else torch's own; they want half precision. Everywhere else, and in full precision, PyTorch's
attention takes piece after piece, in blocks of rows where a token does not see all before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout as drop_out
from torch.nn.functional import scaled_dot_product_attention

from judge.classifier import products
from judge.errors import ArenaJudgeError

if TYPE_CHECKING:
    from judge.classifier.packing import Layout

IMPLEMENTATION = "arena_judge_packed"
"""What models are told that their attention is called."""

# Rows that are looked at together where not all keys are seen: with more, more is masked.
_ROWS = 256
# The largest mask that is kept for the layers to come.
_KEPT = 2**20
# What some models hand on that changes attention and is not known here.
_UNKNOWN = ("position_bias", "s_aux", "cache", "head_mask")


def register() -> str:
    """Makes the attention known to transformers; its name.

    No function for masks is registered with it: transformers then makes none.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(IMPLEMENTATION, attend)
    return IMPLEMENTATION


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    layout: Layout | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """As transformers calls it: (1, heads, T, d) queries, keys and values of as many or fewer
    heads; gives (1, T, heads, d).

    A window reaches fewer than `sliding_window` tokens, to both sides where it is not causal.
    """
    if layout is None or any(others.get(name) is not None for name in _UNKNOWN):
        raise ArenaJudgeError(
            f"{type(module).__name__} cannot be packed; take the attention `padded` for this model"
        )
    if torch.is_autocast_enabled(query.device.type):
        # Rotations leave float32 behind, for which kernels of all pieces at once are not made.
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    causal = bool(getattr(module, "is_causal", False)) if is_causal is None else is_causal
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    rule = Rule(scale, causal, sliding_window, softcap, dropout)
    kernel = kernel_for(query, value, softcap, dropout)
    function = {"flash": _flash, "varlen": _varlen, "pieces": _pieces}[kernel]
    return function(query, key, value, layout, rule), None


@dataclass(frozen=True)
class Rule:
    """What a token sees, and how.

    Attributes:
        scale: of the scores.
        causal: nothing that comes after it.
        window: only what is fewer tokens away; None for all.
        softcap: scores are softcap * tanh(score / softcap); None for as they are.
        dropout: of what is seen, in training.
    """

    scale: float
    causal: bool
    window: int | None = None
    softcap: float | None = None
    dropout: float = 0.0

    @property
    def sides(self) -> tuple[int, int]:
        """How far a token sees to the left and to the right; -1 is without end."""
        left = -1 if self.window is None else self.window - 1
        return left, 0 if self.causal else left

    def plain(self, queries: int, keys: int) -> bool:
        """Whether the last of so many tokens need no mask to see so many."""
        wide = self.window is None or keys <= self.window
        return wide and self.softcap is None and (not self.causal or queries == keys)


def kernel_for(query: Tensor, value: Tensor, softcap: float | None, dropout: float) -> str:
    """`flash`, `varlen` or `pieces`: what takes such a row."""
    wide = query.shape[-1] != value.shape[-1] or query.shape[-1] > 256 or query.shape[-1] % 8
    if query.device.type != "cuda" or query.dtype not in (torch.float16, torch.bfloat16) or wide:
        return "pieces"
    if not _ampere(query.device.index or 0):
        return "pieces"
    if _flash_attn() is not None:
        return "flash"
    if softcap is None and not dropout and _torch_varlen() is not None:
        return "varlen"
    return "pieces"


# --- piece after piece ----------------------------------------------------------------------------


def _pieces(query: Tensor, key: Tensor, value: Tensor, layout: Layout, rule: Rule) -> Tensor:
    """What each piece sees of itself and of what it continues."""
    longest = max(layout.lengths)
    alone = max(layout.parents) < 0 and not rule.causal and rule.plain(longest, longest)
    if alone and products.takes(query, key, dropout=rule.dropout, lengths=layout.lengths):
        return products.attended(query, key, value, layout.lengths, rule.scale, rule.dropout)
    starts = layout.starts
    outputs = []
    for number, parent in enumerate(layout.parents):
        own = slice(starts[number], starts[number + 1])
        q, k, v = query[:, :, own], key[:, :, own], value[:, :, own]
        if parent >= 0:
            before = slice(starts[parent], starts[parent + 1])
            k = torch.cat([key[:, :, before], k], dim=2)
            v = torch.cat([value[:, :, before], v], dim=2)
        if rule.plain(q.shape[2], k.shape[2]):
            seen = _attended(q, k, v, rule, None, rule.causal)
        else:
            seen = _in_blocks(q, k, v, layout, rule)
        outputs.append(seen.transpose(1, 2))
    return torch.cat(outputs, dim=1)


def _in_blocks(q: Tensor, k: Tensor, v: Tensor, layout: Layout, rule: Rule) -> Tensor:
    """Rows by the block, each before the keys that it can see and no others."""
    queries, keys = q.shape[2], k.shape[2]
    outputs = []
    for start in range(0, queries, _ROWS):
        stop = min(start + _ROWS, queries)
        first, last = keys - queries + start, keys - queries + stop
        low = 0 if rule.window is None else max(0, first - rule.window + 1)
        high = keys if rule.window is None else min(keys, last + rule.window - 1)
        high = last if rule.causal else high
        mask = _mask(layout, stop - start, high - low, first - low, rule, q.device)
        function = _attended if rule.softcap is None else _capped
        seen = slice(low, high)
        outputs.append(function(q[:, :, start:stop], k[:, :, seen], v[:, :, seen], rule, mask))
    return torch.cat(outputs, dim=2)


def _mask(
    layout: Layout, rows: int, keys: int, first: int, rule: Rule, device: torch.device
) -> Tensor:
    """(rows, keys): what tokens from the place `first` on may see; small ones are made once for all
    layers and pieces alike."""
    name = (rows, keys, first, rule.causal, rule.window, device)
    found = layout.kept.get(name)
    if found is None:
        places = torch.arange(first, first + rows, device=device)
        ahead = places[:, None] - torch.arange(keys, device=device)[None, :]
        found = ahead >= 0 if rule.causal else torch.ones_like(ahead, dtype=torch.bool)
        if rule.window is not None:
            found = found & (ahead.abs() < rule.window)
        if found.numel() <= _KEPT:
            layout.kept[name] = found
    return found


def _attended(
    q: Tensor, k: Tensor, v: Tensor, rule: Rule, mask: Tensor | None, causal: bool = False
) -> Tensor:
    return scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=mask,
        dropout_p=rule.dropout,
        is_causal=causal,
        scale=rule.scale,
        enable_gqa=k.shape[1] != q.shape[1],
    )


def _capped(q: Tensor, k: Tensor, v: Tensor, rule: Rule, mask: Tensor) -> Tensor:
    """Attention with capped scores (Gemma 2's report, section 2)."""
    assert rule.softcap is not None
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = torch.matmul(q, k.transpose(2, 3)) * (rule.scale / rule.softcap)
    scores = (torch.tanh(scores) * rule.softcap).masked_fill(~mask, -torch.inf)
    shares = torch.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype)
    if rule.dropout:
        shares = drop_out(shares, rule.dropout)
    return torch.matmul(shares, v)


# --- all pieces at once ---------------------------------------------------------------------------


def _rows(query: Tensor, key: Tensor, value: Tensor, layout: Layout) -> tuple[Tensor, ...]:
    """(T, heads, d) queries, the keys and values they see, and where each piece ends in both."""
    q, k, v = (one[0].transpose(0, 1) for one in (query, key, value))
    device = query.device
    if layout.seen is not None:
        name: tuple[object, ...] = ("seen", device)
        if name not in layout.kept:
            layout.kept[name] = torch.from_numpy(layout.seen).to(device)
        k, v = k[layout.kept[name]], v[layout.kept[name]]
    ends = []
    for what, lengths in (("queries", layout.lengths), ("keys", layout.reach)):
        name = (what, device)
        if name not in layout.kept:
            counts = torch.tensor([0, *lengths], dtype=torch.int32)
            layout.kept[name] = counts.cumsum(0, dtype=torch.int32).to(device)
        ends.append(layout.kept[name])
    return q, k, v, *ends


def _flash(query: Tensor, key: Tensor, value: Tensor, layout: Layout, rule: Rule) -> Tensor:
    q, k, v, ends, seen = _rows(query, key, value, layout)
    function = _flash_attn()
    assert function is not None
    output: Tensor = function(
        q,
        k,
        v,
        ends,
        seen,
        max(layout.lengths),
        max(layout.reach),
        dropout_p=rule.dropout,
        softmax_scale=rule.scale,
        causal=rule.causal,
        window_size=rule.sides,
        softcap=rule.softcap or 0.0,
    )
    return output[None]


def _varlen(query: Tensor, key: Tensor, value: Tensor, layout: Layout, rule: Rule) -> Tensor:
    q, k, v, ends, seen = _rows(query, key, value, layout)
    function = _torch_varlen()
    assert function is not None
    output: Tensor = function(
        q,
        k,
        v,
        ends,
        seen,
        max(layout.lengths),
        max(layout.reach),
        scale=rule.scale,
        window_size=rule.sides,
        enable_gqa=k.shape[1] != q.shape[1],
    )
    return output[None]


@cache
def _ampere(index: int) -> bool:
    return torch.cuda.get_device_capability(index)[0] >= 8


@cache
def _flash_attn() -> Any:
    try:
        return import_module("flash_attn").flash_attn_varlen_func
    except (ImportError, OSError, AttributeError):  # there is none, or it is for another torch
        return None


@cache
def _torch_varlen() -> Any:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    from inspect import signature

    known = signature(varlen_attn).parameters
    return varlen_attn if {"scale", "window_size", "enable_gqa"} <= set(known) else None
