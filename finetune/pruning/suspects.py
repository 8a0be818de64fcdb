"""Battles whose labels are noise: found, and left out or weighed.

*Confident learning* (C. Northcutt, L. Jiang and I. Chuang 2021, "Confident Learning: Estimating
Uncertainty in Dataset Labels", JAIR 70): the threshold of a class is the mean probability that it
has among battles with its label,

    t_j = mean over battles labelled j of p_j

and a battle is counted as of class k if p_k is the largest of those probabilities that reach their
threshold. One that is counted as of another class than its label is a suspect. Probabilities must
be out of fold: a judge that has learned a label believes it.

*Contradictions*: battles with the same texts, swapped or not, and different labels. The labels that
most of them have stay; where none has, all are suspects.

People do disagree about answers, so a suspect is not a mistake, and leaving suspects out may well
make judges worse. So it is measured (`finetune.pruning.measured`). Weights by information gain are
the alternative: -ln p of the label, bounded, so that what a judge knew before counts little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from judge.comparing.marks import Marks
from judge.errors import ArenaJudgeError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

CLASSES = ("a", "b", "tie")
NOISE, CONTRADICTION = "unlikely label", "contradiction"
LOW, HIGH = 0.2, 2.0
"""Nats between which an information gain is held."""


@dataclass(frozen=True)
class Suspects:
    """N battles, some of which are suspects.

    Attributes:
        reasons: (N,) `NOISE`, `CONTRADICTION`, or None for what stays.
        label: (N,) which class has most of the label; -1 where none has, or there is no label.
        likely: (N,) the class that they were counted as; -1 for none.
        confidence: (N,) what the label is given; NaN where unjudged or unlabelled.
        thresholds: (3,) of confident learning, or NaN.
        spared: how many suspects stay since they would be more than was allowed.
    """

    reasons: npt.NDArray[np.object_]
    label: Ints
    likely: Ints
    confidence: Floats
    thresholds: Floats
    spared: int

    @property
    def removed(self) -> Bools:
        """(N,) those that go."""
        return np.asarray(self.reasons != None)  # noqa: E711 of each cell


def find_suspects(
    labels: Floats,
    proba: Floats,
    marks: Marks,
    *,
    threshold: float | None = None,
    at_most: float = 1.0,
) -> Suspects:
    """Looks for battles whose labels are noise.

    Args:
        labels: (N, 3) shares of A, B and tie; NaN rows unlabelled, which are no suspects.
        proba: (N, 3) out-of-fold probabilities; NaN rows unjudged.
        marks: of the battles.
        threshold: suspects are those whose label is given less than this, instead of confident
            learning.
        at_most: of the labelled battles, the share that may be suspects for an unlikely label;
            those with the widest margin are taken.

    Raises:
        ArenaJudgeError: no battle is labelled and judged.
    """
    known = np.asarray(~np.isnan(labels).any(axis=1))
    judged = known & ~np.isnan(proba).any(axis=1)
    if not judged.any():
        raise ArenaJudgeError("no battle is both labelled and judged, so none can be a suspect")
    label = _largest(labels, known)
    sure = judged & (label >= 0)
    rows = np.flatnonzero(sure)
    confidence = np.full(len(labels), np.nan)
    confidence[judged] = (labels[judged] * proba[judged]).sum(axis=1)
    thresholds = np.full(3, np.nan)
    likely = np.full(len(labels), -1, dtype=np.int64)
    if threshold is None:
        thresholds = class_thresholds(label[rows], proba[rows])
        likely[rows] = counted_as(proba[rows], thresholds)
        found = sure & (likely >= 0) & (likely != label)
    else:
        likely[rows] = proba[rows].argmax(axis=1)
        found = sure & (confidence < threshold) & (likely != label)
    margin = np.full(len(labels), -np.inf)
    at = np.flatnonzero(found)
    margin[at] = proba[at, likely[at]] - proba[at, label[at]]
    allowed = int(at_most * known.sum())
    spared = max(0, len(at) - allowed)
    kept = at[np.argsort(-margin[at], kind="stable")][:allowed]
    reasons = np.full(len(labels), None, dtype=object)
    reasons[kept] = NOISE
    reasons[contradictions(label, marks)] = CONTRADICTION
    return Suspects(reasons, label, likely, confidence, thresholds, spared)


def _largest(labels: Floats, known: Bools) -> Ints:
    """(N,) the class with most of each label; -1 where two have as much, or there is none."""
    filled = np.where(known[:, None], labels, 0.0)
    most = filled.max(axis=1)
    alone = (np.abs(filled - most[:, None]) < 1e-9).sum(axis=1) == 1
    return np.where(known & alone, filled.argmax(axis=1), -1)


def class_thresholds(label: Ints, proba: Floats) -> Floats:
    """(3,) the mean self-confidence of each class; infinite for one that no battle has."""
    return np.array(
        [proba[label == one, one].mean() if (label == one).any() else np.inf for one in range(3)]
    )


def counted_as(proba: Floats, thresholds: Floats) -> Ints:
    """(N,) the class whose probability is the largest of those that reach their threshold; -1 where
    none does."""
    reached = np.where(proba >= thresholds, proba, -1.0)
    return np.where(reached.max(axis=1) >= 0, reached.argmax(axis=1), -1)


def contradictions(label: Ints, marks: Marks) -> Bools:
    """(N,) battles with the texts of another, swapped or not, and another label than most of those
    have; all of them, where no label has most."""
    turned = np.where(marks.turned < 0, np.array([1, 0, 2, -1])[label], label)
    rows = np.flatnonzero(label >= 0)
    found = np.zeros(len(label), dtype=np.bool_)
    order = rows[np.argsort(marks.battles[rows], kind="stable")]
    edges = np.flatnonzero(np.diff(marks.battles[order])) + 1
    for group in np.split(order, edges):
        counts = np.bincount(turned[group], minlength=3)
        if (counts > 0).sum() > 1:
            most = np.flatnonzero(counts == counts.max())
            found[group] = True if len(most) > 1 else turned[group] != most[0]
    return found


def information_weights(labels: Floats, proba: Floats) -> Floats:
    """(N,) weights by information gain: -ln p of each battle's label, held between `LOW` and
    `HIGH`, over its mean. Battles that are unlabelled or unjudged have 1."""
    judged = ~(np.isnan(labels).any(axis=1) | np.isnan(proba).any(axis=1))
    weights = np.ones(len(labels))
    if judged.any():
        logs = np.log(np.maximum(proba[judged], 1e-15))
        gain = np.clip(-(labels[judged] * logs).sum(axis=1), LOW, HIGH)
        weights[judged] = gain / gain.mean()
    return weights
