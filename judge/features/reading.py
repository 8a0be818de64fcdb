"""One reading of a batch of battles, from which every criterion takes its features.

What several criteria ask of a text is found here, once, when the first of them asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from judge.features.grams import Grams, find_grams, ratio
from judge.features.layout import Layout, lay_out
from judge.features.lexicon import count_phrases, find_phrases
from judge.features.text import (
    DIGIT,
    IDEOGRAPH,
    LETTER,
    LINE,
    LOWER,
    UPPER,
    Bools,
    Bytes,
    Floats,
    Hashes,
    Ints,
    TextBatch,
    read_batch,
)

EARLY_TOKENS = 40
_LATIN_ENDS = 0x250


@dataclass(frozen=True)
class Reading:
    """N battles: their text as arrays, and `turns`, (N,), how many turns each has."""

    batch: TextBatch
    turns: Floats

    @cached_property
    def grams(self) -> Grams:
        """The battles' n-grams and where they stand."""
        return find_grams(self.batch)

    @cached_property
    def layout(self) -> Layout:
        """Lines, lists, headings and other marks of layout."""
        return lay_out(self.batch)

    @cached_property
    def _phrases_found(self) -> tuple[Ints, Ints]:
        return find_phrases(self.batch)

    @cached_property
    def phrases(self) -> dict[str, Floats]:
        """(3N,) how often the phrases of each group of the lexicon occur."""
        return count_phrases(self.batch, *self._phrases_found)

    @cached_property
    def early_phrases(self) -> dict[str, Floats]:
        """(3N,) the same within the first forty tokens."""
        tokens, groups = self._phrases_found
        early = self.batch.token_place[tokens] < EARLY_TOKENS
        return count_phrases(self.batch, tokens[early], groups[early])

    def rate(self, group: str) -> Floats:
        """(2, N) log of phrases of a group for each hundred words of the responses."""
        counts = self.batch.responses(self.phrases[group])
        return np.log1p(100.0 * ratio(counts, self.batch.responses(self.batch.words) + 20.0))

    def has(self, group: str, *, early: bool = False) -> Floats:
        """(2, N) 1 where a response has a phrase of the group."""
        counts = (self.early_phrases if early else self.phrases)[group]
        return np.minimum(self.batch.responses(counts), 1.0)

    def asks(self, group: str) -> Floats:
        """(N,) 1 where the prompt has a phrase of the group."""
        return np.minimum(self.batch.prompts(self.phrases[group]), 1.0)

    @cached_property
    def last_tokens(self) -> Ints:
        """(3N,) each document's last token that is no line break, -1 where there is none."""
        bounds = self.batch.token_documents
        solid = np.concatenate([[-1], np.flatnonzero(self.batch.token_kinds != LINE)])
        last = solid[np.searchsorted(solid, bounds[1:]) - 1]
        return np.where(last >= bounds[:-1], last, -1)

    @cached_property
    def silent(self) -> Floats:
        """(3N,) 1 where a document has nothing but blanks and line breaks."""
        return (self.last_tokens < 0).astype(np.float64)

    @cached_property
    def last_kinds(self) -> Bytes:
        """(3N,) the kind of each document's last token, a line break where there is none."""
        kinds = np.append(self.batch.token_kinds, np.uint8(LINE))
        return kinds[self.last_tokens]

    @cached_property
    def last_lengths(self) -> Floats:
        """(3N,) characters of each document's last turn."""
        return (self.batch.documents[1:] - 1 - self.batch.last_turns).astype(np.float64)

    @cached_property
    def letters(self) -> Floats:
        """(3N,) letters of any script."""
        return self.batch.characters_of(LOWER, UPPER, LETTER, IDEOGRAPH)

    @cached_property
    def latin_letters(self) -> Floats:
        """(3N,) letters of the Latin script."""
        batch = self.batch
        return batch.count_characters((batch.kinds <= UPPER) & (batch.codes < _LATIN_ENDS))

    @cached_property
    def syllables(self) -> Floats:
        """(3N,) groups of vowels."""
        table = _vowels()
        vowel = table[np.minimum(self.batch.codes, len(table) - 1)]
        opens = vowel.copy()
        opens[1:] &= ~vowel[:-1]
        return self.batch.count_characters(opens)

    @cached_property
    def words_wanted(self) -> Floats:
        """(N,) the number in a prompt's "in 50 words" or "a 50-word", 0 where it names none."""
        batch = self.batch
        asked = slice(0, batch.token_documents[batch.battles])
        number = (batch.token_kinds == DIGIT)[asked]
        word = np.isin(batch.hashes[asked], _word_hashes())
        hyphen = batch.codes[batch.starts[asked]] == ord("-")
        named = np.zeros_like(number)
        named[:-1] |= number[:-1] & word[1:]
        named[:-2] |= number[:-2] & hyphen[1:-1] & word[2:]
        named &= batch.whole(2)[asked]
        wanted = np.zeros(batch.battles)
        for token in np.flatnonzero(named).tolist():
            codes = batch.codes[batch.starts[token] : batch.ends[token]].tolist()
            digits = "".join(map(chr, codes))
            if digits.isascii() and digits.isdecimal() and len(digits) <= 4:
                wanted[batch.document_of[token]] = float(digits)
        return wanted


@cache
def _vowels() -> Bools:
    """A table of the code points below 0x460 that are vowels, Latin and Cyrillic."""
    table = np.zeros(0x460, dtype=bool)
    table[[ord(letter) for letter in "aeiouyàáâäãåèéêëìíîïòóôöõùúûüýœæøаеёиоуыэюя"]] = True
    return table


@cache
def _word_hashes() -> Hashes:
    return read_batch([("word words",)], [("",)], [("",)]).hashes


def read(
    prompts: Sequence[tuple[str, ...]],
    responses_a: Sequence[tuple[str, ...]],
    responses_b: Sequence[tuple[str, ...]],
) -> Reading:
    """Reads N battles, each text a tuple of turns."""
    turns = np.fromiter(map(len, prompts), dtype=np.float64, count=len(prompts))
    return Reading(read_batch(prompts, responses_a, responses_b), turns)
