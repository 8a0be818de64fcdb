"""Annotations battle by battle: what each record votes, and what all of them together say.

Votes are places in `judge.ballots.VOTES`, -1 where there is none, for the five criteria and, sixth,
the verdict. They speak of the battle as it stands in the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from judge.aggregation import UNFITTED, Aggregator, Floats, pool, vote_shares
from judge.ballots import CRITERIA, VERDICT, VOTES
from judge.prompting import CRITIQUES, Prompt
from judge.voting import TURNED
from synth.data import BALLOT_REASON, REASONS, AnnotatedSet
from synth.soft_labels import soft_labels, verdict_shares

if TYPE_CHECKING:
    import pandas as pd

Places = npt.NDArray[np.int64]
Votes = tuple[int, ...]

ASKED = (*CRITERIA, VERDICT)
NONE = -1
_TEXTS = ("reply", BALLOT_REASON, *REASONS, *CRITIQUES)
_SAME = 1e-9


@dataclass(frozen=True)
class Record:
    """One annotation.

    Attributes:
        judge: the annotator.
        order: how the battle was shown, "" where that is not known.
        sample: the number of the draw.
        votes: six places in `VOTES`.
        texts: `reply`, `ballot_reason`, `relevance_reason`, ..., `critique_a`, `critique_b`, as far
            as they are there.
    """

    judge: str
    order: str
    sample: int
    votes: Votes
    texts: dict[str, str]


class Records:
    """The records of an annotated set that are of whole battles, found by the battle.

    Args:
        data: the set. What is of a part of a battle is no reply to the whole, and passed over.
    """

    def __init__(self, data: AnnotatedSet) -> None:
        import pandas as pd

        table = data.annotations
        index = pd.Index(data.battles["id"].astype(object))
        battle = np.asarray(index.get_indexer(pd.Index(table["id"].astype(object))), dtype=np.int64)
        self._votes = _votes(table)
        self._judges = table["judge"].astype(str).to_numpy(dtype=object)
        self._orders = table["order"].fillna("").astype(str).to_numpy(dtype=object)
        self._samples = table["sample"].to_numpy(dtype=np.int64)
        there = [name for name in _TEXTS if name in table.columns]
        self._texts = {name: table[name].to_numpy(dtype=object) for name in there}
        judge = np.unique(self._judges.astype(str), return_inverse=True)[1]
        rows = np.flatnonzero((self._votes >= 0).any(axis=1) & ~_parted(table) & (battle >= 0))
        keys = (rows, judge[rows], self._samples[rows], battle[rows])
        self._rows = rows[np.lexsort(keys)]
        self._starts = np.searchsorted(battle[self._rows], np.arange(len(index) + 1))

    def of(self, battle: int) -> list[Record]:
        """The records of a battle by its place: by sample, then annotator, then as they stand."""
        rows = self._rows[self._starts[battle] : self._starts[battle + 1]]
        return [self._record(row) for row in rows.tolist()]

    def _record(self, row: int) -> Record:
        texts = {name: cells[row] for name, cells in self._texts.items()}
        return Record(
            self._judges[row],
            self._orders[row],
            int(self._samples[row]),
            tuple(self._votes[row].tolist()),
            {name: text for name, text in texts.items() if isinstance(text, str) and text},
        )


def consensus(data: AnnotatedSet, aggregator: Aggregator | None = None) -> Places:
    """(N, 6) what annotators, orders and samples say together, each order weighing the same within
    an annotator: the likeliest vote of the mean distribution. Where A and B are as likely as each
    other, neither gains by coming first: it is AB. The verdict is never NA.

    Args:
        data: the set.
        aggregator: for what its annotators weigh.
    """
    found = pool(data.annotations, data.battles["id"].tolist())
    weights = (aggregator or UNFITTED).judges
    weight = np.array([weights.get(name, 1.0) for name in found.judges])[None, :, None]
    said = ~np.isnan(found.direction)
    sided = 1.0 - found.both - found.abstained
    each = np.stack(
        [(sided + found.direction) / 2, (sided - found.direction) / 2, found.both, found.abstained],
        axis=-1,
    )
    share = (said * weight)[..., None]
    sums = (np.where(said[..., None], each, 0.0) * share).sum(axis=1)
    total = share.sum(axis=1)
    shares = np.full(sums.shape, np.nan)
    np.divide(sums, total, out=shares, where=total > 0)
    verdict = soft_labels(data, source="verdict", aggregator=aggregator).proba
    verdicts = np.concatenate([verdict, np.zeros((len(verdict), 1))], axis=1)[:, None]
    return likeliest_votes(np.concatenate([shares, verdicts], axis=1))


def likeliest_votes(shares: Floats) -> Places:
    """(...,) the places of the likeliest votes of (..., 4) distributions; -1 without one. What is
    as likely as another to a billionth is as likely, and A before B gains nothing by it."""
    rounded = np.round(np.where(np.isnan(shares), NONE, shares) / _SAME)
    best = np.asarray(rounded.argmax(axis=-1), dtype=np.int64)
    drawn = (best == 0) & (rounded[..., 0] == rounded[..., 1])
    best[drawn] = VOTES.index("AB")
    best[np.isnan(shares).any(axis=-1)] = NONE
    return best


def turned(votes: Sequence[int], order: str) -> Votes:
    """Votes on the battle as it stands in the file, as they are of the battle shown; and back."""
    if order != "BA":
        return tuple(votes)
    return tuple(TURNED[vote] if vote >= 0 else vote for vote in votes)


def asked_votes(prompt: Prompt, criterion: str | None = None) -> tuple[int, ...]:
    """Which of the six votes a reply has, by their places in `ASKED`."""
    names = prompt.criteria if criterion is None else (criterion,)
    places = tuple(ASKED.index(name) for name in names)
    return (*places, ASKED.index(VERDICT)) if prompt.verdict else places


def _votes(table: pd.DataFrame) -> Places:
    """(M, 6)"""
    votes = likeliest_votes(vote_shares(table))
    shares = verdict_shares(table)
    shares[:, VOTES.index("NA")] *= 0.0  # a verdict that abstains is none
    nothing = shares.sum(axis=1) <= 0
    shares[nothing] = np.nan
    return np.concatenate([votes, likeliest_votes(shares)[:, None]], axis=1)


def _parted(table: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """(M,) records of a part of a battle."""
    import pandas as pd

    if "part" not in table.columns:
        return np.zeros(len(table), dtype=np.bool_)
    keys = [table[name].fillna("") for name in ("id", "judge", "order", "sample")]
    part = pd.to_numeric(table["part"], errors="coerce").fillna(0)
    most = part.groupby(keys, sort=False).transform("max")
    return np.asarray(most.to_numpy(dtype=np.float64) > 0, dtype=np.bool_)
