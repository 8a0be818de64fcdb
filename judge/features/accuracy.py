"""Accuracy, by proxy: nothing here knows what is true.

What can be seen in a text that goes with wrong answers: refusing, hedging, taking things back,
looping, breaking off, numbers that are not the question's, and numbers that the other response does
not confirm.
"""

from __future__ import annotations

import numpy as np

from judge.features.grams import PAIRS, PROMPT, A, B, Family, ratio
from judge.features.reading import Reading
from judge.features.text import IDEOGRAPH, STOP, Floats

NUMBERS = (Family.NUMBER,)


def accuracy(reading: Reading) -> dict[str, Floats]:
    """(2, N) values a feature: response A's, then response B's."""
    batch, grams = reading.batch, reading.grams
    numbers = grams.by_response(NUMBERS)
    tokens = batch.responses(np.diff(batch.token_documents).astype(np.float64))
    distinct = grams.by_response(PAIRS)
    last = batch.responses(reading.last_kinds.astype(np.float64))
    return {
        "refusal": reading.has("refusal"),
        "refusal_rate": reading.rate("refusal"),
        "early_refusal": reading.has("refusal", early=True),
        "as_an_ai": reading.has("as_an_ai"),
        "as_an_ai_rate": reading.rate("as_an_ai"),
        "apology": reading.has("apology"),
        "early_apology": reading.has("apology", early=True),
        "hedge_rate": reading.rate("hedge"),
        "certainty_rate": reading.rate("certainty"),
        "correction": reading.has("correction"),
        "role_leak": reading.has("role_leak"),
        "numbers": np.log1p(numbers),
        "numbers_of_prompt": ratio(
            grams.by_response(NUMBERS, PROMPT), grams.shared(NUMBERS, PROMPT)
        ),
        "numbers_confirmed": ratio(grams.shared(NUMBERS, A, B), numbers),
        "links": np.minimum(batch.responses(reading.layout.links), 1.0),
        "open_fence": batch.responses(reading.layout.fences) % 2.0,
        "repetition": np.where(tokens > 1, 1.0 - ratio(distinct, tokens - 1.0), 0.0),
        "loops": np.log1p(np.where(tokens > 1, np.maximum(tokens - 3.0 * distinct, 0.0), 0.0)),
        "ends_with_stop": (last == STOP).astype(np.float64),
        "ends_in_word": (last <= IDEOGRAPH).astype(np.float64),
    }
