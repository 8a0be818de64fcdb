"""From what a network makes of a text to three logits: A, B, tie.

The symmetric head is exact: its logits are (+d/2, -d/2, t), the Davidson form (see
`judge.davidson`), with d = f(a, b) - f(b, a) and t = g(a, b) + g(b, a). Both calls of f are of the
same shape with the same row in the same place, so that exchanging a and b exchanges two numbers and
nothing else: d changes its sign and t stays, to the last bit.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

_SPREAD = 0.02


class PlainHead(nn.Module):
    """Three logits of one state.

    Args:
        hidden: how wide a state is.
        width: of a hidden layer; 0 for none.
        dropout: of the state and of the hidden layer, in training.
        generator: draws the first weights.
    """

    def __init__(
        self, hidden: int, *, width: int = 0, dropout: float = 0.0, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.layers = _layers(hidden, 3, width, dropout, generator)

    def forward(self, states: Tensor) -> Tensor:
        """(N, 3) logits of (N, hidden) states."""
        return cast(Tensor, self.layers(states))


class SymmetricHead(nn.Module):
    """Three logits of two states, in the Davidson form.

    Without a hidden layer d is linear in a - b, and t in a + b and |a - b|: how alike two responses
    are says how likely a tie is. With one, f and g are free functions of both states.

    Args: as of `PlainHead`.
    """

    def __init__(
        self, hidden: int, *, width: int = 0, dropout: float = 0.0, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.width = width
        self.drop = nn.Dropout(dropout)
        seen = 3 * hidden if width else hidden
        self.strength = _layers(seen, 1, width, dropout, generator, bias=False)
        self.tie = _layers(3 * hidden if width else 2 * hidden, 1, width, dropout, generator)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """(N, 3) logits of (N, hidden) states of responses A and B."""
        a, b = self.drop(first), self.drop(second)
        apart = (a - b).abs()
        if self.width:
            d = self.strength(torch.cat([a, b, a * b], -1))
            d = d - self.strength(torch.cat([b, a, a * b], -1))
            t = self.tie(torch.cat([a, b, apart], -1)) + self.tie(torch.cat([b, a, apart], -1))
        else:
            d = self.strength(a) - self.strength(b)
            t = self.tie(torch.cat([a, apart], -1)) + self.tie(torch.cat([b, apart], -1))
        return torch.cat([d / 2, -d / 2, t / 2], -1)


def make_head(
    kind: str, hidden: int, *, width: int = 0, dropout: float = 0.0, seed: int = 0
) -> PlainHead | SymmetricHead:
    """A head with first weights that hang on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    made = PlainHead if kind == "plain" else SymmetricHead
    return made(hidden, width=width, dropout=dropout, generator=generator)


def conclude(head: nn.Module, states: Tensor, sequences: int) -> Tensor:
    """A head's logits of states, in float32 whatever they come in.

    Args:
        head: concludes from one state or from two.
        states: (S, hidden), those that belong together side by side.
        sequences: how many it concludes from.
    """
    with torch.autocast(states.device.type, enabled=False):
        states = states.float()
        seen = [states[place::sequences] for place in range(sequences)]
        return cast(Tensor, head(*seen))


def _layers(
    seen: int,
    said: int,
    width: int,
    dropout: float,
    generator: torch.Generator,
    *,
    bias: bool = True,
) -> nn.Module:
    if not width:
        layer = _linear(seen, said, _SPREAD, generator, bias=bias)
        return nn.Sequential(nn.Dropout(dropout), layer) if said == 3 else layer
    inner = _linear(seen, width, 1 / math.sqrt(seen), generator)
    outer = _linear(width, said, _SPREAD, generator, bias=bias)
    first = [nn.Dropout(dropout)] if said == 3 else []
    return nn.Sequential(*first, inner, nn.GELU(), nn.Dropout(dropout), outer)


def _linear(
    seen: int, said: int, spread: float, generator: torch.Generator, *, bias: bool = True
) -> nn.Linear:
    layer = nn.Linear(seen, said, bias=bias)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(said, seen, generator=generator) * spread)
        if bias:
            layer.bias.zero_()
    return layer
