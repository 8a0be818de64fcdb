"""Annotations as arrays, which every measure starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from judge.aggregation import Floats, vote_shares
from judge.ballots import UNANSWERED
from judge.comparing.bootstrap import group_codes
from judge.labelled import prompt_mark
from synth.data import AnnotatedSet
from synth.soft_labels import verdict_shares

if TYPE_CHECKING:
    import pandas as pd

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

ORDERS = ("AB", "BA", "")
A, B, TIE, NA, SILENT = 0, 1, 2, 3, -1
"""What a distribution over the four votes comes down to; nothing for what could not be read."""

_DECLINED = ("refusal", "content_filter")
_DECLINED_REASON = "the model declined"


@dataclass(frozen=True)
class Records:
    """M annotations of N battles.

    Attributes:
        ids: of the battles.
        prompts: (N,) a number for each prompt, from 0 in order of appearance.
        annotators: their names, sorted.
        battle, annotator, order, sample: (M,) whose record it is: places among the battles, the
            annotators and `ORDERS`, and the number of the draw.
        weight: (M,) what a part of a battle counts for.
        votes: (M, 5, 4) distributions over A, B, AB and NA; NaN where there is no vote.
        verdict: (M, 4) the same of the verdict; NaN where there is none.
        table: the annotations themselves.
    """

    ids: list[str]
    prompts: npt.NDArray[np.intp]
    annotators: tuple[str, ...]
    battle: Ints
    annotator: Ints
    order: Ints
    sample: Ints
    weight: Floats
    votes: Floats
    verdict: Floats
    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.battle)

    @property
    def battles(self) -> int:
        """How many battles there are."""
        return len(self.ids)

    @cached_property
    def has_verdict(self) -> bool:
        """Whether any record has a verdict."""
        return bool((~np.isnan(self.verdict[:, 0])).any())

    @cached_property
    def word(self) -> Floats:
        """(M, 4) what a record says on the whole: its verdict, else the mean of its votes."""
        asked = ~np.isnan(self.votes[..., 0])
        sums = np.where(asked[..., None], self.votes, 0.0).sum(axis=1)
        number = asked.sum(axis=1)
        mean = np.full(sums.shape, np.nan)
        np.divide(sums, number[:, None], out=mean, where=number[:, None] > 0)
        return np.where(np.isnan(self.verdict), mean, self.verdict)

    @cached_property
    def readable(self) -> Bools:
        """(M,) records that something could be read from."""
        return np.asarray(~np.isnan(self.word[:, 0]), dtype=np.bool_)

    @cached_property
    def unanswered(self) -> Bools:
        """(M,) records that there was no reply to."""
        said = np.array([text.startswith(UNANSWERED) for text in self.texts("reason")], np.bool_)
        return said & ~self.readable

    @cached_property
    def unasked(self) -> Bools:
        """(M,) records of battles that nobody could even be asked about."""
        if "attempts" not in self.table.columns:
            return np.zeros(len(self), dtype=np.bool_)
        import pandas as pd

        none = pd.to_numeric(self.table["attempts"], errors="coerce").to_numpy(np.float64) == 0
        return np.asarray(none & ~self.readable & ~self.unanswered, dtype=np.bool_)

    @cached_property
    def declined(self) -> Bools:
        """(M,) records whose annotator would not answer, in the protocol's way."""
        ended = np.array([text in _DECLINED for text in self.texts("finish")], dtype=np.bool_)
        said = [_DECLINED_REASON in text for text in self.texts("reason")]
        return ended | np.array(said, dtype=np.bool_)

    def texts(self, column: str) -> list[str]:
        """(M,) a column of text, empty where there is nothing; empty throughout without it."""
        if column not in self.table.columns:
            return [""] * len(self)
        return ["" if cell is None or cell != cell else str(cell) for cell in self.table[column]]

    def of(self, annotator: int) -> Bools:
        """(M,) the records of an annotator."""
        return np.asarray(self.annotator == annotator, dtype=np.bool_)


def records_of(data: AnnotatedSet) -> Records:
    """An annotated set's annotations as arrays."""
    import pandas as pd

    table = data.annotations.reset_index(drop=True)
    ids = data.battles["id"].tolist()
    annotator, names = pd.factorize(table["judge"].astype(str), sort=True)
    order = table["order"].astype(object)
    size = len(table)
    weight = table["weight"].to_numpy(np.float64) if "weight" in table else np.ones(size)
    sample = table["sample"].to_numpy(np.int64) if "sample" in table else np.zeros(size, np.int64)
    return Records(
        ids,
        group_codes([prompt_mark(tuple(turns)) for turns in data.battles["prompt"]]),
        tuple(map(str, names)),
        np.asarray(pd.Index(ids, dtype=object).get_indexer(table["id"].astype(object)), np.int64),
        np.asarray(annotator, dtype=np.int64),
        np.select([order == "AB", order == "BA"], [0, 1], 2).astype(np.int64),
        sample,
        np.asarray(weight, dtype=np.float64),
        vote_shares(table),
        verdict_shares(table),
        table,
    )


def sides(shares: Floats) -> Ints:
    """(...) A, B, TIE, NA or SILENT, from (..., 4) distributions: NA where it is the likeliest,
    a side where it is likelier than the other and than AB, else a tie."""
    silent = np.asarray(np.isnan(shares).any(axis=-1))
    a, b, both, none = np.moveaxis(np.where(silent[..., None], 0.0, shares), -1, 0)
    found = np.select([(a > b) & (a > both), (b > a) & (b > both)], [A, B], TIE)
    found = np.where(none > np.maximum(np.maximum(a, b), both), NA, found)
    return np.asarray(np.where(silent, SILENT, found), dtype=np.int64)


def grouped(
    keys: Sequence[Ints], values: Floats, weight: Floats | None = None
) -> tuple[list[Ints], Floats]:
    """Means of (M, K) values over rows that have the same keys.

    Args:
        keys: (M,) numbers from 0, each.
        values: no NaN among them.
        weight: (M,) above 0.

    Returns:
        The keys of each group, sorted by the first, then the second, and so on, and (G, K) means.
    """
    return counted(keys, values, weight)[:2]


def counted(
    keys: Sequence[Ints], values: Floats, weight: Floats | None = None
) -> tuple[list[Ints], Floats, Floats]:
    """The same, with (G,) the weight of each group: how many rows it has."""
    sizes = [int(key.max(initial=0)) + 1 for key in keys]
    whole = np.zeros(len(values), dtype=np.int64)
    for key, size in zip(keys, sizes, strict=True):
        whole = whole * size + key
    known, place = np.unique(whole, return_inverse=True)
    share = np.ones(len(values)) if weight is None else weight
    total = np.bincount(place, share, len(known)).astype(np.float64)
    sums = [np.bincount(place, share * column, len(known)) for column in values.T]
    means = np.stack(sums, axis=1) / total[:, None]
    parts: list[Ints] = []
    rest = known
    for size in reversed(sizes):
        rest, part = np.divmod(rest, size)
        parts.insert(0, part)
    return parts, means, total
