"""What is learned, as far as the loop of training has to know: rows, their lengths, the loss of
some of them, and how far off the dev battles are.

`Preference` is who won: cross-entropy with soft labels. `finetune.votes` writes ballots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from judge.classifier.batching import token_batches
from judge.classifier.network import Network
from judge.classifier.tokens import Encoded

if TYPE_CHECKING:
    from finetune.processes import Processes

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Autocast = Callable[[], AbstractContextManager[Any]]

_TURNED = [1, 0, 2]


class Objective(Protocol):
    """What the loop of training works on."""

    @property
    def model(self) -> torch.nn.Module:
        """What is trained."""

    @property
    def padded(self) -> bool:
        """Whether what goes through it together is padded to the longest."""

    @property
    def lengths(self) -> Ints:
        """(N,) tokens of each row."""

    def loss(self, rows: Ints, epoch: int) -> tuple[Tensor, float, int]:
        """The weighted sum of the rows' losses, the sum of the weights, and the tokens that the
        network worked through."""

    def weight(self, rows: Ints) -> float:
        """The sum of the rows' weights."""

    def evaluate(self, autocast: Autocast, processes: Processes | None = None) -> float | None:
        """How far off the dev rows are, in nats; None without any."""


def soft_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """(N,) cross-entropy of (N, C) logits and distributions, a share of which is spread evenly.

    Smoothing as in Szegedy et al. 2016 (arXiv 1512.00567), section 7.
    """
    if smoothing:
        targets = (1 - smoothing) * targets + smoothing / targets.shape[-1]
    return -(targets * torch.log_softmax(logits.float(), -1)).sum(-1)


@dataclass(frozen=True)
class Examples:
    """Battles with labels, as a network reads them.

    Attributes:
        encoded: the sequences, as many for each battle.
        labels: (N, 3) of the battles as they stand in the file.
        weights: (N,) of the battles.
    """

    encoded: Encoded
    labels: Floats
    weights: Floats

    def __post_init__(self) -> None:
        count = len(self.labels)
        if count and len(self.encoded) % count:
            raise ValueError("not as many sequences for each battle")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def each(self) -> int:
        """Sequences of a battle."""
        return len(self.encoded) // max(len(self), 1)


class Preference:
    """Who won: three logits for each battle and order.

    Args:
        network: what is trained.
        train: battles to learn from; with a plain head in both orders, unless `orders` is `AB`.
        dev: battles to measure on, in both orders; None for none.
        orders: `random`: one of the two, drawn for each battle and epoch; `both`; or `AB`. A
            symmetric head concludes from both sequences at once, and has no use for it.
        smoothing: share of the labels that is spread evenly.
        seed: of the orders.
        batch_tokens: tokens at once when measuring.
    """

    def __init__(
        self,
        network: Network,
        train: Examples,
        dev: Examples | None = None,
        *,
        orders: str = "random",
        smoothing: float = 0.0,
        seed: int = 0,
        batch_tokens: int = 4096,
    ) -> None:
        self.model = network
        self.padded = not network.packed
        self._train, self._dev = train, dev
        self._orders = "sides" if network.shape.sequences == 2 else orders
        self._smoothing, self._seed, self._budget = smoothing, seed, batch_tokens
        self._coins: tuple[int, Ints] = (-1, np.zeros(0, dtype=np.int64))
        sizes = train.encoded.lengths.reshape(len(train), -1)
        self._sizes = sizes if self._orders in ("sides", "both") else sizes[:, :1]

    @property
    def lengths(self) -> Ints:
        """(N,) tokens of each battle: of all sequences that are shown of it."""
        return np.asarray(self._sizes.sum(axis=1))

    def weight(self, rows: Ints) -> float:
        """The sum of the battles' weights."""
        return float(self._train.weights[rows].sum())

    def loss(self, rows: Ints, epoch: int) -> tuple[Tensor, float, int]:
        """See `Objective`."""
        sequences, targets, weights = self.batch(rows, epoch)
        encoded = self._train.encoded
        ids = [encoded.ids[place] for place in sequences.tolist()]
        shared = encoded.shared[sequences].tolist() if self._together == 2 else None
        logits = self.model(ids, shared)
        device = logits.device
        each = soft_cross_entropy(
            logits, torch.from_numpy(targets).to(device, torch.float32), self._smoothing
        )
        summed = (each * torch.from_numpy(weights).to(device, torch.float32)).sum()
        return summed, float(weights.sum()), sum(map(len, ids))

    def batch(self, rows: Ints, epoch: int) -> tuple[Ints, Floats, Floats]:
        """What is shown of battles: the places of the sequences, and (L, 3) labels and (L,) weights
        of the logits."""
        labels, weights = self._train.labels[rows], self._train.weights[rows]
        each = self._train.each
        first = rows * each
        if self._orders == "sides":
            return (first[:, None] + np.arange(2)).ravel(), labels, weights
        if self._orders == "both":
            both = np.stack([labels, labels[:, _TURNED]], axis=1).reshape(-1, 3)
            return (first[:, None] + np.arange(2)).ravel(), both, np.repeat(weights / 2, 2)
        if self._orders == "AB":
            return first, labels, weights
        turned = self._turned(epoch)[rows]
        return first + turned, np.where(turned[:, None], labels[:, _TURNED], labels), weights

    @property
    def _together(self) -> int:
        return 2 if self._orders in ("sides", "both") else 1

    def _turned(self, epoch: int) -> Ints:
        """(N,) 1 for the battles that an epoch shows in the order BA."""
        if self._coins[0] != epoch:
            rng = np.random.default_rng([self._seed, epoch, 1])
            self._coins = epoch, rng.integers(0, 2, len(self._train))
        return self._coins[1]

    def evaluate(self, autocast: Autocast, processes: Processes | None = None) -> float | None:
        """The dev battles' log loss, both orders averaged, weighted as they are."""
        from judge.metrics import log_loss_rows

        if self._dev is None or not len(self._dev):
            return None
        proba = predict(self.model, self._dev.encoded, self._budget, autocast, processes)
        rows = log_loss_rows(self._dev.labels, proba)
        weights = self._dev.weights
        return float((rows * weights).sum() / weights.sum())


def groups_of(groups: list[Ints], processes: Processes | None) -> tuple[list[Ints], int]:
    """Which batches a process works through, and how many of these count: all work through as many,
    since weights that are shared out are put together by all at once."""
    if processes is None:
        return groups, len(groups)
    mine = groups[processes.rank :: processes.count]
    rounds = -(-len(groups) // processes.count)
    return mine + groups[:1] * (rounds - len(mine)), len(mine)


def predict(
    network: Network,
    encoded: Encoded,
    batch_tokens: int,
    autocast: Autocast = nullcontext,
    processes: Processes | None = None,
) -> Floats:
    """(N, 3) probabilities of battles that are there in both orders, averaged over them; with a
    symmetric head both sequences make one answer.

    With several processes each works through a part, and all get everything.
    """
    sides = network.shape.sequences
    together = 2 if sides == 2 or network.shares else 1
    groups = token_batches(
        encoded.lengths, batch_tokens, padded=not network.packed, together=together
    )
    logits = torch.zeros(len(encoded) // sides, 3, dtype=torch.float64)
    mine, own = groups_of(groups, processes)
    before = network.training
    network.eval()
    try:
        with torch.no_grad():
            for place, rows in enumerate(mine):
                ids = [encoded.ids[place] for place in rows.tolist()]
                shared = encoded.shared[rows].tolist() if together == 2 else None
                with autocast():
                    found = network(ids, shared)
                if place < own:
                    places: Sequence[int] = (rows[::sides] // sides).tolist()
                    logits[places] = found.double().cpu()
    finally:
        network.train(before)
    if processes is not None:
        logits = processes.summed(logits)
    proba = torch.softmax(logits, -1).numpy()
    if sides == 2 or network.shape.form == "single":
        return np.asarray(proba)
    shown = proba.reshape(-1, 2, 3)
    return np.asarray((shown[:, 0] + shown[:, 1][:, _TURNED]) / 2)


__all__ = ["Examples", "Objective", "Preference", "predict", "soft_cross_entropy"]
