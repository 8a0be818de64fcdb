"""Saying "I don't know" with a guarantee: sets of outcomes that hold the label as often as asked.

A set holds every outcome whose probability is at least 1 - q, and q is learned from labelled
battles that the judge did not learn from: split conformal prediction (V. Vovk et al. 2005,
"Algorithmic learning in a random world"; M. Sadinle et al. 2019, "Least ambiguous set-valued
classifiers with bounded error levels", JASA 114). Battles about one prompt are no independent
draws, so each prompt counts once, its battles sharing its weight (Y. Lee, R. Barber, R. Willett
2023, "Distribution-free inference with hierarchical data"). The label of a new battle about a new
prompt of the same kind then lies in its set with at least the probability asked for, whatever the
judge is worth; a poor judge pays with larger sets, and not with broken promises.

Where several people voted, the promise is about the vote of one of them, drawn at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from judge.errors import ArenaJudgeError, InputError
from judge.metrics import CLASSES, checked

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

FILE = "conformal.npz"
SEPARATOR = "|"
# Tells scores that differ by rounding alone from those that differ.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Conformity:
    """How improbable the labels were that a judge had not seen.

    Attributes:
        scores: (M,) one less the probability of what was chosen, least first.
        weights: (M,) what each counts for; those of a prompt sum to 1.
        prompts: how many prompts there are.
    """

    scores: Floats
    weights: Floats
    prompts: int

    def threshold(self, coverage: float) -> float:
        """q: outcomes with a probability of 1 - q and more are in the set; infinite where there are
        too few prompts to promise that much.

        Args:
            coverage: from 0 to 1, both excluded.
        """
        if not 0 < coverage < 1:
            raise ArenaJudgeError(f"coverage lies between 0 and 1, not at {coverage:g}")
        # One is added for the prompt to come, about which nothing is known yet.
        wanted = coverage * (self.prompts + 1) * (1 - 1e-12)
        place = int(np.searchsorted(np.cumsum(self.weights), wanted))
        return float(self.scores[place]) if place < len(self.scores) else float("inf")

    def sets(self, proba: Floats, coverage: float) -> Bools:
        """(N, 3) whether A, B and tie are in the set of each battle.

        The most probable outcome always is, so that no set is empty. An unjudged battle's set is
        everything.

        Args:
            proba: (N, 3) in the order A, B, tie; NaN rows are unjudged.
            coverage: from 0 to 1, both excluded.
        """
        held = 1.0 - proba <= self.threshold(coverage) + _ROUNDING
        best = proba >= np.nanmax(np.where(np.isnan(proba), -1.0, proba), axis=1, keepdims=True)
        return np.asarray(held | best | np.isnan(proba), dtype=np.bool_)

    def save(self, folder: Path) -> None:
        """Writes it beside a judge's recipe."""
        np.savez_compressed(
            folder / FILE,
            scores=self.scores,
            weights=self.weights,
            prompts=np.array(self.prompts),
        )


def fit_conformity(
    labels: npt.ArrayLike, proba: npt.ArrayLike, groups: npt.ArrayLike | None = None
) -> Conformity:
    """Learns how improbable labels are from battles that the judge did not learn from.

    Args:
        labels: (N, 3) shares of A, B and tie; NaN rows are unlabelled.
        proba: (N, 3) what the judge says, not having seen the labels; NaN rows are unjudged.
        groups: (N,) values that are equal for battles about one prompt; None takes every battle for
            a prompt of its own.

    Raises:
        ArenaJudgeError: shapes that do not fit, or no battle that is labelled and judged.
    """
    y, p = np.asarray(labels, dtype=np.float64), np.asarray(proba, dtype=np.float64)
    if y.shape != p.shape or y.ndim != 2 or y.shape[1] != len(CLASSES):
        raise ArenaJudgeError(f"labels of shape {y.shape} but probabilities of shape {p.shape}")
    kept = np.asarray(~(np.isnan(y) | np.isnan(p)).any(axis=1), dtype=np.bool_)
    if not kept.any():
        raise ArenaJudgeError(
            "no battle is both labelled and judged, so no coverage can be learned"
        )
    y, p = checked(y[kept], "labels"), checked(p[kept], "probabilities")
    named = np.arange(len(kept)) if groups is None else np.asarray(groups)
    if named.shape != kept.shape:
        raise ArenaJudgeError(f"{len(kept)} battles but groups of shape {named.shape}")
    codes = np.unique(named[kept], return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(codes)
    weights = (y / sizes[codes][:, None]).ravel()
    scores = (1.0 - p).ravel()
    order = np.argsort(scores, kind="stable")
    order = order[weights[order] > 0]
    return Conformity(scores[order], weights[order], len(sizes))


def load_conformity(folder: Path) -> Conformity | None:
    """What lies beside a judge's recipe; None where nothing does.

    Raises:
        InputError: the file is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as stored:
            scores, weights = (
                np.asarray(stored[name], dtype=np.float64) for name in ("scores", "weights")
            )
            prompts = int(stored["prompts"])
    except Exception as error:  # zipfile's, numpy's and zlib's own; none of them is ours to know
        raise InputError(f"cannot be read ({type(error).__name__})", file=file) from None
    sound = scores.shape == weights.shape and scores.ndim == 1 and len(scores) > 0
    if not (sound and prompts > 0 and (np.diff(scores) >= 0).all() and (weights > 0).all()):
        raise InputError("does not hold what says how sure the judge is", file=file)
    return Conformity(scores, weights, prompts)


def named(sets: Bools) -> list[str]:
    """Each set as it stands in files: `A`, `A|tie`, `A|B|tie`."""
    names = np.array(
        [
            SEPARATOR.join(name for name, held in zip(CLASSES, bits, strict=True) if held)
            for bits in np.ndindex(2, 2, 2)
        ]
    )
    return [str(name) for name in names[sets @ np.array([4, 2, 1])]]


def abstains(sets: Bools) -> Bools:
    """(N,) whether a set leaves open which outcome it is."""
    return np.asarray(sets.sum(axis=1) != 1, dtype=np.bool_)


@dataclass(frozen=True)
class Coverage:
    """Sets measured on labelled battles.

    Attributes:
        battles: labelled and judged ones.
        covered: the share of them whose label lies in its set, each prompt counting once, with its
            95 % interval `low` to `high` over prompts (NaN for a single one).
        size: mean number of outcomes in a set.
        answered: the share of battles with a single outcome.
        right: the share of those in which it was the label; NaN where none is answered.
    """

    battles: int
    covered: float
    low: float
    high: float
    size: float
    answered: float
    right: float


def measure(labels: Floats, sets: Bools, groups: npt.ArrayLike) -> Coverage:
    """How well sets hold what they promise.

    Args:
        labels: (N, 3), no NaN.
        sets: (N, 3).
        groups: (N,) values that are equal for battles about one prompt.

    Raises:
        ArenaJudgeError: there are no battles.
    """
    if len(labels) == 0:
        raise ArenaJudgeError("no battle to measure coverage on")
    hit = (labels * sets).sum(axis=1)
    codes = np.unique(np.asarray(groups), return_inverse=True)[1].reshape(-1)
    by_prompt = np.bincount(codes, weights=hit) / np.bincount(codes)
    covered = float(by_prompt.mean())
    low = high = float("nan")
    if len(by_prompt) > 1:
        from judge.comparing.reliability import wilson

        # The mean of a prompt's battles varies less than one battle does, so with many a prompt
        # this is a little wide.
        low, high = wilson(covered, len(by_prompt))
    single = ~abstains(sets)
    return Coverage(
        battles=len(labels),
        covered=covered,
        low=low,
        high=high,
        size=float(sets.sum(axis=1).mean()),
        answered=float(single.mean()),
        right=float(hit[single].mean()) if single.any() else float("nan"),
    )


def parse_sets(cells: Sequence[str | None]) -> Bools:
    """(N, 3) sets as `named` writes them; everything where a cell is empty.

    Raises:
        ArenaJudgeError: a cell names something that is no outcome.
    """
    found = np.ones((len(cells), 3), dtype=np.bool_)
    for row, cell in enumerate(cells):
        if cell:
            parts = cell.split(SEPARATOR)
            if set(parts) - set(CLASSES):
                raise ArenaJudgeError(f"{cell[:40]!r} is no set of {', '.join(CLASSES)}")
            found[row] = [name in parts for name in CLASSES]
    return found
