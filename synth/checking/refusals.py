"""Refusals: of annotators that would not judge, and of models that would not answer the prompt.

A response is taken for a refusal when it is short and opens with a phrase of refusing
(`judge.features.lexicon`): what is refused at length, or in another language than the phrases are
in, is not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from judge.aggregation import Floats
from judge.features.reading import read
from synth.checking.records import Bools, Records

if TYPE_CHECKING:
    import pandas as pd

SHORT = 100
"""Words that a refusal has at most."""
OPENING = 400
"""Characters of a reply in which an annotator refuses, if it does."""
_BATCH = 256


@dataclass(frozen=True)
class Refusals:
    """How many there are.

    Attributes:
        declined: records whose annotator declined; `battles` those that have any such record.
        one: battles of which one response is a refusal, `both` of which both are.
        against: of those with one, how many the labels give to the other response; None where none
            has a label.
        labelled: how many of those have a label.
    """

    declined: int
    battles: int
    one: int
    both: int
    against: int | None
    labelled: int


def refusing_records(records: Records) -> Bools:
    """(M,) records of annotators that declined: as the protocol says it, or in so many words."""
    declined = records.declined.copy()
    silent = np.flatnonzero(~records.readable & ~declined)
    if len(silent) and "reply" in records.table.columns:
        cells = records.table["reply"].astype(object).iloc[silent].tolist()
        texts = ["" if cell is None or cell != cell else str(cell)[:OPENING] for cell in cells]
        declined[silent] = _refusing([(text,) for text in texts])
    return declined


def refusing_responses(battles: pd.DataFrame) -> Bools:
    """(2, N) responses A and B that are refusals."""
    found = []
    for start in range(0, len(battles), _BATCH):
        part = battles.iloc[start : start + _BATCH]
        texts = [part[name].tolist() for name in ("prompt", "response_a", "response_b")]
        reading = read(*texts)
        short = reading.batch.responses(reading.batch.words) <= SHORT
        found.append((reading.has("refusal", early=True) > 0) & short)
    return np.concatenate(found, axis=1) if found else np.zeros((2, 0), dtype=np.bool_)


def refusals(records: Records, declined: Bools, responses: Bools, proba: Floats) -> Refusals:
    """Counts of both kinds.

    Args:
        records: the annotations.
        declined: (M,) see `refusing_records`.
        responses: (2, N) see `refusing_responses`.
        proba: (N, 3) labels, NaN rows without one.
    """
    one = responses[0] ^ responses[1]
    told = one & ~np.isnan(proba[:, 0])
    other = np.where(responses[0], proba[:, 1] - proba[:, 0], proba[:, 0] - proba[:, 1])
    return Refusals(
        int(declined.sum()),
        len(np.unique(records.battle[declined])),
        int(one.sum()),
        int((responses[0] & responses[1]).sum()),
        int((other[told] > 0).sum()) if told.any() else None,
        int(told.sum()),
    )


def _refusing(texts: list[tuple[str, ...]]) -> Bools:
    blank = [("",)] * len(texts)
    return np.asarray(read(blank, texts, blank).has("refusal", early=True)[0] > 0)
