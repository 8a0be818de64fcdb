"""What is learned, as far as the loop of training has to know: rows, their lengths, the loss of
some of them, and how far off the dev battles are.

`Preference` is who won: cross-entropy with soft labels. `finetune.runs.votes` writes ballots.
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

from finetune.training.planning import Phase
from judge.classifier.batching import token_batches
from judge.classifier.network import Network
from judge.classifier.tokens import Encoded

if TYPE_CHECKING:
    from finetune.training.processes import Processes

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

    @property
    def phases(self) -> tuple[Phase, ...]:
        """What is learned from when; nothing where all is from the beginning to the end."""

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


@dataclass(frozen=True)
class Shown:
    """What of battles goes through the network, for L logits.

    Attributes:
        sequences: the places of the sequences.
        rows: (L,) the battle of each logit.
        turned: (L,) those that are shown in the order BA.
        weights: (L,) of the losses.
    """

    sequences: Ints
    rows: Ints
    turned: npt.NDArray[np.bool_]
    weights: Floats


def as_shown(values: Floats, turned: npt.NDArray[np.bool_]) -> Floats:
    """(..., L, 3) what is said of battles in their file, for the order that each is shown in."""
    return np.where(turned[:, None], values[..., _TURNED], values)


def like(values: npt.NDArray[Any], logits: Tensor) -> Tensor:
    """Values beside logits, in 32 bits."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(logits.device, torch.float32)


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

    @property
    def phases(self) -> tuple[Phase, ...]:
        """All is learned from all the time."""
        return ()

    def weight(self, rows: Ints) -> float:
        """The sum of the battles' weights."""
        return float(self._train.weights[rows].sum())

    def loss(self, rows: Ints, epoch: int) -> tuple[Tensor, float, int]:
        """See `Objective`."""
        shown = self.shown(rows, epoch)
        encoded = self._train.encoded
        ids = [encoded.ids[place] for place in shown.sequences.tolist()]
        shared = encoded.shared[shown.sequences].tolist() if self._together == 2 else None
        logits = self.model(ids, shared)
        weights = torch.from_numpy(shown.weights).to(logits.device, torch.float32)
        summed = (self.losses(logits, shown) * weights).sum()
        return summed, float(shown.weights.sum()), sum(map(len, ids))

    def losses(self, logits: Tensor, shown: Shown) -> Tensor:
        """(L,) how far logits are off."""
        targets = as_shown(self._train.labels[shown.rows], shown.turned)
        return soft_cross_entropy(logits, like(targets, logits), self._smoothing)

    def shown(self, rows: Ints, epoch: int) -> Shown:
        """What is shown of battles."""
        weights, first = self._train.weights[rows], rows * self._train.each
        one = np.zeros(len(rows), dtype=np.bool_)
        if self._orders == "sides":
            return Shown((first[:, None] + np.arange(2)).ravel(), rows, one, weights)
        if self._orders == "both":
            sequences = (first[:, None] + np.arange(2)).ravel()
            turned = np.tile([False, True], len(rows))
            return Shown(sequences, np.repeat(rows, 2), turned, np.repeat(weights / 2, 2))
        if self._orders == "AB":
            return Shown(first, rows, one, weights)
        coins = self._turned(epoch)[rows]
        return Shown(first + coins, rows, coins == 1, weights)

    def batch(self, rows: Ints, epoch: int) -> tuple[Ints, Floats, Floats]:
        """What is shown of battles: the places of the sequences, and (L, 3) labels and (L,) weights
        of the logits."""
        shown = self.shown(rows, epoch)
        labels = as_shown(self._train.labels[shown.rows], shown.turned)
        return shown.sequences, labels, shown.weights

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
