"""Ballots: the votes of one judge on one battle, criterion by criterion.

A ballot table has one row a ballot: `id`, `judge`, `order` ("AB" or "BA"), `sample`, `part` (of a
conversation judged in parts), then for each criterion its vote (`relevance`, ...) and the vote's
distribution (`relevance_A`, `relevance_B`, `relevance_AB`, `relevance_NA`), then `cut`, how much of
the battle's text was left out, and `reason`, why no ballot could be read, empty otherwise. Votes
speak of the battle as it stands in the file, whatever the order it was shown in. Where nothing was
asked or nothing could be read, the vote is null and its distribution NaN. Where a judge was asked
for its verdict on the whole too, `verdict` and `verdict_A`, ... stand after the criteria.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

UNANSWERED = ("no reply: ", "not asked: ")
"""What the reason of a ballot begins with that nothing was said on: there was nothing to read."""

CRITERIA = ("relevance", "accuracy", "clarity", "logical_flow", "responsiveness")
VOTES = ("A", "B", "AB", "NA")
VERDICT, VERDICTS = "verdict", ("A", "B", "AB")
"""Which response is better on the whole, where that is asked for too, and what it may be."""


def ballot_table(
    ids: Sequence[str],
    judge: str | Sequence[str],
    votes: npt.NDArray[np.float64] | Sequence[npt.NDArray[np.float64] | None],
    *,
    order: str | Sequence[str] = "AB",
    sample: int | Sequence[int] = 0,
    part: int | Sequence[int] = 0,
    cut: int | Sequence[int] = 0,
    reason: str | Sequence[str] = "",
    weight: Sequence[float] | None = None,
    reply: Sequence[str] | None = None,
    verdict: Sequence[npt.NDArray[np.float64] | None] | None = None,
) -> pd.DataFrame:
    """A table of ballots, from N values of each kind or one value for all.

    Args:
        ids: the battles' ids, N of them.
        judge: the judge's name.
        votes: (N, 5, 4) distributions over `VOTES`, criteria in the order of `CRITERIA`; or N such
            ballots, None for one that could not be read.
        order: how the battles were shown.
        sample: the number of the draw, from 0.
        part: the number of the part of the battle, from 0.
        cut: characters or tokens left out of the battle.
        reason: why a ballot could not be read.
        weight: what the parts of a battle count for; a column only where it is given.
        reply: the text of the replies; a column only where it is given.
        verdict: N distributions over `VOTES` of the verdict; columns only where it is given.

    Raises:
        ValueError: lengths that do not agree.
    """
    filled = _array(votes)
    if filled.shape != (len(ids), len(CRITERIA), len(VOTES)):
        raise ValueError(f"votes of shape {filled.shape} for {len(ids)} ballots")
    columns: dict[str, object] = {
        "id": _texts(list(ids), len(ids)),
        "judge": _texts(judge, len(ids)),
        "order": _texts(order, len(ids)),
        "sample": _numbers(sample, len(ids)),
        "part": _numbers(part, len(ids)),
    }
    names: tuple[str, ...] = CRITERIA
    if verdict is not None:
        names = (*CRITERIA, VERDICT)
        filled = np.concatenate([filled, _verdicts(verdict)], axis=1)
    chosen = _chosen(filled)
    for c, name in enumerate(names):
        columns[name] = _texts(chosen[:, c].tolist(), len(ids))
        for v, vote in enumerate(VOTES):
            columns[f"{name}_{vote}"] = filled[:, c, v]
    columns["cut"] = _numbers(cut, len(ids))
    columns["reason"] = _texts(reason, len(ids))
    if weight is not None:
        columns["weight"] = np.asarray(weight, dtype=np.float64)
    if reply is not None:
        columns["reply"] = _texts(list(reply), len(ids))
    return pd.DataFrame(columns)


def _array(
    votes: npt.NDArray[np.float64] | Sequence[npt.NDArray[np.float64] | None],
) -> npt.NDArray[np.float64]:
    if isinstance(votes, np.ndarray):
        return votes
    nothing = np.full((len(CRITERIA), len(VOTES)), np.nan)
    if not votes:
        return np.empty((0, *nothing.shape))
    return np.stack([nothing if ballot is None else ballot for ballot in votes])


def _verdicts(
    verdicts: Sequence[npt.NDArray[np.float64] | None],
) -> npt.NDArray[np.float64]:
    """(N, 1, 4)"""
    nothing = np.full(len(VOTES), np.nan)
    said = [nothing if one is None else one for one in verdicts]
    return np.array(said, dtype=np.float64).reshape(len(said), 1, len(VOTES))


def _chosen(votes: npt.NDArray[np.float64]) -> npt.NDArray[np.object_]:
    """The likeliest vote of each distribution; None where there is no distribution."""
    none = np.asarray(np.isnan(votes).any(axis=2))
    choice = np.where(none[..., None], 0.0, votes).argmax(axis=2)
    # A and B alike are no choice between them, whichever stands first.
    choice[(votes[..., 0] == votes[..., 1]) & (choice == 0)] = VOTES.index("AB")
    chosen: npt.NDArray[np.object_] = np.array(VOTES, dtype=object)[choice]
    chosen[none] = None
    return chosen


def _texts(value: str | Sequence[str | None], number: int) -> pd.Series[str]:
    # Of one type from the first batch on, also where all are null: files are written in batches.
    values = [value] * number if isinstance(value, str) else list(value)
    return pd.Series(values, dtype="str")


def _numbers(value: int | Sequence[int], number: int) -> npt.NDArray[np.int64]:
    return np.full(number, value, dtype=np.int64) if isinstance(value, int) else np.array(value)
