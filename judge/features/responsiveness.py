"""Responsiveness: does the response do what was asked, at the length and in the form asked for?"""

from __future__ import annotations

import numpy as np

from judge.features.reading import Reading
from judge.features.text import Floats


def responsiveness(reading: Reading) -> dict[str, Floats]:
    """(2, N) values a feature: response A's, then response B's."""
    return {**_length(reading), **_form(reading), **_tone(reading)}


def _length(reading: Reading) -> dict[str, Floats]:
    """Length by itself and by what the prompt asks for."""
    batch = reading.batch
    words = batch.responses(batch.words)
    length = np.log1p(batch.responses(batch.characters))
    wanted = reading.words_wanted
    excess = np.where(wanted > 0, np.log1p(words) - np.log1p(wanted), 0.0)
    return {
        "length": length,
        "log_words": np.log1p(words),
        "root_words": np.sqrt(words),
        "last_length": np.log1p(batch.responses(reading.last_lengths)),
        "empty": batch.responses(reading.silent),
        "tiny": (words < 8).astype(np.float64),
        "verbosity_penalty": np.maximum(length - np.log(2500.0), 0.0),
        "brevity_penalty": np.maximum(np.log(300.0) - length, 0.0),
        "length_when_brief": length * reading.asks("brief_word"),
        "length_when_long": length * reading.asks("long_word"),
        "length_when_creative": length * reading.asks("creative_word"),
        "length_when_reasoning": length * reading.asks("reasoning_word"),
        "length_when_code": length * reading.asks("code_word"),
        "length_when_greeting": length * reading.asks("greeting"),
        # Centred at a prompt of ninety characters, about the median, to leave `length` its meaning.
        "length_by_prompt": length * (np.log1p(batch.prompts(batch.characters)) - 4.5),
        "length_by_turns": length * (reading.turns > 1),
        "limit_exceeded": np.maximum(excess, 0.0),
        "limit_not_reached": np.maximum(-excess, 0.0),
    }


def _form(reading: Reading) -> dict[str, Floats]:
    """Code where code is asked for, a list where a list is."""
    batch, layout = reading.batch, reading.layout
    code = np.minimum(batch.responses(layout.fences), 1.0)
    listed = np.minimum(batch.responses(layout.bullets + layout.numbered) / 3.0, 1.0)
    wants_code, wants_list = reading.asks("code_word"), reading.asks("list_word")
    return {
        "code_when_asked": code * wants_code,
        "code_unasked": code * (1.0 - wants_code),
        "list_when_asked": listed * wants_list,
        "list_unasked": listed * (1.0 - wants_list),
        "refusal_when_sensitive": reading.has("refusal") * reading.asks("sensitive_word"),
    }


def _tone(reading: Reading) -> dict[str, Floats]:
    """How the response turns to the person who asked."""
    batch = reading.batch
    marks = np.append(batch.codes[batch.starts], np.uint32(0))[reading.last_tokens]
    return {
        "follow_up": reading.rate("follow_up"),
        "asks_back": batch.responses(np.isin(marks, [ord("?"), ord("？"), ord("؟")]).astype(float)),
        "questions": np.log1p(batch.responses(reading.layout.questions)),
        "mediator_quality": reading.rate("mediation"),
        "empathy": reading.rate("empathy"),
        "first_person": reading.rate("first_person"),
        "second_person": reading.rate("second_person"),
    }
