"""Weights to whole numbers so that what a layer says changes least (Frantar et al. 2022, "GPTQ:
Accurate Post-Training Quantization for Generative Pre-trained Transformers", arXiv:2210.17323).

    moments = Moments(layer.in_features)
    moments.add(rows)                               # what the layer is given, on real texts
    codes = quantized(layer.weight, moments.mean(), bits=4, group=128)

A row of weights w is to become q with (w - q) H (w - q)^T small, where H is the mean of x x^T over
what the layer is given. Columns are rounded one by one, and what rounding one does is made good by
those that come after it, as the inverse of H says; heavy columns come first. Scales are found
before, in the order of the columns as they are, so that no file needs to say in which order they
were rounded.
"""

from __future__ import annotations

import torch
from torch import Tensor

from judge.classifier.quantized import Codes
from judge.errors import ArenaJudgeError

_BLOCK = 128
# Shares of the mean of H's diagonal that are added to it: more where it has no inverse otherwise.
_DAMPING = (0.01, 0.1, 1.0)
# How far the range of the scales is drawn in; few outliers are worth a coarser grid for the rest.
_DRAWN_IN = {8: (1.0, 0.98, 0.95), 4: tuple(1.0 - 0.025 * step for step in range(17))}


class Moments:
    """The mean of x x^T over rows that come in batches.

    Args:
        columns: of a row.
        device: where it is reckoned.
    """

    def __init__(self, columns: int, device: torch.device | str = "cpu") -> None:
        self._sum = torch.zeros(columns, columns, dtype=torch.float32, device=device)
        self.rows = 0

    def add(self, rows: Tensor) -> None:
        """Takes in (..., columns) of what a layer is given."""
        flat = rows.detach().reshape(-1, rows.shape[-1]).float()
        self._sum += flat.t() @ flat
        self.rows += len(flat)

    def mean(self) -> Tensor:
        """(columns, columns).

        Raises:
            ArenaJudgeError: nothing came, or what came is not finite.
        """
        if not self.rows:
            raise ArenaJudgeError("a layer was given nothing to calibrate it by")
        found = self._sum / self.rows
        if not bool(torch.isfinite(found).all()):
            raise ArenaJudgeError("a layer was given numbers that are not finite; take float32")
        return found


@torch.no_grad()
def quantized(
    weight: Tensor, moments: Tensor | None, *, bits: int, group: int | None = None
) -> Codes:
    """A matrix in few bits.

    Args:
        weight: (out, in).
        moments: (in, in) mean of x x^T; None to round each weight to the nearest.
        bits: 8 or 4.
        group: columns that share a scale; all of a row where they are not divided by it.
    """
    whole = weight.detach().float()
    columns = whole.shape[1]
    size = columns if group is None or columns % group else group
    heavy = whole.new_ones(columns) if moments is None else moments.diagonal().clamp_min(0.0)
    scales = scales_of(whole, heavy, bits, size)
    wide = scales.repeat_interleave(size, dim=1)
    if moments is None:
        return Codes(_rounded(whole, wide, bits).to(torch.int8), scales, bits)
    order = torch.argsort(heavy, descending=True, stable=True)
    root = inverse_root(moments[order][:, order])
    values = _made_good(whole[:, order], wide[:, order], root, bits)
    return Codes(values[:, torch.argsort(order)].contiguous(), scales, bits)


def scales_of(weight: Tensor, heavy: Tensor, bits: int, size: int) -> Tensor:
    """(out, groups) scales: of some ranges the one with the least weighted square error, rounded
    to bfloat16, as they are kept.

    Args:
        weight: (out, in).
        heavy: (in,) what the square error of each column weighs.
        bits: of a value.
        size: columns that share a scale.
    """
    rows = len(weight)
    parts = weight.view(rows, -1, size)
    weights = heavy.view(1, -1, size)
    most = parts.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    best: Tensor | None = None
    least: Tensor | None = None
    for share in _DRAWN_IN[bits]:
        scale = (most * share).to(torch.bfloat16).float()
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        error = ((_rounded(parts, scale, bits) * scale - parts).square() * weights).sum(-1)
        if best is None or least is None:
            best, least = scale[..., 0], error
            continue
        better = error < least
        best, least = torch.where(better, scale[..., 0], best), torch.where(better, error, least)
    assert best is not None
    return best


def inverse_root(moments: Tensor) -> Tensor:
    """The upper triangular U with U^T U the inverse of damped moments.

    Raises:
        ArenaJudgeError: they cannot be inverted.
    """
    diagonal = moments.diagonal()
    level = float(diagonal.mean()) or 1.0
    # A column that is always nought matters to none, and none to it.
    unused = diagonal <= 0
    for damping in _DAMPING:
        damped = moments.clone()
        damped.diagonal().add_(damping * level)
        damped.diagonal()[unused] = level
        lower, failed = torch.linalg.cholesky_ex(damped)
        if int(failed):
            continue
        upper: Tensor
        upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
        if not int(failed) and bool(torch.isfinite(upper).all()):
            return upper
    raise ArenaJudgeError("a layer's calibration cannot be inverted; give more texts")


def _made_good(weight: Tensor, scales: Tensor, root: Tensor, bits: int) -> Tensor:
    """(out, in) int8: columns rounded from the left, the errors of each handed on to the right."""
    left = weight.clone()
    values = torch.empty_like(left)
    columns = left.shape[1]
    for start in range(0, columns, _BLOCK):
        stop = min(start + _BLOCK, columns)
        part, errors = left[:, start:stop], torch.empty_like(left[:, start:stop])
        inner = root[start:stop, start:stop]
        for place in range(stop - start):
            scale = scales[:, start + place]
            value = _rounded(part[:, place], scale, bits)
            error = (part[:, place] - value * scale) / inner[place, place]
            part[:, place + 1 :] -= error[:, None] * inner[place, place + 1 :]
            values[:, start + place], errors[:, place] = value, error
        left[:, stop:] -= errors @ root[start:stop, stop:]
    return values.to(torch.int8)


def _rounded(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    half = 2 ** (bits - 1)
    return (weight / scale).round().clamp(-half, half - 1)
