"""Attention within each piece of a packed row (see `judge.classifier.packing`), for all models
whose attention goes through transformers' interface.

On CUDA one kernel takes all pieces at once: that of the flash-attn package where it is installed,
else torch's own; they want half precision. Everywhere else, and in full precision, PyTorch's
attention takes piece after piece. Scores that are capped (Gemma 2) are worked out block by block.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout as drop_out
from torch.nn.functional import scaled_dot_product_attention

from judge.errors import ArenaJudgeError

if TYPE_CHECKING:
    from judge.classifier.packing import Layout

IMPLEMENTATION = "arena_judge_packed"
"""What models are told that their attention is called."""

# Rows of scores that are held at once where they are capped.
_ROWS = 512
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
    kernel = kernel_for(query, value, softcap, dropout)
    if kernel == "flash":
        window = _window(causal, sliding_window)
        return _flash(query, key, value, layout, scale, window, softcap, dropout), None
    if kernel == "varlen":
        return _varlen(query, key, value, layout, scale, _window(causal, sliding_window)), None
    return (
        _pieces(query, key, value, layout, scale, causal, sliding_window, softcap, dropout),
        None,
    )


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


def _pieces(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    scale: float,
    causal: bool,
    window: int | None,
    softcap: float | None,
    dropout: float,
) -> Tensor:
    """What each piece sees of itself and of what it continues."""
    starts = layout.starts
    outputs = []
    for number, parent in enumerate(layout.parents):
        own = slice(starts[number], starts[number + 1])
        q, k, v = query[:, :, own], key[:, :, own], value[:, :, own]
        if parent >= 0:
            before = slice(starts[parent], starts[parent + 1])
            k = torch.cat([key[:, :, before], k], dim=2)
            v = torch.cat([value[:, :, before], v], dim=2)
        if softcap is not None:
            seen = _capped(q, k, v, scale, causal, window, softcap, dropout)
        else:
            mask, plain = _mask(layout, q.shape[2], k.shape[2], causal, window, query.device)
            seen = scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=mask,
                dropout_p=dropout,
                is_causal=plain,
                scale=scale,
                enable_gqa=k.shape[1] != q.shape[1],
            )
        outputs.append(seen.transpose(1, 2))
    return torch.cat(outputs, dim=1)


def _mask(
    layout: Layout,
    queries: int,
    keys: int,
    causal: bool,
    window: int | None,
    device: torch.device,
) -> tuple[Tensor | None, bool]:
    """The mask of one piece, or None and whether it is the plain causal one."""
    narrow = window is not None and keys > window
    if not narrow and (not causal or queries == keys):
        return None, causal
    # A queries-by-keys mask that hangs on these alone, made once for all layers.
    name = ("mask", queries, keys, causal, window if narrow else None, device)
    if name not in layout.kept:
        rows = torch.arange(keys - queries, keys, device=device)
        layout.kept[name] = _allowed(rows, keys, causal, window if narrow else None)
    return layout.kept[name], False


def _allowed(rows: Tensor, keys: int, causal: bool, window: int | None) -> Tensor:
    """(len(rows), keys): what tokens at these places may see."""
    ahead = rows[:, None] - torch.arange(keys, device=rows.device)[None, :]
    allowed = ahead >= 0 if causal else torch.ones_like(ahead, dtype=torch.bool)
    if window is not None:
        allowed = allowed & (ahead.abs() < window)
    return allowed


def _capped(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    causal: bool,
    window: int | None,
    softcap: float,
    dropout: float,
) -> Tensor:
    """Attention whose scores are softcap * tanh(score / softcap) (Gemma 2's report, section 2)."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    keys, queries = key.shape[2], query.shape[2]
    blocks = []
    for start in range(0, queries, _ROWS):
        block = query[:, :, start : start + _ROWS]
        scores = torch.matmul(block, key.transpose(2, 3)) * scale
        scores = torch.tanh(scores / softcap) * softcap
        first = keys - queries + start
        rows = torch.arange(first, first + block.shape[2], device=query.device)
        scores = scores.masked_fill(~_allowed(rows, keys, causal, window), -torch.inf)
        shares = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
        if dropout:
            shares = drop_out(shares, dropout)
        blocks.append(torch.matmul(shares, value))
    return torch.cat(blocks, dim=2)


# --- all pieces at once ---------------------------------------------------------------------------


def _window(causal: bool, window: int | None) -> tuple[int, int]:
    """How far a token sees to the left and to the right; -1 is without end."""
    left = -1 if window is None else window - 1
    return left, 0 if causal else left


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


def _flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    scale: float,
    window: tuple[int, int],
    softcap: float | None,
    dropout: float,
) -> Tensor:
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
        dropout_p=dropout,
        softmax_scale=scale,
        causal=window[1] == 0,
        window_size=window,
        softcap=softcap or 0.0,
    )
    return output[None]


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    scale: float,
    window: tuple[int, int],
) -> Tensor:
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
        scale=scale,
        window_size=window,
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
