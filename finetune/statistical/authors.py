"""What the models that wrote the responses say of a battle.

One vote is noisy, and who wrote a response is evidence about how good it is: labels are softened by
the models' Bradley-Terry strengths.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd

from judge.davidson import Block, fit_linear

Floats = npt.NDArray[np.float64]
Names = npt.NDArray[np.object_]

SOFTENING = 0.5
"""The share of a label that the models' strengths speak for."""
_PENALTY = 0.5


def author_probabilities(models: Names, labels: Floats, anonymous: Iterable[str] = ()) -> Floats:
    """(N,) P(A beats B) by the Bradley-Terry strengths of the models, NaN where one is unnamed.

    Args:
        models: (N, 2) names of model A and model B, None or empty where there is none.
        labels: (N, 3) from which the strengths are learned.
        anonymous: names that stand for no one model.
    """
    from scipy.sparse import csr_array

    table = pd.DataFrame(models, columns=["a", "b"], dtype=object).fillna("")
    names = sorted(set(table.to_numpy().ravel()) - {"", *anonymous})
    index = {name: place for place, name in enumerate(names)}
    named = (table.isin(names)).all(axis=1).to_numpy()
    rows = np.flatnonzero(named)
    if not len(rows):
        return np.full(len(labels), np.nan)
    ones = np.ones(len(rows))
    shape = (len(labels), len(names))
    a, b = ([index[m] for m in table.loc[named, c]] for c in ("a", "b"))
    design = csr_array((ones, (rows, a)), shape=shape) - csr_array((ones, (rows, b)), shape=shape)
    constant = Block(np.ones((len(rows), 1)), 1e-3)
    (strength, _) = fit_linear([Block(design[rows], _PENALTY)], [constant], labels[rows])
    proba = 1.0 / (1.0 + np.exp(-np.asarray(design @ strength)))
    return np.where(named, proba, np.nan)


def soften(labels: Floats, author: Floats, share: float = SOFTENING) -> Floats:
    """(N, 3) labels mixed with what the authors' strengths say, where the authors are known.

    Args:
        labels: (N, 3).
        author: (N,) as `author_probabilities` says.
        share: what the strengths speak for, from 0 to 1.
    """
    said = np.stack([author, 1.0 - author, np.zeros(len(author))], axis=1)
    mixed = (1.0 - share) * labels + share * said
    return np.where(np.isnan(author)[:, None], labels, mixed)
