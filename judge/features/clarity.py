"""Clarity: how easily is the response read?"""

from __future__ import annotations

import numpy as np

from judge.features.grams import WORDS, ratio
from judge.features.reading import Reading
from judge.features.text import DIGIT, PUNCTUATION, SYMBOL, UPPER, Floats


def clarity(reading: Reading) -> dict[str, Floats]:
    """(2, N) values a feature: response A's, then response B's."""
    batch = reading.batch

    def share(*kinds: int) -> Floats:
        return ratio(batch.responses(batch.characters_of(*kinds)), length)

    words = batch.responses(batch.words)
    length = batch.responses(batch.characters)
    letters = batch.responses(batch.count(np.where(batch.is_word, batch.lengths, 0)))
    long_words = batch.responses(batch.count(batch.is_word & (batch.lengths > 6)))
    sentence = ratio(words, np.maximum(batch.responses(batch.sentences), 1.0))
    distinct = reading.grams.by_response(WORDS)
    return {
        "words_per_sentence": np.log1p(sentence),
        "characters_per_word": np.minimum(ratio(letters, words), 20.0),
        "readability": _flesch(sentence, ratio(batch.responses(reading.syllables), words)),
        "fog": np.log1p(0.4 * (sentence + 100.0 * ratio(long_words, words))),
        "variety": ratio(distinct, words),
        "root_variety": ratio(distinct, np.sqrt(words)),
        "capitals": ratio(batch.responses(batch.characters_of(UPPER)), letters),
        "punctuation": share(PUNCTUATION),
        "symbols": share(SYMBOL),
        "digits": share(DIGIT),
        "other_scripts": ratio(batch.responses(reading.letters - reading.latin_letters), length),
        "emphasis": np.log1p(batch.responses(reading.layout.emphasis)),
        "conciseness_sweet_spot": _conciseness(words),
    }


def _flesch(words_per_sentence: Floats, syllables_per_word: Floats) -> Floats:
    """A tenth of the reading ease of Flesch (1948), bounded so that one endless line cannot
    outweigh everything else."""
    ease = 206.835 - 1.015 * words_per_sentence - 84.6 * syllables_per_word
    return np.clip(ease, -50.0, 120.0) / 10.0


def _conciseness(words: Floats) -> Floats:
    """1 at 150 words, falling on both sides of it on a logarithmic scale."""
    return np.asarray(np.exp(-0.5 * np.square(np.log1p(words) - np.log(151.0))))
