"""The Davidson form: one antisymmetric strength and one symmetric tie strength make three
probabilities.

With d the log-odds of A against B among decided battles and t the tie's strength,

    P(A), P(B), P(tie) = softmax(+d/2, -d/2, t)

(R. R. Davidson 1970, "On extending the Bradley-Terry model to accommodate ties in paired comparison
experiments", JASA 65). Swapping the responses turns d into -d, which swaps P(A) and P(B) and leaves
P(tie), to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = npt.NDArray[np.float64]
Matrix: TypeAlias = "Floats | csr_array[np.float64]"


def probabilities(strength: Floats, tie: Floats) -> Floats:
    """(..., 3) probabilities of A, B and tie from strengths d and tie strengths t, shape (...)."""
    half = strength / 2.0
    top = np.maximum(np.abs(half), tie)
    weights = np.stack([np.exp(half - top), np.exp(-half - top), np.exp(tie - top)], axis=-1)
    # A and B are added before the tie so that the sum does not depend on which of them is which.
    total = (weights[..., 0] + weights[..., 1]) + weights[..., 2]
    return np.asarray(weights / total[..., None])


def gradient(strength: Floats, tie: Floats, labels: Floats) -> tuple[Floats, Floats, Floats]:
    """The log loss of each battle and its derivatives by strength and tie strength.

    Args:
        strength, tie: (N,) d and t.
        labels: (N, 3) shares of the votes for A, B and tie.

    Returns:
        Three (N,) arrays: loss in nats, d loss / dd, d loss / dt.
    """
    proba = probabilities(strength, tie)
    mass = labels.sum(axis=1)
    excess = proba * mass[:, None] - labels
    logs = np.log(np.maximum(proba, np.finfo(np.float64).tiny))
    return -(labels * logs).sum(axis=1), (excess[:, 0] - excess[:, 1]) / 2.0, excess[:, 2]


@dataclass(frozen=True)
class Block:
    """Some columns of a linear model and how strongly their weights are held near zero.

    Attributes:
        columns: (N, k) matrix, dense or scipy sparse.
        penalty: L2 penalty, a number or (k,).
    """

    columns: Matrix
    penalty: float | Floats


def fit_linear(
    strength: list[Block],
    tie: list[Block],
    labels: Floats,
    *,
    start: tuple[Floats, Floats] | None = None,
    rounds: int = 200,
) -> list[Floats]:
    """Weights of strengths and tie strengths that are linear in their blocks, by maximum penalised
    likelihood (L-BFGS).

    Args:
        strength: blocks whose sum is d; their columns change sign when the responses are swapped.
        tie: blocks whose sum is t; their columns do not.
        labels: (N, 3) shares of the votes for A, B and tie.
        start: (N,) d and (N,) t to which the blocks add; nought if not given.
        rounds: the most steps taken.

    Returns:
        The weights of each block, those of `strength` first.
    """
    from scipy.optimize import minimize

    blocks = [*strength, *tie]
    forward, backward, sizes, penalties = [], [], [], []
    for block in blocks:
        apply, transpose, size = _operators(block.columns)
        forward.append(apply)
        backward.append(transpose)
        sizes.append(size)
        penalties.append(np.broadcast_to(np.asarray(block.penalty, dtype=np.float64), (size,)))
    penalty = np.concatenate(penalties)
    cuts = np.cumsum(sizes)[:-1]
    base = start or (np.zeros(len(labels)), np.zeros(len(labels)))

    def objective(weights: Floats) -> tuple[float, Floats]:
        parts = [apply(part) for apply, part in zip(forward, np.split(weights, cuts), strict=True)]
        d = np.sum(parts[: len(strength)], axis=0)
        t = np.sum(parts[len(strength) :], axis=0)
        loss, by_d, by_t = gradient(base[0] + d, base[1] + t, labels)
        slopes = [by_d] * len(strength) + [by_t] * len(tie)
        by_weight = [transpose(s) for transpose, s in zip(backward, slopes, strict=True)]
        value = loss.sum() + 0.5 * float(penalty @ np.square(weights))
        return value, np.concatenate(by_weight) + penalty * weights

    options = {"maxiter": rounds, "maxfun": 2 * rounds, "ftol": 1e-10, "gtol": 1e-6 * len(labels)}
    found = minimize(
        objective, np.zeros(len(penalty)), jac=True, method="L-BFGS-B", options=options
    )  # type: ignore[call-overload]
    return list(np.split(np.asarray(found.x, dtype=np.float64), cuts))


_Product = Callable[[Floats], Floats]


def _operators(columns: Matrix) -> tuple[_Product, _Product, int]:
    """Products with a matrix and with its transpose. A sparse one is transposed once, in a layout
    that multiplies as fast as the matrix itself."""
    if isinstance(columns, np.ndarray):
        dense = columns
        return (lambda w: dense @ w), (lambda s: dense.T @ s), dense.shape[1]
    matrix, transposed = columns, columns.T.tocsr()
    return (lambda w: matrix @ w), (lambda s: transposed @ s), matrix.shape[1]
