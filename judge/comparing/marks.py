"""Marks by which a battle is known again, and from which no text can be read back.

A battle has a mark of its prompt, a mark of the prompt with both responses whichever way round, and
a sketch that small edits hardly change. What marks look at is words, numbers and marks of
punctuation in their order: white space, line breaks and case change nothing.

The sketch is MinHash (Broder 1997) with 16 bits kept of each value (Li and Koenig 2010): the share
of values that two sketches have in common estimates the Jaccard similarity of their texts. Eight
values are of the prompt's tokens and pairs of tokens, twelve each of the responses' runs of three.
They are made with numpy from the tokens that the statistical judge reads: a third of the time that
datasketch takes for as many values, and its index is a dictionary that a loop in Python fills.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.features.batches import small_batches
from judge.features.text import LINE, TextBatch, mix, read_batch

Hashes = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

# Files of marks say which rule made them; another rule's marks mean nothing here.
VERSION = 1
OF_PROMPT, OF_RESPONSE = 8, 12
SKETCH = OF_PROMPT + 2 * OF_RESPONSE
_WORDS = SKETCH // 4  # sixteen bits each, four in a word of a table
COLUMNS = ("prompt_mark", "battle_mark", "turned", *(f"sketch_{n}" for n in range(_WORDS)))

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SALT = np.uint64(0x6261_7474_6C65_7321)
_LARGEST = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


@dataclass(frozen=True)
class Marks:
    """The marks of N battles.

    Attributes:
        prompts: (N,) equal where the prompts are the same.
        battles: (N,) equal where prompt and responses are, swapped or not.
        turned: (N,) 1 or -1 for the two ways round that the responses may stand, 0 where they are
            the same.
        sketches: (N, 32) of the prompt, of response A, of response B.
    """

    prompts: Hashes
    battles: Hashes
    turned: npt.NDArray[np.int8]
    sketches: npt.NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, rows: npt.NDArray[np.bool_] | Ints) -> Marks:
        """Those of the chosen battles."""
        return Marks(self.prompts[rows], self.battles[rows], self.turned[rows], self.sketches[rows])

    def to_frame(self) -> pd.DataFrame:
        """A row a battle, to keep beside other facts (see `COLUMNS`)."""
        words = np.ascontiguousarray(self.sketches).view(np.uint64)
        columns = [self.prompts, self.battles, self.turned, *words.T]
        return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))

    @classmethod
    def from_frame(cls, table: pd.DataFrame) -> Marks:
        """The marks that `to_frame` made a table of."""
        words = np.ascontiguousarray(table[list(COLUMNS[3:])].to_numpy(dtype=np.uint64))
        prompts, battles = (table[name].to_numpy(dtype=np.uint64) for name in COLUMNS[:2])
        turned = table["turned"].to_numpy(dtype=np.int8)
        return cls(prompts, battles, turned, words.view(np.uint16))


def joined(parts: Sequence[Marks]) -> Marks:
    """All of them as one."""
    if not parts:
        none = np.zeros(0, np.uint64)
        return Marks(none, none, np.zeros(0, np.int8), np.zeros((0, SKETCH), np.uint16))
    return Marks(
        np.concatenate([part.prompts for part in parts]),
        np.concatenate([part.battles for part in parts]),
        np.concatenate([part.turned for part in parts]),
        np.concatenate([part.sketches for part in parts]),
    )


def battle_marks(battles: pd.DataFrame) -> Marks:
    """The marks of a battle table (see `judge.battles`)."""
    return joined([_marks(read_batch(*texts)) for texts in small_batches(battles)])


@dataclass(frozen=True)
class _Tokens:
    """The tokens of D documents but for line breaks: their hashes, and where documents start."""

    hashes: Hashes
    bounds: Ints

    @property
    def counts(self) -> Ints:
        """(D,) tokens of each document."""
        return np.diff(self.bounds)


def _marks(batch: TextBatch) -> Marks:
    kept = batch.token_kinds != LINE
    before = np.concatenate([[0], np.cumsum(kept)])
    tokens = _Tokens(batch.hashes[kept], before[batch.token_documents])
    whole = _of_documents(tokens)
    prompts, a, b = whole.reshape(3, batch.battles)
    battles = mix(mix(prompts ^ _SALT) + mix(a) + mix(b))
    turned = (a > b).astype(np.int8) - (a < b).astype(np.int8)
    return Marks(prompts, battles, turned, _sketches(tokens, whole, batch.battles))


def _of_documents(tokens: _Tokens) -> Hashes:
    """(D,) a hash of each document's tokens in their order, a polynomial modulo 2^64."""
    counts = tokens.counts
    powers = np.full(int(counts.max(initial=0)) + 1, _GOLDEN)
    powers[0] = 1
    powers = np.multiply.accumulate(powers)
    place = np.arange(len(tokens.hashes)) - np.repeat(tokens.bounds[:-1], counts)
    running = np.zeros(len(tokens.hashes) + 1, dtype=np.uint64)
    np.cumsum(tokens.hashes * powers[place], out=running[1:])
    sums = running[tokens.bounds[1:]] - running[tokens.bounds[:-1]]
    return mix(sums + counts.astype(np.uint64) * _GOLDEN)


def _sketches(tokens: _Tokens, whole: Hashes, battles: int) -> npt.NDArray[np.uint16]:
    """(N, 32) the lowest 16 bits of each minimum."""
    singles = tokens.hashes
    pairs = mix(singles[:-1] * _GOLDEN + singles[1:])
    triples = mix(pairs[:-1] * _GOLDEN + singles[2:])
    prompts, responses = slice(0, battles), slice(battles, 3 * battles)
    functions = range(OF_PROMPT)
    of_prompt = np.minimum(
        _minima(singles, 1, tokens, whole, prompts, functions),
        _minima(pairs, 2, tokens, whole, prompts, functions),
    )
    of_each = _minima(triples, 3, tokens, whole, responses, range(OF_RESPONSE))
    least = np.concatenate([of_prompt, of_each[:, :battles], of_each[:, battles:]])
    return (least & np.uint64(0xFFFF)).astype(np.uint16).T


def _minima(
    runs: Hashes, size: int, tokens: _Tokens, whole: Hashes, documents: slice, functions: range
) -> Hashes:
    """(functions, D) least hash of each document's runs of `size` tokens, by several functions. A
    document that is too short for one is a run itself."""
    starts, counts = tokens.bounds[:-1][documents], tokens.counts[documents] - (size - 1)
    long = counts > 0
    base, end = int(tokens.bounds[documents.start]), int(tokens.bounds[documents.stop])
    runs = runs[base:end]
    first, last = starts[long] - base, starts[long] + counts[long] - base
    least = np.empty((len(functions), len(starts)), dtype=np.uint64)
    for row, function in zip(least, functions, strict=True):
        factor = mix(np.array([function + 1], dtype=np.uint64) * _GOLDEN) | np.uint64(1)
        row[:] = whole[documents] * factor
        if len(first):
            # Each document's runs stand together; those between two documents are of neither, and
            # one more at the end lets the last document end as the others do.
            values = np.append(runs * factor, _LARGEST)
            row[long] = np.minimum.reduceat(values, np.stack([first, last], axis=1).ravel())[::2]
    return least
