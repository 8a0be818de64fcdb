"""Attention of short pieces on a processor, by matrix products that stay in its cache.

PyTorch's attention for processors is made for long rows: of pieces of some hundred tokens in
bfloat16, forwards and backwards, it takes two to three times as long as the plain products, done
piece by piece. And each piece that is cut out of a row costs a gradient as long as the row. So
pieces are worked through here in one function with a gradient of its own, which writes each piece
where it belongs. In float32 PyTorch's kernel is the faster one from some length on, and is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Pieces up to this length are multiplied out; longer ones take too much memory for their scores, or
# are faster with PyTorch's kernel, which forwards alone is the faster one sooner.
_MOST = {torch.bfloat16: 1024, torch.float32: 256}
_MOST_FORWARDS = 128


def takes(query: Tensor, key: Tensor, *, dropout: float, lengths: Sequence[int]) -> bool:
    """Whether pieces of these lengths, each of which sees all of itself and nothing else, are
    faster here."""
    most = _MOST.get(query.dtype)
    if most is None or query.device.type != "cpu" or query.shape[1] != key.shape[1]:
        return False
    return max(lengths) <= (most if dropout or query.dtype != torch.float32 else 2**30)


def attended(
    query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], scale: float, dropout: float
) -> Tensor:
    """(1, T, heads, d) of (1, heads, T, d) queries, keys and values of pieces that lie one after
    the other.

    Args:
        query, key, value: of all pieces.
        lengths: of each piece.
        scale: of the scores.
        dropout: share of what is seen that is left out at random.
    """
    function: Any = _Pieces
    with torch.autocast("cpu", enabled=False):
        seen: Tensor = function.apply(query[0], key[0], value[0], tuple(lengths), scale, dropout)
    return seen.transpose(0, 1)[None]


class _Pieces(torch.autograd.Function):
    """Rows of (heads, T, d), piece by piece."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        lengths: tuple[int, ...],
        scale: float,
        dropout: float,
    ) -> Tensor:
        seen = torch.empty_like(q)
        kept: list[Tensor] = []
        keeps = any(ctx.needs_input_grad[:3])
        for own in _places(lengths):
            if _by_kernel(q, own, dropout, keeps):
                piece, one = _kernel(q[None, :, own], k[None, :, own], v[None, :, own], scale)
                seen[:, own] = piece[0]
            else:
                shares = torch.softmax((q[:, own] * scale) @ k[:, own].transpose(1, 2), -1)
                one = [shares]
                if dropout:
                    left = _left(shares, dropout)
                    shares, one = shares * left, [shares, left]
                seen[:, own] = shares @ v[:, own]
            if keeps:
                kept += one
        if dropout:
            seen *= _made_up(dropout)
        ctx.save_for_backward(q, k, v, seen, *kept)
        ctx.lengths, ctx.scale, ctx.dropout = lengths, scale, dropout
        return seen

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, seen, *kept = ctx.saved_tensors
        left = iter(kept)
        if ctx.dropout:
            gradient = gradient * _made_up(ctx.dropout)
        by_q, by_k, by_v = (torch.empty_like(one) for one in (q, k, v))
        for own in _places(ctx.lengths):
            given = gradient[:, own]
            if _by_kernel(q, own, ctx.dropout, True):
                found = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                    *(one[None, :, own] for one in (gradient, q, k, v, seen)),
                    next(left),
                    0.0,
                    False,
                    scale=ctx.scale,
                )
                by_q[:, own], by_k[:, own], by_v[:, own] = (one[0] for one in found)
                continue
            shares = next(left)
            by_shares = given @ v[:, own].transpose(1, 2)
            dropped = shares
            if ctx.dropout:
                mask = next(left)
                dropped, by_shares = shares * mask, by_shares * mask
            by_v[:, own] = dropped.transpose(1, 2) @ given
            by_scores = torch._softmax_backward_data(by_shares, shares, -1, shares.dtype)
            by_q[:, own] = (by_scores @ k[:, own]) * ctx.scale
            by_k[:, own] = (by_scores.transpose(1, 2) @ q[:, own]) * ctx.scale
        return by_q, by_k, by_v, None, None, None


def _places(lengths: Sequence[int]) -> Iterator[slice]:
    start = 0
    for length in lengths:
        yield slice(start, start + length)
        start += length


def _left(shares: Tensor, dropout: float) -> Tensor:
    """1 for what stays and 0 for what is left out.

    Random numbers come one after the other on a processor, so eight are cut out of each.
    """
    drawn = torch.empty(-(-shares.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
    chance = drawn.view(torch.uint8)[: shares.numel()].view(shares.shape)
    return (chance >= _of_256(dropout)).to(shares.dtype)


def _of_256(dropout: float) -> int:
    """How many of 256 are left out."""
    return min(max(round(dropout * 256), 1), 255)


def _made_up(dropout: float) -> float:
    """What the rest is multiplied by, so that the mean stays."""
    return 256 / (256 - _of_256(dropout))


def _by_kernel(q: Tensor, own: slice, dropout: float, learns: bool) -> bool:
    most = _MOST[torch.float32] if learns else min(_MOST_FORWARDS, _MOST[torch.float32])
    return q.dtype == torch.float32 and not dropout and own.stop - own.start > most


def _kernel(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, list[Tensor]]:
    """What is seen, and what its gradient needs besides."""
    function = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    seen, logsumexp = function(q, k, v, 0.0, False, scale=scale)
    return seen, [logsumexp]
