"""What a calibrator may look at in a battle itself: how alike the responses are, how long they are,
what is asked.

`SYMMETRIC` values do not change when the responses are exchanged, and have their say in the tie;
`SIDED` ones change their sign, and have their say in which side wins.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.features.batches import small_batches
from judge.features.reading import Reading, read
from judge.features.similarity import similarity

Floats = npt.NDArray[np.float64]

SIDED = ("length_difference",)
# Written out, since calibrators are kept with these names: what else the statistical judge comes to
# look at is no concern of theirs.
SYMMETRIC = (
    "word_cosine",
    "content_cosine",
    "pair_cosine",
    "identical",
    "both_empty",
    "one_empty",
    "numbers_agreed",
    "prompt_covered",
    "mean_length",
    "shorter_length",
    "length_gap",
    "both_refuse",
    "one_refuses",
    "turns",
    "prompt_length",
    "prompt_numbers",
    "prompt_other_scripts",
    "prompt_code_word",
    "prompt_list_word",
    "prompt_creative_word",
    "prompt_brief_word",
    "prompt_long_word",
    "prompt_reasoning_word",
    "prompt_question_word",
    "prompt_sensitive_word",
    "prompt_greeting",
)
NAMES = (*SIDED, *SYMMETRIC)
"""The columns, in their order."""


def covariates_of(battles: pd.DataFrame) -> Floats:
    """(N, 27) the values of `NAMES` for a battle table, read a few battles at a time."""
    parts = [_values(read(*texts)) for texts in small_batches(battles)]
    return np.concatenate(parts) if parts else np.zeros((0, len(NAMES)))


def _values(reading: Reading) -> Floats:
    a, b = reading.batch.responses(reading.batch.characters)
    values = similarity(reading) | {"length_difference": (a - b) / np.maximum(a + b, 1.0)}
    return np.stack([values[name] for name in NAMES], axis=-1)
