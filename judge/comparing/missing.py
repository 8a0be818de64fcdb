"""Battles that a judge says nothing of, each with the reason, so that none is left out unseen."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

NOT_IN_FILE, UNJUDGED = "not in file", "unjudged"
COLUMNS = ("id", "judge", "reason")


def missing_table(
    ids: Sequence[str],
    labels: npt.ArrayLike,
    predictions: Mapping[str, npt.ArrayLike],
    *,
    in_file: Mapping[str, Collection[str]] | None = None,
    reasons: Mapping[str, Mapping[int, str]] | None = None,
) -> pd.DataFrame:
    """A row for each labelled battle that a judge left out: `id`, `judge`, `reason`.

    Args:
        ids: of N battles.
        labels: (N, 3); battles without a label are not compared, and so are not missed.
        predictions: (N, 3) of each judge, NaN rows where it says nothing.
        in_file: for judges that are files, the ids in them.
        reasons: for judges that are asked, why, by the battle's place.

    Returns:
        Judges in their order, battles in theirs. The reason is "not in file", or "unjudged" with
        what is known of why.
    """
    labelled = ~np.isnan(np.asarray(labels, dtype=np.float64)).any(axis=1)
    rows = []
    for judge, proba in predictions.items():
        silent = np.isnan(np.asarray(proba, dtype=np.float64)).any(axis=1) & labelled
        there = (in_file or {}).get(judge)
        why = (reasons or {}).get(judge, {})
        for place in np.flatnonzero(silent).tolist():
            if there is not None and ids[place] not in there:
                reason = NOT_IN_FILE
            else:
                reason = f"{UNJUDGED}: {why[place]}" if why.get(place) else UNJUDGED
            rows.append((ids[place], judge, reason))
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
