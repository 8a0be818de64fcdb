"""Logical flow: is the response built so that one thing follows from another?"""

from __future__ import annotations

import numpy as np

from judge.features.grams import ratio
from judge.features.reading import Reading
from judge.features.text import Floats


def logical_flow(reading: Reading) -> dict[str, Floats]:
    """(2, N) values a feature: response A's, then response B's."""
    batch, layout = reading.batch, reading.layout
    words = batch.responses(batch.words)
    paragraphs = batch.responses(layout.paragraphs)
    return {
        "headings": np.log1p(batch.responses(layout.headings)),
        "bullets": np.log1p(batch.responses(layout.bullets)),
        "numbered": np.log1p(batch.responses(layout.numbered)),
        "tables": np.log1p(batch.responses(layout.table_rows)),
        "fences": np.log1p(batch.responses(layout.fences)),
        "paragraphs": np.log1p(paragraphs),
        "lines": np.log1p(batch.responses(layout.lines)),
        "words_per_paragraph": np.log1p(ratio(words, paragraphs)),
        "uneven_lines": batch.responses(layout.uneven_lines),
        "colons": np.log1p(100.0 * ratio(batch.responses(layout.colons), words + 20.0)),
        "connective_rate": reading.rate("connective"),
        "contradiction_ratio": reading.rate("contradiction"),
        "negation_rate": reading.rate("negation"),
        "opening": reading.has("opening", early=True),
        "closing": reading.has("closing"),
    }
