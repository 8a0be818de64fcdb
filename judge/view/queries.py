"""Which battles to show, and in which order: arithmetic over arrays of labels and probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from judge.metrics import log_loss_rows

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int8]

# What `classes` gives for a row without a distribution; the others are 0, 1, 2 for A, B, tie.
NONE = -1
CLASSES = ("a", "b", "tie")
SHOWS = ("all", "surprising", "unsure", "disagree", "unjudged", "mine", "unlabelled")


@dataclass(frozen=True)
class Query:
    """What to show.

    Attributes:
        show: one of `SHOWS`; all but "surprising", "unsure" and "disagree" are in file order.
        label: battles with this label: "a", "b", "tie", "none", or "" for any.
        predicted: battles of which the judge says this: as `label`, "none" for unjudged.
        judge: which judge is meant, from 0.
        search: words that must be in the battle.
    """

    show: str = "all"
    label: str = ""
    predicted: str = ""
    judge: int = 0
    search: str = ""


def classes(distributions: Floats) -> Codes:
    """(...,) the likeliest class of (..., 3) distributions: 0, 1, 2, or `NONE` for NaN.

    Where classes share the maximum it is a tie: neither A nor B gains by coming first.
    """
    filled = np.where(np.isnan(distributions), -1.0, distributions)
    top = filled == filled.max(axis=-1, keepdims=True)
    choice = np.where(top.sum(axis=-1) == 1, filled.argmax(axis=-1), 2)
    nothing = np.isnan(distributions).any(axis=-1)
    return np.asarray(np.where(nothing, NONE, choice), dtype=np.int8)


def surprise(labels: Floats, proba: Floats) -> Floats:
    """(N,) log loss in nats of (N, 3) probabilities, NaN without a label or a judgment."""
    known = ~(np.isnan(labels).any(axis=1) | np.isnan(proba).any(axis=1))
    loss = np.full(len(labels), np.nan)
    if known.any():
        loss[known] = log_loss_rows(labels[known], proba[known])
    return loss


def uncertainty(proba: Floats) -> Floats:
    """(...,) entropy of (..., 3) probabilities as a share of the most there can be: 0 sure, 1 no
    idea, NaN unjudged."""
    logs = np.log(np.where(proba > 0, proba, 1.0))
    entropy = -(proba * logs).sum(axis=-1) / np.log(3.0)
    return np.asarray(np.clip(entropy, 0.0, 1.0), dtype=np.float64)


def disagreement(proba: Floats) -> Floats:
    """(N,) how far judges are apart: the Jensen-Shannon divergence (Lin 1991) of those of the
    (K, N, 3) distributions that are there, as a share of ln 3; NaN with fewer than two."""
    judged = np.asarray(~np.isnan(proba).any(axis=-1))
    count = judged.sum(axis=0)
    filled = np.where(judged[..., None], proba, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.sum(axis=0) / count[:, None]
        own = np.where(judged, uncertainty(filled), 0.0).sum(axis=0) / count
    apart = np.clip(uncertainty(mean) - own, 0.0, None)
    return np.where(count >= 2, apart, np.nan)


def contested(proba: Floats) -> npt.NDArray[np.bool_]:
    """(N,) whether two judges would choose differently, of (K, N, 3) probabilities."""
    choices = classes(proba)
    first = np.where(choices == NONE, np.int8(3), choices).min(axis=0)
    return np.asarray(((choices != NONE) & (choices != first)).any(axis=0), dtype=np.bool_)


def select(
    query: Query,
    labels: Floats,
    proba: Floats,
    mine: npt.NDArray[np.bool_],
    found: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.int64]:
    """The rows to show, in order.

    Args:
        query: what is asked for.
        labels: (N, 3), NaN rows unlabelled.
        proba: (K, N, 3), NaN rows unjudged.
        mine: (N,) those one has labelled oneself.
        found: (N,) those that have the words searched for.
    """
    judge = proba[query.judge]
    kept = np.ones(len(labels), dtype=np.bool_) if found is None else found.copy()
    for wanted, codes in ((query.label, labels), (query.predicted, judge)):
        if wanted:
            kept &= classes(codes) == (CLASSES.index(wanted) if wanted in CLASSES else NONE)
    if query.show == "unjudged":
        kept &= np.isnan(proba).any(axis=(0, 2))
    elif query.show in ("mine", "unlabelled"):
        kept &= mine if query.show == "mine" else ~mine
    elif query.show == "disagree":
        kept &= contested(proba)
    order = ranking(query.show, labels, judge, proba)
    if order is None:
        return np.flatnonzero(kept)
    rows = np.flatnonzero(kept & ~np.isnan(order))
    return rows[np.argsort(-order[rows], kind="stable")]


def ranking(show: str, labels: Floats, judge: Floats, proba: Floats) -> Floats | None:
    """(N,) what a view sorts by, most first; None for the order of the file."""
    if show == "surprising":
        return surprise(labels, judge)
    if show == "unsure":
        return uncertainty(judge)
    if show == "disagree":
        return disagreement(proba)
    return None
