"""Soft labels: what annotators said of each battle, as a distribution over A, B and tie.

Where they gave a verdict it is the label: parts of a ballot by their weight, then the mean over
samples, over orders and over annotators, so that each order weighs the same and what a position
gains in one it loses in the other. AB is a tie. NA is left out at the end, and what remains is
scaled to sum to 1: a ballot that half abstains has half a say. A battle on which all verdicts are
NA has no label; that is no tie.

Where there is no verdict the votes are counted by an aggregator (see `judge.aggregation`), the
unfitted one unless another is given. For a file of votes these are, to the last bit, the
probabilities that `arena-judge compare` uses.

Several annotators weigh the same, unless the aggregator has weights for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from judge.aggregation import UNFITTED, Aggregator, Floats, pool, vote_shares
from judge.ballots import CRITERIA, VERDICT, VOTES
from judge.errors import InputError
from synth.data import AnnotatedSet

if TYPE_CHECKING:
    import pandas as pd

SOURCES = ("auto", "verdict", "votes")
# Evidence is rounded to multiples of 2**-40: what is below this is nothing.
_NOTHING = 1e-9


@dataclass(frozen=True)
class SoftLabels:
    """The labels of N battles.

    Attributes:
        ids: of the battles, in their order.
        proba: (N, 3) in the order A, B, tie, rows summing to 1; NaN rows have no label.
        ballots: (N,) how many readable ballots a label is made of.
        by_verdict: (N,) whether a label is the verdict's; else it is counted from votes.
    """

    ids: list[str]
    proba: Floats
    ballots: npt.NDArray[np.int64]
    by_verdict: npt.NDArray[np.bool_]

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """(N,) battles that have a label."""
        return np.asarray(~np.isnan(self.proba[:, 0]), dtype=np.bool_)


def soft_labels(
    data: AnnotatedSet, *, source: str = "auto", aggregator: Aggregator | None = None
) -> SoftLabels:
    """The labels of an annotated set's battles.

    Args:
        data: the set.
        source: "verdict" or "votes" alone; "auto" takes the verdict of each battle that has one,
            and the votes of the others.
        aggregator: how votes are counted, and what annotators weigh.

    Raises:
        InputError: there is no such source.
    """
    if source not in SOURCES:
        raise InputError(f"{source!r} is no source of labels", mend=f"name {', '.join(SOURCES)}")
    counting = aggregator or UNFITTED
    ids: list[str] = data.battles["id"].tolist()
    verdict = verdict_shares(data.annotations)
    given = ~np.isnan(verdict[:, 0])
    proba = np.full((len(ids), 3), np.nan)
    by_verdict = np.zeros(len(ids), dtype=np.bool_)
    if source != "votes" and given.any():
        proba, by_verdict = _of_verdicts(data.annotations[given], verdict[given], ids, counting)
    if source != "verdict" and not by_verdict.all():
        counted = counting.aggregate(data.annotations, ids, _covariates(counting, data.battles))
        proba = np.where(by_verdict[:, None], proba, counted)
    return SoftLabels(ids, proba, _ballots(data.annotations, given, ids), by_verdict)


def verdict_shares(annotations: pd.DataFrame) -> Floats:
    """(M, 4) the verdicts' distributions over `judge.ballots.VOTES`; NaN rows where there is none.
    A table that has the verdicts alone has them as certainties."""
    shares = np.full((len(annotations), len(VOTES)), np.nan)
    names = [f"{VERDICT}_{vote}" for vote in VOTES]
    if all(name in annotations.columns for name in names):
        shares = annotations[names].to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    elif VERDICT in annotations.columns:
        words = annotations[VERDICT].astype(object)
        for place in range(len(VOTES)):
            shares[(words == VOTES[place]).to_numpy()] = np.eye(len(VOTES))[place]
    shares[np.isnan(shares).any(axis=1)] = np.nan
    return shares


def read_aggregator(folder: str | Path) -> Aggregator:
    """The aggregator in a judge folder that `arena-judge fit` has made.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    from judge.aggregation import from_settings
    from judge.judges.recipes import FILE, read_recipe

    path = Path(folder)
    file = path / FILE if path.is_dir() else path
    settings = read_recipe(file).settings.get("aggregator")
    if settings is None:
        mend = "name a judge folder that arena-judge fit has made"
        raise InputError("has no aggregator", file=folder, mend=mend)
    return from_settings(settings, file=file)


def _of_verdicts(
    annotations: pd.DataFrame, verdict: Floats, ids: Sequence[str], aggregator: Aggregator
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """(N, 3) labels, and which battles had a verdict; verdicts are pooled as votes are."""
    kept = [name for name in ("id", "judge", "order", "sample", "weight") if name in annotations]
    table = annotations[kept].assign(
        **{f"{CRITERIA[0]}_{vote}": verdict[:, place] for place, vote in enumerate(VOTES)}
    )
    found = pool(table, ids)
    direction, both, abstained = (
        part[..., 0] for part in (found.direction, found.both, found.abstained)
    )
    sided = 1.0 - both - abstained
    each = np.stack([(sided + direction) / 2.0, (sided - direction) / 2.0, both], axis=2)
    weight = np.array([aggregator.judges.get(name, 1.0) for name in found.judges])
    said = ~np.isnan(direction)
    share = said * weight
    sums = (np.where(said[..., None], np.maximum(each, 0.0), 0.0) * share[..., None]).sum(axis=1)
    sums[sums < _NOTHING] = 0.0
    total = sums.sum(axis=1, keepdims=True)
    proba = np.full(sums.shape, np.nan)
    np.divide(sums, total, out=proba, where=total > 0)
    return proba, np.asarray(said.any(axis=1), dtype=np.bool_)


def _covariates(aggregator: Aggregator, battles: pd.DataFrame) -> Floats | None:
    if aggregator.covariates is None:
        return None
    from judge.judges.covariates import shipped_statistical, statistical_covariates

    return statistical_covariates(shipped_statistical(), battles)


def _ballots(
    annotations: pd.DataFrame, given: npt.NDArray[np.bool_], ids: Sequence[str]
) -> npt.NDArray[np.int64]:
    """(N,) readable ballots, the parts of one counting as one."""
    import pandas as pd

    voted = ~np.isnan(vote_shares(annotations)[..., 0]).all(axis=1)
    keys = ["id", "judge", "order", "sample"]
    readable = annotations.loc[voted | given, keys].drop_duplicates()["id"].value_counts()
    counts = readable.reindex(pd.Index(ids, dtype=object), fill_value=0)
    return np.asarray(counts.to_numpy(), dtype=np.int64)
