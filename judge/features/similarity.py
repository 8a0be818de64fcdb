"""What both responses and the prompt share: what a tie can be told by, and the setting in which a
criterion is read. Every value here is the same when the responses are swapped."""

from __future__ import annotations

import numpy as np

from judge.features.grams import PAIRS, PROMPT, WORDS, A, B, Family, ratio
from judge.features.reading import Reading
from judge.features.text import Floats

PROMPT_KINDS = (
    "code_word", "list_word", "creative_word", "brief_word", "long_word", "reasoning_word",
    "question_word", "sensitive_word", "greeting",
)  # fmt: skip


def similarity(reading: Reading) -> dict[str, Floats]:
    """(N,) values a feature."""
    batch, grams = reading.batch, reading.grams
    length = np.log1p(batch.responses(batch.characters))
    refusal = reading.has("refusal")
    silent = batch.responses(reading.silent)
    content, numbers = (Family.CONTENT,), (Family.NUMBER,)
    everything = tuple(Family)
    either = grams.shared(numbers, A) + grams.shared(numbers, B) - grams.shared(numbers, A, B)
    alone = grams.counts[:, [A, B, A | PROMPT, B | PROMPT]].sum(axis=(0, 1))
    values = {
        "word_cosine": _cosine(reading, WORDS),
        "content_cosine": _cosine(reading, content),
        "pair_cosine": _cosine(reading, PAIRS),
        "identical": ((alone == 0) & (grams.shared(everything, A, B) > 0)).astype(np.float64),
        "both_empty": silent.min(axis=0),
        "one_empty": np.abs(silent[0] - silent[1]),
        "numbers_agreed": ratio(grams.shared(numbers, A, B), either),
        "prompt_covered": ratio(grams.shared(content, PROMPT, A, B), grams.shared(content, PROMPT)),
        "mean_length": length.mean(axis=0),
        "shorter_length": length.min(axis=0),
        "length_gap": np.abs(length[0] - length[1]),
        "both_refuse": refusal.min(axis=0),
        "one_refuses": refusal.max(axis=0),
        "turns": np.log(np.maximum(reading.turns, 1.0)),
        "prompt_length": np.log1p(batch.prompts(batch.characters)),
        "prompt_numbers": np.minimum(grams.shared(numbers, PROMPT), 3.0) / 3.0,
        "prompt_other_scripts": batch.prompts(
            ratio(reading.letters - reading.latin_letters, reading.letters)
        ),
    }
    return values | {f"prompt_{kind}": reading.asks(kind) for kind in PROMPT_KINDS}


def _cosine(reading: Reading, families: tuple[Family, ...]) -> Floats:
    """(N,) cosine between the responses' sets of n-grams."""
    grams = reading.grams
    sizes = grams.shared(families, A) * grams.shared(families, B)
    return ratio(grams.shared(families, A, B), np.sqrt(sizes))
