"""How far a judge's verdicts are people's: the confusion matrix, and what is made of it.

A verdict is the class that the judge finds most probable. Everything is a function of the (3, 3)
matrix of votes: rows are the labels A, B, tie, columns the verdicts. A battle counts as one,
whatever number of people voted, and its votes as shares of it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from judge.metrics import Floats, checked, shared_maximum

NAN = float("nan")


def confusion(labels: npt.ArrayLike, proba: npt.ArrayLike) -> Floats:
    """(3, 3) how many battles with the label of the row had the verdict of the column.

    Votes that differ, and classes that share the largest probability, count in shares; the sum is
    the number of battles.

    Args:
        labels: (N, 3).
        proba: (N, 3).
    """
    y, p = checked(labels, "labels"), checked(proba, "probabilities")
    return np.asarray(y.T @ shared_maximum(p), dtype=np.float64)


def macro_f1(matrix: npt.ArrayLike) -> float:
    """Mean over the classes, of those that occur as a label or as a verdict, of F1: the harmonic
    mean of precision and recall, 0 to 1."""
    table = np.asarray(matrix, dtype=np.float64)
    sizes = table.sum(axis=0) + table.sum(axis=1)
    occurs = sizes > 0
    if not occurs.any():
        return NAN
    return float((2.0 * np.diag(table)[occurs] / sizes[occurs]).mean())


def cohen_kappa(matrix: npt.ArrayLike) -> float:
    """Agreement beyond chance, -1 to 1: (observed - expected) / (1 - expected), where chance has
    the judge's own shares of A, B and tie (Cohen 1960). A judge that always says the same has 0;
    NaN where both always say the same, and chance is always right."""
    table = np.asarray(matrix, dtype=np.float64)
    total = table.sum()
    if total <= 0:
        return NAN
    shares = table / total
    expected = float(shares.sum(axis=0) @ shares.sum(axis=1))
    if 1.0 - expected <= 1e-12:
        return NAN
    return float((np.trace(shares) - expected) / (1.0 - expected))


def krippendorff_alpha(matrix: npt.ArrayLike) -> float:
    """Krippendorff's alpha for nominal data with two observers, the judge and the label: 1 less
    observed by expected disagreement, where both observers draw from the same shares (Krippendorff
    2019, "Content Analysis", chapter 12). Unlike kappa it does not reward a judge for disagreeing
    with people about how common each class is. NaN where there is one class only."""
    table = np.asarray(matrix, dtype=np.float64)
    coincidences = table + table.T
    sizes = coincidences.sum(axis=0)
    total = sizes.sum()
    pairs = total**2 - (sizes**2).sum()
    if total <= 1.0 or pairs <= 1e-12 * total**2:
        return NAN
    apart = total - np.trace(coincidences)
    return float(1.0 - (total - 1.0) * apart / pairs)
