"""How a text is laid out: lines, paragraphs, headings, lists, tables, code fences, emphasis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from judge.features.grams import ratio
from judge.features.text import DIGIT, LINE, STOP, Bools, Floats, TextBatch


@dataclass(frozen=True)
class Layout:
    """(3N,) counts, a value for each document."""

    lines: Floats
    uneven_lines: Floats
    paragraphs: Floats
    headings: Floats
    bullets: Floats
    numbered: Floats
    table_rows: Floats
    fences: Floats
    emphasis: Floats
    links: Floats
    colons: Floats
    questions: Floats


def lay_out(batch: TextBatch) -> Layout:
    """The layout of every document of a batch."""
    first = batch.codes[batch.starts]
    opens = batch.line_starts
    kinds, single = batch.token_kinds, batch.lengths == 1
    following = np.roll(kinds, -1) == STOP
    following |= np.roll(first, -1) == ord(")")
    following &= batch.whole(2)
    bullet = np.isin(first, [ord(mark) for mark in "-*•–+"])

    def count(mark: str, where: Bools) -> Floats:
        return batch.count(where & (first == ord(mark)))

    return Layout(
        lines=batch.count(opens),
        uneven_lines=_unevenness(batch),
        paragraphs=batch.count((kinds == LINE) & ~single) + 1.0,
        headings=count("#", opens),
        bullets=batch.count(opens & bullet & single),
        numbered=batch.count(opens & (kinds == DIGIT) & following),
        table_rows=count("|", opens),
        fences=count("`", batch.lengths >= 3),
        emphasis=count("*", batch.lengths == 2) / 2.0,
        links=count("/", batch.lengths == 2),
        colons=count(":", single),
        questions=batch.count(np.isin(first, [ord("?"), ord("？"), ord("؟")])),
    )


def _unevenness(batch: TextBatch) -> Floats:
    """(3N,) how much the lines' lengths in tokens vary: standard deviation over mean."""
    opens = np.flatnonzero(batch.line_starts)
    document = batch.document_of[opens]
    ends = np.append(opens[1:], len(batch.hashes))
    ends = np.minimum(ends, batch.token_documents[1:][document])
    breaks = batch.token_kinds[ends - 1] == LINE
    size = (ends - opens - breaks).astype(np.float64)
    documents = 3 * batch.battles
    lines = np.bincount(document, minlength=documents).astype(np.float64)
    mean, square = (
        ratio(np.bincount(document, power, documents).astype(np.float64), lines)
        for power in (size, size * size)
    )
    return ratio(np.sqrt(np.maximum(square - mean * mean, 0.0)), mean)
