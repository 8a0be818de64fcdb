"""Relevance: does the response speak of what was asked?"""

from __future__ import annotations

import numpy as np

from judge.features.grams import PAIRS, PROMPT, Family, ratio
from judge.features.reading import Reading
from judge.features.text import IDEOGRAPH, Floats

CONTENT = (Family.CONTENT,)


def relevance(reading: Reading) -> dict[str, Floats]:
    """(2, N) values a feature: response A's, then response B's."""
    grams = reading.grams
    asked, asked_pairs = grams.shared(CONTENT, PROMPT), grams.shared(PAIRS, PROMPT)
    own = grams.by_response(CONTENT)
    common = grams.by_response(CONTENT, PROMPT)
    copied = grams.by_response(PAIRS, PROMPT)
    return {
        "keyword_recall": ratio(common, asked),
        "keyword_density": ratio(common, own),
        "semantic_consistency": ratio(common, np.sqrt(own * asked)),
        "keyword_jaccard": ratio(common, own + asked - common),
        "copied_pairs": np.log1p(copied),
        "copied_share": ratio(copied, asked_pairs),
        "script_match": _script_match(reading),
    }


def _script_match(reading: Reading) -> Floats:
    """1 less the distance between the shares of Latin and of ideographic letters in prompt and
    response: near 0 for an answer in another script than the question."""
    batch = reading.batch
    letters, latin = reading.letters, reading.latin_letters
    wide = batch.characters_of(IDEOGRAPH)
    distance = np.zeros((2, batch.battles))
    for part in (latin, wide):
        share = ratio(part, letters)
        distance += 0.5 * np.abs(batch.responses(share) - batch.prompts(share))
    comparable = (batch.responses(letters) > 0) & (batch.prompts(letters) > 0)
    return np.where(comparable, 1.0 - distance, 1.0)
