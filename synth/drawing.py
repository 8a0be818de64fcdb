"""Which battles are drawn, and in which order.

Strata are drawn from by power allocation (Bankier 1988): in proportion to the number of battles
that they have (power 1), to its square root, or equally (power 0). Seats are given one after the
other, each to the stratum with the largest weight / (2 n + 1), n being what it has by now
(Webster and Sainte-Laguë; Balinski and Young 1982), and none to one that is spent. So the counts
sum to what was asked for, and what more is asked for never takes from anybody, which rounding by
largest remainders does not promise: the first thousand battles of a plan of twenty thousand are
the plan of a thousand. Whoever annotates only a part has a stratified sample all the same.

Chance is a hash of a battle's text and the seed: it is the same whatever the battle is called,
wherever it stands and whoever else is there.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from judge.comparing.marks import Hashes
from judge.features.text import mix

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

POWERS = {"proportional": 1.0, "square-root": 0.5, "equal": 0.0}

_SALT = np.uint64(0x706C_616E_2064_7261)
_ODD = np.uint64(0x9E37_79B9_7F4A_7C15)


def keys(battles: Hashes, seed: int) -> Hashes:
    """(N,) chance, from the marks of battles.

    Args:
        battles: (N,) see `judge.comparing.marks`.
        seed: from 0.
    """
    salt = mix(np.array([seed], dtype=np.uint64) * _ODD + _SALT)
    return mix(battles ^ salt)


def draw(
    strata: Ints,
    ranks: Ints,
    chance: Hashes,
    size: int,
    *,
    allocation: str = "square-root",
    close: Bools | None = None,
    share: float = 0.0,
) -> Ints:
    """The places of the battles that are drawn, in an order of which every beginning is a draw.

    Within a stratum come first those whose prompt no other battle has, or has with a lesser key.

    Args:
        strata: (N,) which stratum each is of, from 0.
        ranks: (N,) see `synth.sifting.prompt_ranks`.
        chance: (N,) keys.
        size: how many are wanted; all, if there are fewer.
        allocation: one of `POWERS`.
        close: (N,) which are close.
        share: how much of the draw is close at least, as long as there are such battles.
    """
    order = np.lexsort((chance, ranks, strata))
    sizes = np.bincount(strata)
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    own = sizes[strata[order]]
    # Each battle's turn: the least comes first, and of equals the one of the larger stratum.
    turns = (2 * place + 1) / own.astype(np.float64) ** POWERS[allocation]
    order = order[np.lexsort((strata[order], -own, turns))]
    if close is not None and share > 0.0:
        order = _with_close(order, close[order], share)
    return order[:size]


def _with_close(order: Ints, close: Bools, share: float) -> Ints:
    """The same battles, the close ones moved forward as far as the share asks of every beginning:
    of m battles, share * m are close."""
    natural = np.flatnonzero(close)
    latest = np.floor(np.round(np.arange(len(natural)) / share, 9))
    # Both rise by one at least, and so does the lesser of the two: no place is taken twice.
    places = np.minimum(natural, latest).astype(np.int64)
    others = np.ones(len(order), dtype=bool)
    others[places] = False
    merged = np.empty_like(order)
    merged[places], merged[others] = order[close], order[~close]
    return merged
