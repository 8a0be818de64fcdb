"""Sequences of any length in one row, without padding.

    packed = pack(ids, shared=shared)
    model(input_ids=packed.ids[None], position_ids=packed.positions[None], layout=packed.layout)

All that a transformer does besides attention, it does token by token, so sequences may stand in one
row one after the other. Attention alone must know where each begins: a `Layout` goes with the row
and reaches the attention function through the keyword arguments that a model hands on. No mask over
the whole row is ever made.

Sequences that begin alike may share their beginning: in a causal model no token sees what comes
after it, so the beginning is put in once and both continuations look back at it. That is exact, and
saves what both orders of a battle have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from judge.classifier.attention import IMPLEMENTATION, register

__all__ = ["IMPLEMENTATION", "Layout", "Packed", "pack", "register"]

Ids = Sequence[npt.NDArray[np.integer[Any]]] | Sequence[Tensor]


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the pieces of a packed row lie.

    Attributes:
        lengths: of each piece, in tokens, in the order of the row.
        parents: for each piece the one that it continues, which comes before it; -1 for none.
    """

    lengths: tuple[int, ...]
    parents: tuple[int, ...]

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The place of each piece's first token, and where the row ends."""
        return tuple(np.cumsum([0, *self.lengths]).tolist())

    @cached_property
    def reach(self) -> tuple[int, ...]:
        """How many tokens each piece looks at: its own and those that it continues."""
        return tuple(
            length + (self.lengths[parent] if parent >= 0 else 0)
            for length, parent in zip(self.lengths, self.parents, strict=True)
        )

    @cached_property
    def seen(self) -> npt.NDArray[np.int64] | None:
        """The places of the tokens that each piece looks at, one piece after the other; None where
        that is the row itself."""
        if max(self.parents, default=-1) < 0:
            return None
        places = []
        for number, parent in enumerate(self.parents):
            if parent >= 0:
                places.append(np.arange(self.starts[parent], self.starts[parent + 1]))
            places.append(np.arange(self.starts[number], self.starts[number + 1]))
        return np.concatenate(places)

    @cached_property
    def kept(self) -> dict[object, Tensor]:
        """What the attention of all layers needs again: masks and indices, by what they are."""
        return {}


@dataclass(frozen=True, eq=False)
class Packed:
    """Sequences in one row.

    Attributes:
        ids: (T,) the tokens.
        positions: (T,) where each stands in its sequence, from 0.
        layout: the pieces.
        pieces: for each sequence the piece that it ends with, or is.
    """

    ids: Tensor
    positions: Tensor
    layout: Layout
    pieces: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """How many tokens a network works through."""
        return len(self.ids)

    def last(self) -> Tensor:
        """(S,) the place of each sequence's last token."""
        ends = [self.layout.starts[piece + 1] - 1 for piece in self.pieces]
        return torch.tensor(ends, device=self.ids.device)

    def first(self) -> Tensor:
        """(S,) the place of each sequence's first token."""
        owners = [self._root(piece) for piece in self.pieces]
        return torch.tensor([self.layout.starts[o] for o in owners], device=self.ids.device)

    def _root(self, piece: int) -> int:
        parent = self.layout.parents[piece]
        return piece if parent < 0 else parent

    @property
    def shares(self) -> bool:
        """Whether some sequences share their beginnings."""
        return self.layout.seen is not None


def pack(
    ids: Ids, *, shared: Sequence[int] | None = None, device: torch.device | str | None = None
) -> Packed:
    """Puts sequences into one row.

    Args:
        ids: the sequences, none of them empty.
        shared: for each sequence how many first tokens it has in common with its sibling, siblings
            being the first and second, the third and fourth, and so on; for causal models only.
        device: where the row is to be; by default where the sequences are.

    Raises:
        ValueError: there is no sequence, or an empty one.
    """
    if not len(ids) or min(map(len, ids)) == 0:
        raise ValueError("nothing to pack, or a sequence without a token")
    tokens = [np.asarray(one) if not isinstance(one, Tensor) else one for one in ids]
    lengths: list[int] = []
    parents: list[int] = []
    pieces: list[int] = []
    parts: list[Any] = []
    offsets: list[int] = []

    def put(part: Any, parent: int, offset: int) -> int:
        parts.append(part)
        lengths.append(len(part))
        parents.append(parent)
        offsets.append(offset)
        return len(lengths) - 1

    place = 0
    while place < len(tokens):
        pair = tokens[place : place + 2]
        common = 0
        if shared is not None and len(pair) == 2:
            # Each keeps a token of its own at least, for it is what the head sees.
            least = min(map(len, pair)) - 1
            common = min(int(shared[place]), int(shared[place + 1]), least)
        if common > 0:
            root = put(pair[0][:common], -1, 0)
            pieces += [put(one[common:], root, common) for one in pair]
        else:
            pieces += [put(one, -1, 0) for one in pair]
        place += 2
    positions = np.concatenate(
        [np.arange(offset, offset + n) for offset, n in zip(offsets, lengths, strict=True)]
    )
    row = _joined(parts)
    target = row.device if device is None else torch.device(device)
    return Packed(
        row.to(target, torch.int64),
        torch.from_numpy(positions).to(target),
        Layout(tuple(lengths), tuple(parents)),
        tuple(pieces),
    )


def _joined(parts: list[Any]) -> Tensor:
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))
