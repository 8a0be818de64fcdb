"""Changes of weights that are products of two thin matrices, and their mean.

An adapter (LoRA, E. Hu et al. 2021) adds `scale * B A` to a matrix of weights. The mean of several
such changes is again a product,

    sum_k w_k s_k B_k A_k = [w_1 s_1 B_1 ... w_K s_K B_K] [A_1; ...; A_K]

of rank sum_k r_k. `mean_of_changes` gives it whole, or the nearest of a smaller rank (C. Eckart and
G. Young 1936), by a singular value decomposition of the small matrix between the two orthogonal
factors of the stacks, so that the change itself, as large as the weights, is never written out.
`mean_of_factors` is what is often published instead: the mean of all A and the mean of all B, whose
product is another thing, mean(B) mean(A), unless the adapters are alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Change:
    """A change of a matrix of weights, `scale * b @ a`.

    Attributes:
        a: (r, in).
        b: (out, r).
        scale: what the product is multiplied by.
    """

    a: Tensor
    b: Tensor
    scale: float

    @property
    def rank(self) -> int:
        """The rank that it may have."""
        return int(self.a.shape[0])

    def whole(self) -> Tensor:
        """(out, in) float64: the change written out; for tests and small matrices."""
        return self.scale * (self.b.double() @ self.a.double())


@dataclass(frozen=True)
class Mean:
    """The mean of changes.

    Attributes:
        change: the mean, or what of it the rank could hold.
        energy: the squared Frobenius norm of the whole mean; `lost` of it was left out.
    """

    change: Change
    energy: float
    lost: float


def mean_of_changes(changes: Sequence[Change], weights: Sequence[float], rank: int) -> Mean:
    """The weighted mean of the changes themselves.

    Args:
        changes: of one matrix.
        weights: of each, 1 together.
        rank: of the result; the sum of the ranks holds the whole mean.

    Returns:
        The mean with the scale and in the numbers of the first change. Changes that are the same to
        the last bit are their own mean, factors and all, if the rank is theirs.
    """
    first = changes[0]
    a = torch.cat([one.a.double() for one in changes])
    b = torch.cat(
        [w * one.scale * one.b.double() for w, one in zip(weights, changes, strict=True)], dim=1
    )
    energy = float(((b.T @ b) * (a @ a.T)).sum())
    if _alike(changes) and rank == first.rank:
        return Mean(first, energy, 0.0)
    if rank >= len(a):
        return Mean(_like(first, _wide(a.T, rank).T, _wide(b / first.scale, rank)), energy, 0.0)
    left, small_b = torch.linalg.qr(b)
    right, small_a = torch.linalg.qr(a.T)
    u, values, v = torch.linalg.svd(small_b @ small_a.T, full_matrices=False)
    kept = min(rank, len(values))
    # Each factor takes half of a singular value, as in training neither is much the larger.
    root = torch.sqrt(values[:kept] / abs(first.scale))
    sign = 1.0 if first.scale > 0 else -1.0
    new_b = _wide(left @ u[:, :kept] * (sign * root), rank)
    new_a = _wide(right @ v[:kept].T * root, rank).T
    return Mean(_like(first, new_a, new_b), energy, float(values[kept:].square().sum()))


def mean_of_factors(changes: Sequence[Change], weights: Sequence[float]) -> Change:
    """The weighted means of A and of B, which are to have one rank and one scale."""
    first = changes[0]
    if _alike(changes):
        return first
    a, b = (
        sum(w * getattr(one, name).double() for w, one in zip(weights, changes, strict=True))
        for name in ("a", "b")
    )
    assert isinstance(a, Tensor)
    assert isinstance(b, Tensor)
    return _like(first, a, b)


def mean_of_tensors(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted mean in the numbers of the first; what are no fractions has to be the same in
    all.

    Raises:
        ValueError: it is not.
    """
    first = tensors[0]
    if all(torch.equal(first, one) for one in tensors[1:]):
        return first
    if not first.is_floating_point():
        raise ValueError("whole numbers that differ have no mean")
    total = torch.zeros_like(first, dtype=torch.float64)
    for weight, one in zip(weights, tensors, strict=True):
        total += weight * one.double()
    return total.to(first.dtype)


def likeness(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """The cosine of the angle between two lists of tensors, each taken as one vector."""
    product = norm = other = 0.0
    for one, two in zip(first, second, strict=True):
        product += float((one.double() * two.double()).sum())
        norm += float(one.double().square().sum())
        other += float(two.double().square().sum())
    return product / max(math.sqrt(norm * other), 1e-300)


def _alike(changes: Sequence[Change]) -> bool:
    first = changes[0]
    return all(
        one.scale == first.scale
        and one.a.shape == first.a.shape
        and torch.equal(one.a, first.a)
        and torch.equal(one.b, first.b)
        for one in changes[1:]
    )


def _like(first: Change, a: Tensor, b: Tensor) -> Change:
    a, b = (one.to(like.dtype).contiguous() for one, like in ((a, first.a), (b, first.b)))
    return Change(a, b, first.scale)


def _wide(columns: Tensor, rank: int) -> Tensor:
    """With columns of noughts up to so many."""
    missing = rank - columns.shape[1]
    return torch.nn.functional.pad(columns, (0, missing)) if missing > 0 else columns
