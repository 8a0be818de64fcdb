"""Which battles are not trained on, and why: each is counted, none goes in silence.

Files are given in the order of their worth: of battles that are the same, or of files that share a
prompt, the earlier one stays.
"""

from __future__ import annotations

from enum import Enum

import numpy as np
import numpy.typing as npt

from finetune.rows.sources import Floats, Ints, Pool
from judge.comparing.marks import Hashes, Marks
from judge.comparing.near import Kind, duplicates, find

DEDUPE = ("prompt", "battle", "none")
"""What stands in one file only: prompts (and so battles), battles, or nothing."""


class Reason(Enum):
    """Why a battle is not trained on, in the order in which that is looked for."""

    UNLABELLED = "no label"
    HELD_OUT = "held out"
    NEARLY_HELD_OUT = "nearly held out"
    PROMPT_HELD_OUT = "prompt held out"
    COPY = "same battle"
    NEAR = "near-duplicate"
    PROMPT = "prompt of another file"


_HELD_OUT = {
    Kind.EXACT: Reason.HELD_OUT,
    Kind.NEAR: Reason.NEARLY_HELD_OUT,
    Kind.PROMPT: Reason.PROMPT_HELD_OUT,
}


def sift(
    pool: Pool,
    held_out: Marks,
    *,
    dedupe: str = "prompt",
    near: bool = False,
    known: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.object_]:
    """(N,) why each battle is not trained on, a `Reason`; None for those that are.

    Args:
        pool: N battles, the main file's first.
        held_out: battles that none may be, nearly be, or share the prompt of.
        dedupe: one of `DEDUPE`.
        near: leave out what is another battle but for small edits, too.
        known: (N,) battles that need no label.
    """
    if dedupe not in DEDUPE:
        raise ValueError(f"dedupe is one of {', '.join(DEDUPE)}, and not {dedupe}")
    reasons = np.full(len(pool), None, dtype=object)
    unlabelled = np.isnan(pool.labels).any(axis=1)
    reasons[unlabelled if known is None else unlabelled & ~known] = Reason.UNLABELLED
    rest = _left(reasons)
    found = find(pool.marks.take(rest), held_out)
    for kind, reason in _HELD_OUT.items():
        reasons[rest[found.kinds == kind]] = reason
    if dedupe != "none":
        rest = _left(reasons)
        battles = pool.marks.battles[rest]
        reasons[rest[_first(battles) < np.arange(len(rest))]] = Reason.COPY
    if near:
        rest = _left(reasons)
        kinds = duplicates(pool.marks.take(rest)).kinds
        reasons[rest[kinds == Kind.NEAR]] = Reason.NEAR
    if dedupe == "prompt":
        rest = _left(reasons)
        first = rest[_first(pool.marks.prompts[rest])]
        reasons[rest[pool.source[first] < pool.source[rest]]] = Reason.PROMPT
    return reasons


def pooled_labels(pool: Pool, reasons: npt.NDArray[np.object_]) -> Floats:
    """(N, 3) labels; a battle that stands in its file several times has the mean of what is said of
    it there, its responses matched whichever way round they stand; NaN where nothing is."""
    said = np.array([reason in (None, Reason.COPY) for reason in reasons], dtype=np.bool_)
    rows = np.flatnonzero(said)
    keys = np.stack([pool.source[rows].astype(np.uint64), pool.marks.battles[rows]], axis=1)
    which = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    turned = pool.marks.turned[rows] < 0
    own = exchanged(pool.labels[rows], turned)
    labelled = ~np.isnan(own).any(axis=1)
    size = int(which.max(initial=-1)) + 1
    counts, sums = np.zeros(size), np.zeros((size, 3))
    np.add.at(counts, which[labelled], 1)
    np.add.at(sums, which[labelled], own[labelled])
    labels = pool.labels.copy()
    several = counts[which] > labelled  # one alone keeps its digits
    means = sums[which[several]] / counts[which[several]][:, None]
    labels[rows[several]] = exchanged(means, turned[several])
    return labels


def exchanged(labels: Floats, where: npt.NDArray[np.bool_]) -> Floats:
    """(N, 3) labels with those of A and B exchanged in some rows."""
    return np.where(where[:, None], labels[:, [1, 0, 2]], labels)


def kin(marks: Marks) -> Ints:
    """(N,) a number for each prompt, from 0 in order of appearance; prompts whose battles are the
    same but for small edits count as one, so that splits keep those together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = len(marks)
    near = duplicates(marks)
    alike = np.flatnonzero(near.kinds >= Kind.NEAR)
    ours = np.concatenate([np.arange(size), alike])
    theirs = np.concatenate([_first(marks.prompts), near.places[alike]])
    links = coo_array((np.ones(len(ours), dtype=np.int8), (ours, theirs)), shape=(size, size))
    found = connected_components(links, directed=False)[1] if size else np.zeros(0, np.int64)
    first = np.unique(found, return_index=True)[1]
    order = np.argsort(np.argsort(first))
    return np.asarray(order[found], dtype=np.int64)


def _left(reasons: npt.NDArray[np.object_]) -> Ints:
    return np.flatnonzero(reasons == None)  # noqa: E711 of each cell


def _first(hashes: Hashes) -> Ints:
    """(N,) where each stands first."""
    first, which = np.unique(hashes, return_index=True, return_inverse=True)[1:]
    return np.asarray(first[which.ravel()], dtype=np.int64)
