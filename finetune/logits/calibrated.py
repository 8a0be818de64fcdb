"""Logits calibrated on labels, each battle by what was learned without its fold.

Every method of `judge.calibration` is fitted on the other folds and asked of the held-out one; the
identity is kept unless another is better beyond doubt (see `judge.calibration.choosing`). The
choice itself is not cross-fitted. Battles without a label, and extras, are calibrated by what is
learned of all folds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from finetune.folds.table import Folds
from finetune.logits.table import MEAN, Logits, aligned, log_softmax, logits_of, probabilities
from finetune.rows.sifting import kin
from finetune.rows.sources import about_something
from finetune.rows.splitting import folds_of
from judge.battles import labels
from judge.calibration.choosing import LEAST, METHODS
from judge.calibration.isotonic import METHOD as ISOTONIC
from judge.calibration.isotonic import fit_isotonic
from judge.calibration.kinds import Calibrator
from judge.calibration.scaling import fit_scaling
from judge.choosing import Gap, enough_prompts, paired_gap, simplest
from judge.comparing.marks import battle_marks
from judge.errors import InputError
from judge.metrics import log_loss_rows

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

IDENTITY = METHODS[0]
_FOLDS = 5
_LEAST = 1e-15


@dataclass(frozen=True)
class CalibratedLogits:
    """A teacher's logits after calibration, and what that did.

    Attributes:
        logits: a row a battle.
        method: what was chosen.
        log_loss: of each method, cross-fitted, in nats; `identity` is what it was before.
        gap: after less before, paired by battle and clustered by prompt.
        battles: labelled and judged ones that it was learned from.
        in_fold: whether the table says that its judges had learned from the battles.
    """

    logits: Logits
    method: str
    log_loss: dict[str, float]
    gap: Gap
    battles: int
    in_fold: bool


@dataclass(frozen=True)
class Labelled:
    """N battles to calibrate on.

    Attributes:
        battles: their table.
        labels: (N, 3), NaN rows without.
        prompts: (N,) a number for each prompt.
        fold: (N,) that holds each out; below 0 for none.
        learns: (k, N) which battles a fold's calibrator may learn from.
    """

    battles: pd.DataFrame
    labels: Floats
    prompts: Ints
    fold: Ints
    learns: Bools


def labelled_with(
    battles: pd.DataFrame, file: str, folds: Folds | None = None, *, seed: int = 0
) -> Labelled:
    """Battles with their labels and folds; without `folds`, five by prompt are dealt.

    Raises:
        InputError: no labels, or battles that are not those of the folds.
        ArenaJudgeError: too few prompts.
    """
    y = labels(battles)
    if y is None or np.isnan(y).any(axis=1).all():
        mend = "add winner_model_a, winner_model_b and winner_tie, or winner"
        raise InputError("has no labels, and they are what is calibrated on", file=file, mend=mend)
    known = ~np.isnan(y).any(axis=1)
    prompts = kin(about_something(battle_marks(battles)))
    enough_prompts(np.unique(prompts[known], return_inverse=True)[1], "calibrate")
    if folds is None:
        fold = np.full(len(battles), -1, dtype=np.int64)
        count = min(_FOLDS, len(np.unique(prompts[known])))
        fold[known] = folds_of(y[known], prompts[known], count, seed)
        learns = np.stack([known & (fold != one) for one in range(count)])
        return Labelled(battles, y, prompts, fold, learns)
    places = folds.found(battles, file)
    fold = np.append(folds.fold, -1)[places].astype(np.int64)
    may = [np.append(folds.learned(one), False)[places] & (fold >= 0) for one in range(folds.k)]
    return Labelled(battles, y, prompts, fold, np.stack(may) & known)


def calibrate_logits(
    logits: Logits, data: Labelled, file: str, method: str | None = None
) -> CalibratedLogits:
    """Calibrates a teacher's logits; orders are averaged before.

    Args:
        logits: of these battles.
        data: the battles.
        file: theirs, for messages.
        method: one of `judge.calibration.METHODS`, which is then taken; None for the simplest that
            is not beaten.

    Raises:
        InputError: the table is that of other battles, or a fold has nothing to learn from.
    """
    values = aligned(logits, data.battles, file)
    proba = probabilities(values)
    judged = np.asarray(~np.isnan(proba).any(axis=1))
    rows = np.flatnonzero(judged & ~np.isnan(data.labels).any(axis=1) & (data.fold >= 0))
    learns = data.learns & judged
    for fold in np.unique(data.fold[rows]).tolist():
        if not learns[fold].any():
            what = f"leaves no labelled battle to learn from in fold {fold}"
            raise InputError(what, file=logits.file)
    if not len(rows):
        raise InputError("judges no labelled battle of these folds", file=logits.file)
    names = METHODS if method is None else tuple(dict.fromkeys((IDENTITY, method)))
    said = {name: _cross_fitted(name, data, proba, rows, learns) for name in names}
    y, codes = data.labels[rows], data.prompts[rows]
    losses = {name: log_loss_rows(y, said[name][rows]) for name in names}
    chosen = simplest(losses, codes, METHODS, LEAST) if method is None else method
    after = log_softmax(values) if chosen == IDENTITY else _logs(said[chosen])
    if chosen != IDENTITY:
        others = judged & ~np.isin(np.arange(len(judged)), rows)
        after[others] = _logs(_fit(chosen, y, proba[rows]).apply(proba[others]))
    return CalibratedLogits(
        _table(logits, data.battles, after, chosen),
        chosen,
        {name: float(loss.mean()) for name, loss in losses.items()},
        paired_gap(losses[chosen], losses[IDENTITY], codes),
        len(rows),
        bool(logits.about.get("in_fold", False)),
    )


def _fit(method: str, y: Floats, proba: Floats) -> Calibrator:
    return fit_isotonic(y, proba) if method == ISOTONIC else fit_scaling(method, y, proba)


def _cross_fitted(method: str, data: Labelled, proba: Floats, rows: Ints, learns: Bools) -> Floats:
    """(N, 3) what is said of `rows` by calibrators that have not learned from their fold."""
    found = np.full(proba.shape, np.nan)
    for fold in np.unique(data.fold[rows]).tolist():
        held = rows[data.fold[rows] == fold]
        inside = learns[fold]
        found[held] = _fit(method, data.labels[inside], proba[inside]).apply(proba[held])
    return found


def _logs(proba: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(proba, _LEAST)))


def _table(logits: Logits, battles: pd.DataFrame, values: Floats, method: str) -> Logits:
    """The rows that the table had, in the battles' order."""
    made = logits_of(battles, values, teacher=logits.teacher)
    folds = dict(zip(logits.ids, logits.folds.tolist(), strict=True))
    there = [row for row, name in enumerate(made.ids) if name in folds]
    kept = made.take(np.array(there, dtype=np.int64))
    about = {**logits.about, "calibrated": method}
    own = np.array([folds[name] for name in kept.ids], dtype=np.int16)
    return replace(kept, folds=own, orders=(MEAN,) * len(kept), about=about)
