"""Which n-grams of a battle stand in its prompt, in response A and in response B.

One sort a batch answers every question about overlap: how many words two texts share, what share of
the prompt's words a response takes up, and which n-grams only one of the responses has (the
difference that the n-gram weights speak on).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from judge.features.text import (
    DIGIT,
    IDEOGRAPH,
    LINE,
    Bools,
    Bytes,
    Floats,
    Hashes,
    Ints,
    TextBatch,
    mix,
)

PROMPT, A, B = 1, 2, 4
OPENING_TOKENS = 12
_OPENING_SALT = np.uint64(0x6F70656E696E6721)
_HASH_BITS, _FAMILY_BITS, _ROLE_BITS = 46, 4, 2
MOST_BATTLES = 1 << (64 - _HASH_BITS - _FAMILY_BITS - _ROLE_BITS)


class Family(IntEnum):
    """What an n-gram is made of."""

    WORD = 0  # a short word: mostly grammar
    CONTENT = 1  # a word of four letters and more, or an ideograph
    NUMBER = 2
    MARK = 3  # punctuation, a symbol
    LINE = 4  # a line break
    PAIR = 5  # two tokens that begin with a word or a number
    PAIR_MARK = 6  # two tokens that begin with a mark
    PAIR_LINE = 7  # two tokens, a line break among them
    TRIPLE = 8
    TRIPLE_MARK = 9
    TRIPLE_LINE = 10
    OPENING = 11  # one to three tokens among the first twelve of a text


WORDS = (Family.WORD, Family.CONTENT)
PAIRS = (Family.PAIR, Family.PAIR_MARK, Family.PAIR_LINE)


@dataclass(frozen=True)
class Grams:
    """The distinct n-grams of each battle of a batch, G of them.

    Attributes:
        battles: N.
        battle: (G,) which battle an n-gram is of.
        hashes: (G,) its hash, the highest 46 bits.
        families: (G,) its `Family`.
        roles: (G,) in which texts it stands: the sum of `PROMPT`, `A` and `B`.
        counts: (12, 8, N) how many n-grams of each family stand in just those texts.
    """

    battles: int
    battle: Ints
    hashes: Hashes
    families: Bytes
    roles: Bytes
    counts: Floats

    def shared(self, families: tuple[Family, ...], *roles: int) -> Floats:
        """(N,) how many n-grams of the families stand in all of the texts named."""
        wanted = sum(roles)
        exact = [role for role in range(8) if role & wanted == wanted]
        return np.asarray(self.counts[np.ix_(families, exact)].sum(axis=(0, 1)))

    def by_response(self, families: tuple[Family, ...], *roles: int) -> Floats:
        """(2, N) the same for response A and for response B, each with the other texts named."""
        return np.stack([self.shared(families, A, *roles), self.shared(families, B, *roles)])


def find_grams(batch: TextBatch) -> Grams:
    """The n-grams of one to three tokens of a batch of at most 4,096 battles."""
    key = np.concatenate([_keys(batch, size) for size in (1, 2, 3)] + [_opening_keys(batch)])
    key.sort()
    gram = key >> np.uint64(_ROLE_BITS)
    first = np.flatnonzero(np.diff(gram, prepend=~gram[:1]) != 0)
    roles = (1 << (key & np.uint64(3)).astype(np.uint8)).astype(np.uint8)
    roles = np.bitwise_or.reduceat(roles, first) if len(first) else roles
    gram = gram[first]
    families = (gram & np.uint64((1 << _FAMILY_BITS) - 1)).astype(np.uint8)
    battle = (gram >> np.uint64(_HASH_BITS + _FAMILY_BITS)).astype(np.int64)
    cell = (families.astype(np.int64) * 8 + roles) * batch.battles + battle
    counts = np.bincount(cell, minlength=len(Family) * 8 * batch.battles)
    return Grams(
        battles=batch.battles,
        battle=battle,
        hashes=gram << np.uint64(64 - _HASH_BITS - _FAMILY_BITS),
        families=families,
        roles=roles,
        counts=counts.reshape(len(Family), 8, batch.battles).astype(np.float64),
    )


def _keys(batch: TextBatch, size: int) -> Hashes:
    """Sortable keys of all runs of `size` tokens: battle, hash, family, role."""
    chosen = np.flatnonzero(batch.whole(size))
    families = _families(batch, size)[chosen]
    return _packed(batch, chosen, batch.ngrams(size)[chosen], families)


def _opening_keys(batch: TextBatch) -> Hashes:
    """Keys of the runs of one to three tokens with which a text begins."""
    keys = []
    early = batch.token_place < OPENING_TOKENS
    for size in (1, 2, 3):
        chosen = np.flatnonzero(early & batch.whole(size))
        hashes = mix(batch.ngrams(size)[chosen] ^ _OPENING_SALT)
        families = np.full(len(chosen), Family.OPENING, dtype=np.uint8)
        keys.append(_packed(batch, chosen, hashes, families))
    return np.concatenate(keys)


def _packed(batch: TextBatch, tokens: Ints, hashes: Hashes, families: Bytes) -> Hashes:
    role, battle = np.divmod(batch.document_of[tokens], batch.battles)
    key = hashes >> np.uint64(64 - _HASH_BITS) << np.uint64(_FAMILY_BITS + _ROLE_BITS)
    key |= battle.astype(np.uint64) << np.uint64(_HASH_BITS + _FAMILY_BITS + _ROLE_BITS)
    key |= families.astype(np.uint64) << np.uint64(_ROLE_BITS)
    key |= role.astype(np.uint64)
    return key


def _families(batch: TextBatch, size: int) -> Bytes:
    """(T,) the family of the run of `size` tokens that begins at each token."""
    kinds = batch.token_kinds
    line: Bools = kinds == LINE
    mark = (kinds > IDEOGRAPH) & (kinds != DIGIT)
    if size == 1:
        long = (batch.lengths > 3) | (batch.codes[batch.starts] > 0x2FFF)
        families = np.where(long, Family.CONTENT, Family.WORD).astype(np.uint8)
        families[kinds == DIGIT] = Family.NUMBER
        families[mark] = Family.MARK
        families[line] = Family.LINE
        return families
    within = line.copy()
    for step in range(1, size):
        within |= np.roll(line, -step)
    base = Family.PAIR if size == 2 else Family.TRIPLE
    runs: Bytes = (base + mark).astype(np.uint8)
    runs[within] = base + 2
    return runs


def ratio(part: Floats, whole: Floats) -> Floats:
    """`part / whole`, 0 where there is nothing to divide by."""
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
