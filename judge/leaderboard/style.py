"""How much longer, or more laid out, one response is than the other: what style control holds
constant.

Each difference is (A - B) / (A + B) of a count, 0 where neither has any, as Chatbot Arena takes
them (Li et al. 2024, "Does style matter?"): twice as many words count the same in a short answer
and in a long one, and swapping A and B changes the sign alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from judge.features.reading import read

Floats = npt.NDArray[np.float64]

STYLE = ("length", "headings", "lists", "bold", "code")


def style_differences(
    responses_a: Sequence[tuple[str, ...]], responses_b: Sequence[tuple[str, ...]]
) -> Floats:
    """(N, 5) differences from -1 to 1 in the order of `STYLE`, positive where A has more: words and
    marks, Markdown headings, list items, bold spans, fences of code."""
    reading = read([("",)] * len(responses_a), responses_a, responses_b)
    batch, layout = reading.batch, reading.layout
    counts = (
        batch.count(np.ones(len(batch.starts), dtype=bool)),
        layout.headings,
        layout.bullets + layout.numbered,
        layout.emphasis,
        layout.fences,
    )
    sides = [batch.responses(count) for count in counts]
    return np.column_stack([_share(a, b) for a, b in sides])


def _share(a: Floats, b: Floats) -> Floats:
    total = a + b
    return np.asarray((a - b) / np.where(total > 0, total, 1.0))
